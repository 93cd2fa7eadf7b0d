/*
 * payment_record.c
 *	  SQL function record_payment: what a payment service reports.
 *
 * Reports come twice, late, and in any order: the synchronous reply and the
 * webhook say the same, a capture is confirmed before the authorization that it
 * rests on, and an order is cancelled meanwhile.  The row of the order is locked
 * first, so that reports are taken one after the other.  What follows from one is
 * in payment_outcome.c.
 */
#include "postgres.h"

#include "amend.h"
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

PG_FUNCTION_INFO_V1(oe_record_payment);

/* arguments, as sql/56_payments.sql declares them */
enum
{
	ARG_TRANSACTION_ID, ARG_OUTCOME, ARG_PROVIDER_REF, ARG_AMOUNT, ARG_DETAILS, ARG_IDEMPOTENCY_KEY
};

/* One side of OE302. */
static char *
side(int64 transaction_id, const char *state, const char *provider_ref, Numeric amount)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_int64(&json, "transaction_id", transaction_id);
	oe_json_text(&json, "state", state);
	oe_json_text(&json, "provider_ref", provider_ref);
	oe_json_raw(&json, "amount", amount == NULL ? "null" : oe_amount_text(amount));
	return oe_json_end(&json);
}

pg_noreturn static void conflict(const OePaymentTransaction *stored, int64 transaction_id,
								 const OePaymentReport *report, const char *message);

static void
conflict(const OePaymentTransaction *stored, int64 transaction_id, const OePaymentReport *report,
		 const char *message)
{
	OeJson		json;

	oe_json_begin(&json);
	if (stored != NULL)
		oe_json_raw(&json, "stored", side(stored->transaction_id, stored->state,
										  stored->provider_ref, stored->amount));
	else
		oe_json_raw(&json, "stored", "null");
	oe_json_raw(&json, "given", side(transaction_id, report->state, report->provider_ref, report->amount));
	ereport(ERROR,
			(errcode(ERRCODE_OE_PAYMENT_CONFLICT),
			 errmsg("%s", message),
			 errdetail_internal("%s", oe_json_end(&json)),
			 errhint("Ask the payment service which of the two is right.")));
}

/* Nobody else may have the reference, unless it is that of this transaction. */
static void
check_reference(const OePaymentTransaction *transaction, const OePaymentReport *report)
{
	OePaymentTransaction other;
	int64		id;

	if (report->provider_ref == NULL)
		return;
	if (transaction->provider_ref != NULL)
	{
		if (strcmp(transaction->provider_ref, report->provider_ref) != 0)
			conflict(transaction, transaction->transaction_id, report,
					 "the transaction has another provider reference");
		return;
	}
	id = oe_transaction_by_ref(transaction->provider, transaction->kind, report->provider_ref);
	if (id == 0 || id == transaction->transaction_id)
		return;
	oe_transaction_read(id, &other);
	conflict(&other, transaction->transaction_id, report,
			 "the provider reference belongs to another transaction");
}

static void
run_update(const OePaymentTransaction *transaction, const OePaymentReport *report, Numeric amount, bool decided)
{
	static OeQuery query = {
		"UPDATE order_engine.payment_transaction SET state = $2, amount = $3,"
		" provider_ref = coalesce($4, provider_ref), details = coalesce($5, details),"
		" updated_at = $6, decided_at = coalesce(decided_at, $7) WHERE transaction_id = $1",
		7, {INT8OID, TEXTOID, NUMERICOID, TEXTOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	};
	Datum		values[7] = {Int64GetDatum(transaction->transaction_id),
		CStringGetTextDatum(report->state), NumericGetDatum(amount),
		report->provider_ref == NULL ? (Datum) 0 : CStringGetTextDatum(report->provider_ref),
		JsonbPGetDatum(report->details), TimestampTzGetDatum(report->at), TimestampTzGetDatum(report->at)
	};
	char		nulls[] = "       ";

	nulls[3] = report->provider_ref == NULL ? 'n' : ' ';
	nulls[4] = report->details == NULL ? 'n' : ' ';
	nulls[6] = decided ? ' ' : 'n';
	oe_spi_connect();
	if (oe_query_run(&query, values, nulls, false, SPI_OK_UPDATE) != 1)
		oe_not_found("transaction", transaction->transaction_id);
	oe_spi_finish();
}

/* Stores the report in the transaction. */
static void
store_report(OePaymentTransaction *transaction, const OePaymentReport *report, Numeric amount)
{
	bool		decided = strcmp(report->state, OE_PENDING) != 0;
	MemoryContext caller = CurrentMemoryContext;
	volatile bool taken = false;

	PG_TRY();
	{
		run_update(transaction, report, amount, decided);
	}
	PG_CATCH();
	{
		if (!oe_transaction_ref_is_taken(caller))
			PG_RE_THROW();
		taken = true;
	}
	PG_END_TRY();
	if (taken)
		conflict(NULL, transaction->transaction_id, report,
				 "the provider reference belongs to another transaction");

	transaction->state = report->state;
	transaction->amount = amount;
	if (report->provider_ref != NULL)
		transaction->provider_ref = report->provider_ref;
}

/* A report about a transaction that is decided: it must say what is known. */
static void
repeat_report(const OePaymentTransaction *transaction, const OePaymentReport *report)
{
	if (strcmp(report->state, OE_PENDING) == 0)
		return;					/* it comes late */
	if (strcmp(report->state, transaction->state) != 0)
		conflict(transaction, transaction->transaction_id, report,
				 psprintf("the transaction has the outcome %s already", transaction->state));
	/* of a failure the amount means nothing */
	if (strcmp(report->state, OE_SUCCESS) == 0 && report->amount != NULL &&
		oe_amount_cmp(report->amount, transaction->amount) != 0)
		conflict(transaction, transaction->transaction_id, report,
				 "the transaction was reported with another amount");
	check_reference(transaction, report);

	/* the first report may have had no reference */
	if (transaction->provider_ref == NULL && report->provider_ref != NULL)
	{
		OePaymentTransaction copy = *transaction;

		store_report(&copy, report, transaction->amount);
	}
}

static void
take_report(OeOrder *order, OePart *part, OePaymentTransaction *transaction, OePaymentReport *report)
{
	Numeric		amount = transaction->requested;

	if (report->amount != NULL)
	{
		if (oe_amount_cmp(report->amount, transaction->requested) > 0)
			oe_amount_exceeds("recorded", transaction->requested, report->amount);
		if (strcmp(report->state, OE_SUCCESS) == 0)
			amount = report->amount;
	}
	check_reference(transaction, report);
	store_report(transaction, report, amount);
	if (strcmp(report->state, OE_PENDING) == 0)
		return;

	oe_payment_decided(order, part, transaction, report);
	oe_order_follow(order);
}

/* What the engine understands of the details. */
static void
read_details(OePaymentReport *report)
{
	JsonbValue	value;
	JsonbValue *found;

	report->expires_at = DT_NOEND;
	if (report->details == NULL)
		return;
	found = getKeyJsonValueFromContainer(&report->details->root, "final", strlen("final"), &value);
	if (found != NULL && found->type != jbvNull)
	{
		if (found->type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\": \"%s\" must be true or false", "details", "final")));
		report->final = found->val.boolean;
	}
	found = getKeyJsonValueFromContainer(&report->details->root, "expires_at", strlen("expires_at"), &value);
	if (found != NULL && found->type != jbvNull)
	{
		if (found->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\": \"%s\" must be a time as text", "details", "expires_at")));
		report->expires_at =
			DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
													CStringGetDatum(pnstrdup(found->val.string.val, found->val.string.len)),
													ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
}

