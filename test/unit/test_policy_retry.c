/* Unit tests of bgworker/policy_retry.c */
#include "policy_retry.h"

#include <math.h>
#include <time.h>

#include "tap.h"

#define NONE OE_RETRY_AFTER_NONE

static void
test_classify(void)
{
	static const struct
	{
		oe_transport transport;
		int			status;
		int64_t		retry_after;
		oe_outcome	outcome;
		const char *name;
	}			cases[] = {
		{OE_TRANSPORT_OK, 200, NONE, OE_OUTCOME_SUCCESS, "200"},
		{OE_TRANSPORT_OK, 204, NONE, OE_OUTCOME_SUCCESS, "204"},
		{OE_TRANSPORT_OK, 299, NONE, OE_OUTCOME_SUCCESS, "299"},
		{OE_TRANSPORT_TIMEOUT, 200, NONE, OE_OUTCOME_SUCCESS, "200, body drips until the timeout"},
		{OE_TRANSPORT_IO, 202, NONE, OE_OUTCOME_SUCCESS, "202, body cut"},
		{OE_TRANSPORT_PROTOCOL, 200, NONE, OE_OUTCOME_SUCCESS, "200, body huge"},
		{OE_TRANSPORT_OK, 200, 0, OE_OUTCOME_SUCCESS, "200 with Retry-After"},
		{OE_TRANSPORT_OK, 0, NONE, OE_OUTCOME_TRANSIENT, "no status line"},
		{OE_TRANSPORT_TIMEOUT, 100, NONE, OE_OUTCOME_TRANSIENT, "100, then timeout"},
		{OE_TRANSPORT_OK, 199, NONE, OE_OUTCOME_TRANSIENT, "199"},
		{OE_TRANSPORT_OK, 300, NONE, OE_OUTCOME_TRANSIENT, "300"},
		{OE_TRANSPORT_BAD_HEADER, 300, NONE, OE_OUTCOME_TRANSIENT, "a final status outranks the rest"},
		{OE_TRANSPORT_OK, 301, NONE, OE_OUTCOME_TRANSIENT, "301"},
		{OE_TRANSPORT_OK, 400, NONE, OE_OUTCOME_TRANSIENT, "400"},
		{OE_TRANSPORT_OK, 404, 5, OE_OUTCOME_TRANSIENT, "404 with Retry-After"},
		{OE_TRANSPORT_OK, 410, NONE, OE_OUTCOME_GONE, "410"},
		{OE_TRANSPORT_IO, 410, NONE, OE_OUTCOME_GONE, "410, body cut"},
		{OE_TRANSPORT_OK, 429, NONE, OE_OUTCOME_PAUSE, "429 alone"},
		{OE_TRANSPORT_OK, 429, 0, OE_OUTCOME_PAUSE, "429 with Retry-After"},
		{OE_TRANSPORT_OK, 503, NONE, OE_OUTCOME_TRANSIENT, "503 alone"},
		{OE_TRANSPORT_OK, 503, 0, OE_OUTCOME_PAUSE, "503 with Retry-After"},
		{OE_TRANSPORT_OK, 500, NONE, OE_OUTCOME_TRANSIENT, "500"},
		{OE_TRANSPORT_OK, 599, NONE, OE_OUTCOME_TRANSIENT, "599"},
		{OE_TRANSPORT_OK, 999, NONE, OE_OUTCOME_TRANSIENT, "999"},
		{OE_TRANSPORT_DNS, 0, NONE, OE_OUTCOME_TRANSIENT, "name resolution"},
		{OE_TRANSPORT_CONNECT, 0, NONE, OE_OUTCOME_TRANSIENT, "connect"},
		{OE_TRANSPORT_TLS, 0, NONE, OE_OUTCOME_TRANSIENT, "TLS"},
		{OE_TRANSPORT_TIMEOUT, 0, NONE, OE_OUTCOME_TRANSIENT, "timeout"},
		{OE_TRANSPORT_IO, 0, NONE, OE_OUTCOME_TRANSIENT, "reset"},
		{OE_TRANSPORT_PROTOCOL, 0, NONE, OE_OUTCOME_TRANSIENT, "not HTTP"},
		{OE_TRANSPORT_LOCAL, 0, NONE, OE_OUTCOME_TRANSIENT, "our side"},
		{OE_TRANSPORT_BLOCKED, 0, NONE, OE_OUTCOME_PERMANENT, "blocked address"},
		{OE_TRANSPORT_BAD_URL, 0, NONE, OE_OUTCOME_PERMANENT, "unusable URL"},
		{OE_TRANSPORT_BAD_HEADER, 0, NONE, OE_OUTCOME_PERMANENT, "unusable header"},
		{OE_TRANSPORT_QUARANTINED, 0, NONE, OE_OUTCOME_PERMANENT, "an event that crashes the worker"},
	};
	size_t		i;
	int			status;
	bool		all = true;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		is_int(oe_outcome_classify(cases[i].transport, cases[i].status,
								   cases[i].retry_after),
			   cases[i].outcome, cases[i].name);
	}
	for (status = 200; status < 300; status++)
		all = all && oe_outcome_classify(OE_TRANSPORT_IO, status, NONE) == OE_OUTCOME_SUCCESS;
	ok(all, "every 2xx is success");
}

