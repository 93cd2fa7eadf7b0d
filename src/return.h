/*
 * return.h
 *	  Returns: units of an order that the customer sends back.
 */
#ifndef OE_RETURN_H
#define OE_RETURN_H

#include "part.h"

/* as sql/36_return.sql defines them, behind those of all parts */
enum
{
	Anum_return_received_at = Natts_part + 1,
	Anum_return_refund_amount,
	Anum_return_reason,
	Anum_return_metadata,
	Natts_return = Anum_return_metadata
};

#define OE_RETURN_RECEIVE_UNITS		(1u << 0)	/* open units are returned; some go into stock */
#define OE_RETURN_RELEASE_UNITS		(1u << 1)	/* open units are free for other returns */
#define OE_RETURN_REQUEST_REFUND	(1u << 2)	/* what was paid for them is given back */

/* return_effect.c: apply and follow of the kind */
extern void oe_return_apply(uint32 effects, const OeOrder *order, const OePart *part,
							const char *reason, TimestampTz at);
extern void oe_return_follow(uint32 effects, OeOrder *order, const OePart *part,
							 const char *reason, TimestampTz at);

#endif							/* OE_RETURN_H */
