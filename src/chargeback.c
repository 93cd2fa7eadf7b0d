/*
 * chargeback.c
 *	  SQL function record_chargeback: a bank took money back.
 *
 * Nobody is asked for it, so it is recorded as it comes, in whatever state order
 * and payment are.  Somebody must look at it: the order gets a hold.
 */
#include "postgres.h"

#include "amend.h"
#include "args.h"
#include "errors.h"
#include "hold.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "money.h"
#include "payment.h"
#include "tcop/utility.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_record_chargeback);

/* arguments, as sql/56_payments.sql declares them */
enum
{
	ARG_PAYMENT_ID, ARG_AMOUNT, ARG_PROVIDER_REF, ARG_REASON, ARG_DETAILS, ARG_IDEMPOTENCY_KEY
};

/* One side of OE302. */
static char *
side(int64 payment_id, const char *provider_ref, Numeric amount)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_int64(&json, "payment_id", payment_id);
	oe_json_text(&json, "provider_ref", provider_ref);
	oe_json_raw(&json, "amount", oe_amount_text(amount));
	return oe_json_end(&json);
}

pg_noreturn static void conflict(const OePaymentTransaction *stored, int64 payment_id,
								 const char *provider_ref, Numeric amount);

static void
conflict(const OePaymentTransaction *stored, int64 payment_id, const char *provider_ref, Numeric amount)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_raw(&json, "stored", stored == NULL ? "null" :
				side(stored->payment_id, provider_ref, stored->amount));
	oe_json_raw(&json, "given", side(payment_id, provider_ref, amount));
	ereport(ERROR,
			(errcode(ERRCODE_OE_PAYMENT_CONFLICT),
			 errmsg("the provider reference belongs to another chargeback"),
			 errdetail_internal("%s", oe_json_end(&json))));
}

/* A reference that is known: it must be the same chargeback. */
static void
check_repeat(int64 transaction_id, const OePart *part, const char *provider_ref, Numeric amount)
{
	OePaymentTransaction stored;

	oe_transaction_read(transaction_id, &stored);
	if (stored.payment_id != part->id || oe_amount_cmp(stored.amount, amount) != 0)
		conflict(&stored, part->id, provider_ref, amount);
}

static void
add(const OePart *part, OePaymentTransaction *transaction, Numeric amount, TimestampTz at)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool taken = false;

	PG_TRY();
	{
		oe_transaction_add(part, transaction, amount, at);
	}
	PG_CATCH();
	{
		if (!oe_transaction_ref_is_taken(caller))
			PG_RE_THROW();
		taken = true;
	}
	PG_END_TRY();
	if (taken)
		conflict(NULL, part->id, transaction->provider_ref, amount);
}

static int64
record(OeOrder *order, OePart *part, OePaymentTransaction *transaction, Numeric amount, TimestampTz at)
{
	OePaymentEvent event = {.event = "charge_back", .type = "payment.charged_back",
	.reason = transaction->reason, .at = at, .transaction = transaction};
	Numeric		limit = oe_amount_sub(oe_payment_get(part, Anum_payment_captured),
									  oe_payment_get(part, Anum_payment_charged_back));

	if (oe_amount_cmp(amount, limit) > 0)
		oe_amount_exceeds("charged back", limit, amount);
	add(part, transaction, amount, at);
	oe_payment_set(part, Anum_payment_charged_back,
				   oe_amount_add(oe_payment_get(part, Anum_payment_charged_back), amount));
	oe_payment_change(order, part, &event);
	(void) oe_hold_place(order, "chargeback", transaction->reason, at);
	oe_order_follow(order);
	return transaction->transaction_id;
}

/*
 * record_chargeback(payment_id, amount, provider_ref, reason, details, idempotency_key)
 */
Datum
oe_record_chargeback(PG_FUNCTION_ARGS)
{
	char	   *key = oe_arg_name_or_null(fcinfo, ARG_IDEMPOTENCY_KEY, "idempotency_key");
	OePaymentTransaction transaction = {.kind = OE_CHARGEBACK, .state = OE_SUCCESS};
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OeOrder		order;
	OePart		part;
	Numeric		amount;
	int64		id;
	char	   *stored;

	oe_arg_require(fcinfo, ARG_PAYMENT_ID, "payment_id");
	oe_arg_require(fcinfo, ARG_AMOUNT, "amount");
	transaction.provider_ref = oe_arg_name(fcinfo, ARG_PROVIDER_REF, "provider_ref");
	transaction.reason = oe_arg_text_or_null(fcinfo, ARG_REASON);
	transaction.details = oe_arg_metadata(fcinfo, ARG_DETAILS, "details");

	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "payment_id", PG_GETARG_INT64(ARG_PAYMENT_ID));
	oe_jsonb_push_numeric(&request, "amount", PG_GETARG_NUMERIC(ARG_AMOUNT));
	oe_jsonb_push_text(&request, "provider_ref", transaction.provider_ref);
	oe_jsonb_push_text(&request, "reason", transaction.reason);
	oe_jsonb_push_jsonb(&request, "details", transaction.details);
	if (oe_idempotency_begin(&call, "record_chargeback", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)), &stored))
		PG_RETURN_INT64(pg_strtoint64(stored));
	PreventCommandIfReadOnly("record_chargeback()");

	oe_part_read(&oe_payment_kind, PG_GETARG_INT64(ARG_PAYMENT_ID), &part);
	oe_order_lock(part.order_id, oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &stored))
		PG_RETURN_INT64(pg_strtoint64(stored));
	oe_part_lock(&oe_payment_kind, part.id, oe_idempotency_lock_policy(&call), &part);

	amount = oe_arg_amount(fcinfo, ARG_AMOUNT, "amount", order.currency,
						   oe_currency_minor_units(order.currency));
	if (!oe_amount_is_positive(amount))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be greater than 0", "amount")));
	id = oe_transaction_by_ref(oe_payment_text(&part, Anum_payment_provider), OE_CHARGEBACK,
							   transaction.provider_ref);
	if (id != 0)
		check_repeat(id, &part, transaction.provider_ref, amount);
	else
		id = record(&order, &part, &transaction, amount, GetCurrentTimestamp());
	oe_idempotency_finish(&call, psprintf(INT64_FORMAT, id));
	PG_RETURN_INT64(id);
}
