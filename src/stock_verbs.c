/*
 * stock_verbs.c
 *	  SQL functions that change stock without an order: adjust_stock,
 *	  reserve_stock, release_stock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "args.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "fmgr.h"
#include "id.h"
#include "idempotency.h"
#include "items.h"
#include "miscadmin.h"
#include "query.h"
#include "record.h"
#include "stock.h"
#include "stock_row.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_adjust_stock);
PG_FUNCTION_INFO_V1(oe_reserve_stock);
PG_FUNCTION_INFO_V1(oe_release_stock);

/* Locks the slots of a SKU at a location; makes the first one when there is none. */
static OeStockRow *
lock_slots(OeRows *stock, const char *sku, const char *location, LockWaitPolicy wait_policy, int *count)
{
	OeStockRow *slots = oe_stock_load(stock, sku, location, count);
	int			nlocked = 0;

	if (*count == 0)
	{
		oe_stock_make_row(sku, location);
		oe_rows_refresh(stock);
		slots = oe_stock_load(stock, sku, location, count);
	}
	for (int i = 0; i < *count; i++)
	{
		if (oe_stock_lock(stock, &slots[i], wait_policy, true))
			slots[nlocked++] = slots[i];
	}
	*count = nlocked;
	if (nlocked == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: the stock row was deleted meanwhile")));
	return slots;
}

/* Units that may leave a slot: they must lie there and not be promised. */
static int64
removable(const OeStockRow *slot)
{
	int64		unpromised = (int64) slot->on_hand + slot->backorder_limit - slot->reserved;

	return Max(Min(unpromised, slot->on_hand), 0);
}

/* Decides how a delta is spread over the slots; the part of a slot goes to "take". */
static void
spread(OeStockRow *slots, int n, int32 delta, const char *sku, const char *location)
{
	int64		available = 0;
	int64		rest = delta;

	if (delta >= 0)
	{
		OeStockRow *emptiest = &slots[0];

		for (int i = 1; i < n; i++)
		{
			if (slots[i].on_hand - slots[i].reserved < emptiest->on_hand - emptiest->reserved)
				emptiest = &slots[i];
		}
		if ((int64) emptiest->on_hand + emptiest->backorder_limit + delta > PG_INT32_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("stock of \"%s\" at \"%s\" would exceed %d units", sku, location, PG_INT32_MAX)));
		emptiest->take = delta;
		return;
	}

	for (int i = 0; i < n; i++)
	{
		int64		units = Min(removable(&slots[i]), -rest);

		available += removable(&slots[i]);
		slots[i].take = (int32) -units;
		rest += units;
	}
	if (rest < 0)
	{
		OeJson		list;
		OeJson		json;

		oe_json_begin(&json);
		oe_json_text(&json, "sku", sku);
		oe_json_text(&json, "location", location);
		oe_json_int64(&json, "requested", -(int64) delta);
		oe_json_int64(&json, "available", available);
		oe_json_begin_array(&list);
		oe_json_raw(&list, NULL, oe_json_end(&json));
		ereport(ERROR,
				(errcode(ERRCODE_OE_INSUFFICIENT_STOCK),
				 errmsg("not enough unreserved stock to take away"),
				 errdetail_internal("%s", oe_json_end(&list))));
	}
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
	OeRows	   *rows;
	OeProduct	product;
	OeStockRow *slots;
	OeLedger	ledger;
	int			n;
	int64		on_hand = 0;

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

	rows = oe_products_open();
	if (!oe_product_find(rows, sku, &product))
		oe_unknown_skus(&sku, 1);
	oe_rows_close(rows);
	oe_stock_require_location(location);

	rows = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	slots = lock_slots(rows, sku, location, oe_idempotency_lock_policy(&call), &n);
	if (oe_idempotency_recheck(&call, &stored))
	{
		oe_rows_close(rows);
		PG_RETURN_INT32(pg_strtoint32(stored));
	}

	for (int i = 0; i < n; i++)
		on_hand += slots[i].on_hand;
	if (!PG_ARGISNULL(4) && PG_GETARG_INT32(4) != on_hand)
	{
		OeJson		json;

		oe_json_begin(&json);
		oe_json_text(&json, "sku", sku);
		oe_json_text(&json, "location", location);
		oe_json_int64(&json, "expected", PG_GETARG_INT32(4));
		oe_json_int64(&json, "actual", on_hand);
		ereport(ERROR,
				(errcode(ERRCODE_OE_STOCK_CHANGED),
				 errmsg("stock of \"%s\" at \"%s\" is not what was expected", sku, location),
				 errdetail_internal("%s", oe_json_end(&json))));
	}
	if (on_hand + delta > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("stock of \"%s\" at \"%s\" would exceed %d units", sku, location, PG_INT32_MAX)));

	spread(slots, n, delta, sku, location);
	oe_ledger_begin(&ledger, GetCurrentTimestamp());
	for (int i = 0; i < n; i++)
	{
		/* a count that found what was expected is worth a line, too */
		if (slots[i].take == 0 && !(delta == 0 && i == 0))
			continue;
		if (slots[i].take != 0)
			oe_stock_store(rows, &slots[i], sku, (int64) slots[i].on_hand + slots[i].take,
						   slots[i].reserved);
		oe_ledger_add(&ledger, 0, "adjust", reason, sku, location, slots[i].slot, slots[i].take, 0);
	}
	oe_ledger_end(&ledger);
	oe_rows_close(rows);
	CommandCounterIncrement();

	on_hand += delta;
	oe_idempotency_finish(&call, psprintf(INT64_FORMAT, on_hand));
	PG_RETURN_INT32((int32) on_hand);
}

