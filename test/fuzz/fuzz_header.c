/*
 * fuzz_header.c
 *	  Which headers a user may set.
 *
 * Input: headers, "name: value" ended by a byte 0x00 each.
 */
#include "fuzz.h"

#include "policy_header.h"

#include <ctype.h>
#include <strings.h>

static bool
begins(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* as a receiver sees the name that takes "_" for "-" */
static bool
reserved(const char *bytes, size_t len)
{
	static const char *const names[] = {
		"connection", "content-length", "expect", "host", "http2-settings", "keep-alive",
		"te", "trailer", "transfer-encoding", "upgrade", "content-encoding",
		"content-range", "content-type", "traceparent", "tracestate",
	};
	char		name[OE_HEADER_NAME_MAX + 1];

	for (size_t i = 0; i < len; i++)
		name[i] = (char) (bytes[i] == '_' ? '-' : tolower((unsigned char) bytes[i]));
	name[len] = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return begins(name, "proxy-") || begins(name, "ce-") || begins(name, "webhook-");
}

static bool
name_allowed(const char *name, size_t len)
{
	if (len < 1 || len > OE_HEADER_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) name[i];

		if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", c) != NULL)
			return false;
	}
	return !reserved(name, len);
}

static bool
value_allowed(const char *value, size_t len)
{
	if (len < 1 || len > OE_HEADER_VALUE_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (((unsigned char) value[i] < ' ' && value[i] != '\t') || value[i] == 0x7f)
			return false;
	}
	return strchr(" \t", value[0]) == NULL && strchr(" \t", value[len - 1]) == NULL;
}

static void
check_header(oe_header_budget *budget, const uint8_t *data, size_t size)
{
	const uint8_t *colon = memchr(data, ':', size);
	size_t		namelen = colon != NULL ? (size_t) (colon - data) : size;
	size_t		skip = colon == NULL ? 0 : size - namelen >= 2 && colon[1] == ' ' ? 2 : 1;
	size_t		valuelen = size - namelen - skip;
	char	   *name = take_bytes(data, namelen);
	char	   *value = take_bytes(data + namelen + skip, valuelen);
	oe_header_budget before = *budget;
	char		why[WHY_SIZE];
	bool		fits = budget->count < OE_HEADER_COUNT_MAX &&
		budget->bytes + namelen + valuelen + 4 <= OE_HEADER_TOTAL_MAX;
	bool		added;

	why_begin(why);
	HOLDS(oe_header_name_check(name, namelen, why, sizeof(why)) == name_allowed(name, namelen));
	HOLDS(oe_header_value_check(value, valuelen, why, sizeof(why)) ==
		  value_allowed(value, valuelen));
	why_begin(why);
	added = oe_header_add(budget, name, namelen, value, valuelen, why, sizeof(why));
	HOLDS(added == (fits && name_allowed(name, namelen) && value_allowed(value, valuelen)));
	if (added)
		HOLDS(budget->count == before.count + 1 &&
			  budget->bytes == before.bytes + namelen + valuelen + 4);
	else
	{
		why_check(why);
		HOLDS(memcmp(budget, &before, sizeof(before)) == 0);
	}
	free(name);
	free(value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	oe_header_budget budget;

	memset(&budget, 0, sizeof(budget));
	while (size > 0)
	{
		const uint8_t *end = memchr(data, '\0', size);
		size_t		len = end != NULL ? (size_t) (end - data) : size;

		check_header(&budget, data, len);
		data += len;
		size -= len;
		if (size > 0)
		{
			data++;
			size--;
		}
	}
	return 0;
}
