/*
 * ring.h
 *	  The ring of the outbox's leaves: turn it, and truncate what is no longer
 *	  needed.
 */
#ifndef OE_RING_H
#define OE_RING_H

#include "datatype/timestamp.h"

/*
 * One step of what is due, each in a short transaction of its own that waits
 * for no lock; for the first worker only, in no transaction.  Returns when to
 * call it again.
 */
extern TimestampTz oe_ring_step(TimestampTz now);

#endif							/* OE_RING_H */