static void
test_pause(void)
{
	is_int(oe_pause_delay(NONE), OE_SECONDS(60), "pause without Retry-After");
	is_int(oe_pause_delay(0), OE_SECONDS(1), "pause of zero is raised");
	is_int(oe_pause_delay(OE_SECONDS(7)), OE_SECONDS(7), "pause as asked");
	is_int(oe_pause_delay(INT64_MAX), OE_HOURS(24), "pause is clamped");
}

static int64_t
retry_after(const char *text, int64_t now)
{
	char	   *value = exact_copy(text, strlen(text));
	int64_t		delay = 42;
	bool		found = oe_retry_after_parse(value, strlen(text), now, &delay);

	free(value);
	/* the return value and the delay must tell the same story */
	if (found != (delay >= 0) || delay > OE_RETRY_AFTER_MAX)
		return -99;
	return delay;
}

static void
test_retry_after(void)
{
	/* 1994-11-06 08:49:37 UTC, the example of RFC 9110 */
	int64_t		example = OE_SECONDS(INT64_C(784111777));
	static const char *const garbage[] = {
		"", " ", "-1", "+1", "1.5", "1e3", "0x10", "12 34", "12,", "soon",
		"Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
		"sun, 06 Nov 1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT",
		"Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
		"Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
		"Sun, 29 Feb 1900 08:49:37 GMT", "Sun, 29 Feb 2023 08:49:37 GMT",
		"Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
		"Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
		"Sun, 06 Nob 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMTx",
		"Sun, -6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 19 4 08:49:37 GMT",
	};
	size_t		i;

	is_int(retry_after("0", example), 0, "0 seconds");
	is_int(retry_after("120", example), OE_SECONDS(120), "120 seconds");
	is_int(retry_after(" \t120 \t", example), OE_SECONDS(120), "white space around");
	is_int(retry_after("0000120", example), OE_SECONDS(120), "leading zeros");
	is_int(retry_after("86399", example), OE_SECONDS(86399), "a second less than 24 hours");
	is_int(retry_after("86400", example), OE_HOURS(24), "24 hours");
	is_int(retry_after("86401", example), OE_HOURS(24), "clamped");
	is_int(retry_after("99999999999999999999999999999999999999", example),
		   OE_HOURS(24), "digits without end are clamped");

	is_int(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", example - OE_SECONDS(90)),
		   OE_SECONDS(90), "date ahead");
	is_int(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", example - 1), 1,
		   "date one microsecond ahead");
	is_int(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", example), 0, "date is now");
	is_int(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", example + OE_HOURS(1)), 0,
		   "date in the past");
	is_int(retry_after("Mon, 06 Nov 1994 08:49:37 GMT", example - OE_SECONDS(5)),
		   OE_SECONDS(5), "wrong weekday is forgiven");
	is_int(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 0), OE_HOURS(24),
		   "date far ahead is clamped");
	is_int(retry_after("Fri, 31 Dec 9999 23:59:60 GMT", INT64_MIN), OE_HOURS(24),
		   "last date at the first time");
	is_int(retry_after("Mon, 01 Jan 0001 00:00:00 GMT", INT64_MAX), 0,
		   "first date at the last time");
	is_int(retry_after("Thu, 29 Feb 2024 00:00:10 GMT", OE_SECONDS(INT64_C(1709164800))),
		   OE_SECONDS(10), "leap day");

	for (i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++)
		ok(retry_after(garbage[i], example) == NONE, "garbage: \"%s\"", garbage[i]);

	for (i = 0; i < 29; i++)
	{
		char		text[] = "Sun, 06 Nov 1994 08:49:37 GMT";

		text[i] = '?';
		ok(retry_after(text, example) == NONE, "garbage: \"%s\"", text);
	}
	for (i = 0; i < 12; i++)
	{
		static const char *const month_ends[12] = {
			"32 Jan", "30 Feb", "32 Mar", "31 Apr", "32 May", "31 Jun",
			"32 Jul", "32 Aug", "31 Sep", "32 Oct", "31 Nov", "32 Dec"
		};
		char		text[64];

		snprintf(text, sizeof(text), "Sun, %s 2024 08:49:37 GMT", month_ends[i]);
		ok(retry_after(text, example) == NONE, "garbage: \"%s\"", text);
	}
}

