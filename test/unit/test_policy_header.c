/* Unit tests of bgworker/policy_header.c */
#include "policy_header.h"

#include "tap.h"

static bool
name_ok(const char *name)
{
	char	   *copy = exact_copy(name, strlen(name));
	char		why[256];
	bool		result = oe_header_name_check(copy, strlen(name), why, sizeof(why));

	free(copy);
	return result;
}

static bool
value_ok(const char *value)
{
	char	   *copy = exact_copy(value, strlen(value));
	char		why[256];
	bool		result = oe_header_value_check(copy, strlen(value), why, sizeof(why));

	free(copy);
	return result;
}

static void
test_names(void)
{
	static const char *const good[] = {
		"Authorization", "authorization", "X-Api-Key", "x", "Cookie",
		"User-Agent", "Accept", "X!#$%&'*+-.^_`|~9", "Hostess", "X-Host",
		"Webhook", "webhooks-x", "Tea", "Proxy", "Contents", "X-Expect",
		"cell-id", "x-webhook-id", "Most", "He", "Ze-x",
	};
	static const char *const bad[] = {
		"", "Host", "HOST", "hOsT", "Content-Length", "content-length",
		"Transfer-Encoding", "Connection", "Expect", "Content-Type",
		"Content-Encoding", "Content-Range", "Trailer", "TE", "te", "Upgrade",
		"Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "proxy-x",
		"HTTP2-Settings", "webhook-id", "Webhook-Signature",
		"WEBHOOK-TIMESTAMP", "webhook-", "webhook_id", "Content_Length",
		"transfer_Encoding", "traceparent", "TraceState", "ce-id", "CE_type",
		"a b", "a:", ":authority", "a\r", "a\nb", "a\tb", " a", "a ", "a(b)",
		"a,b", "a/b", "a;b", "a=b", "a@b", "a[b]", "a\\b", "a{b}", "a\"b",
		"\x7f", "\x80", "na\xc3\xafve",
	};
	char		longest[OE_HEADER_NAME_MAX + 1];
	char		why[256];
	bool		right = true;
	size_t		i;
	int			c;

	for (c = 0; c < 256; c++)
	{
		char		byte = (char) c;
		bool		want = c != 0 &&
		strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~", c) != NULL;

		right = right && oe_header_name_check(&byte, 1, why, sizeof(why)) == want;
	}
	ok(right, "every byte of a name is judged as the rule says");

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(name_ok(good[i]), "name %s is allowed", good[i]);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!name_ok(bad[i]), "bad name %zu is not", i);
	ok(!oe_header_name_check("X\0Y", 3, why, sizeof(why)), "a name with NUL is not");
	is_str(why, "header name has byte 0x00, which is not allowed in a name", "and says so");
	ok(!oe_header_name_check("Proxy-Foo", 9, why, sizeof(why)), "a name by prefix is not");
	is_str(why, "header \"Proxy-Foo\" cannot be set (rule \"proxy-*\")", "and names the rule");

	memset(longest, 'x', sizeof(longest));
	ok(oe_header_name_check(longest, OE_HEADER_NAME_MAX, why, sizeof(why)), "longest name");
	ok(!oe_header_name_check(longest, OE_HEADER_NAME_MAX + 1, NULL, 0), "one byte more");
}

static void
test_values(void)
{
	char		longest[OE_HEADER_VALUE_MAX + 1];
	char		why[256];
	bool		right = true;
	int			c;

	ok(value_ok("Bearer abc"), "a plain value");
	ok(value_ok("a\tb"), "a tab inside");
	ok(value_ok("gr\xc3\xbc\xc3\x9f"), "bytes above 0x7f");
	ok(value_ok("x"), "one byte");
	ok(!value_ok(""), "an empty value");
	ok(!value_ok(" x"), "space before");
	ok(!value_ok("x\t"), "tab behind");
	ok(!value_ok(" "), "only a space");
	ok(!value_ok("a\r\nHost: evil"), "an injected header");
	ok(!value_ok("a\nb"), "a bare line feed");
	ok(!value_ok("a\rb"), "a bare carriage return");
	ok(!oe_header_value_check("secret\0x", 8, why, sizeof(why)), "NUL");
	is_str(why, "header value has control byte 0x00", "the text does not hold the value");

	for (c = 0; c < 256; c++)
	{
		char		value[3] = {'a', (char) c, 'b'};
		bool		want = c == '\t' || (c >= 0x20 && c != 0x7f);

		right = right && oe_header_value_check(value, 3, why, sizeof(why)) == want;
	}
	ok(right, "every byte is judged as the rule says");

	memset(longest, 'x', sizeof(longest));
	ok(oe_header_value_check(longest, OE_HEADER_VALUE_MAX, why, sizeof(why)), "longest value");
	ok(!oe_header_value_check(longest, OE_HEADER_VALUE_MAX + 1, NULL, 0), "one byte more");
}

