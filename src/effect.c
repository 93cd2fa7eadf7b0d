/*
 * effect.c
 *	  Built-in effects of orders: what a transition does besides changing the state.
 *
 * As guards, effects hang on transitions by name and know nothing of states.
 * All of them happen in the transaction of the transition, or none does.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "effect.h"
#include "fulfillment.h"
#include "line_status.h"
#include "machine_graph.h"
#include "order_row.h"
#include "part.h"
#include "payment.h"
#include "query.h"
#include "stock.h"
#include "utils/builtins.h"

static const OeNamed order_effects[] = {
	{"keep_reservation", OE_EFFECT_KEEP_RESERVATION},
	{"release_stock", OE_EFFECT_RELEASE_STOCK},
	{"expire_stock", OE_EFFECT_EXPIRE_STOCK},
	{"cancel_lines", OE_EFFECT_CANCEL_LINES},
	{"ship_all", OE_EFFECT_SHIP_ALL},
	{"deliver_all", OE_EFFECT_DELIVER_ALL},
	{"mark_paid", OE_EFFECT_MARK_PAID},
	{"mark_refunded", OE_EFFECT_MARK_REFUNDED},
	{"void_payments", OE_EFFECT_VOID_PAYMENTS},
	{"request_refunds", OE_EFFECT_REQUEST_REFUNDS},
	{"cancel_fulfillments", OE_EFFECT_CANCEL_FULFILLMENTS},
};

static const OeNamed order_milestones[] = {
	{"placed_at", Anum_orders_placed_at},
	{"confirmed_at", Anum_orders_confirmed_at},
	{"first_shipped_at", Anum_orders_first_shipped_at},
	{"delivered_at", Anum_orders_delivered_at},
	{"completed_at", Anum_orders_completed_at},
	{"cancelled_at", Anum_orders_cancelled_at},
};

static uint32
find(const OeNamed *entries, int count, const char *name)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(entries[i].name, name) == 0)
			return entries[i].number;
	}
	return 0;
}

uint32
oe_effect_by_name(const char *kind, const char *name)
{
	const OePartKind *part_kind;

	if (strcmp(kind, OE_KIND_ORDER) == 0)
		return find(order_effects, lengthof(order_effects), name);
	part_kind = oe_part_kind(kind);
	return part_kind == NULL ? 0 : find(part_kind->effects.entries, part_kind->effects.count, name);
}

int
oe_milestone_column(const char *kind, const char *name)
{
	const OePartKind *part_kind;

	if (strcmp(kind, OE_KIND_ORDER) == 0)
		return find(order_milestones, lengthof(order_milestones), name);
	part_kind = oe_part_kind(kind);
	return part_kind == NULL ? 0 :
		find(part_kind->milestones.entries, part_kind->milestones.count, name);
}

static void
set_text(OeColumnChange *change, int attnum, const char *value)
{
	change->attnum = attnum;
	change->isnull = false;
	change->value = CStringGetTextDatum(value);
}

/*
 * The roll-ups of an order once the effects have changed its lines, as
 * oe_effects_on_lines() will.
 */
static int
roll_ups_on_row(uint32 effects, int64 order_id, const char *return_status, Oid owner,
				OeColumnChange *changes)
{
	static OeQuery query = {
		"SELECT " OE_FULFILLMENT_STATUS ", " OE_ALL_RETURNED
		" FROM (SELECT coalesce(sum(CASE WHEN $4 THEN e.s ELSE e.q END), 0) AS q,"
		"   coalesce(sum(e.s), 0) AS s, coalesce(sum(e.u), 0) AS u, coalesce(sum(e.r), 0) AS r,"
		"   coalesce(sum(CASE WHEN $3 THEN greatest(e.d, e.s - e.u) ELSE e.d END), 0) AS d"
		"  FROM (SELECT quantity - cancelled AS q, undelivered AS u, returned AS r, delivered AS d,"
		"     CASE WHEN $2 THEN quantity - cancelled ELSE shipped END AS s"
		"    FROM order_engine.order_line WHERE order_id = $1) e) l",
		4, {INT8OID, BOOLOID, BOOLOID, BOOLOID}
	};
	Datum		values[4] = {
		Int64GetDatum(order_id),
		BoolGetDatum((effects & OE_EFFECT_SHIP_ALL) != 0),
		BoolGetDatum((effects & OE_EFFECT_DELIVER_ALL) != 0),
		BoolGetDatum((effects & OE_EFFECT_CANCEL_LINES) != 0)
	};
	MemoryContext caller = CurrentMemoryContext;
	OeOwner		saved;
	char	   *status;
	bool		all_returned;
	bool		isnull;
	int			n = 0;

	oe_owner_begin(&saved, owner);
	oe_spi_connect();
	(void) oe_query_run(&query, values, NULL, false, SPI_OK_SELECT);
	status = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	all_returned = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	oe_spi_finish();
	oe_owner_end(&saved);

	set_text(&changes[n++], Anum_orders_fulfillment_status, status);
	/* more may have been shipped than when all of it was back, and never less */
	if (strcmp(return_status, "returned") == 0 && !all_returned)
		set_text(&changes[n++], Anum_orders_return_status, "partially_returned");
	return n;
}

