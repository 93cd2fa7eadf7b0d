/*-------------------------------------------------------------------------
 *
 * policy_breaker.h
 *	  Circuit breaker: when an endpoint that fails is left alone, and how it
 *	  is approached again.
 *
 * Pure C: no server headers, no allocation, no state but the caller's.  Times
 * and durations are microseconds of any one epoch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_POLICY_BREAKER_H
#define OE_POLICY_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

/* defaults of an endpoint */
#define OE_BREAKER_FAILURES		5	/* unreachable so many times in a row */
#define OE_BREAKER_RATIO		0.7 /* or such a share of failures ... */
#define OE_BREAKER_MIN_ATTEMPTS	10	/* ... among at least so many attempts ... */
#define OE_BREAKER_WINDOW		INT64_C(60000000)	/* ... within this time */
#define OE_BREAKER_OPEN_MIN		INT64_C(30000000)
#define OE_BREAKER_OPEN_MAX		INT64_C(3600000000)
#define OE_BREAKER_SUCCESSES	3	/* of probes in a row close it */

#define OE_BREAKER_SLICES		6	/* of the window, which is so between 5/6 and all of it */

/*
 * Slow start after an outage: so many at once, and when it is over: with as many
 * as the endpoint may have anyway, within these limits.
 */
#define OE_BREAKER_RAMP_START	2
#define OE_BREAKER_RAMP_END_MIN	8
#define OE_BREAKER_RAMP_END_MAX	256

typedef struct oe_breaker_policy
{
	int			failures;
	double		ratio;
	int			min_attempts;
	int64_t		window;
	int64_t		open_min;
	int64_t		open_max;
	int			successes;
	int			max_in_flight;	/* that the endpoint may have when all is well */
} oe_breaker_policy;

typedef enum oe_breaker_phase
{
	OE_BREAKER_CLOSED,
	OE_BREAKER_OPEN,			/* until open_until nothing is sent */
	OE_BREAKER_HALF_OPEN		/* one probe at a time */
} oe_breaker_phase;

/* All zeros is a closed breaker of an endpoint of which nothing is known. */
typedef struct oe_breaker
{
	oe_breaker_phase phase;
	int			opens;			/* since it was last closed for good; the exponent of the wait */
	int64_t		open_until;
	bool		probing;		/* half open, and the probe is under way */
	int			in_a_row;		/* closed: unreachable so many times; half open: successes */
	int			ramp;			/* slow start: how many may be under way; 0: no limit */
	int64_t		slice_start;	/* of the current slice */
	int			slice;
	uint32_t	attempts[OE_BREAKER_SLICES];
	uint32_t	failed[OE_BREAKER_SLICES];
} oe_breaker;

/* What an attempt says of its endpoint. */
typedef enum oe_verdict
{
	OE_VERDICT_GOOD,			/* it took the event */
	OE_VERDICT_BAD,				/* it answered, but did not take it */
	OE_VERDICT_UNREACHABLE,		/* no answer: name, connection, TLS, timeout, reset */
	OE_VERDICT_NEUTRAL			/* nothing: the event is to blame, or we are */
} oe_verdict;

typedef enum oe_breaker_change
{
	OE_BREAKER_SAME,
	OE_BREAKER_OPENED,			/* also: again, after a probe */
	OE_BREAKER_RECOVERED		/* closed after an outage */
} oe_breaker_change;

/*
 * May a request be started now, with in_flight under way?  Takes the probe of a
 * half-open breaker: *probe goes back with oe_breaker_settle.  If not, *wait is
 * when to ask again, 0: when a request has ended.
 */
extern bool oe_breaker_permit(oe_breaker *breaker, const oe_breaker_policy *policy, int64_t now,
							  int in_flight, bool *probe, int64_t *wait);

/*
 * A request ended.  What was started before the breaker opened and ends while
 * it is not closed says nothing.  random is uniform in [0, 1), for the
 * jitter of the wait.
 */
extern oe_breaker_change oe_breaker_settle(oe_breaker *breaker, const oe_breaker_policy *policy,
										   bool probe, oe_verdict verdict, int64_t now, double random);

/* The probe was not made after all. */
extern void oe_breaker_return(oe_breaker *breaker, bool probe);

/*
 * Takes up what was known before a restart: how often it opened, 0: it is
 * closed; and until when, 0: it was closed again, but not yet for good.
 */
extern void oe_breaker_restore(oe_breaker *breaker, int opens, int64_t open_until);

#endif							/* OE_POLICY_BREAKER_H */
