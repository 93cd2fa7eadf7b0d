/*
 * stock_adjust.c
 *	  SQL functions that change what lies at a location, or how much of it may be
 *	  promised: adjust_stock, transfer_stock, set_backorder_limit, set_safety_stock.
 *
 * Each takes its idempotency key before the rows of stock, as place_order does.
 */
#include "postgres.h"

#include "access/xact.h"
#include "args.h"
#include "catalog.h"
#include "errors.h"
#include "fmgr.h"
#include "idempotency.h"
#include "items.h"
#include "miscadmin.h"
#include "record.h"
#include "relations.h"
#include "stock_slots.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_adjust_stock);
PG_FUNCTION_INFO_V1(oe_transfer_stock);
PG_FUNCTION_INFO_V1(oe_set_backorder_limit);
PG_FUNCTION_INFO_V1(oe_set_safety_stock);

static void
require_product(const char *sku)
{
	OeRows	   *products = oe_products_open();
	OeProduct	product;

	if (!oe_product_find(products, sku, &product))
		oe_unknown_skus(&sku, 1);
	oe_rows_close(products);
}

static void
not_enough(const char *sku, const char *location, int64 requested, int64 available)
{
	OeJson		list;
	OeJson		json;

	oe_json_begin(&json);
	oe_json_text(&json, "sku", sku);
	oe_json_text(&json, "location", location);
	oe_json_int64(&json, "requested", requested);
	oe_json_int64(&json, "available", available);
	oe_json_begin_array(&list);
	oe_json_raw(&list, NULL, oe_json_end(&json));
	ereport(ERROR,
			(errcode(ERRCODE_OE_INSUFFICIENT_STOCK),
			 errmsg("not enough unreserved stock to take away"),
			 errdetail_internal("%s", oe_json_end(&list))));
}

static int64
unpromised(const OeStockRow *slot)
{
	return Max((int64) slot->on_hand - slot->reserved, 0);
}

/* Units that an adjustment may take: what is gone is gone, also when it was backordered. */
static int64
removable(int64 on_hand, int64 backorder_limit, int64 reserved)
{
	return Max(Min(on_hand + backorder_limit - reserved, on_hand), 0);
}

static int64
removable_from(const OeStockRow *slot)
{
	return removable(slot->on_hand, slot->backorder_limit, slot->reserved);
}

/*
 * Decides which slots give units away; what a slot gives goes, negative, to "take".
 * Returns what they do not have.
 */
static int64
drain(OeStockRow *slots, int n, int64 units, int64 (*available) (const OeStockRow *))
{
	int64		rest = units;

	for (int i = 0; i < n; i++)
	{
		slots[i].take = (int32) -Min(available(&slots[i]), rest);
		rest += slots[i].take;
	}
	return rest;
}

static void
fill(OeStockRow *slots, int n, int32 units, const char *sku, const char *location)
{
	OeSlotTotals totals = oe_slots_sum(slots, n);

	if (totals.on_hand + totals.backorder_limit + units > PG_INT32_MAX)
		oe_stock_too_many(sku, location);
	oe_slots_fill(slots, n, units);
}

/*
 * Stores what the slots take or give.  Where units are kept back every slot becomes
 * a new version: a slot stands in for another one that has fewer than it keeps back,
 * and whoever has judged it by itself shall look again.
 */
static void
store(OeRows *stock, OeLedger *ledger, const char *kind, const char *reason,
	  const char *sku, const char *location, OeStockRow *slots, int n)
{
	bool		renew = oe_slots_sum(slots, n).safety_stock > 0;

	for (int i = 0; i < n; i++)
	{
		if (slots[i].take == 0 && !renew)
			continue;
		oe_stock_store(stock, &slots[i], sku, (int64) slots[i].on_hand + slots[i].take, slots[i].reserved);
		if (slots[i].take != 0)
			oe_ledger_add(ledger, 0, kind, reason, sku, location, slots[i].slot, slots[i].take, 0);
	}
}

static void
check_expected(const char *sku, const char *location, int64 expected, int64 actual)
{
	OeJson		json;

	if (expected == actual)
		return;
	oe_json_begin(&json);
	oe_json_text(&json, "sku", sku);
	oe_json_text(&json, "location", location);
	oe_json_int64(&json, "expected", expected);
	oe_json_int64(&json, "actual", actual);
	ereport(ERROR,
			(errcode(ERRCODE_OE_STOCK_CHANGED),
			 errmsg("stock of \"%s\" at \"%s\" is not what was expected", sku, location),
			 errdetail_internal("%s", oe_json_end(&json))));
}

