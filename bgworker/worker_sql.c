/*
 * worker_sql.c
 *	  Transactions and kept plans of the worker.
 *
 * A transaction is short: nothing waits for the network inside.  Each begins by
 * taking the lock that DROP EXTENSION and ALTER EXTENSION conflict with, and by
 * looking whether the extension is still there, so that DDL neither waits long
 * for the worker nor pulls tables from under it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "launcher.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "query.h"
#include "relations.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker_slot.h"
#include "worker_sql.h"

const char *oe_worker_idle_text = "starting";

static MemoryContext callers_context;
static Oid	known_extension = InvalidOid;
static Oid	known_outbox = InvalidOid;

/*
 * Is it the extension that the worker knows, and locked now?  Nothing remembers
 * where extensions are, so to look for it takes a scan of the catalog; but its table
 * is remembered, and forgotten when it is dropped.
 */
static bool
lock_known_extension(void)
{
	if (!OidIsValid(known_extension))
		return false;
	LockDatabaseObject(ExtensionRelationId, known_extension, 0, AccessShareLock);
	return OidIsValid(known_outbox) && oe_relid_missing_ok(OE_REL_OUTBOX) == known_outbox;
}

/* Looks for the extension and locks it; ends the worker when it is another one, or gone. */
static void
lock_extension(void)
{
	Oid			extoid = get_extension_oid("order_engine", true);

	if (OidIsValid(extoid))
	{
		LockDatabaseObject(ExtensionRelationId, extoid, 0, AccessShareLock);
		extoid = get_extension_oid("order_engine", true);
	}
	if (!OidIsValid(known_extension))
		known_extension = extoid;

	/* dropped; or created again, so that nothing in memory is true any more */
	if (!OidIsValid(extoid) || extoid != known_extension)
	{
		if (oe_my_slot != NULL && !OidIsValid(extoid))
			oe_my_slot->end = OE_END_NO_EXTENSION;
		AbortCurrentTransaction();
		proc_exit(0);
	}
	known_outbox = oe_relid_missing_ok(OE_REL_OUTBOX);
}

void
oe_worker_begin(const char *activity)
{
	callers_context = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, activity);
	if (!lock_known_extension())
		lock_extension();
	PushActiveSnapshot(GetTransactionSnapshot());
	oe_spi_connect();
}

void
oe_worker_commit(void)
{
	oe_spi_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, oe_worker_idle_text);
	MemoryContextSwitchTo(callers_context);
}

/* As the main loop of a backend does it. */
ErrorData *
oe_worker_rollback(MemoryContext context)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_IDLE, oe_worker_idle_text);
	RESUME_INTERRUPTS();
	return error;
}

static uint64
execute(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *argtypes, const Datum *values,
		const char *nulls, int expected, bool read_only)
{
	int			rc = SPI_execute_plan(oe_plan_keep(plan, sql, nargs, argtypes),
									  unconstify(Datum *, values), nulls, read_only, 0);

	if (rc != expected)
		elog(ERROR, "unexpected result of a statement: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

uint64
oe_worker_execute(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *argtypes,
				  const Datum *values, const char *nulls, int expected)
{
	return execute(plan, sql, nargs, argtypes, values, nulls, expected, expected == SPI_OK_SELECT);
}

uint64
oe_worker_execute_now(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *argtypes,
					  const Datum *values, const char *nulls, int expected)
{
	return execute(plan, sql, nargs, argtypes, values, nulls, expected, false);
}
