/* Unit tests of bgworker/policy_breaker.c */
#include "policy_breaker.h"

#include <limits.h>

#include "tap.h"

#define SECOND	INT64_C(1000000)
#define START	(INT64_C(800000000) * SECOND)	/* some time in 2025 */

static const oe_breaker_policy defaults = {
	OE_BREAKER_FAILURES, OE_BREAKER_RATIO, OE_BREAKER_MIN_ATTEMPTS, OE_BREAKER_WINDOW,
	OE_BREAKER_OPEN_MIN, OE_BREAKER_OPEN_MAX, OE_BREAKER_SUCCESSES, 1000
};

static oe_breaker breaker;
static int64_t now;

static void
fresh(void)
{
	breaker = (oe_breaker) {0};
	now = START;
}

static bool
permit(int in_flight, bool *probe, int64_t *wait)
{
	return oe_breaker_permit(&breaker, &defaults, now, in_flight, probe, wait);
}

/* An ordinary attempt, without jitter. */
static oe_breaker_change
settle(oe_verdict verdict)
{
	return oe_breaker_settle(&breaker, &defaults, false, verdict, now, 0.5);
}

/* A probe that is to be permitted, without jitter. */
static oe_breaker_change
probe(oe_verdict verdict)
{
	bool		is_probe;
	int64_t		wait;

	if (!permit(0, &is_probe, &wait) || !is_probe)
		return (oe_breaker_change) 99;
	return oe_breaker_settle(&breaker, &defaults, true, verdict, now, 0.5);
}

static void
trip(void)
{
	while (breaker.phase == OE_BREAKER_CLOSED)
		(void) settle(OE_VERDICT_UNREACHABLE);
}

/* Opens it, waits and has the probes succeed: it is in slow start then. */
static void
recover(void)
{
	trip();
	now = breaker.open_until;
	while (breaker.phase != OE_BREAKER_CLOSED)
		(void) probe(OE_VERDICT_GOOD);
}

static void
test_in_a_row(void)
{
	bool		is_probe;
	int64_t		wait;
	int			i;

	fresh();
	ok(permit(1000, &is_probe, &wait) && !is_probe, "closed, it permits everything");
	for (i = 0; i < 4; i++)
		is_int(settle(OE_VERDICT_UNREACHABLE), OE_BREAKER_SAME, "unreachable, not often enough");
	is_int(settle(OE_VERDICT_NEUTRAL), OE_BREAKER_SAME, "what says nothing does not count");
	is_int(settle(OE_VERDICT_UNREACHABLE), OE_BREAKER_OPENED, "five times unreachable opens it");
	is_int(breaker.opens, 1, "once");
	is_int(breaker.open_until, START + 30 * SECOND, "for the first time");
	ok(!permit(0, &is_probe, &wait), "open, it permits nothing");
	is_int(wait, breaker.open_until, "until then");

	fresh();
	for (i = 0; i < 4; i++)
		(void) settle(OE_VERDICT_UNREACHABLE);
	(void) settle(OE_VERDICT_BAD);
	for (i = 0; i < 4; i++)
		(void) settle(OE_VERDICT_UNREACHABLE);
	is_int(breaker.phase, OE_BREAKER_CLOSED, "an answer, even a bad one, starts the count anew");
	is_int(settle(OE_VERDICT_BAD), OE_BREAKER_OPENED, "but ten failures of ten are a ratio");
}

