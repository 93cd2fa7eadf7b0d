/*
 * dispatch.c
 *	  Turn ready deliveries into requests, and results into outcomes.
 *
 * Nothing of this touches the database.  A request is signed at each attempt,
 * because the time of the attempt is part of what is signed.  Endpoints take
 * turns, one request each, so that a long queue of one does not hold up another.
 */
#include "postgres.h"

#include "dispatch.h"
#include "policy_header.h"
#include "shared.h"
#include "worker_slot.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define MAX_HEADERS		(OE_HEADER_COUNT_MAX + 10)

int			oe_in_flight = 0;

static oe_signer signer;
static MemoryContext request_context = NULL;

void
oe_dispatch_init(void)
{
	char		why[256];
	ResourceOwner owner;
	ResourceOwner old_owner = CurrentResourceOwner;
	MemoryContext old_context = MemoryContextSwitchTo(TopMemoryContext);
	bool		ok;

	/* the server ties a hash context to the owner that is current when it is made */
	owner = ResourceOwnerCreate(NULL, "order_engine signer");
	CurrentResourceOwner = owner;
	ok = oe_signer_init(&signer, why, sizeof(why));
	CurrentResourceOwner = old_owner;
	MemoryContextSwitchTo(old_context);
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not set up signing: %s", why)));

	request_context = AllocSetContextCreate(TopMemoryContext, "order_engine request",
											ALLOCSET_DEFAULT_SIZES);
}

/*
 * The trace goes on under a new span.  What is no traceparent is not sent: it
 * came from a setting that anybody may set.
 */
static const char *
next_traceparent(const char *traceparent)
{
	uint8		span[8];
	char		hex[17];
	static const char digits[] = "0123456789abcdef";

	if (!oe_traceparent_valid(traceparent))
		return NULL;
	if (!pg_strong_random(span, sizeof(span)))
		return NULL;
	for (int i = 0; i < 8; i++)
	{
		hex[2 * i] = digits[span[i] >> 4];
		hex[2 * i + 1] = digits[span[i] & 15];
	}
	hex[16] = '\0';
	return psprintf("traceparent: %.36s%s%s", traceparent, hex, traceparent + 52);
}

static int
usable_secrets(const OeEndpoint *endpoint, TimestampTz now, oe_secret *secrets)
{
	int			n = 0;

	for (int i = 0; i < endpoint->nsecrets; i++)
	{
		if (endpoint->secret_expires[i] == 0 || endpoint->secret_expires[i] > now)
			secrets[n++] = endpoint->secrets[i];
	}
	return n;
}

/* Starts one attempt; false with the reason when it could not be. */
static bool
start_attempt(OeHttp *http, OeDelivery *d, TimestampTz now, char *why, size_t whylen)
{
	OeEndpoint *endpoint = d->endpoint;
	OeLogEvent *event = d->event;
	const char *headers[MAX_HEADERS];
	int			nheaders = 0;
	oe_secret	secrets[OE_MAX_SECRETS];
	int			nsecrets = usable_secrets(endpoint, now, secrets);
	char		signature[OE_SIGNATURE_SIZE(OE_MAX_SECRETS)];
	int64		unix_time = timestamptz_to_time_t(now);
	const char *traceparent;
	OeHttpRequest request;

	if (nsecrets == 0)
	{
		snprintf(why, whylen, "the endpoint has no secret");
		return false;
	}
	if (!oe_sign(&signer, event->event_id, unix_time, event->bodies[OE_BODY_WEBHOOK], event->bodylens[OE_BODY_WEBHOOK],
				 secrets, nsecrets, signature, sizeof(signature), why, whylen))
		return false;

	headers[nheaders++] = "content-type: application/json";
	headers[nheaders++] = "accept:";
	headers[nheaders++] = "expect:";
	headers[nheaders++] = psprintf("webhook-id: %s", event->event_id);
	headers[nheaders++] = psprintf("webhook-timestamp: " INT64_FORMAT, unix_time);
	headers[nheaders++] = psprintf("webhook-signature: %s", signature);
	headers[nheaders++] = "user-agent: order_engine/" OE_VERSION;
	traceparent = next_traceparent(event->traceparent);
	if (traceparent != NULL)
	{
		headers[nheaders++] = traceparent;
		if (oe_tracestate_valid(event->tracestate))
			headers[nheaders++] = psprintf("tracestate: %s", event->tracestate);
	}
	for (int i = 0; i < endpoint->nheaders && nheaders < MAX_HEADERS; i++)
		headers[nheaders++] = endpoint->headers[i];

	request.url = endpoint->url;
	request.headers = headers;
	request.nheaders = nheaders;
	request.body = event->bodies[OE_BODY_WEBHOOK];
	request.bodylen = event->bodylens[OE_BODY_WEBHOOK];
	request.connect_timeout_ms = endpoint->connect_timeout_ms;
	request.timeout_ms = endpoint->timeout_ms;
	request.client_cert = NULL;
	request.client_key = NULL;
	request.owner = d;
	return oe_http_start(http, &request, why, whylen);
}

