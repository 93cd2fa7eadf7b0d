/*
 * quarantine.c
 *	  Find the event that crashes the worker, and keep it away from it.
 *
 * A worker that crashes is started again and resumes where it was, so an event
 * that crashes it would do so for ever, and with a fatal signal take the whole
 * server down each time.  Therefore the worker always knows which event it is
 * at, which costs a few stores.  A handler for fatal signals, and the callback
 * at an exit after an error, write that to a file; the next run counts it in
 * order_engine.delivery_crash.  The third time the event is not touched any
 * more and becomes a dead letter.
 *
 * Inside libcurl nobody knows which request was to blame: all that are under
 * way have a part in it then.  From the next run on each of those goes alone
 * (dispatch.c), so the next crash has one culprit.
 *
 * Lifecycle of a count: made by a crash, deleted when the event was delivered, or
 * redriven, or after a while.
 *
 * Accidents survived: SIGKILL, SIGQUIT (another process crashed) and SIGTERM blame
 * nobody, nor does a full disk; a crash in the handler ends the process as it would have ended; a
 * stack that overflowed (the handler has one of its own); a file of another
 * version, or half a file, is passed over; the same file counted twice.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "dispatch.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "quarantine.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker_slot.h"
#include "worker_sql.h"

#define CRASH_MAGIC		0x4f454351	/* changes with the layout */
#define MAX_BLAMED		1024
#define STACK_SIZE		(64 * 1024)

/* counts of events that never came again */
#define FORGET_AFTER	"30 days"

typedef struct CrashFile
{
	uint32		magic;
	int32		nblamed;
	TimestampTz run;			/* when the worker that crashed was started */
	OeBlame		blamed[MAX_BLAMED];
} CrashFile;

/* one row of delivery_crash */
typedef struct Count
{
	OeBlame		blame;
	int			crashes;
	bool		acquitted;
} Count;

typedef enum At
{
	AT_NOTHING, AT_EVENT, AT_REQUESTS
} At;

/* what the signal handler reads */
static volatile At at = AT_NOTHING;
static OeBlame at_blame;
static volatile sig_atomic_t ending = false;
static char file_name[MAXPGPATH];
static CrashFile image;
static char signal_stack[STACK_SIZE];

static MemoryContext counts_context = NULL;
static Count *counts = NULL;
static int	ncounts = 0;
static bool acquittals = false;

void
oe_quarantine_at(int32 endpoint_id, const pg_uuid_t *id)
{
	at_blame.endpoint_id = endpoint_id;
	at_blame.id = *id;
	pg_compiler_barrier();
	at = AT_EVENT;
}

void
oe_quarantine_at_nothing(void)
{
	at = AT_NOTHING;
}

void
oe_quarantine_at_requests(void)
{
	at = AT_REQUESTS;
}

/* To be short of memory is not among them: an event may be larger than that. */
void
oe_quarantine_error(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
			oe_quarantine_at_nothing();
			break;
		default:
			if (sqlerrcode == ERRCODE_DISK_FULL)
				oe_quarantine_at_nothing();
	}
}

void
oe_quarantine_ending(void)
{
	ending = true;
}

/* ---------- the crash ---------- */

/* Only what is allowed in a signal handler. */
static void
write_file(void)
{
	int			fd;
	size_t		size;

	if (at == AT_EVENT)
	{
		image.blamed[0] = at_blame;
		image.nblamed = 1;
	}
	else
		image.nblamed = at == AT_REQUESTS ? oe_dispatch_in_flight(image.blamed, MAX_BLAMED) : 0;
	at = AT_NOTHING;
	if (image.nblamed == 0)
		return;
	size = offsetof(CrashFile, blamed) + image.nblamed * sizeof(OeBlame);
	fd = open(file_name, O_WRONLY | O_CREAT | O_TRUNC, S_IRUSR | S_IWUSR);
	if (fd < 0)
		return;
	if (write(fd, &image, size) != size)
		(void) unlink(file_name);
	(void) close(fd);
}

/* The signal's default action was restored when it came. */
static void
on_fatal_signal(int signo)
{
	if (!ending)
		write_file();
	raise(signo);
}

static void
on_exit_after_error(int code, Datum arg)
{
	if (code != 0 && !ending)
		write_file();
}

static void
catch_crashes(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
	stack_t		stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
	struct sigaction action = {0};

	(void) sigaltstack(&stack, NULL);
	action.sa_handler = on_fatal_signal;
	action.sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER;
	sigemptyset(&action.sa_mask);
	for (int i = 0; i < lengthof(signals); i++)
		(void) sigaction(signals[i], &action, NULL);
	before_shmem_exit(on_exit_after_error, (Datum) 0);
}

/* ---------- counting ---------- */

static void
count_crash(const OeBlame *blame, TimestampTz run)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, UUIDOID, TIMESTAMPTZOID};
	Datum		values[3];

	values[0] = Int32GetDatum(blame->endpoint_id);
	values[1] = UUIDPGetDatum(&blame->id);
	values[2] = TimestampTzGetDatum(run);
	oe_worker_execute(&plan,
					  "INSERT INTO order_engine.delivery_crash AS c (endpoint_id, id, crashes, run)"
					  " VALUES ($1, $2, 1, $3) ON CONFLICT (endpoint_id, id)"
					  " DO UPDATE SET crashes = c.crashes + 1, run = $3, crashed_at = pg_catalog.clock_timestamp()"
					  " WHERE c.run <> $3",
					  3, types, values, NULL, SPI_OK_INSERT);
}

