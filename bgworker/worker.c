/*
 * worker.c
 *	  A process that delivers events of one database.
 *
 * Lifecycle: a dynamic background worker, started by the launcher or by
 * start_worker().  A database has order_engine.workers of them, each for its
 * share of the shards (worker_slot.c); the first also does what has to be done
 * once.
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
#include "attempt_log.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "compat.h"
#include "config.h"
#include "database_ddl.h"
#include "dispatch.h"
#include "feed.h"
#include "launcher.h"
#include "maintenance.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "position.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "quarantine.h"
#include "ring.h"
#include "settings.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procsignal.h"
#include "takeover.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker_slot.h"
#include "worker_sql.h"

/*
 * Results are flushed when there are so many, or after so long.  After so long
 * again that must be on its way to the disk.  So what a crash of the server forgets
 * are at most 1,000 results, and those of 20 ms and of one write to the disk.
 */
#define FLUSH_RESULTS		500
#define FLUSH_AFTER_MS		15
#define HASTEN_AFTER_MS		5

/* how often the text in pg_stat_activity is made anew */
#define ACTIVITY_MS			1000

/*
 * How long a worker that makes way for another set waits for its requests.  No
 * endpoint gets anything meanwhile, so one that hangs is not waited for long: its
 * event is sent again, as after a timeout.
 */
#define DRAIN_MS			5000

/* how often it looks whether a command on the database waits for it alone */
#define HELD_LOOK_MS		20

PGDLLEXPORT void oe_worker_main(Datum arg);

static volatile sig_atomic_t shutdown_requested = false;

static OeHttp *http;
static WaitEventSet *wait_set;
static uint32 wait_for_work;
static uint32 wait_for_http;

static bool draining = false;
static TimestampTz drain_until;
static TimestampTz unflushed_since = 0; /* 0: nothing to flush was seen yet */
static TimestampTz hasten_at = 0;	/* 0: the last flush is durable, or will be soon */
static TimestampTz next_lazy_flush = 0;
static TimestampTz next_ring = 0;
static TimestampTz next_log_turn = 0;

/*
 * Inside a transaction a SIGTERM must also break a wait for a lock, so there it
 * acts as in any backend; between transactions the loop ends in good order.
 */
static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	shutdown_requested = true;
	oe_quarantine_ending();
	if (oe_my_slot != NULL && oe_my_slot->end == OE_END_UNKNOWN)
		oe_my_slot->end = OE_END_TOLD;
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
		{"role", "none"},
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		OE_COMPAT_NO_TRANSACTION_TIMEOUT
		{"session_replication_role", "origin"},
		{"exit_on_error", "off"},
		{"synchronous_commit", "local"},
		{"row_security", "off"},
		{"jit", "off"},
		/* the log has no statistics worth planning by: always its indexes */
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_indexscan", "on"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
	};

	/* the owner of a database may make all its sessions those of some role */
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
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

/*
 * Sends nothing more.  What is under way comes to its end first: the worker that
 * has these aggregates next must not send an event while this one's is on its way.
 */
static void
make_way(void)
{
	draining = true;
	drain_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DRAIN_MS);
}

static void
reload_settings(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	configure_http();
	oe_config_changed = true;	/* the file with the keys of secrets may have changed */
	oe_maintenance_reschedule(GetCurrentTimestamp());
	next_ring = next_log_turn = 0;	/* what is kept may be kept for less */
	oe_feed_look();				/* the interval may be shorter now */

	if (!draining && oe_worker_is_superfluous())
		make_way();
}

/* ---------- the loop ---------- */

