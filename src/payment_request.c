/*
 * payment_request.c
 *	  SQL functions request_payment and retry_payment: ask a payment service for
 *	  something.
 *
 * To ask is to write a transaction in state initial, and the event that tells the
 * service.  A request that was lost on the way, or whose answer was, stays
 * undecided and counts against every limit until somebody reports what became of
 * it; payment_reconciliation lists it.
 */
#include "postgres.h"

#include "amend.h"
#include "append.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "money.h"
#include "payment.h"
#include "tcop/utility.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_request_payment);
PG_FUNCTION_INFO_V1(oe_retry_payment);
PG_FUNCTION_INFO_V1(oe_postpone_payment);

/* arguments, as sql/56_payments.sql declares them */
enum
{
	ARG_ORDER_ID, ARG_KIND, ARG_AMOUNT, ARG_METHOD, ARG_PROVIDER, ARG_PAYMENT_ID, ARG_REASON,
	ARG_METADATA, ARG_EXPECTED_VERSION, ARG_IDEMPOTENCY_KEY
};

typedef struct Request
{
	const char *kind;
	const char *method;
	const char *provider;
	const char *reason;
	Jsonb	   *metadata;
	int64		payment_id;		/* 0: a new payment */
	TimestampTz at;
} Request;

/* The amount that was asked for, or all that is possible; OE301 beyond it. */
static Numeric
choose_amount(FunctionCallInfo fcinfo, const OeOrder *order, Numeric limit, Numeric fallback,
			  const char *what)
{
	int			minor_units = oe_currency_minor_units(order->currency);
	Numeric		amount;

	if (PG_ARGISNULL(ARG_AMOUNT))
	{
		fallback = oe_amount_min(fallback, limit);
		if (!oe_amount_is_positive(fallback))
			oe_amount_exceeds(what, fallback, NULL);
		return oe_amount_round(fallback, minor_units);
	}
	amount = oe_arg_amount(fcinfo, ARG_AMOUNT, "amount", order->currency, minor_units);
	if (!oe_amount_is_positive(amount))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be greater than 0", "amount")));
	if (oe_amount_cmp(amount, limit) > 0)
		oe_amount_exceeds(what, limit, amount);
	return amount;
}

static void
insert_payment(const OeOrder *order, const Request *request, Numeric amount, OePart *part)
{
	Datum	   *values = palloc0(sizeof(Datum) * Natts_payment);
	bool	   *nulls = palloc0(sizeof(bool) * Natts_payment);
	Datum		zero = NumericGetDatum(oe_amount_sub(amount, amount));

#define SET(column, datum) values[Anum_payment_##column - 1] = (datum)
#define SET_NULL(column) nulls[Anum_payment_##column - 1] = true
	oe_part_begin(&oe_payment_kind, order->order_id, request->at, part, values, nulls);
	SET(amount, NumericGetDatum(amount));
	SET(authorized, zero);
	SET(captured, zero);
	SET(voided, zero);
	SET(refunded, zero);
	SET(charged_back, zero);
	SET(attempts, Int32GetDatum(0));
	SET_NULL(next_attempt_at);
	SET(kind, CStringGetTextDatum(request->kind));
	SET(currency, CStringGetTextDatum(order->currency));
	SET(provider, CStringGetTextDatum(request->provider));
	if (request->method != NULL)
		SET(method, CStringGetTextDatum(request->method));
	else
		SET_NULL(method);
	SET(metadata, JsonbPGetDatum(request->metadata));
	if (request->metadata == NULL)
		SET_NULL(metadata);
#undef SET_NULL
#undef SET
	part->values = values;
	part->nulls = nulls;
	oe_append(oe_relid(OE_REL_PAYMENT), Natts_payment, OE_CHECKED, values, nulls);
}

static void
require_living_order(const OeOrder *order)
{
	OeRejection rejection = {ERRCODE_OE_GUARD_REJECTED, "order_open"};

	if (!oe_order_is_dead(order))
		return;
	rejection.reason = psprintf("the order is %s", order->state);
	oe_guard_reject(&rejection, order, NULL, "request_payment");
}

/* A payment of this order, locked; OE005 else. */
static void
lock_payment(const OeOrder *order, int64 payment_id, LockWaitPolicy policy, OePart *part)
{
	oe_part_lock(&oe_payment_kind, payment_id, policy, part);
	if (part->order_id != order->order_id)
		oe_not_found("payment", payment_id);
}

