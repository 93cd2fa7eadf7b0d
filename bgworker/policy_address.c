/*-------------------------------------------------------------------------
 *
 * policy_address.c
 *	  Which network addresses deliveries may connect to.
 *
 * Responsibility: the deny list of special-purpose ranges, the parser of the
 * setting order_engine.allow_cidrs and the judgement of one address.  It
 * judges what is connected to, after name resolution, so DNS answers that
 * change between two look-ups gain nothing.
 *
 * Lifecycle: none; functions of their arguments.
 *
 * Accidents survived: IPv6 forms that carry an IPv4 address, sockaddrs that
 * are short, unaligned or of another family, ranges with host bits set.
 * What is not understood is denied.
 *
 *-------------------------------------------------------------------------
 */
#include "policy_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define ALLOW_SETTING "order_engine.allow_cidrs"

/* longest entry: an IPv6 address in text, slash, three digits */
#define CIDR_TEXT_MAX	(INET6_ADDRSTRLEN + 4)

typedef struct special_range
{
	oe_cidr		range;
	const char *name;
} special_range;

#define V4(a, b, c, d, bits) {4, (bits), {(a), (b), (c), (d)}}
#define V6(a, b, c, d, e, f, bits) \
	{6, (bits), {(a) >> 8, (a) & 255, (b) >> 8, (b) & 255, \
			(c) >> 8, (c) & 255, (d) >> 8, (d) & 255, \
			(e) >> 8, (e) & 255, (f) >> 8, (f) & 255}}

/*
 * The IANA special-purpose address registries for IPv4 and IPv6, the
 * multicast ranges, and the deprecated ranges that stacks still understand.
 * The first match names the reason, so narrower ranges come first.
 */
static const special_range denied_ranges[] = {
	{V4(0, 0, 0, 0, 8), "this network"},
	{V4(10, 0, 0, 0, 8), "private use"},
	{V4(100, 64, 0, 0, 10), "carrier-grade NAT"},
	{V4(127, 0, 0, 0, 8), "loopback"},
	{V4(169, 254, 0, 0, 16), "link-local"},
	{V4(172, 16, 0, 0, 12), "private use"},
	{V4(192, 0, 0, 0, 24), "IETF protocol assignments"},
	{V4(192, 0, 2, 0, 24), "documentation"},
	{V4(192, 31, 196, 0, 24), "AS112"},
	{V4(192, 52, 193, 0, 24), "AMT"},
	{V4(192, 88, 99, 0, 24), "6to4 relay anycast"},
	{V4(192, 168, 0, 0, 16), "private use"},
	{V4(192, 175, 48, 0, 24), "AS112"},
	{V4(198, 18, 0, 0, 15), "benchmarking"},
	{V4(198, 51, 100, 0, 24), "documentation"},
	{V4(203, 0, 113, 0, 24), "documentation"},
	{V4(224, 0, 0, 0, 4), "multicast"},
	{V4(255, 255, 255, 255, 32), "limited broadcast"},
	{V4(240, 0, 0, 0, 4), "reserved"},

	/* ::/128 and ::1/128 differ in their last bits, which V6 leaves out */
	{{6, 128, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}, "loopback"},
	{V6(0, 0, 0, 0, 0, 0, 128), "unspecified"},
	{V6(0, 0, 0, 0, 0, 0, 96), "IPv4-compatible"},
	{V6(0, 0, 0, 0, 0, 0xffff, 96), "IPv4-mapped"},
	{V6(0, 0, 0, 0, 0xffff, 0, 96), "IPv4-translated"},
	{V6(0x0064, 0xff9b, 1, 0, 0, 0, 48), "local-use NAT64"},
	{V6(0x0100, 0, 0, 0, 0, 0, 64), "discard-only"},
	{V6(0x0100, 0, 0, 1, 0, 0, 64), "dummy prefix"},
	{V6(0x2001, 0, 0, 0, 0, 0, 32), "Teredo"},
	{V6(0x2001, 2, 0, 0, 0, 0, 48), "benchmarking"},
	{V6(0x2001, 0, 0, 0, 0, 0, 23), "IETF protocol assignments"},
	{V6(0x2001, 0x0db8, 0, 0, 0, 0, 32), "documentation"},
	{V6(0x2002, 0, 0, 0, 0, 0, 16), "6to4"},
	{V6(0x2620, 0x004f, 0x8000, 0, 0, 0, 48), "AS112"},
	{V6(0x3fff, 0, 0, 0, 0, 0, 20), "documentation"},
	{V6(0x5f00, 0, 0, 0, 0, 0, 16), "segment routing"},
	{V6(0xfc00, 0, 0, 0, 0, 0, 7), "unique local"},
	{V6(0xfe80, 0, 0, 0, 0, 0, 10), "link-local"},
	{V6(0xfec0, 0, 0, 0, 0, 0, 10), "site-local"},
	{V6(0xff00, 0, 0, 0, 0, 0, 8), "multicast"},
};

