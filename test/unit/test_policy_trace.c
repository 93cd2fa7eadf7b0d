/* Unit tests of bgworker/policy_trace.c */
#include "policy_trace.h"

#include "tap.h"

#define TRACE	"4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN	"00f067aa0ba902b7"

static void
test_traceparent(void)
{
	static const char *const good[] = {
		"00-" TRACE "-" SPAN "-01",
		"00-" TRACE "-" SPAN "-00",
		"00-" TRACE "-" SPAN "-ff",
		"00-00000000000000000000000000000001-" SPAN "-01",
		"00-" TRACE "-0000000000000001-01",
	};
	static const char *const bad[] = {
		"",
		"00",
		"00-" TRACE "-" SPAN "-0",
		"00-" TRACE "-" SPAN "-011",
		"00-" TRACE "-" SPAN "-01 ",
		" 0-" TRACE "-" SPAN "-01",
		"01-" TRACE "-" SPAN "-01",
		"ff-" TRACE "-" SPAN "-01",
		"00_" TRACE "-" SPAN "-01",
		"00-" TRACE "_" SPAN "-01",
		"00-" TRACE "-" SPAN "_01",
		"00-" TRACE "-" SPAN "-0A",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",
		"00-4bf92f3577b34da6a3ce929d0e0e473g-" SPAN "-01",
		"00-4bf92f3577b34da6a3ce929d0e0e473-0" SPAN "-01",
		"00-4bf92f3577b34da6a3ce929d0e0e47\r\n-" SPAN "-01",
		"00-00000000000000000000000000000000-" SPAN "-01",
		"00-" TRACE "-0000000000000000-01",
	};
	size_t		i;

	ok(!oe_traceparent_valid(NULL), "no traceparent");
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(oe_traceparent_valid(good[i]), "traceparent %s", good[i]);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!oe_traceparent_valid(bad[i]), "no traceparent, case %zu", i);
}

static void
test_tracestate(void)
{
	char		text[4098];

	ok(!oe_tracestate_valid(NULL), "no tracestate");
	ok(!oe_tracestate_valid(""), "an empty tracestate");
	ok(oe_tracestate_valid("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"), "a tracestate");
	ok(oe_tracestate_valid("a= b ~,c"), "its lists are not looked into");
	ok(!oe_tracestate_valid("a=b\r\nX-Injected: 1"), "an injected header");
	ok(!oe_tracestate_valid("a=b\n"), "a line feed at the end");
	ok(!oe_tracestate_valid("a=\tb"), "a tab");
	ok(!oe_tracestate_valid("a=\x7f"), "a control byte");
	ok(!oe_tracestate_valid("a=\xc3\xa9"), "not ASCII");
	ok(!oe_tracestate_valid(" a=b"), "white space before");
	ok(!oe_tracestate_valid("a=b "), "white space behind");

	memset(text, 'a', sizeof(text));
	text[4096] = '\0';
	ok(oe_tracestate_valid(text), "as long as a header's value may be");
	text[4096] = 'a';
	text[4097] = '\0';
	ok(!oe_tracestate_valid(text), "longer than that");
}

int
main(void)
{
	test_traceparent();
	test_tracestate();
	return done_testing();
}
