/*
 * fulfillment_effect.c
 *	  What events of fulfillments do to lines and stock.
 *
 * Counters of lines are moved before the event is recorded, stock after it: rows
 * of stock are what many orders wait for, so they are locked last.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fulfillment.h"
#include "line_units.h"
#include "stock.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static void
ship_units(const OePart *part)
{
	static OeQuery lines = {
		"UPDATE order_engine.order_line l SET shipped = l.shipped + f.open"
		" FROM order_engine.fulfillment_line f"
		" WHERE f.fulfillment_id = $1 AND f.open > 0 AND l.order_id = $2 AND l.line_no = f.line_no",
		2, {INT8OID, INT8OID}
	};
	static OeQuery own = {
		"UPDATE order_engine.fulfillment_line SET shipped = shipped + open, open = 0"
		" WHERE fulfillment_id = $1 AND open > 0",
		1, {INT8OID}
	};

	if (oe_units_update(&lines, part) == 0)
		oe_units_used_up(part->kind->name, part->id, "ship_units");
	(void) oe_units_update(&own, part);
}

static void
deliver_units(const OePart *part)
{
	static OeQuery lines = {
		"UPDATE order_engine.order_line l"
		" SET delivered = l.delivered + f.shipped - f.delivered - f.undelivered"
		" FROM order_engine.fulfillment_line f"
		" WHERE f.fulfillment_id = $1 AND l.order_id = $2 AND l.line_no = f.line_no",
		2, {INT8OID, INT8OID}
	};
	static OeQuery own = {
		"UPDATE order_engine.fulfillment_line SET delivered = shipped - undelivered"
		" WHERE fulfillment_id = $1",
		1, {INT8OID}
	};

	(void) oe_units_update(&lines, part);
	(void) oe_units_update(&own, part);
}

static void
restock_units(const OePart *part)
{
	static OeQuery lines = {
		"UPDATE order_engine.order_line l"
		" SET undelivered = l.undelivered + f.shipped - f.delivered - f.undelivered"
		" FROM order_engine.fulfillment_line f"
		" WHERE f.fulfillment_id = $1 AND f.delivered + f.undelivered < f.shipped"
		"  AND l.order_id = $2 AND l.line_no = f.line_no",
		2, {INT8OID, INT8OID}
	};
	static OeQuery own = {
		"UPDATE order_engine.fulfillment_line SET undelivered = shipped - delivered"
		" WHERE fulfillment_id = $1",
		1, {INT8OID}
	};

	if (oe_units_update(&lines, part) == 0)
		oe_units_used_up(part->kind->name, part->id, "restock_units");
	(void) oe_units_update(&own, part);
}

static void
release_units(const OePart *part)
{
	static OeQuery own = {
		"UPDATE order_engine.fulfillment_line SET open = 0 WHERE fulfillment_id = $1 AND open > 0",
		1, {INT8OID}
	};

	(void) oe_units_update(&own, part);
}

void
oe_fulfillment_apply(uint32 effects, const OeOrder *order, const OePart *part,
					 const char *reason, TimestampTz at)
{
	if (effects & OE_FULFILLMENT_SHIP_UNITS)
		ship_units(part);
	if (effects & OE_FULFILLMENT_DELIVER_UNITS)
		deliver_units(part);
	if (effects & OE_FULFILLMENT_RESTOCK_UNITS)
		restock_units(part);
	if (effects & OE_FULFILLMENT_RELEASE_UNITS)
		release_units(part);
}

/*
 * Rows (sku, location, quantity) of a query of a fulfillment ($1) in the current
 * memory context.
 */
static OeStockNeed *
read_needs(OeQuery *query, const OePart *part, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		values[2];
	char		nulls[2] = {' ', ' '};
	OeStockNeed *needs;

	values[0] = Int64GetDatum(part->id);
	values[1] = part->values[Anum_fulfillment_shipped_at - 1];
	if (part->nulls[Anum_fulfillment_shipped_at - 1])
		nulls[1] = 'n';
	oe_spi_connect();
	*count = (int) oe_query_run(query, values, nulls, false, SPI_OK_SELECT);
	needs = MemoryContextAlloc(caller, Max(*count, 1) * sizeof(OeStockNeed));
	for (int i = 0; i < *count; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *location = SPI_getvalue(tuple, desc, 2);
		bool		isnull;

		needs[i].sku = MemoryContextStrdup(caller, SPI_getvalue(tuple, desc, 1));
		needs[i].location = location == NULL ? NULL : MemoryContextStrdup(caller, location);
		needs[i].quantity = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	}
	oe_spi_finish();
	return needs;
}

