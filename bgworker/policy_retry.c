/*-------------------------------------------------------------------------
 *
 * policy_retry.c
 *	  What an attempt's result means and when the next attempt is due.
 *
 * Responsibility: the mapping from (transport result, HTTP status,
 * Retry-After) to an outcome, and the retry schedule.  Nothing here knows
 * about endpoints, events or tables.
 *
 * Lifecycle: none; functions of their arguments.
 *
 * Accidents survived: a clock that steps in either direction, a random source
 * that leaves its range, schedules and headers whose sums overflow, headers
 * written by an attacker.
 *
 *-------------------------------------------------------------------------
 */
#include "policy_retry.h"

#include <stdio.h>
#include <string.h>

/*
 * oe_outcome_classify
 *
 * http_status is the status of the final response's status line, 0 if none
 * arrived.  retry_after is what oe_retry_after_parse gave, or
 * OE_RETRY_AFTER_NONE.
 *
 * A final status line outranks the transport result: a receiver that has
 * said 2xx has the event, also when its body then drips until the timeout.
 */
oe_outcome
oe_outcome_classify(oe_transport transport, int http_status,
					int64_t retry_after)
{
	if (http_status >= 200 && http_status <= 299)
		return OE_OUTCOME_SUCCESS;

	switch (http_status)
	{
		case 410:
			return OE_OUTCOME_GONE;
		case 429:
			return OE_OUTCOME_PAUSE;
		case 503:
			/* without a usable header this is a 5xx like any other */
			return retry_after >= 0 ? OE_OUTCOME_PAUSE : OE_OUTCOME_TRANSIENT;
		default:
			break;
	}

	/* any other final status: 3xx (never followed), 4xx, 5xx */
	if (http_status >= 300)
		return OE_OUTCOME_TRANSIENT;

	/* no final status line: nothing (0) or an interim response only (1xx) */
	switch (transport)
	{
		case OE_TRANSPORT_BLOCKED:
		case OE_TRANSPORT_BAD_URL:
		case OE_TRANSPORT_BAD_HEADER:
		case OE_TRANSPORT_QUARANTINED:
			return OE_OUTCOME_PERMANENT;
		case OE_TRANSPORT_OK:
		case OE_TRANSPORT_DNS:
		case OE_TRANSPORT_CONNECT:
		case OE_TRANSPORT_TLS:
		case OE_TRANSPORT_TIMEOUT:
		case OE_TRANSPORT_IO:
		case OE_TRANSPORT_PROTOCOL:
		case OE_TRANSPORT_LOCAL:
			return OE_OUTCOME_TRANSIENT;
	}
	return OE_OUTCOME_TRANSIENT;
}

/*
 * oe_pause_delay
 *
 * How long an endpoint pauses after OE_OUTCOME_PAUSE.  "Retry-After: 0" and
 * dates in the past are raised to OE_PAUSE_MIN: a pause uses up no attempt,
 * so a receiver that always answers so would be asked without end or delay.
 */
int64_t
oe_pause_delay(int64_t retry_after)
{
	if (retry_after < 0)
		return OE_PAUSE_DEFAULT;
	if (retry_after < OE_PAUSE_MIN)
		return OE_PAUSE_MIN;
	if (retry_after > OE_RETRY_AFTER_MAX)
		return OE_RETRY_AFTER_MAX;
	return retry_after;
}

/* fixed-width decimal; -1 if a byte is not a digit */
static int
parse_digits(const char *s, int width)
{
	int			value = 0;
	int			i;

	for (i = 0; i < width; i++)
	{
		if (s[i] < '0' || s[i] > '9')
			return -1;
		value = value * 10 + (s[i] - '0');
	}
	return value;
}

/* index of the three letters at s in a table of such names, -1 if absent */
static int
parse_name(const char *s, const char *names, int count)
{
	int			i;

	for (i = 0; i < count; i++)
	{
		if (memcmp(s, names + i * 3, 3) == 0)
			return i;
	}
	return -1;
}

/* days from 1970-01-01 to the first of January of the given year (>= 1) */
static int64_t
days_before_year(int year)
{
	int64_t		y = (int64_t) year - 1;

	return y * 365 + y / 4 - y / 100 + y / 400 - INT64_C(719162);
}

/*
 * IMF-fixdate (RFC 9110 5.6.7), the one date format that servers may send:
 * "Sun, 06 Nov 1994 08:49:37 GMT", exactly 29 bytes, case-sensitive.  The
 * weekday must be one but need not be the right one: the date says enough.
 */
