/*-------------------------------------------------------------------------
 *
 * policy_address.h
 *	  Which network addresses deliveries may connect to.
 *
 * Pure C: no server headers, no allocation, no state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_POLICY_ADDRESS_H
#define OE_POLICY_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define OE_CIDR_LIST_MAX	64

/* an IPv4 range uses the first four bytes; v4-mapped ones are stored as IPv4 */
typedef struct oe_cidr
{
	uint8_t		version;		/* 4 or 6 */
	uint8_t		bits;			/* prefix length */
	uint8_t		addr[16];		/* network order, zeros after the prefix */
} oe_cidr;

/* no pointers inside: may be copied as bytes, e.g. as a setting's "extra" */
typedef struct oe_cidr_list
{
	int			count;
	oe_cidr		entry[OE_CIDR_LIST_MAX];
} oe_cidr_list;

extern bool oe_cidr_list_parse(const char *text, oe_cidr_list *list,
							   char *why, size_t whylen);
extern bool oe_address_allowed(const struct sockaddr *sa, socklen_t salen,
							   const oe_cidr_list *allow,
							   char *why, size_t whylen);
extern bool oe_address_text_allowed(const char *text,
									const oe_cidr_list *allow,
									char *why, size_t whylen);

#endif							/* OE_POLICY_ADDRESS_H */
