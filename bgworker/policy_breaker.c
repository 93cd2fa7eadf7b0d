/*-------------------------------------------------------------------------
 *
 * policy_breaker.c
 *	  Circuit breaker: when an endpoint that fails is left alone, and how it
 *	  is approached again.
 *
 * closed --(failures)--> open --(time)--> half open --(successes)--> closed, with
 * a slow start.  A failed probe, or that it cannot be reached in slow start, opens
 * it again, for twice as long; answers in slow start are judged by their ratio as
 * ever, for one that is a failure may be an event's fault.  Only what was started in the present phase counts: while open
 * and half open, requests from before still end, and say nothing new.
 *
 * Survives clocks that are set back (waits are cut to what the policy allows) and
 * policies that change in between.
 *
 *-------------------------------------------------------------------------
 */
#include "policy_breaker.h"

#include <limits.h>
#include <string.h>

#define JITTER_MIN	0.8
#define JITTER_MAX	1.2

static void
forget_window(oe_breaker *breaker)
{
	memset(breaker->attempts, 0, sizeof(breaker->attempts));
	memset(breaker->failed, 0, sizeof(breaker->failed));
}

/* Makes the slice that now belongs to the current one. */
static void
move_window(oe_breaker *breaker, const oe_breaker_policy *policy, int64_t now)
{
	int64_t		length = policy->window / OE_BREAKER_SLICES;
	int64_t		steps;

	if (length < 1)
		length = 1;
	if (now < breaker->slice_start)
		breaker->slice_start = now; /* the clock was set back */
	steps = (now - breaker->slice_start) / length;
	if (steps >= OE_BREAKER_SLICES)
	{
		forget_window(breaker);
		breaker->slice_start = now;
		return;
	}
	breaker->slice_start += steps * length;
	while (steps-- > 0)
	{
		breaker->slice = (breaker->slice + 1) % OE_BREAKER_SLICES;
		breaker->attempts[breaker->slice] = 0;
		breaker->failed[breaker->slice] = 0;
	}
}

/* Do too many of the attempts in the window fail? */
static bool
window_is_bad(const oe_breaker *breaker, const oe_breaker_policy *policy)
{
	uint64_t	attempts = 0;
	uint64_t	failed = 0;
	int			i;

	for (i = 0; i < OE_BREAKER_SLICES; i++)
	{
		attempts += breaker->attempts[i];
		failed += breaker->failed[i];
	}
	return attempts > 0 && (int64_t) attempts >= policy->min_attempts &&
		(double) failed >= policy->ratio * (double) attempts;
}

/* How long it stays open the opens-th time, before the jitter. */
static int64_t
open_time(const oe_breaker_policy *policy, int opens)
{
	int64_t		time = policy->open_min;
	int			i;

	for (i = 1; i < opens && time < policy->open_max; i++)
	{
		if (time > INT64_MAX / 4)
			break;
		time *= 2;
	}
	return time < policy->open_max ? time : policy->open_max;
}

static oe_breaker_change
open_breaker(oe_breaker *breaker, const oe_breaker_policy *policy, int64_t now, double random)
{
	double		jitter;

	/* written so that NaN ends up at 0 */
	if (!(random > 0.0))
		random = 0.0;
	if (random > 1.0)
		random = 1.0;
	jitter = JITTER_MIN + random * (JITTER_MAX - JITTER_MIN);

	if (breaker->opens < INT_MAX)
		breaker->opens++;
	breaker->phase = OE_BREAKER_OPEN;
	breaker->open_until = now + (int64_t) ((double) open_time(policy, breaker->opens) * jitter);
	breaker->probing = false;
	breaker->in_a_row = 0;
	breaker->ramp = 0;
	forget_window(breaker);
	return OE_BREAKER_OPENED;
}