static void
ship_stock(const OePart *part, TimestampTz at)
{
	static OeQuery query = {
		"SELECT l.sku, l.location, f.shipped FROM order_engine.fulfillment v"
		" JOIN order_engine.fulfillment_line f USING (fulfillment_id)"
		" JOIN order_engine.order_line l ON l.order_id = v.order_id AND l.line_no = f.line_no"
		" WHERE v.fulfillment_id = $1 AND l.tracked AND f.shipped > 0",
		1, {INT8OID}
	};
	const char *location = NULL;
	OeStockNeed *needs;
	int			n;

	needs = read_needs(&query, part, &n);
	if (!part->nulls[Anum_fulfillment_location - 1])
		location = TextDatumGetCString(part->values[Anum_fulfillment_location - 1]);
	if (n > 0)
		oe_stock_ship_units(part->order_id, location, needs, n, part->id, at);
}

/*
 * Units go back to where they left from, as the ledger tells; what it does not
 * tell of goes to the fulfillment's location, or the line's.
 */
static void
restock(const OePart *part, const char *reason, TimestampTz at)
{
	static OeQuery query = {
		"SELECT l.sku, coalesce(v.location, l.location, 'default'), f.undelivered"
		" FROM order_engine.fulfillment v"
		" JOIN order_engine.fulfillment_line f USING (fulfillment_id)"
		" JOIN order_engine.order_line l ON l.order_id = v.order_id AND l.line_no = f.line_no"
		" WHERE v.fulfillment_id = $1 AND l.tracked AND f.undelivered > 0 ORDER BY f.line_no",
		1, {INT8OID}
	};

	/* the time is what makes the index of the ledger useful */
	static OeQuery ledger = {
		"SELECT sku, location, (-sum(on_hand_delta))::integer FROM order_engine.stock_movement"
		" WHERE reference_id = $1 AND kind = 'ship' AND created_at = $2"
		" GROUP BY sku, location ORDER BY sku COLLATE \"C\", location COLLATE \"C\"",
		2, {INT8OID, TIMESTAMPTZOID}
	};
	OeStockNeed *back;
	OeStockNeed *left;
	OeRestock  *items;
	int			nback;
	int			nleft;
	int			n = 0;

	back = read_needs(&query, part, &nback);
	left = read_needs(&ledger, part, &nleft);
	/* each step uses up one entry or the other */
	items = palloc((nback + nleft + 1) * sizeof(OeRestock));
	for (int i = 0; i < nback; i++)
	{
		for (int j = 0; j < nleft && back[i].quantity > 0; j++)
		{
			int32		units = Min(back[i].quantity, left[j].quantity);

			if (units == 0 || strcmp(left[j].sku, back[i].sku) != 0)
				continue;
			items[n++] = (OeRestock) {left[j].sku, left[j].location, units};
			back[i].quantity -= units;
			left[j].quantity -= units;
		}
		if (back[i].quantity > 0)
			items[n++] = (OeRestock) {back[i].sku, back[i].location, back[i].quantity};
	}
	if (n > 0)
		oe_stock_restock(items, n, part->id, reason, at);
}

void
oe_fulfillment_follow(uint32 effects, OeOrder *order, const OePart *part,
					  const char *reason, TimestampTz at)
{
	if (effects & OE_FULFILLMENT_SHIP_UNITS)
		ship_stock(part, at);
	if (effects & OE_FULFILLMENT_RESTOCK_UNITS)
		restock(part, reason, at);
}

void
oe_fulfillments_cancel(OeOrder *order, const char *reason)
{
	static OeQuery query = {
		"SELECT f.fulfillment_id FROM order_engine.fulfillment f WHERE f.order_id = $1"
		" AND EXISTS (SELECT 1 FROM order_engine.fulfillment_line v"
		"  WHERE v.fulfillment_id = f.fulfillment_id AND v.open > 0)"
		" ORDER BY f.fulfillment_id",
		1, {INT8OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		order_id = Int64GetDatum(order->order_id);
	int64	   *ids;
	int			n;

	oe_spi_connect();
	n = (int) oe_query_run(&query, &order_id, NULL, false, SPI_OK_SELECT);
	ids = MemoryContextAlloc(caller, Max(n, 1) * sizeof(int64));
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	oe_spi_finish();

	for (int i = 0; i < n; i++)
	{
		OePart		part;

		oe_part_lock(&oe_fulfillment_kind, ids[i], LockWaitBlock, &part);
		/* where its machine knows no way out, the guard units_open keeps it in the house */
		if (oe_machine_find_event(oe_machine_by_id(part.machine_id), part.state, "cancel") != NULL)
			(void) oe_part_apply(order, &part, "cancel", reason, NULL, false);
	}
}
