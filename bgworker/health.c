/*
 * health.c
 *	  How an endpoint fares, over all workers of the database, and what may
 *	  therefore be sent to it now.
 *
 * The limits of an endpoint are limits of all workers together, and what one of
 * them learns the others shall not have to learn again.  So its pause, breaker,
 * rate and number in flight are one record in shared memory.  A record is made by
 * the first worker that attaches and is free again when the last one detaches;
 * what is to outlast the workers is in the position records (oe_health_restore).
 *
 * A table of keys under a lightweight lock says whose record is where; attaching
 * is rare.  A record has its own spinlock, under which nothing is called that
 * could fail.
 *
 * Accidents survived: a worker that ends gives back what it had in flight and its
 * probe; one that is killed has the postmaster make all shared memory anew; a
 * worker that waits for a place and no longer does is not waited for; without
 * preloading, or with more endpoints than records, each worker has a record of
 * its own, and the limits are limits of each worker.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "health.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "policy_share.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker_slot.h"

#define RECORDS				4096

/* when the probe is made by another worker, whose end does not wake this one */
#define PROBE_POLL_US		50000

/* if it was not disabled by then, its worker must have failed to */
#define DISABLE_AGAIN_US	INT64CONST(60000000)

typedef struct HealthKey
{
	Oid			dboid;
	int32		endpoint_id;
	int			users;			/* 0: the record is free */
} HealthKey;

typedef struct HealthRecord
{
	slock_t		lock;
	bool		used;			/* no longer to be restored */
	int			in_flight;
	oe_breaker	breaker;
	oe_rate		rate;
	uint32		epoch;
	TimestampTz paused_until;
	TimestampTz failing_since;
	int			failures;
	TimestampTz disable_told_at;
	TimestampTz last_success_at;
	TimestampTz last_error_at;
	uint64		attempts;
	uint64		delivered;
	uint64		failed;
	oe_share	shares[OE_MAX_WORKERS]; /* by the number of the worker */
	char		last_error[OE_HEALTH_ERROR_SIZE];
} HealthRecord;

typedef struct HealthTable
{
	HealthKey	keys[RECORDS];
	HealthRecord records[RECORDS];
} HealthTable;

/* What this process has of a record. */
struct OeHealth
{
	HealthRecord *record;
	int			in_flight;
	bool		probing;
	dlist_node	node;
};

static HealthTable *table = NULL;
static LWLock *table_lock;

/* of this process */
static dlist_head attached = DLIST_STATIC_INIT(attached);

/* ---------- records ---------- */

void
oe_health_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(HealthTable)));
	RequestNamedLWLockTranche("order_engine", 1);
}

/* The caller holds AddinShmemInitLock. */
void
oe_health_shmem_startup(void)
{
	bool		found;

	table = ShmemInitStruct("order_engine health", sizeof(HealthTable), &found);
	table_lock = &GetNamedLWLockTranche("order_engine")->lock;
	if (found)
		return;
	memset(table, 0, sizeof(HealthTable));
	for (int i = 0; i < RECORDS; i++)
		SpinLockInit(&table->records[i].lock);
}

/* Makes a record one of which nothing is known; its lock stays as it is. */
static void
clear_record(HealthRecord *record)
{
	size_t		lock_size = offsetof(HealthRecord, lock) + sizeof(record->lock);

	memset((char *) record + lock_size, 0, sizeof(HealthRecord) - lock_size);
}

/* NULL when there is no shared memory, or no more room in it. */
static HealthRecord *
attach_shared(int32 endpoint_id)
{
	HealthRecord *record;
	int			found = -1;

	if (table == NULL)
		return NULL;

	LWLockAcquire(table_lock, LW_EXCLUSIVE);
	for (int i = 0; i < RECORDS; i++)
	{
		HealthKey  *key = &table->keys[i];

		if (key->users == 0)
		{
			if (found < 0)
				found = i;
		}
		else if (key->endpoint_id == endpoint_id && key->dboid == MyDatabaseId)
		{
			found = i;
			break;
		}
	}
	if (found < 0)
	{
		LWLockRelease(table_lock);
		return NULL;
	}

	record = &table->records[found];
	SpinLockAcquire(&record->lock);
	if (table->keys[found].users++ == 0)
	{
		table->keys[found].dboid = MyDatabaseId;
		table->keys[found].endpoint_id = endpoint_id;
		clear_record(record);
	}
	SpinLockRelease(&record->lock);
	LWLockRelease(table_lock);
	return record;
}

static bool
is_shared(const HealthRecord *record)
{
	return table != NULL && record >= table->records && record < table->records + RECORDS;
}

