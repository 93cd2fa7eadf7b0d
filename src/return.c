/*
 * return.c
 *	  SQL functions create_return and receive_return.
 *
 * A return claims units that were shipped when it is requested, under the lock
 * on the order's row: no unit is in two returns.  What comes back, and in which
 * condition, is told when it is received; money follows when it is closed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "amend.h"
#include "append.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "idempotency.h"
#include "items.h"
#include "line_units.h"
#include "miscadmin.h"
#include "money.h"
#include "return.h"
#include "stock_row.h"
#include "tcop/utility.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_create_return);
PG_FUNCTION_INFO_V1(oe_receive_return);

#define EVENT_RECEIVE	"receive"

/* columns of return_line, as sql/36_return.sql defines them */
enum
{
	LINE_RETURN_ID, LINE_LINE_NO, LINE_QUANTITY, LINE_OPEN, LINE_RESTOCKED, LINE_DAMAGED,
	LINE_DISCARDED, LINE_LOCATION, LINE_REASON, LINE_COLUMNS
};

/* Keeps one value for a line of which several items may name one. */
static void
agree(char **kept, char *given, const OeItem *item, const char *key)
{
	if (given == NULL)
		return;
	if (*kept != NULL && strcmp(*kept, given) != 0)
		oe_item_error(item->position, key, "differs from that of another item of the line");
	*kept = given;
}

/* The units that are to come back; *reasons has an entry for each line. */
static OeLineUnits *
choose_units(int64 order_id, Jsonb *items, int *nlines, char ***reasons)
{
	static OeQuery query = {
		"SELECT l.line_no, l.shipped - l.undelivered - l.returned"
		" - (SELECT coalesce(sum(v.open), 0)::integer FROM order_engine.order_return r"
		"    JOIN order_engine.return_line v USING (return_id)"
		"    WHERE r.order_id = l.order_id AND v.line_no = l.line_no)"
		" FROM order_engine.order_line l WHERE l.order_id = $1 ORDER BY l.line_no",
		1, {INT8OID}
	};
	OeLineUnits *lines = oe_line_units_read(&query, order_id, nlines);
	int			nitems;
	OeItem	   *parsed = oe_items_parse(items, OE_ITEM_LINE_NO | OE_ITEM_QUANTITY | OE_ITEM_REASON,
										&nitems);

	*reasons = palloc0(Max(*nlines, 1) * sizeof(char *));
	for (int i = 0; i < nitems; i++)
	{
		OeLineUnits *line = oe_line_units_take(lines, *nlines, &parsed[i], "order", "returned");

		agree(&(*reasons)[line - lines], parsed[i].reason, &parsed[i], "reason");
	}
	return lines;
}

static void
insert_lines(int64 return_id, const OeLineUnits *lines, int nlines, char *const *reasons)
{
	OeAppender *appender = oe_append_begin(oe_relid(OE_REL_RETURN_LINE), LINE_COLUMNS, OE_CHECKED);

	for (int i = 0; i < nlines; i++)
	{
		Datum		values[LINE_COLUMNS] = {0};
		bool		nulls[LINE_COLUMNS] = {false};

		if (lines[i].taken == 0)
			continue;
		values[LINE_RETURN_ID] = Int64GetDatum(return_id);
		values[LINE_LINE_NO] = Int32GetDatum(lines[i].line_no);
		values[LINE_QUANTITY] = Int32GetDatum(lines[i].taken);
		values[LINE_OPEN] = Int32GetDatum(lines[i].taken);
		nulls[LINE_LOCATION] = true;
		nulls[LINE_REASON] = reasons[i] == NULL;
		if (reasons[i] != NULL)
			values[LINE_REASON] = CStringGetTextDatum(reasons[i]);
		oe_append_row(appender, values, nulls);
	}
	oe_append_end(appender);
}

/*
 * create_return(order_id, items, reason, refund_amount, metadata,
 *				 expected_version, idempotency_key)
 */
