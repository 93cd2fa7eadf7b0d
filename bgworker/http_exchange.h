/*
 * http_exchange.h
 *	  One request with libcurl, and what it shares with the others: for http.c and
 *	  http_exchange.c alone.
 */
#ifndef OE_HTTP_EXCHANGE_H
#define OE_HTTP_EXCHANGE_H

#include <curl/curl.h>

#include "http.h"

typedef struct OeExchange
{
	OeHttp	   *http;
	CURL	   *easy;
	struct curl_slist *headers;
	struct OeExchange *next;	/* in the pool, or among the finished */
	struct OeExchange *earlier; /* among those whose answer is known */
	struct OeExchange *later;
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
} OeExchange;

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
	OeExchange *answered_first; /* by the time they were answered */
	OeExchange *answered_last;
	OeExchange *pool;
	OeExchange *finished_head;
	OeExchange *finished_tail;
};

/* Microseconds of a clock that nobody sets. */
extern int64_t oe_http_now(void);

/* A handle with all options that do not differ between requests; NULL: no memory. */
extern OeExchange *oe_exchange_new(OeHttp *http);
extern void oe_exchange_free(OeExchange *x);

/* Readies it for a request; false with the reason when that cannot be sent. */
extern bool oe_exchange_prepare(OeExchange *x, const OeHttpRequest *request,
								char *why, size_t whylen);

/* Takes from it what belongs to the request. */
extern void oe_exchange_clear(OeExchange *x);

/* It is no longer under way: nobody waits for the rest of its body. */
extern void oe_exchange_forget_answer(OeExchange *x);

extern void oe_exchange_result(const OeExchange *x, OeHttpResult *result);

#endif							/* OE_HTTP_EXCHANGE_H */
