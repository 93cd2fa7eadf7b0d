/*
 * http.c
 *	  POST requests with libcurl's multi interface over one epoll descriptor.
 *
 * Lifecycle: one OeHttp for the life of the worker.  Easy handles are pooled;
 * connections are kept alive in the multi handle's cache.
 *
 * Accidents survived:
 *	- resolver threads must not run the server's signal handlers: every signal
 *	  but those of a fault is blocked while libcurl works, so that threads it
 *	  starts inherit that
 *	- a descriptor that libcurl closed and got again: it is added to epoll anew
 *	- receivers that answer without an end, see http_exchange.c
 */
#include "http_exchange.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EPOLL_BATCH			64
#define NO_TIMER			(-1)

/*
 * But those of a fault are let through: of one that is blocked the system ends the
 * process without a word, and nobody would learn which request it was.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
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

	http->timer = timeout_ms < 0 ? NO_TIMER : oe_http_now() + (int64_t) timeout_ms * 1000;
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

/* ---------- exchanges ---------- */

/* One from the pool, if it has one with the present settings. */
static OeExchange *
pooled_exchange(OeHttp *http)
{
	OeExchange *x;

	while ((x = http->pool) != NULL)
	{
		http->pool = x->next;
		if (x->generation == http->generation)
			return x;
		oe_exchange_free(x);
	}
	return NULL;
}

static void
put_into_pool(OeHttp *http, OeExchange *x)
{
	oe_exchange_clear(x);
	x->next = http->pool;
	http->pool = x;
}

bool
oe_http_start(OeHttp *http, const OeHttpRequest *request, char *why, size_t whylen)
{
	OeExchange *x = pooled_exchange(http);
	bool		ok = false;

	/* no signal need be blocked: libcurl begins, and may start a thread, when it is driven */
	if (x == NULL)
		x = oe_exchange_new(http);
	if (x == NULL)
		snprintf(why, whylen, "out of memory");
	else
	{
		x->next = NULL;
		if (oe_exchange_prepare(x, request, why, whylen))
		{
			CURLMcode	rc = curl_multi_add_handle(http->multi, x->easy);

			ok = rc == CURLM_OK;
			if (!ok)
				snprintf(why, whylen, "%s", curl_multi_strerror(rc));
		}
		if (!ok)
			put_into_pool(http, x);
	}
	return ok;
}

/* Takes a request out of libcurl; one that is not at its end loses its connection. */
static void
finish_exchange(OeHttp *http, OeExchange *x, CURLcode code)
{
	x->code = code;
	x->ended = oe_http_now();
	(void) curl_multi_remove_handle(http->multi, x->easy);
	oe_exchange_forget_answer(x);
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
		OeExchange *x = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &x);
		finish_exchange(http, x, msg->data.result);
	}

	if (http->answered_first != NULL)
	{
		int64_t		now = oe_http_now();

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
	if (http->timer != NO_TIMER && http->timer <= oe_http_now())
	{
		http->timer = NO_TIMER;
		(void) curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	collect_finished(http);
	restore_signals(&saved);
}

bool
oe_http_finished(OeHttp *http, OeHttpResult *result)
{
	OeExchange *x = http->finished_head;

	if (x == NULL)
		return false;
	http->finished_head = x->next;
	if (http->finished_head == NULL)
		http->finished_tail = NULL;
	oe_exchange_result(x, result);
	put_into_pool(http, x);
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
	http->configured_at = oe_http_now();
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
	if (http->finished_head != NULL)
		return 0;
	if (due == NO_TIMER)
		return -1;

	/* rounded up: a millisecond early would be a round for nothing */
	left = (due - oe_http_now() + 999) / 1000;
	return left < 0 ? 0 : (long) left;
}
