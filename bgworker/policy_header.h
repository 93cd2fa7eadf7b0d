/*-------------------------------------------------------------------------
 *
 * policy_header.h
 *	  Which request headers a user may set.
 *
 * Pure C: no server headers, no allocation, no state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_POLICY_HEADER_H
#define OE_POLICY_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#define OE_HEADER_NAME_MAX		128
#define OE_HEADER_VALUE_MAX		4096
#define OE_HEADER_COUNT_MAX		32
#define OE_HEADER_TOTAL_MAX		8192	/* on the wire, see oe_header_add */

/* what a set of headers has used so far; start with zeros */
typedef struct oe_header_budget
{
	int			count;
	size_t		bytes;
} oe_header_budget;

extern bool oe_header_name_check(const char *name, size_t len,
								 char *why, size_t whylen);
extern bool oe_header_value_check(const char *value, size_t len,
								  char *why, size_t whylen);
extern bool oe_header_add(oe_header_budget *budget,
						  const char *name, size_t namelen,
						  const char *value, size_t valuelen,
						  char *why, size_t whylen);

#endif							/* OE_POLICY_HEADER_H */
