/*
 * housekeeping.c
 *	  What emptying tables has in common: the rings (outbox, attempt log), positions.
 *
 * Space comes back by TRUNCATE, whose lock conflicts with everything.  Who waits
 * for it makes all others wait behind him, so it is never waited for: it is had
 * at once or tried again later, and that for all relations that TRUNCATE locks,
 * for autovacuum may be at work on a TOAST table alone.
 *
 * Accidents survived: an error in a step (a full disk, a lock of a DBA): it is
 * rolled back and tried again, and events are delivered meanwhile.
 */
#include "postgres.h"

#include "access/table.h"
#include "commands/tablecmds.h"
#include "housekeeping.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "worker_sql.h"

#define AFTER_ERROR_MS	10000
#define LOCK_TIMEOUT	"200ms"

TimestampTz
oe_housekeeping_run(OeStep step, TimestampTz now, const char *what, int *reported)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile TimestampTz next = 0;

	PG_TRY();
	{
		next = step(now);
		*reported = 0;
	}
	PG_CATCH();
	{
		ErrorData  *error = oe_worker_rollback(caller);

		if (*reported != error->sqlerrcode)
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("order_engine: %s failed and will be tried again: %s", what, error->message),
					 errdetail_log("SQLSTATE %s.", unpack_sql_state(error->sqlerrcode))));
		*reported = error->sqlerrcode;
		FreeErrorData(error);
		next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), AFTER_ERROR_MS);
	}
	PG_END_TRY();
	return next;
}

void
oe_housekeeping_limit_waits(void)
{
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

bool
oe_table_is_used(Oid relid)
{
	Relation	rel;
	bool		used;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return true;
	rel = table_open(relid, NoLock);
	used = RelationGetNumberOfBlocks(rel) > 0;
	table_close(rel, AccessShareLock);
	return used;
}

/* The relation is locked. */
static bool
lock_indexes(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	bool		locked = true;

	foreach(lc, indexes)
		locked = locked && ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
	list_free(indexes);
	return locked;
}

bool
oe_table_lock_to_truncate(Oid relid)
{
	Relation	rel;
	Oid			toast;
	bool		locked;

	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	rel = table_open(relid, NoLock);
	locked = lock_indexes(rel);
	toast = rel->rd_rel->reltoastrelid;
	table_close(rel, NoLock);

	if (locked && OidIsValid(toast))
	{
		if (!ConditionalLockRelationOid(toast, AccessExclusiveLock))
			return false;
		rel = table_open(toast, NoLock);
		locked = lock_indexes(rel);
		table_close(rel, NoLock);
	}
	return locked;
}

void
oe_table_truncate(Oid relid)
{
	TruncateStmt *stmt = makeNode(TruncateStmt);

	stmt->relations = list_make1(makeRangeVar(get_namespace_name(get_rel_namespace(relid)),
											  get_rel_name(relid), -1));
	stmt->restart_seqs = false;
	stmt->behavior = DROP_RESTRICT;
	ExecuteTruncate(stmt);
}
