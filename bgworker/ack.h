/*
 * ack.h
 *	  Make durable what was delivered.
 */
#ifndef OE_ACK_H
#define OE_ACK_H

#include "delivery.h"

/* Loads positions and retries of an endpoint that is new in memory.  In a transaction. */
extern void oe_ack_load(OeEndpoint *endpoint, const char *start_snapshot);

/* Is there anything to write, be it that the reader went on? */
extern bool oe_ack_pending(void);

/* Writes it, in a transaction of its own. */
extern void oe_ack_flush(void);

#endif							/* OE_ACK_H */
