/*
 * payment_end.c
 *	  Money of orders that came to an end: it is given back.
 *
 * What is authorized is voided, what was captured is refunded; both are requests
 * that a payment service carries out.  What is still undecided is left: its
 * report comes, and then record_payment() calls here again.
 */
#include "postgres.h"

#include "money.h"
#include "payment.h"

static void
request_void(OeOrder *order, OePart *part, Numeric amount, const char *reason, TimestampTz at)
{
	OePaymentTransaction transaction = {.kind = OE_VOID, .reason = reason};
	OePaymentEvent event = {.event = "request_void", .type = "payment.void_requested",
	.reason = reason, .at = at, .transaction = &transaction};

	oe_transaction_add(part, &transaction, amount, at);
	oe_payment_announce(order, part, &event, NULL);
}

/* What is authorized and neither captured, voided nor about to be. */
static Numeric
idle_authorization(const OePart *part)
{
	/* without an authorization that is undecided yet: nobody can tell what to void */
	return oe_amount_is_positive(oe_payment_get(part, Anum_payment_authorized)) ?
		oe_payment_rest(part) : int64_to_numeric(0);
}

void
oe_payment_give_up(OeOrder *order, OePart *part, const char *reason, TimestampTz at)
{
	OePaymentEvent event = {.event = "void", .type = "payment.voided", .reason = reason, .at = at};

	part->nulls[Anum_payment_next_attempt_at - 1] = true;
	oe_payment_change(order, part, &event);
}

void
oe_payment_give_back(OeOrder *order, OePart *part, bool void_authorized, bool refund_captured,
					 const char *reason, TimestampTz at)
{
	if (void_authorized)
	{
		Numeric		idle = idle_authorization(part);

		if (oe_amount_is_positive(idle))
			request_void(order, part, idle, reason, at);
		else if (!part->nulls[Anum_payment_next_attempt_at - 1])
			oe_payment_give_up(order, part, reason, at);
	}
	if (refund_captured)
	{
		Numeric		refundable = oe_payment_refundable(part);

		if (oe_amount_is_positive(refundable))
			(void) oe_refund_request(order, refundable, part->id, 0, reason, at);
	}
}

void
oe_payments_give_back(OeOrder *order, bool void_authorized, bool refund_captured,
					  const char *reason, TimestampTz at)
{
	int			count;
	int64	   *ids = oe_payment_ids(order->order_id, &count);

	if (reason == NULL)
		reason = psprintf("order is %s", order->state);
	for (int i = 0; i < count; i++)
	{
		OePart		part;

		oe_part_lock(&oe_payment_kind, ids[i], LockWaitBlock, &part);
		oe_payment_give_back(order, &part, void_authorized, refund_captured, reason, at);
	}
}
