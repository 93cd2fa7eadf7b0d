/*
 * bare_loop.c
 *	  The limit: how many signed POSTs a second libcurl can send from one thread.
 *
 *	  bare_loop URL REQUESTS CONCURRENCY BYTES
 *
 * A plain loop over curl_multi_socket_action and epoll that does for each
 * request what any Standard Webhooks sender must: new id, time stamp,
 * HMAC-SHA256 and headers for a body of BYTES bytes.  No database, no retries, no
 * order.  Prints requests per second, and the microseconds of CPU time that each
 * took.
 */
#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

static int	epfd;
static CURLM *multi;
static long timer_ms = -1;
static long started = 0;
static long finished = 0;
static long failed = 0;
static long total;
static const char *url;
static char *body;
static long body_bytes;
static char *text;				/* what is signed: id, time and body */
static const unsigned char key[32] = "0123456789abcdef0123456789abcde";

static int
on_timer(CURLM *m, long ms, void *arg)
{
	(void) m;
	(void) arg;
	timer_ms = ms;
	return 0;
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *fd_arg)
{
	struct epoll_event ev = {0};

	(void) easy;
	(void) arg;
	ev.data.fd = fd;
	if (what == CURL_POLL_REMOVE)
		return epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL), 0;
	ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (fd_arg == NULL || epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &ev) != 0)
		epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
	curl_multi_assign(multi, fd, &epfd);
	return 0;
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	(void) data;
	(void) arg;
	return size * n;
}

static void
start_request(CURL *easy)
{
	char		id[64];
	char		header[256];
	unsigned char mac[32];
	unsigned char base64[64];
	unsigned int maclen = sizeof(mac);
	long		now = (long) time(NULL);
	struct curl_slist *headers = NULL;
	struct curl_slist *old = NULL;
	int			len;

	snprintf(id, sizeof(id), "evt_%032lx", started);
	len = sprintf(text, "%s.%ld.", id, now);
	memcpy(text + len, body, body_bytes);
	HMAC(EVP_sha256(), key, sizeof(key), (unsigned char *) text, len + body_bytes, mac, &maclen);
	EVP_EncodeBlock(base64, mac, sizeof(mac));

	headers = curl_slist_append(headers, "content-type: application/json");
	headers = curl_slist_append(headers, "accept:");
	headers = curl_slist_append(headers, "expect:");
	headers = curl_slist_append(headers, "user-agent: bare-loop");
	snprintf(header, sizeof(header), "webhook-id: %s", id);
	headers = curl_slist_append(headers, header);
	snprintf(header, sizeof(header), "webhook-timestamp: %ld", now);
	headers = curl_slist_append(headers, header);
	snprintf(header, sizeof(header), "webhook-signature: v1,%s", base64);
	headers = curl_slist_append(headers, header);

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, &old);
	curl_slist_free_all(old);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, headers);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_multi_add_handle(multi, easy);
	started++;
}

static void
collect(void)
{
	CURLMsg    *msg;
	int			left;

	while ((msg = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *easy = msg->easy_handle;
		long		status = 0;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (msg->data.result != CURLE_OK || status / 100 != 2)
			failed++;
		finished++;
		curl_multi_remove_handle(multi, easy);
		if (started < total)
			start_request(easy);
	}
}

int
main(int argc, char **argv)
{
	struct timespec from;
	struct timespec to;
	struct rusage used;
	int			concurrency;
	int			running;

	if (argc != 5)
	{
		fprintf(stderr, "usage: bare_loop URL REQUESTS CONCURRENCY BYTES\n");
		return 2;
	}
	url = argv[1];
	total = atol(argv[2]);
	concurrency = atoi(argv[3]);
	body_bytes = atol(argv[4]);
	body = malloc(body_bytes);
	text = malloc(body_bytes + 128);
	if (body == NULL || text == NULL)
		return 1;
	memset(body, 'x', body_bytes);

	curl_global_init(CURL_GLOBAL_ALL);
	epfd = epoll_create1(0);
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 2L * concurrency);

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < concurrency && started < total; i++)
	{
		CURL	   *easy = curl_easy_init();

		curl_easy_setopt(easy, CURLOPT_URL, url);
		curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, body_bytes);
		curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
		curl_easy_setopt(easy, CURLOPT_PRIVATE, NULL);
		start_request(easy);
	}
	while (finished < total)
	{
		struct epoll_event events[64];
		int			n = epoll_wait(epfd, events, 64, timer_ms < 0 ? 1000 : (int) timer_ms);

		for (int i = 0; i < n; i++)
			curl_multi_socket_action(multi, events[i].data.fd,
									 (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
									 (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0), &running);
		if (n <= 0 || timer_ms == 0)
		{
			timer_ms = -1;
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
		}
		collect();
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	getrusage(RUSAGE_SELF, &used);
	printf("%.0f %.2f\n",
		   total / ((to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9),
		   ((used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
			used.ru_utime.tv_usec + used.ru_stime.tv_usec) / total);
	if (failed > 0)
		fprintf(stderr, "bare_loop: %ld requests failed\n", failed);
	return failed > 0;
}