static void
test_retry_after_random(void)
{
	static const char alphabet[] = "0123456789 ,:SunMoDecGMT\t\0\xff-";
	int			wrong = 0;
	int			i;

	/* dates against the C library's calendar */
	for (i = 0; i < 20000; i++)
	{
		time_t		when = (time_t) (random_u64() % UINT64_C(253402300800));
		struct tm	tm;
		char		text[64];

		gmtime_r(&when, &tm);
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		if (retry_after(text, OE_SECONDS(when) - OE_SECONDS(77)) != OE_SECONDS(77))
		{
			printf("# %s\n", text);
			wrong++;
		}
	}
	is_int(wrong, 0, "20000 random dates are read as written");

	wrong = 0;
	for (i = 0; i < 50000; i++)
	{
		char		text[40] = "Sun, 06 Nov 1994 08:49:37 GMT";
		size_t		len = 29;
		size_t		changes = random_below(4);
		char	   *value;
		int64_t		delay = 42;
		bool		found;

		if (random_below(2) == 0)
		{
			len = random_below(sizeof(text));
			changes = len;
		}
		while (changes-- > 0 && len > 0)
			text[random_below(len)] = alphabet[random_below(sizeof(alphabet))];
		value = exact_copy(text, len);
		found = oe_retry_after_parse(value, len, (int64_t) random_u64(), &delay);
		free(value);
		if (found ? (delay < 0 || delay > OE_RETRY_AFTER_MAX) : delay != NONE)
			wrong++;
	}
	is_int(wrong, 0, "50000 mangled values stay within bounds");
}

