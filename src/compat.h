/*
 * compat.h
 *	  Differences between PostgreSQL 15, 16, 17 and 18.  The only file that may
 *	  look at PG_VERSION_NUM.
 */
#ifndef OE_COMPAT_H
#define OE_COMPAT_H

#include "executor/executor.h"
#include "storage/proc.h"

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

/* 17 replaced pgprocno by a macro over the process array */
#if PG_VERSION_NUM >= 170000
#define oe_compat_my_procno()	((int) MyProcNumber)
#else
#define oe_compat_my_procno()	(MyProc->pgprocno)
#endif

/* 17 lets an extension name its own wait events */
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#define oe_compat_wait_event(name)	WaitEventExtensionNew(name)
#else
#include "utils/wait_event.h"
#define oe_compat_wait_event(name)	PG_WAIT_EXTENSION
#endif

/* 18 gave CreateWaitEventSet a resource owner, as did 17 */
#if PG_VERSION_NUM >= 170000
#define oe_compat_create_wait_event_set(n)	CreateWaitEventSet(NULL, (n))
#else
#define oe_compat_create_wait_event_set(n)	CreateWaitEventSet(TopMemoryContext, (n))
#endif

#endif							/* OE_COMPAT_H */
