/*
 * http_url.c
 *	  Which URLs requests can be sent to, asked when an endpoint is stored.
 *
 * libcurl parses the URL here as it does for the request, so that no two parsers
 * can disagree about its host.
 */
#include "http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

bool
oe_http_url_check(const char *url, bool allow_http, char *why, size_t whylen)
{
	CURLU	   *parsed = curl_url();
	CURLUcode	rc;
	char	   *part = NULL;
	bool		ok = false;

	if (parsed == NULL)
	{
		snprintf(why, whylen, "out of memory");
		return false;
	}
	rc = curl_url_set(parsed, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	if (rc != CURLUE_OK)
		snprintf(why, whylen, "%s", rc == CURLUE_USER_NOT_ALLOWED ?
				 "it must not hold a user name or password" : curl_url_strerror(rc));
	else if (curl_url_get(parsed, CURLUPART_SCHEME, &part, 0) != CURLUE_OK)
		snprintf(why, whylen, "it has no scheme");
	else if (strcmp(part, "https") != 0 && strcmp(part, "http") != 0)
		snprintf(why, whylen, "its scheme is neither https nor http");
	else if (strcmp(part, "http") == 0 && !allow_http)
		snprintf(why, whylen, "plain http is not allowed by order_engine.allow_http");
	else
		ok = true;
	curl_free(part);
	part = NULL;
	if (ok && (curl_url_get(parsed, CURLUPART_HOST, &part, 0) != CURLUE_OK || part[0] == '\0'))
	{
		snprintf(why, whylen, "it has no host");
		ok = false;
	}
	/* it decodes %7f in a host, and lets it pass */
	if (ok && strchr(part, 0x7f) != NULL)
	{
		snprintf(why, whylen, "its host has a control character");
		ok = false;
	}
	curl_free(part);
	part = NULL;
	if (ok && curl_url_get(parsed, CURLUPART_FRAGMENT, &part, 0) == CURLUE_OK)
	{
		snprintf(why, whylen, "it must not have a fragment");
		ok = false;
	}
	curl_free(part);
	curl_url_cleanup(parsed);
	return ok;
}
