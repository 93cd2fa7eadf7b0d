/*
 * refund.c
 *	  SQL function refund, and refunds that follow from a return or the end of an
 *	  order.
 *
 * A refund is requested, like everything that a payment service does.  With the
 * request the order changes already: a refund first uses up what the customer
 * overpaid (units were cancelled after the capture), and the rest is credited,
 * that is, he need not pay it any more.  So the balance is negative until the
 * refund has succeeded, and the order is not complete before.
 */
#include "postgres.h"

#include "amend.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "idempotency.h"
#include "items.h"
#include "miscadmin.h"
#include "money.h"
#include "payment.h"
#include "tcop/utility.h"
#include "transition.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_refund);

/* arguments, as sql/56_payments.sql declares them */
enum
{
	ARG_ORDER_ID, ARG_AMOUNT, ARG_REASON, ARG_ITEMS, ARG_PAYMENT_ID, ARG_METADATA,
	ARG_EXPECTED_VERSION, ARG_IDEMPOTENCY_KEY
};

typedef struct Refund
{
	int64		payment_id;		/* 0: any */
	int64		return_id;		/* 0: none */
	const char *reason;
	Jsonb	   *metadata;
	TimestampTz at;
	List	   *transactions;	/* of int64 *, what was requested */
} Refund;

/* What the customer paid, and has not been given back or promised, beyond what he owes. */
static Numeric
overpaid(const OeOrder *order)
{
	OeUndecided undecided;
	Numeric		paid = oe_amount_sub(order->captured_total, order->refunded_total);

	oe_payments_undecided(order->order_id, &undecided);
	paid = oe_amount_sub(paid, order->charged_back_total);
	paid = oe_amount_sub(paid, undecided.refunds);
	paid = oe_amount_sub(paid, oe_amount_sub(order->total, order->credited_total));
	return oe_amount_max(paid, int64_to_numeric(0));
}

/*
 * What of an amount has to be credited; *excess is what was overpaid, and becomes
 * what is left of that.
 */
static Numeric
credit_for(const OeOrder *order, Numeric amount, Numeric *excess)
{
	Numeric		used = oe_amount_min(amount, *excess);
	Numeric		owed = oe_amount_sub(order->total, order->credited_total);
	Numeric		credit = oe_amount_sub(amount, used);

	*excess = oe_amount_sub(*excess, used);
	return oe_amount_max(oe_amount_min(credit, owed), int64_to_numeric(0));
}

static void
request_from(OeOrder *order, OePart *part, Numeric amount, Refund *refund, Numeric *excess)
{
	OePaymentTransaction transaction = {.kind = OE_REFUND, .return_id = refund->return_id,
	.reason = refund->reason};
	OePaymentEvent event = {.event = "request_refund", .type = "payment.refund_requested",
	.reason = refund->reason, .metadata = refund->metadata, .at = refund->at,
	.transaction = &transaction};
	Numeric		credit = credit_for(order, amount, excess);
	int64	   *id = palloc(sizeof(int64));

	if (oe_amount_is_positive(credit))
		transaction.credited = credit;
	oe_transaction_add(part, &transaction, amount, refund->at);
	oe_payment_announce(order, part, &event, transaction.credited == credit ? credit : NULL);
	*id = transaction.transaction_id;
	refund->transactions = lappend(refund->transactions, id);
}

/* Goods came back that were never paid: the customer owes less, and nobody is asked for money. */
static void
credit_order(OeOrder *order, Numeric credit, const Refund *refund)
{
	static OeQuery query = {
		/* a payment status that the machine itself set, without payments, stays */
		"UPDATE order_engine.orders SET credited_total = credited_total + $2,"
		" payment_status = CASE WHEN authorized_total = 0 AND captured_total = 0 THEN payment_status ELSE "
		OE_PAYMENT_STATUS("authorized_total", "captured_total", "refunded_total", "charged_back_total",
						  "total", "credited_total + $2")
		" END WHERE order_id = $1 RETURNING *",
		2, {INT8OID, NUMERICOID}
	};
	Datum		values[2] = {Int64GetDatum(order->order_id), NumericGetDatum(credit)};
	OeRecord	record = {.event = "credit", .type = "order.credited", .reason = refund->reason,
	.metadata = refund->metadata, .at = refund->at};

	oe_order_amend_event(order, &query, values, NULL, &record, NULL);
}

