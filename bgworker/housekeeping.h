/*
 * housekeeping.h
 *	  What emptying tables has in common: the rings (outbox, attempt log), positions.
 */
#ifndef OE_HOUSEKEEPING_H
#define OE_HOUSEKEEPING_H

#include "datatype/timestamp.h"

/* A step; runs its own transactions, returns when the next one is due. */
typedef TimestampTz (*OeStep) (TimestampTz now);

/*
 * Runs a step, which must not end the worker: an error is rolled back and
 * logged, once for each SQLSTATE in a row ("*reported" remembers it), and the
 * step is due again some seconds later.  In no transaction.
 */
extern TimestampTz oe_housekeeping_run(OeStep step, TimestampTz now, const char *what, int *reported);

/* For a step's transaction: what waits for a lock all the same fails soon. */
extern void oe_housekeeping_limit_waits(void);

/*
 * Has the table a file with something in it?  Waits for nothing: of a table that
 * is locked it says true.
 */
extern bool oe_table_is_used(Oid relid);

/* Locks a table and all that TRUNCATE locks with it, if it can be had at once. */
extern bool oe_table_lock_to_truncate(Oid relid);

/* Truncates a table that is locked so. */
extern void oe_table_truncate(Oid relid);

#endif							/* OE_HOUSEKEEPING_H */
