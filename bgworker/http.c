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
 *	- a 2xx whose body drips, is huge or is cut is a success: the receiver has
 *	  said that it took the event
 *	- libcurl 7.88 corrupts multiplexed HTTP/2 POSTs: HTTP/1.1 only
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
#define EPOLL_BATCH			64
#define NO_TIMER			(-1)

typedef struct Exchange
{
	OeHttp	   *http;
	CURL	   *easy;
	struct curl_slist *headers;
	struct Exchange *next;		/* in the pool, or among the finished */
	void	   *owner;
	CURLcode	code;
	bool		blocked;		/* the address rules refused every address that was tried */
	bool		tried;			/* at least one address was allowed */
	size_t		body_bytes;
	size_t		header_bytes;
	int64_t		retry_after;
	char		curl_error[CURL_ERROR_SIZE];
	char		blocked_why[128];
} Exchange;

struct OeHttp
{
	CURLM	   *multi;
	int			epfd;
	int64_t		timer;			/* when libcurl wants to be called, NO_TIMER: never */
	bool		allow_http;
	oe_cidr_list allow;
	Exchange   *pool;
	Exchange   *finished_head;
	Exchange   *finished_tail;
};

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
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

	http->timer = timeout_ms < 0 ? NO_TIMER : now_ms() + timeout_ms;
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
	return CURL_PREREQFUNC_OK;
}

static size_t
on_header(char *data, size_t size, size_t nitems, void *arg)
{
	Exchange   *x = arg;
	size_t		len = size * nitems;
	static const char name[] = "retry-after:";

	x->header_bytes += len;
	if (x->header_bytes > MAX_HEADER_BYTES)
		return 0;
	if (len > sizeof(name) - 1 && strncasecmp(data, name, sizeof(name) - 1) == 0)
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

	x->body_bytes += size * nitems;
	return x->body_bytes > MAX_RESPONSE_BYTES ? 0 : size * nitems;
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

static void
release_exchange(OeHttp *http, Exchange *x)
{
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

static bool
start_exchange(OeHttp *http, Exchange *x, const OeHttpRequest *request, char *why, size_t whylen)
{
	CURL	   *easy = x->easy;
	CURLcode	rc = CURLE_OK;
	CURLMcode	mrc;

	x->owner = request->owner;
	x->code = CURLE_OK;
	x->blocked = false;
	x->tried = false;
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
#undef SET
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
	x = http->pool;
	if (x != NULL)
		http->pool = x->next;
	else
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
		x->code = msg->data.result;
		(void) curl_multi_remove_handle(http->multi, x->easy);
		x->next = NULL;
		if (http->finished_tail != NULL)
			http->finished_tail->next = x;
		else
			http->finished_head = x;
		http->finished_tail = x;
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
	if (http->timer != NO_TIMER && http->timer <= now_ms())
	{
		http->timer = NO_TIMER;
		(void) curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	collect_finished(http);
	restore_signals(&saved);
}

static oe_transport
classify(const Exchange *x, long status)
{
	if (x->blocked)
		return OE_TRANSPORT_BLOCKED;

	/* once a 2xx status line came, what follows it does not matter */
	if (status >= 200 && status < 300)
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
		case CURLE_UNSUPPORTED_PROTOCOL:
			return OE_TRANSPORT_BAD_URL;
		case CURLE_WEIRD_SERVER_REPLY:
			return OE_TRANSPORT_PROTOCOL;
		case CURLE_WRITE_ERROR:
			/* our limit on headers or body; the status line tells the rest */
			return status != 0 ? OE_TRANSPORT_OK : OE_TRANSPORT_PROTOCOL;
		case CURLE_OUT_OF_MEMORY:
		case CURLE_FAILED_INIT:
			return OE_TRANSPORT_LOCAL;
		default:
			return OE_TRANSPORT_IO;
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
	result->transport = classify(x, status);
	result->status = (int) status;
	result->retry_after = x->retry_after;
	result->error[0] = '\0';
	if (result->transport == OE_TRANSPORT_BLOCKED)
		snprintf(result->error, sizeof(result->error),
				 "address not allowed by order_engine.allow_cidrs: %s", x->blocked_why);
	else if (x->code == CURLE_UNSUPPORTED_PROTOCOL && !http->allow_http)
		snprintf(result->error, sizeof(result->error),
				 "protocol not allowed, see order_engine.allow_http: %s", x->curl_error);
	else if (result->transport != OE_TRANSPORT_OK)
		snprintf(result->error, sizeof(result->error), "%s",
				 x->curl_error[0] != '\0' ? x->curl_error : curl_easy_strerror(x->code));
	else if (status < 200 || status > 299)
		snprintf(result->error, sizeof(result->error), "HTTP status %ld", status);
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
}

int
oe_http_descriptor(OeHttp *http)
{
	return http->epfd;
}

long
oe_http_timeout(OeHttp *http)
{
	int64_t		left;

	if (http->timer == NO_TIMER)
		return -1;
	left = http->timer - now_ms();
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