bool
oe_breaker_permit(oe_breaker *breaker, const oe_breaker_policy *policy, int64_t now,
				  int in_flight, bool *probe, int64_t *wait)
{
	*probe = false;
	*wait = 0;

	if (breaker->phase == OE_BREAKER_CLOSED)
		return breaker->ramp == 0 || in_flight < breaker->ramp;

	if (breaker->phase == OE_BREAKER_OPEN)
	{
		int64_t		latest = now + (int64_t) ((double) policy->open_max * JITTER_MAX);

		if (breaker->open_until > latest)
			breaker->open_until = latest;
		if (now < breaker->open_until)
		{
			*wait = breaker->open_until;
			return false;
		}
		breaker->phase = OE_BREAKER_HALF_OPEN;
		breaker->in_a_row = 0;
		breaker->probing = false;
	}

	if (breaker->probing)
		return false;
	breaker->probing = true;
	*probe = true;
	return true;
}

/* When is the slow start over? */
static int
ramp_end(const oe_breaker_policy *policy)
{
	if (policy->max_in_flight < OE_BREAKER_RAMP_END_MIN)
		return OE_BREAKER_RAMP_END_MIN;
	return policy->max_in_flight < OE_BREAKER_RAMP_END_MAX ?
		policy->max_in_flight : OE_BREAKER_RAMP_END_MAX;
}

/* A probe ended. */
static oe_breaker_change
settle_probe(oe_breaker *breaker, const oe_breaker_policy *policy, oe_verdict verdict,
			 int64_t now, double random)
{
	breaker->probing = false;
	switch (verdict)
	{
		case OE_VERDICT_BAD:
		case OE_VERDICT_UNREACHABLE:
			return open_breaker(breaker, policy, now, random);
		case OE_VERDICT_NEUTRAL:
			return OE_BREAKER_SAME;
		case OE_VERDICT_GOOD:
			break;
	}
	if (++breaker->in_a_row < policy->successes)
		return OE_BREAKER_SAME;

	breaker->phase = OE_BREAKER_CLOSED;
	breaker->open_until = 0;
	breaker->in_a_row = 0;
	breaker->ramp = OE_BREAKER_RAMP_START;
	forget_window(breaker);
	return OE_BREAKER_RECOVERED;
}

oe_breaker_change
oe_breaker_settle(oe_breaker *breaker, const oe_breaker_policy *policy,
				  bool probe, oe_verdict verdict, int64_t now, double random)
{
	bool		failed = (verdict == OE_VERDICT_BAD || verdict == OE_VERDICT_UNREACHABLE);

	if (breaker->phase != OE_BREAKER_CLOSED)
	{
		if (probe && breaker->phase == OE_BREAKER_HALF_OPEN && breaker->probing)
			return settle_probe(breaker, policy, verdict, now, random);
		return OE_BREAKER_SAME;
	}
	if (verdict == OE_VERDICT_NEUTRAL)
		return OE_BREAKER_SAME;

	move_window(breaker, policy, now);
	breaker->attempts[breaker->slice]++;
	if (failed)
		breaker->failed[breaker->slice]++;

	if (verdict == OE_VERDICT_UNREACHABLE)
		breaker->in_a_row++;
	else
		breaker->in_a_row = 0;

	if (failed)
	{
		if ((breaker->ramp > 0 && verdict == OE_VERDICT_UNREACHABLE) ||
			breaker->in_a_row >= policy->failures || window_is_bad(breaker, policy))
			return open_breaker(breaker, policy, now, random);
	}
	else if (breaker->ramp > 0 && ++breaker->ramp >= ramp_end(policy))
	{
		breaker->ramp = 0;
		breaker->opens = 0;
	}
	return OE_BREAKER_SAME;
}

void
oe_breaker_return(oe_breaker *breaker, bool probe)
{
	if (probe)
		breaker->probing = false;
}

void
oe_breaker_restore(oe_breaker *breaker, int opens, int64_t open_until)
{
	memset(breaker, 0, sizeof(*breaker));
	if (opens <= 0)
		return;
	breaker->opens = opens;
	if (open_until == 0)
		breaker->ramp = OE_BREAKER_RAMP_START;
	else
	{
		breaker->phase = OE_BREAKER_OPEN;
		breaker->open_until = open_until;
	}
}
