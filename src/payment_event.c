/*
 * payment_event.c
 *	  Events of payments: what they tell, and how they are recorded.
 *
 * The events are all that a payment service gets to know, so those that ask
 * something of it tell everything it needs.
 */
#include "postgres.h"

#include "amend.h"
#include "catalog/pg_type.h"
#include "machine.h"
#include "money.h"
#include "payment.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

void
oe_payment_describe(const OePart *part, JsonbParseState **payload)
{
	int32		attempts = DatumGetInt32(part->values[Anum_payment_attempts - 1]);

	oe_jsonb_push_text(payload, "method", oe_payment_text(part, Anum_payment_method));
	oe_jsonb_push_text(payload, "provider", oe_payment_text(part, Anum_payment_provider));
	oe_jsonb_push_numeric(payload, "authorized", oe_payment_get(part, Anum_payment_authorized));
	oe_jsonb_push_numeric(payload, "captured", oe_payment_get(part, Anum_payment_captured));
	oe_jsonb_push_numeric(payload, "voided", oe_payment_get(part, Anum_payment_voided));
	oe_jsonb_push_numeric(payload, "refunded", oe_payment_get(part, Anum_payment_refunded));
	oe_jsonb_push_numeric(payload, "charged_back", oe_payment_get(part, Anum_payment_charged_back));
	if (attempts > 0)
		oe_jsonb_push_int64(payload, "attempts", attempts);
	if (!part->nulls[Anum_payment_next_attempt_at - 1])
	{
		/* the payload keeps the pointer until it is finished, long after we are back */
		char	   *iso = palloc(MAXDATELEN + 1);

		oe_jsonb_push_text(payload, "next_attempt_at",
						   JsonEncodeDateTime(iso, part->values[Anum_payment_next_attempt_at - 1],
											  TIMESTAMPTZOID, NULL));
	}
	oe_jsonb_push_text(payload, "kind", oe_payment_text(part, Anum_payment_kind));
	oe_jsonb_push_numeric(payload, "amount", oe_payment_get(part, Anum_payment_amount));
}

/* What an event tells beside the payment; of a transaction kind and amount are its own. */
static Jsonb *
details_of(const OePaymentEvent *event)
{
	const OePaymentTransaction *transaction = event->transaction;
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (event->tells_cancel)
		oe_jsonb_push_text(&state, "order", event->cancels_order ? "cancelled" : "left");
	if (transaction != NULL)
	{
		oe_jsonb_push_text(&state, "kind", transaction->kind);
		oe_jsonb_push_numeric(&state, "amount", transaction->amount);
		oe_jsonb_push_int64(&state, "attempt", transaction->attempt);
		oe_jsonb_push_int64(&state, "transaction_id", transaction->transaction_id);
		oe_jsonb_push_text(&state, "provider_ref", transaction->provider_ref);
		if (transaction->return_id != 0)
			oe_jsonb_push_int64(&state, "return_id", transaction->return_id);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

void
oe_payment_announce(OeOrder *order, const OePart *part, const OePaymentEvent *event,
					Numeric credit)
{
	static OeQuery credit_query = {
		"UPDATE order_engine.orders SET credited_total = greatest(credited_total + $2, 0),"
		" payment_status = "
		OE_PAYMENT_STATUS("authorized_total", "captured_total", "refunded_total", "charged_back_total",
						  "total", "greatest(credited_total + $2, 0)")
		" WHERE order_id = $1 RETURNING *",
		2, {INT8OID, NUMERICOID}
	};
	OeRecord	record = {.event = event->event, .type = event->type, .reason = event->reason,
	.metadata = event->metadata, .details = details_of(event), .at = event->at};

	if (credit == NULL)
		oe_part_event(order, part, &record);
	else
	{
		Datum		values[2] = {Int64GetDatum(order->order_id), NumericGetDatum(credit)};

		record.last_txid = oe_order_amend(order, &credit_query, values, NULL);
		record.machine_id = part->machine_id;
		record.from = record.to = part->state;
		oe_record_part_event(order, part, &record);
	}
	/* a trigger of the application may have used a verb on the order */
	oe_order_refresh(order);
}

/* Stores the payment as "part" has it, in a state and with a time limit, and reads it again. */
static void
store(OePart *part, const char *to_state, TimestampTz expires_at, const OePaymentEvent *event)
{
	static OeQuery query = {
		"UPDATE order_engine.payment SET state = $2, expires_at = $3, authorized = $4, captured = $5,"
		" voided = $6, refunded = $7, charged_back = $8, attempts = $9, next_attempt_at = $10"
		" WHERE payment_id = $1",
		10, {INT8OID, TEXTOID, TIMESTAMPTZOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID,
		NUMERICOID, INT4OID, TIMESTAMPTZOID}
	};
	static const int columns[] = {
		Anum_payment_authorized, Anum_payment_captured, Anum_payment_voided, Anum_payment_refunded,
		Anum_payment_charged_back, Anum_payment_attempts, Anum_payment_next_attempt_at
	};
	OePartUpdate update = {.to_state = to_state, .reason = event->reason, .metadata = event->metadata,
	.details = details_of(event)};
	Datum		values[3 + lengthof(columns)] = {Int64GetDatum(part->id), CStringGetTextDatum(to_state),
	TimestampTzGetDatum(expires_at)};
	char		nulls[] = "          ";

	StaticAssertStmt(lengthof(values) == sizeof(nulls) - 1, "one for each argument");
	nulls[2] = TIMESTAMP_IS_NOEND(expires_at) ? 'n' : ' ';
	for (int i = 0; i < lengthof(columns); i++)
	{
		values[3 + i] = part->values[columns[i] - 1];
		nulls[3 + i] = part->nulls[columns[i] - 1] ? 'n' : ' ';
	}
	oe_part_update(part, &query, values, nulls, &update);
	oe_part_lock(&oe_payment_kind, part->id, LockWaitBlock, part);
}

/* The transition of the machine that an event makes now, NULL when it makes none. */
static const OeTransition *
find_transition(const OeOrder *order, const OePart *part, const char *event, TimestampTz at)
{
	const OeTransition *transition =
		oe_machine_find_event(oe_machine_by_id(part->machine_id), part->state, event);
	OePart		asked = *part;
	OeRejection rejection;

	if (transition == NULL)
		return NULL;
	asked.state = transition->to;
	return oe_guards_pass(transition, order, &asked, at, &rejection) ? transition : NULL;
}

bool
oe_payment_is_due(const OeOrder *order, const OePart *part, const OePaymentEvent *event)
{
	return find_transition(order, part, event->event, event->at) != NULL;
}

/*
 * The amounts are stored first, and with a statement of their own, because guards
 * that users write look at the row.
 */
void
oe_payment_change(OeOrder *order, OePart *part, const OePaymentEvent *event)
{
	TimestampTz expires_at = part->nulls[Anum_part_expires_at - 1] ? DT_NOEND :
		DatumGetTimestampTz(part->values[Anum_part_expires_at - 1]);
	const OeTransition *transition;

	store(part, part->state, part->expires_at, event);
	/* a trigger of the application may have used a verb on the order */
	oe_order_refresh(order);
	transition = find_transition(order, part, event->event, event->at);
	if (transition == NULL)
	{
		oe_payment_announce(order, part, event, NULL);
		return;
	}

	store(part, transition->to, expires_at, event);
	oe_order_refresh(order);
}