static const oe_cidr mapped_prefix = V6(0, 0, 0, 0, 0, 0xffff, 96);
static const oe_cidr nat64_prefix = V6(0x0064, 0xff9b, 0, 0, 0, 0, 96);

/* all of IPv6 that is handed out for global unicast */
static const oe_cidr global_unicast = V6(0x2000, 0, 0, 0, 0, 0, 3);

/* a single address is a range with all bits in its prefix */
static bool
range_contains(const oe_cidr *range, const oe_cidr *address)
{
	unsigned int whole = range->bits / 8;
	unsigned int rest = range->bits % 8;
	unsigned int mask;

	if (range->version != address->version || range->bits > address->bits)
		return false;
	if (memcmp(range->addr, address->addr, whole) != 0)
		return false;
	if (rest == 0)
		return true;
	mask = 0xff & (0xff << (8 - rest));
	return (range->addr[whole] & mask) == (address->addr[whole] & mask);
}

/*
 * ::ffff:a.b.c.d/n (n >= 96) as a.b.c.d/(n - 96): a connection to the mapped
 * form goes to the IPv4 address.  False if the range is not mapped.
 */
static bool
unmap(const oe_cidr *range, oe_cidr *v4)
{
	if (!range_contains(&mapped_prefix, range))
		return false;
	memset(v4, 0, sizeof(*v4));
	v4->version = 4;
	v4->bits = (uint8_t) (range->bits - 96);
	memcpy(v4->addr, range->addr + 12, 4);
	return true;
}

static bool
host_bits_are_zero(const oe_cidr *range)
{
	unsigned int size = range->version == 4 ? 4 : 16;
	unsigned int i;

	for (i = 0; i < size; i++)
	{
		unsigned int covered;

		if (range->bits >= (i + 1) * 8)
			continue;
		covered = range->bits > i * 8 ? range->bits - i * 8 : 0;
		if ((range->addr[i] & (0xff >> covered)) != 0)
			return false;
	}
	return true;
}

