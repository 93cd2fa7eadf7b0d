/*
 * position.h
 *	  Positions of the lanes, durable.
 */
#ifndef OE_POSITION_H
#define OE_POSITION_H

#include "delivery.h"

/*
 * Makes the main and express lanes of endpoints that are new in memory, where
 * they were or at their start, and restores how they fared.  "starts" has their
 * start snapshots.  Inside a transaction.
 */
extern void oe_position_load(OeEndpoint **endpoints, const char **starts, int n);

/*
 * Where a replay is in the shards left: for each group of them that are at the same
 * place calls back.  Inside a transaction.
 */
typedef void (*oe_position_callback) (OeReplay *replay, uint32 shards, const OePlace *place,
									  const pg_uuid_t *done, int ndone);
extern void oe_position_load_replay(OeReplay *replay, int64 replay_id, int32 endpoint_id,
									uint32 left, oe_position_callback callback);

/* Records the lanes that are dirty, or with "all" every one that moved.  Inside a transaction. */
extern void oe_position_write(bool all, TimestampTz now);

/* Is there anything to record? */
extern bool oe_position_pending(void);

/* Is there a lane that moved, be it only past events that are not for its endpoint? */
extern bool oe_position_moved(void);

/*
 * Lets the two tables change places when it is time: for the first worker only,
 * in no transaction.
 */
extern void oe_position_turn(TimestampTz now);

#endif							/* OE_POSITION_H */
