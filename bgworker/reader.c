/*
 * reader.c
 *	  Read the outbox: which events became visible between two snapshots.
 *
 * "id greater than the last" loses what commits late, "txid below the oldest
 * running" stalls behind any old transaction.  Membership is therefore the
 * difference of two snapshots, as PgQ has it: of the transactions that "upto"
 * sees, those that "seen" does not.  With an index on txid that is
 *
 *	- the range [seen.xmax, upto.xmax), without those still running in upto
 *	- point probes for those that ran in seen and had ended in upto
 *
 * A read may stop anywhere and resumes at (txid, id) within the same pair of
 * snapshots, also after a restart: rows are never deleted one by one, and
 * whether upto saw a transaction does not change.
 *
 * The order of a read is that of txid.  Two events of one aggregate can stand
 * in it the wrong way round (see outbox.c); such a row carries after_txid, and
 * delivery.c holds it back until the other one was read.
 *
 * Nothing is handed on before it is durable: with synchronous_commit = off a
 * transaction is visible before its commit record is on disk, and after a crash
 * a receiver would know an order that never was.  The server remembers, for
 * recent asynchronous commits, how far WAL must be flushed; but for 32 transactions
 * together, and among them are the worker's own, which commit asynchronously.  So
 * it is asked only about transactions that may have done so (wakeup.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "log_scan.h"
#include "mb/pg_wchar.h"
#include "outbox.h"
#include "quarantine.h"
#include "query.h"
#include "reader.h"
#include "shared.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker_sql.h"

#define FETCH_ROWS		32

/* ids of a replay that are looked up at once */
#define REPLAY_IDS		256

/* those of the outbox, in their order */
#define EVENT_COLUMNS \
	"txid, after_txid, created_at, aggregate_seq, leaf, shard, id, aggregatetype, aggregateid, type, payload," \
	" headers"

/* a dead letter, as if it were still in the outbox */
#define DEAD_COLUMNS \
	"d.txid, NULL::pg_catalog.xid8, d.created_at, d.aggregate_seq, NULL::smallint, d.shard, d.id," \
	" d.aggregatetype, d.aggregateid, d.type, d.payload, d.headers"

uint32		oe_bodies_wanted = 0;
size_t		oe_event_bytes = 0;

static MemoryContext reader_context = NULL;
static MemoryContext row_context = NULL;	/* reset after each row */
static dlist_head snapshots = DLIST_STATIC_INIT(snapshots);
static OeSnapshot *last_current = NULL; /* no reference: forgotten with the last one */
static OeSnapshot *durable = NULL;	/* what it sees is on disk */

void
oe_reader_init(void)
{
	reader_context = AllocSetContextCreate(TopMemoryContext, "order_engine reader",
										   ALLOCSET_DEFAULT_SIZES);
	row_context = AllocSetContextCreate(TopMemoryContext, "order_engine row",
										ALLOCSET_DEFAULT_SIZES);
}

/* ---------- snapshots and places ---------- */

/* Parses what pg_snapshot_out wrote: xmin:xmax:xip,xip,... */
static OeSnapshot *
parse(const char *text)
{
	OeSnapshot *s = MemoryContextAllocZero(reader_context, sizeof(OeSnapshot));
	int			commas = 0;
	char	   *p;

	dlist_push_head(&snapshots, &s->node);
	s->refcount = 1;
	s->text = MemoryContextStrdup(reader_context, text);
	s->xmin = strtou64(text, &p, 10);
	Assert(*p == ':');
	s->xmax = strtou64(p + 1, &p, 10);
	Assert(*p == ':');
	p++;
	for (char *q = p; *q; q++)
		commas += (*q == ',');
	if (*p != '\0')
	{
		s->xip = MemoryContextAlloc(reader_context, (commas + 1) * sizeof(uint64));
		for (;;)
		{
			s->xip[s->nxip++] = strtou64(p, &p, 10);
			if (*p != ',')
				break;
			p++;
		}
	}
	return s;
}

OeSnapshot *
oe_snapshot_parse(const char *text)
{
	dlist_iter	iter;

	dlist_foreach(iter, &snapshots)
	{
		OeSnapshot *s = dlist_container(OeSnapshot, node, iter.cur);

		if (strcmp(s->text, text) == 0)
			return oe_snapshot_ref(s);
	}
	return parse(text);
}

