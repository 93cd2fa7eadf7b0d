/*
 * append.c
 *	  Insert rows into the extension's own tables below the SQL level.
 *
 * A history row and an event are written for every transition; through SPI each
 * would cost an executor start and a snapshot.  Here the tuple goes to the table
 * access method and its indexes directly, as logical replication does it
 * (execReplication.c, ExecSimpleRelationInsert).  An appender lives in the
 * current memory context and no longer than the function that opened it; after
 * an error everything goes with the transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "append.h"
#include "compat.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

struct OeAppender
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;
	int			ncolumns;		/* that the caller gives */
	bool		checked;
};

/* The code counts the columns of its tables; ALTER TABLE may have been there. */
static void
check_columns(Relation rel, int ncolumns)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < ncolumns; i++)
	{
		if (i >= desc->natts || TupleDescAttr(desc, i)->attisdropped)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column %d of relation \"%s\" is missing", i + 1,
							RelationGetRelationName(rel)),
					 errhint("The tables of order_engine may get further columns, but must keep their own."),
					 errtable(rel)));
	}
}

static OeAppender *
begin(Oid relid, int ncolumns, bool checked, bool speculative)
{
	OeAppender *appender = palloc0(sizeof(OeAppender));
	MemoryContext oldcontext;

	appender->ncolumns = ncolumns;
	appender->checked = checked;
	appender->rel = table_open(relid, RowExclusiveLock);
	check_columns(appender->rel, ncolumns);
	appender->estate = CreateExecutorState();

	oldcontext = MemoryContextSwitchTo(appender->estate->es_query_cxt);
	appender->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(appender->rri, appender->rel, 0, NULL, 0);
	ExecOpenIndices(appender->rri, speculative);
	appender->slot = table_slot_create(appender->rel, &appender->estate->es_tupleTable);
	MemoryContextSwitchTo(oldcontext);

	return appender;
}

OeAppender *
oe_append_begin(Oid relid, int ncolumns, bool checked)
{
	return begin(relid, ncolumns, checked, false);
}

/* Puts the row into the slot; columns that the caller does not know become null. */
static void
store(OeAppender *appender, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = appender->slot;
	TupleDesc	desc = RelationGetDescr(appender->rel);

	for (int i = 0; i < desc->natts; i++)
	{
		if ((i >= appender->ncolumns || nulls[i]) && TupleDescAttr(desc, i)->attnotnull)
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("null value in column \"%s\" of relation \"%s\" violates not-null constraint",
							NameStr(TupleDescAttr(desc, i)->attname),
							RelationGetRelationName(appender->rel)),
					 errtablecol(appender->rel, i + 1)));
	}

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, appender->ncolumns * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, appender->ncolumns * sizeof(bool));
	for (int i = appender->ncolumns; i < desc->natts; i++)
	{
		slot->tts_values[i] = (Datum) 0;
		slot->tts_isnull[i] = true;
	}
	ExecStoreVirtualTuple(slot);

	if (appender->checked && desc->constr != NULL)
		ExecConstraints(appender->rri, slot, appender->estate);
}

void
oe_append_row(OeAppender *appender, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = appender->slot;

	store(appender, values, nulls);
	table_tuple_insert(appender->rel, slot, GetCurrentCommandId(true), 0, NULL);
	if (appender->rri->ri_NumIndices > 0)
		list_free(oe_compat_insert_index_tuples(appender->rri, slot, appender->estate));
	ResetPerTupleExprContext(appender->estate);
}

void
oe_append_end(OeAppender *appender)
{
	ExecResetTupleTable(appender->estate->es_tupleTable, false);
	ExecCloseIndices(appender->rri);
	table_close(appender->rel, NoLock);
	FreeExecutorState(appender->estate);
	pfree(appender);
}

void
oe_append(Oid relid, int ncolumns, bool checked, Datum *values, bool *nulls)
{
	OeAppender *appender = oe_append_begin(relid, ncolumns, checked);

	oe_append_row(appender, values, nulls);
	oe_append_end(appender);
}

/*
 * As nodeModifyTable.c does it for ON CONFLICT DO NOTHING: while the row is
 * speculative it can be taken back without an abort of the transaction.
 */
bool
oe_append_unless_exists(Oid relid, int ncolumns, Datum *values, bool *nulls)
{
	OeAppender *appender = begin(relid, ncolumns, false, true);
	TransactionId xid = GetCurrentTransactionId();
	bool		conflict = false;
	uint32		token;

	store(appender, values, nulls);

	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(appender->rel, appender->slot, GetCurrentCommandId(true),
								   0, NULL, token);
	oe_compat_insert_index_tuples_speculative(appender->rri, appender->slot, appender->estate,
											  &conflict);
	table_tuple_complete_speculative(appender->rel, appender->slot, token, !conflict);
	SpeculativeInsertionLockRelease(xid);

	oe_append_end(appender);
	return !conflict;
}
