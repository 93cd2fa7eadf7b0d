/*
 * fuzz_match.c
 *	  Event types and the globs by which endpoints choose them.
 *
 * Input: a glob, a byte 0x0a, a type.
 */
#include "fuzz.h"

#include "policy_match.h"

#include <fnmatch.h>
#include <regex.h>

#define LIMIT	300

/* matched[t] tells whether the glob so far matches the first t bytes */
static bool
match(const char *glob, size_t globlen, const char *type, size_t typelen)
{
	bool		matched[LIMIT + 1] = {true};

	for (size_t g = 0; g < globlen; g++)
	{
		bool		last = matched[0];

		matched[0] = matched[0] && glob[g] == '*';
		for (size_t t = 1; t <= typelen; t++)
		{
			bool		was = matched[t];

			matched[t] = glob[g] == '*' ? matched[t] || matched[t - 1] :
				last && glob[g] == type[t - 1];
			last = was;
		}
	}
	return matched[typelen];
}

static bool
grammar(const char *text, size_t len, const char *pattern)
{
	static const char *compiled_pattern[2];
	static regex_t compiled[2];
	int			i = compiled_pattern[0] == NULL || compiled_pattern[0] == pattern ? 0 : 1;
	char		copy[LIMIT + 1];

	if (compiled_pattern[i] == NULL)
	{
		HOLDS(regcomp(&compiled[i], pattern, REG_EXTENDED | REG_NOSUB) == 0);
		compiled_pattern[i] = pattern;
	}
	if (len > OE_EVENT_TYPE_MAX || memchr(text, '\0', len) != NULL)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return regexec(&compiled[i], copy, 0, NULL, 0) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char type_grammar[] = "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$";
	static const char glob_grammar[] = "^[A-Za-z0-9_*-]+(\\.[A-Za-z0-9_*-]+)*$";
	const uint8_t *newline = memchr(data, '\n', size);
	size_t		globlen = newline != NULL ? (size_t) (newline - data) : size;
	size_t		typelen = newline != NULL ? size - globlen - 1 : 0;
	char	   *glob;
	char	   *type;
	char		why[WHY_SIZE];
	bool		good_glob;
	bool		good_type;
	bool		matches;

	if (globlen > LIMIT || typelen > LIMIT)
		return 0;
	glob = take_bytes(data, globlen);
	type = take_bytes(data + size - typelen, typelen);

	why_begin(why);
	good_type = oe_event_type_check(type, typelen, why, sizeof(why));
	HOLDS(good_type == grammar(type, typelen, type_grammar));
	if (!good_type)
		why_check(why);
	why_begin(why);
	good_glob = oe_glob_check(glob, globlen, why, sizeof(why));
	HOLDS(good_glob == grammar(glob, globlen, glob_grammar));
	if (!good_glob)
		why_check(why);

	matches = oe_glob_match(glob, globlen, type, typelen);
	HOLDS(matches == match(glob, globlen, type, typelen));
	/* a shell's globs know more signs, but not in a valid one */
	if (good_glob && good_type)
	{
		char	   *g = take_string((const uint8_t *) glob, globlen);
		char	   *t = take_string((const uint8_t *) type, typelen);

		/* libc's backtracks without bounds */
		if (globlen < 20)
			HOLDS(matches == (fnmatch(g, t, 0) == 0));
		free(g);
		free(t);
	}
	free(glob);
	free(type);
	return 0;
}