static void
test_schedule(void)
{
	/* the defaults of create_endpoint() */
	static const int64_t s[] = {
		0, OE_SECONDS(5), OE_MINUTES(5), OE_MINUTES(30), OE_HOURS(2), OE_HOURS(5),
		OE_HOURS(10), OE_HOURS(14), OE_HOURS(20), OE_HOURS(24)
	};
	int			n = sizeof(s) / sizeof(s[0]);
	int64_t		age = OE_HOURS(72);
	int64_t		start = OE_HOURS(1000);
	int64_t		next = -7;
	int64_t		sum = 0;
	int64_t		steps[2] = {0, OE_SECONDS(10)};
	char		why[128];
	int			attempts;
	int			wrong = 0;
	int			i;

	for (i = 0; i < n; i++)
		sum += s[i];
	is_int(sum, OE_SECONDS(5) + OE_MINUTES(35) + OE_HOURS(75), "default schedule's sum");

	ok(oe_retry_next(0, 0, start, s, n, age, 0.99, &next) && next == start,
	   "the first attempt is at once");
	ok(oe_retry_next(1, start, start, s, n, age, 0.0, &next) && next == start + OE_SECONDS(4),
	   "lowest jitter");
	ok(oe_retry_next(1, start, start, s, n, age, 0.5, &next) && next == start + OE_SECONDS(5),
	   "no jitter");
	ok(oe_retry_next(1, start, start, s, n, age, 1.0, &next) && next == start + OE_SECONDS(6),
	   "highest jitter");
	ok(oe_retry_next(1, start, start, s, n, age, NAN, &next) && next == start + OE_SECONDS(4),
	   "a random number that is none");
	ok(oe_retry_next(1, start, start, s, n, age, -3.0, &next) && next == start + OE_SECONDS(4),
	   "a random number below its range");
	ok(oe_retry_next(1, start, start, s, n, age, 1.5, &next) && next == start + OE_SECONDS(6),
	   "a random number above its range");

	/* by default, with no jitter, nine attempts fit into 72 hours */
	next = start;
	for (attempts = 0; oe_retry_next(attempts, start, next, s, n, age, 0.5, &next); attempts++)
		;
	is_int(attempts, 9, "72 hours end the default schedule after nine attempts");
	is_int(next - start, OE_SECONDS(5) + OE_MINUTES(35) + OE_HOURS(51),
		   "an exhausted schedule leaves the time alone");
	next = start;
	for (attempts = 0; oe_retry_next(attempts, start, next, s, n, age, 0.0, &next); attempts++)
		;
	is_int(attempts, 10, "with the lowest jitter all ten fit");
	ok(next - start <= age, "and stay within 72 hours");

	ok(oe_retry_next(1, start, start, steps, 2, OE_SECONDS(10), 0.5, &next),
	   "an attempt exactly at the maximum age is made");
	ok(!oe_retry_next(1, start, start + 1, steps, 2, OE_SECONDS(10), 0.5, &next),
	   "an attempt past the maximum age is not");
	ok(!oe_retry_next(2, start, start, steps, 2, age, 0.5, &next), "used up");
	ok(!oe_retry_next(INT32_MAX, start, start, steps, 2, age, 0.5, &next), "far used up");
	ok(!oe_retry_next(-1, start, start, steps, 2, age, 0.5, &next), "negative attempts");
	ok(!oe_retry_next(0, start, start, steps, 0, age, 0.5, &next), "empty schedule");
	ok(oe_retry_next(0, 0, start, steps, 2, 0, 0.5, &next) && next == start,
	   "the first attempt has no age");

	steps[1] = INT64_MAX;
	ok(oe_retry_next(1, 0, INT64_MAX - 5, steps, 2, INT64_MAX, 0.5, &next) && next == INT64_MAX,
	   "the sum saturates at the end of time");
	ok(!oe_retry_next(1, INT64_MIN, 0, steps, 2, 0, 0.5, &next),
	   "the sum saturates at the start of time");
	steps[1] = -5;
	ok(oe_retry_next(1, start, start, steps, 2, age, 0.5, &next) && next == start,
	   "a negative delay is none");

	for (i = 0; i < 20000; i++)
	{
		int			step = (int) random_below((size_t) n);
		double		r = random_unit();
		int64_t		delay;

		if (!oe_retry_next(step, 0, 0, s, n, INT64_MAX, r, &next))
		{
			wrong++;
			continue;
		}
		delay = s[step];
		if ((double) next < 0.8 * (double) delay - 1 || (double) next > 1.2 * (double) delay)
			wrong++;
	}
	is_int(wrong, 0, "20000 random delays stay within 0.8 and 1.2");

	ok(oe_retry_schedule_check(s, n, age, why, sizeof(why)), "the default schedule is valid");
	ok(oe_retry_schedule_check(s, 1, age, why, sizeof(why)), "so is a single attempt");
	why[0] = '\0';
	ok(!oe_retry_schedule_check(s, 0, age, why, sizeof(why)), "an empty schedule is not");
	is_str(why, "retry schedule must have 1 to 64 entries, not 0", "and says why");
	ok(!oe_retry_schedule_check(s, 65, age, why, sizeof(why)), "nor one too long");
	ok(!oe_retry_schedule_check(steps, 2, age, why, sizeof(why)), "nor a negative delay");
	is_str(why, "retry schedule entry 2 must be between 0 and 30 days", "and says which");
	steps[1] = OE_RETRY_MAX_DELAY;
	ok(oe_retry_schedule_check(steps, 2, 0, why, sizeof(why)), "30 days is valid");
	steps[1]++;
	ok(!oe_retry_schedule_check(steps, 2, 0, NULL, 0), "more is not, without a text too");
	ok(!oe_retry_schedule_check(s, n, -1, why, sizeof(why)), "nor a negative age");
}

int
main(void)
{
	random_seed(15);
	test_classify();
	test_pause();
	test_retry_after();
	test_retry_after_random();
	test_schedule();
	return done_testing();
}
