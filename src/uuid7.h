/*-------------------------------------------------------------------------
 *
 * uuid7.h
 *	  UUIDs of version 7 that increase within a process.
 *
 * Pure C: no server headers, no allocation, no state but the caller's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_UUID7_H
#define OE_UUID7_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OE_UUID_BYTES		16
#define OE_EVENT_ID_SIZE	(4 + 32 + 1)	/* "evt_", hex digits, NUL */

/* fills buf with len random bytes; pg_strong_random has this signature */
typedef bool (*oe_random_source) (void *buf, size_t len);

/* the time part of the last id given out; start with zeros, one a process */
typedef struct oe_uuid7_state
{
	uint64_t	last;
} oe_uuid7_state;

extern bool oe_uuid7_next(oe_uuid7_state *state, int64_t unix_usec,
						  oe_random_source random,
						  uint8_t uuid[OE_UUID_BYTES]);
extern void oe_event_id_format(const uint8_t uuid[OE_UUID_BYTES],
							   char out[OE_EVENT_ID_SIZE]);

#endif							/* OE_UUID7_H */