Datum
oe_adjust_stock(PG_FUNCTION_ARGS)
{
	const char *sku = oe_arg_name(fcinfo, 0, "sku");
	const char *location = oe_arg_name(fcinfo, 1, "location");
	char	   *reason;
	int32		delta;
	JsonbParseState *state = NULL;
	OeIdempotency call;
	char	   *stored;
	OeRows	   *stock;
	OeStockRow *slots;
	OeLedger	ledger;
	OeSlotTotals totals;
	int			n;
	int64		available;
	int64		on_hand;

	oe_arg_require(fcinfo, 2, "delta");
	oe_arg_require(fcinfo, 3, "reason");
	delta = PG_GETARG_INT32(2);
	reason = oe_arg_text_or_null(fcinfo, 3);

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_text(&state, "sku", sku);
	oe_jsonb_push_text(&state, "location", location);
	oe_jsonb_push_int64(&state, "delta", delta);
	oe_jsonb_push_text(&state, "reason", reason);
	if (!PG_ARGISNULL(4))
		oe_jsonb_push_int64(&state, "expected_on_hand", PG_GETARG_INT32(4));
	if (oe_idempotency_begin(&call, "adjust_stock", oe_arg_text_or_null(fcinfo, 5),
							 JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), &stored))
		PG_RETURN_INT32(pg_strtoint32(stored));
	PreventCommandIfReadOnly("adjust_stock()");

	require_product(sku);
	oe_stock_require_location(location);
	if (oe_idempotency_claim(&call, "", &stored))
		PG_RETURN_INT32(pg_strtoint32(stored));

	stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	slots = oe_slots_lock(stock, sku, location, true, &n);
	totals = oe_slots_sum(slots, n);
	on_hand = totals.on_hand;
	if (!PG_ARGISNULL(4))
		check_expected(sku, location, PG_GETARG_INT32(4), on_hand);
	available = removable(totals.on_hand, totals.backorder_limit, totals.reserved);
	if (-(int64) delta > available)
		not_enough(sku, location, -(int64) delta, available);

	oe_ledger_begin(&ledger, GetCurrentTimestamp());
	if (delta < 0 && drain(slots, n, -(int64) delta, removable_from) > 0)
	{
		/* one slot promised what is to go, another one may promise more: they share anew */
		oe_ledger_add(&ledger, 0, "adjust", reason, sku, location, slots[0].slot, delta, 0);
		slots[0].on_hand += delta;
		totals.on_hand += delta;
		oe_slots_spread(stock, &ledger, sku, location, slots, n, totals);
	}
	else
	{
		if (delta >= 0)
			fill(slots, n, delta, sku, location);
		store(stock, &ledger, "adjust", reason, sku, location, slots, n);
	}
	/* a count that found what was expected is worth a line, too */
	if (delta == 0)
		oe_ledger_add(&ledger, 0, "adjust", reason, sku, location, slots[0].slot, 0, 0);
	oe_ledger_end(&ledger);
	oe_rows_close(stock);
	CommandCounterIncrement();

	on_hand += delta;
	oe_idempotency_complete(&call, psprintf(INT64_FORMAT, on_hand));
	PG_RETURN_INT32((int32) on_hand);
}

