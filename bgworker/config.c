/*
 * config.c
 *	  The worker's view of the endpoints' settings.
 *
 * The tables are read as a whole whenever one of them changed, which reaches
 * the worker as an invalidation of the table endpoint: a trigger on the tables
 * sends it (src/endpoint.c).  An endpoint that is gone is forgotten as soon as
 * none of its requests is under way.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "config.h"
#include "delivery.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "policy_header.h"
#include "position.h"
#include "quarantine.h"
#include "relations.h"
#include "seal.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker_slot.h"
#include "worker_sql.h"

bool		oe_config_changed = true;
bool		oe_config_outdated = false;

/* remembered, because a look-up inside the callback could recurse */
static Oid	endpoint_relid = InvalidOid;

#define USECS(interval) "(extract(epoch FROM " interval ") * 1000000)::pg_catalog.int8"
#define POLICY(name) "(policy OPERATOR(pg_catalog.->>) '" name "')"

/* 5.0 is an integer as well; what numeric takes, integer need not */
#define POLICY_INTEGER(name) POLICY(name) "::pg_catalog.numeric::pg_catalog.int4"

/* the settings, as one row an endpoint */
#define CONFIG \
	"SELECT endpoint_id, name, status = 'active', url, event_types," \
	" (SELECT pg_catalog.array_agg(key || ': ' || value) FROM pg_catalog.jsonb_each_text(headers))," \
	" ordering = 'aggregate', max_in_flight," \
	" (extract(epoch FROM connect_timeout) * 1000)::pg_catalog.int8," \
	" (extract(epoch FROM timeout) * 1000)::pg_catalog.int8," \
	" (SELECT pg_catalog.array_agg(" USECS("step") " ORDER BY place)" \
	"  FROM pg_catalog.unnest(retry_schedule) WITH ORDINALITY AS s (step, place))," \
	" " USECS("max_age") ", start_snapshot::pg_catalog.text, format, guarantee = 'best_effort'," \
	" after_dead = 'block', max_batch, " USECS("max_batch_delay") ", rate::pg_catalog.float8, burst," \
	" client_certificate, status_since," \
	" " POLICY_INTEGER("breaker_failures") ", " POLICY("breaker_ratio") "::pg_catalog.float8," \
	" " POLICY_INTEGER("breaker_min_attempts") "," \
	" " USECS(POLICY("breaker_window") "::pg_catalog.interval") "," \
	" " USECS(POLICY("breaker_open") "::pg_catalog.interval") "," \
	" " USECS(POLICY("breaker_open_max") "::pg_catalog.interval") "," \
	" " POLICY_INTEGER("breaker_successes") "," \
	" " USECS(POLICY("disable_after") "::pg_catalog.interval") "," \
	" " POLICY_INTEGER("disable_attempts") "," \
	" " USECS(POLICY("disable_spread") "::pg_catalog.interval") "," \
	" " USECS(POLICY("pause") "::pg_catalog.interval") \
	" FROM order_engine.endpoint" \
	" WHERE owner = order_engine.database_identity() ORDER BY endpoint_id"

enum
{
	COL_ENDPOINT_ID = 1, COL_NAME, COL_ACTIVE, COL_URL, COL_EVENT_TYPES, COL_HEADERS, COL_ORDERED,
	COL_MAX_IN_FLIGHT, COL_CONNECT_TIMEOUT, COL_TIMEOUT, COL_SCHEDULE, COL_MAX_AGE, COL_START,
	COL_FORMAT, COL_BEST_EFFORT, COL_BLOCK_DEAD, COL_MAX_BATCH, COL_MAX_BATCH_DELAY, COL_RATE,
	COL_BURST, COL_CLIENT_CERTIFICATE, COL_STATUS_SINCE, COL_BREAKER_FAILURES, COL_BREAKER_RATIO,
	COL_BREAKER_MIN_ATTEMPTS, COL_BREAKER_WINDOW, COL_BREAKER_OPEN, COL_BREAKER_OPEN_MAX,
	COL_BREAKER_SUCCESSES, COL_DISABLE_AFTER, COL_DISABLE_ATTEMPTS, COL_DISABLE_SPREAD, COL_PAUSE
};

