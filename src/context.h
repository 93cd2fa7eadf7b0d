/*
 * context.h
 *	  Who acts, for whom, and in which trace: the settings that a caller makes
 *	  for a transaction, as history and events record them.
 */
#ifndef OE_CONTEXT_H
#define OE_CONTEXT_H

#include "utils/jsonb.h"

/* order_engine.tenant, NULL when not set */
extern const char *oe_context_tenant(void);

/* order_engine.actor, else the name of the session user; never NULL */
extern const char *oe_context_actor(void);

/* order_engine.correlation_id, NULL when not set */
extern const char *oe_context_correlation_id(void);

/* order_engine.traceparent, NULL when not set */
extern const char *oe_context_traceparent(void);

/*
 * What belongs to idempotency keys: "tenant:" and the tenant, or "user:" and
 * the session user's name, so that the two cannot meet.
 */
extern char *oe_context_scope(void);

/*
 * The context as the headers of an event, in the current memory context.  With
 * "extra" (a jsonb object, may be NULL) its members are kept, and win.
 */
extern Jsonb *oe_context_headers(Jsonb *extra);

#endif							/* OE_CONTEXT_H */