int
oe_effects_on_row(uint32 effects, int64 order_id, const char *fulfillment_status,
				  const char *return_status, Oid owner, OeColumnChange *changes)
{
	int			n = 0;

	/* where nothing was shipped, only what ships changes that */
	if ((effects & OE_EFFECT_SHIP_ALL) ||
		((effects & (OE_EFFECT_DELIVER_ALL | OE_EFFECT_CANCEL_LINES)) &&
		 strcmp(fulfillment_status, "unfulfilled") != 0))
		n = roll_ups_on_row(effects, order_id, return_status, owner, changes);
	if (effects & OE_EFFECT_MARK_REFUNDED)
		set_text(&changes[n++], Anum_orders_payment_status, "refunded");
	else if (effects & OE_EFFECT_MARK_PAID)
		set_text(&changes[n++], Anum_orders_payment_status, "paid");
	Assert(n <= OE_EFFECT_MAX_CHANGES);
	return n;
}

static void
update_lines(OeQuery *query, int64 order_id)
{
	Datum		values[1] = {Int64GetDatum(order_id)};

	oe_spi_connect();
	(void) oe_query_run(query, values, NULL, false, SPI_OK_UPDATE);
	oe_spi_finish();
}

void
oe_effects_on_lines(uint32 effects, int64 order_id)
{
	static OeQuery cancel = {
		"UPDATE order_engine.order_line SET cancelled = quantity - shipped"
		" WHERE order_id = $1 AND cancelled < quantity - shipped",
		1, {INT8OID}
	};
	static OeQuery ship = {
		"UPDATE order_engine.order_line SET shipped = quantity - cancelled"
		" WHERE order_id = $1 AND shipped < quantity - cancelled",
		1, {INT8OID}
	};
	static OeQuery deliver = {
		"UPDATE order_engine.order_line SET delivered = shipped - undelivered"
		" WHERE order_id = $1 AND delivered < shipped - undelivered",
		1, {INT8OID}
	};

	if (effects & OE_EFFECT_SHIP_ALL)
		update_lines(&ship, order_id);
	if (effects & OE_EFFECT_DELIVER_ALL)
		update_lines(&deliver, order_id);
	if (effects & OE_EFFECT_CANCEL_LINES)
		update_lines(&cancel, order_id);
}

void
oe_effects_on_parts(uint32 effects, OeOrder *order, const char *reason, TimestampTz at)
{
	if (effects & OE_EFFECT_CANCEL_FULFILLMENTS)
		oe_fulfillments_cancel(order, reason);
	if (effects & (OE_EFFECT_VOID_PAYMENTS | OE_EFFECT_REQUEST_REFUNDS))
		oe_payments_give_back(order, (effects & OE_EFFECT_VOID_PAYMENTS) != 0,
							  (effects & OE_EFFECT_REQUEST_REFUNDS) != 0, reason, at);
}

void
oe_effects_on_stock(uint32 effects, int64 order_id, const char *reason, TimestampTz at)
{
	/* the reservation of an order has the order's id */
	if (effects & OE_EFFECT_KEEP_RESERVATION)
		oe_stock_keep(order_id);
	if (effects & OE_EFFECT_SHIP_ALL)
		oe_stock_ship(order_id, at);
	if (effects & OE_EFFECT_RELEASE_STOCK)
		oe_stock_release(order_id, "release", reason, at);
	if (effects & OE_EFFECT_EXPIRE_STOCK)
		oe_stock_release(order_id, "expire", reason, at);
}
