/* Unit tests of src/uuid7.c */
#include "uuid7.h"

#include "tap.h"

static uint8_t source_bytes[8];
static bool source_works = true;
static size_t source_asked;

static bool
fixed_source(void *buf, size_t len)
{
	source_asked = len;
	if (!source_works || len > sizeof(source_bytes))
		return false;
	memcpy(buf, source_bytes, len);
	return true;
}

static bool
random_source(void *buf, size_t len)
{
	uint8_t    *p = buf;

	while (len-- > 0)
		*p++ = (uint8_t) random_u64();
	return true;
}

static void
test_layout(void)
{
	oe_uuid7_state state = {0};
	uint8_t		uuid[OE_UUID_BYTES];
	char		text[OE_EVENT_ID_SIZE];
	int64_t		rfc_usec = INT64_C(0x017f22e279b0) * 1000 + 797;

	/* the example of RFC 9562 A.6: fraction 0xcc3 is the fourth of its tie */
	memcpy(source_bytes, "\x18\xc4\xdc\x0c\x0c\x07\x39\x8f", 8);
	ok(oe_uuid7_next(&state, rfc_usec, fixed_source, uuid), "an id");
	oe_event_id_format(uuid, text);
	is_str(text, "evt_017f22e279b07cc098c4dc0c0c07398f", "time, fraction, version, variant");
	ok(oe_uuid7_next(&state, rfc_usec, fixed_source, uuid) &&
	   oe_uuid7_next(&state, rfc_usec, fixed_source, uuid) &&
	   oe_uuid7_next(&state, rfc_usec, fixed_source, uuid), "three more at the same time");
	oe_event_id_format(uuid, text);
	is_str(text, "evt_017f22e279b07cc398c4dc0c0c07398f", "the example of RFC 9562");
	is_int((int64_t) source_asked, 8, "eight random bytes are asked for");

	memset(source_bytes, 0xff, 8);
	memset(&state, 0, sizeof(state));
	ok(oe_uuid7_next(&state, rfc_usec, fixed_source, uuid) && uuid[8] == 0xbf && uuid[15] == 0xff,
	   "variant with all random bits set");
	memset(source_bytes, 0, 8);
	ok(oe_uuid7_next(&state, rfc_usec, fixed_source, uuid) && uuid[8] == 0x80 && uuid[15] == 0,
	   "variant with none");
}

static void
test_accidents(void)
{
	oe_uuid7_state state = {0};
	oe_uuid7_state before;
	uint8_t		uuid[OE_UUID_BYTES];
	char		text[OE_EVENT_ID_SIZE];

	memset(source_bytes, 0, 8);
	ok(oe_uuid7_next(&state, INT64_MIN, fixed_source, uuid), "a time before 1970");
	oe_event_id_format(uuid, text);
	is_str(text, "evt_00000000000070018000000000000000", "counts from zero");

	memset(&state, 0, sizeof(state));
	ok(oe_uuid7_next(&state, 1999, fixed_source, uuid), "the last microsecond of 1 ms");
	oe_event_id_format(uuid, text);
	is_str(text, "evt_0000000000017ffb8000000000000000", "has fraction 0xffb");
	ok(oe_uuid7_next(&state, 1999, fixed_source, uuid) &&
	   oe_uuid7_next(&state, 1999, fixed_source, uuid) &&
	   oe_uuid7_next(&state, 1999, fixed_source, uuid) &&
	   oe_uuid7_next(&state, 1999, fixed_source, uuid) &&
	   oe_uuid7_next(&state, 1999, fixed_source, uuid), "five more");
	oe_event_id_format(uuid, text);
	is_str(text, "evt_00000000000270008000000000000000", "carry into the milliseconds");

	before = state;
	source_works = false;
	ok(!oe_uuid7_next(&state, 5000000, fixed_source, uuid), "a random source that fails");
	ok(state.last == before.last, "leaves the state alone");
	source_works = true;

	memset(&before, 0, sizeof(before));
	ok(oe_uuid7_next(&before, ((INT64_C(1) << 48) - 1) * 1000, fixed_source, uuid),
	   "the last millisecond");
	oe_event_id_format(uuid, text);
	is_str(text, "evt_ffffffffffff70008000000000000000", "still has a fraction");

	ok(oe_uuid7_next(&state, INT64_MAX, fixed_source, uuid), "the end of time");
	oe_event_id_format(uuid, text);
	is_str(text, "evt_ffffffffffff7fff8000000000000000", "is the highest id");
	ok(!oe_uuid7_next(&state, INT64_MAX, fixed_source, uuid), "after which none comes");
	ok(!oe_uuid7_next(&state, 0, fixed_source, uuid), "also not when the clock steps back");
}

static void
test_order(void)
{
	oe_uuid7_state state = {0};
	uint8_t		last[OE_UUID_BYTES] = {0};
	uint8_t		uuid[OE_UUID_BYTES];
	int64_t		now = INT64_C(1700000000000000);
	int			wrong = 0;
	int			i;

	for (i = 0; i < 200000; i++)
	{
		switch (random_below(8))
		{
			case 0:
				now -= (int64_t) random_below(3600000000u);
				break;
			case 1:
				now += (int64_t) random_below(3600000000u);
				break;
			case 2:
				now++;
				break;
			default:
				break;			/* a tie */
		}
		if (!oe_uuid7_next(&state, now, random_source, uuid) ||
			memcmp(last, uuid, OE_UUID_BYTES) >= 0 ||
			(uuid[6] & 0xf0) != 0x70 || (uuid[8] & 0xc0) != 0x80)
			wrong++;
		memcpy(last, uuid, OE_UUID_BYTES);
	}
	is_int(wrong, 0, "200000 ids under a wild clock increase strictly");
}

int
main(void)
{
	random_seed(15);
	test_layout();
	test_accidents();
	test_order();
	return done_testing();
}