static void
test_ratio(void)
{
	int			i;

	fresh();
	for (i = 0; i < 9; i++)
		is_int(settle(OE_VERDICT_BAD), OE_BREAKER_SAME, "fewer than ten attempts are too few to judge");
	is_int(settle(OE_VERDICT_GOOD), OE_BREAKER_SAME, "a success is no reason to open");
	is_int(settle(OE_VERDICT_BAD), OE_BREAKER_OPENED, "10 of 11 failed");

	fresh();
	for (i = 0; i < 100; i++)
	{
		(void) settle(OE_VERDICT_GOOD);
		(void) settle(OE_VERDICT_BAD);
		(void) settle(OE_VERDICT_UNREACHABLE);
	}
	is_int(breaker.phase, OE_BREAKER_CLOSED, "2 of 3 is less than 70 %");
	for (i = 0; i < 29; i++)
		(void) settle(OE_VERDICT_NEUTRAL);
	is_int(breaker.phase, OE_BREAKER_CLOSED, "what says nothing is no attempt");
	for (i = 0; breaker.phase == OE_BREAKER_CLOSED; i++)
		(void) settle(OE_VERDICT_BAD);
	is_int(i, 34, "it opens as soon as 70 % failed");

	/* a failure every seven seconds: never ten in a minute */
	fresh();
	for (i = 0; i < 1000; i++)
	{
		now += 7 * SECOND;
		(void) settle(OE_VERDICT_BAD);
	}
	is_int(breaker.phase, OE_BREAKER_CLOSED, "what is older than the window does not count");

	fresh();
	for (i = 0; i < 9; i++)
	{
		now += 5 * SECOND;
		(void) settle(OE_VERDICT_BAD);
	}
	now += 4 * SECOND;
	is_int(settle(OE_VERDICT_BAD), OE_BREAKER_OPENED, "what is not does");

	/* a long time with only successes is forgotten in the end */
	fresh();
	for (i = 0; i < 100000; i++)
		(void) settle(OE_VERDICT_GOOD);
	now += 61 * SECOND;
	for (i = 0; breaker.phase == OE_BREAKER_CLOSED && i < 100; i++)
		(void) settle(OE_VERDICT_BAD);
	is_int(i, 10, "a good hour ago does not help");
}

static void
test_open_time(void)
{
	oe_breaker_policy policy = defaults;
	int64_t		expected = 30 * SECOND;
	int			i;
	bool		is_probe;
	int64_t		wait;

	fresh();
	trip();
	for (i = 0; i < 12; i++)
	{
		ok(breaker.open_until - now == expected, "open for %d s", (int) (expected / SECOND));
		now = breaker.open_until;
		is_int(probe(OE_VERDICT_UNREACHABLE), OE_BREAKER_OPENED, "a failed probe opens it again");
		expected = expected * 2 < 3600 * SECOND ? expected * 2 : 3600 * SECOND;
	}
	breaker.opens = INT_MAX;
	now = breaker.open_until;
	(void) probe(OE_VERDICT_BAD);
	is_int(breaker.open_until - now, 3600 * SECOND, "and so for ever");
	is_int(breaker.opens, INT_MAX, "without an overflow");

	fresh();
	for (i = 0; i < 1000; i++)
	{
		double		random = i == 0 ? 0.0 : i == 1 ? 1.0 - 1e-16 : random_unit();

		breaker = (oe_breaker) {.in_a_row = 4};
		(void) oe_breaker_settle(&breaker, &defaults, false, OE_VERDICT_UNREACHABLE, now, random);
		if (breaker.open_until - now < 24 * SECOND || breaker.open_until - now > 36 * SECOND)
			break;
	}
	is_int(i, 1000, "with jitter it is 0.8 to 1.2 of that");

	/* an hour is not waited when the policy was changed to a minute at most */
	fresh();
	breaker.opens = 20;
	breaker.in_a_row = 4;
	(void) settle(OE_VERDICT_UNREACHABLE);
	policy.open_max = 60 * SECOND;
	ok(!oe_breaker_permit(&breaker, &policy, now, 0, &is_probe, &wait), "a policy that changes");
	is_int(wait, now + 72 * SECOND, "counts at once");

	fresh();
	trip();
	now -= 86400 * SECOND;
	(void) permit(0, &is_probe, &wait);
	ok(wait <= now + 4320 * SECOND, "a clock that is set back does not leave it open for ever");

	policy.open_min = INT64_MAX / 8;
	policy.open_max = INT64_MAX / 4;
	fresh();
	breaker.opens = 100;
	breaker.in_a_row = 4;
	(void) oe_breaker_settle(&breaker, &policy, false, OE_VERDICT_UNREACHABLE, now, 1.0);
	ok(breaker.open_until > now, "no overflow with the longest times");
}

