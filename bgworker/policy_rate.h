/*-------------------------------------------------------------------------
 *
 * policy_rate.h
 *	  Token bucket: at most so many requests a second, with a burst.
 *
 * Kept as one time, the "theoretical arrival time" of the generic cell rate
 * algorithm (ITU-T I.371): no bucket has to be refilled.
 *
 * Timers fire late, so who waited for a token takes it a little after it was
 * due.  Up to OE_RATE_LATENESS of that is made up for, else a rate with a small
 * burst would never be reached.  After idleness there are never more than
 * "burst" at once, and in a time t never more than burst + rate x (t + lateness).
 *
 * Pure C: no server headers, no allocation, no state but the caller's.  Times
 * and durations are microseconds of any one epoch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_POLICY_RATE_H
#define OE_POLICY_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define OE_RATE_LATENESS	20000	/* microseconds */

typedef struct oe_rate_policy
{
	double		per_second;		/* 0: no limit */
	int			burst;			/* at least 1 */
} oe_rate_policy;

/* Zero: a full bucket. */
typedef struct oe_rate
{
	double		arrival;
	bool		waited;			/* somebody was refused, and nobody came too late since */
} oe_rate;

/* Takes a token; if there is none, *wait is when there will be one. */
extern bool oe_rate_take(oe_rate *rate, const oe_rate_policy *policy, int64_t now, int64_t *wait);

#endif							/* OE_POLICY_RATE_H */
