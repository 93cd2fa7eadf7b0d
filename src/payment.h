/*
 * payment.h
 *	  Payments of an order: intents, their transactions, and what is requested of
 *	  payment services.
 *
 * A payment service is never called from here: what it shall do is an event, and
 * it reports back with record_payment().  The order is locked by whoever calls,
 * then the payment; every function that records an event keeps *order as it is
 * stored.
 */
#ifndef OE_PAYMENT_H
#define OE_PAYMENT_H

#include "part.h"

/* columns of payment, as sql/32_payment.sql defines them, behind those of all parts */
enum
{
	Anum_payment_amount = Natts_part + 1,
	Anum_payment_authorized,
	Anum_payment_captured,
	Anum_payment_voided,
	Anum_payment_refunded,
	Anum_payment_charged_back,
	Anum_payment_attempts,
	Anum_payment_next_attempt_at,
	Anum_payment_kind,
	Anum_payment_currency,
	Anum_payment_provider,
	Anum_payment_method,
	Anum_payment_metadata,
	Natts_payment = Anum_payment_metadata
};

/* kinds of transactions; a payment is of one of the first two */
#define OE_AUTHORIZATION	"authorization"
#define OE_CAPTURE			"capture"
#define OE_VOID				"void"
#define OE_REFUND			"refund"
#define OE_CHARGEBACK		"chargeback"

/* states of transactions; the first two are undecided */
#define OE_INITIAL			"initial"
#define OE_PENDING			"pending"
#define OE_SUCCESS			"success"
#define OE_FAILURE			"failure"

/* A row of payment_transaction, in the memory context of whoever made or read it. */
typedef struct OePaymentTransaction
{
	int64		transaction_id;
	int64		payment_id;
	int64		order_id;
	int64		return_id;		/* 0: none */
	int32		attempt;
	Numeric		amount;
	Numeric		requested;
	Numeric		credited;
	const char *kind;
	const char *state;
	const char *provider;
	const char *provider_ref;	/* NULL: not reported yet */
	const char *reason;			/* may be NULL */
	Jsonb	   *details;		/* may be NULL; not read */
} OePaymentTransaction;

/* What a payment service reports of a transaction. */
typedef struct OePaymentReport
{
	const char *outcome;
	const char *state;			/* that the outcome leads to */
	const char *provider_ref;	/* NULL: not given */
	Numeric		amount;			/* NULL: not given */
	Jsonb	   *details;		/* NULL: not given */
	TimestampTz expires_at;		/* of details, DT_NOEND: not given */
	bool		final;			/* of details: no use to try again */
	TimestampTz at;
} OePaymentReport;

/* What is undecided of a payment: sums of its transactions. */
typedef struct OeUndecided
{
	Numeric		authorizations;
	Numeric		captures;
	Numeric		voids;
	Numeric		refunds;
} OeUndecided;

/* An event of a payment. */
typedef struct OePaymentEvent
{
	const char *event;			/* of the machine, or what happened */
	const char *type;			/* in the outbox, when the state stays */
	const char *reason;			/* may be NULL */
	Jsonb	   *metadata;		/* may be NULL */
	TimestampTz at;
	const OePaymentTransaction *transaction;	/* may be NULL */
	bool		tells_cancel;	/* a failure: does it cancel the order? */
	bool		cancels_order;
} OePaymentEvent;

/*
 * The roll-up payment_status from the sums of an order, as SQL.  Each argument is
 * an SQL expression.
 */
#define OE_PAYMENT_STATUS(authorized, captured, refunded, charged_back, total, credited) \
	"CASE WHEN " captured " > 0 AND " refunded " + " charged_back " >= " captured " THEN 'refunded'" \
	" WHEN " refunded " + " charged_back " > 0 THEN 'partially_refunded'" \
	" WHEN " captured " > 0 AND " captured " >= " total " - (" credited ") THEN 'paid'" \
	" WHEN " captured " > 0 THEN 'partially_paid'" \
	" WHEN " authorized " > 0 THEN 'authorized' ELSE 'unpaid' END"

/* payment_row.c */

/* Amounts of a payment; to set one prepares it for oe_payment_change(). */
extern Numeric oe_payment_get(const OePart *part, int column);
extern void oe_payment_set(OePart *part, int column, Numeric amount);
extern char *oe_payment_text(const OePart *part, int column);	/* NULL for null */

