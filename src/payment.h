/*
 * payment.h
 *	  Payments of an order: intents, their transactions, and what is requested of
 *	  payment services.
 *
 * The order is locked by whoever calls; every function that records an event
 * keeps *order as it is stored.
 */
#ifndef OE_PAYMENT_H
#define OE_PAYMENT_H

#include "order_row.h"

/*
 * The roll-up payment_status from the sums of an order, as SQL.  Each argument is
 * an SQL expression.
 */
#define OE_PAYMENT_STATUS(authorized, captured, refunded, charged_back, total, credited) \
	"CASE WHEN " captured " > 0 AND " refunded " + " charged_back " >= " captured " THEN 'refunded'" \
	" WHEN " refunded " + " charged_back " > 0 THEN 'partially_refunded'" \
	" WHEN " captured " > 0 AND " captured " >= " total " - " credited " THEN 'paid'" \
	" WHEN " captured " > 0 THEN 'partially_paid'" \
	" WHEN " authorized " > 0 THEN 'authorized' ELSE 'unpaid' END"

/*
 * Requests refunds of an amount, of one payment (payment_id) or of all of them,
 * oldest first (0), for a return (return_id) or for none (0).  What exceeds the
 * refundable part of the captures is not requested.  What the customer had not
 * overpaid is credited: he need not pay it any more, also where nothing of it
 * had been captured.  Returns the amount that was requested, which may be 0.
 */
extern Numeric oe_refund_request(OeOrder *order, Numeric amount, int64 payment_id, int64 return_id,
								 const char *reason, TimestampTz at);

/*
 * The end of an order: requests voids of what is authorized, refunds of what was
 * captured, or both, of all its payments.
 */
extern void oe_payments_give_back(OeOrder *order, bool void_authorized, bool refund_captured,
								  const char *reason, TimestampTz at);

#endif							/* OE_PAYMENT_H */