Datum
oe_create_return(PG_FUNCTION_ARGS)
{
	Jsonb	   *items = oe_arg_items(fcinfo, 1);
	char	   *reason = oe_arg_name(fcinfo, 2, "reason");
	Jsonb	   *metadata = oe_arg_metadata(fcinfo, 4, "metadata");
	char	   *key = oe_arg_name_or_null(fcinfo, 6, "idempotency_key");
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OeOrder		order;
	OePart		part;
	OeRecord	record = {0};
	Datum		values[Natts_return] = {0};
	bool		nulls[Natts_return] = {false};
	OeLineUnits *lines;
	char	  **reasons;
	int			nlines;
	char	   *result;

	oe_arg_require(fcinfo, 0, "order_id");
	oe_arg_require(fcinfo, 1, "items");

	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "order_id", PG_GETARG_INT64(0));
	oe_jsonb_push_jsonb(&request, "items", items);
	oe_jsonb_push_text(&request, "reason", reason);
	/* as text, for this may be no number that jsonb knows */
	if (!PG_ARGISNULL(3))
		oe_jsonb_push_text(&request, "refund_amount",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   DirectFunctionCall1(numeric_trim_scale, PG_GETARG_DATUM(3)))));
	oe_jsonb_push_jsonb(&request, "metadata", metadata);
	if (!PG_ARGISNULL(5))
		oe_jsonb_push_int64(&request, "expected_version", PG_GETARG_INT64(5));
	if (oe_idempotency_begin(&call, "create_return", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)),
							 &result))
		PG_RETURN_INT64(pg_strtoint64(result));
	PreventCommandIfReadOnly("create_return()");

	oe_order_lock(PG_GETARG_INT64(0), oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_INT64(pg_strtoint64(result));
	if (!PG_ARGISNULL(5))
		oe_order_check_version(&order, PG_GETARG_INT64(5));
	lines = choose_units(order.order_id, items, &nlines, &reasons);

	record.event = "request";
	record.type = "return.requested";
	record.at = GetCurrentTimestamp();
	oe_part_begin(&oe_return_kind, order.order_id, record.at, &part, values, nulls);
	nulls[Anum_return_received_at - 1] = true;
	nulls[Anum_return_refund_amount - 1] = PG_ARGISNULL(3);
	if (!PG_ARGISNULL(3))
		values[Anum_return_refund_amount - 1] =
			NumericGetDatum(oe_arg_amount(fcinfo, 3, "refund_amount", order.currency,
										  oe_currency_minor_units(order.currency)));
	values[Anum_return_reason - 1] = CStringGetTextDatum(reason);
	nulls[Anum_return_metadata - 1] = metadata == NULL;
	values[Anum_return_metadata - 1] = JsonbPGetDatum(metadata);
	oe_append(oe_relid(OE_REL_ORDER_RETURN), Natts_return, OE_CHECKED, values, nulls);
	insert_lines(part.id, lines, nlines, reasons);
	CommandCounterIncrement();

	part.values = values;
	part.nulls = nulls;
	oe_part_event(&order, &part, &record);
	oe_order_follow(&order);

	result = psprintf(INT64_FORMAT, part.id);
	oe_idempotency_finish(&call, result);
	PG_RETURN_INT64(part.id);
}

/* What came of one line. */
typedef struct Received
{
	int32		units[OE_DISCARD + 1];	/* by disposition */
	char	   *location;		/* of what goes into stock; NULL: the engine chooses */
} Received;

