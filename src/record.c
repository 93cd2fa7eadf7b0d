/*
 * record.c
 *	  The two rows that every event leaves: history and outbox.
 *
 * Both are written below the SQL level, in the transaction that made the
 * event, with the same time and sequence number.
 */
#include "postgres.h"

#include "append.h"
#include "context.h"
#include "outbox.h"
#include "part.h"
#include "record.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* columns of order_engine.history, as sql/10_machine.sql defines them */
enum
{
	COL_ORDER_ID, COL_ENTITY, COL_ENTITY_ID, COL_SEQ, COL_EVENT, COL_FROM_STATE, COL_TO_STATE,
	COL_MACHINE_ID, COL_FORCED, COL_REASON, COL_TENANT, COL_ACTOR, COL_CORRELATION_ID,
	COL_TRACEPARENT, COL_METADATA, COL_CREATED_AT, NUM_COLS
};

static Datum
text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

static void
append_history(const OeRecord *record)
{
	Datum		values[NUM_COLS];
	bool		nulls[NUM_COLS] = {false};

	values[COL_ORDER_ID] = Int64GetDatum(record->order_id);
	nulls[COL_ORDER_ID] = record->order_id == 0;
	values[COL_ENTITY] = CStringGetTextDatum(record->entity);
	values[COL_ENTITY_ID] = CStringGetTextDatum(record->entity_id);
	values[COL_SEQ] = Int64GetDatum(record->seq);
	nulls[COL_SEQ] = record->seq == 0;
	values[COL_EVENT] = CStringGetTextDatum(record->event);
	values[COL_FROM_STATE] = CStringGetTextDatum(record->from);
	values[COL_TO_STATE] = CStringGetTextDatum(record->to);
	values[COL_MACHINE_ID] = Int32GetDatum(record->machine_id);
	values[COL_FORCED] = BoolGetDatum(record->forced);
	values[COL_REASON] = text_or_null(record->reason, &nulls[COL_REASON]);
	values[COL_TENANT] = text_or_null(oe_context_tenant(), &nulls[COL_TENANT]);
	values[COL_ACTOR] = CStringGetTextDatum(oe_context_actor());
	values[COL_CORRELATION_ID] = text_or_null(oe_context_correlation_id(),
											  &nulls[COL_CORRELATION_ID]);
	values[COL_TRACEPARENT] = text_or_null(oe_context_traceparent(), &nulls[COL_TRACEPARENT]);
	values[COL_METADATA] = JsonbPGetDatum(record->metadata);
	nulls[COL_METADATA] = record->metadata == NULL;
	values[COL_CREATED_AT] = TimestampTzGetDatum(record->at);

	oe_append(oe_relid(OE_REL_HISTORY), NUM_COLS, false, values, nulls);
}

void
oe_record_event(const OeRecord *record)
{
	OeEvent		event = {0};

	append_history(record);

	event.aggregatetype = record->aggregatetype;
	event.aggregateid = record->aggregateid;
	event.aggregate_seq = record->seq;
	event.last_txid = record->last_txid;
	event.type = record->type;
	event.payload = record->payload;
	event.created_at = record->at;
	oe_outbox_append(&event);
}

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	jbv;

	jbv.type = jbvString;
	jbv.val.string.val = unconstify(char *, key);
	jbv.val.string.len = strlen(key);
	(void) pushJsonbValue(state, WJB_KEY, &jbv);
}

void
oe_jsonb_push_text(JsonbParseState **state, const char *key, const char *value)
{
	JsonbValue	jbv;

	if (value == NULL)
		return;
	push_key(state, key);
	jbv.type = jbvString;
	jbv.val.string.val = unconstify(char *, value);
	jbv.val.string.len = strlen(value);
	(void) pushJsonbValue(state, WJB_VALUE, &jbv);
}

void
oe_jsonb_push_numeric(JsonbParseState **state, const char *key, Numeric value)
{
	JsonbValue	jbv;

	push_key(state, key);
	jbv.type = jbvNumeric;
	jbv.val.numeric = value;
	(void) pushJsonbValue(state, WJB_VALUE, &jbv);
}

