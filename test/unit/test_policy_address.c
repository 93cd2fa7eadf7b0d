/* Unit tests of bgworker/policy_address.c */
#include "policy_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "tap.h"

/* the socket address of a numeric text; its length, 0 if it is none */
static socklen_t
make_sockaddr(const char *text, struct sockaddr_storage *ss)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(&in, 0, sizeof(in));
	memset(&in6, 0, sizeof(in6));
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
	{
		in.sin_family = AF_INET;
		in.sin_port = htons(443);
		memcpy(ss, &in, sizeof(in));
		return sizeof(in);
	}
	if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
	{
		in6.sin6_family = AF_INET6;
		in6.sin6_port = htons(443);
		memcpy(ss, &in6, sizeof(in6));
		return sizeof(in6);
	}
	return 0;
}

/* both faces must agree; -1 if they do not */
static int
allowed(const char *text, const char *allow_text)
{
	struct sockaddr_storage ss;
	socklen_t	len = make_sockaddr(text, &ss);
	oe_cidr_list allow;
	char		why1[256] = "";
	char		why2[256] = "";
	char	   *exact;
	bool		by_sockaddr;
	bool		by_text;

	if (len == 0 || !oe_cidr_list_parse(allow_text, &allow, why1, sizeof(why1)))
	{
		printf("# %s: %s\n", text, why1);
		return -1;
	}
	exact = exact_copy(&ss, len);
	by_sockaddr = oe_address_allowed((struct sockaddr *) (void *) exact, len, &allow,
									 why1, sizeof(why1));
	free(exact);
	by_text = oe_address_text_allowed(text, &allow, why2, sizeof(why2));
	if (by_sockaddr != by_text || strcmp(why1, why2) != 0 ||
		by_sockaddr != (why1[0] == '\0'))
		return -1;
	return by_sockaddr;
}

/* blocked for this reason, which also tells ranges apart that overlap */
static void
is_blocked(const char *text, const char *reason)
{
	char		why[256] = "";
	char		want[256];
	char		in_brackets[64];

	snprintf(in_brackets, sizeof(in_brackets), "(%s)", reason);
	snprintf(want, sizeof(want), "%s is blocked %s", text, in_brackets);
	is_int(allowed(text, ""), 0, want);
	oe_address_text_allowed(text, NULL, why, sizeof(why));
	if (!ok(strstr(why, in_brackets) != NULL, "%s for this reason", text))
		printf("# %s\n", why);
}

