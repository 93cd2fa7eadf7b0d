/*
 * maintenance.c
 *	  The worker's calls of run_maintenance().
 *
 * Time limits of states and old idempotency keys become due with time alone, so
 * somebody has to look: the first worker does, every order_engine.maintenance_interval
 * and between two rounds of its loop.  With nothing due a look is a probe of a few
 * indexes, without a transaction id.  One call works for 20 ms at most and is a
 * transaction of its own; as long as there is more to do it is repeated at once,
 * but while requests are under way they get four times as long before.
 *
 * Accidents survived: an error in a call.  The transaction is rolled back, the
 * log says so once for each SQLSTATE, and the next interval tries again; events
 * are delivered meanwhile.  A guard of a user that does not end: nothing is
 * delivered while a call runs, so it is cancelled.
 */
#include "postgres.h"

#include "access/xact.h"
#include "maintenance.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "settings.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "worker_sql.h"

/*
 * One call.  Each order takes a subtransaction: of more than 64 the others could
 * not see at a glance whether they are running.
 */
#define CALL	"order_engine.run_maintenance(60, '20 milliseconds')"

/* far more than a call takes, unless something in it hangs */
#define CANCEL_AFTER_MS	5000

/* share of the time that requests get while there are some */
#define BUSY_PAUSE	4

#define MAX_REPORTED	16

static TimestampTz next_run = 0;	/* at once, when the worker starts */

/* what failed since the last success */
static int	reported[MAX_REPORTED];
static int	nreported = 0;

static void
end_cancelling(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	pqsignal(SIGINT, SIG_IGN);
	QueryCancelPending = false;
}

/* Returns whether there is more to do. */
static bool
call(void)
{
	static SPIPlanPtr plan = NULL;
	bool		more;
	bool		isnull;

	oe_worker_begin("maintenance");
	pqsignal(SIGINT, StatementCancelHandler);	/* how the time-out is told */
	enable_timeout_after(STATEMENT_TIMEOUT, CANCEL_AFTER_MS);
	(void) oe_worker_execute(&plan, "SELECT (" CALL " ->> 'more')::boolean",
							 0, NULL, NULL, NULL, SPI_OK_SELECT);
	more = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	end_cancelling();			/* it would come too late */
	oe_worker_commit();

	nreported = 0;
	return more;
}

/* The caller has left the failed transaction. */
static void
report(const ErrorData *error)
{
	for (int i = 0; i < nreported; i++)
	{
		if (reported[i] == error->sqlerrcode)
			return;
	}
	if (nreported < MAX_REPORTED)
		reported[nreported++] = error->sqlerrcode;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("order_engine: maintenance failed and will be tried again: %s", error->message),
			 errdetail_log("SQLSTATE %s.", unpack_sql_state(error->sqlerrcode))));
}

void
oe_maintenance_run(TimestampTz now, bool busy)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool more = false;
	TimestampTz end;

	if (oe_maintenance_interval == 0 || now < next_run)
		return;

	PG_TRY();
	{
		more = call();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		end_cancelling();		/* it may have come for what has failed already */
		error = oe_worker_rollback(caller);
		RESUME_INTERRUPTS();
		report(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	pgstat_report_stat(false);

	end = GetCurrentTimestamp();
	if (!more)
		next_run = TimestampTzPlusMilliseconds(end, oe_maintenance_interval);
	else
		next_run = busy ? end + BUSY_PAUSE * (end - now) : end;
}

TimestampTz
oe_maintenance_next(void)
{
	return oe_maintenance_interval == 0 ? DT_NOEND : next_run;
}

void
oe_maintenance_reschedule(TimestampTz now)
{
	next_run = Min(next_run, TimestampTzPlusMilliseconds(now, oe_maintenance_interval));
}
