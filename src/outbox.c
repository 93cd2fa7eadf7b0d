/*
 * outbox.c
 *	  Append events to the outbox, in the transaction that causes them.
 *
 * The row goes straight into the current leaf of the ring.  Which leaf that is
 * stands in order_engine.outbox_ring and is cached until that relation is
 * invalidated.  Taking the lock on a leaf processes invalidations, so a backend
 * that holds the lock and still finds its cache valid writes to a leaf that
 * nobody truncates before it is done: truncation needs the conflicting lock.
 *
 * after_txid: transactions get their ids before they lock the aggregate, so of
 * two events of one aggregate the later can have the lower txid.  The log is
 * read by txid, hence the writer, who alone knows, notes it.
 *
 * In a copy that came with a dump, transaction ids of the other server stand
 * beside our own.  Until adopt_database() gives all of them new ones, an event
 * that is written here is marked as such: its after_txid is its own txid.  What
 * tells a copy, the owners of the endpoints, is cached together with the leaf,
 * and adoption keeps writers away by the same lock as truncation.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "append.h"
#include "args.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "context.h"
#include "fmgr.h"
#include "idempotency.h"
#include "identity.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "outbox.h"
#include "policy_match.h"
#include "record.h"
#include "shared.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "uuid7.h"
#include "utils/xid8.h"
#include "wakeup.h"

/* a request body must fit into the worker's memory many times over */
#define MAX_PAYLOAD_BYTES	OE_MAX_DOCUMENT_BYTES
#define MAX_HEADERS_BYTES	(64 * 1024)
#define OE_MAX_NAME			255

#define UNIX_EPOCH_USEC \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* order_engine.endpoint */
#define ANUM_ENDPOINT_OWNER	3

static int16 cached_leaf;
static bool cached_is_copy;
static Oid	cached_leaf_relid = InvalidOid;
static uint64 cached_generation = 0;

PG_FUNCTION_INFO_V1(oe_emit);

