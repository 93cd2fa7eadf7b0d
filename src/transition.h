/*
 * transition.h
 *	  Apply an event to an order.
 */
#ifndef OE_TRANSITION_H
#define OE_TRANSITION_H

#include "nodes/lockoptions.h"
#include "order_row.h"
#include "utils/jsonb.h"

/*
 * Locks an order for a change and reads its newest version, strings and numbers
 * palloc'd in the current context.  OE005 when there is none, 55P03 when it is
 * locked and the policy is LockWaitError.
 */
extern void oe_order_lock(int64 order_id, LockWaitPolicy policy, OeOrder *order);

/* The same without a lock, as the calling query sees it. */
extern void oe_order_read(int64 order_id, OeOrder *order);

/*
 * Applies an event to an order that is locked and as "order" says: state, stamps,
 * guards, effects, history and event.  Returns the new state (current context).
 * An order that is in the state already which the event leads to is left alone.
 * OE001, or the code of a guard.  reason and metadata may be NULL.
 */
extern char *oe_order_apply(const OeOrder *order, const char *event,
							const char *reason, Jsonb *metadata);

#endif							/* OE_TRANSITION_H */
