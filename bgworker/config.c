/*
 * config.c
 *	  The worker's view of the endpoints' settings.
 *
 * The tables are read as a whole whenever one of them changed, which reaches
 * the worker as an invalidation of the table endpoint: a trigger on both tables
 * sends it (src/endpoint.c).  An endpoint that is gone is forgotten as soon as
 * none of its requests is under way.
 */
#include "postgres.h"

#include "ack.h"
#include "catalog/pg_type.h"
#include "config.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "relations.h"
#include "seal.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker_sql.h"

bool		oe_config_changed = true;

/* remembered, because a look-up inside the callback could recurse */
static Oid	endpoint_relid = InvalidOid;

enum
{
	COL_ENDPOINT_ID = 1, COL_NAME, COL_ACTIVE, COL_URL, COL_EVENT_TYPES, COL_HEADERS, COL_ORDERED,
	COL_MAX_IN_FLIGHT, COL_CONNECT_TIMEOUT, COL_TIMEOUT, COL_SCHEDULE, COL_MAX_AGE, COL_START
};

static void
invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == endpoint_relid)
		oe_config_changed = true;
}

void
oe_config_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/* A text[] column as C strings in the current context. */
static char **
text_array(Datum datum, int *n)
{
	Datum	   *elements;
	char	  **result;

	deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, n);
	result = palloc(Max(*n, 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
		result[i] = TextDatumGetCString(elements[i]);
	return result;
}

static void
configure(OeEndpoint *endpoint, HeapTuple tuple, TupleDesc desc)
{
	MemoryContext old;
	bool		isnull;
	Datum		datum;
	Datum	   *steps;

	MemoryContextReset(endpoint->config_context);
	old = MemoryContextSwitchTo(endpoint->config_context);

	endpoint->name = SPI_getvalue(tuple, desc, COL_NAME);
	endpoint->name = pstrdup(endpoint->name);
	endpoint->active = DatumGetBool(SPI_getbinval(tuple, desc, COL_ACTIVE, &isnull));
	endpoint->url = TextDatumGetCString(SPI_getbinval(tuple, desc, COL_URL, &isnull));
	endpoint->globs = text_array(SPI_getbinval(tuple, desc, COL_EVENT_TYPES, &isnull),
								 &endpoint->nglobs);
	datum = SPI_getbinval(tuple, desc, COL_HEADERS, &isnull);
	endpoint->nheaders = 0;
	if (!isnull)
		endpoint->headers = text_array(datum, &endpoint->nheaders);
	endpoint->ordered = DatumGetBool(SPI_getbinval(tuple, desc, COL_ORDERED, &isnull));
	endpoint->max_in_flight = DatumGetInt32(SPI_getbinval(tuple, desc, COL_MAX_IN_FLIGHT, &isnull));
	endpoint->connect_timeout_ms = (long)
		DatumGetInt64(SPI_getbinval(tuple, desc, COL_CONNECT_TIMEOUT, &isnull));
	endpoint->timeout_ms = (long) DatumGetInt64(SPI_getbinval(tuple, desc, COL_TIMEOUT, &isnull));
	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(tuple, desc, COL_SCHEDULE, &isnull)),
					  INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &steps, NULL, &endpoint->nsteps);
	endpoint->schedule = palloc(Max(endpoint->nsteps, 1) * sizeof(int64));
	for (int i = 0; i < endpoint->nsteps; i++)
		endpoint->schedule[i] = DatumGetInt64(steps[i]);
	endpoint->max_age = DatumGetInt64(SPI_getbinval(tuple, desc, COL_MAX_AGE, &isnull));
	endpoint->nsecrets = 0;
	endpoint->configured = true;

	MemoryContextSwitchTo(old);
}

static void
load_secrets(void)
{
	static SPIPlanPtr plan = NULL;
	static Bitmapset *unreadable = NULL;	/* endpoints that the log was told of */
	MemoryContext old;
	uint64		nrows;

	nrows = oe_worker_execute(&plan,
							  "SELECT endpoint_id, secret, expires_at, key_id"
							  " FROM order_engine.endpoint_secret"
							  " WHERE kind = 'signing'"
							  " ORDER BY endpoint_id, created_at DESC",
							  0, NULL, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		OeEndpoint *endpoint = oe_endpoint_find(DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull)));
		bytea	   *secret;
		uint8	   *plain;
		size_t		len;
		uint8	   *copy;
		Datum		expires;
		char		why[256];

		if (endpoint == NULL || !endpoint->configured || endpoint->nsecrets == OE_MAX_SECRETS)
			continue;
		secret = DatumGetByteaPP(SPI_getbinval(tuple, desc, 2, &isnull));
		if (!oe_unseal(endpoint->endpoint_id, "signing", SPI_getvalue(tuple, desc, 4), secret,
					   &plain, &len, why, sizeof(why)))
		{
			if (bms_is_member(endpoint->endpoint_id, unreadable))
				continue;
			ereport(WARNING,
					(errmsg("a secret of endpoint \"%s\" cannot be read: %s", endpoint->name, why)));
			old = MemoryContextSwitchTo(TopMemoryContext);
			unreadable = bms_add_member(unreadable, endpoint->endpoint_id);
			MemoryContextSwitchTo(old);
			continue;
		}
		copy = MemoryContextAlloc(endpoint->config_context, len);
		memcpy(copy, plain, len);
		explicit_bzero(plain, len);
		pfree(plain);
		expires = SPI_getbinval(tuple, desc, 3, &isnull);
		endpoint->secrets[endpoint->nsecrets].bytes = copy;
		endpoint->secrets[endpoint->nsecrets].len = len;
		endpoint->secret_expires[endpoint->nsecrets] = isnull ? 0 : DatumGetTimestampTz(expires);
		endpoint->nsecrets++;
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * A copy of a database has the endpoints of the original.  Each says whose it
 * is, so that it does not matter in what order a restore brings the tables.
 */
