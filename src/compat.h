/*
 * compat.h
 *	  Differences between PostgreSQL 15, 16, 17 and 18.  The only file that may
 *	  look at PG_VERSION_NUM.
 */
#ifndef OE_COMPAT_H
#define OE_COMPAT_H

#include "access/genam.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "storage/proc.h"
#include "utils/relcache.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "order_engine needs PostgreSQL 15 or later"
#endif

/* 16 added onlySummarizing */
static inline List *
oe_compat_insert_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, false);
#else
	return ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL);
#endif
}

/* as ExecInsertIndexTuples for a speculatively inserted row; *conflict tells that another row has the key */
static inline void
oe_compat_insert_index_tuples_speculative(ResultRelInfo *rri, TupleTableSlot *slot, EState *estate,
										  bool *conflict)
{
#if PG_VERSION_NUM >= 160000
	list_free(ExecInsertIndexTuples(rri, slot, estate, false, true, conflict, NIL, false));
#else
	list_free(ExecInsertIndexTuples(rri, slot, estate, false, true, conflict, NIL));
#endif
}

/* Updates a locked row and its indexes.  16 tells summarizing indexes apart */
static inline void
oe_compat_update_row(ResultRelInfo *rri, ItemPointer tid, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update_indexes;

	simple_table_tuple_update(rri->ri_RelationDesc, tid, slot, InvalidSnapshot, &update_indexes);
	if (rri->ri_NumIndices > 0 && update_indexes != TU_None)
		list_free(ExecInsertIndexTuples(rri, slot, estate, true, false, NULL, NIL,
										update_indexes == TU_Summarizing));
#else
	bool		update_indexes;

	simple_table_tuple_update(rri->ri_RelationDesc, tid, slot, InvalidSnapshot, &update_indexes);
	if (rri->ri_NumIndices > 0 && update_indexes)
		list_free(ExecInsertIndexTuples(rri, slot, estate, true, false, NULL, NIL));
#endif
}

/* 18 added instrumentation */
static inline IndexScanDesc
oe_compat_index_beginscan(Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

/* 18 may return a deferrable key unless told not to */
static inline Oid
oe_compat_primary_key(Relation rel)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(rel, false);
#else
	return RelationGetPrimaryKeyIndex(rel);
#endif
}

/* 17 moved the local transaction id */
#if PG_VERSION_NUM >= 170000
#define oe_compat_my_lxid()	(MyProc->vxid.lxid)
#else
#define oe_compat_my_lxid()	(MyProc->lxid)
#endif

/* 17 replaced pgprocno by MyProcNumber */
#if PG_VERSION_NUM >= 170000
#define oe_compat_my_procno()	((int) MyProcNumber)
#else
#define oe_compat_my_procno()	(MyProc->pgprocno)
#endif

/* 17 lets an extension name its own wait events */
#if PG_VERSION_NUM >= 170000
#define oe_compat_wait_event(name)	WaitEventExtensionNew(name)
#else
#define oe_compat_wait_event(name)	PG_WAIT_EXTENSION
#endif

/* 17 asks for a resource owner, which may be none, instead of a memory context */
#if PG_VERSION_NUM >= 170000
#define oe_compat_create_wait_event_set(n)	CreateWaitEventSet(NULL, (n))
#else
#define oe_compat_create_wait_event_set(n)	CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* 17 limits how long a transaction may last: settings as name and value, for an array of such */
#if PG_VERSION_NUM >= 170000
#define OE_COMPAT_NO_TRANSACTION_TIMEOUT	{"transaction_timeout", "0"},
#else
#define OE_COMPAT_NO_TRANSACTION_TIMEOUT
#endif

/* 18 put pg_noreturn, in front of a declaration, in the place of pg_attribute_noreturn() */
#if PG_VERSION_NUM < 180000
#define pg_noreturn	pg_attribute_noreturn()
#endif

#endif							/* OE_COMPAT_H */
