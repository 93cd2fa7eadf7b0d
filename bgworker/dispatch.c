/*
 * dispatch.c
 *	  Turn ready deliveries into requests, and results into outcomes.
 *
 * Nothing of this touches the database.  A request is signed at each attempt,
 * because the time of the attempt is part of what is signed.  Endpoints take
 * turns, one request each, so that a long queue of one does not hold up another.
 *
 * Whether an endpoint may be sent to is asked of its health (health.h), which
 * knows of the other workers' requests, too.  When it says no, the endpoint is
 * passed over until the time that it named, or until a request has ended.
 */
#include "postgres.h"

#include "attempt_log.h"
#include "dispatch.h"
#include "policy_header.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "worker_slot.h"

#define MAX_HEADERS		(OE_HEADER_COUNT_MAX + OE_ENVELOPE_HEADERS + 10)

/* bodies of one request with several events */
#define MAX_BATCH_BYTES	(1024 * 1024)

/* so often may an event have its endpoint pause while that takes others */
#define MAX_PAUSES		3

/* so long does one event have the others wait, or wait for them, to go alone */
#define LONELY_MS		5000

/* One request with its events: the first of each aggregate, and what follows it. */
typedef struct Attempt
{
	dlist_node	node;			/* in under_way */
	OeEndpoint *endpoint;
	bool		probe;
	uint32		epoch;			/* of the endpoint when it began */
	bool		lonely;			/* its event may have crashed the worker */
	bool		batch;			/* the body was made for it, and is its own */
	char	   *body;
	size_t		bodylen;
	int			n;
	OeDelivery *deliveries[FLEXIBLE_ARRAY_MEMBER];
} Attempt;

int			oe_in_flight = 0;

static dlist_head under_way = DLIST_STATIC_INIT(under_way);

/*
 * An event that may have crashed the worker goes alone.  From lonely_since on
 * one waits for the others to end, or is under way and the others wait for it.
 */
static TimestampTz lonely_since = 0;	/* 0: none */
static bool lonely_under_way = false;

