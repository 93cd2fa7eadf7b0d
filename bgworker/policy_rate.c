/*-------------------------------------------------------------------------
 *
 * policy_rate.c
 *	  Token bucket: at most so many requests a second, with a burst.
 *
 * The state is the time at which the bucket would be full again.  A token is
 * there as long as that is at most (burst - 1) tokens away.
 *
 *-------------------------------------------------------------------------
 */
#include "policy_rate.h"

#include <math.h>

bool
oe_rate_take(oe_rate *rate, const oe_rate_policy *policy, int64_t now, int64_t *wait)
{
	double		token;
	double		tolerance;
	double		due;

	*wait = 0;
	if (!(policy->per_second > 0.0))
		return true;

	token = 1000000.0 / policy->per_second; /* microseconds */
	tolerance = policy->burst > 1 ? (policy->burst - 1) * token : 0.0;

	/* an empty bucket fills in no longer than this, unless clock or policy changed */
	if (rate->arrival > (double) now + tolerance + token)
		rate->arrival = (double) now + tolerance + token;

	due = rate->arrival - tolerance;
	if (due > (double) now)
	{
		rate->waited = true;
		*wait = (int64_t) ceil(due);
		return false;
	}

	/*
	 * A full bucket takes nothing more.  But while somebody waits it is full only
	 * because he comes late, and what dripped past it meanwhile is his.
	 */
	if (rate->arrival < (double) now &&
		!(rate->waited && due + OE_RATE_LATENESS >= (double) now))
	{
		rate->arrival = (double) now;
		rate->waited = false;
	}
	rate->arrival += token;
	return true;
}
