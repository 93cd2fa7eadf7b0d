/*
 * guard.h
 *	  Built-in guards: conditions of an order that a transition needs.
 */
#ifndef OE_GUARD_H
#define OE_GUARD_H

#include "compat.h"
#include "order_row.h"

#define OE_GUARD_NO_HOLD			(1u << 0)	/* no hold is open */
#define OE_GUARD_PAYMENT_COVERED	(1u << 1)	/* paid or authorized in full, or terms are not prepaid */
#define OE_GUARD_RESERVATION_HELD	(1u << 2)	/* all stock of the order is still held */
#define OE_GUARD_NOTHING_SHIPPED	(1u << 3)	/* no line was shipped */
#define OE_GUARD_PAST_LIMIT			(1u << 4)	/* expires_at has passed */
#define OE_GUARD_LINES_SETTLED		(1u << 5)	/* each line delivered or cancelled, balance 0 */

typedef struct OeRejection
{
	int			sqlstate;
	const char *guard;
	const char *reason;			/* for people */
} OeRejection;

/* The bit of a guard, 0 for a name that is none. */
extern uint32 oe_guard_by_name(const char *name);

/*
 * Whether an order passes all of the guards; if not, *rejection tells the first
 * one that it does not.  Reads only.  Uses SPI by itself, as the current user.
 */
extern bool oe_guards_pass(uint32 guards, const OeOrder *order, TimestampTz now,
						   OeRejection *rejection);

/* The error of a rejection: OE002, or the guard's own code. */
pg_noreturn extern void oe_guard_reject(const OeRejection *rejection, const OeOrder *order,
										const char *event);

#endif							/* OE_GUARD_H */
