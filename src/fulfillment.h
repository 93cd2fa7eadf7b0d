/*
 * fulfillment.h
 *	  Fulfillments: units of an order that leave the house together.
 */
#ifndef OE_FULFILLMENT_H
#define OE_FULFILLMENT_H

#include "part.h"

/* as sql/34_fulfillment.sql defines them, behind those of all parts */
enum
{
	Anum_fulfillment_shipped_at = Natts_part + 1,
	Anum_fulfillment_delivered_at,
	Anum_fulfillment_location,
	Anum_fulfillment_tracking,
	Anum_fulfillment_metadata,
	Natts_fulfillment = Anum_fulfillment_metadata
};

#define OE_FULFILLMENT_SHIP_UNITS		(1u << 0)	/* open units are shipped and leave the stock */
#define OE_FULFILLMENT_DELIVER_UNITS	(1u << 1)	/* units that are under way are delivered */
#define OE_FULFILLMENT_RESTOCK_UNITS	(1u << 2)	/* units that are under way are back in stock */
#define OE_FULFILLMENT_RELEASE_UNITS	(1u << 3)	/* open units are free for other fulfillments */

/* fulfillment_effect.c: apply and follow of the kind */
extern void oe_fulfillment_apply(uint32 effects, const OeOrder *order, const OePart *part,
								 const char *reason, TimestampTz at);
extern void oe_fulfillment_follow(uint32 effects, OeOrder *order, const OePart *part,
								  const char *reason, TimestampTz at);

/*
 * Effect cancel_fulfillments of an order: the event "cancel" for each fulfillment
 * that has open units.  Keeps "order" as it is stored.
 */
extern void oe_fulfillments_cancel(OeOrder *order, const char *reason);

/* OE002 unless units of the order may be shipped at all. */
extern void oe_fulfillment_require_confirmed(const OeOrder *order);

/*
 * The argument "tracking": an array of parcels, {"carrier", "number", "url"}.
 * 22023 with {"position", "key"} as DETAIL; NULL for null.
 */
extern Jsonb *oe_arg_tracking(FunctionCallInfo fcinfo, int argno);

#endif							/* OE_FULFILLMENT_H */
