/*
 * http_exchange.c
 *	  One request with libcurl: its options, its callbacks, its result.
 *
 * Lifecycle: a handle is made with what all requests have in common, readied
 * for one request after the other, and thrown away when settings changed.
 *
 * Accidents survived:
 *	- callbacks of libcurl must never longjmp: nothing here calls the server's
 *	  error or memory functions; buffers have a fixed size
 *	- a name that does not resolve in time blocks the loop when the thread is
 *	  joined: CURLOPT_QUICK_EXIT
 *	- an address is checked after the name was resolved (OPENSOCKETFUNCTION), and
 *	  again when a pooled connection is used (PREREQFUNCTION), because a policy
 *	  may have become stricter since
 *	- an answer counts once its headers are complete, a 2xx once its status line
 *	  came: the receiver has said what became of the event.  A body that drips, is
 *	  huge or is cut changes nothing; it gets a short time and few bytes, then the
 *	  connection is closed, because it would hold a place until the timeout
 *	- libcurl 7.88 corrupts multiplexed HTTP/2 POSTs: HTTP/1.1 only
 *	- an encrypted private key would have OpenSSL ask for the password at the
 *	  terminal the server was started from: CURLOPT_KEYPASSWD
 *	- a certificate may name its owner with any bytes, and libcurl quotes it: error
 *	  texts are made printable
 */
#include "http_exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#define MAX_RESPONSE_BYTES	(16 * 1024)
#define MAX_HEADER_BYTES	(16 * 1024)
#define BODY_GRACE			1000000 /* microseconds that a body may take */
#define MAX_CONNECTION_AGE	3600L	/* s: names are looked up again now and then */
#define MAX_CA_AGE			86400L	/* s: authorities are read from the file again */

int64_t
oe_http_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ---------- callbacks ---------- */

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	OeExchange *x = arg;

	if (!oe_address_allowed(&address->addr, address->addrlen, &x->http->allow,
							x->blocked_why, sizeof(x->blocked_why)))
	{
		/* of several addresses another may do, and then its error counts */
		x->blocked = !x->tried;
		return CURL_SOCKET_BAD;
	}
	x->tried = true;
	x->blocked = false;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int
on_prereq(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	OeExchange *x = arg;

	if (!oe_address_text_allowed(remote_ip, &x->http->allow,
								 x->blocked_why, sizeof(x->blocked_why)))
	{
		x->blocked = true;
		return CURL_PREREQFUNC_ABORT;
	}
	x->connected = true;
	return CURL_PREREQFUNC_OK;
}

/* From here on only the rest of the body is missing, if anything. */
static void
note_answer(OeExchange *x)
{
	OeHttp	   *http = x->http;

	if (x->answered)
		return;
	x->answered = true;
	x->give_up_at = oe_http_now() + BODY_GRACE;
	x->later = NULL;
	x->earlier = http->answered_last;
	if (http->answered_last != NULL)
		http->answered_last->later = x;
	else
		http->answered_first = x;
	http->answered_last = x;
}

void
oe_exchange_forget_answer(OeExchange *x)
{
	OeHttp	   *http = x->http;

	if (!x->answered)
		return;
	if (x->earlier != NULL)
		x->earlier->later = x->later;
	else
		http->answered_first = x->later;
	if (x->later != NULL)
		x->later->earlier = x->earlier;
	else
		http->answered_last = x->earlier;
	x->earlier = x->later = NULL;
}

static bool
is_success(long status)
{
	return status >= 200 && status < 300;
}

static size_t
on_header(char *data, size_t size, size_t nitems, void *arg)
{
	OeExchange *x = arg;
	size_t		len = size * nitems;
	long		status = 0;
	static const char name[] = "retry-after:";

	x->header_bytes += len;
	if (x->header_bytes > MAX_HEADER_BYTES)
		return 0;

	/* trailers come here as well */
	if (x->answered)
		return len;

	(void) curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	if (len >= 5 && strncmp(data, "HTTP/", 5) == 0)
	{
		/* what an interim answer said is not about this one */
		x->retry_after = OE_RETRY_AFTER_NONE;
		if (is_success(status))
			note_answer(x);
	}
	else if (data[0] == '\r' || data[0] == '\n')
	{
		if (status >= 200)
			note_answer(x);
	}
	else if (len > sizeof(name) - 1 && strncasecmp(data, name, sizeof(name) - 1) == 0)
	{
		const char *value = data + sizeof(name) - 1;
		size_t		valuelen = len - (sizeof(name) - 1);
		int64_t		delay;

		/* the line comes with its end */
		while (valuelen > 0 && (value[valuelen - 1] == '\n' || value[valuelen - 1] == '\r'))
			valuelen--;
		if (oe_retry_after_parse(value, valuelen,
								 (int64_t) time(NULL) * 1000000, &delay))
			x->retry_after = delay;
	}
	return len;
}

