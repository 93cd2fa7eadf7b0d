/*
 * rows.c
 *	  Find, lock and change rows of the extension's own tables by primary key.
 *
 * A row of stock is looked up, locked and changed for every line of every order.
 * Through SPI each would cost an executor start and a plan check; here the index
 * and the table are asked directly, as logical replication does it
 * (execReplication.c).  Locks, waits, serializable conflicts and write-ahead log
 * are those of the table access method, so nothing differs from an UPDATE but
 * that triggers and row security of these tables are not consulted.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "rows.h"
#include "settings.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

static Snapshot
fresh_snapshot(void)
{
	return RegisterSnapshot(IsolationUsesXactSnapshot() ?
							GetTransactionSnapshot() : GetLatestSnapshot());
}

OeRows *
oe_rows_open(Oid relid, LOCKMODE lockmode, int nkeys, Snapshot snapshot)
{
	OeRows	   *rows = palloc0(sizeof(OeRows));

	rows->rel = table_open(relid, lockmode);
	rows->index = index_open(oe_compat_primary_key(rows->rel), lockmode);
	rows->slot = table_slot_create(rows->rel, NULL);
	rows->nkeys = nkeys;
	rows->own_snapshot = (snapshot == NULL);
	rows->snapshot = rows->own_snapshot ? fresh_snapshot() : snapshot;
	return rows;
}

void
oe_rows_close(OeRows *rows)
{
	oe_rows_end(rows);
	if (rows->estate != NULL)
	{
		ExecDropSingleTupleTableSlot(rows->new_slot);
		ExecCloseIndices(rows->rri);
		FreeExecutorState(rows->estate);
	}
	if (rows->own_snapshot)
		UnregisterSnapshot(rows->snapshot);
	ExecDropSingleTupleTableSlot(rows->slot);
	index_close(rows->index, NoLock);
	table_close(rows->rel, NoLock);
	pfree(rows);
}

void
oe_rows_refresh(OeRows *rows)
{
	Assert(rows->own_snapshot);
	oe_rows_end(rows);
	UnregisterSnapshot(rows->snapshot);
	rows->snapshot = fresh_snapshot();
}

static RegProcedure
equality_of(Oid type)
{
	switch (type)
	{
		case TEXTOID:
			return F_TEXTEQ;
		case INT8OID:
			return F_INT8EQ;
		case INT4OID:
			return F_INT4EQ;
		case INT2OID:
			return F_INT2EQ;
		default:
			elog(ERROR, "no equality for key type %u", type);
			return InvalidOid;
	}
}

void
oe_rows_begin(OeRows *rows, const Datum *keys)
{
	ScanKeyData skeys[OE_ROWS_MAX_KEYS];

	Assert(rows->nkeys <= OE_ROWS_MAX_KEYS);
	oe_rows_end(rows);
	for (int i = 0; i < rows->nkeys; i++)
	{
		ScanKeyInit(&skeys[i], i + 1, BTEqualStrategyNumber,
					equality_of(TupleDescAttr(RelationGetDescr(rows->index), i)->atttypid),
					keys[i]);
		skeys[i].sk_collation = rows->index->rd_indcollation[i];
	}
	rows->scan = oe_compat_index_beginscan(rows->rel, rows->index, rows->snapshot, rows->nkeys);
	index_rescan(rows->scan, skeys, rows->nkeys, NULL, 0);
}

bool
oe_rows_next(OeRows *rows)
{
	if (index_getnext_slot(rows->scan, ForwardScanDirection, rows->slot))
		return true;
	oe_rows_end(rows);
	return false;
}

void
oe_rows_end(OeRows *rows)
{
	ExecClearTuple(rows->slot);
	if (rows->scan != NULL)
	{
		index_endscan(rows->scan);
		rows->scan = NULL;
	}
}

bool
oe_rows_find(OeRows *rows, const Datum *keys)
{
	oe_rows_begin(rows, keys);
	return oe_rows_next(rows);
}

OeRowLock
oe_rows_lock(OeRows *rows, const ItemPointerData *tid, LockWaitPolicy wait_policy, bool latest)
{
	ItemPointerData current = *tid;
	TM_FailureData tmfd;
	TM_Result	result;
	uint8		flags = 0;

	/* no scan and no pin is held while waiting */
	oe_rows_end(rows);

	if (wait_policy == LockWaitBlock && !oe_lock_wait)
		wait_policy = LockWaitError;

	/*
	 * Without TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS: when an update of the row
	 * commits just now it would lock the newer version as well, whatever the wait
	 * policy, and then report that the row has changed: a lock that nobody knows
	 * of.  It is for weaker locks than this one, beside which a row can be updated.
	 */
	if (latest && !IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;

	result = table_tuple_lock(rows->rel, &current, rows->snapshot, rows->slot,
							  GetCurrentCommandId(true), LockTupleNoKeyExclusive,
							  wait_policy, flags, &tmfd);
	switch (result)
	{
		case TM_Ok:
			return OE_ROW_LOCKED;
		case TM_WouldBlock:
			return OE_ROW_BUSY;
		case TM_Updated:
		case TM_Deleted:
			if (latest && IsolationUsesXactSnapshot())
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("could not serialize access due to concurrent update")));
			return result == TM_Updated ? OE_ROW_CHANGED : OE_ROW_GONE;
		case TM_SelfModified:
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					 errmsg("a row of \"%s\" was already changed by the command that is running",
							RelationGetRelationName(rows->rel))));
			break;
		default:
			elog(ERROR, "unexpected result of table_tuple_lock: %u", result);
	}
	return OE_ROW_GONE;
}