static void
test_probes(void)
{
	bool		is_probe;
	int64_t		wait;

	fresh();
	trip();
	now = breaker.open_until - 1;
	ok(!permit(0, &is_probe, &wait), "no probe too early");
	now++;
	ok(permit(10, &is_probe, &wait) && is_probe, "then one, whatever is still under way");
	ok(!permit(10, &is_probe, &wait), "one at a time");
	is_int(wait, 0, "another when it has ended");

	is_int(settle(OE_VERDICT_GOOD), OE_BREAKER_SAME, "an old request that succeeds is no probe");
	is_int(settle(OE_VERDICT_UNREACHABLE), OE_BREAKER_SAME, "nor one that fails");
	ok(breaker.probing && breaker.in_a_row == 0, "the probe is still under way");

	is_int(oe_breaker_settle(&breaker, &defaults, true, OE_VERDICT_NEUTRAL, now, 0.5),
		   OE_BREAKER_SAME, "a probe that says nothing");
	is_int(breaker.phase, OE_BREAKER_HALF_OPEN, "changes nothing");
	is_int(probe(OE_VERDICT_GOOD), OE_BREAKER_SAME, "the next may go at once");
	is_int(probe(OE_VERDICT_NEUTRAL), OE_BREAKER_SAME, "one that says nothing");
	is_int(probe(OE_VERDICT_GOOD), OE_BREAKER_SAME, "does not end the row");
	is_int(probe(OE_VERDICT_GOOD), OE_BREAKER_RECOVERED, "three successes close it");
	is_int(breaker.phase, OE_BREAKER_CLOSED, "closed");
	is_int(breaker.opens, 1, "not yet for good");

	fresh();
	trip();
	now = breaker.open_until;
	(void) probe(OE_VERDICT_GOOD);
	(void) probe(OE_VERDICT_GOOD);
	is_int(probe(OE_VERDICT_BAD), OE_BREAKER_OPENED, "one failure opens it again");
	now = breaker.open_until;
	(void) probe(OE_VERDICT_GOOD);
	(void) probe(OE_VERDICT_GOOD);
	is_int(breaker.phase, OE_BREAKER_HALF_OPEN, "and the successes before do not count");

	fresh();
	trip();
	now = breaker.open_until;
	ok(permit(0, &is_probe, &wait) && is_probe, "a probe");
	oe_breaker_return(&breaker, false);
	ok(!permit(0, &is_probe, &wait), "that is not given back with another request");
	oe_breaker_return(&breaker, true);
	ok(permit(0, &is_probe, &wait) && is_probe, "but by itself");

	/* what is under way while it opens */
	fresh();
	trip();
	wait = breaker.open_until;
	now += SECOND;
	is_int(settle(OE_VERDICT_UNREACHABLE), OE_BREAKER_SAME, "an old request that fails");
	is_int(settle(OE_VERDICT_GOOD), OE_BREAKER_SAME, "or succeeds while it is open");
	is_int(breaker.open_until, wait, "does not extend the time");
	is_int(breaker.opens, 1, "nor is it another time");
	is_int(oe_breaker_settle(&breaker, &defaults, true, OE_VERDICT_GOOD, now, 0.5),
		   OE_BREAKER_SAME, "an old probe is none either");
}

/* In slow start: after how many successes is the outage of such an endpoint forgotten? */
static int
successes_to_forget(int max_in_flight)
{
	oe_breaker_policy policy = defaults;
	int			n;

	policy.max_in_flight = max_in_flight;
	fresh();
	recover();
	for (n = 0; breaker.opens != 0; n++)
		(void) oe_breaker_settle(&breaker, &policy, false, OE_VERDICT_GOOD, now, 0.5);
	return n;
}

