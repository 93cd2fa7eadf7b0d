/*
 * feed.h
 *	  Feed the lanes from the outbox.
 */
#ifndef OE_FEED_H
#define OE_FEED_H

#include "datatype/timestamp.h"

/* There may be new events. */
extern void oe_feed_look(void);

/* Is there something to be read for a lane that has room? */
extern bool oe_feed_wanted(void);

/* Reads on where that is wanted, in one short transaction. */
extern void oe_feed(TimestampTz now);

/* When to look although nothing was announced. */
extern TimestampTz oe_feed_next(void);

/* Reads again the events of retries that are due; returns whether there may be more. */
extern bool oe_feed_retries(TimestampTz now);

#endif							/* OE_FEED_H */