static void
report_foreign(void)
{
	static SPIPlanPtr plan = NULL;
	static bool reported = false;
	bool		foreign;

	foreign = oe_worker_execute(&plan,
								"SELECT 1 FROM order_engine.endpoint"
								" WHERE owner <> order_engine.database_identity() LIMIT 1",
								0, NULL, NULL, NULL, SPI_OK_SELECT) > 0;
	SPI_freetuptable(SPI_tuptable);
	if (foreign && !reported)
		ereport(LOG,
				(errmsg("order_engine does not send to endpoints of database %u that it has as a copy of another database",
						MyDatabaseId),
				 errhint("Call order_engine.adopt_database() there if it shall.")));
	reported = foreign;
}

/* Rows that were written for an endpoint while it was being dropped. */
static void
remove_orphans(void)
{
	static SPIPlanPtr retry_plan = NULL;
	static SPIPlanPtr dead_plan = NULL;

	oe_worker_execute(&retry_plan,
					  "DELETE FROM order_engine.delivery_retry r WHERE NOT EXISTS"
					  " (SELECT FROM order_engine.endpoint e WHERE e.endpoint_id = r.endpoint_id)",
					  0, NULL, NULL, NULL, SPI_OK_DELETE);
	oe_worker_execute(&dead_plan,
					  "DELETE FROM order_engine.delivery_dead d WHERE NOT EXISTS"
					  " (SELECT FROM order_engine.endpoint e WHERE e.endpoint_id = d.endpoint_id)",
					  0, NULL, NULL, NULL, SPI_OK_DELETE);
}

void
oe_config_load(void)
{
	static SPIPlanPtr plan = NULL;
	uint64		nrows;
	SPITupleTable *table;
	dlist_mutable_iter iter;

	oe_worker_begin("reading endpoints");

	/* what changes from now on is announced again */
	oe_config_changed = false;
	endpoint_relid = oe_relid(OE_REL_ENDPOINT);
	dlist_foreach_modify(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		endpoint->configured = false;
	}

	nrows = oe_worker_execute(&plan,
							  "SELECT endpoint_id, name, status = 'active', url, event_types,"
							  " (SELECT pg_catalog.array_agg(key || ': ' || value)"
							  "  FROM pg_catalog.jsonb_each_text(headers)),"
							  " ordering = 'aggregate', max_in_flight,"
							  " (extract(epoch FROM connect_timeout) * 1000)::pg_catalog.int8,"
							  " (extract(epoch FROM timeout) * 1000)::pg_catalog.int8,"
							  " (SELECT pg_catalog.array_agg((extract(epoch FROM step) * 1000000)::pg_catalog.int8"
							  "   ORDER BY place)"
							  "  FROM pg_catalog.unnest(retry_schedule) WITH ORDINALITY AS s (step, place)),"
							  " (extract(epoch FROM max_age) * 1000000)::pg_catalog.int8,"
							  " start_snapshot::pg_catalog.text"
							  " FROM order_engine.endpoint"
							  " WHERE owner = order_engine.database_identity() ORDER BY endpoint_id",
							  0, NULL, NULL, NULL, SPI_OK_SELECT);
	table = SPI_tuptable;
	for (uint64 i = 0; i < nrows; i++)
	{
		bool		isnull;
		int32		id = DatumGetInt32(SPI_getbinval(table->vals[i], table->tupdesc,
													 COL_ENDPOINT_ID, &isnull));
		OeEndpoint *endpoint = oe_endpoint_find(id);
		bool		is_new = (endpoint == NULL);

		if (is_new)
			endpoint = oe_endpoint_new(id);
		configure(endpoint, table->vals[i], table->tupdesc);
		if (is_new)
			oe_ack_load(endpoint, SPI_getvalue(table->vals[i], table->tupdesc, COL_START));
	}
	SPI_freetuptable(table);
	load_secrets();
	report_foreign();
	remove_orphans();
	oe_worker_commit();

	dlist_foreach_modify(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (endpoint->configured && endpoint->nsecrets == 0 && endpoint->active)
		{
			ereport(WARNING,
					(errmsg("endpoint \"%s\" has no secret and gets nothing", endpoint->name),
					 errhint("Secrets are not part of a dump: make one with order_engine.rotate_secret().")));
			endpoint->active = false;
		}
		if (endpoint->configured)
			continue;
		endpoint->active = false;
		if (endpoint->in_flight == 0)
			oe_endpoint_free(endpoint);
	}
}