static size_t
on_body(char *data, size_t size, size_t nitems, void *arg)
{
	OeExchange *x = arg;
	size_t		len = size * nitems;
	size_t		kept = OE_HTTP_RESPONSE_KEPT - x->responselen;

	if (kept > len)
		kept = len;
	memcpy(x->response + x->responselen, data, kept);
	x->responselen += kept;
	x->body_bytes += len;
	return x->body_bytes > MAX_RESPONSE_BYTES ? 0 : len;
}

/* ---------- the life of a handle ---------- */

OeExchange *
oe_exchange_new(OeHttp *http)
{
	OeExchange *x = calloc(1, sizeof(OeExchange));
	CURL	   *easy;
	CURLcode	rc = CURLE_OK;

	if (x == NULL)
		return NULL;
	x->http = http;
	x->generation = http->generation;
	easy = x->easy = curl_easy_init();
	if (easy == NULL)
	{
		free(x);
		return NULL;
	}

#define SET(option, value) \
	do { if (rc == CURLE_OK) rc = curl_easy_setopt(easy, option, value); } while (0)
	SET(CURLOPT_PRIVATE, x);
	SET(CURLOPT_ERRORBUFFER, x->curl_error);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_NOPROGRESS, 1L);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PROTOCOLS_STR, http->allow_http ? "http,https" : "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_BUFFERSIZE, (long) MAX_RESPONSE_BYTES);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_MAXLIFETIME_CONN, MAX_CONNECTION_AGE);
	if (http->ca_file[0] != '\0')
		SET(CURLOPT_CAINFO, http->ca_file);
	SET(CURLOPT_SSLCERTTYPE, "PEM");
	SET(CURLOPT_SSLKEYTYPE, "PEM");
	SET(CURLOPT_KEYPASSWD, "");
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, x);
	SET(CURLOPT_PREREQFUNCTION, on_prereq);
	SET(CURLOPT_PREREQDATA, x);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, x);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, x);
	SET(CURLOPT_POST, 1L);
#undef SET
	if (rc != CURLE_OK)
	{
		curl_easy_cleanup(easy);
		free(x);
		return NULL;
	}
	return x;
}

void
oe_exchange_free(OeExchange *x)
{
	curl_easy_cleanup(x->easy);
	free(x);
}

void
oe_exchange_clear(OeExchange *x)
{
	if (x->has_client)
	{
		(void) curl_easy_setopt(x->easy, CURLOPT_SSLCERT_BLOB, NULL);
		(void) curl_easy_setopt(x->easy, CURLOPT_SSLKEY_BLOB, NULL);
		x->has_client = false;
	}
	curl_slist_free_all(x->headers);
	x->headers = NULL;
	x->owner = NULL;
}

static bool
add_headers(OeExchange *x, const OeHttpRequest *request)
{
	struct curl_slist *list = NULL;

	for (int i = 0; i < request->nheaders; i++)
	{
		struct curl_slist *longer = curl_slist_append(list, request->headers[i]);

		if (longer == NULL)
		{
			curl_slist_free_all(list);
			return false;
		}
		list = longer;
	}
	x->headers = list;
	return true;
}

/*
 * libcurl shares a connection between requests whose certificates are the same
 * bytes, whatever their keys are.  So the key goes into those bytes too, where
 * OpenSSL passes over it: who does not have the key does not get the connection.
 */
static CURLcode
set_client(OeExchange *x, const char *cert, const char *key)
{
	size_t		certlen = strlen(cert);
	size_t		keylen = strlen(key);
	struct curl_blob both;
	struct curl_blob alone;
	char	   *data = malloc(certlen + 1 + keylen);
	CURLcode	rc;

	if (data == NULL)
		return CURLE_OUT_OF_MEMORY;
	memcpy(data, cert, certlen);
	data[certlen] = '\n';
	memcpy(data + certlen + 1, key, keylen);
	both.data = data;
	both.len = certlen + 1 + keylen;
	both.flags = CURL_BLOB_COPY;
	alone.data = data + certlen + 1;
	alone.len = keylen;
	alone.flags = CURL_BLOB_COPY;

	x->has_client = true;
	rc = curl_easy_setopt(x->easy, CURLOPT_SSLCERT_BLOB, &both);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(x->easy, CURLOPT_SSLKEY_BLOB, &alone);
	explicit_bzero(data, certlen + 1 + keylen);
	free(data);
	return rc;
}