OeSnapshot *
oe_snapshot_ref(OeSnapshot *snapshot)
{
	if (snapshot != NULL)
		snapshot->refcount++;
	return snapshot;
}

void
oe_snapshot_unref(OeSnapshot *snapshot)
{
	if (snapshot == NULL || --snapshot->refcount > 0)
		return;
	if (snapshot == last_current)
		last_current = NULL;
	dlist_delete(&snapshot->node);
	if (snapshot->xip != NULL)
		pfree(snapshot->xip);
	pfree(snapshot->text);
	pfree(snapshot);
}

bool
oe_snapshot_sees(const OeSnapshot *snapshot, uint64 txid)
{
	int			low = 0;
	int			high = snapshot->nxip - 1;

	if (txid < snapshot->xmin)
		return true;
	if (txid >= snapshot->xmax)
		return false;
	while (low <= high)
	{
		int			mid = (low + high) / 2;

		if (snapshot->xip[mid] == txid)
			return false;
		if (snapshot->xip[mid] < txid)
			low = mid + 1;
		else
			high = mid - 1;
	}
	return true;
}

bool
oe_snapshot_covers(const OeSnapshot *snapshot, const OeSnapshot *other)
{
	if (snapshot->xmax < other->xmax)
		return false;
	for (int i = 0; i < snapshot->nxip; i++)
	{
		if (oe_snapshot_sees(other, snapshot->xip[i]))
			return false;
	}
	return true;
}

/* The list may be long, and a new snapshot can only be the same as the last one. */
OeSnapshot *
oe_snapshot_current(void)
{
	Datum		snapshot = OidFunctionCall0(F_PG_CURRENT_SNAPSHOT);
	char	   *text = OidOutputFunctionCall(F_PG_SNAPSHOT_OUT, snapshot);

	if (last_current == NULL || strcmp(last_current->text, text) != 0)
		last_current = parse(text);
	else
		oe_snapshot_ref(last_current);
	pfree(text);
	return last_current;
}

void
oe_place_copy(OePlace *to, const OePlace *from)
{
	OePlace		old = *to;

	*to = *from;
	oe_snapshot_ref(to->seen);
	oe_snapshot_ref(to->upto);
	oe_snapshot_unref(old.seen);
	oe_snapshot_unref(old.upto);
}

bool
oe_place_equal(const OePlace *a, const OePlace *b)
{
	return a->seen == b->seen && a->upto == b->upto && a->txid == b->txid &&
		memcmp(&a->id, &b->id, sizeof(pg_uuid_t)) == 0;
}

int
oe_place_compare_row(const OePlace *place, uint64 txid, const pg_uuid_t *id)
{
	if (place->txid != txid)
		return place->txid < txid ? -1 : 1;
	return memcmp(&place->id, id, sizeof(pg_uuid_t));
}

/* ---------- events ---------- */

OeLogEvent *
oe_event_ref(OeLogEvent *event)
{
	event->refcount++;
	return event;
}

void
oe_event_unref(OeLogEvent *event)
{
	if (event == NULL || --event->refcount > 0)
		return;
	oe_event_bytes -= event->size;
	pfree(event);
}