static void
test_budget(void)
{
	oe_header_budget budget = {0, 0};
	char		value[OE_HEADER_VALUE_MAX];
	char		why[256];
	bool		all = true;
	int			i;

	for (i = 0; i < OE_HEADER_COUNT_MAX; i++)
		all = all && oe_header_add(&budget, "x", 1, "y", 1, why, sizeof(why));
	ok(all, "as many headers as allowed");
	is_int((int64_t) budget.bytes, 6 * OE_HEADER_COUNT_MAX, "their bytes on the wire");
	ok(!oe_header_add(&budget, "x", 1, "y", 1, why, sizeof(why)), "one more");
	is_str(why, "more than 32 headers", "and says so");
	is_int(budget.count, OE_HEADER_COUNT_MAX, "a refused header is not counted");

	memset(&budget, 0, sizeof(budget));
	memset(value, 'v', sizeof(value));
	ok(oe_header_add(&budget, "a", 1, value, 4091, why, sizeof(why)) &&
	   oe_header_add(&budget, "b", 1, value, 4091, why, sizeof(why)) &&
	   budget.bytes == OE_HEADER_TOTAL_MAX, "as many bytes as allowed");
	ok(!oe_header_add(&budget, "c", 1, "v", 1, why, sizeof(why)), "one header more");
	is_str(why, "headers have more than 8192 bytes in all", "and says so");

	memset(&budget, 0, sizeof(budget));
	ok(!oe_header_add(&budget, "Host", 4, "v", 1, why, sizeof(why)) &&
	   !oe_header_add(&budget, "x", 1, "\n", 1, why, sizeof(why)) &&
	   budget.count == 0 && budget.bytes == 0, "names and values are checked first");
}

/* accepted bytes can be written between CR LFs and stay one header */
static void
test_random(void)
{
	static const char alphabet[] = "ab-_:;, \t\r\n\0\x7f\x80\xffHOSThost";
	int			wrong = 0;
	int			accepted = 0;
	int			i;

	for (i = 0; i < 200000; i++)
	{
		char		bytes[12];
		size_t		len = random_below(sizeof(bytes));
		char	   *copy;
		char		why[16];
		size_t		k;

		for (k = 0; k < len; k++)
			bytes[k] = random_below(4) == 0 ? (char) random_u64() :
				alphabet[random_below(sizeof(alphabet))];
		copy = exact_copy(bytes, len);
		if (oe_header_name_check(copy, len, why, sizeof(why)))
		{
			accepted++;
			for (k = 0; k < len; k++)
			{
				if (bytes[k] <= ' ' || bytes[k] > '~' || bytes[k] == ':')
					wrong++;
			}
			if (len == 4 && strncasecmp(bytes, "host", 4) == 0)
				wrong++;
		}
		if (oe_header_value_check(copy, len, why, sizeof(why)))
		{
			accepted++;
			if (memchr(bytes, '\r', len) || memchr(bytes, '\n', len) ||
				memchr(bytes, '\0', len))
				wrong++;
		}
		free(copy);
	}
	printf("# %d accepted\n", accepted);
	ok(accepted > 1000, "some random headers are accepted");
	is_int(wrong, 0, "200000 random headers cannot break out");
}

int
main(void)
{
	random_seed(15);
	test_names();
	test_values();
	test_budget();
	test_random();
	return done_testing();
}
