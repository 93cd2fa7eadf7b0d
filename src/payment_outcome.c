/*
 * payment_outcome.c
 *	  What a decided transaction does to its payment and to the order.
 *
 * What has happened to money is recorded as it is, also where nobody wanted it
 * any more; what must then be undone is requested at once.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "machine_graph.h"
#include "money.h"
#include "payment.h"
#include "settings.h"
#include "transition.h"
#include "utils/timestamp.h"

#define MAX_RETRY_DELAY	86400	/* s */

static Numeric
plus(const OePart *part, int column, Numeric amount)
{
	return oe_amount_add(oe_payment_get(part, column), amount);
}

static bool
is_kind(const OePaymentTransaction *transaction, const char *kind)
{
	return strcmp(transaction->kind, kind) == 0;
}

/* Puts what succeeded into the amounts, and names the event. */
static void
add_up(OePart *part, const OePaymentTransaction *transaction, const OePaymentReport *report,
	   OePaymentEvent *event)
{
	Numeric		used;

	if (is_kind(transaction, OE_AUTHORIZATION))
	{
		event->event = "authorize";
		event->type = "payment.authorized";
		/* captures that were reported before count as authorized already */
		oe_payment_set(part, Anum_payment_authorized,
					   oe_amount_max(oe_payment_get(part, Anum_payment_authorized), transaction->amount));
		if (oe_amount_is_positive(oe_payment_get(part, Anum_payment_captured)))
			return;
		part->nulls[Anum_part_expires_at - 1] =
			report->expires_at == DT_NOEND && oe_authorization_lifetime == 0;
		part->values[Anum_part_expires_at - 1] =
			TimestampTzGetDatum(report->expires_at != DT_NOEND ? report->expires_at :
								TimestampTzPlusMilliseconds(report->at, (int64) oe_authorization_lifetime * 1000));
		return;
	}
	if (is_kind(transaction, OE_CAPTURE))
	{
		event->event = "capture";
		event->type = "payment.captured";
		oe_payment_set(part, Anum_payment_captured, plus(part, Anum_payment_captured, transaction->amount));
	}
	else if (is_kind(transaction, OE_VOID))
	{
		event->event = "void";
		event->type = "payment.voided";
		oe_payment_set(part, Anum_payment_voided, plus(part, Anum_payment_voided, transaction->amount));
	}
	else
	{
		event->event = "refund";
		event->type = "payment.partially_refunded";
		oe_payment_set(part, Anum_payment_refunded, plus(part, Anum_payment_refunded, transaction->amount));
	}
	used = oe_amount_add(oe_payment_get(part, Anum_payment_captured),
						 oe_payment_get(part, Anum_payment_voided));
	oe_payment_set(part, Anum_payment_authorized,
				   oe_amount_max(oe_payment_get(part, Anum_payment_authorized), used));
}

static void
succeed(OeOrder *order, OePart *part, const OePaymentTransaction *transaction, const OePaymentReport *report)
{
	OePaymentEvent event = {.reason = transaction->reason, .at = report->at,
	.transaction = transaction};

	add_up(part, transaction, report, &event);
	part->nulls[Anum_payment_next_attempt_at - 1] = true;
	oe_payment_change(order, part, &event);
}

/* What a payment that failed for good means for the order: does nothing else pay it? */
static bool
must_cancel(const OeOrder *order)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.orders WHERE order_id = $1 AND confirmed_at IS NULL",
		1, {INT8OID}
	};
	const OeTransition *transition =
		oe_machine_find_event(oe_machine_by_id(order->machine_id), order->state, "cancel");
	Datum		order_id = Int64GetDatum(order->order_id);
	OeRejection rejection;
	bool		unconfirmed;

	if (transition == NULL || strcmp(order->terms, "prepaid") != 0)
		return false;
	oe_spi_connect();
	unconfirmed = oe_query_run(&query, &order_id, NULL, false, SPI_OK_SELECT) == 1;
	oe_spi_finish();
	return unconfirmed && oe_amount_is_positive(oe_payment_open(order)) &&
		oe_guards_pass(transition, order, NULL, GetCurrentTimestamp(), &rejection);
}

static TimestampTz
next_attempt(int32 attempts, TimestampTz at)
{
	int64		delay = oe_payment_retry_delay;

	for (int32 i = 1; i < attempts && delay < MAX_RETRY_DELAY; i++)
		delay *= 2;
	return TimestampTzPlusMilliseconds(at, Min(delay, MAX_RETRY_DELAY) * 1000);
}

/*
 * A request for money has failed, and is not made again.  When it was the last
 * one, the payment has failed, and perhaps the order with it; but not the order
 * when somebody has asked to give the payment up.
 */
