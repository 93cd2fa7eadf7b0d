/*
 * transition.c
 *	  transition() and force_transition(): apply an event to an order, or to a
 *	  part of it.
 *
 * The verb decides which state the event leads to and runs one UPDATE; the
 * trigger does the rest, as it does for an UPDATE written by hand.  The order
 * row is locked first, so of two callers the second sees what the first did: a
 * webhook and the synchronous reply may both say "paid", and both succeed.
 *
 * What is forced leaves out the guards and nothing else: the machine must have
 * the event in this state, effects happen, and neither CHECK constraints nor
 * stock that is not there give way.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "idempotency.h"
#include "machine_graph.h"
#include "miscadmin.h"
#include "part.h"
#include "query.h"
#include "record.h"
#include "state_machine.h"
#include "tcop/utility.h"
#include "transition.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(oe_transition);
PG_FUNCTION_INFO_V1(oe_force_transition);

/* The one row that a query selects, into the caller's memory context. */
static void
read_order(OeQuery *query, int64 order_id, bool read_only, OeOrder *order)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(order_id);

	oe_spi_connect();
	if (oe_query_run(query, &arg, NULL, read_only, SPI_OK_SELECT) != 1)
		oe_not_found(OE_KIND_ORDER, order_id);
	oe_order_from_result(order, caller);
	oe_spi_finish();
}

void
oe_order_lock(int64 order_id, LockWaitPolicy policy, OeOrder *order)
{
	static OeQuery wait = {
		"SELECT * FROM order_engine.orders WHERE order_id = $1 FOR NO KEY UPDATE",
		1, {INT8OID}
	};
	static OeQuery nowait = {
		"SELECT * FROM order_engine.orders WHERE order_id = $1 FOR NO KEY UPDATE NOWAIT",
		1, {INT8OID}
	};

	Assert(policy != LockWaitSkip);
	read_order(policy == LockWaitError ? &nowait : &wait, order_id, false, order);
}

void
oe_order_read(int64 order_id, OeOrder *order)
{
	static OeQuery query = {
		"SELECT * FROM order_engine.orders WHERE order_id = $1",
		1, {INT8OID}
	};

	read_order(&query, order_id, true, order);
}

void
oe_order_refresh(OeOrder *order)
{
	static OeQuery query = {
		"SELECT * FROM order_engine.orders WHERE order_id = $1",
		1, {INT8OID}
	};

	read_order(&query, order->order_id, false, order);
}

static void
update_state(int64 order_id, const char *state)
{
	static OeQuery query = {
		"UPDATE order_engine.orders SET state = $2 WHERE order_id = $1",
		2, {INT8OID, TEXTOID}
	};
	Datum		values[2] = {Int64GetDatum(order_id), CStringGetTextDatum(state)};

	oe_spi_connect();
	if (oe_query_run(&query, values, NULL, false, SPI_OK_UPDATE) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("another trigger suppressed the change of order " INT64_FORMAT, order_id)));
	oe_spi_finish();
}

char *
oe_order_apply(OeOrder *order, const char *event, const char *reason, Jsonb *metadata, bool forced)
{
	const OeMachine *machine = oe_machine_by_id(order->machine_id);
	const OeTransition *transition = oe_machine_find_event(machine, order->state, event);
	OeVerbCall	call = {0};

	if (transition == NULL)
	{
		OeInvalidTransition what = {.entity = "order", .id_is_number = true};

		if (oe_machine_event_enters(machine, event, order->state))
			return pstrdup(order->state);
		what.entity_id = psprintf(INT64_FORMAT, order->order_id);
		what.from = order->state;
		what.event = event;
		oe_invalid_transition(machine, &what);
	}

	call.kind = OE_KIND_ORDER;
	call.id = order->order_id;
	call.forced = forced;
	call.version = order->version + 1;
	call.reason = reason;
	call.metadata = metadata;
	oe_verb_begin(&call);
	PG_TRY();
	{
		update_state(order->order_id, transition->to);
	}
	PG_FINALLY();
	{
		oe_verb_end(&call);
	}
	PG_END_TRY();

	/* effects and what follows by itself are events of the order, too */
	oe_order_refresh(order);
	return pstrdup(order->state);
}

void
oe_order_check_version(const OeOrder *order, int64 expected)
{
	OeJson		detail;

	if (order->version == expected)
		return;
	oe_json_begin(&detail);
	oe_json_text(&detail, "entity", OE_KIND_ORDER);
	oe_json_int64(&detail, "id", order->order_id);
	oe_json_int64(&detail, "expected", expected);
	oe_json_int64(&detail, "actual", order->version);
	ereport(ERROR,
			(errcode(ERRCODE_OE_VERSION_CONFLICT),
			 errmsg("order " INT64_FORMAT " has version " INT64_FORMAT ", not " INT64_FORMAT,
					order->order_id, order->version, expected),
			 errdetail_internal("%s", oe_json_end(&detail)),
			 errhint("Read the order again and decide anew.")));
}