static oe_signer signer;
static MemoryContext request_context = NULL;	/* reset after each turn */
static MemoryContext attempt_context = NULL;

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
	attempt_context = AllocSetContextCreate(TopMemoryContext, "order_engine attempts",
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

	if (!oe_traceparent_valid(traceparent) || !pg_strong_random(span, sizeof(span)))
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

/* ---------- requests ---------- */

/* Must the events be put into one body, be it of one event? */
static bool
needs_batch(const OeEndpoint *endpoint, int n)
{
	return n > 1 || endpoint->format == OE_FORMAT_CLOUDEVENTS_BATCH;
}

static void
make_body(Attempt *a)
{
	OeEndpoint *endpoint = a->endpoint;
	OeLogEvent *first = a->deliveries[0]->event;
	OeLogEvent **events;
	StringInfoData body;
	MemoryContext old;

	a->batch = needs_batch(endpoint, a->n);
	if (!a->batch)
	{
		a->body = unconstify(char *, first->bodies[endpoint->body]);
		a->bodylen = first->bodylens[endpoint->body];
		return;
	}
	events = palloc(a->n * sizeof(OeLogEvent *));
	for (int i = 0; i < a->n; i++)
		events[i] = a->deliveries[i]->event;
	old = MemoryContextSwitchTo(attempt_context);
	initStringInfo(&body);
	oe_envelope_batch(&body, endpoint->format, events, a->n);
	MemoryContextSwitchTo(old);
	a->body = body.data;
	a->bodylen = body.len;
}

static const char *
webhook_id(Attempt *a)
{
	OeLogEvent **events;
	char	   *id;

	if (a->n == 1)
		return a->deliveries[0]->event->event_id;
	events = palloc(a->n * sizeof(OeLogEvent *));
	for (int i = 0; i < a->n; i++)
		events[i] = a->deliveries[i]->event;
	id = palloc(OE_BATCH_ID_SIZE);
	oe_envelope_batch_id(events, a->n, id);
	return id;
}

/* Hands one request to libcurl; false with the reason when it could not be. */
static bool
start_request(OeHttp *http, Attempt *a, TimestampTz now, char *why, size_t whylen)
{
	OeEndpoint *endpoint = a->endpoint;
	OeLogEvent *event = a->deliveries[0]->event;
	const char *headers[MAX_HEADERS];
	int			nheaders;
	oe_secret	secrets[OE_MAX_SECRETS];
	int			nsecrets = usable_secrets(endpoint, now, secrets);
	char		signature[OE_SIGNATURE_SIZE(OE_MAX_SECRETS)];
	int64		unix_time = timestamptz_to_time_t(now);
	const char *id = webhook_id(a);
	const char *traceparent;
	OeHttpRequest request;

	oe_quarantine_at(endpoint->endpoint_id, &event->id);
	if (endpoint->bad_header != NULL)
	{
		strlcpy(why, endpoint->bad_header, whylen);
		return false;
	}
	if (nsecrets == 0)
	{
		snprintf(why, whylen, "the endpoint has no secret");
		return false;
	}
	make_body(a);
	if (!oe_sign(&signer, id, unix_time, a->body, a->bodylen,
				 secrets, nsecrets, signature, sizeof(signature), why, whylen))
		return false;

	nheaders = oe_envelope_headers(endpoint->format, a->batch, event, headers);
	headers[nheaders++] = "accept:";
	headers[nheaders++] = "expect:";
	headers[nheaders++] = psprintf("webhook-id: %s", id);
	headers[nheaders++] = psprintf("webhook-timestamp: " INT64_FORMAT, unix_time);
	headers[nheaders++] = psprintf("webhook-signature: %s", signature);
	headers[nheaders++] = "user-agent: order_engine/" OE_VERSION;
	traceparent = a->n == 1 ? next_traceparent(event->traceparent) : NULL;
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
	request.body = a->body;
	request.bodylen = a->bodylen;
	request.connect_timeout_ms = endpoint->connect_timeout_ms;
	request.timeout_ms = endpoint->timeout_ms;
	request.client_cert = endpoint->client_cert;
	request.client_key = endpoint->client_key;
	request.owner = a;
	return oe_http_start(http, &request, why, whylen);
}

static void
free_attempt(Attempt *a)
{
	dlist_delete(&a->node);
	if (a->batch && a->body != NULL)
		pfree(a->body);
	pfree(a);
}

/* Takes what goes into the next request: at least "d". */
static Attempt *
take_deliveries(OeEndpoint *endpoint, OeDelivery *d, bool probe, TimestampTz now)
{
	int			max = probe || d->alone ? 1 : endpoint->max_batch;
	size_t		bytes = 0;
	Attempt    *a = MemoryContextAllocZero(attempt_context,
										   offsetof(Attempt, deliveries) + max * sizeof(OeDelivery *));

	dlist_push_tail(&under_way, &a->node);
	a->endpoint = endpoint;
	a->probe = probe;
	a->epoch = endpoint->epoch;
	while (d != NULL)
	{
		OeDelivery *follower = oe_delivery_follower(d);

		a->deliveries[a->n++] = d;
		bytes += d->event->bodylens[endpoint->body];
		oe_delivery_taken(d, now);
		if (a->n == max)
			break;
		d = follower != NULL ? follower : oe_delivery_next(endpoint);
		if (d != NULL && (d->alone || bytes + d->event->bodylens[endpoint->body] > MAX_BATCH_BYTES))
			break;
	}
	return a;
}

/* ---------- results ---------- */

static void
log_attempt(const Attempt *a, pg_uuid_t id, const OeHttpResult *result, const char *outcome,
			int attempt, TimestampTz now)
{
	OeAttemptEntry entry = {0};

	entry.attempted_at = now;
	entry.endpoint_id = a->endpoint->endpoint_id;
	entry.attempt = attempt;
	entry.status = result->status;
	entry.duration = result->duration;
	entry.events = a->n;
	entry.outcome = outcome;
	entry.id = id;
	if (result->error[0] != '\0')
	{
		entry.error = result->error;
		entry.response = result->response;
		entry.responselen = result->responselen;
	}
	oe_attempt_log_add(&entry);
}

/* What one attempt says of the endpoint. */
static oe_verdict
verdict(const Attempt *a, oe_outcome outcome, oe_transport transport)
{
	bool		to_blame = a->n == 1 && oe_delivery_to_blame(a->deliveries[0]);

	switch (outcome)
	{
		case OE_OUTCOME_SUCCESS:
			return OE_VERDICT_GOOD;
		case OE_OUTCOME_TRANSIENT:
			break;
		default:
			return OE_VERDICT_NEUTRAL;
	}
	switch (transport)
	{
		case OE_TRANSPORT_DNS:
		case OE_TRANSPORT_CONNECT:
		case OE_TRANSPORT_TLS:
			return OE_VERDICT_UNREACHABLE;
		case OE_TRANSPORT_TIMEOUT:
		case OE_TRANSPORT_IO:
		case OE_TRANSPORT_PROTOCOL:
			/* a body may be what breaks it */
			return to_blame ? OE_VERDICT_NEUTRAL : OE_VERDICT_UNREACHABLE;
		case OE_TRANSPORT_OK:
			return to_blame ? OE_VERDICT_NEUTRAL : OE_VERDICT_BAD;
		default:
			return OE_VERDICT_NEUTRAL;	/* our side */
	}
}

/*
 * Has the endpoint asked to be left alone, or only for this event, again and
 * again while it takes others?
 */
static bool
is_pause(const Attempt *a)
{
	OeDelivery *d = a->deliveries[0];

	return a->n > 1 || d->pauses < MAX_PAUSES || d->mark == a->endpoint->successes;
}

/* Its pause and its breaker outlive the worker from the next flush on. */
static void
record_health(OeEndpoint *endpoint)
{
	oe_lane_dirty(dlist_head_element(OeLane, node, &endpoint->lanes));
	oe_unflushed++;
}

/* The breaker opened since we last looked, be it by another worker's request. */
static void
forgive_after_opening(OeEndpoint *endpoint, TimestampTz now)
{
	uint32		epoch = oe_health_epoch(endpoint->health);

	if (endpoint->epoch == epoch)
		return;
	endpoint->epoch = epoch;
	oe_endpoint_forgive(endpoint, now);
}

/* No more is sent to it; the next flush says so. */
static void
disable_endpoint(OeEndpoint *endpoint, const char *reason)
{
	if (!endpoint->active)
		return;
	endpoint->active = false;
	strlcpy(endpoint->disable, reason, sizeof(endpoint->disable));
	oe_unflushed++;
}

static void
note_change(OeEndpoint *endpoint, uint32 change, TimestampTz failing_since, TimestampTz now)
{
	OeHealthState state;

	if (change & OE_HEALTH_OPENED)
	{
		record_health(endpoint);
		oe_health_get(endpoint->health, &state);
		if (state.breaker_opens == 1)	/* not after each probe */
			ereport(LOG,
					(errmsg("order_engine stops sending to endpoint \"%s\" for a while: it fails",
							endpoint->name)));
	}
	if (change & OE_HEALTH_RECOVERED)
	{
		endpoint->recovered_since = failing_since != 0 ? failing_since : now;
		ereport(LOG,
				(errmsg("order_engine: endpoint \"%s\" works again", endpoint->name)));
		oe_unflushed++;
	}
	if (change & OE_HEALTH_DISABLE)
		disable_endpoint(endpoint, "it took no event for too long");
	forgive_after_opening(endpoint, now);
}

/* All events of a request meet the same fate; those behind the first of an aggregate just wait again. */
static void
settle_attempt(Attempt *a, const OeHttpResult *result, oe_outcome outcome, TimestampTz now)
{
	OeEndpoint *endpoint = a->endpoint;
	int64		pause = outcome == OE_OUTCOME_PAUSE ?
		(result->retry_after == OE_RETRY_AFTER_NONE ? endpoint->pause : oe_pause_delay(result->retry_after)) : 0;
	bool		paused = outcome == OE_OUTCOME_PAUSE && is_pause(a);
	bool		again = paused || outcome == OE_OUTCOME_GONE;

	if (paused)
	{
		oe_health_pause(endpoint->health, now + pause);
		record_health(endpoint);
		endpoint->wait_until = Max(endpoint->wait_until, now + pause);
	}
	if (outcome == OE_OUTCOME_GONE)
		disable_endpoint(endpoint, "the endpoint answered 410 Gone");

	/* backwards: who waits behind another in the same request is told first */
	for (int i = a->n - 1; i >= 0 && outcome != OE_OUTCOME_SUCCESS; i--)
	{
		OeDelivery *d = a->deliveries[i];
		bool		follows = d->aggregate != NULL &&
			dlist_head_node(&d->aggregate->deliveries) != &d->aggregate_node;
		pg_uuid_t	id = d->place.id;	/* it may be gone before it is logged */
		int			attempt = d->attempts + 1;

		d->alone = d->alone || (a->n > 1 && !again);
		if (again)
		{
			d->pauses += paused ? 1 : 0;
			d->mark = endpoint->successes;
		}
		if (again || follows)
			oe_delivery_again(d, now);
		if (again)
			log_attempt(a, id, result, paused ? "paused" : "failed", attempt, now);
		else if (!follows)
		{
			bool		dead = oe_delivery_failed(d, outcome == OE_OUTCOME_PERMANENT,
												  now + pause, result->error, now);

			log_attempt(a, id, result, dead ? "gave_up" : "failed", attempt, now);
		}
	}
	for (int i = 0; i < a->n && outcome == OE_OUTCOME_SUCCESS; i++)
	{
		OeDelivery *d = a->deliveries[i];

		log_attempt(a, d->place.id, result, "delivered", d->attempts + 1, now);
		oe_quarantine_acquit(endpoint->endpoint_id, &d->place.id);
		oe_delivery_succeeded(d, now);
	}
}

static void
count_result(oe_outcome outcome)
{
	pg_atomic_uint64 *counter;

	if (oe_my_slot == NULL)
		return;
	counter = outcome == OE_OUTCOME_SUCCESS ? &oe_my_slot->delivered : &oe_my_slot->failed;
	pg_atomic_write_u64(&oe_my_slot->attempts, pg_atomic_read_u64(&oe_my_slot->attempts) + 1);
	pg_atomic_write_u64(counter, pg_atomic_read_u64(counter) + 1);
}

/* Books the end of a request; the attempt is gone afterwards. */
static void
end_attempt(Attempt *a, const OeHttpResult *result, TimestampTz now)
{
	OeEndpoint *endpoint = a->endpoint;
	oe_outcome	outcome = oe_outcome_classify(result->transport, result->status, result->retry_after);
	OeHealthState before = {0};
	uint32		change;

	oe_quarantine_at(endpoint->endpoint_id, &a->deliveries[0]->place.id);
	endpoint->in_flight--;
	oe_in_flight--;
	if (a->lonely)
	{
		lonely_since = 0;
		lonely_under_way = false;
	}
	if (endpoint->wait_until == DT_NOEND)
		endpoint->wait_until = 0;
	count_result(outcome);

	/* of the three probes that close the breaker the last resets this */
	if (a->probe)
		oe_health_get(endpoint->health, &before);
	change = oe_health_settle(endpoint->health, &endpoint->policy, a->probe,
							  verdict(a, outcome, result->transport),
							  outcome == OE_OUTCOME_SUCCESS ? NULL : result->error, now);
	settle_attempt(a, result, outcome, now);
	note_change(endpoint, change, before.failing_since, now);

	/* the breaker opened meanwhile: this failure is one of those before it */
	if (a->epoch != endpoint->epoch && outcome != OE_OUTCOME_SUCCESS)
		oe_endpoint_forgive(endpoint, now);
	free_attempt(a);
	if (!endpoint->configured && endpoint->in_flight == 0)
		oe_endpoint_free(endpoint);
	oe_quarantine_at_nothing();
}

void
oe_dispatch_drive(OeHttp *http)
{
	oe_quarantine_at_requests();
	oe_http_drive(http);
	oe_quarantine_at_nothing();
}

int
oe_dispatch_in_flight(OeBlame *blamed, int max)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &under_way)
	{
		Attempt    *a = dlist_container(Attempt, node, iter.cur);

		for (int i = 0; i < a->n && n < max; i++)
		{
			blamed[n].endpoint_id = a->endpoint->endpoint_id;
			blamed[n++].id = a->deliveries[i]->place.id;
		}
	}
	return n;
}

