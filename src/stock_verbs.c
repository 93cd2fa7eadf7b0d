/*
 * stock_verbs.c
 *	  SQL functions that hold stock without an order: reserve_stock, release_stock;
 *	  and expire_reservations, which sweeps up what was left behind.
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
#include "relations.h"
#include "settings.h"
#include "stock.h"
#include "stock_held.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_reserve_stock);
PG_FUNCTION_INFO_V1(oe_release_stock);
PG_FUNCTION_INFO_V1(oe_expire_reservations);

/* Of a cart that needs no stock this row alone tells that it was there. */
static void
append_empty(const OeReservation *reservation, const OeItem *item)
{
	Datum		values[Natts_reservation] = {0};
	bool		nulls[Natts_reservation] = {false};

#define SET(column, datum) values[Anum_reservation_##column - 1] = (datum)
	SET(reservation_id, Int64GetDatum(reservation->reservation_id));
	nulls[Anum_reservation_expires_at - 1] = true;
	SET(created_at, TimestampTzGetDatum(reservation->at));
	SET(sku, CStringGetTextDatum(item->sku));
	SET(location, CStringGetTextDatum(item->location == NULL ? "default" : item->location));
	SET(state, CStringGetTextDatum("released"));
	if (reservation->ref != NULL)
		SET(ref, CStringGetTextDatum(reservation->ref));
	nulls[Anum_reservation_ref - 1] = reservation->ref == NULL;
#undef SET
	oe_append(oe_relid(OE_REL_RESERVATION), Natts_reservation, OE_CHECKED, values, nulls);
	CommandCounterIncrement();
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
	if (nneeds > 0)
		oe_stock_reserve(&reservation, needs, nneeds);
	else
		append_empty(&reservation, &items[0]);
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
	/* the key before the rows: place_order() takes them in this order, too */
	if (oe_idempotency_claim(&call, "", &stored))
		PG_RETURN_BOOL(strcmp(stored, "true") == 0);
	released = oe_stock_release(id, "release", reason, GetCurrentTimestamp());
	oe_idempotency_complete(&call, released ? "true" : "false");
	PG_RETURN_BOOL(released);
}

/*
 * Locks the stock rows that nobody has, and leaves in held[] what they gave; returns
 * how much.  When others have all of them that is everything, to be waited for in
 * order, unless the transaction must not wait any more.
 */
static int
lock_free_stock(OeHeld *held, int n)
{
	OeRows	   *stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 3, NULL);
	int			kept = 0;
	bool		is_free = false;

	oe_held_sort(held, n);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i == 0 || !oe_held_same_row(&held[i], &held[i - 1]))
			is_free = oe_stock_try_key(stock, held[i].sku, held[i].location, held[i].slot);
		if (is_free)
			held[kept++] = held[i];
	}
	oe_rows_close(stock);
	return kept == 0 && oe_lock_wait ? n : kept;
}

/*
 * Gives back up to "limit" rows of cart reservations that are past their limit,
 * except those that somebody else is just changing; returns how many.
 */
static int
expire(int limit)
{
	/* an order that expires is told so by its machine, which releases its stock itself */
	static OeQuery query = {
		"SELECT r.reservation_id, r.sku, r.location, r.slot, r.quantity"
		" FROM order_engine.reservation r"
		" WHERE r.state = 'held' AND r.expires_at <= $1"
		"   AND NOT EXISTS (SELECT FROM order_engine.orders o WHERE o.order_id = r.reservation_id)"
		" ORDER BY r.expires_at LIMIT $2"
		" FOR UPDATE OF r SKIP LOCKED",
		2, {TIMESTAMPTZOID, INT4OID}
	};
	TimestampTz at = GetCurrentTimestamp();
	Datum		values[2];
	OeHeld	   *expired;
	int			n;

	values[0] = TimestampTzGetDatum(at);
	values[1] = Int32GetDatum(limit);
	expired = oe_held_query(&query, values, &n);

	/* one row that somebody keeps shall not hold up all carts */
	n = lock_free_stock(expired, n);
	oe_held_expire(expired, n);
	if (n > 0)
		oe_held_give_back(expired, n, "expire", NULL, at);
	return n;
}

Datum
oe_expire_reservations(PG_FUNCTION_ARGS)
{
	int32		batch;

	oe_arg_require(fcinfo, 0, "batch");
	batch = PG_GETARG_INT32(0);
	if (batch < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be positive", "batch")));
	PreventCommandIfReadOnly("expire_reservations()");
	PG_RETURN_INT32(expire(batch));
}