static void
store_received(int64 return_id, int32 line_no, const Received *received)
{
	static OeQuery query = {
		"UPDATE order_engine.return_line SET restocked = $3, damaged = $4, discarded = $5, location = $6"
		" WHERE return_id = $1 AND line_no = $2",
		6, {INT8OID, INT4OID, INT4OID, INT4OID, INT4OID, TEXTOID}
	};
	Datum		values[6] = {
		Int64GetDatum(return_id), Int32GetDatum(line_no),
		Int32GetDatum(received->units[OE_RESTOCK]), Int32GetDatum(received->units[OE_DAMAGED]),
		Int32GetDatum(received->units[OE_DISCARD])
	};
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', 'n'};

	if (received->location != NULL)
	{
		values[5] = CStringGetTextDatum(received->location);
		nulls[5] = ' ';
	}
	oe_spi_connect();
	(void) oe_query_run(&query, values, nulls, false, SPI_OK_UPDATE);
	oe_spi_finish();
}

/* Writes into the lines of the return what came. */
static void
count_units(int64 return_id, Jsonb *items)
{
	static OeQuery query = {
		"SELECT line_no, open FROM order_engine.return_line WHERE return_id = $1 ORDER BY line_no",
		1, {INT8OID}
	};
	int			nlines;
	OeLineUnits *lines = oe_line_units_read(&query, return_id, &nlines);
	Received   *received = palloc0(Max(nlines, 1) * sizeof(Received));
	int			nitems;
	OeItem	   *parsed = oe_items_parse(items, OE_ITEM_LINE_NO | OE_ITEM_QUANTITY |
										OE_ITEM_DISPOSITION | OE_ITEM_LOCATION, &nitems);

	for (int i = 0; i < nitems; i++)
	{
		OeLineUnits *line = oe_line_units_take(lines, nlines, &parsed[i], "return", "received");
		Received   *of_line = &received[line - lines];

		of_line->units[parsed[i].disposition] += parsed[i].quantity;
		if (parsed[i].location == NULL)
			continue;
		if (parsed[i].disposition != OE_RESTOCK)
			oe_item_error(parsed[i].position, "location", "is only for what goes into stock");
		agree(&of_line->location, parsed[i].location, &parsed[i], "location");
		oe_stock_require_location(parsed[i].location);
	}
	for (int i = 0; i < nlines; i++)
	{
		if (lines[i].taken > 0)
			store_received(return_id, lines[i].line_no, &received[i]);
	}
}

/*
 * receive_return(return_id, items, reason, expected_version, idempotency_key)
 */
Datum
oe_receive_return(PG_FUNCTION_ARGS)
{
	Jsonb	   *items = oe_arg_items(fcinfo, 1);
	char	   *reason = oe_arg_text_or_null(fcinfo, 2);
	char	   *key = oe_arg_name_or_null(fcinfo, 4, "idempotency_key");
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OeOrder		order;
	OePart		part;
	char	   *result;

	oe_arg_require(fcinfo, 0, "return_id");

	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "return_id", PG_GETARG_INT64(0));
	oe_jsonb_push_jsonb(&request, "items", items);
	oe_jsonb_push_text(&request, "reason", reason);
	if (!PG_ARGISNULL(3))
		oe_jsonb_push_int64(&request, "expected_version", PG_GETARG_INT64(3));
	if (oe_idempotency_begin(&call, "receive_return", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)),
							 &result))
		PG_RETURN_TEXT_P(cstring_to_text(result));
	PreventCommandIfReadOnly("receive_return()");

	oe_part_read(&oe_return_kind, PG_GETARG_INT64(0), &part);
	oe_order_lock(part.order_id, oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_TEXT_P(cstring_to_text(result));
	if (!PG_ARGISNULL(3))
		oe_order_check_version(&order, PG_GETARG_INT64(3));
	oe_part_lock(&oe_return_kind, part.id, oe_idempotency_lock_policy(&call), &part);

	/* else it was received before, or cannot be */
	if (items != NULL &&
		oe_machine_find_event(oe_machine_by_id(part.machine_id), part.state, EVENT_RECEIVE) != NULL)
		count_units(part.id, items);
	result = oe_part_apply(&order, &part, EVENT_RECEIVE, reason, NULL, false);
	oe_idempotency_finish(&call, result);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}