/* Takes over what a worker with this number noted before it crashed. */
static void
take_over(const char *name)
{
	static CrashFile found;
	int			fd = OpenTransientFile(name, O_RDONLY | PG_BINARY);
	ssize_t		size;

	if (fd < 0)
	{
		if (errno != ENOENT)
			ereport(LOG, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", name)));
		return;
	}
	size = read(fd, &found, sizeof(found));
	(void) CloseTransientFile(fd);
	if (size >= (ssize_t) offsetof(CrashFile, blamed) && found.magic == CRASH_MAGIC &&
		found.nblamed >= 1 && found.nblamed <= MAX_BLAMED &&
		size == offsetof(CrashFile, blamed) + found.nblamed * sizeof(OeBlame))
	{
		for (int i = 0; i < found.nblamed; i++)
			count_crash(&found.blamed[i], found.run);
		ereport(LOG,
				(errmsg("an order_engine worker crashed, number of events that it was at: %d", found.nblamed),
				 errdetail("The first of them is %s.",
						   DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&found.blamed[0].id)))),
				 errhint("An event that crashes a worker %d times becomes a dead letter.", OE_CRASHES_ALLOWED)));
	}
	/* not removed before it is counted */
}

static void
set_file_name(char *name, Oid dboid, int index)
{
	snprintf(name, MAXPGPATH, PG_STAT_TMP_DIR "/order_engine_crash.%u.%d", dboid, index);
}

void
oe_quarantine_init(Oid dboid)
{
	static SPIPlanPtr plan = NULL;
	char		name[MAXPGPATH];
	int			nfiles = oe_my_index == 0 ? OE_MAX_WORKERS : oe_my_index + 1;

	counts_context = AllocSetContextCreate(TopMemoryContext, "order_engine crashes",
										   ALLOCSET_SMALL_SIZES);
	set_file_name(file_name, dboid, oe_my_index);
	image.magic = CRASH_MAGIC;
	image.run = GetCurrentTimestamp();

	/* the first worker also cares for what is left of those that are no more */
	oe_worker_begin("counting crashes");
	for (int i = oe_my_index; i < nfiles; i++)
	{
		if (i != oe_my_index && i < oe_my_count)
			continue;
		set_file_name(name, dboid, i);
		take_over(name);
	}
	oe_worker_execute(&plan,
					  "DELETE FROM order_engine.delivery_crash"
					  " WHERE crashed_at < pg_catalog.clock_timestamp() - '" FORGET_AFTER "'::pg_catalog.interval",
					  0, NULL, NULL, NULL, SPI_OK_DELETE);
	oe_worker_commit();
	for (int i = oe_my_index; i < nfiles; i++)
	{
		if (i != oe_my_index && i < oe_my_count)
			continue;
		set_file_name(name, dboid, i);
		if (unlink(name) != 0 && errno != ENOENT)
			ereport(LOG, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", name)));
	}
	catch_crashes();
}

void
oe_quarantine_load(void)
{
	static SPIPlanPtr plan = NULL;
	bool		isnull;

	oe_worker_execute(&plan, "SELECT endpoint_id, id, crashes FROM order_engine.delivery_crash",
					  0, NULL, NULL, NULL, SPI_OK_SELECT);
	MemoryContextReset(counts_context);
	ncounts = (int) SPI_processed;
	counts = MemoryContextAllocZero(counts_context, Max(ncounts, 1) * sizeof(Count));
	for (int i = 0; i < ncounts; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		counts[i].blame.endpoint_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		counts[i].blame.id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 2, &isnull));
		counts[i].crashes = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	acquittals = false;
}

/* Does a count concern the event, on its way to this endpoint? */
static bool
concerns(const Count *count, int32 endpoint_id, const pg_uuid_t *id)
{
	return !count->acquitted &&
		(count->blame.endpoint_id == 0 || count->blame.endpoint_id == endpoint_id) &&
		memcmp(&count->blame.id, id, sizeof(pg_uuid_t)) == 0;
}

int
oe_quarantine_crashes(int32 endpoint_id, const pg_uuid_t *id)
{
	int			crashes = 0;

	for (int i = 0; i < ncounts; i++)
	{
		if (concerns(&counts[i], endpoint_id, id))
			crashes += counts[i].crashes;
	}
	return crashes;
}

void
oe_quarantine_acquit(int32 endpoint_id, const pg_uuid_t *id)
{
	for (int i = 0; i < ncounts; i++)
	{
		if (concerns(&counts[i], endpoint_id, id))
			counts[i].acquitted = acquittals = true;
	}
}

void
oe_quarantine_flush(void)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, UUIDOID};
	Datum		values[2];

	if (!acquittals)
		return;
	acquittals = false;
	for (int i = 0; i < ncounts; i++)
	{
		if (!counts[i].acquitted)
			continue;
		values[0] = Int32GetDatum(counts[i].blame.endpoint_id);
		values[1] = UUIDPGetDatum(&counts[i].blame.id);
		oe_worker_execute(&plan,
						  "DELETE FROM order_engine.delivery_crash WHERE endpoint_id = $1 AND id = $2",
						  2, types, values, NULL, SPI_OK_DELETE);
	}
}
