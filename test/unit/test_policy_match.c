/* Unit tests of bgworker/policy_match.c */
#include "policy_match.h"

#include "tap.h"

static bool
match(const char *glob, const char *type)
{
	char	   *g = exact_copy(glob, strlen(glob));
	char	   *t = exact_copy(type, strlen(type));
	bool		result = oe_glob_match(g, strlen(glob), t, strlen(type));

	free(g);
	free(t);
	return result;
}

static void
test_match(void)
{
	static const struct
	{
		const char *glob;
		const char *type;
		bool		matches;
	}			cases[] = {
		{"*", "order.placed", true},
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"order.placed", "order.placed", true},
		{"order.placed", "order.place", false},
		{"order.place", "order.placed", false},
		{"order.*", "order.placed", true},
		{"order.*", "order.line.added", true},
		{"order.*", "order", false},
		{"order.*", "orders.placed", false},
		{"order*", "order", true},
		{"order*", "orders.placed", true},
		{"*.placed", "order.placed", true},
		{"*.placed", "order.placed.again", false},
		{"*.placed", "a.placed.b.placed", true},
		{"order.*.added", "order.line.added", true},
		{"order.*.added", "order.line.item.added", true},
		{"order.*.added", "order.added", false},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b*", "xxbxxaxx", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"**", "anything", true},
		{"ORDER.*", "order.placed", false},
		{"order?placed", "order.placed", false},
		{"order[.]placed", "order.placed", false},
		{"order\\.placed", "order.placed", false},
		{"*", "*", true},
	};
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(match(cases[i].glob, cases[i].type) == cases[i].matches,
		   "\"%s\" %s \"%s\"", cases[i].glob,
		   cases[i].matches ? "matches" : "does not match", cases[i].type);
}

static void
test_check(void)
{
	static const struct
	{
		const char *text;
		bool		type;		/* valid as a type? */
		bool		glob;		/* valid as a glob? */
	}			cases[] = {
		{"order", true, true},
		{"order.placed", true, true},
		{"com.example.order_line-2.Added", true, true},
		{"*", false, true},
		{"order.*", false, true},
		{"*.*", false, true},
		{"or*er", false, true},
		{"", false, false},
		{".", false, false},
		{".order", false, false},
		{"order.", false, false},
		{"*.", false, false},
		{"order..placed", false, false},
		{"order placed", false, false},
		{"order\nplaced", false, false},
		{"order/placed", false, false},
		{"order?", false, false},
		{"\xc3\xb6rder", false, false},
		{"order\x7f", false, false},
	};
	char		longest[OE_EVENT_TYPE_MAX + 1];
	char		why[128];
	bool		right = true;
	size_t		i;
	int			c;

	for (c = 0; c < 256; c++)
	{
		char		byte = (char) c;
		bool		want = c != 0 &&
		strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", c) != NULL;

		right = right && oe_event_type_check(&byte, 1, why, sizeof(why)) == want;
		right = right && oe_glob_check(&byte, 1, why, sizeof(why)) == (want || c == '*');
	}
	ok(right, "every byte is judged as the rule says");

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t		len = strlen(cases[i].text);

		ok(oe_event_type_check(cases[i].text, len, why, sizeof(why)) == cases[i].type,
		   "case %zu is %s event type", i, cases[i].type ? "an" : "no");
		ok(oe_glob_check(cases[i].text, len, why, sizeof(why)) == cases[i].glob,
		   "case %zu is %s glob", i, cases[i].glob ? "a" : "no");
	}
	ok(!oe_event_type_check("a\0b", 3, why, sizeof(why)), "NUL is not allowed");
	is_str(why, "event type may have only letters, digits, \"_\", \"-\" and \".\", not byte 0x00",
		   "and the text says so");
	ok(!oe_glob_check("a b", 3, why, sizeof(why)), "space is not allowed");
	is_str(why, "event type pattern may have only letters, digits, \"_\", \"-\" and \".\" and \"*\", not byte 0x20",
		   "and the text says so");

	memset(longest, 'x', sizeof(longest));
	ok(oe_event_type_check(longest, OE_EVENT_TYPE_MAX, why, sizeof(why)), "longest type");
	ok(!oe_event_type_check(longest, OE_EVENT_TYPE_MAX + 1, why, sizeof(why)), "one byte more");
	ok(!oe_event_type_check(longest, 0, NULL, 0), "failure without a text");
}

/* the definition, by dynamic programming */
static bool
reference_match(const char *glob, size_t globlen, const char *type, size_t typelen)
{
	bool		reach[64][64] = {{false}};
	size_t		g;
	size_t		t;

	reach[0][0] = true;
	for (g = 1; g <= globlen; g++)
	{
		for (t = 0; t <= typelen; t++)
		{
			if (glob[g - 1] == '*')
				reach[g][t] = reach[g - 1][t] || (t > 0 && reach[g][t - 1]);
			else
				reach[g][t] = t > 0 && reach[g - 1][t - 1] && glob[g - 1] == type[t - 1];
		}
	}
	return reach[globlen][typelen];
}

static void
test_random(void)
{
	int			wrong = 0;
	int			matched = 0;
	int			i;

	for (i = 0; i < 200000; i++)
	{
		char		glob[20];
		char		type[20];
		size_t		globlen = random_below(sizeof(glob));
		size_t		typelen = random_below(sizeof(type));
		size_t		k;
		bool		want;

		for (k = 0; k < globlen; k++)
			glob[k] = "ab.***"[random_below(6)];
		for (k = 0; k < typelen; k++)
			type[k] = "ab."[random_below(3)];
		want = reference_match(glob, globlen, type, typelen);
		matched += want;
		if (oe_glob_match(glob, globlen, type, typelen) != want)
		{
			printf("# \"%.*s\" \"%.*s\"\n", (int) globlen, glob, (int) typelen, type);
			wrong++;
		}
	}
	printf("# %d of 200000 matched\n", matched);
	ok(matched > 10000 && matched < 190000, "the random cases are of both kinds");
	is_int(wrong, 0, "200000 random cases agree with the definition");
}

static void
test_hostile(void)
{
	char		glob[OE_EVENT_TYPE_MAX];
	char		type[OE_EVENT_TYPE_MAX];
	bool		any = false;
	size_t		i;
	int			round;

	/* a*a*a*...b against aaaa...: exponential for a naive matcher */
	for (i = 0; i < sizeof(glob); i++)
		glob[i] = i % 2 == 0 ? 'a' : '*';
	glob[sizeof(glob) - 1] = 'b';
	memset(type, 'a', sizeof(type));
	for (round = 0; round < 1000; round++)
		any = any || oe_glob_match(glob, sizeof(glob), type, sizeof(type));
	ok(!any, "a hostile glob ends");

	/* the worst case of this matcher: *aaa...b */
	memset(glob, 'a', sizeof(glob));
	glob[0] = '*';
	glob[sizeof(glob) / 2] = 'b';
	for (round = 0; round < 1000; round++)
		any = any || oe_glob_match(glob, sizeof(glob) / 2 + 1, type, sizeof(type));
	ok(!any, "its worst glob ends");
}

int
main(void)
{
	random_seed(15);
	test_match();
	test_check();
	test_random();
	test_hostile();
	return done_testing();
}
