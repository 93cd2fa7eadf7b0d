/*
 * query.c
 *	  The extension's own queries: prepared once, kept, checked.
 *
 * A kept plan lives as long as the backend.  The server's plan cache plans it
 * again when a table it uses changes; after DROP EXTENSION each use fails with
 * undefined_table, and after the next CREATE EXTENSION it works again.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "query.h"
#include "utils/guc.h"

void
oe_spi_connect(void)
{
	int			result = SPI_connect();

	if (result != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect returned %s", SPI_result_code_string(result));
}

void
oe_spi_finish(void)
{
	int			result = SPI_finish();

	if (result != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish returned %s", SPI_result_code_string(result));
}

SPIPlanPtr
oe_plan_keep(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types)
{
	SPIPlanPtr	prepared;

	if (*plan != NULL)
		return *plan;

	prepared = SPI_prepare(sql, nargs, unconstify(Oid *, types));
	if (prepared == NULL)
		elog(ERROR, "SPI_prepare returned %s for \"%s\"", SPI_result_code_string(SPI_result), sql);
	if (SPI_keepplan(prepared) != 0)
		elog(ERROR, "SPI_keepplan failed for \"%s\"", sql);
	*plan = prepared;
	return prepared;
}

uint64
oe_query_run(OeQuery *query, Datum *values, const char *nulls, bool read_only, int expected)
{
	SPIPlanPtr	plan = oe_plan_keep(&query->plan, query->sql, query->nargs, query->types);
	int			result = SPI_execute_plan(plan, values, nulls, read_only, 0);

	if (result != expected)
		elog(ERROR, "SPI_execute_plan returned %s for \"%s\"",
			 SPI_result_code_string(result), query->sql);
	return SPI_processed;
}

void
oe_owner_begin(OeOwner *saved, Oid owner)
{
	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	SetUserIdAndSecContext(owner, saved->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);

	/* below a verb it is set already, and setting it is not free */
	saved->guc_level = 0;
	if (strcmp(namespace_search_path, OE_SAFE_SEARCH_PATH) != 0)
	{
		saved->guc_level = NewGUCNestLevel();
		(void) set_config_option("search_path", OE_SAFE_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	}
}

void
oe_owner_end(const OeOwner *saved)
{
	if (saved->guc_level != 0)
		AtEOXact_GUC(true, saved->guc_level);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}
