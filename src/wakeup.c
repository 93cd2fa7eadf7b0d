/*
 * wakeup.c
 *	  Wake the worker when a transaction that wrote events commits.
 *
 * One callback for each backend, registered when the library is loaded, never
 * for each transaction: the server calls every registered callback at every
 * commit.  After the commit nothing may fail any more, so the callback touches
 * two flags, an atomic and a latch, and allocates and locks nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "compat.h"
#include "shared.h"
#include "storage/latch.h"
#include "wakeup.h"

static bool wake_worker = false;
static bool wake_launcher = false;

static void
set_latch_of(int procno)
{
	if (procno >= 0 && procno < (int) ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

static void
xact_callback(XactEvent event, void *arg)
{
	OeWorkerSlot *slot;

	if (likely(!wake_worker && !wake_launcher))
		return;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (wake_worker && (slot = oe_shared_slot(MyDatabaseId)) != NULL)
			{
				/*
				 * The worker clears the flag before it takes its snapshot, so
				 * whoever finds it set may rely on being seen.
				 */
				if (pg_atomic_exchange_u32(&slot->pending, 1) == 0)
					set_latch_of(slot->procno);
			}
			if (wake_launcher && oe_shared != NULL)
			{
				pg_atomic_write_u32(&oe_shared->recheck, 1);
				set_latch_of(oe_shared->launcher_procno);
			}
			break;
		case XACT_EVENT_PREPARE:
			/* COMMIT PREPARED runs no callback: tell the worker to poll */
			if (wake_worker && (slot = oe_shared_slot(MyDatabaseId)) != NULL)
			{
				pg_atomic_write_u32(&slot->prepared, 1);
				set_latch_of(slot->procno);
			}
			break;
		case XACT_EVENT_ABORT:
			break;
		default:
			return;				/* not the end of the transaction yet */
	}
	wake_worker = false;
	wake_launcher = false;
}

void
oe_wake_worker_at_commit(void)
{
	wake_worker = true;
}

void
oe_wake_launcher_at_commit(void)
{
	wake_launcher = true;
}

void
oe_wakeup_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