/* Requests refunds of up to "amount"; returns what is left of it. */
static Numeric
request_refunds(OeOrder *order, Numeric amount, Refund *refund)
{
	Numeric		excess = overpaid(order);
	Numeric		left = amount;
	int			count = 1;
	int64	   *ids = refund->payment_id != 0 ? &refund->payment_id :
		oe_payment_ids(order->order_id, &count);

	for (int i = 0; i < count && oe_amount_is_positive(left); i++)
	{
		OePart		part;
		Numeric		take;

		oe_part_lock(&oe_payment_kind, ids[i], LockWaitBlock, &part);
		take = oe_amount_min(left, oe_payment_refundable(&part));
		if (!oe_amount_is_positive(take))
			continue;
		request_from(order, &part, take, refund, &excess);
		left = oe_amount_sub(left, take);
	}
	if (refund->return_id != 0 && oe_amount_is_positive(left))
	{
		Numeric		credit = credit_for(order, left, &excess);

		if (oe_amount_is_positive(credit))
			credit_order(order, credit, refund);
	}
	return left;
}

Numeric
oe_refund_request(OeOrder *order, Numeric amount, int64 payment_id, int64 return_id,
				  const char *reason, TimestampTz at)
{
	Refund		refund = {.payment_id = payment_id, .return_id = return_id, .reason = reason, .at = at};

	return oe_amount_sub(amount, request_refunds(order, amount, &refund));
}

/* What can be refunded: of one payment, or of all. */
static Numeric
refundable(const OeOrder *order, int64 payment_id)
{
	Numeric		sum = int64_to_numeric(0);
	int			count = 1;
	int64	   *ids = payment_id != 0 ? &payment_id : oe_payment_ids(order->order_id, &count);

	for (int i = 0; i < count; i++)
	{
		OePart		part;

		oe_part_lock(&oe_payment_kind, ids[i], LockWaitBlock, &part);
		if (part.order_id != order->order_id)
			oe_not_found("payment", payment_id);
		sum = oe_amount_add(sum, oe_payment_refundable(&part));
	}
	return sum;
}

/* The price of units of an order. */
static Numeric
price_of(const OeOrder *order, Jsonb *items, int minor_units)
{
	static OeQuery query = {
		"SELECT unit_price, quantity FROM order_engine.order_line WHERE order_id = $1 AND line_no = $2",
		2, {INT8OID, INT4OID}
	};
	int			count;
	OeItem	   *units = oe_items_parse(items, OE_ITEM_LINE_NO | OE_ITEM_QUANTITY, &count);
	Numeric		sum = int64_to_numeric(0);
	MemoryContext caller = CurrentMemoryContext;

	for (int i = 0; i < count; i++)
	{
		Datum		values[2] = {Int64GetDatum(order->order_id), Int32GetDatum(units[i].line_no)};
		MemoryContext spi;
		Numeric		price;
		int32		ordered;
		int32		named = 0;
		bool		isnull;

		for (int j = 0; j <= i; j++)
		{
			if (units[j].line_no == units[i].line_no)
				named = Min((int64) named + units[j].quantity, PG_INT32_MAX);
		}
		oe_spi_connect();
		if (oe_query_run(&query, values, NULL, false, SPI_OK_SELECT) != 1)
			oe_item_error(units[i].position, "line_no", "names no line of the order");
		ordered = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
		spi = MemoryContextSwitchTo(caller);
		price = DatumGetNumericCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContextSwitchTo(spi);
		oe_spi_finish();
		if (named > ordered)
		{
			OeJson		json;

			oe_json_begin(&json);
			oe_json_int64(&json, "position", units[i].position);
			oe_json_int64(&json, "line_no", units[i].line_no);
			oe_json_int64(&json, "limit", ordered);
			oe_json_int64(&json, "requested", named);
			ereport(ERROR,
					(errcode(ERRCODE_OE_AMOUNT_EXCEEDS_LIMIT),
					 errmsg("item %d: line %d has %d units, not %d",
							units[i].position, units[i].line_no, ordered, named),
					 errdetail_internal("%s", oe_json_end(&json))));
		}
		sum = oe_amount_add(sum, oe_amount_round(numeric_mul_opt_error(price, int64_to_numeric(units[i].quantity), NULL),
												 minor_units));
	}
	return sum;
}

