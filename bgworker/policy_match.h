/*-------------------------------------------------------------------------
 *
 * policy_match.h
 *	  Event types and the globs by which endpoints choose them.
 *
 * Pure C: no server headers, no allocation, no state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_POLICY_MATCH_H
#define OE_POLICY_MATCH_H

#include <stdbool.h>
#include <stddef.h>

/* bytes in an event type or a glob */
#define OE_EVENT_TYPE_MAX	255

extern bool oe_event_type_check(const char *type, size_t len,
								char *why, size_t whylen);
extern bool oe_glob_check(const char *glob, size_t len,
						  char *why, size_t whylen);
extern bool oe_glob_match(const char *glob, size_t globlen,
						  const char *type, size_t typelen);

#endif							/* OE_POLICY_MATCH_H */
