/*
 * Unit tests of bgworker/health.c
 *
 * The server around it is a few stubs; several workers are several handles in one
 * process, of which oe_my_index tells whose turn it is.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "health.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/s_lock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "worker_slot.h"

#undef printf
#undef vprintf
#undef strerror
#include "tap.h"

/* ---------- the server ---------- */

Oid			MyDatabaseId = 5;
MemoryContext TopMemoryContext = NULL;
pg_prng_state pg_global_prng_state;
int			oe_my_index = 0;

static LWLockPadded lwlock;
static int	lwlocks_held = 0;
static pg_on_exit_callback exit_callback = NULL;

void
RequestAddinShmemSpace(Size size)
{
}

void
RequestNamedLWLockTranche(const char *name, int n)
{
}

LWLockPadded *
GetNamedLWLockTranche(const char *name)
{
	return &lwlock;
}

bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	lwlocks_held++;
	return true;
}

void
LWLockRelease(LWLock *lock)
{
	lwlocks_held--;
}

void *
ShmemInitStruct(const char *name, Size size, bool *found)
{
	*found = false;
	return malloc(size);
}

int
s_lock(volatile slock_t *lock, const char *file, int line, const char *func)
{
	printf("Bail out! a spinlock is taken twice at %s:%d\n", file, line);
	exit(1);
}

void
before_shmem_exit(pg_on_exit_callback function, Datum arg)
{
	exit_callback = function;
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return calloc(1, size);
}

void
pfree(void *pointer)
{
	free(pointer);
}

int
pg_mbcliplen(const char *s, int len, int limit)
{
	len = Min(len, limit);
	while (len > 0 && (s[len] & 0xC0) == 0x80)
		len--;
	return len;
}

double
pg_prng_double(pg_prng_state *state)
{
	return 0.5;
}

/* ---------- the tests ---------- */

#define SECOND	INT64CONST(1000000)
#define START	(INT64CONST(800000000) * SECOND)

static const OeHealthPolicy policy = {
	.max_in_flight = 4,
	.rate = {0.0, 1},
	.breaker = {OE_BREAKER_FAILURES, OE_BREAKER_RATIO, OE_BREAKER_MIN_ATTEMPTS, OE_BREAKER_WINDOW,
	OE_BREAKER_OPEN_MIN, OE_BREAKER_OPEN_MAX, OE_BREAKER_SUCCESSES, 4},
	.disable_after = 5 * 86400 * SECOND,
	.disable_attempts = 12,
	.disable_spread = 43200 * SECOND,
};

static TimestampTz now;
static bool probe;
static TimestampTz wait;

/* In the name of a worker. */
static bool
permit(int worker, OeHealth *health)
{
	oe_my_index = worker;
	return oe_health_permit(health, &policy, now, &probe, &wait);
}

static uint32
settle(int worker, OeHealth *health, oe_verdict verdict)
{
	oe_my_index = worker;
	return oe_health_settle(health, &policy, probe, verdict,
							verdict == OE_VERDICT_GOOD ? NULL : "it failed", now);
}

static uint32
attempt(OeHealth *health, oe_verdict verdict)
{
	if (!permit(0, health))
		return 0xFFFF;
	return settle(0, health, verdict);
}

static OeHealthState
state_of(OeHealth *health)
{
	OeHealthState state;

	oe_health_get(health, &state);
	return state;
}

static int
count_records(void)
{
	int			i = 0;
	int			n = 0;
	int32		id;
	OeHealthState state;

	while (oe_health_next(&i, &id, &state))
		n++;
	return n;
}

