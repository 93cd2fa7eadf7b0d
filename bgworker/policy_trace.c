/*-------------------------------------------------------------------------
 *
 * policy_trace.c
 *	  Which trace headers are sent on.
 *
 * Responsibility: the grammar of traceparent and tracestate (W3C Trace
 * Context, version 00), as far as it must hold for the headers of a request.
 *
 * Lifecycle: none; functions of their arguments.
 *
 * Accidents survived: the values come from a setting that anybody may set, so
 * any bytes, of any length.
 *
 *-------------------------------------------------------------------------
 */
#include "policy_trace.h"

#include <string.h>

#include "policy_header.h"

/*
 * oe_traceparent_valid
 *
 * "00-", 32 digits for the trace, 16 for the span, 2 of flags, in lower case;
 * all zeros stand for no trace and no span.  NULL is not valid.
 */
bool
oe_traceparent_valid(const char *traceparent)
{
	int			i;

	if (traceparent == NULL || strlen(traceparent) != OE_TRACEPARENT_LEN ||
		strncmp(traceparent, "00-", 3) != 0 ||
		traceparent[35] != '-' || traceparent[52] != '-')
		return false;
	for (i = 3; i < OE_TRACEPARENT_LEN; i++)
	{
		if (i != 35 && i != 52 &&
			strchr("0123456789abcdef", traceparent[i]) == NULL)
			return false;
	}
	return strspn(traceparent + 3, "0") < 32 &&
		strspn(traceparent + 36, "0") < 16;
}

/*
 * oe_tracestate_valid
 *
 * Printable ASCII that may be a header's value; its lists are for whoever
 * reads them.  Without a traceparent it has no meaning.  NULL is not valid.
 */
bool
oe_tracestate_valid(const char *tracestate)
{
	const char *p;

	if (tracestate == NULL ||
		!oe_header_value_check(tracestate, strlen(tracestate), NULL, 0))
		return false;
	for (p = tracestate; *p; p++)
	{
		if (*p < ' ' || *p > '~')
			return false;
	}
	return true;
}