int
oe_dispatch_results(OeHttp *http, TimestampTz now)
{
	OeHttpResult result;
	int			n = 0;

	while (oe_http_finished(http, &result))
	{
		end_attempt(result.owner, &result, now);
		n++;
	}
	return n;
}

/* ---------- sending ---------- */

/* Shall the first wait for others to fill the request? */
static bool
waits_for_batch(OeEndpoint *endpoint, const OeDelivery *d, TimestampTz now)
{
	TimestampTz until = d->ready_at + endpoint->max_batch_delay;

	if (endpoint->max_batch == 1 || endpoint->max_batch_delay == 0 || d->alone || d->exception ||
		endpoint->nready >= endpoint->max_batch || until <= now)
		return false;
	endpoint->wait_until = until;
	return true;
}

/*
 * Who may have crashed the worker waits until nothing else is under way, and
 * everybody else until that one is done; but nobody for long, because what is
 * under way may hang.  Only two such are never under way together: of them nobody
 * could tell which it was, and one that hangs would be blamed for the other's
 * crashes until it is in quarantine, too.
 */
static bool
waits_for_loneliness(bool suspect, TimestampTz now)
{
	bool		patient = lonely_since == 0 ||
		now < TimestampTzPlusMilliseconds(lonely_since, LONELY_MS);

	if (!suspect)
		return lonely_since != 0 && patient;
	if (lonely_under_way)
		return true;
	if (lonely_since == 0)
		lonely_since = now;
	return oe_in_flight > 0 && patient;
}

