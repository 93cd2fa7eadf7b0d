/*
 * fulfillment.c
 *	  SQL functions create_fulfillment and set_tracking.
 *
 * A fulfillment claims units when it is made, under the lock on the order's row:
 * no two fulfillments have the same unit, and cancel_order() leaves it alone.
 * Stock moves when it is shipped.
 */
#include "postgres.h"

#include "access/xact.h"
#include "amend.h"
#include "append.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "fulfillment.h"
#include "idempotency.h"
#include "items.h"
#include "line_units.h"
#include "miscadmin.h"
#include "stock_row.h"
#include "tcop/utility.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_create_fulfillment);
PG_FUNCTION_INFO_V1(oe_set_tracking);

/* columns of fulfillment_line, as sql/34_fulfillment.sql defines them */
enum
{
	LINE_FULFILLMENT_ID, LINE_LINE_NO, LINE_QUANTITY, LINE_OPEN, LINE_SHIPPED, LINE_DELIVERED,
	LINE_UNDELIVERED, LINE_COLUMNS
};

/* The units that the fulfillment is to have; OE301 when there are none. */
static OeLineUnits *
choose_units(const OeOrder *order, Jsonb *items, int *nlines)
{
	static OeQuery query = {
		"SELECT l.line_no, l.quantity - l.cancelled - l.shipped"
		" - (SELECT coalesce(sum(v.open), 0)::integer FROM order_engine.fulfillment f"
		"    JOIN order_engine.fulfillment_line v USING (fulfillment_id)"
		"    WHERE f.order_id = l.order_id AND v.line_no = l.line_no)"
		" FROM order_engine.order_line l WHERE l.order_id = $1 ORDER BY l.line_no",
		1, {INT8OID}
	};
	OeLineUnits *lines = oe_line_units_read(&query, order->order_id, nlines);

	if (items != NULL)
	{
		int			nitems;
		OeItem	   *parsed = oe_items_parse(items, OE_ITEM_LINE_NO | OE_ITEM_QUANTITY, &nitems);

		for (int i = 0; i < nitems; i++)
			(void) oe_line_units_take(lines, *nlines, &parsed[i], "order", "shipped");
	}
	else if (!oe_line_units_take_all(lines, *nlines))
		ereport(ERROR,
				(errcode(ERRCODE_OE_AMOUNT_EXCEEDS_LIMIT),
				 errmsg("the order has no units that can be shipped"),
				 errdetail_internal("{\"limit\": 0, \"requested\": 1}"),
				 errhint("They were shipped or cancelled, or other fulfillments have them.")));
	return lines;
}

static void
insert_lines(int64 fulfillment_id, const OeLineUnits *lines, int nlines)
{
	OeAppender *appender = oe_append_begin(oe_relid(OE_REL_FULFILLMENT_LINE), LINE_COLUMNS, OE_CHECKED);

	for (int i = 0; i < nlines; i++)
	{
		Datum		values[LINE_COLUMNS] = {0};
		bool		nulls[LINE_COLUMNS] = {false};

		if (lines[i].taken == 0)
			continue;
		values[LINE_FULFILLMENT_ID] = Int64GetDatum(fulfillment_id);
		values[LINE_LINE_NO] = Int32GetDatum(lines[i].line_no);
		values[LINE_QUANTITY] = Int32GetDatum(lines[i].taken);
		values[LINE_OPEN] = Int32GetDatum(lines[i].taken);
		oe_append_row(appender, values, nulls);
	}
	oe_append_end(appender);
}

/* Writes the rows and the event; returns the id. */
static int64
create(OeOrder *order, const OeLineUnits *lines, int nlines, const char *location,
	   Jsonb *tracking, Jsonb *metadata)
{
	OePart		part;
	Datum		values[Natts_fulfillment] = {0};
	bool		nulls[Natts_fulfillment] = {false};
	OeRecord	record = {0};

	record.event = "create";
	record.type = "fulfillment.created";
	record.at = GetCurrentTimestamp();

	oe_part_begin(&oe_fulfillment_kind, order->order_id, record.at, &part, values, nulls);
	nulls[Anum_fulfillment_shipped_at - 1] = true;
	nulls[Anum_fulfillment_delivered_at - 1] = true;
	nulls[Anum_fulfillment_location - 1] = location == NULL;
	if (location != NULL)
		values[Anum_fulfillment_location - 1] = CStringGetTextDatum(location);
	nulls[Anum_fulfillment_tracking - 1] = tracking == NULL;
	values[Anum_fulfillment_tracking - 1] = JsonbPGetDatum(tracking);
	nulls[Anum_fulfillment_metadata - 1] = metadata == NULL;
	values[Anum_fulfillment_metadata - 1] = JsonbPGetDatum(metadata);
	oe_append(oe_relid(OE_REL_FULFILLMENT), Natts_fulfillment, OE_CHECKED, values, nulls);
	insert_lines(part.id, lines, nlines);
	CommandCounterIncrement();

	part.values = values;
	part.nulls = nulls;
	oe_part_event(order, &part, &record);
	oe_order_follow(order);
	return part.id;
}

