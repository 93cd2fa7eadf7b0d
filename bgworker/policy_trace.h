/*-------------------------------------------------------------------------
 *
 * policy_trace.h
 *	  Which trace headers are sent on.
 *
 * Pure C: no server headers, no allocation, no state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_POLICY_TRACE_H
#define OE_POLICY_TRACE_H

#include <stdbool.h>

#define OE_TRACEPARENT_LEN	55

extern bool oe_traceparent_valid(const char *traceparent);
extern bool oe_tracestate_valid(const char *tracestate);

#endif							/* OE_POLICY_TRACE_H */
