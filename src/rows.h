/*
 * rows.h
 *	  Find, lock and change rows of the extension's own tables by primary key,
 *	  below the SQL level.
 */
#ifndef OE_ROWS_H
#define OE_ROWS_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "nodes/lockoptions.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#define OE_ROWS_MAX_KEYS	4

typedef struct OeRows
{
	Relation	rel;
	Relation	index;			/* of the primary key */
	Snapshot	snapshot;		/* what is seen */
	TupleTableSlot *slot;		/* the current row */
	int			nkeys;
	IndexScanDesc scan;			/* open scan, or NULL */
	bool		own_snapshot;
	EState	   *estate;			/* for updates, NULL before the first one */
	ResultRelInfo *rri;
	TupleTableSlot *new_slot;
} OeRows;

typedef enum OeRowLock
{
	OE_ROW_LOCKED,				/* rows->slot has the locked version */
	OE_ROW_BUSY,				/* another transaction has it (LockWaitSkip) */
	OE_ROW_CHANGED,				/* there is a newer version */
	OE_ROW_GONE					/* deleted */
} OeRowLock;

/*
 * Opens a table for look-ups by the first nkeys columns of its primary key.  The
 * relation lock is kept to the end of the transaction.  snapshot NULL: a fresh
 * one (in REPEATABLE READ the transaction's own).  Lives in the current memory
 * context until oe_rows_close; an error cleans up with the transaction.
 */
extern OeRows *oe_rows_open(Oid relid, LOCKMODE lockmode, int nkeys, Snapshot snapshot);
extern void oe_rows_close(OeRows *rows);

/* Takes a fresh snapshot. */
extern void oe_rows_refresh(OeRows *rows);

/* Starts a scan of the rows with these keys; ends one that is open. */
extern void oe_rows_begin(OeRows *rows, const Datum *keys);

/* The next row into rows->slot; false, and the scan ended, when there is none. */
extern bool oe_rows_next(OeRows *rows);

/* Ends the scan and lets go of the current row. */
extern void oe_rows_end(OeRows *rows);

/* oe_rows_begin and oe_rows_next, for a whole key; the row stays valid until the next call. */
extern bool oe_rows_find(OeRows *rows, const Datum *keys);

/*
 * Locks a row for an update that leaves its key alone.  With "latest" a newer
 * version is followed (40001 in REPEATABLE READ); without, a row that changed
 * since it was seen is left unlocked.  LockWaitError raises 55P03, and so
 * does LockWaitBlock while order_engine.lock_wait is off.
 */
extern OeRowLock oe_rows_lock(OeRows *rows, const ItemPointerData *tid,
							  LockWaitPolicy wait_policy, bool latest);

/*
 * Changes n columns of a locked row.  To be seen by this transaction's queries
 * it needs CommandCounterIncrement(), as does a second change of the same row.
 */
extern void oe_rows_update(OeRows *rows, const ItemPointerData *tid, int n,
						   const AttrNumber *attnums, const Datum *values, const bool *nulls);

/* Deletes a locked row. */
extern void oe_rows_delete(OeRows *rows, const ItemPointerData *tid);

/* A column of the current row that is never null. */
extern Datum oe_rows_get(OeRows *rows, AttrNumber attnum);

#endif							/* OE_ROWS_H */
