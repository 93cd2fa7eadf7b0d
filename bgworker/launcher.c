/*
 * launcher.c
 *	  Keeps the workers of each database in order_engine.databases running.
 *
 * Lifecycle: a static background worker, started after recovery and restarted
 * by the postmaster; it is connected to no database.  Workers are dynamic and
 * never restarted by the postmaster: the launcher looks at each one that ended
 * and starts it again, after a pause that doubles while it fails early.  When
 * order_engine.workers changes, the old set ends by itself, and the new one is
 * started, at once, when the last of the old has ended.  Beside that it writes to
 * disk what workers do not want to wait for (ack.c).
 *
 * Accidents survived: a database that does not exist yet, or any more; one
 * without the extension (its worker ends, and is started again when CREATE
 * EXTENSION commits); a change of the list (workers read it themselves); no
 * free background worker slot (tried again later); the end of the launcher (the
 * next one finds the workers that run, and leaves them).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "compat.h"
#include "fmgr.h"
#include "launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "settings.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/procsignal.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "wakeup.h"

#define MIN_PAUSE_MS		1000	/* between two starts of a worker */
#define MAX_PAUSE_MS		60000
#define HEALTHY_UPTIME_MS	60000	/* after which the pause starts anew */
#define RECHECK_MS			60000	/* for databases that had nothing to do */
#define NOT_OURS_MS			5000	/* for workers that we did not start */
#define AFTER_FLUSH_MS		100 /* for anything that woke it while it flushed */

/* One worker. */
typedef struct Supervised
{
	BackgroundWorkerHandle *handle; /* NULL: not running */
	int			count;			/* of the set that it was started with */
	TimestampTz started_at;
	TimestampTz not_before;
	int			pause_ms;
	bool		idle;			/* ended because there was nothing to do */
	bool		woken;			/* there may be something to do since it was started */
} Supervised;

PGDLLEXPORT void oe_launcher_main(Datum arg);

PG_FUNCTION_INFO_V1(oe_start_worker);
PG_FUNCTION_INFO_V1(oe_wake_launcher);

/* as the slots in shared memory */
static Supervised supervised[OE_MAX_DATABASES][OE_MAX_WORKERS];

static void
fill_worker(BackgroundWorker *worker, Oid dboid, const char *started_by, int index, int count)
{
	OeWorkerArgs args = {.index = index, .count = count};

	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "order_engine", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, "oe_worker_main", sizeof(worker->bgw_function_name));
	if (count > 1)
		snprintf(worker->bgw_name, BGW_MAXLEN, "order_engine worker %d of %d", index, count);
	else
		snprintf(worker->bgw_name, BGW_MAXLEN, "order_engine worker");
	snprintf(worker->bgw_type, BGW_MAXLEN, "order_engine worker");
	worker->bgw_main_arg = ObjectIdGetDatum(dboid);
	strlcpy(args.started_by, started_by, sizeof(args.started_by));
	memcpy(worker->bgw_extra, &args, sizeof(args));
	worker->bgw_notify_pid = MyProcPid;
}

void
oe_launcher_register(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "order_engine", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "oe_launcher_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "order_engine launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "order_engine launcher");
	RegisterBackgroundWorker(&worker);
}

bool
oe_database_is_listed(const char *dbname)
{
	char	   *list = pstrdup(oe_databases);
	List	   *names = NIL;
	ListCell   *lc;
	bool		found = false;

	if (!SplitIdentifierString(list, ',', &names))
	{
		pfree(list);
		return false;
	}
	foreach(lc, names)
	{
		if (strcmp((char *) lfirst(lc), dbname) == 0)
			found = true;
	}
	list_free(names);
	pfree(list);
	return found;
}

static OeDatabaseSlot *
claim_slot(Oid dboid)
{
	OeDatabaseSlot *database = oe_shared_claim_slot(dboid);

	if (database == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("order_engine serves at most %d databases", OE_MAX_DATABASES)));
	return database;
}

/* It failed: it is started again later, and later each time. */
static void
pause_longer(Supervised *s, TimestampTz now)
{
	s->pause_ms = Min(Max(s->pause_ms * 2, MIN_PAUSE_MS), MAX_PAUSE_MS);
	s->not_before = TimestampTzPlusMilliseconds(now, s->pause_ms);
}

/* Looks at a worker that was started: is it still there, and if not, why? */
static void
check_worker(OeWorkerSlot *slot, Supervised *s, TimestampTz now)
{
	pid_t		pid;

	if (s->handle == NULL || GetBackgroundWorkerPid(s->handle, &pid) != BGWH_STOPPED)
		return;

	pfree(s->handle);
	s->handle = NULL;
	s->idle = false;
	switch ((OeWorkerEnd) slot->end)
	{
		case OE_END_RESHARD:
			s->pause_ms = 0;
			s->not_before = now;
			return;
		case OE_END_TOLD:
			s->pause_ms = 0;
			s->not_before = TimestampTzPlusMilliseconds(now, MIN_PAUSE_MS);
			return;
		case OE_END_HELD:
		case OE_END_NO_EXTENSION:
			s->idle = true;
			s->pause_ms = 0;
			s->not_before = s->woken ? now : TimestampTzPlusMilliseconds(now, RECHECK_MS);
			return;
		case OE_END_UNKNOWN:
			break;
	}
	if (TimestampDifferenceExceeds(s->started_at, now, HEALTHY_UPTIME_MS))
		s->pause_ms = 0;
	pause_longer(s, now);
}