static void
flush_if_due(TimestampTz now)
{
	bool		many = oe_unflushed >= FLUSH_RESULTS;
	bool		due;

	if (hasten_at != 0 && hasten_at <= now)
	{
		oe_ack_hasten();
		hasten_at = 0;
	}
	if (oe_unflushed > 0 && unflushed_since == 0)
		unflushed_since = now;
	due = many ||
		(oe_unflushed > 0 && now >= TimestampTzPlusMilliseconds(unflushed_since, FLUSH_AFTER_MS));

	due = oe_lanes_hang(now) || due;

	/* mere progress of the reader is no hurry */
	if (now >= next_lazy_flush)
	{
		next_lazy_flush = TimestampTzPlusMilliseconds(now, oe_poll_interval);
		due = due || oe_ack_pending(now);
	}
	if (!due)
		return;
	oe_ack_flush(false);
	unflushed_since = 0;

	/* with many, the next one is not far */
	hasten_at = many ? 0 : TimestampTzPlusMilliseconds(now, HASTEN_AFTER_MS);
	if (many)
		oe_ack_hasten();
	oe_express_merge();
	if (oe_my_index == 0)
		oe_position_turn(now);
}

/* What one worker does for all: what is due with time, and space that comes back. */
static void
housekeep(TimestampTz now)
{
	if (oe_my_index != 0)
		return;
	if (oe_maintenance_next() <= now)
		oe_maintenance_run(now, oe_in_flight > 0);
	if (next_ring <= now)
		next_ring = oe_ring_step(now);
	if (next_log_turn <= now)
		next_log_turn = oe_attempt_log_turn(now);
}

/* Has pg_stat_activity say what the worker does while it runs no SQL. */
static void
show_activity(TimestampTz now)
{
	static char text[128];
	static TimestampTz next_time = 0;
	static const char *last = "";
	TimestampTz soon = TimestampTzPlusMilliseconds(now, ACTIVITY_MS);
	const char *state;
	int			endpoints = 0;
	bool		delivering = oe_in_flight > 0;
	dlist_iter	iter;

	dlist_foreach(iter, &oe_sendable)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, sendable_node, iter.cur);

		endpoints++;
		/* a pause or an open breaker, not a moment's wait for a rate or a full request */
		delivering = delivering || (endpoint->active && endpoint->wait_until <= soon);
	}
	state = draining ? "ending" : delivering ? "delivering" : endpoints > 0 ? "waiting" : "idle";
	if (now < next_time && state == last)
		return;
	last = state;
	next_time = soon;
	snprintf(text, sizeof(text), "%s: %d requests in flight, %d endpoints with events to send",
			 state, oe_in_flight, endpoints);
	oe_worker_idle_text = text;
	pgstat_report_activity(STATE_IDLE, text);
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

/* How long may the worker sleep?  In ms, -1: for ever. */
static long
sleep_ms(TimestampTz now, TimestampTz next_retry)
{
	TimestampTz next_send = oe_dispatch_next(now);
	long		timeout = oe_http_timeout(http);

	if (oe_lanes_hang_at() != 0)
		timeout = earlier(timeout, ms_until(now, oe_lanes_hang_at()));
	if (oe_unflushed > 0)
		timeout = earlier(timeout, unflushed_since == 0 ? FLUSH_AFTER_MS :
						  ms_until(now, TimestampTzPlusMilliseconds(unflushed_since, FLUSH_AFTER_MS)));

	if (hasten_at != 0)
		timeout = earlier(timeout, ms_until(now, hasten_at));
	if (oe_worker_is_held())
		timeout = earlier(timeout, HELD_LOOK_MS);

	/* the rest is not done any more, so that it is due would be so for ever */
	if (draining)
		return earlier(timeout, ms_until(now, drain_until));

	timeout = earlier(timeout, ms_until(now, oe_feed_next()));
	if (oe_my_index == 0)
	{
		timeout = earlier(timeout, ms_until(now, Min(next_ring, next_log_turn)));
		if (oe_maintenance_next() != DT_NOEND)
			timeout = earlier(timeout, ms_until(now, oe_maintenance_next()));
	}
	if (next_retry != 0)
		timeout = earlier(timeout, ms_until(now, next_retry));
	if (next_send != 0)
		timeout = earlier(timeout, ms_until(now, next_send));
	return timeout;
}

/*
 * As CHECK_FOR_INTERRUPTS, but an error that was caught may have come between: the
 * server forgets then that a barrier is waited for, and DROP DATABASE anywhere in
 * the cluster would wait until this process gets another signal.
 */