static bool
parse_imf_fixdate(const char *s, size_t len, int64_t *unix_seconds)
{
	static const int month_days[12] =
	{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			day;
	int			month;
	int			year;
	int			hour;
	int			minute;
	int			second;
	int			monthlen;
	bool		leap;
	int64_t		days;
	int			i;

	if (len != 29)
		return false;
	if (parse_name(s, "MonTueWedThuFriSatSun", 7) < 0 ||
		memcmp(s + 3, ", ", 2) != 0 || s[7] != ' ' || s[11] != ' ' ||
		s[16] != ' ' || s[19] != ':' || s[22] != ':' ||
		memcmp(s + 25, " GMT", 4) != 0)
		return false;

	day = parse_digits(s + 5, 2);
	month = parse_name(s + 8, "JanFebMarAprMayJunJulAugSepOctNovDec", 12);
	year = parse_digits(s + 12, 4);
	hour = parse_digits(s + 17, 2);
	minute = parse_digits(s + 20, 2);
	second = parse_digits(s + 23, 2);

	if (month < 0 || year < 1)
		return false;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	monthlen = month_days[month] + (month == 1 && leap ? 1 : 0);
	if (day < 1 || day > monthlen || hour < 0 || hour > 23 ||
		minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;

	days = days_before_year(year) + day - 1;
	for (i = 0; i < month; i++)
		days += month_days[i] + (i == 1 && leap ? 1 : 0);
	*unix_seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
	return true;
}

/*
 * oe_retry_after_parse
 *
 * value is the header's value of len bytes (not NUL-terminated), now_unix
 * the time in microseconds since 1970.  True with *delay in
 * 0 .. OE_RETRY_AFTER_MAX, or false with *delay = OE_RETRY_AFTER_NONE if the
 * value is neither a count of seconds nor a date.
 */
bool
oe_retry_after_parse(const char *value, size_t len, int64_t now_unix,
					 int64_t *delay)
{
	int64_t		seconds = 0;
	int64_t		now_seconds;
	size_t		i;

	*delay = OE_RETRY_AFTER_NONE;

	while (len > 0 && (value[0] == ' ' || value[0] == '\t'))
	{
		value++;
		len--;
	}
	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	if (len == 0)
		return false;

	for (i = 0; i < len && value[i] >= '0' && value[i] <= '9'; i++)
	{
		/* saturate instead of overflowing; everything above is clamped */
		if (seconds <= OE_RETRY_AFTER_MAX)
			seconds = seconds * 10 + (value[i] - '0');
	}
	if (i == len)
	{
		if (seconds > OE_RETRY_AFTER_MAX / OE_SECONDS(1))
			*delay = OE_RETRY_AFTER_MAX;
		else
			*delay = OE_SECONDS(seconds);
		return true;
	}

	if (!parse_imf_fixdate(value, len, &seconds))
		return false;

	/* in whole seconds first: the difference to now cannot overflow there */
	now_seconds = now_unix / OE_SECONDS(1);
	if (seconds - now_seconds > OE_RETRY_AFTER_MAX / OE_SECONDS(1))
		*delay = OE_RETRY_AFTER_MAX;
	else if (seconds <= now_seconds)
		*delay = 0;
	else
		*delay = OE_SECONDS(seconds) - now_unix;
	if (*delay > OE_RETRY_AFTER_MAX)
		*delay = OE_RETRY_AFTER_MAX;
	return true;
}

/*
 * oe_retry_schedule_check
 *
 * May a user set this schedule?  schedule[0] is the delay before the first
 * attempt.
 */
bool
oe_retry_schedule_check(const int64_t *schedule, int nsteps, int64_t max_age,
						char *why, size_t whylen)
{
	int			i;

	if (nsteps < 1 || nsteps > OE_RETRY_MAX_STEPS)
	{
		snprintf(why, whylen, "retry schedule must have 1 to %d entries, not %d",
				 OE_RETRY_MAX_STEPS, nsteps);
		return false;
	}
	for (i = 0; i < nsteps; i++)
	{
		if (schedule[i] < 0 || schedule[i] > OE_RETRY_MAX_DELAY)
		{
			snprintf(why, whylen,
					 "retry schedule entry %d must be between 0 and 30 days",
					 i + 1);
			return false;
		}
	}
	if (max_age < 0)
	{
		snprintf(why, whylen, "maximum age of a retry must not be negative");
		return false;
	}
	return true;
}

static int64_t
add_saturated(int64_t a, int64_t b)
{
	if (b > 0 && a > INT64_MAX - b)
		return INT64_MAX;
	if (b < 0 && a < INT64_MIN - b)
		return INT64_MIN;
	return a + b;
}

/*
 * oe_retry_next
 *
 * When is the next attempt due, after `attempts` attempts of which the first
 * began at first_attempt (not looked at while attempts is 0)?  random is
 * uniform in [0, 1).  True with *next; false with *next untouched when the
 * event is exhausted: the schedule is used up, or the next attempt would come
 * more than max_age after the first.
 */
bool
oe_retry_next(int attempts, int64_t first_attempt, int64_t now,
			  const int64_t *schedule, int nsteps, int64_t max_age,
			  double random, int64_t *next)
{
	int64_t		delay;
	int64_t		due;

	if (attempts < 0 || attempts >= nsteps)
		return false;

	delay = schedule[attempts];
	if (delay < 0)
		delay = 0;
	if (delay > OE_RETRY_MAX_DELAY)
		delay = OE_RETRY_MAX_DELAY;

	/* written so that NaN ends up at 0 */
	if (!(random > 0.0))
		random = 0.0;
	if (random > 1.0)
		random = 1.0;
	delay = (int64_t) ((double) delay *
					   (OE_RETRY_JITTER_MIN +
						random * (OE_RETRY_JITTER_MAX - OE_RETRY_JITTER_MIN)));

	due = add_saturated(now, delay);
	if (attempts > 0 && due > add_saturated(first_attempt, max_age))
		return false;
	*next = due;
	return true;
}