void
oe_jsonb_push_int64(JsonbParseState **state, const char *key, int64 value)
{
	oe_jsonb_push_numeric(state, key, int64_to_numeric(value));
}

void
oe_jsonb_push_jsonb(JsonbParseState **state, const char *key, Jsonb *value)
{
	JsonbValue	jbv;

	if (value == NULL)
		return;
	push_key(state, key);
	jbv.type = jbvBinary;
	jbv.val.binary.data = &value->root;
	jbv.val.binary.len = VARSIZE(value) - VARHDRSZ;
	(void) pushJsonbValue(state, WJB_VALUE, &jbv);
}

/* What an event has that most events have not. */
static void
push_rest(JsonbParseState **state, const OeRecord *record)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (record->forced)
	{
		push_key(state, "forced");
		value.type = jbvBool;
		value.val.boolean = true;
		(void) pushJsonbValue(state, WJB_VALUE, &value);
	}
	if (record->details == NULL)
		return;
	it = JsonbIteratorInit(&record->details->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY || token == WJB_VALUE)
			(void) pushJsonbValue(state, token, &value);
	}
}

void
oe_record_order_event(const OeOrder *order, OeRecord *record, Jsonb *lines)
{
	JsonbParseState *state = NULL;
	char		id[MAXINT8LEN + 1];

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	/* in the order in which jsonb keeps keys (length, bytes): sorted input sorts fast */
	oe_jsonb_push_text(&state, "to", record->to);
	oe_jsonb_push_text(&state, "from", record->from);
	oe_jsonb_push_text(&state, "event", record->event);
	oe_jsonb_push_jsonb(&state, "lines", lines);
	oe_jsonb_push_numeric(&state, "total", order->total);
	oe_jsonb_push_text(&state, "reason", record->reason);
	oe_jsonb_push_text(&state, "channel", order->channel);
	oe_jsonb_push_int64(&state, "version", order->version);
	oe_jsonb_push_text(&state, "currency", order->currency);
	oe_jsonb_push_int64(&state, "order_id", order->order_id);
	oe_jsonb_push_text(&state, "customer_id", order->customer_id);
	oe_jsonb_push_text(&state, "order_number", order->order_number);
	push_rest(&state, record);

	snprintf(id, sizeof(id), INT64_FORMAT, order->order_id);
	record->order_id = order->order_id;
	record->entity = record->aggregatetype = "order";
	record->entity_id = record->aggregateid = id;
	record->seq = order->version;
	record->payload = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	oe_record_event(record);

	/* do not leave pointers into our own stack frame behind */
	record->entity_id = record->aggregateid = NULL;
}

void
oe_record_part_event(const OeOrder *order, const OePart *part, OeRecord *record)
{
	JsonbParseState *state = NULL;
	char		order_id[MAXINT8LEN + 1];
	char		part_id[MAXINT8LEN + 1];

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_text(&state, "to", record->to);
	oe_jsonb_push_text(&state, "from", record->from);
	oe_jsonb_push_text(&state, "event", record->event);
	oe_jsonb_push_text(&state, "entity", part->kind->name);
	oe_jsonb_push_text(&state, "reason", record->reason);
	oe_jsonb_push_text(&state, "channel", order->channel);
	oe_jsonb_push_int64(&state, "version", order->version);
	oe_jsonb_push_text(&state, "currency", order->currency);
	oe_jsonb_push_int64(&state, "order_id", order->order_id);
	oe_jsonb_push_text(&state, "customer_id", order->customer_id);
	oe_jsonb_push_text(&state, "order_number", order->order_number);
	oe_jsonb_push_int64(&state, part->kind->id_key, part->id);
	if (part->kind->describe != NULL)
		part->kind->describe(part, &state);
	push_rest(&state, record);

	snprintf(order_id, sizeof(order_id), INT64_FORMAT, order->order_id);
	snprintf(part_id, sizeof(part_id), INT64_FORMAT, part->id);
	record->order_id = order->order_id;
	record->entity = part->kind->name;
	record->entity_id = part_id;
	record->aggregatetype = "order";
	record->aggregateid = order_id;
	record->seq = order->version;
	record->payload = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	oe_record_event(record);

	/* do not leave pointers into our own stack frame behind */
	record->entity_id = record->aggregateid = NULL;
}