/* More of a payment that there is: the transaction's id. */
static int64
request_more(FunctionCallInfo fcinfo, OeOrder *order, OePart *part, const Request *request)
{
	bool		is_capture = strcmp(request->kind, OE_CAPTURE) == 0;
	OePaymentTransaction transaction = {.kind = request->kind, .reason = request->reason};
	OePaymentEvent event = {.reason = request->reason, .metadata = request->metadata,
	.at = request->at, .transaction = &transaction};
	Numeric		limit = oe_payment_rest(part);
	Numeric		fallback = limit;

	if (is_capture)
	{
		OeUndecided undecided;

		/* units may have been cancelled since, so not all of it may be needed */
		oe_payments_undecided(order->order_id, &undecided);
		fallback = oe_amount_sub(order->total, order->credited_total);
		fallback = oe_amount_sub(fallback, order->captured_total);
		fallback = oe_amount_add(fallback, order->refunded_total);
		fallback = oe_amount_add(fallback, order->charged_back_total);
		fallback = oe_amount_sub(fallback, undecided.captures);
		event.event = "request_capture";
		event.type = "payment.capture_requested";
	}
	else
	{
		event.event = "request_void";
		event.type = "payment.void_requested";
	}
	oe_transaction_add(part, &transaction,
					   choose_amount(fcinfo, order, limit, fallback, is_capture ? "captured" : "voided"),
					   request->at);
	oe_payment_announce(order, part, &event, NULL);
	return transaction.transaction_id;
}

/* A new payment: the transaction's id. */
static int64
request_new(FunctionCallInfo fcinfo, OeOrder *order, const Request *request)
{
	OePaymentTransaction transaction = {.kind = request->kind, .reason = request->reason};
	OePaymentEvent event = {.event = "request", .type = "payment.requested", .reason = request->reason,
	.metadata = request->metadata, .at = request->at, .transaction = &transaction};
	Numeric		open = oe_payment_open(order);
	Numeric		amount = choose_amount(fcinfo, order, open, open, "requested");
	OePart		part;

	insert_payment(order, request, amount, &part);
	oe_transaction_add(&part, &transaction, amount, request->at);
	oe_payment_announce(order, &part, &event, NULL);
	return transaction.transaction_id;
}

static void
read_request(FunctionCallInfo fcinfo, Request *request)
{
	request->kind = oe_arg_name(fcinfo, ARG_KIND, "kind");
	request->method = oe_arg_name_or_null(fcinfo, ARG_METHOD, "method");
	request->provider = oe_arg_name(fcinfo, ARG_PROVIDER, "provider");
	request->payment_id = PG_ARGISNULL(ARG_PAYMENT_ID) ? 0 : PG_GETARG_INT64(ARG_PAYMENT_ID);
	request->reason = oe_arg_text_or_null(fcinfo, ARG_REASON);
	request->metadata = oe_arg_metadata(fcinfo, ARG_METADATA, "metadata");
	if (strcmp(request->kind, OE_AUTHORIZATION) != 0 && strcmp(request->kind, OE_CAPTURE) != 0 &&
		strcmp(request->kind, OE_VOID) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be authorization, capture or void", "kind"),
				 errhint("Refunds are requested with order_engine.refund().")));
	if (strcmp(request->kind, OE_VOID) == 0 && PG_ARGISNULL(ARG_PAYMENT_ID))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null for a void", "payment_id")));
	if (strcmp(request->kind, OE_AUTHORIZATION) == 0 && !PG_ARGISNULL(ARG_PAYMENT_ID))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an authorization makes a payment of its own"),
				 errhint("Leave payment_id out.")));
}

/* What makes the call what it is, but the key. */
static Jsonb *
make_request(FunctionCallInfo fcinfo, const Request *request)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&state, "order_id", PG_GETARG_INT64(ARG_ORDER_ID));
	oe_jsonb_push_text(&state, "kind", request->kind);
	if (!PG_ARGISNULL(ARG_AMOUNT))
		oe_jsonb_push_numeric(&state, "amount", PG_GETARG_NUMERIC(ARG_AMOUNT));
	oe_jsonb_push_text(&state, "method", request->method);
	oe_jsonb_push_text(&state, "provider", request->provider);
	if (!PG_ARGISNULL(ARG_PAYMENT_ID))
		oe_jsonb_push_int64(&state, "payment_id", request->payment_id);
	oe_jsonb_push_text(&state, "reason", request->reason);
	oe_jsonb_push_jsonb(&state, "metadata", request->metadata);
	if (!PG_ARGISNULL(ARG_EXPECTED_VERSION))
		oe_jsonb_push_int64(&state, "expected_version", PG_GETARG_INT64(ARG_EXPECTED_VERSION));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * request_payment(order_id, kind, amount, method, provider, payment_id, reason, metadata,
 *				   expected_version, idempotency_key)
 */
