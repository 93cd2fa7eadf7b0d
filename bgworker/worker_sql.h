/*
 * worker_sql.h
 *	  Transactions and kept plans of the worker.
 */
#ifndef OE_WORKER_SQL_H
#define OE_WORKER_SQL_H

#include "executor/spi.h"

/*
 * Begins a transaction with SPI and an active snapshot.  Ends the process
 * quietly when the extension is gone.  "activity" is for pg_stat_activity.
 */
extern void oe_worker_begin(const char *activity);

/* What pg_stat_activity shows between two transactions. */
extern const char *oe_worker_idle_text;

/* Commits it.  The caller's memory context is current again. */
extern void oe_worker_commit(void);

/*
 * In PG_CATCH, for an error that shall not end the worker: rolls back and
 * returns the error, a copy in the context, which is current again.
 */
extern ErrorData *oe_worker_rollback(MemoryContext context);

/*
 * Runs one of the worker's statements; "*plan" keeps its plan.  Raises an error
 * unless SPI answers with "expected".  Returns the number of rows.
 */
extern uint64 oe_worker_execute(SPIPlanPtr *plan, const char *sql, int nargs,
								const Oid *argtypes, const Datum *values,
								const char *nulls, int expected);

/*
 * The same with a snapshot that is taken now, for what depends on a lock that
 * this transaction took or on what it wrote, and for a SELECT that writes.
 */
extern uint64 oe_worker_execute_now(SPIPlanPtr *plan, const char *sql, int nargs,
									const Oid *argtypes, const Datum *values,
									const char *nulls, int expected);

#endif							/* OE_WORKER_SQL_H */
