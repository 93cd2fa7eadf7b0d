/*-------------------------------------------------------------------------
 *
 * policy_share.c
 *	  How workers share the places in flight of an endpoint.
 *
 * Whose request has ended asks first, always, so without a rule one busy worker
 * would keep all places for ever.  So they are shared between the workers that
 * have or want some.  Who has less than his share takes what is free; who has it
 * leaves a free place to each that waits.  Where the places cannot be shared
 * evenly, those that are over go to who has waited longest.
 *
 * Nobody is told of a place that becomes free: who waits asks again.  So who does
 * not ask any more, because he ended or has nothing left to send, is forgotten.
 *
 *-------------------------------------------------------------------------
 */
#include "policy_share.h"

/* Was it refused a place, and has it less than its share? */
static bool
is_waiting(const oe_share *share, int64_t now)
{
	return share->asked_at != 0 && share->asked_at <= now &&
		now - share->asked_at < OE_SHARE_STILL_WAITING;
}

bool
oe_share_permit(oe_share *shares, int n, int me, int places, int64_t now, int64_t *wait)
{
	oe_share   *mine = &shares[me];
	int64_t		since = is_waiting(mine, now) ? mine->since : now;
	int			sharers = 1;
	int			waiting = 0;
	int			before_me = 0;
	int			free = places - mine->in_flight;
	int			least;
	int			most;
	int			i;

	for (i = 0; i < n; i++)
	{
		const oe_share *other = &shares[i];
		bool		waits = is_waiting(other, now);

		if (i == me || (!waits && other->in_flight == 0))
			continue;
		sharers++;
		free -= other->in_flight;
		if (!waits)
			continue;
		waiting++;
		if (other->since < since || (other->since == since && i < me))
			before_me++;
	}
	least = places / sharers;
	most = (places + sharers - 1) / sharers;

	mine->asked_at = 0;
	*wait = 0;
	if (mine->in_flight >= most ? free > waiting :
		mine->in_flight >= least ? free > before_me : free > 0)
		return true;

	if (mine->in_flight < most)
	{
		mine->since = since;
		mine->asked_at = now;
	}
	if (mine->in_flight == 0 || mine->in_flight < least)
		*wait = now + OE_SHARE_POLL;
	return false;
}
