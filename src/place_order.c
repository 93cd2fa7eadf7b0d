/*
 * place_order.c
 *	  SQL function place_order: one call, one transaction.
 *
 * The order of the work is the order of the locks: look at everything, take the
 * key, write order, lines, history and event, and only then, last, the rows of
 * stock, which others are waiting for.  An error at any point leaves nothing.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "amend.h"
#include "append.h"
#include "args.h"
#include "catalog.h"
#include "context.h"
#include "errors.h"
#include "fmgr.h"
#include "id.h"
#include "idempotency.h"
#include "items.h"
#include "machine.h"
#include "miscadmin.h"
#include "money.h"
#include "order_row.h"
#include "record.h"
#include "settings.h"
#include "state_machine.h"
#include "stock.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(oe_place_order);

/* arguments, as sql/52_orders.sql declares them */
enum
{
	ARG_CUSTOMER_ID, ARG_ITEMS, ARG_CURRENCY, ARG_ORDER_NUMBER, ARG_CHANNEL, ARG_REGION, ARG_TERMS,
	ARG_SHIPPING, ARG_TAX, ARG_DISCOUNT, ARG_EXPECTED_TOTAL, ARG_HOLD_FOR, ARG_METADATA,
	ARG_IDEMPOTENCY_KEY, ARG_SELLER, ARG_LOCATION, ARG_RESERVATION_ID
};

/* columns of order_line, as sql/30_order.sql defines them */
enum
{
	LINE_ORDER_ID, LINE_LINE_NO, LINE_QUANTITY, LINE_CANCELLED, LINE_SHIPPED, LINE_DELIVERED,
	LINE_RETURNED, LINE_UNDELIVERED, LINE_TRACKED, LINE_SKU, LINE_LOCATION, LINE_SELLER, LINE_UNIT_PRICE,
	LINE_LINE_TOTAL, LINE_METADATA, LINE_COLUMNS
};

typedef struct Line
{
	OeItem		item;			/* unit_price is filled in */
	Numeric		line_total;
	bool		tracked;
} Line;

typedef struct Placing
{
	OeOrder		order;
	TimestampTz at;
	TimestampTz hold_until;		/* of the stock */
	char	   *region;
	char	   *seller;			/* of the lines that name none */
	char	   *location;		/* the same */
	int64		cart_id;		/* reservation that the order takes over, 0 for none */
	Jsonb	   *metadata;
	int			minor_units;
	Numeric		lines_total;
	Numeric		shipping;
	Numeric		tax;
	Numeric		discount;
	const OeTransition *transition;
	Line	   *lines;
	int			nlines;
} Placing;

static const Interval *
hold_for(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(ARG_HOLD_FOR) ? NULL : PG_GETARG_INTERVAL_P(ARG_HOLD_FOR);
}

/*
 * Everything that makes the call what it is, but the key.  What may be large is
 * passed by the caller, who has checked its size: all of it gets hashed.
 */
static void
write_request(OeRequest *request, FunctionCallInfo fcinfo, Jsonb *items, Jsonb *metadata)
{
#define WRITE_TEXT(key, argno) oe_request_text(request, key, oe_arg_text_or_null(fcinfo, argno))
#define WRITE_AMOUNT(key, argno) \
	do { \
		if (!PG_ARGISNULL(argno)) \
			oe_request_numeric(request, key, PG_GETARG_NUMERIC(argno)); \
	} while (0)
	oe_request_begin(request);
	WRITE_AMOUNT("tax", ARG_TAX);
	oe_request_jsonb(request, "items", items);
	WRITE_TEXT("terms", ARG_TERMS);
	WRITE_TEXT("region", ARG_REGION);
	WRITE_TEXT("seller", ARG_SELLER);
	WRITE_TEXT("channel", ARG_CHANNEL);
	WRITE_TEXT("currency", ARG_CURRENCY);
	WRITE_AMOUNT("discount", ARG_DISCOUNT);
	oe_request_text(request, "hold_for", oe_hold_text(hold_for(fcinfo)));
	WRITE_TEXT("location", ARG_LOCATION);
	oe_request_jsonb(request, "metadata", metadata);
	WRITE_AMOUNT("shipping", ARG_SHIPPING);
	WRITE_TEXT("customer_id", ARG_CUSTOMER_ID);
	WRITE_TEXT("order_number", ARG_ORDER_NUMBER);
	WRITE_AMOUNT("expected_total", ARG_EXPECTED_TOTAL);
	if (!PG_ARGISNULL(ARG_RESERVATION_ID))
		oe_request_numeric(request, "reservation_id", int64_to_numeric(PG_GETARG_INT64(ARG_RESERVATION_ID)));
#undef WRITE_AMOUNT
#undef WRITE_TEXT
}

