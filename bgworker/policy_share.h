/*-------------------------------------------------------------------------
 *
 * policy_share.h
 *	  How workers share the places in flight of an endpoint.
 *
 * Pure C: no server headers, no allocation, no state but the caller's.  Times
 * are microseconds of any one epoch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_POLICY_SHARE_H
#define OE_POLICY_SHARE_H

#include <stdbool.h>
#include <stdint.h>

/* when a place is held by another worker, whose end does not wake this one */
#define OE_SHARE_POLL			5000

/* a worker that did not ask for so long does not wait for a place any more */
#define OE_SHARE_STILL_WAITING	(4 * OE_SHARE_POLL)

/* What a worker has, and whether it waits for more.  Zeros: nothing, and no. */
typedef struct oe_share
{
	int			in_flight;		/* kept by the caller */
	int64_t		since;			/* has waited since then */
	int64_t		asked_at;		/* last time; 0: does not wait */
} oe_share;

/*
 * May worker "me" of n have one of so many places?  If not, *wait is when to ask
 * again, 0: when a request of its own has ended.
 */
extern bool oe_share_permit(oe_share *shares, int n, int me, int places, int64_t now, int64_t *wait);

#endif							/* OE_POLICY_SHARE_H */
