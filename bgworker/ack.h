/*
 * ack.h
 *	  Make durable what was delivered.
 */
#ifndef OE_ACK_H
#define OE_ACK_H

#include "delivery.h"

/* Is there anything to write, be it that the reader went on? */
extern bool oe_ack_pending(TimestampTz now);

/*
 * Writes it, in a transaction of its own; with "all" also where the endpoints
 * are that only let events pass.  It is durable a little later.
 */
extern void oe_ack_flush(bool all);

/* Is the last flush on disk?  Have the launcher see to that; or do it here and now. */
extern bool oe_ack_is_durable(void);
extern void oe_ack_hasten(void);
extern void oe_ack_make_durable(void);

#endif							/* OE_ACK_H */