Datum
oe_reserve_stock(PG_FUNCTION_ARGS)
{
	char	   *ref = oe_arg_name_or_null(fcinfo, 1, "ref");
	Interval   *ttl = PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2);
	OeReservation reservation = {0};
	JsonbParseState *state = NULL;
	OeIdempotency call;
	Jsonb	   *argument = oe_arg_items(fcinfo, 0);
	char	   *stored;
	OeItem	   *items;
	OeStockNeed *needs;
	const char **unknown;
	OeRows	   *products;
	int			n;
	int			nneeds = 0;
	int			nunknown = 0;

	oe_arg_require(fcinfo, 0, "items");
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_jsonb(&state, "items", argument);
	oe_jsonb_push_text(&state, "ref", ref);
	oe_jsonb_push_text(&state, "ttl", oe_hold_text(ttl));
	oe_jsonb_push_text(&state, "channel", oe_arg_text_or_null(fcinfo, 4));
	if (oe_idempotency_begin(&call, "reserve_stock", oe_arg_text_or_null(fcinfo, 3),
							 JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), &stored))
		PG_RETURN_INT64(pg_strtoint64(stored));
	PreventCommandIfReadOnly("reserve_stock()");

	items = oe_items_parse(argument, OE_ITEM_SKU | OE_ITEM_QUANTITY | OE_ITEM_LOCATION, &n);
	reservation.ref = ref;
	reservation.channel = oe_arg_name_or_null(fcinfo, 4, "channel");
	reservation.at = GetCurrentTimestamp();
	reservation.expires_at = oe_hold_until(ttl, "ttl", reservation.at);
	needs = palloc(n * sizeof(OeStockNeed));
	unknown = palloc(n * sizeof(char *));
	products = oe_products_open();
	for (int i = 0; i < n; i++)
	{
		OeProduct	product;

		CHECK_FOR_INTERRUPTS();
		if (!oe_product_find(products, items[i].sku, &product))
			unknown[nunknown++] = items[i].sku;
		else if (product.tracked)
			needs[nneeds++] = (OeStockNeed) {items[i].sku, items[i].location, items[i].quantity};
	}
	oe_rows_close(products);
	if (nunknown > 0)
		oe_unknown_skus(unknown, nunknown);

	reservation.reservation_id = oe_new_id();
	if (oe_idempotency_claim(&call, psprintf(INT64_FORMAT, reservation.reservation_id), &stored))
		PG_RETURN_INT64(pg_strtoint64(stored));
	oe_stock_reserve(&reservation, needs, nneeds);
	PG_RETURN_INT64(reservation.reservation_id);
}

static bool
is_found(OeRel rel, int64 id)
{
	OeRows	   *rows = oe_rows_open(oe_relid(rel), AccessShareLock, 1, NULL);
	Datum		key = Int64GetDatum(id);
	bool		found = oe_rows_find(rows, &key);

	oe_rows_close(rows);
	return found;
}

void
oe_stock_require_cart(int64 reservation_id)
{
	if (is_found(OE_REL_ORDERS, reservation_id))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reservation " INT64_FORMAT " belongs to an order", reservation_id),
				 errhint("Cancel the order, or some of its lines.")));
	if (!is_found(OE_REL_RESERVATION, reservation_id))
	{
		OeJson		json;

		oe_json_begin(&json);
		oe_json_text(&json, "entity", "reservation");
		oe_json_int64(&json, "id", reservation_id);
		ereport(ERROR,
				(errcode(ERRCODE_OE_NOT_FOUND),
				 errmsg("reservation " INT64_FORMAT " does not exist", reservation_id),
				 errdetail_internal("%s", oe_json_end(&json))));
	}
}

Datum
oe_release_stock(PG_FUNCTION_ARGS)
{
	char	   *reason = oe_arg_text_or_null(fcinfo, 1);
	JsonbParseState *state = NULL;
	OeIdempotency call;
	char	   *stored;
	int64		id;
	bool		released;

	oe_arg_require(fcinfo, 0, "reservation_id");
	id = PG_GETARG_INT64(0);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&state, "reservation_id", id);
	oe_jsonb_push_text(&state, "reason", reason);
	if (oe_idempotency_begin(&call, "release_stock", oe_arg_text_or_null(fcinfo, 2),
							 JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), &stored))
		PG_RETURN_BOOL(strcmp(stored, "true") == 0);
	PreventCommandIfReadOnly("release_stock()");

	oe_stock_require_cart(id);
	released = oe_stock_release(id, "release", reason, GetCurrentTimestamp());
	if (oe_idempotency_recheck(&call, &stored))
		PG_RETURN_BOOL(strcmp(stored, "true") == 0);
	oe_idempotency_finish(&call, released ? "true" : "false");
	PG_RETURN_BOOL(released);
}