static void
prepare_update(OeRows *rows)
{
	MemoryContext oldcontext;

	rows->estate = CreateExecutorState();
	oldcontext = MemoryContextSwitchTo(rows->estate->es_query_cxt);
	rows->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(rows->rri, rows->rel, 0, NULL, 0);
	ExecOpenIndices(rows->rri, false);
	MemoryContextSwitchTo(oldcontext);
	rows->new_slot = table_slot_create(rows->rel, NULL);
}

void
oe_rows_update(OeRows *rows, const ItemPointerData *tid, int n,
			   const AttrNumber *attnums, const Datum *values, const bool *nulls)
{
	ItemPointerData current = *tid;
	TupleTableSlot *slot;

	if (rows->estate == NULL)
		prepare_update(rows);
	slot = rows->new_slot;

	/* the lock keeps the version where it is */
	if (TTS_EMPTY(rows->slot) || !ItemPointerEquals(&rows->slot->tts_tid, &current))
	{
		oe_rows_end(rows);
		if (!table_tuple_fetch_row_version(rows->rel, &current, SnapshotAny, rows->slot))
			elog(ERROR, "could not fetch a locked row of \"%s\"", RelationGetRelationName(rows->rel));
	}

	slot_getallattrs(rows->slot);
	ExecClearTuple(slot);
	memcpy(slot->tts_values, rows->slot->tts_values,
		   rows->slot->tts_tupleDescriptor->natts * sizeof(Datum));
	memcpy(slot->tts_isnull, rows->slot->tts_isnull,
		   rows->slot->tts_tupleDescriptor->natts * sizeof(bool));
	for (int i = 0; i < n; i++)
	{
		slot->tts_values[attnums[i] - 1] = values[i];
		slot->tts_isnull[attnums[i] - 1] = nulls != NULL && nulls[i];
	}
	ExecStoreVirtualTuple(slot);

	/* somebody's own column; as for an INSERT, because what changed is not told to the executor */
	if (RelationGetDescr(rows->rel)->constr != NULL &&
		RelationGetDescr(rows->rel)->constr->has_generated_stored)
		ExecComputeStoredGenerated(rows->rri, rows->estate, slot, CMD_INSERT);

#ifdef USE_ASSERT_CHECKING
	/* the callers compute what the constraints demand; assert builds prove it */
	if (RelationGetDescr(rows->rel)->constr != NULL)
		ExecConstraints(rows->rri, slot, rows->estate);
#endif
	oe_compat_update_row(rows->rri, &current, slot, rows->estate);
	ResetPerTupleExprContext(rows->estate);
	oe_rows_end(rows);
}

void
oe_rows_delete(OeRows *rows, const ItemPointerData *tid)
{
	ItemPointerData current = *tid;

	oe_rows_end(rows);
	simple_table_tuple_delete(rows->rel, &current, InvalidSnapshot);
}

Datum
oe_rows_get(OeRows *rows, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(rows->slot, attnum, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d of \"%s\"", attnum,
			 RelationGetRelationName(rows->rel));
	return value;
}
