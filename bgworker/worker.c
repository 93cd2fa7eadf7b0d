/*
 * worker.c
 *	  The process that delivers one database's events.
 *
 * Lifecycle: a dynamic background worker, one for each database, started by the
 * launcher or by start_worker().  A lock that lives as long as the process keeps
 * a second one away.
 *
 * The loop waits in one WaitEventSet for its latch (a commit wrote events), for
 * libcurl's descriptor, and for the death of the postmaster.  When woken it
 * takes results, reads on, sends, and now and then makes durable what was done;
 * between two rounds it does maintenance that is due.  Idle, it runs no SQL but one
 * look every order_engine.poll_interval and order_engine.maintenance_interval.  It
 * holds no transaction, snapshot or lock while a request is under way.
 *
 * Accidents survived: kill at any point (the position in the tables is the only
 * truth); SIGTERM while requests hang (they are left, and repeated later); DROP
 * EXTENSION and DROP DATABASE (see worker_sql.c and CHECK_FOR_INTERRUPTS in the
 * loop); an error in maintenance (see there) or anywhere else (the process ends
 * and is started again).
 */
#include "postgres.h"

#include "access/xact.h"
#include "ack.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "compat.h"
#include "config.h"
#include "dispatch.h"
#include "launcher.h"
#include "maintenance.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "settings.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker_slot.h"
#include "worker_sql.h"

/* results are flushed when there are so many, or after so long */
#define FLUSH_RESULTS		1000
#define FLUSH_AFTER_MS		20

/* one read */
#define READ_ROWS			500
#define READ_BYTES			(4 * 1024 * 1024)

/* while transactions with events are prepared, nobody tells when they commit */
#define PREPARED_POLL_MS	50

/* events of due retries that are read again in one transaction */
#define REFETCH_ROWS		64

PGDLLEXPORT void oe_worker_main(Datum arg);

static volatile sig_atomic_t shutdown_requested = false;

static OeHttp *http;
static WaitEventSet *wait_set;
static uint32 wait_event;

static TimestampTz next_poll = 0;
static bool look = true;		/* there may be new events */
static OeSnapshot *newest = NULL;	/* the last that was taken */
static bool prepared_work = true;
static TimestampTz unflushed_since = 0; /* 0: nothing to flush was seen yet */
static TimestampTz next_lazy_flush = 0;
static TimestampTz next_sync = 0;

/*
 * Inside a transaction a SIGTERM must also break a wait for a lock, so there it
 * acts as in any backend; between transactions the loop ends in good order.
 */
static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	shutdown_requested = true;
	if (IsTransactionState())
	{
		InterruptPending = true;
		ProcDiePending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* What users set for their sessions shall not reach the worker. */
static void
pin_settings(void)
{
	static const char *const pinned[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"synchronous_commit", "local"},
		{"row_security", "off"},
		{"jit", "off"},
		/* the log has no statistics worth planning by: always its indexes */
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
	};

	for (int i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static void
configure_http(void)
{
	oe_cidr_list allow;
	char		why[256];

	if (!oe_cidr_list_parse(oe_allow_cidrs, &allow, why, sizeof(why)))
	{
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("order_engine.allow_cidrs is ignored: %s", why)));
		allow.count = 0;
	}
	oe_http_configure(http, oe_max_in_flight, oe_allow_http, &allow, oe_ca_file);
}

static void
reload_settings(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	configure_http();
	oe_config_changed = true;	/* the file with the keys of secrets may have changed */
	oe_maintenance_reschedule(GetCurrentTimestamp());
	if (oe_worker_is_superfluous())
		shutdown_requested = true;
	next_poll = 0;				/* the interval may be shorter now */
}

/* ---------- reading ---------- */

/*
 * One read for all endpoints that are at the same place and have room; the
 * place of "leader" decides.
 */