/*
 * The transition that a new order makes, and how long it may stay where that
 * leads: as long as its stock is held, if the state has a limit at all.
 */
static void
enter_machine(Placing *p, const Interval *hold)
{
	const OeMachine *machine = oe_machine_current("order", oe_order_machine);
	OeStateLimit limit;

	p->transition = oe_machine_find_event(machine, oe_machine_initial(machine), OE_EVENT_PLACE);
	if (p->transition == NULL)
	{
		OeInvalidTransition what = {.entity = "order", .event = OE_EVENT_PLACE};

		what.entity_id = "new";
		what.from = oe_machine_initial(machine);
		oe_invalid_transition(machine, &what);
	}
	p->order.machine_id = oe_machine_id(machine);
	p->order.state = p->transition->to;

	limit = oe_machine_limit(machine, p->order.state);
	p->hold_until = oe_hold_until(hold != NULL ? hold : limit.length, "hold_for", p->at);
	p->order.expires_at = limit.event == NULL ? DT_NOEND : p->hold_until;
}

/* The price of a line: the caller's, else the product's. */
static Numeric
price_of(const Placing *p, const OeItem *item, const OeProduct *product)
{
	const char *fault;

	if (item->unit_price == NULL)
	{
		if (product->unit_price == NULL)
			oe_item_error(item->position, "unit_price", "is missing, and the product has no price");
		if (strcmp(product->currency, p->order.currency) != 0)
		{
			OeJson		json;

			oe_json_begin(&json);
			oe_json_int64(&json, "position", item->position);
			oe_json_text(&json, "sku", item->sku);
			oe_json_text(&json, "expected", p->order.currency);
			oe_json_text(&json, "given", product->currency);
			ereport(ERROR,
					(errcode(ERRCODE_OE_CURRENCY_MISMATCH),
					 errmsg("product \"%s\" is priced in %s, the order is in %s",
							item->sku, product->currency, p->order.currency),
					 errdetail_internal("%s", oe_json_end(&json))));
		}
		return product->unit_price;
	}

	fault = oe_amount_fault(item->unit_price, p->order.currency, p->minor_units);
	if (fault != NULL)
		oe_item_error(item->position, "unit_price", fault);
	return item->unit_price;
}

static void
make_lines(Placing *p, Jsonb *items)
{
	OeRows	   *products = oe_products_open();
	OeItem	   *parsed;
	const char **unknown;
	int			nunknown = 0;

	parsed = oe_items_parse(items, OE_ITEM_SKU | OE_ITEM_QUANTITY | OE_ITEM_UNIT_PRICE |
							OE_ITEM_LOCATION | OE_ITEM_SELLER | OE_ITEM_METADATA, &p->nlines);
	p->lines = palloc(p->nlines * sizeof(Line));
	unknown = palloc(p->nlines * sizeof(char *));
	p->lines_total = int64_to_numeric(0);

	for (int i = 0; i < p->nlines; i++)
	{
		Line	   *line = &p->lines[i];
		OeProduct	product;

		CHECK_FOR_INTERRUPTS();
		line->item = parsed[i];
		if (line->item.seller == NULL)
			line->item.seller = p->seller;
		if (line->item.location == NULL)
			line->item.location = p->location;
		if (!oe_product_find(products, line->item.sku, &product))
		{
			unknown[nunknown++] = line->item.sku;
			continue;
		}
		line->tracked = product.tracked;
		line->item.unit_price = oe_amount_round(price_of(p, &line->item, &product), p->minor_units);
		line->line_total =
			oe_amount_round(numeric_mul_opt_error(line->item.unit_price,
												  int64_to_numeric(line->item.quantity), NULL),
							p->minor_units);
		p->lines_total = numeric_add_opt_error(p->lines_total, line->line_total, NULL);
	}
	oe_rows_close(products);
	if (nunknown > 0)
		oe_unknown_skus(unknown, nunknown);
}