Datum
oe_request_payment(PG_FUNCTION_ARGS)
{
	char	   *key = oe_arg_name_or_null(fcinfo, ARG_IDEMPOTENCY_KEY, "idempotency_key");
	Request		request = {0};
	OeIdempotency call;
	OeOrder		order;
	OePart		part;
	int64		id;
	char	   *stored;

	oe_arg_require(fcinfo, ARG_ORDER_ID, "order_id");
	read_request(fcinfo, &request);
	if (oe_idempotency_begin(&call, "request_payment", key, make_request(fcinfo, &request), &stored))
		PG_RETURN_INT64(pg_strtoint64(stored));
	PreventCommandIfReadOnly("request_payment()");

	oe_order_lock(PG_GETARG_INT64(ARG_ORDER_ID), oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &stored))
		PG_RETURN_INT64(pg_strtoint64(stored));
	if (!PG_ARGISNULL(ARG_EXPECTED_VERSION))
		oe_order_check_version(&order, PG_GETARG_INT64(ARG_EXPECTED_VERSION));
	if (strcmp(request.kind, OE_VOID) != 0)
		require_living_order(&order);

	request.at = GetCurrentTimestamp();
	if (PG_ARGISNULL(ARG_PAYMENT_ID))
		id = request_new(fcinfo, &order, &request);
	else
	{
		lock_payment(&order, request.payment_id, oe_idempotency_lock_policy(&call), &part);
		id = request_more(fcinfo, &order, &part, &request);
	}
	oe_order_follow(&order);
	oe_idempotency_finish(&call, psprintf(INT64_FORMAT, id));
	PG_RETURN_INT64(id);
}

/*
 * retry_payment(payment_id)
 *		Sends the next attempt of a payment, unless its order does not want it any
 *		more.
 */
Datum
oe_retry_payment(PG_FUNCTION_ARGS)
{
	OePaymentTransaction transaction = {0};
	OePaymentEvent event = {.event = "request", .type = "payment.requested",
	.transaction = &transaction};
	OeOrder		order;
	OePart		part;
	Numeric		amount;

	oe_part_read(&oe_payment_kind, PG_GETARG_INT64(0), &part);
	oe_order_lock(part.order_id, LockWaitBlock, &order);
	oe_part_lock(&oe_payment_kind, part.id, LockWaitBlock, &part);
	event.at = GetCurrentTimestamp();
	if (part.nulls[Anum_payment_next_attempt_at - 1] ||
		DatumGetTimestampTz(part.values[Anum_payment_next_attempt_at - 1]) > event.at)
		PG_RETURN_BOOL(false);	/* somebody was faster */
	if (oe_order_is_dead(&order))
	{
		oe_payment_give_back(&order, &part, true, true, psprintf("order is %s", order.state), event.at);
		PG_RETURN_BOOL(false);
	}

	/* units may have been cancelled since; what is planned counts as requested */
	amount = oe_payment_get(&part, Anum_payment_amount);
	amount = oe_amount_min(amount, oe_amount_add(oe_payment_open(&order), amount));
	if (!oe_amount_is_positive(amount))
	{
		oe_payment_give_up(&order, &part, "nothing is left to pay", event.at);
		oe_order_follow(&order);
		PG_RETURN_BOOL(false);
	}

	transaction.kind = oe_payment_text(&part, Anum_payment_kind);
	transaction.attempt = DatumGetInt32(part.values[Anum_payment_attempts - 1]) + 1;
	transaction.reason = event.reason = psprintf("attempt %d", transaction.attempt);
	oe_transaction_add(&part, &transaction, amount, event.at);
	part.nulls[Anum_payment_next_attempt_at - 1] = true;
	oe_payment_change(&order, &part, &event);
	oe_order_follow(&order);
	PG_RETURN_BOOL(true);
}

/*
 * postpone_payment(payment_id, until)
 *		The order is locked.
 */
Datum
oe_postpone_payment(PG_FUNCTION_ARGS)
{
	static OeQuery query = {
		"UPDATE order_engine.payment SET next_attempt_at = $2 WHERE payment_id = $1",
		2, {INT8OID, TIMESTAMPTZOID}
	};
	OePartUpdate update = {0};
	Datum		values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	OePart		part;

	oe_part_lock(&oe_payment_kind, PG_GETARG_INT64(0), LockWaitBlock, &part);
	update.to_state = part.state;
	oe_part_update(&part, &query, values, NULL, &update);
	PG_RETURN_VOID();
}