/* A member of an object, if it is a string; else NULL. */
static char *
string_member(Jsonb *object, const char *name)
{
	JsonbValue *value;

	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	value = getKeyJsonValueFromContainer(&object->root, name, strlen(name), NULL);
	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static char *
append_copy(char **next, const char *text, size_t len)
{
	char	   *copy = *next;

	memcpy(copy, text, len);
	copy[len] = '\0';
	*next += len + 1;
	return copy;
}

/*
 * Makes an event of a row; one allocation, in the reader's context.  Of an event
 * in quarantine the data is not looked at, and its bodies are empty.
 */
static OeLogEvent *
make_event(const Datum *values, const bool *nulls, uint32 bodies)
{
	OeLogEvent *event;
	OeEnvelope	envelope = {0};
	StringInfoData texts[OE_BODY_COUNT];
	char		event_id[OE_EVENT_ID_SIZE];
	char		time[OE_ENVELOPE_TIME_SIZE];
	pg_uuid_t	id;
	char	   *aggregate;
	char	   *utf8_aggregate;
	size_t		size;
	char	   *next;
	bool		quarantined;

	id = *DatumGetUUIDP(values[OE_OUTBOX_ID]);
	quarantined = oe_quarantine_crashes(0, &id) >= OE_CRASHES_ALLOWED;
	oe_quarantine_at(0, &id);
	oe_event_id_format(id.data, event_id);
	envelope.event_id = event_id;
	envelope.aggregatetype = TextDatumGetCString(values[OE_OUTBOX_AGGREGATETYPE]);
	envelope.aggregateid = TextDatumGetCString(values[OE_OUTBOX_AGGREGATEID]);
	envelope.type = TextDatumGetCString(values[OE_OUTBOX_TYPE]);
	if (!nulls[OE_OUTBOX_HEADERS] && !quarantined)
	{
		Jsonb	   *headers = DatumGetJsonbP(values[OE_OUTBOX_HEADERS]);

		envelope.traceparent = string_member(headers, "traceparent");
		envelope.tracestate = string_member(headers, "tracestate");
	}
	if (!nulls[OE_OUTBOX_AGGREGATE_SEQ])
		envelope.aggregate_seq = DatumGetInt64(values[OE_OUTBOX_AGGREGATE_SEQ]);
	envelope.created_at = DatumGetTimestampTz(values[OE_OUTBOX_CREATED_AT]);
	if (!quarantined)
		envelope.payload = DatumGetJsonbP(values[OE_OUTBOX_PAYLOAD]);
	oe_envelope_time(envelope.created_at, time);
	aggregate = psprintf("%s\n%s", envelope.aggregatetype, envelope.aggregateid);
	utf8_aggregate = quarantined ? aggregate :
		pg_server_to_any(aggregate, strlen(aggregate), PG_UTF8);

	size = sizeof(OeLogEvent) + strlen(aggregate) + strlen(utf8_aggregate) +
		strlen(envelope.type) + strlen(time) + 4;
	if (envelope.traceparent != NULL)
		size += strlen(envelope.traceparent) + 1;
	if (envelope.tracestate != NULL)
		size += strlen(envelope.tracestate) + 1;
	for (int i = 0; i < OE_BODY_COUNT; i++)
	{
		char	   *utf8;

		if ((bodies & (1 << i)) == 0)
			continue;
		initStringInfo(&texts[i]);
		if (!quarantined)
			oe_envelope_render(&texts[i], i, &envelope);
		utf8 = pg_server_to_any(texts[i].data, texts[i].len, PG_UTF8);
		if (utf8 != texts[i].data)
		{
			texts[i].data = utf8;
			texts[i].len = strlen(utf8);
		}
		size += texts[i].len + 1;
	}

	event = MemoryContextAlloc(reader_context, size);
	memset(event, 0, sizeof(OeLogEvent));
	event->refcount = 1;
	event->size = size;
	oe_event_bytes += size;
	event->id = id;
	memcpy(event->event_id, event_id, sizeof(event_id));
	event->aggregate_seq = envelope.aggregate_seq;
	event->created_at = envelope.created_at;
	event->operational = strcmp(envelope.aggregatetype, OE_AGGREGATE_ENDPOINT) == 0;
	event->txid = U64FromFullTransactionId(DatumGetFullTransactionId(values[OE_OUTBOX_TXID]));
	if (!nulls[OE_OUTBOX_AFTER_TXID])
		event->after_txid = U64FromFullTransactionId(DatumGetFullTransactionId(values[OE_OUTBOX_AFTER_TXID]));
	event->shard = DatumGetInt16(values[OE_OUTBOX_SHARD]);

	next = (char *) (event + 1);
	event->aggregate = append_copy(&next, aggregate, strlen(aggregate));
	event->utf8_aggregate = utf8_aggregate == aggregate ? event->aggregate :
		append_copy(&next, utf8_aggregate, strlen(utf8_aggregate));
	event->type = append_copy(&next, envelope.type, strlen(envelope.type));
	event->time = append_copy(&next, time, strlen(time));
	if (envelope.traceparent != NULL)
		event->traceparent = append_copy(&next, envelope.traceparent, strlen(envelope.traceparent));
	if (envelope.tracestate != NULL)
		event->tracestate = append_copy(&next, envelope.tracestate, strlen(envelope.tracestate));
	for (int i = 0; i < OE_BODY_COUNT; i++)
	{
		if ((bodies & (1 << i)) == 0)
			continue;
		event->bodies[i] = append_copy(&next, texts[i].data, texts[i].len);
		event->bodylens[i] = texts[i].len;
	}
	oe_quarantine_at_nothing();
	return event;
}

/* The same of row "i" of what SPI returned. */
static OeLogEvent *
make_event_of_result(uint64 i)
{
	MemoryContext old = MemoryContextSwitchTo(row_context);
	Datum		values[OE_OUTBOX_COLUMNS];
	bool		nulls[OE_OUTBOX_COLUMNS];
	OeLogEvent *event;

	heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
	event = make_event(values, nulls, oe_bodies_wanted);
	MemoryContextSwitchTo(old);
	MemoryContextReset(row_context);
	return event;
}

/* ---------- reading ---------- */

/* The shards as a smallint[]. */
static Datum
shard_array(uint32 shards)
{
	Datum		datums[OE_SHARDS];
	int			n = 0;

	for (int i = 0; i < OE_SHARDS; i++)
	{
		if ((shards & (1 << i)) != 0)
			datums[n++] = Int16GetDatum(i);
	}
	return PointerGetDatum(construct_array(datums, n, INT2OID, 2, true, TYPALIGN_SHORT));
}

static Datum
uuid_array(pg_uuid_t *ids, int n)
{
	Datum	   *datums = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		datums[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(datums, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/*
 * Runs one of the statements of a read and takes its rows over, up to the
 * limits.  Returns whether it came to the end.
 */
static bool
fetch_rows(SPIPlanPtr plan, Datum *values, OePlace *place, int max_rows, size_t max_bytes,
		   OeLogEvent **events, int *nevents, size_t *bytes)
{
	Portal		portal = SPI_cursor_open(NULL, plan, values, NULL, true);
	bool		at_end = false;

	while (!at_end && *nevents < max_rows && *bytes < max_bytes)
	{
		int			want = Min(FETCH_ROWS, max_rows - *nevents);

		SPI_cursor_fetch(portal, true, want);
		at_end = SPI_processed < (uint64) want;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			OeLogEvent *event = make_event_of_result(i);

			events[(*nevents)++] = event;
			*bytes += event->size;
			place->txid = event->txid;
			place->id = event->id;
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	return at_end;
}

/* Flushes WAL up to the commit records of the events' transactions. */
static void
make_durable(OeLogEvent *const *events, int nevents)
{
	XLogRecPtr	flush_to = InvalidXLogRecPtr;
	uint64		last = 0;
	uint64		last_async = oe_shared == NULL ? PG_UINT64_MAX : pg_atomic_read_u64(&oe_shared->async_txid);

	for (int i = 0; i < nevents; i++)
	{
		XLogRecPtr	lsn;

		if (events[i]->txid == last || events[i]->txid > last_async ||
			(durable != NULL && oe_snapshot_sees(durable, events[i]->txid)))
			continue;
		last = events[i]->txid;
		lsn = TransactionIdGetCommitLSN(XidFromFullTransactionId(FullTransactionIdFromU64(last)));
		if (lsn > flush_to)
			flush_to = lsn;
	}
	if (!XLogRecPtrIsInvalid(flush_to))
		XLogFlush(flush_to);
}

/* News of endpoints go to whom they concern, whatever types that one wants. */
static uint32
bodies_of(const Datum *values, OeBodiesFor bodies_for, const void *arg)
{
	if (bodies_for == NULL)
		return 0;
	if (strcmp(TextDatumGetCString(values[OE_OUTBOX_AGGREGATETYPE]), OE_AGGREGATE_ENDPOINT) == 0)
		return oe_bodies_wanted;
	return bodies_for(arg, TextDatumGetCString(values[OE_OUTBOX_TYPE]));
}

/*
 * Takes over what is left of a range, up to the limits: events of the shards and
 * of transactions that "upto" sees.  Returns whether it came to the end.
 */
static bool
take_rows(OeLogScan *scan, const OeSnapshot *upto, uint32 shards, OePlace *place, int max_rows,
		  size_t max_bytes, OeBodiesFor bodies_for, const void *arg, OeLogEvent **events,
		  int *nevents, size_t *bytes)
{
	while (*nevents < max_rows && *bytes < max_bytes)
	{
		TupleTableSlot *slot = oe_log_scan_next(scan);
		OeLogEvent *event;
		MemoryContext old;
		FullTransactionId txid;

		if (slot == NULL)
			return true;
		slot_getallattrs(slot);
		txid = DatumGetFullTransactionId(slot->tts_values[OE_OUTBOX_TXID]);
		if ((shards & ((uint32) 1 << DatumGetInt16(slot->tts_values[OE_OUTBOX_SHARD]))) == 0 ||
			!oe_snapshot_sees(upto, U64FromFullTransactionId(txid)))
			continue;
		old = MemoryContextSwitchTo(row_context);
		event = make_event(slot->tts_values, slot->tts_isnull,
						   bodies_of(slot->tts_values, bodies_for, arg));
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);

		events[(*nevents)++] = event;
		*bytes += event->size;
		place->txid = event->txid;
		place->id = event->id;
	}
	return false;
}

int
oe_reader_read(OePlace *place, uint32 shards, int max_rows, size_t max_bytes,
			   OeBodiesFor bodies_for, const void *arg, OeLogEvent **events)
{
	static const pg_uuid_t lowest_id = {0};
	OeSnapshot *seen = place->seen;
	OeSnapshot *upto = place->upto;
	OeLogScan  *scan = oe_log_scan_begin();
	size_t		bytes = 0;
	int			nevents = 0;
	bool		at_end = true;

	/* transactions that ran in "seen" and were seen by "upto" */
	for (int i = 0; i < seen->nxip && at_end; i++)
	{
		pg_uuid_t	after_id = place->txid == seen->xip[i] ? place->id : lowest_id;

		if (seen->xip[i] < place->txid || !oe_snapshot_sees(upto, seen->xip[i]))
			continue;
		oe_log_scan_range(scan, seen->xip[i], &after_id, seen->xip[i] + 1);
		at_end = take_rows(scan, upto, shards, place, max_rows, max_bytes, bodies_for, arg,
						   events, &nevents, &bytes);
	}

	/* transactions that began after "seen" */
	if (at_end && upto->xmax > seen->xmax)
	{
		pg_uuid_t	after_id = place->txid >= seen->xmax ? place->id : lowest_id;

		oe_log_scan_range(scan, Max(place->txid, seen->xmax), &after_id, upto->xmax);
		at_end = take_rows(scan, upto, shards, place, max_rows, max_bytes, bodies_for, arg,
						   events, &nevents, &bytes);
	}
	oe_log_scan_end(scan);

	make_durable(events, nevents);

	if (at_end)
	{
		oe_snapshot_unref(place->seen);
		place->seen = place->upto;
		place->upto = NULL;
		place->txid = 0;
		memset(&place->id, 0, sizeof(pg_uuid_t));
	}
	return nevents;
}

/* The next ids of a list behind "after"; returns how many. */
static int
next_ids(const OeReplaySet *set, const pg_uuid_t *after, pg_uuid_t **first)
{
	int			low = 0;
	int			high = set->nids;

	while (low < high)
	{
		int			mid = (low + high) / 2;

		if (memcmp(&set->ids[mid], after, sizeof(pg_uuid_t)) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	*first = set->ids + low;
	return Min(set->nids - low, REPLAY_IDS);
}

static int
read_list(const OeReplaySet *set, OePlace *place, uint32 shards, OeLogEvent **events, bool *at_end)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDARRAYOID, INT2ARRAYOID, INT4OID};
	Datum		values[3];
	pg_uuid_t  *ids;
	int			nids = next_ids(set, &place->id, &ids);
	size_t		bytes = 0;
	int			nevents = 0;

	*at_end = (nids == 0 || ids + nids == set->ids + set->nids);
	if (nids == 0)
		return 0;
	values[0] = uuid_array(ids, nids);
	values[1] = shard_array(shards);
	values[2] = Int32GetDatum(set->endpoint_id);
	oe_plan_keep(&plan,
				 "SELECT * FROM (SELECT " EVENT_COLUMNS " FROM order_engine.outbox"
				 " WHERE id = ANY ($1) AND shard = ANY ($2)"
				 " UNION ALL SELECT " DEAD_COLUMNS " FROM order_engine.delivery_dead d"
				 " WHERE d.endpoint_id = $3 AND d.id = ANY ($1) AND d.shard = ANY ($2)"
				 " AND NOT EXISTS (SELECT FROM order_engine.outbox o WHERE o.id = d.id)) AS e"
				 " ORDER BY id", 3, types);
	(void) fetch_rows(plan, values, place, REPLAY_IDS, SIZE_MAX, events, &nevents, &bytes);
	place->id = ids[nids - 1];
	return nevents;
}

static int
read_range(const OeReplaySet *set, OePlace *place, uint32 shards, int max_rows, size_t max_bytes,
		   OeLogEvent **events, bool *at_end)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, UUIDOID, UUIDOID, INT2ARRAYOID};
	Datum		values[4];
	size_t		bytes = 0;
	int			nevents = 0;
	int			kept = 0;

	values[0] = UUIDPGetDatum(&place->id);
	values[1] = UUIDPGetDatum(&set->first_id);
	values[2] = UUIDPGetDatum(&set->last_id);
	values[3] = shard_array(shards);
	oe_plan_keep(&plan,
				 "SELECT " EVENT_COLUMNS " FROM order_engine.outbox"
				 " WHERE id > $1 AND id >= $2 AND id <= $3 AND shard = ANY ($4) ORDER BY id",
				 4, types);
	*at_end = fetch_rows(plan, values, place, max_rows, max_bytes, events, &nevents, &bytes);
	for (int i = 0; i < nevents; i++)
	{
		OeLogEvent *event = events[i];

		if ((set->visible != NULL && !oe_snapshot_sees(set->visible, event->txid)) ||
			(set->unseen != NULL && !oe_snapshot_sees(set->unseen, event->txid)))
			oe_event_unref(event);
		else
			events[kept++] = event;
	}
	return kept;
}

int
oe_reader_read_replay(const OeReplaySet *set, OePlace *place, uint32 shards,
					  int max_rows, size_t max_bytes, OeLogEvent **events, bool *at_end)
{
	int			nevents;

	Assert(max_rows >= REPLAY_IDS);
	if (set->ids != NULL)
		nevents = read_list(set, place, shards, events, at_end);
	else
		nevents = read_range(set, place, shards, max_rows, max_bytes, events, at_end);
	make_durable(events, nevents);
	place->txid = 0;
	return nevents;
}

OeLogEvent *
oe_reader_fetch(int32 endpoint_id, uint64 txid, const pg_uuid_t *id)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr dead_plan = NULL;
	static const Oid types[] = {XID8OID, UUIDOID};
	static const Oid dead_types[] = {INT4OID, UUIDOID};
	Datum		values[2];
	OeLogEvent *event = NULL;

	values[0] = FullTransactionIdGetDatum(FullTransactionIdFromU64(txid));
	values[1] = UUIDPGetDatum(id);
	if (oe_worker_execute(&plan,
						  "SELECT " EVENT_COLUMNS " FROM order_engine.outbox"
						  " WHERE txid = $1 AND id = $2",
						  2, types, values, NULL, SPI_OK_SELECT) > 0)
		event = make_event_of_result(0);
	SPI_freetuptable(SPI_tuptable);
	if (event != NULL)
		return event;

	values[0] = Int32GetDatum(endpoint_id);
	if (oe_worker_execute(&dead_plan,
						  "SELECT " DEAD_COLUMNS " FROM order_engine.delivery_dead d"
						  " WHERE d.endpoint_id = $1 AND d.id = $2",
						  2, dead_types, values, NULL, SPI_OK_SELECT) > 0)
		event = make_event_of_result(0);
	SPI_freetuptable(SPI_tuptable);
	return event;
}

void
oe_reader_sync(void)
{
	OeSnapshot *now_seen = oe_snapshot_current();
	XLogRecPtr	lsn = GetXLogInsertRecPtr();
	uint32		offset = lsn % XLOG_BLCKSZ;

	/* directly behind a page header nothing was written yet that could be flushed */
	if (offset == (XLogSegmentOffset(lsn - offset, wal_segment_size) == 0 ?
				   SizeOfXLogLongPHD : SizeOfXLogShortPHD))
		lsn -= offset;
	XLogFlush(lsn);
	oe_snapshot_unref(durable);
	durable = now_seen;
}
