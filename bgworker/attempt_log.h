/*
 * attempt_log.h
 *	  The log of attempts: what the view delivery_attempt shows.
 */
#ifndef OE_ATTEMPT_LOG_H
#define OE_ATTEMPT_LOG_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

typedef struct OeAttemptEntry
{
	TimestampTz attempted_at;
	int32		endpoint_id;
	int			attempt;		/* of this event, from 1 */
	int			status;			/* 0: none */
	int64		duration;		/* microseconds */
	int			events;			/* in the request */
	const char *outcome;		/* delivered, failed, paused, gave_up */
	pg_uuid_t	id;
	const char *error;			/* NULL after a delivery; any bytes */
	const char *response;		/* not terminated, any bytes; NULL: none */
	size_t		responselen;
} OeAttemptEntry;

/*
 * Remembers an attempt until the next flush, if order_engine.attempt_log asks
 * for it.  Bounded: beyond a limit the oldest level of detail is dropped and
 * counted, delivery is never held up.
 */
extern void oe_attempt_log_add(const OeAttemptEntry *entry);

/* Writes what was remembered, inside a transaction of oe_worker_begin. */
extern void oe_attempt_log_flush(void);

/*
 * Turns the ring when its time has come: for the first worker only, in no
 * transaction.  Returns when to call it again.
 */
extern TimestampTz oe_attempt_log_turn(TimestampTz now);

#endif							/* OE_ATTEMPT_LOG_H */
