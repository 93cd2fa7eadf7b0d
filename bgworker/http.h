/*
 * http.h
 *	  POST requests, many at once.  The only interface to libcurl.
 *
 * Nothing here raises an error, allocates from a memory context or touches the
 * database; failures are return values.
 */
#ifndef OE_HTTP_H
#define OE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy_address.h"
#include "policy_retry.h"

#define OE_HTTP_ERROR_SIZE	256
#define OE_HTTP_RESPONSE_KEPT	2048
#define OE_HTTP_CA_FILE_MAX		1024	/* longest name of a file, with its end */

typedef struct OeHttp OeHttp;

typedef struct OeHttpRequest
{
	const char *url;
	const char *const *headers; /* "name: value", copied */
	int			nheaders;
	const char *body;			/* must stay valid until the result came */
	size_t		bodylen;
	long		connect_timeout_ms;
	long		timeout_ms;
	const char *client_cert;	/* PEM, copied; NULL: none.  The chain may follow it */
	const char *client_key;		/* PEM, not encrypted, copied */
	void	   *owner;			/* comes back with the result */
} OeHttpRequest;

typedef struct OeHttpResult
{
	void	   *owner;
	oe_transport transport;
	int			status;			/* 0: no status line came */
	int64_t		retry_after;	/* microseconds, OE_RETRY_AFTER_NONE */
	int64_t		duration;		/* microseconds, from start to end */
	const char *response;		/* first bytes of the body, not terminated, any bytes; */
	size_t		responselen;	/* valid until the next call of anything here */
	char		error[OE_HTTP_ERROR_SIZE];	/* empty after a good exchange */
} OeHttpResult;

/*
 * Once per process before anything else; false when libcurl cannot be used.
 * max_in_flight only sizes the cache of idle connections.
 */
extern OeHttp *oe_http_create(int max_in_flight, char *why, size_t whylen);

/*
 * Policy of the server: plain http or not, which addresses are opened, and the
 * file with certificate authorities (empty: those of the system; copied).
 */
extern void oe_http_configure(OeHttp *http, int max_in_flight, bool allow_http,
							  const oe_cidr_list *allow, const char *ca_file);

/* An epoll descriptor that is readable when oe_http_drive has work to do. */
extern int	oe_http_descriptor(OeHttp *http);

/* Milliseconds until oe_http_drive is due anyway; -1: never. */
extern long oe_http_timeout(OeHttp *http);

/* Starts a request; false when that failed outright, with the reason. */
extern bool oe_http_start(OeHttp *http, const OeHttpRequest *request,
						  char *why, size_t whylen);

/* Does what can be done without waiting. */
extern void oe_http_drive(OeHttp *http);

/* Takes one finished request; false when there is none. */
extern bool oe_http_finished(OeHttp *http, OeHttpResult *result);

/*
 * Is this a URL that requests can be sent to?  https, or http when allowed; a
 * host, no user, no password, no fragment.  Needs no OeHttp.
 */
extern bool oe_http_url_check(const char *url, bool allow_http, char *why, size_t whylen);

#endif							/* OE_HTTP_H */