static void
stop_trying(OeOrder *order, OePart *part, OePaymentEvent *event)
{
	OeUndecided undecided;

	oe_payment_undecided(part->id, &undecided);
	if (!oe_amount_is_positive(oe_payment_get(part, Anum_payment_authorized)) &&
		part->nulls[Anum_payment_next_attempt_at - 1] &&
		!oe_amount_is_positive(undecided.authorizations) && !oe_amount_is_positive(undecided.captures))
	{
		event->event = "fail";
		event->tells_cancel = true;
		event->cancels_order = !oe_part_is_terminal(part) &&
			!oe_amount_is_positive(undecided.voids) && must_cancel(order);
	}
	oe_payment_change(order, part, event);
	if (event->cancels_order && must_cancel(order))
		(void) oe_order_apply(order, "cancel", "payment failed", NULL, false);
}

/* The request that a payment began with has failed: once more, or never. */
static void
fail_attempt(OeOrder *order, OePart *part, const OePaymentReport *report, OePaymentEvent *event)
{
	int32		attempts = DatumGetInt32(part->values[Anum_payment_attempts - 1]) + 1;
	OeUndecided undecided;

	event->event = "attempt_failed";
	event->type = "payment.attempt_failed";
	part->values[Anum_payment_attempts - 1] = Int32GetDatum(attempts);
	oe_payment_undecided(part->id, &undecided);
	if (report->final || attempts >= oe_payment_attempts || oe_order_is_dead(order) ||
		oe_part_is_terminal(part) || oe_amount_is_positive(undecided.voids))
	{
		stop_trying(order, part, event);
		return;
	}
	part->nulls[Anum_payment_next_attempt_at - 1] = false;
	part->values[Anum_payment_next_attempt_at - 1] =
		TimestampTzGetDatum(next_attempt(attempts, report->at));
	oe_payment_change(order, part, event);
}

static void
fail(OeOrder *order, OePart *part, const OePaymentTransaction *transaction, const OePaymentReport *report)
{
	OePaymentEvent event = {.reason = transaction->reason, .at = report->at,
	.transaction = transaction};

	if (strcmp(transaction->kind, oe_payment_text(part, Anum_payment_kind)) == 0 &&
		!oe_amount_is_positive(oe_payment_get(part, Anum_payment_authorized)))
	{
		fail_attempt(order, part, report, &event);
		return;
	}
	if (is_kind(transaction, OE_REFUND))
	{
		/* goods that came back stay credited, and so does the end of an order */
		bool		takes_back = transaction->return_id == 0 && !oe_order_is_dead(order) &&
			oe_amount_is_positive(transaction->credited);

		event.event = "refund_failed";
		event.type = "payment.refund_failed";
		oe_payment_announce(order, part, &event, takes_back ?
							oe_amount_sub(int64_to_numeric(0), transaction->credited) : NULL);
		return;
	}
	if (is_kind(transaction, OE_VOID))
	{
		event.event = "void_failed";
		event.type = "payment.void_failed";
	}
	else if (is_kind(transaction, OE_CAPTURE))
	{
		event.event = "capture_failed";
		event.type = "payment.capture_failed";
		stop_trying(order, part, &event);
		return;
	}
	else
	{
		event.event = "attempt_failed";
		event.type = "payment.attempt_failed";
	}
	oe_payment_change(order, part, &event);
}

/* Money that nobody waited for any more is given back at once. */
static void
give_back_unwanted(OeOrder *order, OePart *part, const OePaymentTransaction *transaction,
				   bool was_over, TimestampTz at)
{
	if (!is_kind(transaction, OE_AUTHORIZATION) && !is_kind(transaction, OE_CAPTURE))
		return;
	if (oe_order_is_dead(order))
		oe_payment_give_back(order, part, true, true, psprintf("order is %s", order->state), at);
	else if (was_over)
		oe_payment_give_back(order, part, true, false, psprintf("payment is %s", part->state), at);
}

/*
 * The report may be the last that the end of the payment was waiting for, though
 * it was about something else: refunded in full, the rest is voided only now.
 */
static void
settle(OeOrder *order, OePart *part, TimestampTz at)
{
	OePaymentEvent refund = {.event = "refund", .at = at};
	OePaymentEvent release = {.event = "void", .at = at};

	if (oe_payment_is_due(order, part, &refund))
		oe_payment_change(order, part, &refund);
	else if (oe_amount_is_positive(oe_payment_get(part, Anum_payment_voided)) &&
			 oe_payment_is_due(order, part, &release))
		oe_payment_change(order, part, &release);
}

void
oe_payment_decided(OeOrder *order, OePart *part, const OePaymentTransaction *transaction,
				   const OePaymentReport *report)
{
	bool		was_over = oe_part_is_terminal(part);

	if (strcmp(report->state, OE_SUCCESS) == 0)
		succeed(order, part, transaction, report);
	else
		fail(order, part, transaction, report);
	oe_part_lock(&oe_payment_kind, part->id, LockWaitBlock, part);
	settle(order, part, report->at);
	give_back_unwanted(order, part, transaction, was_over, report->at);
}