/*
 * create_fulfillment(order_id, items, location, tracking, metadata,
 *					  expected_version, idempotency_key)
 */
Datum
oe_create_fulfillment(PG_FUNCTION_ARGS)
{
	Jsonb	   *items = oe_arg_items(fcinfo, 1);
	char	   *location = oe_arg_name_or_null(fcinfo, 2, "location");
	Jsonb	   *tracking = oe_arg_tracking(fcinfo, 3);
	Jsonb	   *metadata = oe_arg_metadata(fcinfo, 4, "metadata");
	char	   *key = oe_arg_name_or_null(fcinfo, 6, "idempotency_key");
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OeOrder		order;
	OeLineUnits *lines;
	int			nlines;
	char	   *result;

	oe_arg_require(fcinfo, 0, "order_id");

	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "order_id", PG_GETARG_INT64(0));
	oe_jsonb_push_jsonb(&request, "items", items);
	oe_jsonb_push_text(&request, "location", location);
	oe_jsonb_push_jsonb(&request, "tracking", tracking);
	oe_jsonb_push_jsonb(&request, "metadata", metadata);
	if (!PG_ARGISNULL(5))
		oe_jsonb_push_int64(&request, "expected_version", PG_GETARG_INT64(5));
	if (oe_idempotency_begin(&call, "create_fulfillment", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)),
							 &result))
		PG_RETURN_INT64(pg_strtoint64(result));
	PreventCommandIfReadOnly("create_fulfillment()");

	oe_order_lock(PG_GETARG_INT64(0), oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_INT64(pg_strtoint64(result));
	if (!PG_ARGISNULL(5))
		oe_order_check_version(&order, PG_GETARG_INT64(5));

	oe_fulfillment_require_confirmed(&order);
	if (location != NULL)
		oe_stock_require_location(location);
	lines = choose_units(&order, items, &nlines);
	result = psprintf(INT64_FORMAT, create(&order, lines, nlines, location, tracking, metadata));
	oe_idempotency_finish(&call, result);
	PG_RETURN_INT64(pg_strtoint64(result));
}

/* Stores other parcels, unless they are the same. */
static void
change_tracking(OeOrder *order, const OePart *part, Jsonb *tracking)
{
	static OeQuery query = {
		"UPDATE order_engine.fulfillment SET tracking = $2 WHERE fulfillment_id = $1",
		2, {INT8OID, JSONBOID}
	};
	Datum		values[2] = {Int64GetDatum(part->id), JsonbPGetDatum(tracking)};
	OePartUpdate update = {.to_state = part->state};
	OeRecord	record = {0};

	if (!part->nulls[Anum_fulfillment_tracking - 1])
	{
		Jsonb	   *stored = DatumGetJsonbP(part->values[Anum_fulfillment_tracking - 1]);

		if (compareJsonbContainers(&stored->root, &tracking->root) == 0)
			return;
	}
	record.event = "set_tracking";
	record.type = "fulfillment.tracking_changed";
	record.at = GetCurrentTimestamp();
	oe_part_update(part, &query, values, NULL, &update);
	oe_part_event(order, part, &record);
	oe_order_follow(order);
}

/*
 * set_tracking(fulfillment_id, tracking, expected_version, idempotency_key)
 */
Datum
oe_set_tracking(PG_FUNCTION_ARGS)
{
	Jsonb	   *tracking = oe_arg_tracking(fcinfo, 1);
	char	   *key = oe_arg_name_or_null(fcinfo, 3, "idempotency_key");
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OeOrder		order;
	OePart		part;
	char	   *result;

	oe_arg_require(fcinfo, 0, "fulfillment_id");
	oe_arg_require(fcinfo, 1, "tracking");

	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "fulfillment_id", PG_GETARG_INT64(0));
	oe_jsonb_push_jsonb(&request, "tracking", tracking);
	if (!PG_ARGISNULL(2))
		oe_jsonb_push_int64(&request, "expected_version", PG_GETARG_INT64(2));
	if (oe_idempotency_begin(&call, "set_tracking", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)),
							 &result))
		PG_RETURN_TEXT_P(cstring_to_text(result));
	PreventCommandIfReadOnly("set_tracking()");

	oe_part_read(&oe_fulfillment_kind, PG_GETARG_INT64(0), &part);
	oe_order_lock(part.order_id, oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_TEXT_P(cstring_to_text(result));
	if (!PG_ARGISNULL(2))
		oe_order_check_version(&order, PG_GETARG_INT64(2));
	oe_part_lock(&oe_fulfillment_kind, part.id, oe_idempotency_lock_policy(&call), &part);

	result = pstrdup(part.state);
	change_tracking(&order, &part, tracking);
	oe_idempotency_finish(&call, result);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}
