/*
 * http.c
 *	  POST requests with libcurl's multi interface over one epoll descriptor.
 *
 * Lifecycle: one OeHttp for the life of the worker.  Easy handles are pooled;
 * connections are kept alive in the multi handle's cache.
 *
 * Accidents survived:
 *	- callbacks of libcurl must never longjmp: nothing here calls the server's
 *	  error or memory functions; buffers have a fixed size
 *	- resolver threads must not run the server's signal handlers: every signal
 *	  is blocked while libcurl works, so that threads it starts inherit that
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
#include "http.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_RESPONSE_BYTES	(16 * 1024)
#define MAX_HEADER_BYTES	(16 * 1024)
#define BODY_GRACE			1000000	/* microseconds that a body may take */
#define MAX_CONNECTION_AGE	3600L	/* s: names are looked up again now and then */
#define MAX_CA_AGE			86400L	/* s: authorities are read from the file again */
#define EPOLL_BATCH			64
#define NO_TIMER			(-1)

typedef struct Exchange
{
	OeHttp	   *http;
	CURL	   *easy;
	struct curl_slist *headers;
	struct Exchange *next;		/* in the pool, or among the finished */
	struct Exchange *earlier;	/* among those whose answer is known */
	struct Exchange *later;
	void	   *owner;
	CURLcode	code;
	bool		blocked;		/* the address rules refused every address that was tried */
	bool		tried;			/* at least one address was allowed */
	bool		connected;		/* the request itself was begun */
	bool		answered;		/* what the answer means is known */
	bool		has_client;		/* the handle holds a client certificate */
	uint32_t	generation;		/* of the settings that the handle was made with */
	int64_t		started;
	int64_t		ended;
	int64_t		give_up_at;		/* when answered: the body has time until then */
	size_t		body_bytes;
	size_t		header_bytes;
	int64_t		retry_after;
	char		curl_error[CURL_ERROR_SIZE];
	char		blocked_why[128];
	char		response[OE_HTTP_RESPONSE_KEPT];
	size_t		responselen;
} Exchange;

struct OeHttp
{
	CURLM	   *multi;
	int			epfd;
	int64_t		timer;			/* when libcurl wants to be called, NO_TIMER: never */
	bool		allow_http;
	oe_cidr_list allow;
	char		ca_file[OE_HTTP_CA_FILE_MAX];
	uint32_t	generation;		/* goes up with each oe_http_configure */
	int64_t		configured_at;
	Exchange   *answered_first; /* by the time they were answered */
	Exchange   *answered_last;
	Exchange   *pool;
	Exchange   *finished_head;
	Exchange   *finished_tail;
};

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	sigprocmask(SIG_SETMASK, saved, NULL);
}

/* ---------- callbacks of libcurl ---------- */

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	OeHttp	   *http = arg;

	http->timer = timeout_ms < 0 ? NO_TIMER : now_us() + (int64_t) timeout_ms * 1000;
	return 0;
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *fd_arg)
{
	OeHttp	   *http = arg;
	struct epoll_event ev;

	memset(&ev, 0, sizeof(ev));
	ev.data.fd = fd;
	switch (what)
	{
		case CURL_POLL_REMOVE:
			(void) epoll_ctl(http->epfd, EPOLL_CTL_DEL, fd, NULL);
			return 0;
		case CURL_POLL_IN:
			ev.events = EPOLLIN;
			break;
		case CURL_POLL_OUT:
			ev.events = EPOLLOUT;
			break;
		default:
			ev.events = EPOLLIN | EPOLLOUT;
			break;
	}
	if (fd_arg != NULL)
	{
		if (epoll_ctl(http->epfd, EPOLL_CTL_MOD, fd, &ev) == 0)
			return 0;
		/* closed and opened again behind our back: fall through to add it */
	}
	if (epoll_ctl(http->epfd, EPOLL_CTL_ADD, fd, &ev) != 0 &&
		(errno != EEXIST || epoll_ctl(http->epfd, EPOLL_CTL_MOD, fd, &ev) != 0))
		return -1;
	(void) curl_multi_assign(http->multi, fd, http);
	return 0;
}

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	Exchange   *x = arg;

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
	Exchange   *x = arg;

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
note_answer(Exchange *x)
{
	OeHttp	   *http = x->http;

	if (x->answered)
		return;
	x->answered = true;
	x->give_up_at = now_us() + BODY_GRACE;
	x->later = NULL;
	x->earlier = http->answered_last;
	if (http->answered_last != NULL)
		http->answered_last->later = x;
	else
		http->answered_first = x;
	http->answered_last = x;
}

