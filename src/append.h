/*
 * append.h
 *	  Insert rows into the extension's own tables below the SQL level.
 */
#ifndef OE_APPEND_H
#define OE_APPEND_H

#include "relations.h"

typedef struct OeAppender OeAppender;

/*
 * For rows whose constraints the code has checked already: to check each again
 * would parse it anew for every statement.  An assert build does, and so proves
 * that the code is no laxer than the table.
 */
#ifdef USE_ASSERT_CHECKING
#define OE_CHECKED	true
#else
#define OE_CHECKED	false
#endif

/*
 * Opens a table (RowExclusiveLock, kept to the end of the transaction) and its
 * indexes.  ncolumns is how many columns the code knows; 42703 when the table
 * lacks one of them.  Columns that somebody added behind these get their defaults,
 * and generated ones are computed.  With
 * "checked" each row passes the table's CHECK constraints.  NOT NULL is always
 * checked; triggers never fire and grants are not consulted: it is for rows that
 * this extension makes, never for a caller's table.
 */
extern OeAppender *oe_append_begin(Oid relid, int ncolumns, bool checked);

/*
 * Inserts one row, at oe_append_end() at the latest.  values and nulls have one entry
 * for each of the ncolumns columns, in the order of the table.  Either raises what the
 * table raises (23505, 23514, 23502).  The row becomes visible to this transaction's
 * queries at the CommandCounterIncrement() after oe_append_end().
 */
extern void oe_append_row(OeAppender *appender, Datum *values, bool *nulls);

extern void oe_append_end(OeAppender *appender);

/* The three calls in one, for a single row. */
extern void oe_append(Oid relid, int ncolumns, bool checked, Datum *values, bool *nulls);

/*
 * Inserts one row unless another one has a key of it, committed or not; returns
 * whether it did.  Never waits for another transaction.  CHECK constraints are
 * not consulted.
 */
extern bool oe_append_unless_exists(Oid relid, int ncolumns, Datum *values, bool *nulls);

#endif							/* OE_APPEND_H */