static void
test_ranges(void)
{
	/*
	 * The registries once more, by first and last address, written
	 * independently of the implementation.  Neighbours that are themselves
	 * special are NULL.
	 */
	static const struct
	{
		const char *reason;
		const char *before;
		const char *first;
		const char *last;
		const char *after;
	}			ranges[] = {
		{"this network", NULL, "0.0.0.0", "0.255.255.255", "1.0.0.0"},
		{"private use", "9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"},
		{"carrier-grade NAT", "100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"},
		{"loopback", "126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"},
		{"link-local", "169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"},
		{"private use", "172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"},
		{"IETF protocol assignments", "191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"},
		{"documentation", "192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"},
		{"AS112", "192.31.195.255", "192.31.196.0", "192.31.196.255", "192.31.197.0"},
		{"AMT", "192.52.192.255", "192.52.193.0", "192.52.193.255", "192.52.194.0"},
		{"6to4 relay anycast", "192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"},
		{"private use", "192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"},
		{"AS112", "192.175.47.255", "192.175.48.0", "192.175.48.255", "192.175.49.0"},
		{"benchmarking", "198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"},
		{"documentation", "198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"},
		{"documentation", "203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"},
		{"multicast", "223.255.255.255", "224.0.0.0", "239.255.255.255", NULL},
		{"reserved", NULL, "240.0.0.0", "255.255.255.254", NULL},
		{"limited broadcast", NULL, "255.255.255.255", "255.255.255.255", NULL},

		{"unspecified", NULL, "::", "::", NULL},
		{"loopback", NULL, "::1", "::1", NULL},
		{"IPv4-compatible", NULL, "::2", "::ffff:ffff", NULL},
		{"not global unicast", NULL, "::1:0:0", "::fffe:ffff:ffff", NULL},
		{"IPv4-mapped", NULL, "::ffff:0:0", "::ffff:255.255.255.255", NULL},
		{"IPv4-mapped", NULL, "::ffff:8.8.8.8", "::ffff:8.8.8.8", NULL},
		{"IPv4-translated", NULL, "::ffff:0:0:0", "::ffff:0:255.255.255.255", NULL},
		{"local-use NAT64", NULL, "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", NULL},
		{"not global unicast", NULL, "64:ff9b::1:0:0", "64:ff9b:0:ffff:ffff:ffff:ffff:ffff", NULL},
		{"discard-only", NULL, "100::", "100::ffff:ffff:ffff:ffff", NULL},
		{"dummy prefix", NULL, "100:0:0:1::", "100::1:ffff:ffff:ffff:ffff", NULL},
		{"Teredo", NULL, "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
		{"IETF protocol assignments", NULL, "2001:1::1", "2001:1::3", NULL},
		{"benchmarking", NULL, "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", NULL},
		{"IETF protocol assignments", NULL, "2001:10::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
		{"IETF protocol assignments", NULL, "2001:1ff::",
		"2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"},
		{"documentation", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::",
		"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"},
		{"6to4", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2002::",
		"2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"},
		{"AS112", "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8000::",
		"2620:4f:8000:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::"},
		{"documentation", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff::",
		"3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"},
		{"not global unicast", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::",
		"5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
		{"segment routing", NULL, "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
		{"not global unicast", NULL, "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2000::"},
		{"unique local", NULL, "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
		{"link-local", NULL, "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
		{"site-local", NULL, "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
		{"multicast", NULL, "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL},
	};
	static const char *const public_addresses[] = {
		"1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111",
		"2a00:1450:4001:81b::200e", "64:ff9b::8.8.8.8", "64:ff9b::1.0.0.0",
	};
	static const char *const embedded[] = {
		"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::0.0.0.0",
		"64:ff9b::169.254.169.254", "::127.0.0.1", "::ffff:127.0.0.1",
		"::ffff:169.254.169.254", "2002:7f00:1::", "2002:a00:1::1",
		"2001:0:7f00:1::", "::ffff:0:127.0.0.1",
	};
	size_t		i;

	for (i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
	{
		is_blocked(ranges[i].first, ranges[i].reason);
		is_blocked(ranges[i].last, ranges[i].reason);
		if (ranges[i].before)
			is_int(allowed(ranges[i].before, ""), 1, ranges[i].before);
		if (ranges[i].after)
			is_int(allowed(ranges[i].after, ""), 1, ranges[i].after);
	}
	for (i = 0; i < sizeof(public_addresses) / sizeof(public_addresses[0]); i++)
		is_int(allowed(public_addresses[i], ""), 1, public_addresses[i]);
	is_blocked("64:ff9b::10.0.0.1", "NAT64 of a denied IPv4 address");
	for (i = 0; i < sizeof(embedded) / sizeof(embedded[0]); i++)
		is_int(allowed(embedded[i], ""), 0, embedded[i]);
}

static void
test_allow(void)
{
	static const struct
	{
		const char *address;
		const char *allow;
		int			allowed;
	}			cases[] = {
		{"127.0.0.1", "127.0.0.0/8, ::1/128", 1},
		{"::1", "127.0.0.0/8, ::1/128", 1},
		{"::ffff:127.0.0.1", "127.0.0.0/8, ::1/128", 1},
		{"10.0.0.1", "127.0.0.0/8, ::1/128", 0},
		{"::2", "127.0.0.0/8, ::1/128", 0},
		{"::ffff:10.0.0.1", "127.0.0.0/8", 0},
		{"::127.0.0.1", "127.0.0.0/8", 0},
		{"64:ff9b::127.0.0.1", "127.0.0.0/8", 0},
		{"64:ff9b::127.0.0.1", "64:ff9b::/96", 1},
		{"127.0.0.1", "::ffff:127.0.0.0/104", 1},
		{"::ffff:127.0.0.1", "::ffff:127.0.0.0/104", 1},
		{"::ffff:8.8.8.8", "8.8.8.8", 1},
		{"::ffff:8.8.8.9", "8.8.8.8", 0},
		{"::ffff:192.168.0.1", "192.168.0.0/16", 1},
		{"192.168.0.1", "::ffff:0:0/96", 1},
		{"::ffff:192.168.0.1", "::ffff:0:0/96", 1},
		{"10.0.0.1", "::ffff:0:0/95", -1},
		{"192.168.0.1", "::fffe:0:0/95", 0},
		{"10.0.0.1", "::/0", 0},
		{"::ffff:10.0.0.1", "::/0", 0},
		{"fd00::1", "::/0", 1},
		{"fd00::1", "0.0.0.0/0", 0},
		{"10.0.0.1", "0.0.0.0/0", 1},
		{"255.255.255.255", "0.0.0.0/0", 1},
		{"10.1.2.3", "10.1.2.3", 1},
		{"10.1.2.4", "10.1.2.3/32", 0},
		{"10.127.255.255", "10.0.0.0/9", 1},
		{"10.128.0.0", "10.0.0.0/9", 0},
		{"fd00:0:0:ff::", "fd00::/57", 0},
		{"fd00:0:0:7f::", "fd00::/57", 1},
		{"8.8.8.8", "10.0.0.0/8", 1},
	};
	struct sockaddr_storage ss;
	socklen_t	len = make_sockaddr("127.0.0.1", &ss);
	char		why[256] = "";
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char		name[128];

		snprintf(name, sizeof(name), "%s with \"%s\" is %s", cases[i].address,
				 cases[i].allow, cases[i].allowed ? "allowed" : "blocked");
		is_int(allowed(cases[i].address, cases[i].allow), cases[i].allowed, name);
	}

	ok(!oe_address_allowed((struct sockaddr *) &ss, len, NULL, why, sizeof(why)),
	   "no list allows nothing");
	is_str(why, "address 127.0.0.1 is blocked (loopback) and not in order_engine.allow_cidrs",
		   "the text names address, reason and setting");
	ok(!oe_address_allowed((struct sockaddr *) &ss, len, NULL, NULL, 0), "without a text");
}

static void
test_not_addresses(void)
{
	static const char *const texts[] = {
		"", " ", "localhost", "127.1", "0x7f.0.0.1", "2130706433",
		"0177.0.0.1", "127.0.0.1 ", " 8.8.8.8", "8.8.8.8:443", "[::1]",
		"fe80::1%eth0", "8.8.8", "8.8.8.8.8", "8.8.8.256", "::g",
	};
	struct sockaddr_storage ss;
	struct sockaddr_un un;
	oe_cidr_list all;
	char		why[256];
	char	   *misplaced;
	socklen_t	len;
	size_t		i;

	ok(oe_cidr_list_parse("0.0.0.0/0,::/0", &all, why, sizeof(why)), "a list of everything");
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		ok(!oe_address_text_allowed(texts[i], &all, why, sizeof(why)),
		   "\"%s\" is no address", texts[i]);
	ok(!oe_address_text_allowed(NULL, &all, why, sizeof(why)), "nor is NULL");

	memset(&un, 0, sizeof(un));
	un.sun_family = AF_UNIX;
	ok(!oe_address_allowed((struct sockaddr *) &un, sizeof(un), &all, why, sizeof(why)),
	   "a Unix-domain socket");
	is_str(why, "address is neither IPv4 nor IPv6", "and the text");
	ok(!oe_address_allowed(NULL, sizeof(un), &all, why, sizeof(why)), "no address");

	/* every length short of the whole, in a block of just that length */
	len = make_sockaddr("8.8.8.8", &ss);
	for (i = 0; i < len; i++)
	{
		char	   *part = exact_copy(&ss, i);

		if (oe_address_allowed((struct sockaddr *) (void *) part, (socklen_t) i, &all,
							   why, sizeof(why)))
			break;
		free(part);
	}
	is_int((int64_t) i, len, "a short IPv4 address is denied");
	len = make_sockaddr("2606:4700::1", &ss);
	for (i = 0; i < len; i++)
	{
		char	   *part = exact_copy(&ss, i);

		if (oe_address_allowed((struct sockaddr *) (void *) part, (socklen_t) i, &all,
							   why, sizeof(why)))
			break;
		free(part);
	}
	is_int((int64_t) i, len, "a short IPv6 address is denied");

	misplaced = exact_copy("x", 1);
	misplaced = realloc(misplaced, len + 1);
	if (misplaced == NULL)
		abort();
	memcpy(misplaced + 1, &ss, len);
	ok(oe_address_allowed((struct sockaddr *) (void *) (misplaced + 1), len, NULL,
						  why, sizeof(why)), "an unaligned address is read");
	free(misplaced);
}

static void
test_list(void)
{
	static const char *const bad[] = {
		",", "127.0.0.0/8,", ",127.0.0.0/8", "127.0.0.0/8,,::1",
		"127.0.0.0/8 ::1", "127.0.0.1/8", "127.0.0.0/33", "::/129", "::1/127",
		"127.0.0.0/", "127.0.0.0/-1", "127.0.0.0/+8", "127.0.0.0/08",
		"127.0.0.0/ 8", "127.0.0.0 /8", "127.0.0.0/8x", "127.0.0.0/8/8",
		"127.0.0.0/0000000000000008", "10.0.0.0/4294967304", "/8", "localhost",
		"127/8", "0177.0.0.0/8", "::ffff:127.0.0.1/104", "[::1]", "::1%lo",
		"*", "127.0.0.0/8; ::1", "::/1000", "10.0.0.0/4", "0.0.0.0/999",
		"1111111111111111111111111111111111111111111111111111111111111111",
	};
	static const char *const empty[] = {"", " ", "\t\n "};
	oe_cidr_list list;
	char		why[256];
	char		text[OE_CIDR_LIST_MAX * 8 + 16] = "";
	size_t		i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		why[0] = '\0';
		ok(!oe_cidr_list_parse(bad[i], &list, why, sizeof(why)) && why[0] != '\0',
		   "\"%s\" is refused: %s", bad[i], why);
	}
	is_str(why, "entry 1 is not an IP address range", "a long one is not quoted");
	ok(!oe_cidr_list_parse("x", &list, NULL, 0), "refused without a text");
	for (i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		ok(oe_cidr_list_parse(empty[i], &list, why, sizeof(why)) && list.count == 0,
		   "empty list %zu", i);

	ok(oe_cidr_list_parse(" \t127.0.0.0/8\n,::1 , fd00::/8,0.0.0.0/0", &list, why, sizeof(why)) &&
	   list.count == 4, "a list with white space");
	ok(list.entry[0].version == 4 && list.entry[0].bits == 8 && list.entry[0].addr[0] == 127 &&
	   list.entry[1].version == 6 && list.entry[1].bits == 128 && list.entry[1].addr[15] == 1 &&
	   list.entry[2].version == 6 && list.entry[2].bits == 8 && list.entry[2].addr[0] == 0xfd &&
	   list.entry[3].version == 4 && list.entry[3].bits == 0, "is read as written");
	ok(oe_cidr_list_parse("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128", &list, why, sizeof(why)) &&
	   list.count == 1, "the longest entry");

	for (i = 0; i < OE_CIDR_LIST_MAX; i++)
		strcat(text, i == 0 ? "1.1.1.1" : ",1.1.1.1");
	ok(oe_cidr_list_parse(text, &list, why, sizeof(why)) && list.count == OE_CIDR_LIST_MAX,
	   "the longest list");
	strcat(text, ",1.1.1.1");
	ok(!oe_cidr_list_parse(text, &list, why, sizeof(why)), "one more");
	is_str(why, "more than 64 address ranges", "and the text");
}

/* what is accepted means the same when written out and read again */
static void
test_random(void)
{
	static const char *const pieces[] = {
		"127.0.0.0", "10.0.0.0", "::", "fd00::", "::1", "::ffff:", "0.0.0.0",
		"/", "/8", "/0", "/32", "/96", "/128", "/104", ",", ",", ", ", " ",
		"1", "255", ":", ".", "f", "%", "-", "\x01", "\xff",
	};
	int			accepted = 0;
	int			wrong = 0;
	int			i;

	for (i = 0; i < 100000; i++)
	{
		char		text[128] = "";
		char		again_text[OE_CIDR_LIST_MAX * 64] = "";
		oe_cidr_list list;
		oe_cidr_list again;
		char		why[16];
		char	   *exact;
		size_t		n = random_below(9);
		int			k;

		while (n-- > 0)
			strcat(text, pieces[random_below(sizeof(pieces) / sizeof(pieces[0]))]);
		if (text[0] != '\0' && random_below(8) == 0)
			text[random_below(strlen(text))] = (char) (1 + random_below(255));
		exact = exact_copy(text, strlen(text) + 1);
		if (oe_cidr_list_parse(exact, &list, why, sizeof(why)) && list.count > 0)
		{
			accepted++;
			for (k = 0; k < list.count; k++)
			{
				char		address[INET6_ADDRSTRLEN];

				inet_ntop(list.entry[k].version == 4 ? AF_INET : AF_INET6,
						  list.entry[k].addr, address, sizeof(address));
				sprintf(again_text + strlen(again_text), "%s%s/%d", k ? "," : "",
						address, list.entry[k].bits);
			}
			if (!oe_cidr_list_parse(again_text, &again, why, sizeof(why)) ||
				memcmp(&list, &again, sizeof(list)) != 0)
			{
				printf("# \"%s\" became \"%s\"\n", text, again_text);
				wrong++;
			}
		}
		free(exact);
	}
	printf("# %d accepted\n", accepted);
	ok(accepted > 1000, "some random lists are accepted");
	is_int(wrong, 0, "100000 random lists keep their meaning");

	/* a random address in a random opened range, and one bit outside */
	wrong = 0;
	for (i = 0; i < 50000; i++)
	{
		uint8_t		address[16];
		int			size = random_below(2) == 0 ? 4 : 16;
		int			family = size == 4 ? AF_INET : AF_INET6;
		int			bits = (int) random_below((size_t) size * 8 + 1);
		uint8_t		base[16];
		char		text[INET6_ADDRSTRLEN];
		char		range[INET6_ADDRSTRLEN + 8];
		oe_cidr_list list;
		char		why[128];
		int			k;

		for (k = 0; k < size; k++)
			address[k] = (uint8_t) random_u64();
		/* deny ranges both: 10/8 and fc00::/7 */
		address[0] = size == 4 ? 10 : 0xfd;
		if (bits < 8)
			bits = 8;
		memcpy(base, address, sizeof(base));
		for (k = bits; k < size * 8; k++)
			base[k / 8] &= (uint8_t) ~(0x80 >> (k % 8));
		inet_ntop(family, base, text, sizeof(text));
		snprintf(range, sizeof(range), "%s/%d", text, bits);
		inet_ntop(family, address, text, sizeof(text));
		if (!oe_cidr_list_parse(range, &list, why, sizeof(why)) ||
			!oe_address_text_allowed(text, &list, why, sizeof(why)))
			wrong++;
		if (bits > 8)
		{
			k = 8 + (int) random_below((size_t) bits - 8);
			address[k / 8] ^= (uint8_t) (0x80 >> (k % 8));
			inet_ntop(family, address, text, sizeof(text));
			if (oe_address_text_allowed(text, &list, why, sizeof(why)))
				wrong++;
		}
	}
	is_int(wrong, 0, "50000 random ranges hold what they should and nothing else");
}

int
main(void)
{
	random_seed(15);
	test_ranges();
	test_allow();
	test_not_addresses();
	test_list();
	test_random();
	return done_testing();
}
