/*
 * fuzz_uuid7.c
 *	  Ids that only grow, whatever the clock does.
 *
 * Input: times of eight bytes each; the random source takes from the same bytes.
 */
#include "fuzz.h"

#include "uuid7.h"

static const uint8_t *noise;
static size_t noise_size;
static size_t noise_at;

static bool
take_noise(void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *) buf)[i] = noise[noise_at++ % noise_size];
	return noise[noise_at % noise_size] != 0xee;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	oe_uuid7_state state = {0};
	uint8_t		last[OE_UUID_BYTES] = {0};

	noise = data;
	noise_size = size;
	noise_at = 0;
	for (size_t at = 0; at + 8 <= size; at += 8)
	{
		oe_uuid7_state before = state;
		uint8_t		uuid[OE_UUID_BYTES];
		char		id[OE_EVENT_ID_SIZE];
		char		want[OE_EVENT_ID_SIZE] = "evt_";

		if (!oe_uuid7_next(&state, take_int64(data + at), take_noise, uuid))
		{
			HOLDS(state.last == before.last);
			continue;
		}
		HOLDS(memcmp(uuid, last, sizeof(uuid)) > 0);
		HOLDS(uuid[6] >> 4 == 7 && uuid[8] >> 6 == 2);
		memcpy(last, uuid, sizeof(last));

		oe_event_id_format(uuid, id);
		for (int i = 0; i < OE_UUID_BYTES; i++)
			sprintf(want + strlen(want), "%02x", uuid[i]);
		HOLDS(strcmp(id, want) == 0);
	}
	return 0;
}