static bool
has_workers(OeDatabaseSlot *database, Supervised *workers)
{
	for (int i = 0; i < OE_MAX_WORKERS; i++)
	{
		if (database->workers[i].procno != OE_NO_PROC || workers[i].handle != NULL)
			return true;
	}
	return false;
}

/* Slots of databases that were dropped can be used again, when their workers are gone. */
static void
release_slots_but(List *databases)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < OE_MAX_DATABASES; i++)
	{
		OeDatabaseSlot *database = &oe_shared->slots[i];

		if (!OidIsValid(database->dboid) || list_member_oid(databases, database->dboid))
			continue;
		for (int j = 0; j < OE_MAX_WORKERS; j++)
			check_worker(&database->workers[j], &supervised[i][j], now);
		if (!has_workers(database, supervised[i]))
		{
			SpinLockAcquire(&oe_shared->lock);
			database->dboid = InvalidOid;
			SpinLockRelease(&oe_shared->lock);
			memset(supervised[i], 0, sizeof(supervised[i]));
		}
	}
}

/* The databases of the list that exist and take connections. */
static List *
listed_databases(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *result = NIL;
	List	   *all = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);

		all = lappend_oid(all, db->oid);
		if (db->datallowconn && !db->datistemplate &&
			oe_database_is_listed(NameStr(db->datname)))
		{
			MemoryContext old = MemoryContextSwitchTo(caller);

			result = lappend_oid(result, db->oid);
			MemoryContextSwitchTo(old);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	release_slots_but(all);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return result;
}

static void
start_worker(OeDatabaseSlot *database, Supervised *s, int index, TimestampTz now)
{
	BackgroundWorker worker;
	MemoryContext old;

	fill_worker(&worker, database->dboid, OE_BY_LAUNCHER, index, database->count);
	database->workers[index].end = OE_END_UNKNOWN;
	s->count = database->count;
	s->idle = false;
	s->woken = false;
	s->started_at = now;
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (!RegisterDynamicBackgroundWorker(&worker, &s->handle))
	{
		s->handle = NULL;
		pause_longer(s, now);
		ereport(LOG,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("order_engine cannot start worker %d of %d for database %u: no background worker is free",
						index, database->count, database->dboid),
				 errdetail("The events of its shards wait; see order_engine.stat_worker."),
				 errhint("Raise max_worker_processes, or lower order_engine.workers.")));
	}
	MemoryContextSwitchTo(old);
}

/* Is there still a worker of another set?  It may not have taken its slot yet. */
static bool
other_set_is_there(OeDatabaseSlot *database, Supervised *workers)
{
	for (int i = 0; i < OE_MAX_WORKERS; i++)
	{
		OeWorkerSlot *slot = &database->workers[i];

		if (workers[i].handle != NULL && workers[i].count != database->count)
			return true;
		if (slot->procno != OE_NO_PROC && slot->count != database->count)
			return true;
	}
	return false;
}

/* Starts the workers of a database that should run and do not; when to look again, in ms? */
static long
supervise_database(OeDatabaseSlot *database, Supervised *workers, bool woken, TimestampTz now)
{
	long		sleep_ms = RECHECK_MS;

	for (int i = 0; i < OE_MAX_WORKERS; i++)
	{
		workers[i].woken = workers[i].woken || woken;
		check_worker(&database->workers[i], &workers[i], now);
	}

	SpinLockAcquire(&oe_shared->lock);
	database->count = oe_workers;
	SpinLockRelease(&oe_shared->lock);
	if (other_set_is_there(database, workers))
		return Min(sleep_ms, NOT_OURS_MS);	/* also woken by the end of the last */

	for (int i = 0; i < database->count; i++)
	{
		Supervised *s = &workers[i];
		long		wait_ms;

		if (s->handle != NULL)
			continue;
		if (database->workers[i].procno != OE_NO_PROC)
		{
			/* started by hand, or before this launcher was restarted */
			sleep_ms = Min(sleep_ms, NOT_OURS_MS);
			continue;
		}
		if (woken && s->idle)
			s->not_before = now;
		wait_ms = TimestampDifferenceMilliseconds(now, Max(s->not_before, database->hold_until));
		if (wait_ms <= 0)
			start_worker(database, s, i, now);
		else
			sleep_ms = Min(sleep_ms, wait_ms);
		if (wait_ms <= 0 && s->handle == NULL)
			sleep_ms = Min(sleep_ms, s->pause_ms);
	}
	return sleep_ms;
}

