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

/* rows that are inserted at once: of one page they need one record in the log */
#define MAX_PENDING	16

struct OeAppender
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slots[MAX_PENDING]; /* of rows that are yet to be inserted, and used ones */
	int			nslots;
	int			npending;
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

OeAppender *
oe_append_begin(Oid relid, int ncolumns, bool checked)
{
	OeAppender *appender = palloc0(sizeof(OeAppender));
	MemoryContext oldcontext;

	appender->ncolumns = ncolumns;
	appender->checked = checked;
	appender->rel = table_open(relid, RowExclusiveLock);
	check_columns(appender->rel, ncolumns);
	appender->estate = CreateExecutorState();

	oldcontext = MemoryContextSwitchTo(appender->estate->es_query_cxt);
	/* not InitResultRelInfo(): it would copy the triggers, which never fire here */
	appender->rri = makeNode(ResultRelInfo);
	appender->rri->ri_RelationDesc = appender->rel;
	/* what "speculative" prepares is for an index whose conflicts are looked for beforehand */
	ExecOpenIndices(appender->rri, false);
	if (RelationGetDescr(appender->rel)->natts > ncolumns)
		prepare_defaults(appender);
	MemoryContextSwitchTo(oldcontext);

	return appender;
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
store_added(OeAppender *appender, TupleTableSlot *slot)
{
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

/* Puts a row into the next slot, which refers to the values where they are. */
static TupleTableSlot *
store(OeAppender *appender, Datum *values, bool *nulls)
{
	TupleDesc	desc = RelationGetDescr(appender->rel);
	TupleTableSlot *slot;

	check_not_null(appender, nulls, 0, appender->ncolumns);
	if (appender->npending == appender->nslots)
		appender->slots[appender->nslots++] = ExecInitExtraTupleSlot(appender->estate, desc, &TTSOpsVirtual);
	slot = appender->slots[appender->npending];
	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, appender->ncolumns * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, appender->ncolumns * sizeof(bool));
	if (desc->natts > appender->ncolumns)
		store_added(appender, slot);
	else
		ExecStoreVirtualTuple(slot);

	if (appender->checked && desc->constr != NULL)
		ExecConstraints(appender->rri, slot, appender->estate);
	return slot;
}

static void
insert_pending(OeAppender *appender)
{
	TupleTableSlot **slots = appender->slots;
	CommandId	cid = GetCurrentCommandId(true);

	if (appender->npending == 1)
		table_tuple_insert(appender->rel, slots[0], cid, 0, NULL);
	else if (appender->npending > 1)
		table_multi_insert(appender->rel, slots, appender->npending, cid, 0, NULL);

	for (int i = 0; i < appender->npending && appender->rri->ri_NumIndices > 0; i++)
		list_free(oe_compat_insert_index_tuples(appender->rri, slots[i], appender->estate));
	appender->npending = 0;
	ResetPerTupleExprContext(appender->estate);
}

void
oe_append_row(OeAppender *appender, Datum *values, bool *nulls)
{
	/* the caller may be about to free what the values point to */
	ExecMaterializeSlot(store(appender, values, nulls));
	if (++appender->npending == MAX_PENDING)
		insert_pending(appender);
}

void
oe_append_end(OeAppender *appender)
{
	insert_pending(appender);
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

	(void) store(appender, values, nulls);
	appender->npending = 1;
	oe_append_end(appender);
}

/*
 * As nodeModifyTable.c does it for ON CONFLICT DO NOTHING: while the row is
 * speculative it can be taken back without an abort of the transaction.
 */
bool
oe_append_unless_exists(Oid relid, int ncolumns, Datum *values, bool *nulls)
{
	OeAppender *appender = oe_append_begin(relid, ncolumns, false);
	TransactionId xid = GetCurrentTransactionId();
	bool		conflict = false;
	TupleTableSlot *slot = store(appender, values, nulls);
	uint32		token;

	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(appender->rel, slot, GetCurrentCommandId(true),
								   0, NULL, token);
	oe_compat_insert_index_tuples_speculative(appender->rri, slot, appender->estate,
											  &conflict);
	table_tuple_complete_speculative(appender->rel, slot, token, !conflict);
	SpeculativeInsertionLockRelease(xid);

	oe_append_end(appender);
	return !conflict;
}
