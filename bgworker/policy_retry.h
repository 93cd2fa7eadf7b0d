/*-------------------------------------------------------------------------
 *
 * policy_retry.h
 *	  What an attempt's result means and when the next attempt is due.
 *
 * Pure C: no server headers, no allocation, no state.  All durations and
 * times are microseconds; times may have any epoch as long as the caller
 * uses one throughout (only oe_retry_after_parse needs the Unix epoch).
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_POLICY_RETRY_H
#define OE_POLICY_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OE_SECONDS(n)	((int64_t) (n) * INT64_C(1000000))
#define OE_MINUTES(n)	OE_SECONDS((int64_t) (n) * 60)
#define OE_HOURS(n)		OE_MINUTES((int64_t) (n) * 60)

/* jitter: each delay is multiplied by uniform [0.8, 1.2) */
#define OE_RETRY_JITTER_MIN		0.8
#define OE_RETRY_JITTER_MAX		1.2

#define OE_RETRY_MAX_STEPS		64
#define OE_RETRY_MAX_DELAY		OE_HOURS(30 * 24)

#define OE_RETRY_AFTER_NONE		INT64_C(-1) /* missing or garbage */
#define OE_RETRY_AFTER_MAX		OE_HOURS(24)
#define OE_PAUSE_DEFAULT		OE_SECONDS(60)	/* 429 without Retry-After */
#define OE_PAUSE_MIN			OE_SECONDS(1)	/* "0" must not spin */

/*
 * What happened below HTTP.  The http file maps libcurl's codes to these, so
 * that nothing else needs to know libcurl.
 */
typedef enum oe_transport
{
	OE_TRANSPORT_OK = 0,		/* the exchange ended in good order */
	OE_TRANSPORT_DNS,			/* name does not resolve */
	OE_TRANSPORT_CONNECT,		/* refused, unreachable */
	OE_TRANSPORT_TLS,			/* handshake or certificate */
	OE_TRANSPORT_TIMEOUT,		/* connect or total timeout */
	OE_TRANSPORT_IO,			/* reset or closed in the middle */
	OE_TRANSPORT_PROTOCOL,		/* the answer is not HTTP, or over our limits */
	OE_TRANSPORT_LOCAL,			/* our side: memory, descriptors, shutdown */
	OE_TRANSPORT_BLOCKED,		/* address denied by policy_address */
	OE_TRANSPORT_BAD_URL,		/* URL cannot be used */
	OE_TRANSPORT_BAD_HEADER,	/* header denied by policy_header */
	OE_TRANSPORT_QUARANTINED	/* the event crashed the worker too often */
} oe_transport;

typedef enum oe_outcome
{
	OE_OUTCOME_SUCCESS,			/* delivered */
	OE_OUTCOME_TRANSIENT,		/* try again by the schedule */
	OE_OUTCOME_PERMANENT,		/* never try again: dead letter */
	OE_OUTCOME_PAUSE,			/* the endpoint asked to wait: oe_pause_delay */
	OE_OUTCOME_GONE				/* disable the endpoint, keep its events */
} oe_outcome;

extern oe_outcome oe_outcome_classify(oe_transport transport, int http_status,
									  int64_t retry_after);
extern int64_t oe_pause_delay(int64_t retry_after);
extern bool oe_retry_after_parse(const char *value, size_t len,
								 int64_t now_unix, int64_t *delay);

extern bool oe_retry_schedule_check(const int64_t *schedule, int nsteps,
									int64_t max_age,
									char *why, size_t whylen);
extern bool oe_retry_next(int attempts, int64_t first_attempt, int64_t now,
						  const int64_t *schedule, int nsteps,
						  int64_t max_age, double random, int64_t *next);

#endif							/* OE_POLICY_RETRY_H */