static void
read_for_group(OeEndpoint *leader)
{
	OePlace		before = {0};
	OePlace		after = {0};
	OeLogEvent *events[READ_ROWS];
	List	   *group = NIL;
	ListCell   *lc;
	dlist_iter	iter;
	int			nevents;

	oe_place_copy(&before, &leader->cursor);
	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (oe_endpoint_has_room(endpoint) && oe_place_equal(&endpoint->cursor, &before))
			group = lappend(group, endpoint);
	}

	oe_place_copy(&after, &before);
	if (after.upto == NULL)
	{
		after.upto = oe_snapshot_ref(newest);
		oe_snapshot_unref(before.upto);
		before.upto = oe_snapshot_ref(newest);
	}
	nevents = oe_reader_read(&after, READ_ROWS, READ_BYTES, events);
	foreach(lc, group)
		oe_delivery_route(lfirst(lc), events, nevents, &before, &after);
	for (int i = 0; i < nevents; i++)
		oe_event_unref(events[i]);

	list_free(group);
	oe_snapshot_unref(before.seen);
	oe_snapshot_unref(before.upto);
	oe_snapshot_unref(after.seen);
	oe_snapshot_unref(after.upto);
}

/* Is there an endpoint that wants to read on, at a place where there is something? */
static bool
something_to_read(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (oe_endpoint_has_room(endpoint) &&
			(endpoint->cursor.upto != NULL || endpoint->cursor.seen != newest))
			return true;
	}
	return false;
}

static bool
prepared_transactions_exist(void)
{
	static SPIPlanPtr plan = NULL;
	bool		exist;

	exist = oe_worker_execute(&plan,
							  "SELECT 1 FROM pg_catalog.pg_prepared_xacts"
							  " WHERE database = pg_catalog.current_database() LIMIT 1",
							  0, NULL, NULL, NULL, SPI_OK_SELECT) > 0;
	SPI_freetuptable(SPI_tuptable);
	return exist;
}

static void
read_log(TimestampTz now)
{
	bool		take_snapshot = look || newest == NULL;
	dlist_iter	iter;

	/* cleared first: a commit that comes later sets it again */
	if (take_snapshot && oe_my_slot != NULL)
	{
		(void) pg_atomic_exchange_u32(&oe_my_slot->pending, 0);
		if (pg_atomic_exchange_u32(&oe_my_slot->prepared, 0) != 0)
			prepared_work = true;
	}
	look = false;

	oe_worker_begin("reading the outbox");

	/*
	 * An endpoint that was changed before an event that this snapshot sees must
	 * have changed for that event: take the change in first.
	 */
	AcceptInvalidationMessages();
	if (oe_config_changed)
	{
		oe_worker_commit();
		look = true;
		return;
	}
	if (take_snapshot)
	{
		oe_snapshot_unref(newest);
		newest = oe_snapshot_current();
	}
	if (now >= next_sync)
	{
		oe_reader_sync();
		next_sync = TimestampTzPlusMilliseconds(now, oe_poll_interval);
	}
	if (prepared_work && !prepared_transactions_exist())
	{
		/* the last of them may have ended after the snapshot: look once more */
		prepared_work = false;
		look = true;
	}

	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (!oe_endpoint_has_room(endpoint))
			continue;
		if (endpoint->cursor.upto == NULL && endpoint->cursor.seen == newest)
			continue;			/* it has seen all that there is */
		read_for_group(endpoint);
	}
	oe_worker_commit();

	if (oe_my_slot != NULL)
		pg_atomic_write_u64(&oe_my_slot->reads, pg_atomic_read_u64(&oe_my_slot->reads) + 1);
	next_poll = TimestampTzPlusMilliseconds(now, prepared_work ? Min(PREPARED_POLL_MS, oe_poll_interval) :
											oe_poll_interval);
}

/* Reads again the events of retries that are due; returns whether there may be more. */
static bool
refetch_events(void)
{
	OeDelivery *due[REFETCH_ROWS];
	OeLogEvent *events[REFETCH_ROWS];
	int			n = oe_delivery_without_event(due, REFETCH_ROWS);

	if (n == 0)
		return false;
	oe_worker_begin("reading events for another attempt");
	for (int i = 0; i < n; i++)
		events[i] = oe_reader_fetch(due[i]->place.txid, &due[i]->place.id);
	oe_worker_commit();
	for (int i = 0; i < n; i++)
	{
		oe_delivery_set_event(due[i], events[i]);
		oe_event_unref(events[i]);
	}
	return n == REFETCH_ROWS;
}

/* ---------- the loop ---------- */