static void
on_exit_detach(int code, Datum arg)
{
	while (!dlist_is_empty(&attached))
		oe_health_detach(dlist_head_element(OeHealth, node, &attached));
}

OeHealth *
oe_health_attach(int32 endpoint_id)
{
	static bool exit_registered = false;
	OeHealth   *health;

	if (!exit_registered)
	{
		before_shmem_exit(on_exit_detach, (Datum) 0);
		exit_registered = true;
	}

	health = MemoryContextAllocZero(TopMemoryContext, sizeof(OeHealth));
	health->record = attach_shared(endpoint_id);
	if (health->record == NULL)
	{
		health->record = MemoryContextAllocZero(TopMemoryContext, sizeof(HealthRecord));
		SpinLockInit(&health->record->lock);
	}
	dlist_push_tail(&attached, &health->node);
	return health;
}

void
oe_health_detach(OeHealth *health)
{
	HealthRecord *record = health->record;

	dlist_delete(&health->node);
	if (is_shared(record))
	{
		LWLockAcquire(table_lock, LW_EXCLUSIVE);
		SpinLockAcquire(&record->lock);
		record->in_flight -= health->in_flight;
		record->shares[oe_my_index].in_flight -= health->in_flight;
		oe_breaker_return(&record->breaker, health->probing);
		table->keys[record - table->records].users--;
		SpinLockRelease(&record->lock);
		LWLockRelease(table_lock);
	}
	else
		pfree(record);
	pfree(health);
}

void
oe_health_restore(OeHealth *health, const OeHealthState *stored)
{
	HealthRecord *record = health->record;

	SpinLockAcquire(&record->lock);
	if (!record->used)
	{
		record->used = true;
		record->last_success_at = stored->last_success_at;
		record->last_error_at = stored->last_error_at;
		memcpy(record->last_error, stored->last_error, OE_HEALTH_ERROR_SIZE);
		record->last_error[OE_HEALTH_ERROR_SIZE - 1] = '\0';
		record->failing_since = stored->failing_since;
		record->failures = stored->failures;
		record->paused_until = stored->paused_until;
		oe_breaker_restore(&record->breaker, stored->breaker_opens, stored->open_until);
	}
	SpinLockRelease(&record->lock);
}

/* The caller holds the record's lock. */
static void
copy_state(const HealthRecord *record, OeHealthState *state)
{
	state->last_success_at = record->last_success_at;
	state->last_error_at = record->last_error_at;
	memcpy(state->last_error, record->last_error, OE_HEALTH_ERROR_SIZE);
	state->failing_since = record->failing_since;
	state->failures = record->failures;
	state->paused_until = record->paused_until;
	state->breaker_opens = record->breaker.opens;
	state->open_until = record->breaker.phase == OE_BREAKER_CLOSED ? 0 : record->breaker.open_until;
	state->phase = record->breaker.phase;
	state->in_flight = record->in_flight;
	state->attempts = record->attempts;
	state->delivered = record->delivered;
	state->failed = record->failed;
}

void
oe_health_get(OeHealth *health, OeHealthState *state)
{
	SpinLockAcquire(&health->record->lock);
	copy_state(health->record, state);
	SpinLockRelease(&health->record->lock);
}

bool
oe_health_next(int *i, int32 *endpoint_id, OeHealthState *state)
{
	bool		found = false;

	if (table == NULL)
		return false;

	LWLockAcquire(table_lock, LW_SHARED);
	for (; *i < RECORDS && !found; (*i)++)
	{
		HealthKey  *key = &table->keys[*i];
		HealthRecord *record = &table->records[*i];

		if (key->users == 0 || key->dboid != MyDatabaseId)
			continue;
		*endpoint_id = key->endpoint_id;
		SpinLockAcquire(&record->lock);
		copy_state(record, state);
		SpinLockRelease(&record->lock);
		found = true;
	}
	LWLockRelease(table_lock);
	return found;
}

/* ---------- places in flight ---------- */

/* The caller holds the record's lock. */
static bool
permit(OeHealth *health, const OeHealthPolicy *policy, TimestampTz now, bool *probe,
	   TimestampTz *wait)
{
	HealthRecord *record = health->record;

	if (now < record->paused_until)
	{
		*wait = record->paused_until;
		return false;
	}
	if (!oe_share_permit(record->shares, OE_MAX_WORKERS, oe_my_index, policy->max_in_flight, now, wait))
		return false;
	if (!oe_breaker_permit(&record->breaker, &policy->breaker, now, record->in_flight, probe, wait))
	{
		if (*wait != 0)
			return false;
		if (record->breaker.phase == OE_BREAKER_CLOSED)
			*wait = health->in_flight > 0 ? 0 : now + OE_SHARE_POLL;
		else
			*wait = health->probing ? 0 : now + PROBE_POLL_US;
		return false;
	}
	if (!oe_rate_take(&record->rate, &policy->rate, now, wait))
	{
		oe_breaker_return(&record->breaker, *probe);
		*probe = false;
		return false;
	}
	record->used = true;
	record->in_flight++;
	record->shares[oe_my_index].in_flight++;
	health->in_flight++;
	health->probing = health->probing || *probe;
	return true;
}

