/* Unit tests of bgworker/policy_share.c */
#include "policy_share.h"

#include <limits.h>

#include "tap.h"

#define WORKERS	8
#define PLACES	32
#define START	(INT64_C(800000000) * INT64_C(1000000))

static oe_share shares[WORKERS];
static int64_t now;
static int64_t wait;

static void
fresh(void)
{
	memset(shares, 0, sizeof(shares));
	now = START;
}

static bool
take(int worker, int places)
{
	if (!oe_share_permit(shares, WORKERS, worker, places, now, &wait))
		return false;
	shares[worker].in_flight++;
	return true;
}

static void
test_steps(void)
{
	int			i;

	fresh();
	for (i = 0; i < 4; i++)
		ok(take(0, 4), "one that is alone gets all");
	ok(!take(0, 4) && wait == 0, "then it waits for an end of its own");
	ok(!take(1, 4) && wait == now + OE_SHARE_POLL, "another has to ask again");
	shares[0].in_flight--;
	ok(!take(0, 4), "a place that becomes free is not for who was first to ask");
	ok(take(1, 4), "but for who waited");
	shares[0].in_flight--;
	ok(take(1, 4), "up to its share");
	shares[0].in_flight--;
	ok(take(0, 4), "which the first has, too");

	/* who waited and does not any more */
	fresh();
	(void) (take(0, 2) && take(0, 2));
	ok(!take(1, 2), "one waits");
	shares[0].in_flight--;
	ok(!take(0, 2), "a place is left to it");
	now += OE_SHARE_STILL_WAITING;
	ok(take(0, 2), "but not for ever");

	/* a single place goes round */
	fresh();
	ok(take(0, 1) && !take(1, 1), "a single place");
	now++;
	shares[0].in_flight--;
	ok(!take(0, 1) && take(1, 1), "goes to the other");
	now++;
	shares[1].in_flight--;
	ok(!take(1, 1) && take(0, 1), "and back");

	/* a limit that was lowered */
	fresh();
	shares[0].in_flight = 10;
	ok(!take(0, 4) && wait == 0 && !take(1, 4) && wait != 0, "more in flight than there may be");

	/* a clock that is set back */
	fresh();
	shares[0].in_flight = 1;
	shares[1].asked_at = shares[1].since = now + 1;
	ok(take(0, 2), "who asked in the future does not wait");
}

/*
 * So many workers, each with more to send than it can.  A request takes
 * "duration"; a worker asks when one of its own has ended, and when it was told to.
 * Each is to get its share, and places are not to stay free.
 */
static void
test_long_run(int workers, int places, int64_t duration)
{
	static int64_t ends[WORKERS][PLACES];
	int64_t		ask_at[WORKERS];
	int			delivered[WORKERS] = {0};
	int64_t		used = 0;
	int			ticks = 40000;
	int			least = INT_MAX;
	int			tick;
	int			w;
	int			i;

	fresh();
	memset(ends, 0, sizeof(ends));
	for (w = 0; w < workers; w++)
		ask_at[w] = now;
	for (tick = 0; tick < ticks; tick++)
	{
		now += 500;
		for (w = 0; w < workers; w++)
		{
			bool		ask = ask_at[w] != 0 && now >= ask_at[w];

			for (i = 0; i < PLACES; i++)
			{
				if (ends[w][i] == 0 || now < ends[w][i])
					continue;
				ends[w][i] = 0;
				delivered[w]++;
				shares[w].in_flight--;
				ask = true;
			}
			for (i = 0; i < PLACES && ask; i++)
			{
				if (ends[w][i] != 0)
					continue;
				ask = take(w, places);
				if (ask)
					ends[w][i] = now + duration;
				else
					ask_at[w] = wait;
			}
		}
		for (w = 0; w < workers; w++)
			used += shares[w].in_flight;
	}
	for (w = 0; w < workers; w++)
		least = delivered[w] < least ? delivered[w] : least;

	/* with requests that take no longer than a worker waits, taking turns costs something */
	ok(least > used * 500 / duration / workers / 2 &&
	   used > (int64_t) ticks * places * (duration >= 20000 ? 8 : 1) / 10,
	   "%d workers, %d places, %d ms: one got %d, places used %d %%", workers, places,
	   (int) (duration / 1000), least, (int) (used * 100 / ticks / places));
}

int
main(void)
{
	test_steps();
	test_long_run(1, 1, 1000);
	test_long_run(1, 16, 1000);
	test_long_run(2, 1, 1000);
	test_long_run(2, 1, 100000);
	test_long_run(2, 2, 30000);
	test_long_run(2, 5, 30000);
	test_long_run(2, 16, 1000);
	test_long_run(2, 16, 30000);
	test_long_run(2, 16, 1000000);
	test_long_run(3, 4, 30000);
	test_long_run(8, 4, 50000);
	test_long_run(8, 16, 50000);
	return done_testing();
}