static bool
send_one(OeHttp *http, OeEndpoint *endpoint, int max_in_flight, TimestampTz now)
{
	OeDelivery *d;
	Attempt    *a;
	bool		probe;
	bool		suspect;
	TimestampTz wait;
	oe_transport refusal = OE_TRANSPORT_OK;
	int			crashes;
	char		why[256];

	if (!endpoint->active || endpoint->nready == 0 || endpoint->wait_until > now)
		return false;
	endpoint->wait_until = 0;

	/* an endpoint gets at most half of what the others leave: one that hangs leaves some, too */
	if (endpoint->in_flight > (max_in_flight - (oe_in_flight - endpoint->in_flight)) / 2)
		return false;
	d = oe_delivery_next(endpoint);
	if (d == NULL)
		return false;			/* read again first */
	if (waits_for_batch(endpoint, d, now))
		return false;
	crashes = oe_quarantine_crashes(endpoint->endpoint_id, &d->place.id);
	suspect = crashes > 0 && crashes < OE_CRASHES_ALLOWED;
	if (waits_for_loneliness(suspect, now))
		return false;
	if (!oe_health_permit(endpoint->health, &endpoint->policy, now, &probe, &wait))
	{
		forgive_after_opening(endpoint, now);
		if (suspect)
			lonely_since = 0;	/* it does not go now, so nobody waits for it */

		/* 0: a request of ours has to end, and that sets it back */
		endpoint->wait_until = wait != 0 ? wait : DT_NOEND;
		return false;
	}

	a = take_deliveries(endpoint, d, probe, now);
	a->lonely = suspect;
	lonely_under_way = lonely_under_way || suspect;
	endpoint->in_flight++;
	oe_in_flight++;
	if (crashes >= OE_CRASHES_ALLOWED)
	{
		snprintf(why, sizeof(why), "quarantined: the worker crashed %d times at this event", crashes);
		refusal = OE_TRANSPORT_QUARANTINED;
	}
	else if (!start_request(http, a, now, why, sizeof(why)))
		refusal = endpoint->bad_header != NULL ? OE_TRANSPORT_BAD_HEADER : OE_TRANSPORT_LOCAL;
	oe_quarantine_at_nothing();
	if (refusal != OE_TRANSPORT_OK)
	{
		OeHttpResult result = {0};

		result.transport = refusal;
		result.retry_after = OE_RETRY_AFTER_NONE;
		strlcpy(result.error, why, sizeof(result.error));
		end_attempt(a, &result, now);
	}
	return true;
}

