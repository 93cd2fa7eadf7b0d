/*
 * guard.c
 *	  Built-in guards: conditions of an order that a transition needs.
 *
 * A guard hangs on a transition of a machine, by name, and knows nothing of
 * states.  It answers with a reason and leaves the error to the caller, for
 * allowed_events() asks the same questions without wanting one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "errors.h"
#include "executor/spi.h"
#include "guard.h"
#include "query.h"
#include "stock.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

typedef struct Guard
{
	const char *name;
	uint32		bit;
	int			sqlstate;
	const char *(*check) (const OeOrder *order, TimestampTz now);	/* NULL, or the reason */
} Guard;

static Numeric
add(Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(a), NumericGetDatum(b)));
}

/* compares what was received and kept, and "more", with the total */
static int
compare_paid(const OeOrder *order, Numeric more)
{
	Numeric		paid = more == NULL ? order->captured_total : add(order->captured_total, more);
	Numeric		owed = add(order->total, order->refunded_total);

	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(paid), NumericGetDatum(owed)));
}

static bool
some_line(OeQuery *query, const OeOrder *order)
{
	Datum		values[1] = {Int64GetDatum(order->order_id)};
	bool		found;

	oe_spi_connect();
	found = oe_query_run(query, values, NULL, false, SPI_OK_SELECT) > 0;
	oe_spi_finish();
	return found;
}

static const char *
check_no_hold(const OeOrder *order, TimestampTz now)
{
	return order->on_hold ? "the order is on hold" : NULL;
}

static const char *
check_payment_covered(const OeOrder *order, TimestampTz now)
{
	if (strcmp(order->terms, "prepaid") == 0 && compare_paid(order, order->authorized_total) < 0)
		return "payments that are authorized or captured do not cover the total";
	return NULL;
}

static const char *
check_reservation_held(const OeOrder *order, TimestampTz now)
{
	return oe_stock_is_held(order->order_id) ? NULL : "stock of the order is no longer reserved";
}

static const char *
check_nothing_shipped(const OeOrder *order, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.order_line WHERE order_id = $1 AND shipped > 0 LIMIT 1",
		1, {INT8OID}
	};

	return some_line(&query, order) ? "some of the order has been shipped" : NULL;
}

static const char *
check_past_limit(const OeOrder *order, TimestampTz now)
{
	if (order->expires_at == DT_NOEND)
		return "the order has no time limit";
	return order->expires_at > now ? "the time limit of the order has not passed" : NULL;
}

static const char *
check_lines_settled(const OeOrder *order, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.order_line"
		" WHERE order_id = $1 AND delivered + cancelled < quantity LIMIT 1",
		1, {INT8OID}
	};

	if (some_line(&query, order))
		return "some of the order is neither delivered nor cancelled";
	return compare_paid(order, NULL) == 0 ? NULL : "the balance of the order is not 0";
}

/* cheap ones first: a rejection names the first guard that fails */
static const Guard guards_table[] = {
	{"no_hold", OE_GUARD_NO_HOLD, ERRCODE_OE_ORDER_ON_HOLD, check_no_hold},
	{"past_limit", OE_GUARD_PAST_LIMIT, ERRCODE_OE_GUARD_REJECTED, check_past_limit},
	{"payment_covered", OE_GUARD_PAYMENT_COVERED, ERRCODE_OE_GUARD_REJECTED, check_payment_covered},
	{"nothing_shipped", OE_GUARD_NOTHING_SHIPPED, ERRCODE_OE_GUARD_REJECTED, check_nothing_shipped},
	{"lines_settled", OE_GUARD_LINES_SETTLED, ERRCODE_OE_GUARD_REJECTED, check_lines_settled},
	{"reservation_held", OE_GUARD_RESERVATION_HELD, ERRCODE_OE_RESERVATION_EXPIRED, check_reservation_held},
};

uint32
oe_guard_by_name(const char *name)
{
	for (int i = 0; i < lengthof(guards_table); i++)
	{
		if (strcmp(guards_table[i].name, name) == 0)
			return guards_table[i].bit;
	}
	return 0;
}

bool
oe_guards_pass(uint32 guards, const OeOrder *order, TimestampTz now, OeRejection *rejection)
{
	for (int i = 0; guards != 0 && i < lengthof(guards_table); i++)
	{
		const Guard *guard = &guards_table[i];
		const char *reason;

		if ((guards & guard->bit) != 0 && (reason = guard->check(order, now)) != NULL)
		{
			rejection->sqlstate = guard->sqlstate;
			rejection->guard = guard->name;
			rejection->reason = reason;
			return false;
		}
	}
	return true;
}

void
oe_guard_reject(const OeRejection *rejection, const OeOrder *order, const char *event)
{
	OeJson		detail;

	oe_json_begin(&detail);
	oe_json_text(&detail, "entity", "order");
	oe_json_int64(&detail, "id", order->order_id);
	oe_json_text(&detail, "event", event);
	oe_json_text(&detail, "guard", rejection->guard);
	oe_json_text(&detail, "reason", rejection->reason);
	ereport(ERROR,
			(errcode(rejection->sqlstate),
			 errmsg("event \"%s\" is not possible: %s", event, rejection->reason),
			 errdetail_internal("%s", oe_json_end(&detail))));
}
