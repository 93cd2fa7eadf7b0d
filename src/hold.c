/*
 * hold.c
 *	  Holds: while one is open, its order is neither confirmed nor shipped.
 *
 * A hold is an operator's, or a chargeback's, word that an order must wait.  It
 * may be placed in any state, for a chargeback also comes when all is done.  An
 * order may have several; the last release sets it free, and what waited for
 * that alone happens by itself.
 *
 * The lock on the order's row serializes all of it.
 */
#include "postgres.h"

#include "amend.h"
#include "append.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "context.h"
#include "errors.h"
#include "hold.h"
#include "id.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "query.h"
#include "record.h"
#include "tcop/utility.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_place_hold);
PG_FUNCTION_INFO_V1(oe_release_hold);

/* columns of order_engine.order_hold, as sql/38_hold.sql defines them */
enum
{
	COL_HOLD_ID, COL_ORDER_ID, COL_PLACED_AT, COL_RELEASED_AT, COL_REASON, COL_NOTE, COL_PLACED_BY,
	COL_RELEASED_BY, COL_RELEASE_NOTE, NUM_COLS
};

/* The order's word on its holds, and the event. */
static void
amend_order(OeOrder *order, OeRecord *record, int64 hold_id)
{
	static OeQuery roll_up = {
		"UPDATE order_engine.orders SET on_hold = EXISTS ("
		"  SELECT 1 FROM order_engine.order_hold AS h WHERE h.order_id = $1 AND h.released_at IS NULL)"
		" WHERE order_id = $1 RETURNING *",
		1, {INT8OID}
	};
	Datum		order_id = Int64GetDatum(order->order_id);
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&state, "hold_id", hold_id);
	record->details = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	record->metadata = record->details;
	oe_order_amend_event(order, &roll_up, &order_id, NULL, record, NULL);
}

int64
oe_hold_place(OeOrder *order, const char *reason, const char *note, TimestampTz at)
{
	int64		hold_id = oe_new_id();
	Datum		values[NUM_COLS] = {0};
	bool		nulls[NUM_COLS] = {false};
	OeRecord	record = {.event = "place_hold", .type = "order.hold_placed", .reason = reason, .at = at};

	values[COL_HOLD_ID] = Int64GetDatum(hold_id);
	values[COL_ORDER_ID] = Int64GetDatum(order->order_id);
	values[COL_PLACED_AT] = TimestampTzGetDatum(at);
	values[COL_REASON] = CStringGetTextDatum(reason);
	if (note != NULL)
		values[COL_NOTE] = CStringGetTextDatum(note);
	values[COL_PLACED_BY] = CStringGetTextDatum(oe_context_actor());
	nulls[COL_NOTE] = note == NULL;
	nulls[COL_RELEASED_AT] = nulls[COL_RELEASED_BY] = nulls[COL_RELEASE_NOTE] = true;
	oe_append(oe_relid(OE_REL_ORDER_HOLD), NUM_COLS, OE_CHECKED, values, nulls);

	amend_order(order, &record, hold_id);
	return hold_id;
}