static bool
send_one(OeHttp *http, OeEndpoint *endpoint, int max_in_flight, TimestampTz now)
{
	OeDelivery *d;
	char		why[256];

	if (!endpoint->active || endpoint->in_flight >= endpoint->max_in_flight ||
		dlist_is_empty(&endpoint->ready))
		return false;

	/* an endpoint gets at most half of what the others leave: one that hangs leaves some, too */
	if (endpoint->in_flight > (max_in_flight - (oe_in_flight - endpoint->in_flight)) / 2)
		return false;
	d = dlist_head_element(OeDelivery, ready_node, &endpoint->ready);
	if (d->event == NULL)
		return false;			/* read again first */

	dlist_delete(&d->ready_node);
	d->state = OE_DELIVERY_IN_FLIGHT;
	if (d->first_attempt_at == 0)
		d->first_attempt_at = now;
	endpoint->in_flight++;
	oe_in_flight++;
	if (!start_attempt(http, d, now, why, sizeof(why)))
	{
		endpoint->in_flight--;
		oe_in_flight--;
		oe_delivery_finished(d, OE_OUTCOME_TRANSIENT, OE_RETRY_AFTER_NONE, why, now);
	}
	return true;
}

int
oe_dispatch_send(OeHttp *http, int max_in_flight, TimestampTz now)
{
	MemoryContext old = MemoryContextSwitchTo(request_context);
	int			sent = 0;
	bool		progress = true;

	while (progress && oe_in_flight < max_in_flight)
	{
		dlist_iter	iter;

		progress = false;
		dlist_foreach(iter, &oe_endpoints)
		{
			OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

			if (oe_in_flight >= max_in_flight)
				break;
			if (send_one(http, endpoint, max_in_flight, now))
			{
				progress = true;
				sent++;
			}
		}
		MemoryContextReset(request_context);
	}
	MemoryContextSwitchTo(old);
	return sent;
}

int
oe_dispatch_results(OeHttp *http, TimestampTz now)
{
	OeHttpResult result;
	OeWorkerSlot *slot = oe_my_slot;
	int			n = 0;

	while (oe_http_finished(http, &result))
	{
		OeDelivery *d = result.owner;
		OeEndpoint *endpoint = d->endpoint;
		oe_outcome	outcome = oe_outcome_classify(result.transport, result.status,
												  result.retry_after);

		n++;
		endpoint->in_flight--;
		oe_in_flight--;
		if (slot != NULL)
		{
			pg_atomic_write_u64(&slot->attempts, pg_atomic_read_u64(&slot->attempts) + 1);
			if (outcome == OE_OUTCOME_SUCCESS)
				pg_atomic_write_u64(&slot->delivered, pg_atomic_read_u64(&slot->delivered) + 1);
			else
				pg_atomic_write_u64(&slot->failed, pg_atomic_read_u64(&slot->failed) + 1);
		}
		oe_delivery_finished(d, outcome, result.retry_after, result.error, now);
		if (!endpoint->configured && endpoint->in_flight == 0)
			oe_endpoint_free(endpoint);
	}
	return n;
}
