/*
 * return_effect.c
 *	  What events of returns do to lines, money and stock.
 *
 * receive_return() writes what came into the lines of the return before it applies
 * the event.  Where nothing is written there, the caller did not count: then all
 * of it came back and goes into stock.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "line_units.h"
#include "money.h"
#include "payment.h"
#include "return.h"
#include "stock.h"
#include "utils/builtins.h"

static void
receive_units(const OePart *part)
{
	static OeQuery everything = {
		"UPDATE order_engine.return_line SET restocked = quantity WHERE return_id = $1"
		" AND NOT EXISTS (SELECT 1 FROM order_engine.return_line"
		"  WHERE return_id = $1 AND restocked + damaged + discarded > 0)",
		1, {INT8OID}
	};

	/* back to where such units of the order came from, else to the first location of all */
	static OeQuery locate = {
		"UPDATE order_engine.return_line r SET location = coalesce("
		"  (SELECT v.location FROM order_engine.reservation v"
		"    LEFT JOIN order_engine.location p USING (location)"
		"    WHERE v.reservation_id = $2 AND v.sku = l.sku AND v.shipped > 0"
		"    ORDER BY p.priority, v.shipped DESC, v.location COLLATE \"C\" LIMIT 1),"
		"  (SELECT p.location FROM order_engine.location p"
		"    ORDER BY p.priority, p.location COLLATE \"C\" LIMIT 1),"
		"  'default')"
		" FROM order_engine.order_line l"
		" WHERE r.return_id = $1 AND r.restocked > 0 AND r.location IS NULL"
		"  AND l.order_id = $2 AND l.line_no = r.line_no AND l.tracked",
		2, {INT8OID, INT8OID}
	};
	static OeQuery lines = {
		"UPDATE order_engine.order_line l SET returned = l.returned + r.restocked + r.damaged + r.discarded"
		" FROM order_engine.return_line r"
		" WHERE r.return_id = $1 AND r.open > 0 AND l.order_id = $2 AND l.line_no = r.line_no",
		2, {INT8OID, INT8OID}
	};

	(void) oe_units_update(&everything, part);
	(void) oe_units_update(&locate, part);
	if (oe_units_update(&lines, part) == 0)
		oe_units_used_up(part->kind->name, part->id, "receive_units");
}

static void
release_units(const OePart *part)
{
	static OeQuery query = {
		"UPDATE order_engine.return_line SET open = 0 WHERE return_id = $1 AND open > 0",
		1, {INT8OID}
	};

	(void) oe_units_update(&query, part);
}

/* The price of what came back, unless the caller has named an amount. */
static Numeric
refund_amount(const OeOrder *order, const OePart *part)
{
	static OeQuery query = {
		"SELECT coalesce(sum((r.restocked + r.damaged + r.discarded) * l.unit_price), 0)"
		" FROM order_engine.return_line r"
		" JOIN order_engine.order_line l ON l.order_id = $2 AND l.line_no = r.line_no"
		" WHERE r.return_id = $1",
		2, {INT8OID, INT8OID}
	};
	Datum		values[2] = {Int64GetDatum(part->id), Int64GetDatum(part->order_id)};
	MemoryContext caller = CurrentMemoryContext;
	Numeric		amount;
	bool		isnull;

	if (!part->nulls[Anum_return_refund_amount - 1])
		return DatumGetNumeric(part->values[Anum_return_refund_amount - 1]);

	oe_spi_connect();
	(void) oe_query_run(&query, values, NULL, false, SPI_OK_SELECT);
	amount = DatumGetNumeric(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	MemoryContextSwitchTo(caller);
	amount = oe_amount_round(amount, oe_currency_minor_units(order->currency));
	oe_spi_finish();
	return amount;
}

/* Writes the amount down, so that the event and the books tell it. */
static void
store_amount(const OeOrder *order, const OePart *part)
{
	static OeQuery query = {
		"UPDATE order_engine.order_return SET refund_amount = $2 WHERE return_id = $1",
		2, {INT8OID, NUMERICOID}
	};
	Datum		values[2] = {Int64GetDatum(part->id)};
	OePartUpdate update = {.to_state = part->state};

	if (!part->nulls[Anum_return_refund_amount - 1])
		return;
	values[1] = NumericGetDatum(refund_amount(order, part));
	oe_part_update(part, &query, values, NULL, &update);
}

void
oe_return_apply(uint32 effects, const OeOrder *order, const OePart *part,
				const char *reason, TimestampTz at)
{
	if (effects & OE_RETURN_RECEIVE_UNITS)
		receive_units(part);
	if (effects & (OE_RETURN_RECEIVE_UNITS | OE_RETURN_RELEASE_UNITS))
		release_units(part);
	if (effects & OE_RETURN_REQUEST_REFUND)
		store_amount(order, part);
}

static void
restock(const OePart *part, const char *reason, TimestampTz at)
{
	static OeQuery query = {
		"SELECT l.sku, r.location, r.restocked FROM order_engine.return_line r"
		" JOIN order_engine.order_line l ON l.order_id = $2 AND l.line_no = r.line_no"
		" WHERE r.return_id = $1 AND l.tracked AND r.restocked > 0",
		2, {INT8OID, INT8OID}
	};
	Datum		values[2] = {Int64GetDatum(part->id), Int64GetDatum(part->order_id)};
	MemoryContext caller = CurrentMemoryContext;
	OeRestock  *items;
	int			n;

	oe_spi_connect();
	n = (int) oe_query_run(&query, values, NULL, false, SPI_OK_SELECT);
	items = MemoryContextAlloc(caller, Max(n, 1) * sizeof(OeRestock));
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		items[i].sku = MemoryContextStrdup(caller, SPI_getvalue(tuple, desc, 1));
		items[i].location = MemoryContextStrdup(caller, SPI_getvalue(tuple, desc, 2));
		items[i].quantity = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	}
	oe_spi_finish();
	if (n > 0)
		oe_stock_restock(items, n, part->id, reason, at);
}

void
oe_return_follow(uint32 effects, OeOrder *order, const OePart *part,
				 const char *reason, TimestampTz at)
{
	if (effects & OE_RETURN_REQUEST_REFUND)
	{
		Numeric		amount = refund_amount(order, part);

		if (oe_amount_cmp(amount, int64_to_numeric(0)) > 0)
			(void) oe_refund_request(order, amount, 0, part->id, reason, at);
	}
	if (effects & OE_RETURN_RECEIVE_UNITS)
		restock(part, reason, at);
}