static void
check_for_interrupts(void)
{
	if (ProcSignalBarrierPending)
		InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

static void
one_round(void)
{
	TimestampTz now;
	TimestampTz next_retry;
	long		timeout;
	WaitEvent	event;
	bool		more_to_fetch = false;

	check_for_interrupts();
	if (ConfigReloadPending)
		reload_settings();
	if (oe_config_changed)
	{
		oe_config_load();
		oe_feed_look();
		if (oe_config_outdated && !draining)
		{
			if (oe_my_slot != NULL)
				oe_my_slot->end = OE_END_RESHARD;
			make_way();
		}
	}

	if (oe_worker_is_held() && !oe_database_in_use(oe_my_database))
	{
		oe_my_slot->end = OE_END_HELD;
		shutdown_requested = true;
		return;
	}

	oe_dispatch_drive(http);
	now = GetCurrentTimestamp();
	(void) oe_dispatch_results(http, now);
	flush_if_due(now);

	if (now >= oe_feed_next() ||
		(oe_my_slot != NULL && (pg_atomic_read_u32(&oe_my_slot->pending) != 0 ||
								pg_atomic_read_u32(&oe_my_slot->prepared) != 0)))
		oe_feed_look();

	next_retry = oe_delivery_wake(now);
	if (!draining)
	{
		/* also when nobody can read: a transaction takes in changes of endpoints */
		if (oe_feed_wanted())
			oe_feed(now);
		more_to_fetch = oe_feed_retries(now);
		if (oe_dispatch_send(http, oe_max_in_flight, now) > 0)
			oe_dispatch_drive(http);	/* libcurl begins at once */
		if (oe_my_slot != NULL)
			pg_atomic_write_u32(&oe_my_slot->in_flight, oe_in_flight);
		housekeep(now);
	}
	else if (oe_in_flight == 0 || now >= drain_until)
	{
		shutdown_requested = true;
		return;
	}

	now = GetCurrentTimestamp();
	show_activity(now);
	timeout = sleep_ms(now, next_retry);
	if (!draining && (oe_config_changed || more_to_fetch || oe_feed_wanted()))
		timeout = 0;

	check_for_interrupts();		/* what comes later sets the latch */
	if (WaitEventSetWait(wait_set, timeout, &event, 1,
						 oe_in_flight > 0 ? wait_for_http : wait_for_work) > 0 &&
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
	pqsignal(SIGINT, SIG_IGN);	/* pg_cancel_backend(): there is nothing to cancel; but see maintenance.c */
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);
	pin_settings();
	oe_worker_lock_shards();

	oe_reader_init();
	oe_delivery_init();
	oe_dispatch_init();
	oe_config_init();
	oe_quarantine_init(dboid);
	http = oe_http_create(oe_max_in_flight, why, sizeof(why));
	if (http == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not set up libcurl: %s", why)));
	configure_http();
	oe_worker_reset_counters();

	wait_for_work = oe_compat_wait_event("OrderEngineWorker");
	wait_for_http = oe_compat_wait_event("OrderEngineHttp");
	wait_set = oe_compat_create_wait_event_set(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, oe_http_descriptor(http), NULL, NULL);

	ereport(LOG,
			(errmsg("order_engine worker started for database %u", dboid)));

	round_context = AllocSetContextCreate(TopMemoryContext, "order_engine round",
										  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(round_context);
	if (oe_my_index == 0)
		oe_take_over();
	PG_TRY();
	{
		while (!shutdown_requested)
		{
			MemoryContextSwitchTo(round_context);
			one_round();
			MemoryContextReset(round_context);
		}
	}
	PG_CATCH();
	{
		oe_quarantine_error(geterrcode());
		PG_RE_THROW();
	}
	PG_END_TRY();

	/* what was delivered shall not be delivered again, nor what was answered just now */
	oe_dispatch_drive(http);
	(void) oe_dispatch_results(http, GetCurrentTimestamp());
	if (oe_unflushed > 0 || oe_ack_pending(GetCurrentTimestamp()))
		oe_ack_flush(true);
	oe_ack_make_durable();
	proc_exit(0);
}
