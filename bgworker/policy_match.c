/*-------------------------------------------------------------------------
 *
 * policy_match.c
 *	  Event types and the globs by which endpoints choose them.
 *
 * Responsibility: the grammar of event types and globs, and matching.  A type
 * is words of ASCII letters, digits, "_" and "-", joined by single dots.  A
 * glob may also hold "*", which stands for any run of bytes, also an empty
 * one and also across dots; everything else is literal and case-sensitive.
 *
 * Lifecycle: none; functions of their arguments.
 *
 * Accidents survived: globs built to make a matcher backtrack (the cost is at
 * most globlen * typelen steps), bytes of any value, empty input.
 *
 *-------------------------------------------------------------------------
 */
#include "policy_match.h"

#include <stdio.h>

static bool
is_word_byte(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* the grammar that types and globs share; "what" names the thing in errors */
static bool
check_pattern(const char *text, size_t len, bool stars, const char *what,
			  char *why, size_t whylen)
{
	size_t		i;

	if (len < 1 || len > OE_EVENT_TYPE_MAX)
	{
		snprintf(why, whylen, "%s must have 1 to %d bytes", what,
				 OE_EVENT_TYPE_MAX);
		return false;
	}
	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c == '.')
		{
			if (i == 0 || i == len - 1 || text[i - 1] == '.')
			{
				snprintf(why, whylen,
						 "%s must not begin or end with a dot or have two in a row",
						 what);
				return false;
			}
		}
		else if (!is_word_byte(c) && !(stars && c == '*'))
		{
			snprintf(why, whylen,
					 "%s may have only letters, digits, \"_\", \"-\" and \".\"%s, not byte 0x%02x",
					 what, stars ? " and \"*\"" : "", (unsigned int) c);
			return false;
		}
	}
	return true;
}

/*
 * oe_event_type_check
 *
 * Is this a valid event type (len bytes, not NUL-terminated)?
 */
bool
oe_event_type_check(const char *type, size_t len, char *why, size_t whylen)
{
	return check_pattern(type, len, false, "event type", why, whylen);
}

/*
 * oe_glob_check
 *
 * Is this a valid glob?  One that could never match a valid type because of
 * its dots is refused, for it is a typing error.
 */
bool
oe_glob_check(const char *glob, size_t len, char *why, size_t whylen)
{
	return check_pattern(glob, len, true, "event type pattern", why, whylen);
}

/*
 * oe_glob_match
 *
 * Does the glob match the whole type?  Needs no prior check of either.
 *
 * Only the last "*" is ever reconsidered: what the earlier ones took was the
 * shortest run that let the literals after them match, and a longer run could
 * only leave less for the rest.
 */
bool
oe_glob_match(const char *glob, size_t globlen,
			  const char *type, size_t typelen)
{
	size_t		g = 0;
	size_t		t = 0;
	bool		star_seen = false;
	size_t		star_g = 0;		/* just after the last star */
	size_t		star_t = 0;		/* where that star's run ends */

	while (t < typelen)
	{
		if (g < globlen && glob[g] == '*')
		{
			star_seen = true;
			star_g = ++g;
			star_t = t;
		}
		else if (g < globlen && glob[g] == type[t])
		{
			g++;
			t++;
		}
		else if (star_seen)
		{
			g = star_g;
			t = ++star_t;
		}
		else
			return false;
	}
	while (g < globlen && glob[g] == '*')
		g++;
	return g == globlen;
}
