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

/* Reads an order that is locked once more, with what this transaction changed since. */
extern void oe_order_refresh(OeOrder *order);

/*
 * Applies an event to an order that is locked and as "order" says: state, stamps,
 * guards, effects, history and event.  Returns the new state (current context),
 * which is another one than the event leads to where an automatic transition
 * follows; *order is brought up to date.  An order that is in the state already
 * which the event leads to is left alone.  OE001, or the code of a guard, which
 * "forced" leaves out.  reason and metadata may be NULL.
 */
extern char *oe_order_apply(OeOrder *order, const char *event, const char *reason,
							Jsonb *metadata, bool forced);

/* OE003 unless the order has the version that the caller expects. */
extern void oe_order_check_version(const OeOrder *order, int64 expected);

/*
 * The kind of an argument "entity": NULL for an order, 22023 for a word that
 * names nothing.
 */
struct OePartKind;
extern const struct OePartKind *oe_entity_kind(const char *entity);

#endif							/* OE_TRANSITION_H */