/* "address" or "address/bits", without white space around */
static bool
parse_cidr(const char *text, oe_cidr *range, char *why, size_t whylen)
{
	char		address[CIDR_TEXT_MAX + 1];
	const char *slash = strchr(text, '/');
	size_t		addrlen = slash ? (size_t) (slash - text) : strlen(text);
	unsigned int maxbits;
	oe_cidr		v4;

	memset(range, 0, sizeof(*range));
	if (addrlen >= sizeof(address))
	{
		snprintf(why, whylen, "\"%s\" is not an IP address range", text);
		return false;
	}
	memcpy(address, text, addrlen);
	address[addrlen] = '\0';

	if (inet_pton(AF_INET, address, range->addr) == 1)
		range->version = 4;
	else if (inet_pton(AF_INET6, address, range->addr) == 1)
		range->version = 6;
	else
	{
		snprintf(why, whylen, "\"%s\" is not an IP address range", text);
		return false;
	}

	maxbits = range->version == 4 ? 32 : 128;
	range->bits = (uint8_t) maxbits;
	if (slash)
	{
		const char *p = slash + 1;
		size_t		digits = strspn(p, "0123456789");
		unsigned int bits = 0;
		size_t		i;

		for (i = 0; i < digits && i < 3; i++)
			bits = bits * 10 + (unsigned int) (p[i] - '0');
		if (digits < 1 || digits > 3 || p[digits] != '\0' || bits > maxbits ||
			(digits > 1 && p[0] == '0'))
		{
			snprintf(why, whylen,
					 "\"%s\" must have a prefix length of 0 to %u", text,
					 maxbits);
			return false;
		}
		range->bits = (uint8_t) bits;
	}
	if (!host_bits_are_zero(range))
	{
		snprintf(why, whylen,
				 "\"%s\" has bits set to the right of its prefix length",
				 text);
		return false;
	}
	if (unmap(range, &v4))
		*range = v4;
	return true;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/*
 * oe_cidr_list_parse
 *
 * Parse a comma-separated list of ranges, such as "127.0.0.0/8, ::1/128"; an
 * address alone stands for itself.  Empty text or white space is an empty
 * list; an empty element is an error.  False leaves *list undefined.
 *
 * IPv4 and IPv6 are apart: "::/0" opens no IPv4 address, and an IPv4 range
 * opens its IPv4-mapped form.
 */
bool
oe_cidr_list_parse(const char *text, oe_cidr_list *list,
				   char *why, size_t whylen)
{
	const char *p = text;

	memset(list, 0, sizeof(*list));
	while (is_space(*p))
		p++;
	if (*p == '\0')
		return true;

	for (;;)
	{
		char		item[CIDR_TEXT_MAX + 1];
		const char *end;
		size_t		len;

		while (is_space(*p))
			p++;
		end = p + strcspn(p, ",");
		len = (size_t) (end - p);
		while (len > 0 && is_space(p[len - 1]))
			len--;

		if (len == 0)
		{
			snprintf(why, whylen, "empty element in list of address ranges");
			return false;
		}
		if (len >= sizeof(item))
		{
			/* not quoted: a cut could fall inside a multibyte character */
			snprintf(why, whylen, "entry %d is not an IP address range",
					 list->count + 1);
			return false;
		}
		memcpy(item, p, len);
		item[len] = '\0';

		if (list->count >= OE_CIDR_LIST_MAX)
		{
			snprintf(why, whylen, "more than %d address ranges",
					 OE_CIDR_LIST_MAX);
			return false;
		}
		if (!parse_cidr(item, &list->entry[list->count], why, whylen))
			return false;
		list->count++;

		if (*end == '\0')
			return true;
		p = end + 1;
	}
}

/* the name of the denied range that holds the address, NULL if none does */
static const char *
find_denied(const oe_cidr *address)
{
	size_t		i;

	/*
	 * The well-known NAT64 prefix is how an IPv6-only network reaches public
	 * IPv4 hosts, so what it embeds decides.
	 */
	if (range_contains(&nat64_prefix, address))
	{
		oe_cidr		v4 = {4, 32, {0}};

		memcpy(v4.addr, address->addr + 12, 4);
		return find_denied(&v4) != NULL ? "NAT64 of a denied IPv4 address" : NULL;
	}

	for (i = 0; i < sizeof(denied_ranges) / sizeof(denied_ranges[0]); i++)
	{
		if (range_contains(&denied_ranges[i].range, address))
			return denied_ranges[i].name;
	}
	if (address->version == 6 && !range_contains(&global_unicast, address))
		return "not global unicast";
	return NULL;
}

static bool
find_allowed(const oe_cidr *address, const oe_cidr_list *allow)
{
	oe_cidr		v4;
	int			i;

	if (allow == NULL)
		return false;
	if (unmap(address, &v4))
		address = &v4;
	for (i = 0; i < allow->count; i++)
	{
		if (range_contains(&allow->entry[i], address))
			return true;
	}
	return false;
}

static bool
judge(const oe_cidr *address, const oe_cidr_list *allow,
	  char *why, size_t whylen)
{
	const char *reason = find_denied(address);
	char		text[INET6_ADDRSTRLEN];

	if (reason == NULL || find_allowed(address, allow))
		return true;

	if (inet_ntop(address->version == 4 ? AF_INET : AF_INET6, address->addr,
				  text, sizeof(text)) == NULL)
		text[0] = '\0';
	snprintf(why, whylen,
			 "address %s is blocked (%s) and not in " ALLOW_SETTING,
			 text, reason);
	return false;
}

/*
 * oe_address_allowed
 *
 * May a delivery connect to this address (salen bytes at sa, any alignment)?
 * allow is the list of opened ranges, NULL for none.
 */
bool
oe_address_allowed(const struct sockaddr *sa, socklen_t salen,
				   const oe_cidr_list *allow, char *why, size_t whylen)
{
	oe_cidr		address;
	sa_family_t family;

	memset(&address, 0, sizeof(address));
	if (sa == NULL ||
		(size_t) salen < offsetof(struct sockaddr, sa_family) + sizeof(family))
	{
		snprintf(why, whylen, "address is unreadable");
		return false;
	}
	memcpy(&family, (const char *) sa + offsetof(struct sockaddr, sa_family),
		   sizeof(family));

	if (family == AF_INET && (size_t) salen >= sizeof(struct sockaddr_in))
	{
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		address.version = 4;
		address.bits = 32;
		memcpy(address.addr, &in.sin_addr, 4);
	}
	else if (family == AF_INET6 &&
			 (size_t) salen >= sizeof(struct sockaddr_in6))
	{
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		address.version = 6;
		address.bits = 128;
		memcpy(address.addr, &in6.sin6_addr, 16);
	}
	else
	{
		snprintf(why, whylen, "address is neither IPv4 nor IPv6");
		return false;
	}
	return judge(&address, allow, why, whylen);
}

/*
 * oe_address_text_allowed
 *
 * The same for a numeric address in text, as libcurl reports a connection's
 * peer.  No brackets, no zone; anything that is not an address is denied.
 */
bool
oe_address_text_allowed(const char *text, const oe_cidr_list *allow,
						char *why, size_t whylen)
{
	oe_cidr		address;

	memset(&address, 0, sizeof(address));
	if (text != NULL && inet_pton(AF_INET, text, address.addr) == 1)
	{
		address.version = 4;
		address.bits = 32;
	}
	else if (text != NULL && inet_pton(AF_INET6, text, address.addr) == 1)
	{
		address.version = 6;
		address.bits = 128;
	}
	else
	{
		snprintf(why, whylen, "address is neither IPv4 nor IPv6");
		return false;
	}
	return judge(&address, allow, why, whylen);
}
