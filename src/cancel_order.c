/*
 * cancel_order.c
 *	  SQL function cancel_order: all of an order, or some units of it.
 *
 * All of it is the event "cancel" of the order's machine.  Some units are an
 * amendment: the state stays, the version rises, and the event is
 * order.lines_cancelled.  It is possible wherever the machine has "cancel", and
 * for units that were not shipped and wait in no fulfillment; who cancels the last
 * units of an order of which nothing was shipped cancels the order.
 *
 * Totals: the lines are computed anew from the units that remain.  Shipping, tax
 * and discount are amounts that the caller set for the whole order, so they stay
 * as they are; a discount that is more than all the rest is an error.
 */
#include "postgres.h"

#include "access/xact.h"
#include "amend.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "idempotency.h"
#include "items.h"
#include "line_status.h"
#include "line_units.h"
#include "machine.h"
#include "miscadmin.h"
#include "money.h"
#include "payment.h"
#include "query.h"
#include "record.h"
#include "state_machine.h"
#include "stock.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_cancel_order);

typedef struct Line
{
	int32		line_no;
	char	   *sku;
	char	   *location;
	bool		tracked;
	int32		quantity;
	int32		cancelled;
	int32		shipped;
	int32		claimed;		/* units that wait in fulfillments */
	Numeric		unit_price;
	Numeric		line_total;
	int32		cancel;			/* units to cancel now */
} Line;

