/*
 * wakeup.c
 *	  Wake the workers of what a transaction wrote when it commits.
 *
 * One callback for each backend, registered when the library is loaded, never
 * for each transaction: the server calls every registered callback at every
 * commit.  After the commit nothing may fail any more, so the callback touches
 * a few flags, an atomic and a latch for each worker, and allocates and locks
 * nothing.
 *
 * That callback comes before the transaction's invalidations are sent, which is
 * early enough for events, but would have the worker look for a change of an
 * endpoint in vain.  For those all workers are woken when they have been sent.
 *
 * With synchronous_commit = off events are visible before they are durable.  That
 * there are such is told before anybody can see them, so that the worker asks how
 * far WAL must be flushed only then (reader.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "compat.h"
#include "shared.h"
#include "storage/latch.h"
#include "utils/resowner.h"
#include "wakeup.h"

static uint32 wake_shards = 0;	/* whose workers to wake */
static bool wake_launcher = false;
static bool wake_for_change = false;

void
oe_set_latch_of(int procno)
{
	if (procno >= 0 && procno < (int) ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

/*
 * Those beyond the count are about to end, and who comes after them looks by
 * himself.
 */
static void
wake_workers_now(uint32 shards, bool prepared)
{
	OeDatabaseSlot *database = oe_shared_slot(MyDatabaseId);

	if (database == NULL)
		return;
	for (int i = 0; i < database->count; i++)
	{
		OeWorkerSlot *slot = &database->workers[i];

		if ((slot->shards & shards) == 0)
			continue;

		/*
		 * The worker clears the flag before it takes its snapshot, so whoever
		 * finds it set may rely on being seen.
		 */
		if (pg_atomic_exchange_u32(prepared ? &slot->prepared : &slot->pending, 1) == 0)
			oe_set_latch_of(slot->procno);
	}
}

/* This is the last that can change synchronous_commit: deferred triggers have run. */
static void
announce_asynchronous_commit(void)
{
	FullTransactionId txid = GetTopFullTransactionIdIfAny();

	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF && oe_shared != NULL &&
		FullTransactionIdIsValid(txid))
		oe_shared_raise(&oe_shared->async_txid, U64FromFullTransactionId(txid));
}

static void
wake_launcher_now(void)
{
	if (oe_shared == NULL)
		return;
	pg_atomic_write_u32(&oe_shared->recheck, 1);
	oe_set_latch_of(oe_shared->launcher_procno);
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (likely(wake_shards == 0 && !wake_launcher))
		return;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (wake_shards != 0)
				announce_asynchronous_commit();
			return;
		case XACT_EVENT_COMMIT:
			if (wake_shards != 0 && !wake_for_change)
				wake_workers_now(wake_shards, false);
			if (wake_launcher)
				wake_launcher_now();
			break;
		case XACT_EVENT_PREPARE:
			/* COMMIT PREPARED runs no callback: tell the workers to poll */
			if (wake_shards != 0)
				wake_workers_now(wake_shards, true);
			break;
		case XACT_EVENT_ABORT:
			if (wake_launcher)
				wake_launcher_now();
			break;
		default:
			return;				/* not the end of the transaction yet */
	}
	wake_shards = 0;
	wake_launcher = false;
}

/* The last step of a transaction's end; called for portals as well. */
static void
release_callback(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (likely(!wake_for_change) || !isTopLevel || phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	wake_for_change = false;
	if (isCommit)
		wake_workers_now(OE_ALL_SHARDS, false);
}

void
oe_wake_worker_at_commit(int shard)
{
	wake_shards |= (uint32) 1 << shard;
}

void
oe_wake_worker_for_change(void)
{
	wake_shards = OE_ALL_SHARDS;	/* for PREPARE TRANSACTION */
	wake_for_change = true;
}

void
oe_wake_launcher_at_end(void)
{
	wake_launcher = true;
}

void
oe_wakeup_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterResourceReleaseCallback(release_callback, NULL);
}
