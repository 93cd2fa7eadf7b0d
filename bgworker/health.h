/*
 * health.h
 *	  How an endpoint fares, over all workers of the database, and what may
 *	  therefore be sent to it now.
 */
#ifndef OE_HEALTH_H
#define OE_HEALTH_H

#include "datatype/timestamp.h"
#include "policy_breaker.h"
#include "policy_rate.h"

#define OE_HEALTH_ERROR_SIZE	256

typedef struct OeHealth OeHealth;

/* An endpoint's settings that matter here. */
typedef struct OeHealthPolicy
{
	int			max_in_flight;
	oe_rate_policy rate;
	oe_breaker_policy breaker;
	int64		disable_after;	/* microseconds without a success, 0: never ... */
	int			disable_attempts;	/* ... after at least so many failures ... */
	int64		disable_spread; /* ... of which the first is at least so long ago */
} OeHealthPolicy;

/* What is known of an endpoint: for the position records and for views. */
typedef struct OeHealthState
{
	TimestampTz last_success_at;	/* 0: never, and so for the others */
	TimestampTz last_error_at;
	char		last_error[OE_HEALTH_ERROR_SIZE];	/* in the database's encoding */
	TimestampTz failing_since;
	int			failures;		/* since the last success */
	TimestampTz paused_until;
	int			breaker_opens;
	TimestampTz open_until;		/* 0 with opens > 0: closed again, in slow start */
	oe_breaker_phase phase;		/* not looked at by oe_health_restore */
	int			in_flight;
	uint64		attempts;		/* since the workers started, as the next two */
	uint64		delivered;
	uint64		failed;
} OeHealthState;

/* Bits of what oe_health_settle tells. */
#define OE_HEALTH_OPENED		1	/* the circuit breaker opened */
#define OE_HEALTH_RECOVERED		2	/* it closed after an outage */
#define OE_HEALTH_DISABLE		4	/* it failed so long that it is to be disabled */

/*
 * The record of an endpoint of this database; made when no worker has one.  In
 * shared memory when that is there and has room, else in this process.  Each
 * attach needs a detach; the exit of the process does those that lack.
 */
extern OeHealth *oe_health_attach(int32 endpoint_id);
extern void oe_health_detach(OeHealth *health);

/* What was stored before a restart; does nothing unless the record is new. */
extern void oe_health_restore(OeHealth *health, const OeHealthState *stored);

extern void oe_health_get(OeHealth *health, OeHealthState *state);

/*
 * Asks for a place in flight and, with a rate, a token.  If refused, *wait is
 * when to ask again, 0: when a request of this endpoint that this process made
 * has ended.  While several workers want more than there is, each gets its share.
 */
extern bool oe_health_permit(OeHealth *health, const OeHealthPolicy *policy, TimestampTz now,
							 bool *probe, TimestampTz *wait);

/*
 * A request ended: gives the place back and learns from it.  "error" is null
 * after a success.  Returns bits OE_HEALTH_*.
 */
extern uint32 oe_health_settle(OeHealth *health, const OeHealthPolicy *policy, bool probe,
							   oe_verdict verdict, const char *error, TimestampTz now);

/* The endpoint asked to be left alone until then. */
extern void oe_health_pause(OeHealth *health, TimestampTz until);

/* An operator resumed it: forget pause, breaker and failures. */
extern void oe_health_reset(OeHealth *health);

/*
 * For views: the records of this database in shared memory, one after the other
 * from *i = 0 on; false after the last.
 */
extern bool oe_health_next(int *i, int32 *endpoint_id, OeHealthState *state);

/* From the hooks for shared memory. */
extern void oe_health_shmem_request(void);
extern void oe_health_shmem_startup(void);

/* Counts the times that the breaker opened, so that each worker can tell that it did. */
extern uint32 oe_health_epoch(OeHealth *health);

#endif							/* OE_HEALTH_H */