static void
forget_answer(Exchange *x)
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
	Exchange   *x = arg;
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
		int64_t		delay;

		if (oe_retry_after_parse(data + sizeof(name) - 1, len - (sizeof(name) - 1),
								 (int64_t) time(NULL) * 1000000, &delay))
			x->retry_after = delay;
	}
	return len;
}

static size_t
on_body(char *data, size_t size, size_t nitems, void *arg)
{
	Exchange   *x = arg;
	size_t		len = size * nitems;
	size_t		kept = OE_HTTP_RESPONSE_KEPT - x->responselen;

	if (kept > len)
		kept = len;
	memcpy(x->response + x->responselen, data, kept);
	x->responselen += kept;
	x->body_bytes += len;
	return x->body_bytes > MAX_RESPONSE_BYTES ? 0 : len;
}

/* ---------- exchanges ---------- */

static Exchange *
new_exchange(OeHttp *http)
{
	Exchange   *x = calloc(1, sizeof(Exchange));
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

/* One from the pool, if it has one with the present settings. */
static Exchange *
pooled_exchange(OeHttp *http)
{
	Exchange   *x;

	while ((x = http->pool) != NULL)
	{
		http->pool = x->next;
		if (x->generation == http->generation)
			return x;
		curl_easy_cleanup(x->easy);
		free(x);
	}
	return NULL;
}

/* In the pool a handle holds nothing of the endpoint that it served. */
static void
release_exchange(OeHttp *http, Exchange *x)
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
	x->next = http->pool;
	http->pool = x;
}

static bool
add_headers(Exchange *x, const OeHttpRequest *request)
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
set_client(Exchange *x, const char *cert, const char *key)
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

static bool
start_exchange(OeHttp *http, Exchange *x, const OeHttpRequest *request, char *why, size_t whylen)
{
	CURL	   *easy = x->easy;
	CURLcode	rc = CURLE_OK;
	CURLMcode	mrc;
	long		settings_age = (long) ((now_us() - http->configured_at) / 1000000);

	x->owner = request->owner;
	x->code = CURLE_OK;
	x->blocked = false;
	x->tried = false;
	x->connected = false;
	x->answered = false;
	x->started = now_us();
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
	SET(CURLOPT_PROTOCOLS_STR, http->allow_http ? "http,https" : "https");
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
	mrc = curl_multi_add_handle(http->multi, easy);
	if (mrc != CURLM_OK)
	{
		snprintf(why, whylen, "%s", curl_multi_strerror(mrc));
		return false;
	}
	return true;
}

bool
oe_http_start(OeHttp *http, const OeHttpRequest *request, char *why, size_t whylen)
{
	sigset_t	saved;
	Exchange   *x;
	bool		ok = false;

	block_signals(&saved);
	x = pooled_exchange(http);
	if (x == NULL)
		x = new_exchange(http);
	if (x == NULL)
		snprintf(why, whylen, "out of memory");
	else
	{
		x->next = NULL;
		ok = start_exchange(http, x, request, why, whylen);
		if (!ok)
			release_exchange(http, x);
	}
	restore_signals(&saved);
	return ok;
}

/* Takes a request out of libcurl; one that is not at its end loses its connection. */
static void
finish_exchange(OeHttp *http, Exchange *x, CURLcode code)
{
	x->code = code;
	x->ended = now_us();
	(void) curl_multi_remove_handle(http->multi, x->easy);
	forget_answer(x);
	x->next = NULL;
	if (http->finished_tail != NULL)
		http->finished_tail->next = x;
	else
		http->finished_head = x;
	http->finished_tail = x;
}

