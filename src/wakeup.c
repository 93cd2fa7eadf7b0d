/*
 * wakeup.c
 *	  Wake the worker when a transaction that wrote events commits.
 *
 * One callback for each backend, registered when the library is loaded, never
 * for each transaction: the server calls every registered callback at every
 * commit.  After the commit nothing may fail any more, so the callback touches
 * two flags, an atomic and a latch, and allocates and locks nothing.
 *
 * That callback comes before the transaction's invalidations are sent, which is
 * early enough for events, but would have the worker look for a change of an
 * endpoint in vain.  For those it is woken when they have been sent.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "compat.h"
#include "shared.h"
#include "storage/latch.h"
#include "utils/resowner.h"
#include "wakeup.h"

static bool wake_worker = false;
static bool wake_launcher = false;
static bool wake_for_change = false;

static void
set_latch_of(int procno)
{
	if (procno >= 0 && procno < (int) ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

static void
wake_worker_now(OeDatabaseSlot *database)
{
	OeWorkerSlot *slot = &database->workers[0];

	/*
	 * The worker clears the flag before it takes its snapshot, so whoever finds
	 * it set may rely on being seen.
	 */
	if (pg_atomic_exchange_u32(&slot->pending, 1) == 0)
		set_latch_of(slot->procno);
}

static void
wake_launcher_now(void)
{
	if (oe_shared == NULL)
		return;
	pg_atomic_write_u32(&oe_shared->recheck, 1);
	set_latch_of(oe_shared->launcher_procno);
}

static void
xact_callback(XactEvent event, void *arg)
{
	OeDatabaseSlot *slot;

	if (likely(!wake_worker && !wake_launcher))
		return;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (wake_worker && !wake_for_change &&
				(slot = oe_shared_slot(MyDatabaseId)) != NULL)
				wake_worker_now(slot);
			if (wake_launcher)
				wake_launcher_now();
			break;
		case XACT_EVENT_PREPARE:
			/* COMMIT PREPARED runs no callback: tell the worker to poll */
			if (wake_worker && (slot = oe_shared_slot(MyDatabaseId)) != NULL)
			{
				pg_atomic_write_u32(&slot->workers[0].prepared, 1);
				set_latch_of(slot->workers[0].procno);
			}
			break;
		case XACT_EVENT_ABORT:
			if (wake_launcher)
				wake_launcher_now();
			break;
		default:
			return;				/* not the end of the transaction yet */
	}
	wake_worker = false;
	wake_launcher = false;
}

/* The last step of a transaction's end; called for portals as well. */
static void
release_callback(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	OeDatabaseSlot *slot;

	if (likely(!wake_for_change) || !isTopLevel || phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	wake_for_change = false;
	if (isCommit && (slot = oe_shared_slot(MyDatabaseId)) != NULL)
		wake_worker_now(slot);
}

void
oe_wake_worker_at_commit(int shard)
{
	wake_worker = true;
}

void
oe_wake_worker_for_change(void)
{
	wake_worker = true;			/* for PREPARE TRANSACTION */
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