/* total = lines + shipping + tax - discount */
static void
compute_total(Placing *p, FunctionCallInfo fcinfo)
{
	const char *currency = p->order.currency;
	const char *fault;
	Numeric		total;

	p->shipping = oe_arg_amount(fcinfo, ARG_SHIPPING, "shipping", currency, p->minor_units);
	p->tax = oe_arg_amount(fcinfo, ARG_TAX, "tax", currency, p->minor_units);
	p->discount = oe_arg_amount(fcinfo, ARG_DISCOUNT, "discount", currency, p->minor_units);

	total = numeric_add_opt_error(p->lines_total, p->shipping, NULL);
	total = numeric_add_opt_error(total, p->tax, NULL);
	total = numeric_sub_opt_error(total, p->discount, NULL);
	fault = oe_amount_fault(total, currency, p->minor_units);
	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the total of the order %s", fault)));
	p->order.total = total;

	if (!PG_ARGISNULL(ARG_EXPECTED_TOTAL))
	{
		Numeric		expected = oe_arg_amount(fcinfo, ARG_EXPECTED_TOTAL, "expected_total",
											 currency, p->minor_units);
		OeJson		json;

		if (oe_amount_cmp(expected, total) != 0)
		{
			oe_json_begin(&json);
			oe_json_raw(&json, "expected", oe_amount_text(expected));
			oe_json_raw(&json, "computed", oe_amount_text(total));
			ereport(ERROR,
					(errcode(ERRCODE_OE_TOTAL_MISMATCH),
					 errmsg("the total of the order is not what was expected"),
					 errdetail_internal("%s", oe_json_end(&json))));
		}
	}
}

static void
insert_order(const Placing *p)
{
	const OeOrder *order = &p->order;
	Datum		zero = NumericGetDatum(oe_amount_round(int64_to_numeric(0), p->minor_units));
	Datum		at = TimestampTzGetDatum(p->at);
	Datum		values[Natts_orders] = {0};
	bool		nulls[Natts_orders] = {false};

#define SET(column, datum) values[Anum_orders_##column - 1] = (datum)
#define SET_TEXT(column, string) SET(column, CStringGetTextDatum(string))
#define SET_TEXT_OR_NULL(column, string) \
	do { \
		if ((string) != NULL) \
			SET_TEXT(column, string); \
		else \
			SET_NULL(column); \
	} while (0)
#define SET_NULL(column) nulls[Anum_orders_##column - 1] = true
	SET(order_id, Int64GetDatum(order->order_id));
	SET(version, Int64GetDatum(order->version));
	SET(last_txid, FullTransactionIdGetDatum(order->last_txid));
	SET(machine_id, Int32GetDatum(order->machine_id));
	SET(on_hold, BoolGetDatum(false));
	SET_TEXT(state, order->state);
	SET(state_since, at);
	SET(expires_at, TimestampTzGetDatum(order->expires_at));
	nulls[Anum_orders_expires_at - 1] = TIMESTAMP_IS_NOEND(order->expires_at);
	SET_TEXT(tenant, order->tenant);
	SET_TEXT(channel, order->channel);
	SET_TEXT(order_number, order->order_number);
	SET_TEXT(customer_id, order->customer_id);
	SET_TEXT_OR_NULL(region, p->region);
	SET_TEXT_OR_NULL(seller, p->seller);
	SET_TEXT_OR_NULL(location, p->location);
	SET_TEXT(terms, order->terms);
	SET_TEXT(currency, order->currency);
	SET(lines_total, NumericGetDatum(p->lines_total));
	SET(shipping, NumericGetDatum(p->shipping));
	SET(tax, NumericGetDatum(p->tax));
	SET(discount, NumericGetDatum(p->discount));
	SET(total, NumericGetDatum(order->total));
	SET(authorized_total, zero);
	SET(captured_total, zero);
	SET(refunded_total, zero);
	SET(charged_back_total, zero);
	SET(credited_total, zero);
	SET_TEXT(payment_status, "unpaid");
	SET_TEXT(fulfillment_status, "unfulfilled");
	SET_TEXT(return_status, "none");
	SET_NULL(placed_at);
	SET_NULL(confirmed_at);
	SET_NULL(first_shipped_at);
	SET_NULL(delivered_at);
	SET_NULL(completed_at);
	SET_NULL(cancelled_at);
	if (p->transition->milestone != 0)
	{
		values[p->transition->milestone - 1] = at;
		nulls[p->transition->milestone - 1] = false;
	}
	if (p->metadata != NULL)
		SET(metadata, JsonbPGetDatum(p->metadata));
	else
		SET_NULL(metadata);
	SET(created_at, at);
	SET(updated_at, at);
#undef SET_NULL
#undef SET_TEXT_OR_NULL
#undef SET_TEXT
#undef SET
	oe_append(oe_relid(OE_REL_ORDERS), Natts_orders, OE_CHECKED, values, nulls);
}