static void
collect_finished(OeHttp *http)
{
	CURLMsg    *msg;
	int			left;

	while ((msg = curl_multi_info_read(http->multi, &left)) != NULL)
	{
		Exchange   *x = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &x);
		finish_exchange(http, x, msg->data.result);
	}

	if (http->answered_first != NULL)
	{
		int64_t		now = now_us();

		while (http->answered_first != NULL && http->answered_first->give_up_at <= now)
			finish_exchange(http, http->answered_first, CURLE_OK);
	}
}

void
oe_http_drive(OeHttp *http)
{
	struct epoll_event events[EPOLL_BATCH];
	sigset_t	saved;
	int			running;
	int			n;

	block_signals(&saved);
	n = epoll_wait(http->epfd, events, EPOLL_BATCH, 0);
	for (int i = 0; i < n; i++)
	{
		int			mask = 0;

		if (events[i].events & (EPOLLIN | EPOLLHUP))
			mask |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			mask |= CURL_CSELECT_OUT;
		if (events[i].events & EPOLLERR)
			mask |= CURL_CSELECT_ERR;
		(void) curl_multi_socket_action(http->multi, events[i].data.fd, mask, &running);
	}
	if (http->timer != NO_TIMER && http->timer <= now_us())
	{
		http->timer = NO_TIMER;
		(void) curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	collect_finished(http);
	restore_signals(&saved);
}

static oe_transport
classify(const Exchange *x)
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

bool
oe_http_finished(OeHttp *http, OeHttpResult *result)
{
	Exchange   *x = http->finished_head;
	long		status = 0;

	if (x == NULL)
		return false;
	http->finished_head = x->next;
	if (http->finished_head == NULL)
		http->finished_tail = NULL;

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
	release_exchange(http, x);
	return true;
}

/* ---------- the whole ---------- */

OeHttp *
oe_http_create(int max_in_flight, char *why, size_t whylen)
{
	OeHttp	   *http;
	CURLcode	rc = curl_global_init(CURL_GLOBAL_ALL);

	if (rc != CURLE_OK)
	{
		snprintf(why, whylen, "curl_global_init: %s", curl_easy_strerror(rc));
		return NULL;
	}
	http = calloc(1, sizeof(OeHttp));
	if (http == NULL)
	{
		snprintf(why, whylen, "out of memory");
		return NULL;
	}
	http->timer = NO_TIMER;
	http->epfd = epoll_create1(EPOLL_CLOEXEC);
	http->multi = http->epfd >= 0 ? curl_multi_init() : NULL;
	if (http->multi == NULL)
	{
		snprintf(why, whylen, "%s", http->epfd < 0 ? strerror(errno) : "curl_multi_init failed");
		if (http->epfd >= 0)
			close(http->epfd);
		free(http);
		return NULL;
	}
	if (curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
		curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http) != CURLM_OK ||
		curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
		curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http) != CURLM_OK ||
		curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING) != CURLM_OK)
	{
		snprintf(why, whylen, "curl_multi_setopt failed");
		curl_multi_cleanup(http->multi);
		close(http->epfd);
		free(http);
		return NULL;
	}
	oe_http_configure(http, max_in_flight, false, NULL, "");
	return http;
}

void
oe_http_configure(OeHttp *http, int max_in_flight, bool allow_http, const oe_cidr_list *allow,
				  const char *ca_file)
{
	/* fewer than in flight plus idle, and keep-alive is lost altogether */
	(void) curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, 2L * max_in_flight);
	http->allow_http = allow_http;
	if (allow != NULL)
		http->allow = *allow;
	else
		memset(&http->allow, 0, sizeof(http->allow));
	snprintf(http->ca_file, sizeof(http->ca_file), "%s", ca_file);
	http->generation++;
	http->configured_at = now_us();
}

int
oe_http_descriptor(OeHttp *http)
{
	return http->epfd;
}

long
oe_http_timeout(OeHttp *http)
{
	int64_t		due = http->timer;
	int64_t		left;

	if (http->answered_first != NULL &&
		(due == NO_TIMER || http->answered_first->give_up_at < due))
		due = http->answered_first->give_up_at;
	if (due == NO_TIMER)
		return -1;

	/* rounded up: a millisecond early would be a round for nothing */
	left = (due - now_us() + 999) / 1000;
	return left < 0 ? 0 : (long) left;
}

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