/* defaults of an endpoint's policy that have no other home */
#define DISABLE_AFTER		(INT64CONST(5) * USECS_PER_DAY)
#define DISABLE_ATTEMPTS	12
#define DISABLE_SPREAD		(INT64CONST(12) * USECS_PER_HOUR)

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

/* ---------- settings ---------- */

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

static int64
int64_or(HeapTuple tuple, TupleDesc desc, int column, int64 otherwise)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? otherwise : DatumGetInt64(datum);
}

static int
int32_or(HeapTuple tuple, TupleDesc desc, int column, int otherwise)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? otherwise : DatumGetInt32(datum);
}

static double
float8_or(HeapTuple tuple, TupleDesc desc, int column, double otherwise)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? otherwise : DatumGetFloat8(datum);
}

/* The functions check headers as well; this is for who edits the table. */
static char *
what_is_wrong_with_headers(char *const *headers, int n)
{
	oe_header_budget budget = {0};
	char		why[256];

	for (int i = 0; i < n; i++)
	{
		const char *value = strstr(headers[i], ": ") + 2;

		if (!oe_header_add(&budget, headers[i], value - headers[i] - 2, value, strlen(value),
						   why, sizeof(why)))
			return psprintf("header of the endpoint: %s", why);
	}
	return NULL;
}

static void
configure_policy(OeHealthPolicy *policy, HeapTuple tuple, TupleDesc desc)
{
	oe_breaker_policy *breaker = &policy->breaker;

	policy->max_in_flight = int32_or(tuple, desc, COL_MAX_IN_FLIGHT, 1);
	policy->rate.per_second = float8_or(tuple, desc, COL_RATE, 0);
	policy->rate.burst = int32_or(tuple, desc, COL_BURST, (int) Max(policy->rate.per_second, 1.0));
	breaker->failures = int32_or(tuple, desc, COL_BREAKER_FAILURES, OE_BREAKER_FAILURES);
	breaker->ratio = float8_or(tuple, desc, COL_BREAKER_RATIO, OE_BREAKER_RATIO);
	breaker->min_attempts = int32_or(tuple, desc, COL_BREAKER_MIN_ATTEMPTS, OE_BREAKER_MIN_ATTEMPTS);
	breaker->window = int64_or(tuple, desc, COL_BREAKER_WINDOW, OE_BREAKER_WINDOW);
	breaker->open_min = int64_or(tuple, desc, COL_BREAKER_OPEN, OE_BREAKER_OPEN_MIN);
	breaker->open_max = int64_or(tuple, desc, COL_BREAKER_OPEN_MAX, OE_BREAKER_OPEN_MAX);
	breaker->successes = int32_or(tuple, desc, COL_BREAKER_SUCCESSES, OE_BREAKER_SUCCESSES);
	breaker->max_in_flight = policy->max_in_flight;
	policy->disable_after = int64_or(tuple, desc, COL_DISABLE_AFTER, DISABLE_AFTER);
	policy->disable_attempts = int32_or(tuple, desc, COL_DISABLE_ATTEMPTS, DISABLE_ATTEMPTS);
	policy->disable_spread = int64_or(tuple, desc, COL_DISABLE_SPREAD, DISABLE_SPREAD);
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

	endpoint->name = pstrdup(SPI_getvalue(tuple, desc, COL_NAME));
	endpoint->active = DatumGetBool(SPI_getbinval(tuple, desc, COL_ACTIVE, &isnull));
	endpoint->url = TextDatumGetCString(SPI_getbinval(tuple, desc, COL_URL, &isnull));
	endpoint->globs = text_array(SPI_getbinval(tuple, desc, COL_EVENT_TYPES, &isnull),
								 &endpoint->nglobs);
	datum = SPI_getbinval(tuple, desc, COL_HEADERS, &isnull);
	endpoint->nheaders = 0;
	if (!isnull)
		endpoint->headers = text_array(datum, &endpoint->nheaders);
	endpoint->bad_header = what_is_wrong_with_headers(endpoint->headers, endpoint->nheaders);
	endpoint->format = oe_format_parse(SPI_getvalue(tuple, desc, COL_FORMAT));
	endpoint->body = oe_format_body(endpoint->format);
	endpoint->incomplete = true;	/* what is ready may have another body */
	endpoint->ordered = DatumGetBool(SPI_getbinval(tuple, desc, COL_ORDERED, &isnull));
	endpoint->best_effort = DatumGetBool(SPI_getbinval(tuple, desc, COL_BEST_EFFORT, &isnull));
	endpoint->block_dead = DatumGetBool(SPI_getbinval(tuple, desc, COL_BLOCK_DEAD, &isnull));
	endpoint->max_batch = int32_or(tuple, desc, COL_MAX_BATCH, 1);
	endpoint->max_batch_delay = int64_or(tuple, desc, COL_MAX_BATCH_DELAY, 0);
	endpoint->connect_timeout_ms = (long) int64_or(tuple, desc, COL_CONNECT_TIMEOUT, 0);
	endpoint->timeout_ms = (long) int64_or(tuple, desc, COL_TIMEOUT, 0);
	datum = SPI_getbinval(tuple, desc, COL_SCHEDULE, &isnull);
	endpoint->nsteps = 0;		/* the functions want one at least; this is for who edits the table */
	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(datum), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
						  &steps, NULL, &endpoint->nsteps);
	endpoint->schedule = palloc(Max(endpoint->nsteps, 1) * sizeof(int64));
	for (int i = 0; i < endpoint->nsteps; i++)
		endpoint->schedule[i] = DatumGetInt64(steps[i]);
	endpoint->max_age = int64_or(tuple, desc, COL_MAX_AGE, 0);
	endpoint->pause = int64_or(tuple, desc, COL_PAUSE, OE_PAUSE_DEFAULT);
	configure_policy(&endpoint->policy, tuple, desc);
	datum = SPI_getbinval(tuple, desc, COL_CLIENT_CERTIFICATE, &isnull);
	endpoint->client_cert = isnull ? NULL : TextDatumGetCString(datum);
	endpoint->client_key = NULL;
	endpoint->nsecrets = 0;
	endpoint->wait_until = 0;
	endpoint->configured = true;

	MemoryContextSwitchTo(old);
}