/* The amount of a call, which can be had; OE301 else. */
static Numeric
choose_amount(FunctionCallInfo fcinfo, const OeOrder *order, Jsonb *items, int64 payment_id)
{
	int			minor_units = oe_currency_minor_units(order->currency);
	Numeric		limit = refundable(order, payment_id);
	Numeric		amount;

	if (items != NULL)
		amount = price_of(order, items, minor_units);
	else if (!PG_ARGISNULL(ARG_AMOUNT))
		amount = oe_arg_amount(fcinfo, ARG_AMOUNT, "amount", order->currency, minor_units);
	else
	{
		if (!oe_amount_is_positive(limit))
			oe_amount_exceeds("refunded", limit, NULL);
		return limit;
	}
	if (!oe_amount_is_positive(amount))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the amount of a refund must be greater than 0")));
	if (oe_amount_cmp(amount, limit) > 0)
		oe_amount_exceeds("refunded", limit, amount);
	return amount;
}

/* The result as it is stored with an idempotency key, and back. */
static char *
text_of_ids(List *ids)
{
	StringInfoData buf;
	ListCell   *cell;

	initStringInfo(&buf);
	foreach(cell, ids)
		appendStringInfo(&buf, "%s" INT64_FORMAT, buf.len > 0 ? "," : "", *(int64 *) lfirst(cell));
	return buf.data;
}

static ArrayType *
array_of_ids(char *text)
{
	List	   *ids = NIL;
	Datum	   *values;
	ListCell   *cell;
	int			n = 0;

	for (char *id = strtok(text, ","); id != NULL; id = strtok(NULL, ","))
		ids = lappend(ids, id);
	values = palloc(sizeof(Datum) * Max(list_length(ids), 1));
	foreach(cell, ids)
		values[n++] = Int64GetDatum(pg_strtoint64(lfirst(cell)));
	return construct_array(values, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/*
 * refund(order_id, amount, reason, items, payment_id, metadata, expected_version, idempotency_key)
 */
Datum
oe_refund(PG_FUNCTION_ARGS)
{
	char	   *key = oe_arg_name_or_null(fcinfo, ARG_IDEMPOTENCY_KEY, "idempotency_key");
	Jsonb	   *items = oe_arg_items(fcinfo, ARG_ITEMS);
	Refund		refund = {0};
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OeOrder		order;
	Numeric		amount;
	char	   *result;

	oe_arg_require(fcinfo, ARG_ORDER_ID, "order_id");
	refund.reason = oe_arg_text_or_null(fcinfo, ARG_REASON);
	refund.metadata = oe_arg_metadata(fcinfo, ARG_METADATA, "metadata");
	refund.payment_id = PG_ARGISNULL(ARG_PAYMENT_ID) ? 0 : PG_GETARG_INT64(ARG_PAYMENT_ID);
	if (items != NULL && !PG_ARGISNULL(ARG_AMOUNT))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"%s\" and \"%s\" exclude each other", "amount", "items")));

	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "order_id", PG_GETARG_INT64(ARG_ORDER_ID));
	if (!PG_ARGISNULL(ARG_AMOUNT))
		oe_jsonb_push_numeric(&request, "amount", PG_GETARG_NUMERIC(ARG_AMOUNT));
	oe_jsonb_push_text(&request, "reason", refund.reason);
	oe_jsonb_push_jsonb(&request, "items", items);
	if (!PG_ARGISNULL(ARG_PAYMENT_ID))
		oe_jsonb_push_int64(&request, "payment_id", refund.payment_id);
	oe_jsonb_push_jsonb(&request, "metadata", refund.metadata);
	if (!PG_ARGISNULL(ARG_EXPECTED_VERSION))
		oe_jsonb_push_int64(&request, "expected_version", PG_GETARG_INT64(ARG_EXPECTED_VERSION));
	if (oe_idempotency_begin(&call, "refund", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)), &result))
		PG_RETURN_ARRAYTYPE_P(array_of_ids(result));
	PreventCommandIfReadOnly("refund()");

	oe_order_lock(PG_GETARG_INT64(ARG_ORDER_ID), oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_ARRAYTYPE_P(array_of_ids(result));
	if (!PG_ARGISNULL(ARG_EXPECTED_VERSION))
		oe_order_check_version(&order, PG_GETARG_INT64(ARG_EXPECTED_VERSION));

	refund.at = GetCurrentTimestamp();
	amount = choose_amount(fcinfo, &order, items, refund.payment_id);
	(void) request_refunds(&order, amount, &refund);
	oe_order_follow(&order);
	result = text_of_ids(refund.transactions);
	oe_idempotency_finish(&call, result);
	PG_RETURN_ARRAYTYPE_P(array_of_ids(result));
}
