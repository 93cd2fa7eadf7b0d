/*
 * hold.h
 *	  Holds: while one is open, its order is neither confirmed nor shipped.
 */
#ifndef OE_HOLD_H
#define OE_HOLD_H

#include "datatype/timestamp.h"
#include "order_row.h"

/*
 * Places a hold on an order that is locked, in whatever state it is, as an event
 * of the order; *order is brought up to date.  Returns the hold's id.  reason is
 * a word to group by; note may be NULL.  The caller calls oe_order_follow().
 */
extern int64 oe_hold_place(OeOrder *order, const char *reason, const char *note, TimestampTz at);

/*
 * The open holds of an order as a JSON array, for DETAIL; in the current memory
 * context.  Uses SPI by itself, as the current user.
 */
extern char *oe_holds_json(int64 order_id);

#endif							/* OE_HOLD_H */