/* What was bad before an operator resumed the endpoint does not count any more. */
static void
forget_before_status(OeEndpoint *endpoint, TimestampTz status_since)
{
	OeHealthState state;

	oe_health_get(endpoint->health, &state);
	if (endpoint->active && state.failing_since != 0 && state.failing_since < status_since)
		oe_health_reset(endpoint->health);
}

/* ---------- secrets ---------- */

/* Says once what cannot be read. */
static void
report_unreadable(const OeEndpoint *endpoint, const char *why)
{
	static Bitmapset *reported = NULL;
	MemoryContext old;

	if (bms_is_member(endpoint->endpoint_id, reported))
		return;
	ereport(WARNING,
			(errmsg("a secret of endpoint \"%s\" cannot be read: %s", endpoint->name, why)));
	old = MemoryContextSwitchTo(TopMemoryContext);
	reported = bms_add_member(reported, endpoint->endpoint_id);
	MemoryContextSwitchTo(old);
}

/* A copy in the endpoint's memory, with a zero behind it. */
static char *
keep_secret(OeEndpoint *endpoint, uint8 *plain, size_t len)
{
	char	   *copy = MemoryContextAlloc(endpoint->config_context, len + 1);

	memcpy(copy, plain, len);
	copy[len] = '\0';
	explicit_bzero(plain, len);
	pfree(plain);
	return copy;
}

static void
load_secrets(void)
{
	static SPIPlanPtr plan = NULL;
	uint64		nrows;

	nrows = oe_worker_execute(&plan,
							  "SELECT endpoint_id, kind, key_id, secret, expires_at"
							  " FROM order_engine.endpoint_secret"
							  " ORDER BY endpoint_id, created_at DESC",
							  0, NULL, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		OeEndpoint *endpoint = oe_endpoint_find(DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull)));
		char	   *kind = SPI_getvalue(tuple, desc, 2);
		bool		is_key = strcmp(kind, "client_key") == 0;
		uint8	   *plain;
		size_t		len;
		Datum		expires;
		char		why[256];

		if (endpoint == NULL || !endpoint->configured ||
			(is_key ? endpoint->client_key != NULL : endpoint->nsecrets == OE_MAX_SECRETS))
			continue;
		if (!oe_unseal(endpoint->endpoint_id, kind, SPI_getvalue(tuple, desc, 3),
					   DatumGetByteaPP(SPI_getbinval(tuple, desc, 4, &isnull)),
					   &plain, &len, why, sizeof(why)))
		{
			report_unreadable(endpoint, why);
			continue;
		}
		if (is_key)
		{
			endpoint->client_key = keep_secret(endpoint, plain, len);
			continue;
		}
		endpoint->secrets[endpoint->nsecrets].bytes = (uint8 *) keep_secret(endpoint, plain, len);
		endpoint->secrets[endpoint->nsecrets].len = len;
		expires = SPI_getbinval(tuple, desc, 5, &isnull);
		endpoint->secret_expires[endpoint->nsecrets] = isnull ? 0 : DatumGetTimestampTz(expires);
		endpoint->nsecrets++;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* ---------- exceptions ---------- */