int
oe_dispatch_send(OeHttp *http, int max_in_flight, TimestampTz now)
{
	MemoryContext old = MemoryContextSwitchTo(request_context);
	int			sent = 0;
	bool		progress = true;

	/* who comes first, when there is not enough for all, changes */
	if (!dlist_is_empty(&oe_sendable))
		dlist_push_tail(&oe_sendable, dlist_pop_head_node(&oe_sendable));

	while (progress && oe_in_flight < max_in_flight)
	{
		dlist_mutable_iter iter;

		progress = false;
		dlist_foreach_modify(iter, &oe_sendable)
		{
			OeEndpoint *endpoint = dlist_container(OeEndpoint, sendable_node, iter.cur);

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

TimestampTz
oe_dispatch_next(TimestampTz now)
{
	TimestampTz next = lonely_since != 0 ? TimestampTzPlusMilliseconds(lonely_since, LONELY_MS) : 0;
	dlist_iter	iter;

	if (next <= now)
		next = 0;
	dlist_foreach(iter, &oe_sendable)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, sendable_node, iter.cur);

		if (endpoint->active && endpoint->wait_until > now && endpoint->wait_until != DT_NOEND &&
			(next == 0 || endpoint->wait_until < next))
			next = endpoint->wait_until;
	}
	return next;
}