static int16
read_current_leaf(void)
{
	Relation	ring = table_open(oe_relid(OE_REL_OUTBOX_RING), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(ring, NULL);
	TableScanDesc scan = table_beginscan(ring, snapshot, 0, NULL);
	int16		leaf = 0;

	if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		leaf = DatumGetInt16(slot_getattr(slot, 1, &isnull));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(ring, AccessShareLock);
	return leaf;
}

/*
 * Is there an endpoint that came with a dump?  A copy within this server (of a
 * template, or a clone of the whole) is none in this sense: transaction ids mean
 * the same there.
 */
static bool
read_is_copy(void)
{
	Relation	endpoints = table_open(oe_relid(OE_REL_ENDPOINT), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(endpoints, NULL);
	TableScanDesc scan = table_beginscan(endpoints, snapshot, 0, NULL);
	bool		is_copy = false;

	while (!is_copy && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		char	   *owner = TextDatumGetCString(slot_getattr(slot, ANUM_ENDPOINT_OWNER, &isnull));

		is_copy = !oe_identity_shares_transactions(owner);
		pfree(owner);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(endpoints, AccessShareLock);
	return is_copy;
}

/* Locks the leaf that new events go to, and returns its Oid and number. */
static Oid
lock_current_leaf(int16 *leaf, bool *is_copy)
{
	for (;;)
	{
		if (cached_generation != oe_relations_generation ||
			!OidIsValid(cached_leaf_relid))
		{
			char		name[NAMEDATALEN];
			Oid			nspid;
			uint64		generation;

			/* fill the cache of relations first, so that it is watched */
			(void) oe_relid(OE_REL_OUTBOX_RING);
			(void) oe_relid(OE_REL_ENDPOINT);
			nspid = get_rel_namespace(oe_relid(OE_REL_OUTBOX));
			generation = oe_relations_generation;
			cached_leaf = read_current_leaf();
			cached_is_copy = read_is_copy();
			snprintf(name, sizeof(name), "outbox_%d", cached_leaf);
			cached_leaf_relid = get_relname_relid(name, nspid);
			if (!OidIsValid(cached_leaf_relid))
				elog(ERROR, "leaf %d of the outbox does not exist", cached_leaf);
			cached_generation = generation;
		}

		LockRelationOid(cached_leaf_relid, RowExclusiveLock);
		if (cached_generation == oe_relations_generation)
		{
			*leaf = cached_leaf;
			*is_copy = cached_is_copy;
			return cached_leaf_relid;
		}
		/* the ring was turned, or the extension replaced, meanwhile */
		UnlockRelationOid(cached_leaf_relid, RowExclusiveLock);
	}
}

/*
 * Bodies are sent in UTF-8.  What has no form in it is refused here, where the
 * writer can be told, and not in the worker.
 */
static void
check_encoding(const OeEvent *event)
{
	char	   *payload;
	char	   *utf8;

	if (GetDatabaseEncoding() == PG_UTF8)
		return;
	payload = psprintf("%s %s %s %s", event->aggregatetype, event->aggregateid, event->type,
					   JsonbToCString(NULL, &event->payload->root, VARSIZE(event->payload)));
	utf8 = pg_server_to_any(payload, strlen(payload), PG_UTF8);
	if (utf8 != payload)
		pfree(utf8);
	pfree(payload);
}

/*
 * Random bytes for the next ids.  To ask the source costs as much for a few bytes
 * as for some hundred.
 */
static bool
random_from_stock(void *buf, size_t len)
{
	static uint8 stock[512];
	static size_t left = 0;

	if (left < len)
	{
		if (!pg_strong_random(stock, sizeof(stock)))
			return false;
		left = sizeof(stock);
	}
	left -= len;
	memcpy(buf, stock + left, len);
	return true;
}

void
oe_outbox_new_id(TimestampTz created_at, pg_uuid_t *id)
{
	static oe_uuid7_state uuid_state;

	if (!oe_uuid7_next(&uuid_state, created_at + UNIX_EPOCH_USEC, random_from_stock, id->data))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random event id")));
}

/*
 * The worker that an aggregate belongs to.  Stored with the event, so a later
 * version may hash otherwise only for aggregates that have no events yet.
 */
static int16
shard_of(const char *aggregatetype, const char *aggregateid)
{
	uint32		hash = hash_combine(hash_bytes((const unsigned char *) aggregatetype, strlen(aggregatetype)),
									hash_bytes((const unsigned char *) aggregateid, strlen(aggregateid)));

	return (int16) (hash % OE_SHARDS);
}

/*
 * The aggregate's previous transaction, where that began later than ours.  One
 * that has not begun yet is of another server: the row came with a dump.
 */
static bool
comes_after(const OeEvent *event, FullTransactionId txid)
{
	return FullTransactionIdIsValid(event->last_txid) &&
		FullTransactionIdFollows(event->last_txid, txid) &&
		FullTransactionIdPrecedes(event->last_txid, ReadNextFullTransactionId());
}

void
oe_outbox_append(const OeEvent *event)
{
	Datum		values[OE_OUTBOX_COLUMNS] = {0};
	bool		nulls[OE_OUTBOX_COLUMNS] = {false};
	FullTransactionId txid;
	pg_uuid_t	uuid;
	Jsonb	   *headers = oe_context_headers(event->headers);
	int16		shard = shard_of(event->aggregatetype, event->aggregateid);
	int16		leaf;
	bool		is_copy;
	Oid			relid;

	PreventCommandIfReadOnly("an event");
	PreventCommandDuringRecovery("an event");
	check_encoding(event);
	txid = GetTopFullTransactionId();

	if (event->id != NULL)
		uuid = *event->id;
	else
		oe_outbox_new_id(event->created_at, &uuid);

	relid = lock_current_leaf(&leaf, &is_copy);

	values[OE_OUTBOX_TXID] = FullTransactionIdGetDatum(txid);
	if (is_copy)
		values[OE_OUTBOX_AFTER_TXID] = FullTransactionIdGetDatum(txid);
	else if (comes_after(event, txid))
		values[OE_OUTBOX_AFTER_TXID] = FullTransactionIdGetDatum(event->last_txid);
	else
		nulls[OE_OUTBOX_AFTER_TXID] = true;
	values[OE_OUTBOX_CREATED_AT] = TimestampTzGetDatum(event->created_at);
	if (event->aggregate_seq != 0)
		values[OE_OUTBOX_AGGREGATE_SEQ] = Int64GetDatum(event->aggregate_seq);
	else
		nulls[OE_OUTBOX_AGGREGATE_SEQ] = true;
	values[OE_OUTBOX_LEAF] = Int16GetDatum(leaf);
	values[OE_OUTBOX_SHARD] = Int16GetDatum(shard);
	values[OE_OUTBOX_ID] = UUIDPGetDatum(&uuid);
	values[OE_OUTBOX_AGGREGATETYPE] = CStringGetTextDatum(event->aggregatetype);
	values[OE_OUTBOX_AGGREGATEID] = CStringGetTextDatum(event->aggregateid);
	values[OE_OUTBOX_TYPE] = CStringGetTextDatum(event->type);
	values[OE_OUTBOX_PAYLOAD] = JsonbPGetDatum(event->payload);
	values[OE_OUTBOX_HEADERS] = JsonbPGetDatum(headers);

	oe_append(relid, OE_OUTBOX_COLUMNS, false, values, nulls);
	oe_wake_worker_at_commit(shard);
}

static char *
name_argument(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	text	   *arg;
	size_t		len;
	char	   *value;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", argname)));
	arg = PG_GETARG_TEXT_PP(argno);
	len = VARSIZE_ANY_EXHDR(arg);
	if (len == 0 || len > OE_MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must have between 1 and %d bytes", argname, OE_MAX_NAME)));
	value = text_to_cstring(arg);
	for (const char *p = value; *p; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" must not contain control characters", argname)));
	}
	return value;
}

static Jsonb *
emit_request(const OeEvent *event)
{
	JsonbParseState *request = NULL;

	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_text(&request, "aggregatetype", event->aggregatetype);
	oe_jsonb_push_text(&request, "aggregateid", event->aggregateid);
	oe_jsonb_push_text(&request, "type", event->type);
	oe_jsonb_push_jsonb(&request, "payload", event->payload);
	oe_jsonb_push_jsonb(&request, "headers", event->headers);
	return JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL));
}