static Datum
shards_datum(void)
{
	Datum		datums[OE_SHARDS];
	int			n = 0;

	for (int i = 0; i < OE_SHARDS; i++)
	{
		if ((oe_my_shards & (1 << i)) != 0)
			datums[n++] = Int16GetDatum(i);
	}
	return PointerGetDatum(construct_array(datums, n, INT2OID, 2, true, TYPALIGN_SHORT));
}

static Datum
endpoints_datum(OeEndpoint **endpoints, int n)
{
	Datum	   *datums = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		datums[i] = Int32GetDatum(endpoints[i]->endpoint_id);
	return PointerGetDatum(construct_array(datums, n, INT4OID, 4, true, TYPALIGN_INT));
}

/*
 * Dead letters that block their aggregate, and retries: of endpoints that are
 * new in memory.  The blocking ones first, because they are ahead.
 */
static void
load_exceptions(OeEndpoint **endpoints, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4ARRAYOID, INT2ARRAYOID};
	Datum		values[2];
	uint64		nrows;
	SPITupleTable *table;

	values[0] = endpoints_datum(endpoints, n);
	values[1] = shards_datum();
	nrows = oe_worker_execute(&plan,
							  "SELECT * FROM (SELECT true AS blocked, d.endpoint_id, d.txid, d.id, d.aggregate_seq,"
							  "  d.attempts, NULL::pg_catalog.timestamptz AS first_attempt_at,"
							  "  NULL::pg_catalog.timestamptz AS next_attempt_at, d.last_error,"
							  "  d.aggregatetype || E'\\n' || d.aggregateid, NULL::pg_catalog.xid8 AS after_txid, d.shard"
							  " FROM order_engine.delivery_dead d JOIN order_engine.endpoint e USING (endpoint_id)"
							  " WHERE d.endpoint_id = ANY ($1) AND d.shard = ANY ($2)"
							  "  AND e.after_dead = 'block' AND e.ordering = 'aggregate'"
							  "  AND NOT EXISTS (SELECT FROM order_engine.delivery_retry r" /* it is being redriven */
							  "   WHERE r.endpoint_id = d.endpoint_id AND r.id = d.id)"
							  " UNION ALL"
							  " SELECT false, r.endpoint_id, r.txid, r.id, r.aggregate_seq,"
							  "  r.attempts, r.first_attempt_at, r.next_attempt_at, r.last_error,"
							  "  r.aggregatetype || E'\\n' || r.aggregateid, o.after_txid, r.shard"
							  " FROM order_engine.delivery_retry r"
							  " LEFT JOIN order_engine.outbox o ON o.txid = r.txid AND o.id = r.id"
							  " WHERE r.endpoint_id = ANY ($1) AND r.shard = ANY ($2)) AS x"
							  " ORDER BY blocked DESC, aggregate_seq, txid, id",
							  2, types, values, NULL, SPI_OK_SELECT);
	table = SPI_tuptable;
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = table->vals[i];
		TupleDesc	desc = table->tupdesc;
		OeEndpoint *endpoint;
		OeNote		stored = {0};
		uint64		after_txid;
		bool		isnull;
		bool		blocked;
		Datum		datum;

		blocked = DatumGetBool(SPI_getbinval(tuple, desc, 1, &isnull));
		endpoint = oe_endpoint_find(DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull)));
		datum = SPI_getbinval(tuple, desc, 3, &isnull);
		stored.txid = U64FromFullTransactionId(DatumGetFullTransactionId(datum));
		stored.id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 4, &isnull));
		stored.aggregate_seq = int64_or(tuple, desc, 5, 0);
		stored.attempts = int32_or(tuple, desc, 6, 0);
		stored.first_attempt_at = int64_or(tuple, desc, 7, 0);
		stored.next_attempt_at = int64_or(tuple, desc, 8, 0);
		stored.last_error = SPI_getvalue(tuple, desc, 9);
		datum = SPI_getbinval(tuple, desc, 11, &isnull);
		after_txid = isnull ? 0 : U64FromFullTransactionId(DatumGetFullTransactionId(datum));
		oe_delivery_restore(endpoint, DatumGetInt16(SPI_getbinval(tuple, desc, 12, &isnull)),
							SPI_getvalue(tuple, desc, 10), &stored, after_txid, blocked);
	}
	SPI_freetuptable(table);
}

