/*
 * fuzz_retry.c
 *	  Retry-After, and when the next attempt is due.
 *
 * Input: eight bytes that are the time now, eight that are a random number, then
 * the value of the header.  The same bytes are a schedule.
 */
#include "fuzz.h"

#include "policy_retry.h"

#include <time.h>

/* The C library's reading of the same date; false when it is none. */
static bool
read_date(const char *text, size_t len, int64_t *seconds)
{
	static const char *const days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
	static const char *const months[] = {
		"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
	};
	static const char form[] = "aaa, 00 aaa 0000 00:00:00 GMT";
	struct tm	tm = {0};
	struct tm	same;
	time_t		t;
	bool		weekday = false;
	bool		leap_second;

	if (len != strlen(form))
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (form[i] == '0' ? text[i] < '0' || text[i] > '9' : form[i] != 'a' && text[i] != form[i])
			return false;
	}
	for (int i = 0; i < 7; i++)
		weekday |= strncmp(text, days[i], 3) == 0;
	tm.tm_mon = -1;
	for (int i = 0; i < 12; i++)
	{
		if (strncmp(text + 8, months[i], 3) == 0)
			tm.tm_mon = i;
	}
	tm.tm_mday = atoi(text + 5);
	tm.tm_year = atoi(text + 12) - 1900;
	tm.tm_hour = atoi(text + 17);
	tm.tm_min = atoi(text + 20);
	tm.tm_sec = atoi(text + 23);
	if (!weekday || tm.tm_mon < 0 || tm.tm_year < 1 - 1900)
		return false;

	/* a leap second is a second later */
	leap_second = tm.tm_sec == 60;
	if (leap_second)
		tm.tm_sec = 59;
	same = tm;
	t = timegm(&same);
	if (same.tm_mday != tm.tm_mday || same.tm_mon != tm.tm_mon || same.tm_hour != tm.tm_hour ||
		same.tm_min != tm.tm_min || same.tm_sec != tm.tm_sec)
		return false;
	*seconds = (int64_t) t + leap_second;
	return true;
}

static bool
read_retry_after(const char *value, size_t len, int64_t now, int64_t *delay)
{
	char		text[32];
	double		want;
	size_t		digits = 0;
	int64_t		date;

	while (len > 0 && strchr(" \t", value[0]) != NULL && value[0] != '\0')
		value++, len--;
	while (len > 0 && strchr(" \t", value[len - 1]) != NULL && value[len - 1] != '\0')
		len--;
	while (digits < len && value[digits] >= '0' && value[digits] <= '9')
		digits++;
	if (len == 0)
		return false;
	if (digits == len)
	{
		want = 0;
		for (size_t i = 0; i < len; i++)
			want = want * 10 + (value[i] - '0');
		*delay = want > 86400 ? OE_RETRY_AFTER_MAX : (int64_t) want * 1000000;
		return true;
	}
	if (len >= sizeof(text))
		return false;
	memcpy(text, value, len);
	text[len] = '\0';
	if (!read_date(text, len, &date))
		return false;
	{
		__extension__ __int128 exact = (__int128) date * 1000000 - now;

		*delay = exact < 0 ? 0 : exact > OE_RETRY_AFTER_MAX ? OE_RETRY_AFTER_MAX : (int64_t) exact;
	}
	return true;
}

static void
check_retry_after(const uint8_t *data, size_t size, int64_t now)
{
	char	   *value = take_bytes(data, size);
	int64_t		delay = 12345;
	int64_t		want = OE_RETRY_AFTER_NONE;
	bool		read = oe_retry_after_parse(value, size, now, &delay);

	HOLDS(read == read_retry_after(value, size, now, &want));
	HOLDS(delay == want);
	HOLDS(oe_pause_delay(delay) >= OE_PAUSE_MIN && oe_pause_delay(delay) <= OE_RETRY_AFTER_MAX);
	free(value);
}

static void
check_schedule(const uint8_t *data, size_t size, int64_t first, int64_t now)
{
	int64_t		schedule[OE_RETRY_MAX_STEPS] = {0};
	int			nsteps = 0;
	int64_t		max_age;
	char		why[WHY_SIZE];
	bool		good;

	while (nsteps < OE_RETRY_MAX_STEPS && size >= 8)
	{
		schedule[nsteps++] = take_int64(data);
		data += 8;
		size -= 8;
	}
	max_age = nsteps > 0 ? schedule[nsteps - 1] : 0;
	why_begin(why);
	good = oe_retry_schedule_check(schedule, nsteps, max_age, why, sizeof(why));
	if (!good)
		why_check(why);
	else
	{
		HOLDS(nsteps >= 1 && max_age >= 0);
		for (int i = 0; i < nsteps; i++)
			HOLDS(schedule[i] >= 0 && schedule[i] <= OE_RETRY_MAX_DELAY);
	}

	/* whatever the schedule: no overflow, and attempts do not go on without end */
	for (int attempts = 0; attempts <= nsteps + 1 && nsteps > 0; attempts++)
	{
		double		random = (double) (uint8_t) attempts / 7.0 - 0.5;
		int64_t		next = 0;
		bool		again = oe_retry_next(attempts, first, now, schedule, nsteps, max_age,
										  random, &next);

		if (attempts >= nsteps)
			HOLDS(!again);
		if (again && good)
		{
			HOLDS(next >= now);
			HOLDS((double) next - (double) now <= (double) schedule[attempts] * 1.21 + 1024);
		}
	}
}

static void
check_outcome(const uint8_t *data)
{
	oe_transport transport = data[0] % (OE_TRANSPORT_BAD_HEADER + 1);
	int			status = data[1] << 8 | data[2];
	int64_t		retry_after = data[3] & 1 ? OE_RETRY_AFTER_NONE : OE_SECONDS(data[3]);
	oe_outcome	outcome = oe_outcome_classify(transport, status, retry_after);

	HOLDS((outcome == OE_OUTCOME_SUCCESS) == (status >= 200 && status <= 299));
	HOLDS((outcome == OE_OUTCOME_GONE) == (status == 410));
	/* what is never tried again was never sent */
	HOLDS(outcome != OE_OUTCOME_PERMANENT || status < 200);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int64_t		first;
	int64_t		now;

	if (size < 16)
		return 0;
	now = take_int64(data);
	first = take_int64(data + 8);
	check_retry_after(data + 16, size - 16, now);
	check_schedule(data + 16, size - 16, first, now);
	check_outcome(data + 8);
	return 0;
}
