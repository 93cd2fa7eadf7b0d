/* Unit tests of bgworker/policy_rate.c */
#include "policy_rate.h"

#include "tap.h"

#define SECOND	INT64_C(1000000)
#define START	(INT64_C(800000000) * SECOND)	/* some time in 2025 */

/* How many tokens are there at once? */
static int
drain(oe_rate *rate, const oe_rate_policy *policy, int64_t now)
{
	int64_t		wait;
	int			n = 0;

	while (n < 100000 && oe_rate_take(rate, policy, now, &wait))
		n++;
	return n;
}

static void
test_burst(void)
{
	oe_rate_policy policy = {10.0, 5};
	oe_rate		rate = {0};
	int64_t		wait;

	is_int(drain(&rate, &policy, START), 5, "a bucket that nothing is known of is full");
	ok(!oe_rate_take(&rate, &policy, START, &wait), "then it is empty");
	is_int(wait, START + SECOND / 10, "and tells when it is not");
	is_int(drain(&rate, &policy, wait), 1, "which is true");
	is_int(drain(&rate, &policy, START + 3 * SECOND / 10), 2, "tokens come one by one");
	is_int(drain(&rate, &policy, START + 3600 * SECOND), 5, "no more than a burst is kept");

	policy.burst = 1;
	rate = (oe_rate) {0};
	is_int(drain(&rate, &policy, START), 1, "a burst of one");
	is_int(drain(&rate, &policy, START + 3600 * SECOND), 1, "stays one after idleness");
}

static void
test_no_limit(void)
{
	oe_rate_policy policy = {0.0, 1};
	oe_rate		rate = {0};

	is_int(drain(&rate, &policy, START), 100000, "no rate, no limit");
	policy.per_second = 1.0;
	is_int(drain(&rate, &policy, START), 1, "a limit that is set counts from then on");
}

static void
test_changes(void)
{
	oe_rate_policy policy = {1.0 / 3600.0, 1};
	oe_rate		rate = {0};
	int64_t		wait;

	is_int(drain(&rate, &policy, START), 1, "one an hour");
	policy.per_second = 100.0;
	ok(!oe_rate_take(&rate, &policy, START, &wait), "a rate that is raised");
	is_int(wait, START + SECOND / 100, "counts at once");

	policy.per_second = 1.0;
	(void) drain(&rate, &policy, START);
	ok(!oe_rate_take(&rate, &policy, START - 3600 * SECOND, &wait), "a clock that is set back");
	is_int(wait, START - 3599 * SECOND, "does not stop it");
}

/*
 * One that takes whatever it gets and then sleeps until it is told, and up to
 * "late" longer, is to reach the rate within 1 %.
 */
static void
test_long_run(double per_second, int burst, int64_t late)
{
	oe_rate_policy policy = {per_second, burst};
	oe_rate		rate = {0};
	int64_t		now = START;
	int64_t		wait;
	int64_t		taken = 0;
	double		seconds = 20000.0 / per_second + 20.0;
	double		got;

	while (now < START + (int64_t) (seconds * SECOND))
	{
		while (oe_rate_take(&rate, &policy, now, &wait))
			taken++;
		now = wait + (late > 0 ? (int64_t) random_below((size_t) late + 1) : 0);
	}
	got = (double) (taken - burst) / seconds;
	ok(got > per_second * 0.99 && got < per_second * 1.01,
	   "rate %g, burst %d, up to %d us late: %g", per_second, burst, (int) late, got);
}

/* However it is used, no stretch of time gets more than it may. */
static void
test_bound(double per_second, int burst)
{
	enum
	{
		N = 2000
	};
	static int64_t times[N];
	oe_rate_policy policy = {per_second, burst};
	oe_rate		rate = {0};
	int64_t		now = START;
	int64_t		wait;
	int			n = 0;
	int			bad = 0;
	int			i;
	int			j;

	while (n < N)
	{
		if (oe_rate_take(&rate, &policy, now, &wait))
			times[n++] = now;
		else if (random_below(3) == 0)
			now = wait;
		if (random_below(4) == 0)
			now += (int64_t) random_below((size_t) (3 * SECOND / per_second));
		if (random_below(100) == 0)
			now += (int64_t) random_below((size_t) (30 * SECOND / per_second));
	}
	for (i = 0; i < N; i++)
	{
		for (j = i; j < N; j++)
		{
			double		t = (double) (times[j] - times[i] + OE_RATE_LATENESS) / SECOND;

			if ((double) (j - i + 1) > burst + per_second * t + 0.001)
				bad++;
		}
	}
	is_int(bad, 0, "never more than burst + rate x time");
}

int
main(void)
{
	static const double rates[] = {0.5, 1.0, 3.0, 50.0, 333.0, 1000.0, 10000.0, 30000.0};
	static const int bursts[] = {1, 2, 100};
	size_t		i;
	size_t		j;

	random_seed(7);
	test_burst();
	test_no_limit();
	test_changes();
	for (i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
	{
		for (j = 0; j < sizeof(bursts) / sizeof(bursts[0]); j++)
		{
			test_long_run(rates[i], bursts[j], 0);
			test_long_run(rates[i], bursts[j], 1500);
			test_long_run(rates[i], bursts[j], 15000);
			test_bound(rates[i], bursts[j]);
		}
	}
	return done_testing();
}