/* Dead letters block no more when they were discarded, or when the endpoint was altered. */
static void
unblock(OeEndpoint *endpoint)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, UUIDOID};
	TimestampTz now = GetCurrentTimestamp();
	List	   *gone = NIL;
	ListCell   *lc;
	dlist_iter	iter;
	Datum		values[2];

	dlist_foreach(iter, &endpoint->all)
	{
		OeDelivery *d = dlist_container(OeDelivery, all_node, iter.cur);

		if (d->state != OE_DELIVERY_BLOCKED)
			continue;
		if (!endpoint->block_dead || !endpoint->ordered)
		{
			gone = lappend(gone, d);
			continue;
		}
		values[0] = Int32GetDatum(endpoint->endpoint_id);
		values[1] = UUIDPGetDatum(&d->place.id);
		if (oe_worker_execute(&plan,
							  "SELECT 1 FROM order_engine.delivery_dead WHERE endpoint_id = $1 AND id = $2",
							  2, types, values, NULL, SPI_OK_SELECT) == 0 && !oe_delivery_is_noted(d))
			gone = lappend(gone, d);
		SPI_freetuptable(SPI_tuptable);
	}
	foreach(lc, gone)
		oe_delivery_finish(lfirst(lc), now);
	list_free(gone);
}

/* ---------- the whole ---------- */

/*
 * A copy of a database has the endpoints of the original.  Each says whose it
 * is, so that it does not matter in what order a restore brings the tables.
 * While one is another's, nothing is sent to any: where they are in the log is
 * worked out for all together when the database is adopted.
 *
 * What a worker has in memory, such as places in the log, is void when its database
 * becomes a copy, so the process ends then and another one begins.  While it was one
 * from the beginning nothing was read, so when it is adopted the worker can go on:
 * of one that was started by hand there would be no other.
 */
static bool
is_copy(void)
{
	static SPIPlanPtr plan = NULL;
	static bool reported = false;
	static bool was_none = false;
	bool		copy;

	copy = oe_worker_execute(&plan,
							 "SELECT 1 FROM order_engine.endpoint"
							 " WHERE owner <> order_engine.database_identity() LIMIT 1",
							 0, NULL, NULL, NULL, SPI_OK_SELECT) > 0;
	SPI_freetuptable(SPI_tuptable);
	if (copy && !reported)
		ereport(LOG,
				(errmsg("order_engine does not send to endpoints of database %u that it has as a copy of another database",
						MyDatabaseId),
				 errhint("Call order_engine.adopt_database() there if it shall.")));
	if (copy && was_none)
		oe_config_outdated = true;
	reported = copy;
	was_none = was_none || !copy;
	return copy;
}

/*
 * Rows that were written for an endpoint while it was being dropped.  Only of
 * those that this worker saw go: rows without an endpoint may as well be those
 * of a restore, which brings the table endpoint later.
 */