static void
test_slow_start(void)
{
	bool		is_probe;
	int64_t		wait;
	int			in_flight = 0;
	int			rounds = 0;
	int			i;

	fresh();
	recover();
	ok(permit(0, &is_probe, &wait) && !is_probe, "after that it is no probe");
	ok(permit(1, &is_probe, &wait), "two at once");
	ok(!permit(2, &is_probe, &wait), "but no more");
	is_int(wait, 0, "until one has ended");
	(void) settle(OE_VERDICT_NEUTRAL);
	ok(!permit(2, &is_probe, &wait), "what says nothing raises nothing");

	/* all that may is sent, then all of it succeeds */
	while (breaker.ramp != 0 && rounds < 100)
	{
		while (in_flight < 1000 && permit(in_flight, &is_probe, &wait))
			in_flight++;
		for (; in_flight > 0; in_flight--)
			(void) settle(OE_VERDICT_GOOD);
		rounds++;
	}
	is_int(rounds, 7, "it doubles with each round");
	is_int(breaker.opens, 0, "and then the outage is forgotten");
	ok(permit(100000, &is_probe, &wait), "without a limit");

	fresh();
	recover();
	for (i = 0; i < 100; i++)
		(void) settle(OE_VERDICT_GOOD);
	is_int(settle(OE_VERDICT_BAD), OE_BREAKER_SAME, "one bad answer in slow start may be an event's fault");
	is_int(settle(OE_VERDICT_UNREACHABLE), OE_BREAKER_OPENED, "unreachable in slow start opens it at once");
	is_int(breaker.opens, 2, "again");
	is_int(breaker.open_until - now, 60 * SECOND, "for longer");

	fresh();
	recover();
	for (i = 0; breaker.phase == OE_BREAKER_CLOSED && i < 100; i++)
		(void) settle(OE_VERDICT_BAD);
	is_int(i, 10, "bad answers open it by their ratio, in slow start, too");
	is_int(breaker.opens, 2, "again");

	/* an endpoint that may have but few is done with it sooner */
	is_int(successes_to_forget(1), 6, "slow start of one at a time");
	is_int(successes_to_forget(8), 6, "of eight at a time");
	is_int(successes_to_forget(16), 14, "of sixteen");
	is_int(successes_to_forget(100000), 254, "of very many");
}

static void
test_restore(void)
{
	bool		is_probe;
	int64_t		wait;

	fresh();
	oe_breaker_restore(&breaker, 0, 0);
	ok(permit(1000, &is_probe, &wait) && !is_probe, "restored as closed");
	oe_breaker_restore(&breaker, 3, 0);
	ok(permit(1, &is_probe, &wait) && !permit(2, &is_probe, &wait), "restored in slow start");
	oe_breaker_restore(&breaker, 3, now + SECOND);
	ok(!permit(0, &is_probe, &wait) && wait == now + SECOND, "restored as open");
	oe_breaker_restore(&breaker, 3, now);
	ok(permit(0, &is_probe, &wait) && is_probe, "restored as half open");
	(void) oe_breaker_settle(&breaker, &defaults, true, OE_VERDICT_BAD, now, 0.5);
	is_int(breaker.opens, 4, "with the number of times");
}

/* Whatever happens, in whatever order: what must always hold. */
static void
test_invariants(void)
{
	int			in_flight = 0;
	int			probes = 0;
	int			bad = 0;
	int			i;

	fresh();
	for (i = 0; i < 200000; i++)
	{
		bool		is_probe;
		int64_t		wait;
		int			failing = (i / 5000) % 2;

		now += (int64_t) random_below(20000000);
		if (random_below(2) == 0)
		{
			if (permit(in_flight, &is_probe, &wait))
			{
				if (is_probe)
					probes++;
				else
				{
					in_flight++;
					bad += breaker.phase != OE_BREAKER_CLOSED;
				}
			}
			else
				bad += wait == 0 && in_flight + probes == 0;
		}
		else if (in_flight + probes > 0)
		{
			bool		was_probe = probes > 0;
			oe_verdict	verdict = (oe_verdict) (failing ? random_below(4) : 3 * random_below(2));

			(void) oe_breaker_settle(&breaker, &defaults, was_probe, verdict, now, random_unit());
			if (was_probe)
				probes--;
			else
				in_flight--;
		}
		bad += probes > 1;
		bad += breaker.probing != (probes == 1);
		bad += breaker.opens == 0 && breaker.phase != OE_BREAKER_CLOSED;
		bad += breaker.phase == OE_BREAKER_OPEN && breaker.open_until > now + 4321 * SECOND;
	}
	is_int(bad, 0, "whatever happens");
}

int
main(void)
{
	random_seed(11);
	test_in_a_row();
	test_ratio();
	test_open_time();
	test_probes();
	test_slow_start();
	test_restore();
	test_invariants();
	return done_testing();
}
