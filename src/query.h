/*
 * query.h
 *	  The extension's own queries: prepared once, kept, checked.
 */
#ifndef OE_QUERY_H
#define OE_QUERY_H

#include "executor/spi.h"

#define OE_QUERY_MAX_ARGS	10

/*
 * A query as a static variable:
 *
 *		static OeQuery query = {"SELECT ... WHERE order_id = $1", 1, {INT8OID}};
 *
 * Names in it are qualified with their schema, because it may be prepared and
 * planned again at any time.
 */
typedef struct OeQuery
{
	const char *sql;
	int			nargs;
	Oid			types[OE_QUERY_MAX_ARGS];
	SPIPlanPtr	plan;			/* NULL until the first use */
} OeQuery;

/* SPI_connect and SPI_finish with their results checked. */
extern void oe_spi_connect(void);
extern void oe_spi_finish(void);

/* Prepares a statement unless "*plan" has it already, and keeps it there. */
extern SPIPlanPtr oe_plan_keep(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types);

/*
 * Runs a query; the caller is connected to SPI.  nulls may be NULL for no nulls.
 * Raises an error unless SPI answers with "expected" (SPI_OK_SELECT, ...).
 * Returns the number of rows; SPI_tuptable has them.
 */
extern uint64 oe_query_run(OeQuery *query, Datum *values, const char *nulls,
						   bool read_only, int expected);

/* what a function finds that says no schema */
#define OE_SAFE_SEARCH_PATH	"pg_catalog, pg_temp"

/*
 * For triggers, where any user may be current and any search_path set: from
 * begin to end queries run as the owner of our tables, with search_path
 * pg_catalog, pg_temp.  An error in between needs no cleaning up, the end of
 * the (sub)transaction restores both.
 */
typedef struct OeOwner
{
	Oid			userid;
	int			sec_context;
	int			guc_level;		/* 0: search_path was right already */
} OeOwner;

extern void oe_owner_begin(OeOwner *saved, Oid owner);
extern void oe_owner_end(const OeOwner *saved);

#endif							/* OE_QUERY_H */