static void
test_records(bool shared)
{
	OeHealth   *a = oe_health_attach(1);
	OeHealth   *b = oe_health_attach(1);
	OeHealth   *other = oe_health_attach(2);
	OeHealthState stored = {.failures = 7,.failing_since = START,.breaker_opens = 2,
	.open_until = START + 60 * SECOND,.last_error = "before"};

	now = START;
	is_int(count_records(), shared ? 2 : 0, "a record for each endpoint, for views");
	oe_health_restore(a, &stored);
	is_int(state_of(b).failures, shared ? 7 : 0, "what one worker knows the other does");
	is_int(state_of(other).failures, 0, "of this endpoint, not of others");
	ok(!permit(0, a) && wait == START + 60 * SECOND, "restored with an open breaker");
	stored.failures = 8;
	oe_health_restore(a, &stored);
	is_int(state_of(a).failures, 7, "only a new record is restored");
	is_str(state_of(a).last_error, "before", "with its error");

	MyDatabaseId = 6;
	is_int(count_records(), 0, "another database sees none of it");
	MyDatabaseId = 5;

	oe_health_detach(a);
	is_int(state_of(b).failures, shared ? 7 : 0, "it stays while somebody needs it");
	oe_health_detach(b);
	a = oe_health_attach(1);
	is_int(state_of(a).failures, 0, "and is new after that");
	oe_health_detach(a);
	oe_health_detach(other);
	is_int(count_records(), 0, "none is left");
}

static void
test_in_flight(void)
{
	OeHealth   *a = oe_health_attach(1);
	OeHealth   *b = oe_health_attach(1);
	int			i;

	now = START;
	for (i = 0; i < 4; i++)
		ok(permit(0, a), "a place");
	is_int(state_of(b).in_flight, 4, "all places are taken");
	ok(!permit(0, a) && wait == 0, "who has them waits for an end of his own");
	ok(!permit(1, b) && wait > now && wait <= now + 10000, "the other asks again soon");
	(void) settle(0, a, OE_VERDICT_GOOD);
	ok(!permit(0, a), "a place that becomes free is not for who was first to ask again");
	ok(permit(1, b), "but for who waited");

	oe_my_index = 0;
	oe_health_detach(a);
	is_int(state_of(b).in_flight, 1, "a worker that ends gives back what it had");
	oe_my_index = 1;
	oe_health_detach(b);
	oe_my_index = 0;
}

static void
test_breaker(void)
{
	OeHealth   *a = oe_health_attach(1);
	OeHealth   *b = oe_health_attach(1);
	uint32		epoch;
	int			i;

	now = START;
	epoch = oe_health_epoch(b);
	(void) permit(1, b);		/* is under way all the time */
	for (i = 0; i < 4; i++)
		is_int(attempt(a, OE_VERDICT_UNREACHABLE), 0, "unreachable");
	is_int(attempt(a, OE_VERDICT_UNREACHABLE), OE_HEALTH_OPENED, "the breaker opens");
	is_int(oe_health_epoch(b), epoch + 1, "the other worker can see that it did");
	ok(!permit(1, b) && wait == state_of(a).open_until, "and does not send either");
	is_int(state_of(a).phase, OE_BREAKER_OPEN, "open");

	now = wait;
	ok(permit(1, b) && probe, "then a probe");
	ok(!permit(0, a) && wait > now, "no other, and who does not have it asks again");
	oe_my_index = 1;
	oe_health_detach(b);
	ok(permit(0, a) && probe, "when its worker has ended, another may");
	is_int(settle(0, a, OE_VERDICT_NEUTRAL), 0, "it says nothing");
	is_int(attempt(a, OE_VERDICT_GOOD), 0, "one");
	is_int(attempt(a, OE_VERDICT_GOOD), 0, "two");
	is_int(attempt(a, OE_VERDICT_GOOD), OE_HEALTH_RECOVERED, "three successes close it");
	is_int(state_of(a).open_until, 0, "closed");
	is_int(state_of(a).breaker_opens, 1, "but in slow start");
	ok(permit(0, a) && permit(0, a) && !permit(0, a) && wait == 0, "two at a time");

	oe_health_reset(a);
	is_int(state_of(a).breaker_opens, 0, "an operator can have all of that forgotten");
	is_int(state_of(a).in_flight, 2, "but what is under way is under way");
	ok(permit(0, a), "more than two at a time");

	oe_health_pause(a, now + SECOND);
	oe_health_pause(a, now + SECOND / 2);
	ok(!permit(0, a) && wait == now + SECOND, "the longest pause counts");
	now += SECOND;
	ok(permit(0, a), "until it is over");
	oe_health_detach(a);
}

