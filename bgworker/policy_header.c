/*-------------------------------------------------------------------------
 *
 * policy_header.c
 *	  Which request headers a user may set.
 *
 * Responsibility: the one list of forbidden names, the grammar of names and
 * values, the size limits.  Asked when an endpoint is stored and again before
 * a request is built, because libcurl sends CR LF verbatim.
 *
 * Lifecycle: none; functions of their arguments.
 *
 * Accidents survived: header injection by control bytes, request smuggling by
 * framing headers, forged signatures (also through receivers that take "_"
 * for "-", as CGI and WSGI do), names with NUL or non-ASCII bytes.
 *
 * Error texts name the header but never hold a value: values are credentials
 * more often than not.
 *
 *-------------------------------------------------------------------------
 */
#include "policy_header.h"

#include <stdio.h>
#include <string.h>

/*
 * Lower case.  A trailing "*" makes a prefix.
 */
static const char *const forbidden_names[] = {
	/* message framing and connection management: ours and libcurl's */
	"connection",
	"content-length",
	"expect",
	"host",
	"http2-settings",
	"keep-alive",
	"proxy-*",
	"te",
	"trailer",
	"transfer-encoding",
	"upgrade",
	/* describe the body, which is ours */
	"content-encoding",
	"content-range",
	"content-type",
	/* made for each attempt; a second one would contradict it */
	"ce-*",
	"traceparent",
	"tracestate",
	"webhook-*",
};

/* ASCII only: the C library's tolower depends on the locale */
static char
fold(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char) (c - 'A' + 'a');
	if (c == '_')
		return '-';
	return c;
}

static bool
name_equals_rule(const char *name, size_t len, const char *rule)
{
	size_t		rulelen = strlen(rule);
	bool		prefix = rule[rulelen - 1] == '*';
	size_t		i;

	if (prefix)
		rulelen--;
	if (prefix ? len < rulelen : len != rulelen)
		return false;
	for (i = 0; i < rulelen; i++)
	{
		if (fold(name[i]) != rule[i])
			return false;
	}
	return true;
}

/* tchar of RFC 9110 5.6.2 */
static bool
is_token_byte(unsigned char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

/*
 * oe_header_name_check
 *
 * May a user set a header of this name (len bytes, not NUL-terminated)?
 */
bool
oe_header_name_check(const char *name, size_t len, char *why, size_t whylen)
{
	size_t		i;

	if (len < 1 || len > OE_HEADER_NAME_MAX)
	{
		snprintf(why, whylen, "header name must have 1 to %d bytes",
				 OE_HEADER_NAME_MAX);
		return false;
	}
	for (i = 0; i < len; i++)
	{
		if (!is_token_byte((unsigned char) name[i]))
		{
			snprintf(why, whylen,
					 "header name has byte 0x%02x, which is not allowed in a name",
					 (unsigned int) (unsigned char) name[i]);
			return false;
		}
	}
	for (i = 0; i < sizeof(forbidden_names) / sizeof(forbidden_names[0]); i++)
	{
		if (name_equals_rule(name, len, forbidden_names[i]))
		{
			snprintf(why, whylen, "header \"%.*s\" cannot be set (rule \"%s\")",
					 (int) len, name, forbidden_names[i]);
			return false;
		}
	}
	return true;
}

/*
 * oe_header_value_check
 *
 * May this be a header's value?  Visible bytes, space, tab and bytes of 0x80
 * and above; no white space at the ends, which receivers strip; not empty,
 * which libcurl takes for an order to leave the header out.
 */
bool
oe_header_value_check(const char *value, size_t len, char *why, size_t whylen)
{
	size_t		i;

	if (len < 1 || len > OE_HEADER_VALUE_MAX)
	{
		snprintf(why, whylen, "header value must have 1 to %d bytes",
				 OE_HEADER_VALUE_MAX);
		return false;
	}
	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) value[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
		{
			snprintf(why, whylen, "header value has control byte 0x%02x",
					 (unsigned int) c);
			return false;
		}
	}
	if (value[0] == ' ' || value[0] == '\t' ||
		value[len - 1] == ' ' || value[len - 1] == '\t')
	{
		snprintf(why, whylen,
				 "header value must not begin or end with white space");
		return false;
	}
	return true;
}

/*
 * oe_header_add
 *
 * Check a header and count it against its set's budget.  On the wire a header
 * is "name: value" and CR LF, so four bytes more than its parts.  False leaves
 * the budget as it was.
 */
bool
oe_header_add(oe_header_budget *budget,
			  const char *name, size_t namelen,
			  const char *value, size_t valuelen,
			  char *why, size_t whylen)
{
	size_t		bytes;

	if (!oe_header_name_check(name, namelen, why, whylen) ||
		!oe_header_value_check(value, valuelen, why, whylen))
		return false;

	if (budget->count >= OE_HEADER_COUNT_MAX)
	{
		snprintf(why, whylen, "more than %d headers", OE_HEADER_COUNT_MAX);
		return false;
	}
	bytes = namelen + valuelen + 4;
	if (bytes > OE_HEADER_TOTAL_MAX - budget->bytes)
	{
		snprintf(why, whylen, "headers have more than %d bytes in all",
				 OE_HEADER_TOTAL_MAX);
		return false;
	}
	budget->count++;
	budget->bytes += bytes;
	return true;
}