/* Writes the lines; returns what the event tells of them. */
static Jsonb *
insert_lines(const Placing *p)
{
	OeAppender *appender = oe_append_begin(oe_relid(OE_REL_ORDER_LINE), LINE_COLUMNS, OE_CHECKED);
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < p->nlines; i++)
	{
		const Line *line = &p->lines[i];
		const OeItem *item = &line->item;
		Datum		values[LINE_COLUMNS] = {0};
		bool		nulls[LINE_COLUMNS] = {false};

		values[LINE_ORDER_ID] = Int64GetDatum(p->order.order_id);
		values[LINE_LINE_NO] = Int32GetDatum(item->position);
		values[LINE_QUANTITY] = Int32GetDatum(item->quantity);
		values[LINE_TRACKED] = BoolGetDatum(line->tracked);
		values[LINE_SKU] = CStringGetTextDatum(item->sku);
		if (item->location != NULL)
			values[LINE_LOCATION] = CStringGetTextDatum(item->location);
		nulls[LINE_LOCATION] = item->location == NULL;
		if (item->seller != NULL)
			values[LINE_SELLER] = CStringGetTextDatum(item->seller);
		nulls[LINE_SELLER] = item->seller == NULL;
		values[LINE_UNIT_PRICE] = NumericGetDatum(item->unit_price);
		values[LINE_LINE_TOTAL] = NumericGetDatum(line->line_total);
		values[LINE_METADATA] = JsonbPGetDatum(item->metadata);
		nulls[LINE_METADATA] = item->metadata == NULL;
		oe_append_row(appender, values, nulls);

		(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		oe_jsonb_push_int64(&state, "line_no", item->position);
		oe_jsonb_push_text(&state, "sku", item->sku);
		oe_jsonb_push_int64(&state, "quantity", item->quantity);
		oe_jsonb_push_numeric(&state, "unit_price", item->unit_price);
		oe_jsonb_push_numeric(&state, "line_total", line->line_total);
		oe_jsonb_push_text(&state, "seller", item->seller);
		oe_jsonb_push_text(&state, "location", item->location);
		(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	oe_append_end(appender);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

static void
record(const Placing *p, Jsonb *lines)
{
	OeRecord	rec = {0};

	rec.last_txid = InvalidFullTransactionId;
	rec.machine_id = p->order.machine_id;
	rec.event = p->transition->event;
	rec.from = p->transition->from;
	rec.to = p->transition->to;
	rec.type = p->transition->type;
	rec.at = p->at;
	oe_record_order_event(&p->order, &rec, lines);
}

static void
reserve(const Placing *p)
{
	OeReservation reservation = {0};
	OeStockNeed *needs = palloc(p->nlines * sizeof(OeStockNeed));
	int			n = 0;

	for (int i = 0; i < p->nlines; i++)
	{
		const OeItem *item = &p->lines[i].item;

		if (p->lines[i].tracked)
			needs[n++] = (OeStockNeed) {item->sku, item->location, item->quantity};
	}
	reservation.reservation_id = p->order.order_id;
	reservation.channel = p->order.channel;
	reservation.cart_id = p->cart_id;
	reservation.expires_at = p->hold_until;
	reservation.at = p->at;
	oe_stock_reserve(&reservation, needs, n);
}

Datum
oe_place_order(PG_FUNCTION_ARGS)
{
	Placing		p = {0};
	OeIdempotency call;
	OeRequest	request;
	char	   *key = oe_arg_text_or_null(fcinfo, ARG_IDEMPOTENCY_KEY);
	Jsonb	   *items = oe_arg_items(fcinfo, ARG_ITEMS);
	char	   *stored;
	char		id[MAXINT8LEN + 1];

	p.metadata = oe_arg_metadata(fcinfo, ARG_METADATA, "metadata");
	if (key != NULL)
		write_request(&request, fcinfo, items, p.metadata);
	if (oe_idempotency_begin_request(&call, "place_order", key, &request, &stored))
		PG_RETURN_INT64(pg_strtoint64(stored));
	PreventCommandIfReadOnly("place_order()");

	/* look at everything, write nothing */
	p.at = GetCurrentTimestamp();
	p.order.customer_id = oe_arg_name(fcinfo, ARG_CUSTOMER_ID, "customer_id");
	oe_arg_require(fcinfo, ARG_ITEMS, "items");
	p.order.currency = oe_arg_name(fcinfo, ARG_CURRENCY, "currency");
	p.order.order_number = oe_arg_name_or_null(fcinfo, ARG_ORDER_NUMBER, "order_number");
	p.order.channel = oe_arg_name(fcinfo, ARG_CHANNEL, "channel");
	p.region = oe_arg_name_or_null(fcinfo, ARG_REGION, "region");
	p.seller = oe_arg_name_or_null(fcinfo, ARG_SELLER, "seller");
	p.location = oe_arg_name_or_null(fcinfo, ARG_LOCATION, "location");
	p.order.terms = oe_arg_name(fcinfo, ARG_TERMS, "terms");
	if (strcmp(p.order.terms, "prepaid") != 0 && strcmp(p.order.terms, "invoice") != 0 &&
		strcmp(p.order.terms, "cash_on_delivery") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be prepaid, invoice or cash_on_delivery", "terms")));
	if (!PG_ARGISNULL(ARG_RESERVATION_ID))
	{
		p.cart_id = PG_GETARG_INT64(ARG_RESERVATION_ID);
		oe_stock_require_cart(p.cart_id);
	}
	p.minor_units = oe_currency_minor_units(p.order.currency);
	enter_machine(&p, hold_for(fcinfo));
	make_lines(&p, items);
	compute_total(&p, fcinfo);

	/* take the key, with the result that is known by now */
	p.order.order_id = oe_new_id();
	snprintf(id, sizeof(id), INT64_FORMAT, p.order.order_id);
	if (oe_idempotency_claim(&call, id, &stored))
		PG_RETURN_INT64(pg_strtoint64(stored));

	/* write, with the rows of stock last */
	if (p.order.order_number == NULL)
		p.order.order_number = id;
	p.order.tenant = oe_context_tenant() == NULL ? "" : oe_context_tenant();
	p.order.authorized_total = p.order.captured_total = p.order.refunded_total =
		p.order.charged_back_total = p.order.credited_total = int64_to_numeric(0);
	p.order.version = 1;
	p.order.last_txid = GetTopFullTransactionId();
	insert_order(&p);
	record(&p, insert_lines(&p));
	reserve(&p);
	CommandCounterIncrement();
	oe_order_follow(&p.order);
	PG_RETURN_INT64(p.order.order_id);
}