static void
remove_orphans(void)
{
	static SPIPlanPtr retry_plan = NULL;
	static SPIPlanPtr dead_plan = NULL;
	static const Oid types[] = {INT4ARRAYOID};
	static List *gone = NIL;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	dlist_iter	iter;
	ListCell   *lc;
	Datum	   *ids;
	int			n = 0;
	Datum		values[1];

	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (!endpoint->configured)
			gone = list_append_unique_int(gone, endpoint->endpoint_id);
	}
	MemoryContextSwitchTo(old);
	if (gone == NIL)
		return;

	ids = palloc(list_length(gone) * sizeof(Datum));
	foreach(lc, gone)
		ids[n++] = Int32GetDatum(lfirst_int(lc));
	values[0] = PointerGetDatum(construct_array(ids, n, INT4OID, 4, true, TYPALIGN_INT));
	oe_worker_execute(&retry_plan,
					  "DELETE FROM order_engine.delivery_retry r WHERE r.endpoint_id = ANY ($1) AND NOT EXISTS"
					  " (SELECT FROM order_engine.endpoint e WHERE e.endpoint_id = r.endpoint_id)",
					  1, types, values, NULL, SPI_OK_DELETE);
	oe_worker_execute(&dead_plan,
					  "DELETE FROM order_engine.delivery_dead d WHERE d.endpoint_id = ANY ($1) AND NOT EXISTS"
					  " (SELECT FROM order_engine.endpoint e WHERE e.endpoint_id = d.endpoint_id)",
					  1, types, values, NULL, SPI_OK_DELETE);
}

/* What follows from the settings for what is in memory. */
static void
apply(void)
{
	dlist_mutable_iter iter;

	oe_bodies_wanted = 0;
	oe_route_reset();
	dlist_foreach_modify(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);
		dlist_iter	lanes;

		if (endpoint->configured && endpoint->nsecrets == 0 && endpoint->active)
		{
			ereport(WARNING,
					(errmsg("endpoint \"%s\" has no secret and gets nothing", endpoint->name),
					 errhint("Secrets are not part of a dump: make one with order_engine.rotate_secret().")));
			endpoint->active = false;
		}
		if (!endpoint->configured)
			endpoint->active = false;
		else
			oe_bodies_wanted |= 1 << endpoint->body;
		dlist_foreach(lanes, &endpoint->lanes)
		{
			OeLane	   *lane = dlist_container(OeLane, node, lanes.cur);

			if (!oe_lane_has_room(lane))
				oe_lane_detach(lane);
		}
		if (!endpoint->configured && endpoint->in_flight == 0)
			oe_endpoint_free(endpoint);
	}
}

void
oe_config_load(void)
{
	static SPIPlanPtr plan = NULL;
	uint64		nrows;
	SPITupleTable *table;
	dlist_iter	iter;
	OeEndpoint **fresh;
	const char **starts;
	int			nfresh = 0;

	/* what changes from now on is announced again */
	oe_config_changed = false;
	if (oe_config_outdated)
		return;
	oe_worker_begin("reading endpoints");
	endpoint_relid = oe_relid(OE_REL_ENDPOINT);
	if (is_copy())
	{
		oe_worker_commit();
		return;
	}
	dlist_foreach(iter, &oe_endpoints)
		dlist_container(OeEndpoint, node, iter.cur)->configured = false;

	nrows = oe_worker_execute(&plan, CONFIG, 0, NULL, NULL, NULL, SPI_OK_SELECT);
	table = SPI_tuptable;
	fresh = palloc((nrows + 1) * sizeof(OeEndpoint *));
	starts = palloc((nrows + 1) * sizeof(char *));
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = table->vals[i];
		int32		id = int32_or(tuple, table->tupdesc, COL_ENDPOINT_ID, 0);
		OeEndpoint *endpoint = oe_endpoint_find(id);

		if (endpoint == NULL)
		{
			endpoint = oe_endpoint_new(id);
			starts[nfresh] = SPI_getvalue(tuple, table->tupdesc, COL_START);
			fresh[nfresh++] = endpoint;
		}
		configure(endpoint, tuple, table->tupdesc);
	}
	oe_position_load(fresh, starts, nfresh);
	for (uint64 i = 0; i < nrows; i++)
		forget_before_status(oe_endpoint_find(int32_or(table->vals[i], table->tupdesc, COL_ENDPOINT_ID, 0)),
							 int64_or(table->vals[i], table->tupdesc, COL_STATUS_SINCE, 0));
	SPI_freetuptable(table);
	if (nfresh > 0)
		load_exceptions(fresh, nfresh);
	load_secrets();
	oe_quarantine_load();
	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (endpoint->configured && endpoint->blocked > 0)
			unblock(endpoint);
	}
	oe_replay_load();
	if (oe_my_index == 0)
		remove_orphans();
	oe_worker_commit();
	apply();
	oe_cursors_merge();
}
