/*
 * fuzz_trace.c
 *	  Trace headers.
 *
 * Input: the value of a header.
 */
#include "fuzz.h"

#include "policy_trace.h"

#include <regex.h>

static bool
matches(regex_t *compiled, const char *pattern, const char *text)
{
	if (compiled->re_nsub == 0)
		HOLDS(regcomp(compiled, pattern, REG_EXTENDED) == 0);
	return regexec(compiled, text, 0, NULL, 0) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static regex_t parent;
	static regex_t zeros;
	static regex_t state;
	char	   *text = take_string(data, size);
	bool		want;

	want = matches(&parent, "^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})$", text) &&
		!matches(&zeros, "^00-(0{32}|[0-9a-f]{32}-0{16})", text);
	HOLDS(oe_traceparent_valid(text) == want);

	want = strlen(text) <= 4096 && matches(&state, "^([!-~]([ -~]*[!-~])?)$", text);
	HOLDS(oe_tracestate_valid(text) == want);
	free(text);
	return 0;
}
