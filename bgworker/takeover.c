/*
 * takeover.c
 *	  Endpoints whose owner is this database on another server.
 *
 * A standby has the endpoints of its primary, and so has a clone.  The standby
 * that was promoted shall go on by itself, and is told by the mark that
 * src/identity.c set; the clone shall not.  Its endpoints are marked instead, in
 * the database, so that a standby of the clone does not take for its primary's
 * what is not.
 *
 * Accidents survived: a crash before the mark says that the database was taken
 * over (it is looked at again, and there is nothing left to do).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "identity.h"
#include "miscadmin.h"
#include "takeover.h"
#include "utils/builtins.h"
#include "worker_sql.h"

/* not those of a copy, which have more behind the token */
#define OTHERS \
	" WHERE owner OPERATOR(pg_catalog.<>) order_engine.database_identity()" \
	" AND pg_catalog.starts_with(owner, $1)" \
	" AND pg_catalog.length(owner) OPERATOR(pg_catalog.=) pg_catalog.length(order_engine.database_identity())"

static uint64
run(SPIPlanPtr *plan, const char *sql, int expected)
{
	static const Oid types[] = {TEXTOID};
	Datum		values[1];
	uint64		nrows;

	values[0] = CStringGetTextDatum(oe_identity_prefix());
	nrows = oe_worker_execute(plan, sql, 1, types, values, NULL, expected);
	SPI_freetuptable(SPI_tuptable);
	return nrows;
}

void
oe_take_over(void)
{
	static SPIPlanPtr look_plan = NULL;
	static SPIPlanPtr take_plan = NULL;
	static SPIPlanPtr leaf_plan = NULL;
	static SPIPlanPtr copy_plan = NULL;
	bool		was_standby = oe_identity_was_standby();
	uint64		n = 0;

	oe_worker_begin("looking whose the endpoints are");
	if (run(&look_plan, "SELECT 1 FROM order_engine.endpoint" OTHERS " LIMIT 1", SPI_OK_SELECT) > 0)
	{
		if (was_standby)
		{
			n = run(&take_plan,
					"UPDATE order_engine.endpoint SET owner = order_engine.database_identity()," \
					" updated_at = pg_catalog.clock_timestamp()" OTHERS,
					SPI_OK_UPDATE);
			/* nobody may have served them for long: that shall not count against them */
			oe_worker_execute(&leaf_plan,
							  "UPDATE order_engine.outbox_leaf SET closed_at = pg_catalog.clock_timestamp()",
							  0, NULL, NULL, NULL, SPI_OK_UPDATE);
		}
		else
			run(&copy_plan,
				"UPDATE order_engine.endpoint SET owner = owner OPERATOR(pg_catalog.||) '/copy'" OTHERS,
				SPI_OK_UPDATE);
	}
	oe_worker_commit();
	if (n > 0)
		ereport(LOG,
				(errmsg("order_engine takes over database %u, whose standby this server was; endpoints: %llu",
						MyDatabaseId, (unsigned long long) n)));
	if (was_standby)
		oe_identity_taken_over();
}