/* The payments of an order by id, *count of them; locks none. */
extern int64 *oe_payment_ids(int64 order_id, int *count);

extern void oe_payment_undecided(int64 payment_id, OeUndecided *undecided);

/* The same over all payments of an order. */
extern void oe_payments_undecided(int64 order_id, OeUndecided *undecided);

/* A new transaction of a payment: the caller sets kind and what differs from "nothing". */
extern void oe_transaction_add(const OePart *part, OePaymentTransaction *transaction,
							   Numeric amount, TimestampTz at);

/* Reads a transaction as it is now; OE005 when there is none. */
extern void oe_transaction_read(int64 transaction_id, OePaymentTransaction *transaction);

/* The transaction that has a reference, 0 when none has it. */
extern int64 oe_transaction_by_ref(const char *provider, const char *kind, const char *provider_ref);

/*
 * Of two transactions that are given one reference at the same time the index
 * lets the first one have it.  For PG_CATCH: true when that is the error, which
 * is then forgotten and another must take its place; else it is to be thrown on.
 */
extern bool oe_transaction_ref_is_taken(MemoryContext caller);

/* payment_event.c */

/* The members that kind->describe adds to the payload of an event. */
extern void oe_payment_describe(const OePart *part, JsonbParseState **payload);

/*
 * Records an event that leaves state and amounts of the payment alone, such as a
 * request.  "credit" is added to credited_total of the order, which it may also
 * lower; NULL for none.
 */
extern void oe_payment_announce(OeOrder *order, const OePart *part, const OePaymentEvent *event,
								Numeric credit);

/* Whether the machine has the event here and its guards agree. */
extern bool oe_payment_is_due(const OeOrder *order, const OePart *part, const OePaymentEvent *event);

/*
 * Stores what was set in "part", and records the event: the one of the machine
 * where it has it here and its guards agree, else one that leaves the state as it
 * is, for what a payment service reported has happened in any case.  A time limit
 * that was set is that of the new state.  Brings both order and part up to date.
 */
extern void oe_payment_change(OeOrder *order, OePart *part, const OePaymentEvent *event);

/* payment_limit.c */

/* What the order still needs beyond what is paid, authorized and requested; may be negative. */
extern Numeric oe_payment_open(const OeOrder *order);

/* What can still be voided, or captured, of a payment. */
extern Numeric oe_payment_rest(const OePart *part);

/* What can still be refunded of a payment. */
extern Numeric oe_payment_refundable(const OePart *part);

/*
 * Whether an order came to an end that gives its money back: a terminal state
 * that is entered with one of the effects void_payments and request_refunds.
 */
extern bool oe_order_is_dead(const OeOrder *order);

/* OE301 with limit and requested (NULL: whatever there is). */
pg_noreturn extern void oe_amount_exceeds(const char *what, Numeric limit, Numeric requested);

/* payment_outcome.c */

/*
 * What the success or failure of a transaction, which is stored, does to payment
 * and order, both locked: amounts, states, the next attempt, what is given back.
 */
extern void oe_payment_decided(OeOrder *order, OePart *part, const OePaymentTransaction *transaction,
							   const OePaymentReport *report);

/* refund.c */

/*
 * Requests refunds of an amount, of one payment (payment_id) or of all of them,
 * oldest first (0), for a return (return_id) or for none (0).  What exceeds the
 * refundable part of the captures is not requested.  What the customer had not
 * overpaid is credited: he need not pay it any more; for a return also where
 * nothing of it had been captured.  Returns the amount that was requested, which
 * may be 0.
 */
extern Numeric oe_refund_request(OeOrder *order, Numeric amount, int64 payment_id, int64 return_id,
								 const char *reason, TimestampTz at);

/* payment_end.c */

/*
 * The end of an order: requests voids of what is authorized, refunds of what was
 * captured, or both, of all its payments, or of one that is locked.
 */
extern void oe_payments_give_back(OeOrder *order, bool void_authorized, bool refund_captured,
								  const char *reason, TimestampTz at);
extern void oe_payment_give_back(OeOrder *order, OePart *part, bool void_authorized,
								 bool refund_captured, const char *reason, TimestampTz at);

/* Gives up the attempt that is planned. */
extern void oe_payment_give_up(OeOrder *order, OePart *part, const char *reason, TimestampTz at);

#endif							/* OE_PAYMENT_H */