const OePartKind *
oe_entity_kind(const char *entity)
{
	const OePartKind *kind = oe_part_kind(entity);

	if (kind == NULL && strcmp(entity, OE_KIND_ORDER) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown entity \"%s\"", entity),
				 errhint("The entity is order, payment, fulfillment or return.")));
	return kind;
}

/* What both verbs are asked for. */
typedef struct Request
{
	const char *operation;
	char	   *entity;
	int64		id;
	char	   *event;
	char	   *reason;			/* may be NULL */
	const int64 *expected_version;	/* may be NULL */
	Jsonb	   *metadata;		/* may be NULL */
	char	   *key;			/* may be NULL */
	bool		forced;
} Request;

static Jsonb *
request_json(const Request *request)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_text(&state, "entity", request->entity);
	oe_jsonb_push_int64(&state, "id", request->id);
	oe_jsonb_push_text(&state, "event", request->event);
	oe_jsonb_push_text(&state, "reason", request->reason);
	if (request->expected_version != NULL)
		oe_jsonb_push_int64(&state, "expected_version", *request->expected_version);
	oe_jsonb_push_jsonb(&state, "metadata", request->metadata);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static char *
apply(const Request *request)
{
	const OePartKind *kind = oe_entity_kind(request->entity);
	OeIdempotency call;
	OeOrder		order;
	OePart		part;
	char	   *result;

	if (oe_idempotency_begin(&call, request->operation, request->key, request_json(request), &result))
		return result;
	PreventCommandIfReadOnly(psprintf("%s()", request->operation));

	/* a part never changes its order */
	if (kind != NULL)
		oe_part_read(kind, request->id, &part);
	oe_order_lock(kind == NULL ? request->id : part.order_id, oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		return result;

	/* before anything else: who names a version wants to know of any change */
	if (request->expected_version != NULL)
		oe_order_check_version(&order, *request->expected_version);
	if (kind == NULL)
		result = oe_order_apply(&order, request->event, request->reason, request->metadata,
								request->forced);
	else
	{
		oe_part_lock(kind, request->id, oe_idempotency_lock_policy(&call), &part);
		result = oe_part_apply(&order, &part, request->event, request->reason, request->metadata,
							   request->forced);
	}
	oe_idempotency_finish(&call, result);
	return result;
}

/*
 * transition(entity, id, event, reason, expected_version, metadata, idempotency_key)
 */
Datum
oe_transition(PG_FUNCTION_ARGS)
{
	Request		request = {.operation = "transition"};
	int64		expected_version;

	request.entity = oe_arg_name(fcinfo, 0, "entity");
	request.event = oe_arg_name(fcinfo, 2, "event");
	request.reason = oe_arg_text_or_null(fcinfo, 3);
	request.metadata = oe_arg_metadata(fcinfo, 5, "metadata");
	request.key = oe_arg_name_or_null(fcinfo, 6, "idempotency_key");
	oe_arg_require(fcinfo, 1, "id");
	request.id = PG_GETARG_INT64(1);
	if (!PG_ARGISNULL(4))
	{
		expected_version = PG_GETARG_INT64(4);
		request.expected_version = &expected_version;
	}
	PG_RETURN_TEXT_P(cstring_to_text(apply(&request)));
}

/*
 * force_transition(entity, id, event, reason, metadata, idempotency_key, expected_version)
 */
Datum
oe_force_transition(PG_FUNCTION_ARGS)
{
	Request		request = {.operation = "force_transition", .forced = true};
	int64		expected_version;

	request.entity = oe_arg_name(fcinfo, 0, "entity");
	request.event = oe_arg_name(fcinfo, 2, "event");
	oe_arg_require(fcinfo, 3, "reason");
	request.reason = oe_arg_text_or_null(fcinfo, 3);
	request.metadata = oe_arg_metadata(fcinfo, 4, "metadata");
	request.key = oe_arg_name_or_null(fcinfo, 5, "idempotency_key");
	if (!PG_ARGISNULL(6))
	{
		expected_version = PG_GETARG_INT64(6);
		request.expected_version = &expected_version;
	}
	oe_arg_require(fcinfo, 1, "id");
	request.id = PG_GETARG_INT64(1);
	if (request.reason[strspn(request.reason, " \t\n\r")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", "reason")));
	PG_RETURN_TEXT_P(cstring_to_text(apply(&request)));
}