char *
oe_holds_json(int64 order_id)
{
	static OeQuery query = {
		"SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("
		"  'hold_id', h.hold_id, 'reason', h.reason) ORDER BY h.placed_at, h.hold_id), '[]')::text"
		" FROM order_engine.order_hold AS h WHERE h.order_id = $1 AND h.released_at IS NULL",
		1, {INT8OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(order_id);
	char	   *json;

	oe_spi_connect();
	(void) oe_query_run(&query, &arg, NULL, false, SPI_OK_SELECT);
	json = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	oe_spi_finish();
	return json;
}

/* The order that a hold belongs to, which never changes; OE005. */
static int64
order_of(int64 hold_id)
{
	static OeQuery query = {
		"SELECT order_id FROM order_engine.order_hold WHERE hold_id = $1",
		1, {INT8OID}
	};
	Datum		arg = Int64GetDatum(hold_id);
	int64		order_id;
	bool		isnull;

	oe_spi_connect();
	if (oe_query_run(&query, &arg, NULL, false, SPI_OK_SELECT) != 1)
		oe_not_found("hold", hold_id);
	order_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	oe_spi_finish();
	return order_id;
}

/* Ends a hold of an order that is locked; *reason is why it was placed.  False when it has ended. */
static bool
release(int64 hold_id, const char *note, TimestampTz at, char **reason)
{
	static OeQuery query = {
		"UPDATE order_engine.order_hold SET released_at = $2, released_by = $3, release_note = $4"
		" WHERE hold_id = $1 AND released_at IS NULL RETURNING reason",
		4, {INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		values[4] = {
		Int64GetDatum(hold_id), TimestampTzGetDatum(at), CStringGetTextDatum(oe_context_actor()),
		note == NULL ? (Datum) 0 : CStringGetTextDatum(note)
	};
	bool		released;

	oe_spi_connect();
	released = oe_query_run(&query, values, note == NULL ? "   n" : NULL, false, SPI_OK_UPDATE_RETURNING) == 1;
	if (released)
		*reason = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	oe_spi_finish();
	return released;
}

/*
 * place_hold(order_id, reason, note, idempotency_key, expected_version)
 */
Datum
oe_place_hold(PG_FUNCTION_ARGS)
{
	char	   *reason = oe_arg_name(fcinfo, 1, "reason");
	char	   *note = oe_arg_text_or_null(fcinfo, 2);
	char	   *key = oe_arg_name_or_null(fcinfo, 3, "idempotency_key");
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OeOrder		order;
	int64		hold_id;
	char	   *result;

	oe_arg_require(fcinfo, 0, "order_id");
	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "order_id", PG_GETARG_INT64(0));
	oe_jsonb_push_text(&request, "reason", reason);
	oe_jsonb_push_text(&request, "note", note);
	if (!PG_ARGISNULL(4))
		oe_jsonb_push_int64(&request, "expected_version", PG_GETARG_INT64(4));
	if (oe_idempotency_begin(&call, "place_hold", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)),
							 &result))
		PG_RETURN_INT64(pg_strtoint64(result));
	PreventCommandIfReadOnly("place_hold()");

	oe_order_lock(PG_GETARG_INT64(0), oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_INT64(pg_strtoint64(result));
	if (!PG_ARGISNULL(4))
		oe_order_check_version(&order, PG_GETARG_INT64(4));

	hold_id = oe_hold_place(&order, reason, note, GetCurrentTimestamp());
	oe_order_follow(&order);
	oe_idempotency_finish(&call, psprintf(INT64_FORMAT, hold_id));
	PG_RETURN_INT64(hold_id);
}

/*
 * release_hold(hold_id, note, idempotency_key, expected_version)
 */
Datum
oe_release_hold(PG_FUNCTION_ARGS)
{
	char	   *note = oe_arg_text_or_null(fcinfo, 1);
	char	   *key = oe_arg_name_or_null(fcinfo, 2, "idempotency_key");
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OeOrder		order;
	int64		hold_id;
	TimestampTz at;
	char	   *reason;
	bool		released;
	char	   *result;

	oe_arg_require(fcinfo, 0, "hold_id");
	hold_id = PG_GETARG_INT64(0);
	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "hold_id", hold_id);
	oe_jsonb_push_text(&request, "note", note);
	if (!PG_ARGISNULL(3))
		oe_jsonb_push_int64(&request, "expected_version", PG_GETARG_INT64(3));
	if (oe_idempotency_begin(&call, "release_hold", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)),
							 &result))
		PG_RETURN_BOOL(strcmp(result, "true") == 0);
	PreventCommandIfReadOnly("release_hold()");

	oe_order_lock(order_of(hold_id), oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_BOOL(strcmp(result, "true") == 0);
	if (!PG_ARGISNULL(3))
		oe_order_check_version(&order, PG_GETARG_INT64(3));

	at = GetCurrentTimestamp();
	released = release(hold_id, note, at, &reason);
	if (released)
	{
		OeRecord	record = {.event = "release_hold", .type = "order.hold_released", .reason = reason, .at = at};

		amend_order(&order, &record, hold_id);
		oe_order_follow(&order);
	}
	oe_idempotency_finish(&call, released ? "true" : "false");
	PG_RETURN_BOOL(released);
}
