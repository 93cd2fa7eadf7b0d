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
#include "executor/nodeModifyTable.h"
#include "nodes/makefuncs.h"
#include "rewrite/rewriteHandler.h"
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
	ExprState **defaults;		/* of the columns behind these; NULL: all are null */
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

/*
 * The defaults of columns that the code does not know.  An upgrade of the extension
 * may have added one that must not be null, and this library, which is loaded until
 * the server is restarted, must still be able to write.  They are made ready anew for
 * each appender: it is for the few tables that have such a column.
 */
static void
prepare_defaults(OeAppender *appender)
{
	TupleDesc	desc = RelationGetDescr(appender->rel);

	for (int i = appender->ncolumns; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Node	   *expr;

		if (att->attisdropped || att->attgenerated)
			continue;
		/* also those of identity columns and of domains */
		expr = build_column_default(appender->rel, i + 1);
		if (expr == NULL)
			continue;
		if (appender->defaults == NULL)
			appender->defaults = palloc0(sizeof(ExprState *) * desc->natts);
		appender->defaults[i] = ExecPrepareExpr((Expr *) expr, appender->estate);
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
	if (RelationGetDescr(appender->rel)->natts > ncolumns)
		prepare_defaults(appender);
	MemoryContextSwitchTo(oldcontext);

	return appender;
}

OeAppender *
oe_append_begin(Oid relid, int ncolumns, bool checked)
{
	return begin(relid, ncolumns, checked, false);
}

static void
check_not_null(OeAppender *appender, const bool *nulls, int from, int to)
{
	TupleDesc	desc = RelationGetDescr(appender->rel);

	for (int i = from; i < to; i++)
	{
		if (nulls[i] && TupleDescAttr(desc, i)->attnotnull)
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("null value in column \"%s\" of relation \"%s\" violates not-null constraint",
							NameStr(TupleDescAttr(desc, i)->attname),
							RelationGetRelationName(appender->rel)),
					 errtablecol(appender->rel, i + 1)));
	}
}

/* Fills the columns that the caller does not know. */
static void
store_added(OeAppender *appender)
{
	TupleTableSlot *slot = appender->slot;
	TupleDesc	desc = RelationGetDescr(appender->rel);

	for (int i = appender->ncolumns; i < desc->natts; i++)
	{
		slot->tts_values[i] = (Datum) 0;
		slot->tts_isnull[i] = true;
		if (appender->defaults != NULL && appender->defaults[i] != NULL)
			slot->tts_values[i] =
				ExecEvalExprSwitchContext(appender->defaults[i],
										  GetPerTupleExprContext(appender->estate),
										  &slot->tts_isnull[i]);
	}
	ExecStoreVirtualTuple(slot);
	if (desc->constr != NULL && desc->constr->has_generated_stored)
		ExecComputeStoredGenerated(appender->rri, appender->estate, slot, CMD_INSERT);
	check_not_null(appender, slot->tts_isnull, appender->ncolumns, desc->natts);
}

/* Puts the row into the slot. */
static void
store(OeAppender *appender, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = appender->slot;
	TupleDesc	desc = RelationGetDescr(appender->rel);

	check_not_null(appender, nulls, 0, appender->ncolumns);
	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, appender->ncolumns * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, appender->ncolumns * sizeof(bool));
	if (desc->natts > appender->ncolumns)
		store_added(appender);
	else
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
