/*-------------------------------------------------------------------------
 *
 * uuid7.c
 *	  UUIDs of version 7 that increase within a process.
 *
 * Responsibility: RFC 9562 version 7 with 48 bits of Unix milliseconds, 12
 * bits of the fraction below (its "method 3") and 62 random bits; the public
 * text form of event ids.
 *
 * Lifecycle: the caller keeps one oe_uuid7_state for its process.  Processes
 * share nothing; their ids differ by the random bits.
 *
 * Accidents survived: many ids in one microsecond and a clock that steps back
 * (both count on from the last id), times outside 48 bits, a random source
 * that fails.
 *
 *-------------------------------------------------------------------------
 */
#include "uuid7.h"

#include <string.h>

/* the time part: 48 bits of milliseconds, then 12 bits of fraction */
#define FRACTION_BITS	12
#define MS_MAX			((UINT64_C(1) << 48) - 1)
#define TIME_MAX		((UINT64_C(1) << 60) - 1)

static uint64_t
time_part(int64_t unix_usec)
{
	uint64_t	usec = unix_usec > 0 ? (uint64_t) unix_usec : 0;
	uint64_t	ms = usec / 1000;
	uint64_t	fraction = ((usec % 1000) << FRACTION_BITS) / 1000;

	if (ms > MS_MAX)
		return TIME_MAX;
	return (ms << FRACTION_BITS) | fraction;
}

/*
 * oe_uuid7_next
 *
 * Make an id greater than every one made with this state before.  unix_usec
 * is microseconds since 1970.  A tie or a step back of the clock takes the
 * last time part plus one, so ids run ahead of the clock by a quarter of a
 * microsecond each.  False, with nothing changed, if the random source fails
 * or time has ended (year 10889).
 */
bool
oe_uuid7_next(oe_uuid7_state *state, int64_t unix_usec,
			  oe_random_source random, uint8_t uuid[OE_UUID_BYTES])
{
	uint64_t	t = time_part(unix_usec);
	uint8_t		noise[8];
	int			i;

	if (t <= state->last)
	{
		if (state->last >= TIME_MAX)
			return false;
		t = state->last + 1;
	}
	if (!random(noise, sizeof(noise)))
		return false;
	state->last = t;

	for (i = 0; i < 6; i++)
		uuid[i] = (uint8_t) (t >> (52 - 8 * i));
	uuid[6] = (uint8_t) (0x70 | ((t >> 8) & 0x0f));
	uuid[7] = (uint8_t) t;
	memcpy(uuid + 8, noise, sizeof(noise));
	uuid[8] = (uint8_t) (0x80 | (uuid[8] & 0x3f));
	return true;
}

/*
 * oe_event_id_format
 *
 * The public id of an event: "evt_" and the UUID's 32 lower-case hex digits.
 */
void
oe_event_id_format(const uint8_t uuid[OE_UUID_BYTES],
				   char out[OE_EVENT_ID_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char	   *p = out;
	int			i;

	memcpy(p, "evt_", 4);
	p += 4;
	for (i = 0; i < OE_UUID_BYTES; i++)
	{
		*p++ = digits[uuid[i] >> 4];
		*p++ = digits[uuid[i] & 0x0f];
	}
	*p = '\0';
}