static void
read_report(FunctionCallInfo fcinfo, OePaymentReport *report)
{
	report->outcome = oe_arg_name(fcinfo, ARG_OUTCOME, "outcome");
	if (strcmp(report->outcome, "pending") == 0 || strcmp(report->outcome, "timeout") == 0)
		report->state = OE_PENDING;
	else if (strcmp(report->outcome, OE_SUCCESS) == 0 || strcmp(report->outcome, OE_FAILURE) == 0)
		report->state = report->outcome;
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be pending, success, failure or timeout", "outcome")));
	report->provider_ref = oe_arg_name_or_null(fcinfo, ARG_PROVIDER_REF, "provider_ref");
	report->details = oe_arg_metadata(fcinfo, ARG_DETAILS, "details");
	read_details(report);
}

/*
 * record_payment(transaction_id, outcome, provider_ref, amount, details, idempotency_key)
 */
Datum
oe_record_payment(PG_FUNCTION_ARGS)
{
	char	   *key = oe_arg_name_or_null(fcinfo, ARG_IDEMPOTENCY_KEY, "idempotency_key");
	OePaymentReport report = {0};
	JsonbParseState *request = NULL;
	OeIdempotency call;
	OePaymentTransaction transaction;
	OeOrder		order;
	OePart		part;
	int64		id;
	char	   *result;

	oe_arg_require(fcinfo, ARG_TRANSACTION_ID, "transaction_id");
	id = PG_GETARG_INT64(ARG_TRANSACTION_ID);
	read_report(fcinfo, &report);
	(void) pushJsonbValue(&request, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&request, "transaction_id", id);
	oe_jsonb_push_text(&request, "outcome", report.outcome);
	oe_jsonb_push_text(&request, "provider_ref", report.provider_ref);
	if (!PG_ARGISNULL(ARG_AMOUNT))
		oe_jsonb_push_numeric(&request, "amount", PG_GETARG_NUMERIC(ARG_AMOUNT));
	oe_jsonb_push_jsonb(&request, "details", report.details);
	if (oe_idempotency_begin(&call, "record_payment", key,
							 JsonbValueToJsonb(pushJsonbValue(&request, WJB_END_OBJECT, NULL)), &result))
		PG_RETURN_TEXT_P(cstring_to_text(result));
	PreventCommandIfReadOnly("record_payment()");

	/* which order and payment it belongs to never changes */
	oe_transaction_read(id, &transaction);
	oe_order_lock(transaction.order_id, oe_idempotency_lock_policy(&call), &order);
	if (oe_idempotency_recheck(&call, &result))
		PG_RETURN_TEXT_P(cstring_to_text(result));
	oe_part_lock(&oe_payment_kind, transaction.payment_id, oe_idempotency_lock_policy(&call), &part);
	oe_transaction_read(id, &transaction);

	report.at = GetCurrentTimestamp();
	if (!PG_ARGISNULL(ARG_AMOUNT))
	{
		report.amount = oe_arg_amount(fcinfo, ARG_AMOUNT, "amount", order.currency,
									  oe_currency_minor_units(order.currency));
		if (!oe_amount_is_positive(report.amount))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" must be greater than 0", "amount"),
					 errhint("A payment of which nothing succeeded is a failure.")));
	}
	if (strcmp(transaction.state, OE_SUCCESS) == 0 || strcmp(transaction.state, OE_FAILURE) == 0)
		repeat_report(&transaction, &report);
	else
		take_report(&order, &part, &transaction, &report);
	result = pstrdup(transaction.state);
	oe_idempotency_finish(&call, result);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}