/*
 * One round: start what should run and does not.  "woken" means that a
 * database may have got its extension.  Returns how long to sleep.
 */
static long
supervise(bool woken)
{
	TimestampTz now = GetCurrentTimestamp();
	long		sleep_ms = RECHECK_MS;
	List	   *databases;
	ListCell   *lc;

	if (oe_databases == NULL || oe_databases[0] == '\0')
		return -1;

	databases = listed_databases();
	foreach(lc, databases)
	{
		OeDatabaseSlot *database = claim_slot(lfirst_oid(lc));

		if (database != NULL)
			sleep_ms = Min(sleep_ms,
						   supervise_database(database, supervised[database - oe_shared->slots],
											  woken, now));
	}
	list_free(databases);
	return sleep_ms;
}

static void
on_launcher_exit(int code, Datum arg)
{
	oe_shared->launcher_procno = OE_NO_PROC;
}

/* Writes to disk what workers do not want to wait for; was there something? */
static bool
flush_for_workers(void)
{
	static XLogRecPtr done = InvalidXLogRecPtr;
	XLogRecPtr	upto = pg_atomic_read_u64(&oe_shared->flush_upto);

	if (upto <= done)
		return false;
	XLogFlush(upto);
	done = upto;
	return true;
}

void
oe_launcher_main(Datum arg)
{
	MemoryContext round_context;
	uint32		wait_event = oe_compat_wait_event("OrderEngineLauncher");
	TimestampTz next_round = 0; /* DT_NOEND: when woken */
	bool		woken = true;

	before_shmem_exit(on_launcher_exit, (Datum) 0);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, SIG_IGN);	/* pg_cancel_backend(): there is nothing to cancel */
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	oe_shared->launcher_procno = oe_compat_my_procno();

	round_context = AllocSetContextCreate(TopMemoryContext, "order_engine launcher",
										  ALLOCSET_DEFAULT_SIZES);
	while (!ShutdownRequestPending)
	{
		bool		flushed;
		TimestampTz now;
		long		sleep_ms;

		CHECK_FOR_INTERRUPTS();
		flushed = flush_for_workers();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			woken = true;
		}
		/* a worker that ended sets the latch too, so that alone says nothing */
		if (pg_atomic_exchange_u32(&oe_shared->recheck, 0) != 0)
			woken = true;

		/* woken to flush, it cannot tell whether that was all: it looks a little later */
		now = GetCurrentTimestamp();
		if (flushed && !woken && now < next_round)
			next_round = Min(next_round, TimestampTzPlusMilliseconds(now, AFTER_FLUSH_MS));
		else
		{
			MemoryContextSwitchTo(round_context);
			sleep_ms = supervise(woken);
			MemoryContextReset(round_context);
			pgstat_report_activity(STATE_IDLE, NULL);
			now = GetCurrentTimestamp();
			next_round = sleep_ms < 0 ? DT_NOEND : TimestampTzPlusMilliseconds(now, sleep_ms);
		}
		sleep_ms = next_round == DT_NOEND ? -1 : TimestampDifferenceMilliseconds(now, next_round);

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (sleep_ms >= 0 ? WL_TIMEOUT : 0),
						 sleep_ms, wait_event);
		ResetLatch(MyLatch);
		woken = false;
	}
	/* not 0: if it was not the server that shall end, there shall be another launcher */
	proc_exit(1);
}

/*
 * wake_launcher()
 *		Have the launcher look again when this transaction has committed.
 */
Datum
oe_wake_launcher(PG_FUNCTION_ARGS)
{
	oe_wake_launcher_at_end();
	PG_RETURN_VOID();
}

/* Does a worker of this database run? */
static bool
shard_is_served(Oid extoid)
{
	for (int shard = 0; shard < OE_SHARDS; shard++)
	{
		LOCKTAG		tag;

		OE_SET_LOCKTAG_SHARD(tag, extoid, shard);
		if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
			return true;
		LockRelease(&tag, ExclusiveLock, false);
	}
	return false;
}

/*
 * start_worker()
 *		Starts a worker of all shards for this database, which has no entry in
 *		order_engine.databases or a server that did not preload the library.
 */
Datum
oe_start_worker(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	/* on a standby it would be waited for until the promotion */
	PreventCommandDuringRecovery("order_engine.start_worker()");

	/* of two that are started at the same moment one ends by itself */
	if (shard_is_served(get_extension_oid("order_engine", false)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another worker serves this database already")));

	fill_worker(&worker, MyDatabaseId, "", 0, 1);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not register a background worker"),
				 errhint("Raise max_worker_processes.")));
	switch (WaitForBackgroundWorkerStartup(handle, &pid))
	{
		case BGWH_STARTED:
			PG_RETURN_INT32((int32) pid);
		case BGWH_STOPPED:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("the worker ended at once"),
					 errhint("See the server log.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("the postmaster is gone")));
	}
	PG_RETURN_NULL();
}