static void
flush_if_due(TimestampTz now)
{
	bool		due;

	if (oe_unflushed > 0 && unflushed_since == 0)
		unflushed_since = now;
	due = oe_unflushed >= FLUSH_RESULTS ||
		(oe_unflushed > 0 && now >= TimestampTzPlusMilliseconds(unflushed_since, FLUSH_AFTER_MS));

	/* mere progress of the reader is no hurry */
	if (now >= next_lazy_flush)
	{
		next_lazy_flush = TimestampTzPlusMilliseconds(now, oe_poll_interval);
		due = due || oe_ack_pending();
	}
	if (!due)
		return;
	oe_ack_flush();
	oe_unflushed = 0;
	unflushed_since = 0;
}

/* The earlier of two time-outs in ms, where -1 is never. */
static long
earlier(long a, long b)
{
	if (a < 0)
		return b;
	return b < 0 ? a : Min(a, b);
}

static long
ms_until(TimestampTz now, TimestampTz then)
{
	return then <= now ? 0 : (long) TimestampDifferenceMilliseconds(now, then);
}

static void
one_round(void)
{
	TimestampTz now;
	TimestampTz next_retry;
	long		timeout;
	WaitEvent	event;
	bool		more_to_fetch;

	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
		reload_settings();
	if (shutdown_requested)
		return;
	if (oe_config_changed)
	{
		oe_config_load();
		look = true;
	}

	oe_http_drive(http);
	now = GetCurrentTimestamp();
	(void) oe_dispatch_results(http, now);
	flush_if_due(now);

	if (now >= next_poll ||
		(oe_my_slot != NULL && (pg_atomic_read_u32(&oe_my_slot->pending) != 0 ||
						  pg_atomic_read_u32(&oe_my_slot->prepared) != 0)))
		look = true;

	/* also when nobody can read: a transaction takes in changes of endpoints */
	if (look || something_to_read())
		read_log(now);

	next_retry = oe_delivery_wake(now);
	more_to_fetch = refetch_events();
	(void) oe_dispatch_send(http, oe_max_in_flight, now);
	if (oe_my_slot != NULL)
		pg_atomic_write_u32(&oe_my_slot->in_flight, oe_in_flight);

	if (oe_maintenance_next() <= now)
	{
		/* what was just given to libcurl is on its way meanwhile */
		oe_http_drive(http);
		oe_maintenance_run(now, oe_in_flight > 0);
	}

	/* let libcurl begin at once, then wait */
	now = GetCurrentTimestamp();
	timeout = earlier(oe_http_timeout(http), ms_until(now, next_poll));
	if (oe_maintenance_next() != DT_NOEND)
		timeout = earlier(timeout, ms_until(now, oe_maintenance_next()));
	if (next_retry != 0)
		timeout = earlier(timeout, ms_until(now, next_retry));
	if (oe_unflushed > 0)
		timeout = earlier(timeout, unflushed_since == 0 ? FLUSH_AFTER_MS :
						  ms_until(now, TimestampTzPlusMilliseconds(unflushed_since, FLUSH_AFTER_MS)));
	if (oe_config_changed || look || more_to_fetch || something_to_read())
		timeout = 0;

	if (WaitEventSetWait(wait_set, timeout, &event, 1, wait_event) > 0 &&
		(event.events & WL_LATCH_SET) != 0)
		ResetLatch(MyLatch);
}

void
oe_worker_main(Datum arg)
{
	Oid			dboid = DatumGetObjectId(arg);
	char		why[256];
	MemoryContext round_context;
	OeWorkerArgs args;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	oe_worker_take_slot(dboid, args.index, args.count);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_sigterm);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);
	pin_settings();
	oe_worker_lock_shards();

	oe_reader_init();
	oe_delivery_init();
	oe_dispatch_init();
	oe_config_init();
	http = oe_http_create(oe_max_in_flight, why, sizeof(why));
	if (http == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not set up libcurl: %s", why)));
	configure_http();
	oe_worker_reset_counters();

	wait_event = oe_compat_wait_event("OrderEngineWorker");
	wait_set = oe_compat_create_wait_event_set(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, oe_http_descriptor(http), NULL, NULL);

	ereport(LOG,
			(errmsg("order_engine worker started for database %u", dboid)));

	round_context = AllocSetContextCreate(TopMemoryContext, "order_engine round",
										  ALLOCSET_DEFAULT_SIZES);
	while (!shutdown_requested)
	{
		MemoryContextSwitchTo(round_context);
		one_round();
		MemoryContextReset(round_context);
	}

	/* what was delivered shall not be delivered again */
	if (oe_unflushed > 0)
		oe_ack_flush();
	proc_exit(0);
}