static void
test_rate(void)
{
	OeHealthPolicy limited = policy;
	OeHealth   *a = oe_health_attach(1);
	OeHealth   *b = oe_health_attach(1);

	limited.rate.per_second = 10;
	now = START;
	oe_my_index = 0;
	ok(oe_health_permit(a, &limited, now, &probe, &wait), "a token");
	ok(!oe_health_permit(b, &limited, now, &probe, &wait), "for all workers together");
	is_int(wait, now + SECOND / 10, "the next one");
	is_int(state_of(a).in_flight, 1, "without one there is no place");
	now = wait;
	ok(oe_health_permit(b, &limited, now, &probe, &wait), "which anybody may take");
	oe_health_detach(a);
	oe_health_detach(b);
}

static void
test_failures(void)
{
	OeHealth   *a = oe_health_attach(1);
	char		error[600];
	uint32		news = 0;
	int			i;

	now = START;
	is_int(attempt(a, OE_VERDICT_BAD), 0, "a failure");
	is_int(state_of(a).failing_since, START, "it is failing since then");
	now += SECOND;
	is_int(attempt(a, OE_VERDICT_NEUTRAL), 0, "one that says nothing of the breaker");
	is_int(state_of(a).failures, 2, "is a failure all the same");
	is_int(state_of(a).last_error_at, now, "and is told");
	is_str(state_of(a).last_error, "it failed", "with its error");
	is_int(attempt(a, OE_VERDICT_GOOD), 0, "a success");
	is_int(state_of(a).failing_since, 0, "ends it");
	is_int(state_of(a).last_success_at, now, "and is told");
	is_int(state_of(a).attempts, 3, "attempts");
	is_int(state_of(a).delivered, 1, "delivered");
	is_int(state_of(a).failed, 2, "failed");

	/* a text of two-byte letters that is cut must not end with half of one */
	for (i = 0; i < 598; i += 2)
		memcpy(error + i, "\xc3\xa9", 2);
	error[598] = '\0';
	(void) permit(0, a);
	(void) oe_health_settle(a, &policy, probe, OE_VERDICT_BAD, error, now);
	is_int((int64_t) strlen(state_of(a).last_error), 254, "a long error is cut between two letters");
	(void) attempt(a, OE_VERDICT_GOOD);

	/* the breaker is not what is tested here */
	for (i = 0; i < 400 && news != OE_HEALTH_DISABLE; i++)
	{
		now += 43200 * SECOND;
		(void) permit(0, a);
		news = settle(0, a, OE_VERDICT_BAD) & OE_HEALTH_DISABLE;
	}
	is_int(i, 12, "twelve failures in more than five days");
	now += SECOND;
	(void) permit(0, a);
	is_int(settle(0, a, OE_VERDICT_BAD) & OE_HEALTH_DISABLE, 0, "that is told once");
	now += 61 * SECOND;
	(void) permit(0, a);
	is_int(settle(0, a, OE_VERDICT_BAD) & OE_HEALTH_DISABLE, OE_HEALTH_DISABLE,
		   "again when nobody did anything");

	oe_health_reset(a);
	news = 0;
	for (i = 0; i < 400 && news != OE_HEALTH_DISABLE; i++)
	{
		now += 3600 * SECOND;
		(void) permit(0, a);
		news = settle(0, a, OE_VERDICT_BAD) & OE_HEALTH_DISABLE;
	}
	is_int(i, 121, "or as many as there are in five days");
	oe_health_detach(a);
}

static void
test_exit_and_many(void)
{
	static OeHealth *many[5000];
	int			i;

	for (i = 0; i < 5000; i++)
		many[i] = oe_health_attach(i);
	is_int(count_records(), 4096, "there are so many records");
	now = START;
	for (i = 0; i < 4; i++)
		ok(permit(0, many[4999]), "an endpoint without one has its own");
	ok(!permit(0, many[4999]), "with a limit");
	exit_callback(0, 0);
	is_int(count_records(), 0, "the end of the process detaches all");
}

int
main(void)
{
	test_records(false);
	oe_health_shmem_request();
	oe_health_shmem_startup();
	test_records(true);
	test_in_flight();
	test_breaker();
	test_rate();
	test_failures();
	test_exit_and_many();
	is_int(lwlocks_held, 0, "no lock is left");
	return done_testing();
}
