/*
 * fuzz_url.c
 *	  URLs of endpoints.
 *
 * Input: a URL.  libcurl reads it; what is checked here is that one which is
 * taken keeps the promises of oe_http_url_check to a reader that knows nothing
 * but RFC 3986.
 */
#include "fuzz.h"

#include "http.h"

#include <curl/curl.h>
#include <strings.h>

static void
check_taken(const char *url, bool allow_http)
{
	CURLU	   *parsed = curl_url();
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *part = NULL;
	size_t		schemelen = strcspn(url, ":");
	const char *authority = url + schemelen + 1;
	size_t		authoritylen;

	/* nothing that could end a line of a request, or of the log */
	for (const char *p = url; *p; p++)
		HOLDS((unsigned char) *p > ' ' && *p != 0x7f);

	HOLDS((schemelen == 5 && strncasecmp(url, "https", 5) == 0) ||
		  (schemelen == 4 && strncasecmp(url, "http", 4) == 0 && allow_http));
	authority += strspn(authority, "/");
	authoritylen = strcspn(authority, "/?#");
	HOLDS(authoritylen > 0);
	HOLDS(memchr(authority, '@', authoritylen) == NULL);

	HOLDS(curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK);
	HOLDS(curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK);
	HOLDS(strcmp(scheme, "https") == 0 || (allow_http && strcmp(scheme, "http") == 0));
	HOLDS(curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK && host[0] != '\0');
	for (const char *p = host; *p; p++)
		HOLDS((unsigned char) *p > ' ' && *p != 0x7f);
	HOLDS(curl_url_get(parsed, CURLUPART_USER, &part, 0) != CURLUE_OK);
	HOLDS(curl_url_get(parsed, CURLUPART_PASSWORD, &part, 0) != CURLUE_OK);
	HOLDS(curl_url_get(parsed, CURLUPART_FRAGMENT, &part, 0) != CURLUE_OK);
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(parsed);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *url = take_string(data, size);
	char		why[WHY_SIZE];
	bool		with_http;
	bool		without;

	why_begin(why);
	with_http = oe_http_url_check(url, true, why, sizeof(why));
	if (!with_http)
		why_check(why);
	why_begin(why);
	without = oe_http_url_check(url, false, why, sizeof(why));
	if (!without)
		why_check(why);
	HOLDS(with_http || !without);
	if (with_http)
		check_taken(url, true);
	if (without)
		check_taken(url, false);
	free(url);
	return 0;
}