static char *
copy_text(HeapTuple tuple, TupleDesc desc, int column, MemoryContext context)
{
	char	   *value = SPI_getvalue(tuple, desc, column);

	return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

/* The lines of an order that is locked, in the current memory context. */
static Line *
read_lines(int64 order_id, int *count)
{
	static OeQuery query = {
		"SELECT line_no, sku, location, tracked, quantity, cancelled, shipped, unit_price, line_total,"
		" (SELECT coalesce(sum(v.open), 0)::integer FROM order_engine.fulfillment f"
		"  JOIN order_engine.fulfillment_line v USING (fulfillment_id)"
		"  WHERE f.order_id = l.order_id AND v.line_no = l.line_no)"
		" FROM order_engine.order_line l WHERE order_id = $1 ORDER BY line_no",
		1, {INT8OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(order_id);
	Line	   *lines;

	oe_spi_connect();
	*count = (int) oe_query_run(&query, &arg, NULL, false, SPI_OK_SELECT);
	lines = MemoryContextAllocZero(caller, Max(*count, 1) * sizeof(Line));
	for (int i = 0; i < *count; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext spi;
		bool		isnull;

		lines[i].line_no = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		lines[i].sku = copy_text(tuple, desc, 2, caller);
		lines[i].location = copy_text(tuple, desc, 3, caller);
		lines[i].tracked = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		lines[i].quantity = DatumGetInt32(SPI_getbinval(tuple, desc, 5, &isnull));
		lines[i].cancelled = DatumGetInt32(SPI_getbinval(tuple, desc, 6, &isnull));
		lines[i].shipped = DatumGetInt32(SPI_getbinval(tuple, desc, 7, &isnull));
		lines[i].claimed = DatumGetInt32(SPI_getbinval(tuple, desc, 10, &isnull));
		spi = MemoryContextSwitchTo(caller);
		lines[i].unit_price = DatumGetNumericCopy(SPI_getbinval(tuple, desc, 8, &isnull));
		lines[i].line_total = DatumGetNumericCopy(SPI_getbinval(tuple, desc, 9, &isnull));
		MemoryContextSwitchTo(spi);
	}
	oe_spi_finish();
	return lines;
}

/* Puts the units of the items to their lines; true when units of the order remain. */
static bool
choose_units(Line *lines, int nlines, const OeItem *items, int nitems)
{
	for (int i = 0; i < nitems; i++)
	{
		Line	   *line = NULL;
		int32		open;

		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < nlines && line == NULL; j++)
		{
			if (lines[j].line_no == items[i].line_no)
				line = &lines[j];
		}
		if (line == NULL)
			oe_line_missing(&items[i], "order");
		/* what waits in a fulfillment may be on its way to the door: it is cancelled there */
		open = line->quantity - line->cancelled - line->shipped - line->claimed - line->cancel;
		if (items[i].quantity > open)
			oe_line_exceeded(&items[i], open, "cancelled");
		line->cancel += items[i].quantity;
	}

	for (int j = 0; j < nlines; j++)
	{
		if (lines[j].cancelled + lines[j].cancel < lines[j].quantity)
			return true;
	}
	return false;
}

static void
require_cancel_event(const OeOrder *order)
{
	const OeMachine *machine = oe_machine_by_id(order->machine_id);

	if (oe_machine_find_event(machine, order->state, "cancel") == NULL)
	{
		OeInvalidTransition what = {.entity = "order", .id_is_number = true, .event = "cancel"};

		what.entity_id = psprintf(INT64_FORMAT, order->order_id);
		what.from = order->state;
		oe_invalid_transition(machine, &what);
	}
}

static void
update_line(int64 order_id, const Line *line)
{
	static OeQuery query = {
		"UPDATE order_engine.order_line SET cancelled = $3, line_total = $4"
		" WHERE order_id = $1 AND line_no = $2",
		4, {INT8OID, INT4OID, INT4OID, NUMERICOID}
	};
	Datum		values[4] = {
		Int64GetDatum(order_id), Int32GetDatum(line->line_no),
		Int32GetDatum(line->cancelled + line->cancel), NumericGetDatum(line->line_total)
	};

	oe_spi_connect();
	oe_query_run(&query, values, NULL, false, SPI_OK_UPDATE);
	oe_spi_finish();
}

/* Cancels the chosen units.  "order" is locked, and is changed to what it is afterwards. */
static void
cancel_units(OeOrder *order, Line *lines, int nlines, const char *reason)
{
	static OeQuery update = {
		/* a payment status that the machine itself set, without payments, stays */
		"UPDATE order_engine.orders o SET lines_total = $2, total = $3,"
		" credited_total = least(credited_total, $3),"
		" payment_status = CASE WHEN authorized_total = 0 AND captured_total = 0 THEN payment_status ELSE "
		OE_PAYMENT_STATUS("authorized_total", "captured_total", "refunded_total", "charged_back_total",
						  "$3", "least(credited_total, $3)")
		" END, " OE_LINE_STATUS_SET
		" FROM " OE_LINE_STATUS_FROM " WHERE o.order_id = $1 RETURNING o.*",
		3, {INT8OID, NUMERICOID, NUMERICOID}
	};
	Datum		values[3];
	int			minor_units = oe_currency_minor_units(order->currency);
	TimestampTz at = GetCurrentTimestamp();
	Numeric		lines_total = int64_to_numeric(0);
	Numeric		total = order->total;
	OeStockNeed *needs = palloc(nlines * sizeof(OeStockNeed));
	int			nneeds = 0;
	JsonbParseState *state = NULL;
	OeRecord	record = {0};

	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < nlines; i++)
	{
		Line	   *line = &lines[i];

		if (line->cancel > 0)
		{
			int32		remain = line->quantity - line->cancelled - line->cancel;

			total = numeric_sub_opt_error(total, line->line_total, NULL);
			line->line_total =
				oe_amount_round(numeric_mul_opt_error(line->unit_price, int64_to_numeric(remain), NULL),
								minor_units);
			total = numeric_add_opt_error(total, line->line_total, NULL);
			update_line(order->order_id, line);

			(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
			oe_jsonb_push_int64(&state, "line_no", line->line_no);
			oe_jsonb_push_text(&state, "sku", line->sku);
			oe_jsonb_push_int64(&state, "quantity", line->cancel);
			oe_jsonb_push_numeric(&state, "line_total", line->line_total);
			(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
			if (line->tracked)
				needs[nneeds++] = (OeStockNeed) {line->sku, line->location, line->cancel};
		}
		lines_total = numeric_add_opt_error(lines_total, line->line_total, NULL);
	}
	if (oe_amount_cmp(total, int64_to_numeric(0)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the discount of the order would exceed what remains of it"),
				 errhint("Cancel the whole order, or other units.")));

	values[0] = Int64GetDatum(order->order_id);
	values[1] = NumericGetDatum(lines_total);
	values[2] = NumericGetDatum(total);
	record.event = "cancel_lines";
	record.type = "order.lines_cancelled";
	record.reason = reason;
	record.at = at;
	oe_order_amend_event(order, &update, values, NULL, &record,
						 JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
	oe_stock_release_part(order->order_id, needs, nneeds, reason, at);
	oe_order_follow(order);
}

/*
 * cancel_order(order_id, reason, items, idempotency_key, expected_version)
 */
Datum
oe_cancel_order(PG_FUNCTION_ARGS)
{
	JsonbParseState *state = NULL;
	OeIdempotency call;
	OeOrder		order;
	Jsonb	   *items = oe_arg_items(fcinfo, 2);
	Line	   *lines = NULL;
	int			nlines = 0;
	char	   *reason;
	char	   *result;

	oe_arg_require(fcinfo, 0, "order_id");
	oe_arg_require(fcinfo, 1, "reason");
	reason = oe_arg_text_or_null(fcinfo, 1);

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&state, "order_id", PG_GETARG_INT64(0));
	oe_jsonb_push_text(&state, "reason", reason);
	oe_jsonb_push_jsonb(&state, "items", items);
	if (!PG_ARGISNULL(4))
		oe_jsonb_push_int64(&state, "expected_version", PG_GETARG_INT64(4));
	if (oe_idempotency_begin(&call, "cancel_order", oe_arg_text_or_null(fcinfo, 3),
							 JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), &result))
		PG_RETURN_TEXT_P(cstring_to_text(result));
	PreventCommandIfReadOnly("cancel_order()");

	oe_order_lock(PG_GETARG_INT64(0), oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_TEXT_P(cstring_to_text(result));
	if (!PG_ARGISNULL(4))
		oe_order_check_version(&order, PG_GETARG_INT64(4));

	if (items != NULL)
	{
		int			nunits;
		OeItem	   *units = oe_items_parse(items, OE_ITEM_LINE_NO | OE_ITEM_QUANTITY, &nunits);

		require_cancel_event(&order);
		lines = read_lines(order.order_id, &nlines);
		if (!choose_units(lines, nlines, units, nunits))
			lines = NULL;		/* nothing would remain */
	}

	if (lines != NULL)
	{
		cancel_units(&order, lines, nlines, reason);
		result = pstrdup(order.state);
	}
	else
		result = oe_order_apply(&order, "cancel", reason, NULL, false);
	oe_idempotency_finish(&call, result);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}
