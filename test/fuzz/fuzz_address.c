/*
 * fuzz_address.c
 *	  Address rules: lists of ranges, and the judgement of an address.
 *
 * Input: 16 bytes of an IPv6 address (the last four are an IPv4 address too),
 * then the text of a list.
 */
#include "fuzz.h"

#include "policy_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>

__extension__ typedef unsigned __int128 u128;

/* a range for the second implementation: IPv4 as its mapped form */
typedef struct Range
{
	bool		v4;
	u128		addr;
	int			bits;
} Range;

static u128
as_number(const uint8_t bytes[16])
{
	u128		n = 0;

	for (int i = 0; i < 16; i++)
		n = n << 8 | bytes[i];
	return n;
}

static u128
read_address(const char *text, bool *v4)
{
	uint8_t		bytes[16] = {0};

	*v4 = strchr(text, ':') == NULL;
	HOLDS(inet_pton(*v4 ? AF_INET : AF_INET6, text, *v4 ? bytes + 12 : bytes) == 1);
	return as_number(bytes);
}

static bool
within(const char *cidr, bool v4, u128 address)
{
	char		text[64];
	char	   *slash;
	bool		range_v4;
	int			bits;
	u128		range;

	snprintf(text, sizeof(text), "%s", cidr);
	slash = strchr(text, '/');
	*slash = '\0';
	range = read_address(text, &range_v4);
	bits = atoi(slash + 1) + (range_v4 ? 96 : 0);
	if (range_v4 != v4)
		return false;
	return bits == 0 || (range ^ address) >> (128 - bits) == 0;
}

/*
 * What must never be reached without being allowed, written as prose has it;
 * and all of IPv6 but 2000::/3 and NAT64.
 */
static bool
special(bool v4, u128 address)
{
	static const char *const ranges[] = {
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
		"172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24",
		"192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
		"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
	};

	if (!v4 && within("64:ff9b::/96", false, address))
		return special(true, address & 0xffffffff);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
	{
		if (within(ranges[i], v4, address))
			return true;
	}
	return !v4 && !within("2000::/3", false, address);
}

static bool
opened(const oe_cidr_list *list, bool v4, u128 address)
{
	if (!v4 && address >> 32 == 0xffff)
	{
		v4 = true;
		address &= 0xffffffff;
	}
	for (int i = 0; i < list->count; i++)
	{
		const oe_cidr *entry = &list->entry[i];
		uint8_t		bytes[16] = {0};
		int			bits = entry->bits + (entry->version == 4 ? 96 : 0);

		if ((entry->version == 4) != v4)
			continue;
		memcpy(v4 ? bytes + 12 : bytes, entry->addr, v4 ? 4 : 16);
		if (bits == 0 || (as_number(bytes) ^ address) >> (128 - bits) == 0)
			return true;
	}
	return false;
}

static void
check_address(bool v4, const uint8_t bytes[16], const oe_cidr_list *list)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	const struct sockaddr *sa = v4 ? (const void *) &in : (const void *) &in6;
	socklen_t	salen = v4 ? sizeof(in) : sizeof(in6);
	u128		address = v4 ? as_number(bytes) & 0xffffffff : as_number(bytes);
	char		text[INET6_ADDRSTRLEN];
	char		why[WHY_SIZE];
	bool		want = !special(v4, address) || opened(list, v4, address);

	memcpy(&in.sin_addr, bytes + 12, 4);
	memcpy(&in6.sin6_addr, bytes, 16);

	why_begin(why);
	HOLDS(oe_address_allowed(sa, salen, list, why, sizeof(why)) == want);
	if (!want)
		why_check(why);

	HOLDS(inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? bytes + 12 : bytes, text, sizeof(text)) != NULL);
	HOLDS(oe_address_text_allowed(text, list, why, sizeof(why)) == want);
	HOLDS(oe_address_allowed(sa, salen, NULL, why, sizeof(why)) == !special(v4, address));

	/* a part of an address is none */
	HOLDS(!oe_address_allowed(sa, salen - 1, list, why, sizeof(why)));
}

/* What was read means what is written again from it. */
static void
check_list(const oe_cidr_list *list)
{
	char		text[OE_CIDR_LIST_MAX * (INET6_ADDRSTRLEN + 6)] = "";
	size_t		used = 0;
	oe_cidr_list again;
	char		why[WHY_SIZE];

	HOLDS(list->count >= 0 && list->count <= OE_CIDR_LIST_MAX);
	for (int i = 0; i < list->count; i++)
	{
		const oe_cidr *entry = &list->entry[i];
		char		address[INET6_ADDRSTRLEN];

		HOLDS(entry->version == 4 || entry->version == 6);
		HOLDS(entry->bits <= (entry->version == 4 ? 32 : 128));
		HOLDS(inet_ntop(entry->version == 4 ? AF_INET : AF_INET6, entry->addr,
						address, sizeof(address)) != NULL);
		used += (size_t) snprintf(text + used, sizeof(text) - used, "%s%s/%d",
								  i > 0 ? "," : "", address, entry->bits);
	}
	HOLDS(oe_cidr_list_parse(text, &again, why, sizeof(why)));
	HOLDS(memcmp(list, &again, sizeof(again)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	oe_cidr_list list;
	char		why[WHY_SIZE];
	char	   *text;

	if (size < 16)
		return 0;
	text = take_string(data + 16, size - 16);
	why_begin(why);
	if (oe_cidr_list_parse(text, &list, why, sizeof(why)))
		check_list(&list);
	else
	{
		why_check(why);
		list.count = 0;
	}
	check_address(true, data, &list);
	check_address(false, data, &list);

	/* text that is perhaps no address at all: never allowed unless it is one */
	if (oe_address_text_allowed(text, NULL, why, sizeof(why)))
	{
		bool		v4;
		u128		address = read_address(text, &v4);

		HOLDS(!special(v4, address));
	}
	free(text);
	return 0;
}