bool
oe_exchange_prepare(OeExchange *x, const OeHttpRequest *request, char *why, size_t whylen)
{
	CURL	   *easy = x->easy;
	OeHttp	   *http = x->http;
	CURLcode	rc = CURLE_OK;
	long		settings_age = (long) ((oe_http_now() - http->configured_at) / 1000000);

	x->owner = request->owner;
	x->code = CURLE_OK;
	x->blocked = false;
	x->tried = false;
	x->connected = false;
	x->answered = false;
	x->started = oe_http_now();
	x->responselen = 0;
	x->body_bytes = 0;
	x->header_bytes = 0;
	x->retry_after = OE_RETRY_AFTER_NONE;
	x->curl_error[0] = '\0';

	if (!add_headers(x, request))
	{
		snprintf(why, whylen, "out of memory");
		return false;
	}

#define SET(option, value) \
	do { if (rc == CURLE_OK) rc = curl_easy_setopt(easy, option, value); } while (0)
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_HTTPHEADER, x->headers);
	SET(CURLOPT_POSTFIELDS, request->body);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->bodylen);
	SET(CURLOPT_CONNECTTIMEOUT_MS, request->connect_timeout_ms);
	SET(CURLOPT_TIMEOUT_MS, request->timeout_ms);
	/* authorities that libcurl read before the settings changed are too old */
	SET(CURLOPT_CA_CACHE_TIMEOUT, settings_age < MAX_CA_AGE ? settings_age : MAX_CA_AGE);
#undef SET
	if (rc == CURLE_OK && request->client_cert != NULL && request->client_key != NULL)
		rc = set_client(x, request->client_cert, request->client_key);
	if (rc != CURLE_OK)
	{
		snprintf(why, whylen, "%s", curl_easy_strerror(rc));
		return false;
	}
	return true;
}

/* ---------- what came of it ---------- */

static oe_transport
classify(const OeExchange *x)
{
	if (x->blocked)
		return OE_TRANSPORT_BLOCKED;
	if (x->answered)
		return OE_TRANSPORT_OK;

	switch (x->code)
	{
		case CURLE_OK:
			return OE_TRANSPORT_OK;
		case CURLE_COULDNT_RESOLVE_HOST:
			return OE_TRANSPORT_DNS;
		case CURLE_COULDNT_CONNECT:
			return OE_TRANSPORT_CONNECT;
		case CURLE_OPERATION_TIMEDOUT:
			return OE_TRANSPORT_TIMEOUT;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_INVALIDCERTSTATUS:
			return OE_TRANSPORT_TLS;
		case CURLE_URL_MALFORMAT:
			return OE_TRANSPORT_BAD_URL;
		case CURLE_UNSUPPORTED_PROTOCOL:
			/* that of the URL, or an answer that is not HTTP */
			return x->connected ? OE_TRANSPORT_PROTOCOL : OE_TRANSPORT_BAD_URL;
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_WRITE_ERROR: /* our limit on headers */
			return OE_TRANSPORT_PROTOCOL;
		case CURLE_OUT_OF_MEMORY:
			/* so libcurl calls a header line that is longer than it likes, too */
			return x->connected ? OE_TRANSPORT_PROTOCOL : OE_TRANSPORT_LOCAL;
		case CURLE_FAILED_INIT:
			return OE_TRANSPORT_LOCAL;
		default:
			return OE_TRANSPORT_IO;
	}
}

static void
make_printable(char *text)
{
	for (char *p = text; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || (unsigned char) *p > 0x7e)
			*p = '?';
	}
}

void
oe_exchange_result(const OeExchange *x, OeHttpResult *result)
{
	long		status = 0;

	(void) curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	result->owner = x->owner;
	result->transport = classify(x);
	result->status = (int) status;
	result->retry_after = x->retry_after;
	result->duration = x->ended - x->started;
	result->response = x->response;
	result->responselen = x->responselen;
	result->error[0] = '\0';
	if (result->transport == OE_TRANSPORT_BLOCKED)
		snprintf(result->error, sizeof(result->error),
				 "address not allowed by order_engine.allow_cidrs: %s", x->blocked_why);
	else if (result->transport == OE_TRANSPORT_BAD_URL && x->code == CURLE_UNSUPPORTED_PROTOCOL)
		snprintf(result->error, sizeof(result->error),
				 "protocol not allowed, see order_engine.allow_http: %s", x->curl_error);
	else if (result->transport != OE_TRANSPORT_OK)
		snprintf(result->error, sizeof(result->error), "%s",
				 x->curl_error[0] != '\0' ? x->curl_error : curl_easy_strerror(x->code));
	else if (!is_success(status))
		snprintf(result->error, sizeof(result->error), "HTTP status %ld", status);
	make_printable(result->error);
}