Datum
oe_transfer_stock(PG_FUNCTION_ARGS)
{
	const char *sku = oe_arg_name(fcinfo, 0, "sku");
	const char *locations[2];
	char	   *reason;
	int32		quantity;
	JsonbParseState *state = NULL;
	OeIdempotency call;
	char	   *stored;
	OeRows	   *stock;
	OeStockRow *slots[2];
	OeSlotTotals totals;
	int			n[2];
	int			first;
	OeLedger	ledger;

	locations[0] = oe_arg_name(fcinfo, 1, "from_location");
	locations[1] = oe_arg_name(fcinfo, 2, "to_location");
	oe_arg_require(fcinfo, 3, "quantity");
	oe_arg_require(fcinfo, 4, "reason");
	quantity = PG_GETARG_INT32(3);
	reason = oe_arg_text_or_null(fcinfo, 4);

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_text(&state, "sku", sku);
	oe_jsonb_push_text(&state, "from_location", locations[0]);
	oe_jsonb_push_text(&state, "to_location", locations[1]);
	oe_jsonb_push_int64(&state, "quantity", quantity);
	oe_jsonb_push_text(&state, "reason", reason);
	if (oe_idempotency_begin(&call, "transfer_stock", oe_arg_text_or_null(fcinfo, 5),
							 JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), &stored))
		PG_RETURN_INT32(pg_strtoint32(stored));
	PreventCommandIfReadOnly("transfer_stock()");

	if (quantity < 1 || quantity > OE_MAX_QUANTITY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be between 1 and %d", "quantity", OE_MAX_QUANTITY)));
	if (strcmp(locations[0], locations[1]) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"%s\" and \"%s\" must differ", "from_location", "to_location")));
	require_product(sku);
	oe_stock_require_location(locations[0]);
	oe_stock_require_location(locations[1]);
	if (oe_idempotency_claim(&call, psprintf("%d", quantity), &stored))
		PG_RETURN_INT32(pg_strtoint32(stored));

	/* one sorted pass */
	stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	first = strcmp(locations[0], locations[1]) < 0 ? 0 : 1;
	slots[first] = oe_slots_lock(stock, sku, locations[first], first == 1, &n[first]);
	slots[1 - first] = oe_slots_lock(stock, sku, locations[1 - first], first == 0, &n[1 - first]);

	/* what one slot has promised beyond what lies there may lie in another one */
	totals = oe_slots_sum(slots[0], n[0]);
	if (quantity > totals.on_hand - totals.reserved)
		not_enough(sku, locations[0], quantity, Max(totals.on_hand - totals.reserved, 0));
	(void) drain(slots[0], n[0], quantity, unpromised);
	fill(slots[1], n[1], quantity, sku, locations[1]);
	oe_ledger_begin(&ledger, GetCurrentTimestamp());
	for (int i = 0; i < 2; i++)
		store(stock, &ledger, "move", reason, sku, locations[i], slots[i], n[i]);
	oe_ledger_end(&ledger);
	oe_rows_close(stock);
	CommandCounterIncrement();
	PG_RETURN_INT32(quantity);
}

/* The two limits differ in the counter that they set. */
static Datum
set_limit(FunctionCallInfo fcinfo, const char *operation, bool safety)
{
	const char *sku = oe_arg_name(fcinfo, 0, "sku");
	const char *location = oe_arg_name(fcinfo, 1, "location");
	JsonbParseState *state = NULL;
	OeIdempotency call;
	char	   *stored;
	int32		units;
	OeRows	   *stock;
	OeStockRow *slots;
	OeSlotTotals totals;
	OeLedger	ledger;
	int			n;

	oe_arg_require(fcinfo, 2, "units");
	units = PG_GETARG_INT32(2);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_text(&state, "sku", sku);
	oe_jsonb_push_text(&state, "location", location);
	oe_jsonb_push_int64(&state, "units", units);
	if (oe_idempotency_begin(&call, operation, oe_arg_text_or_null(fcinfo, 3),
							 JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), &stored))
		PG_RETURN_INT32(pg_strtoint32(stored));
	PreventCommandIfReadOnly(operation);

	if (units < 0 || units > OE_MAX_QUANTITY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be between 0 and %d", "units", OE_MAX_QUANTITY)));
	require_product(sku);
	oe_stock_require_location(location);
	if (oe_idempotency_claim(&call, psprintf("%d", units), &stored))
		PG_RETURN_INT32(pg_strtoint32(stored));

	stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	slots = oe_slots_lock(stock, sku, location, true, &n);
	totals = oe_slots_sum(slots, n);
	if (safety)
		totals.safety_stock = units;
	else
		totals.backorder_limit = units;
	if (totals.reserved > totals.on_hand + totals.backorder_limit)
	{
		OeJson		json;

		oe_json_begin(&json);
		oe_json_text(&json, "sku", sku);
		oe_json_text(&json, "location", location);
		oe_json_int64(&json, "limit", totals.reserved - totals.on_hand);
		oe_json_int64(&json, "requested", units);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("more units of \"%s\" at \"%s\" are already promised beyond what lies there", sku, location),
				 errdetail_internal("%s", oe_json_end(&json))));
	}
	oe_ledger_begin(&ledger, GetCurrentTimestamp());
	oe_slots_spread(stock, &ledger, sku, location, slots, n, totals);
	oe_ledger_end(&ledger);
	oe_rows_close(stock);
	CommandCounterIncrement();
	PG_RETURN_INT32(units);
}

Datum
oe_set_backorder_limit(PG_FUNCTION_ARGS)
{
	return set_limit(fcinfo, "set_backorder_limit", false);
}

Datum
oe_set_safety_stock(PG_FUNCTION_ARGS)
{
	return set_limit(fcinfo, "set_safety_stock", true);
}