/*
 * emit(aggregatetype, aggregateid, type, payload, headers, idempotency_key)
 *		An event of the application itself.
 */
Datum
oe_emit(PG_FUNCTION_ARGS)
{
	OeEvent		event = {0};
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	char	   *key = oe_arg_text_or_null(fcinfo, 5);
	char	   *stored;
	OeIdempotency call;
	char		why[128];

	event.aggregatetype = name_argument(fcinfo, 0, "aggregatetype");
	event.aggregateid = name_argument(fcinfo, 1, "aggregateid");
	event.type = name_argument(fcinfo, 2, "type");
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "payload")));
	event.payload = oe_arg_jsonb(fcinfo, 3, "payload", MAX_PAYLOAD_BYTES);
	event.headers = oe_arg_jsonb(fcinfo, 4, "headers", MAX_HEADERS_BYTES);
	event.last_txid = InvalidFullTransactionId;

	/* to hash a request costs as much as to write the event: not without a key */
	if (oe_idempotency_begin(&call, "emit", key, key == NULL ? NULL : emit_request(&event), &stored))
		PG_RETURN_DATUM(DirectFunctionCall1(uuid_in, CStringGetDatum(stored)));

	if (!oe_event_type_check(event.type, strlen(event.type), why, sizeof(why)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid event type \"%s\"", event.type),
				 errdetail("%s", why)));

	/* the sequence of an order's events is gapless, and events of endpoints are news of ours */
	if (strcmp(event.aggregatetype, "order") == 0 || strcmp(event.aggregatetype, OE_AGGREGATE_ENDPOINT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("aggregate type \"%s\" belongs to order_engine", event.aggregatetype),
				 errhint("Choose another aggregate type for events of the application.")));
	if (event.headers != NULL && !JB_ROOT_IS_OBJECT(event.headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON object", "headers")));

	PreventCommandIfReadOnly("emit()");
	event.created_at = GetCurrentTimestamp();
	oe_outbox_new_id(event.created_at, id);
	if (key != NULL)
	{
		char	   *text = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));

		if (oe_idempotency_claim(&call, text, &stored))
			PG_RETURN_DATUM(DirectFunctionCall1(uuid_in, CStringGetDatum(stored)));
	}
	event.id = id;
	oe_outbox_append(&event);
	PG_RETURN_UUID_P(id);
}
