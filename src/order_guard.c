/*
 * order_guard.c
 *	  The built-in guards of orders.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "errors.h"
#include "guard.h"
#include "money.h"
#include "part.h"
#include "query.h"
#include "stock.h"
#include "utils/timestamp.h"

static Numeric
add(Numeric a, Numeric b)
{
	return numeric_add_opt_error(a, b, NULL);
}

/* compares what was received, and "more", with what is owed and what was given back */
static int
compare_paid(const OeOrder *order, Numeric more)
{
	Numeric		paid = add(order->captured_total, order->credited_total);
	Numeric		owed = add(add(order->total, order->refunded_total), order->charged_back_total);

	if (more != NULL)
		paid = add(paid, more);

	return oe_amount_cmp(paid, owed);
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
check_no_hold(const OeOrder *order, const OePart *part, TimestampTz now)
{
	return order->on_hold ? "the order is on hold" : NULL;
}

static const char *
check_payment_covered(const OeOrder *order, const OePart *part, TimestampTz now)
{
	if (strcmp(order->terms, "prepaid") == 0 && compare_paid(order, order->authorized_total) < 0)
		return "payments that are authorized or captured do not cover the total";
	return NULL;
}

static const char *
check_reservation_held(const OeOrder *order, const OePart *part, TimestampTz now)
{
	return oe_stock_is_held(order->order_id) ? NULL : "stock of the order is no longer reserved";
}

static const char *
check_nothing_shipped(const OeOrder *order, const OePart *part, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.order_line WHERE order_id = $1 AND shipped > 0 LIMIT 1",
		1, {INT8OID}
	};

	return some_line(&query, order) ? "some of the order has been shipped" : NULL;
}

static const char *
check_past_limit(const OeOrder *order, const OePart *part, TimestampTz now)
{
	if (order->expires_at == DT_NOEND)
		return "the order has no time limit";
	return order->expires_at > now ? "the time limit of the order has not passed" : NULL;
}

static const char *
check_lines_settled(const OeOrder *order, const OePart *part, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.order_line"
		" WHERE order_id = $1 AND delivered + undelivered + cancelled < quantity LIMIT 1",
		1, {INT8OID}
	};

	/* asked after each event of a confirmed order, so what costs nothing comes first */
	if (compare_paid(order, NULL) != 0)
		return "the balance of the order is not 0";
	return some_line(&query, order) ? "some of the order is neither delivered nor cancelled" : NULL;
}

static const OeGuard guards[] = {
	{"no_hold", ERRCODE_OE_ORDER_ON_HOLD, check_no_hold},
	{"past_limit", ERRCODE_OE_GUARD_REJECTED, check_past_limit},
	{"payment_covered", ERRCODE_OE_GUARD_REJECTED, check_payment_covered},
	{"nothing_shipped", ERRCODE_OE_GUARD_REJECTED, check_nothing_shipped},
	{"lines_settled", ERRCODE_OE_GUARD_REJECTED, check_lines_settled},
	{"reservation_held", ERRCODE_OE_RESERVATION_EXPIRED, check_reservation_held},
};

const OeGuardList oe_order_guards = {guards, lengthof(guards)};