bool
oe_health_permit(OeHealth *health, const OeHealthPolicy *policy, TimestampTz now,
				 bool *probe, TimestampTz *wait)
{
	bool		permitted;

	*probe = false;
	*wait = 0;
	SpinLockAcquire(&health->record->lock);
	permitted = permit(health, policy, now, probe, wait);
	SpinLockRelease(&health->record->lock);
	return permitted;
}

/* The caller holds the record's lock. */
static void
give_back(OeHealth *health, bool probe)
{
	health->record->in_flight--;
	health->record->shares[oe_my_index].in_flight--;
	health->in_flight--;
	if (probe)
		health->probing = false;
}

/* ---------- what is learned ---------- */

/* Has it failed so long, so often and over such a time that it is to be disabled? */
static bool
shall_be_disabled(HealthRecord *record, const OeHealthPolicy *policy, TimestampTz now)
{
	if (policy->disable_after <= 0 || record->failing_since == 0 ||
		record->failures < policy->disable_attempts ||
		now - record->failing_since < policy->disable_after ||
		now - record->failing_since < policy->disable_spread)
		return false;

	/* one worker is told, not each of them at each failure */
	if (record->disable_told_at != 0 && now - record->disable_told_at < DISABLE_AGAIN_US)
		return false;
	record->disable_told_at = now;
	return true;
}

uint32
oe_health_settle(OeHealth *health, const OeHealthPolicy *policy, bool probe,
				 oe_verdict verdict, const char *error, TimestampTz now)
{
	HealthRecord *record = health->record;
	double		random = pg_prng_double(&pg_global_prng_state);
	int			error_length = 0;
	uint32		news = 0;

	if (error != NULL)
		error_length = pg_mbcliplen(error, strlen(error), OE_HEALTH_ERROR_SIZE - 1);

	SpinLockAcquire(&record->lock);
	give_back(health, probe);
	record->attempts++;
	if (error != NULL)
	{
		record->failed++;
		record->last_error_at = now;
		memcpy(record->last_error, error, error_length);
		record->last_error[error_length] = '\0';
	}
	else
		record->delivered++;

	switch (oe_breaker_settle(&record->breaker, &policy->breaker, probe, verdict, now, random))
	{
		case OE_BREAKER_OPENED:
			record->epoch++;
			news |= OE_HEALTH_OPENED;
			break;
		case OE_BREAKER_RECOVERED:
			news |= OE_HEALTH_RECOVERED;
			break;
		case OE_BREAKER_SAME:
			break;
	}

	if (verdict == OE_VERDICT_GOOD)
	{
		record->last_success_at = now;
		record->failing_since = 0;
		record->failures = 0;
		record->disable_told_at = 0;
	}
	else if (error != NULL)
	{
		/* also what says nothing of the breaker: an endpoint that only ever asks to wait */
		if (record->failing_since == 0)
			record->failing_since = now;
		if (record->failures < INT_MAX)
			record->failures++;
		if (shall_be_disabled(record, policy, now))
			news |= OE_HEALTH_DISABLE;
	}
	SpinLockRelease(&record->lock);
	return news;
}

void
oe_health_pause(OeHealth *health, TimestampTz until)
{
	HealthRecord *record = health->record;

	SpinLockAcquire(&record->lock);
	record->used = true;
	record->paused_until = Max(record->paused_until, until);
	SpinLockRelease(&record->lock);
}

void
oe_health_reset(OeHealth *health)
{
	HealthRecord *record = health->record;

	SpinLockAcquire(&record->lock);
	record->used = true;
	memset(&record->breaker, 0, sizeof(record->breaker));
	record->paused_until = 0;
	record->failing_since = 0;
	record->failures = 0;
	record->disable_told_at = 0;
	SpinLockRelease(&record->lock);
}

uint32
oe_health_epoch(OeHealth *health)
{
	uint32		epoch;

	SpinLockAcquire(&health->record->lock);
	epoch = health->record->epoch;
	SpinLockRelease(&health->record->lock);
	return epoch;
}
