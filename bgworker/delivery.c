/*
 * delivery.c
 *	  One delivery: an event on its way to an endpoint.
 *
 * Within an aggregate only the first event that is not done may be sent.  The
 * others queue behind it, those of other aggregates do not.
 *
 * Whose fault a failure is shows what comes after it.  Until then the delivery
 * is a suspect: it follows its schedule, but only in memory, and holds its place
 * in the window.  When the endpoint takes another event meanwhile, the fault is
 * the event's: it gets a row in delivery_retry (lane.c) and ends as a dead
 * letter if need be.  When the endpoint's circuit breaker opens, the fault is
 * the endpoint's, and no attempt of its events was used up.
 *
 * An event that fails while probes of others pass must not open the breaker for
 * ever: what is known to be to blame itself says nothing about the endpoint
 * (dispatch.c asks oe_delivery_to_blame).
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "delivery.h"
#include "quarantine.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

typedef struct AggregateEntry
{
	const char *key;
	OeAggregate *aggregate;
	uint32		hash;
	char		status;
} AggregateEntry;

#define SH_PREFIX aggregate
#define SH_ELEMENT_TYPE AggregateEntry
#define SH_KEY_TYPE const char *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) DatumGetUInt32(hash_any((const unsigned char *) (key), strlen(key)))
#define SH_EQUAL(tb, a, b) (strcmp((a), (b)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

dlist_head	oe_sendable = DLIST_STATIC_INIT(oe_sendable);

static int	compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg);

/* of all endpoints; an endpoint that is paused has its deliveries waked all the same */
static pairingheap sleeping = {compare_due, NULL, NULL};

static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz due_a = pairingheap_const_container(OeDelivery, sleep_node, a)->next_attempt_at;
	TimestampTz due_b = pairingheap_const_container(OeDelivery, sleep_node, b)->next_attempt_at;

	/* the first of the heap is the greatest, and that shall be the earliest */
	return due_a < due_b ? 1 : (due_a > due_b ? -1 : 0);
}

/* ---------- notes for the next flush ---------- */

static void
note(OeDelivery *d, OeNoteKind kind)
{
	MemoryContext old = MemoryContextSwitchTo(oe_notes_context);
	OeNote	   *n = palloc0(sizeof(OeNote));

	n->kind = kind;
	n->endpoint_id = d->lane->endpoint->endpoint_id;
	n->endpoint_name = pstrdup(d->lane->endpoint->name);
	n->txid = d->place.txid;
	n->id = d->place.id;
	n->aggregate_seq = d->aggregate_seq;
	n->attempts = d->attempts;
	n->first_attempt_at = d->first_attempt_at;
	n->next_attempt_at = d->next_attempt_at;
	n->operational = d->event != NULL && d->event->operational;
	if (d->last_error != NULL)
		n->last_error = pstrdup(d->last_error);
	oe_notes = lappend(oe_notes, n);
	MemoryContextSwitchTo(old);
	oe_lane_dirty(d->lane);
	oe_unflushed++;
}

bool
oe_delivery_is_noted(const OeDelivery *d)
{
	ListCell   *lc;

	foreach(lc, oe_notes)
	{
		OeNote	   *n = lfirst(lc);

		if (n->endpoint_id == d->lane->endpoint->endpoint_id &&
			memcmp(&n->id, &d->place.id, sizeof(pg_uuid_t)) == 0)
			return true;
	}
	return false;
}

/* ---------- memory ---------- */

OeDelivery *
oe_delivery_new(OeLane *lane)
{
	OeDelivery *d = MemoryContextAllocZero(lane->endpoint->context, sizeof(OeDelivery));

	d->lane = lane;
	d->state = OE_DELIVERY_WAITING;
	dlist_push_tail(&lane->endpoint->all, &d->all_node);
	return d;
}

void
oe_delivery_hold(OeDelivery *d, OeLogEvent *event)
{
	Assert(d->event == NULL);
	d->event = oe_event_ref(event);
	d->lane->bytes += event->size;
	if (oe_quarantine_crashes(d->lane->endpoint->endpoint_id, &event->id) > 0)
		d->alone = true;
}

void
oe_delivery_drop(OeDelivery *d)
{
	if (d->event == NULL)
		return;
	d->lane->bytes -= d->event->size;
	oe_event_unref(d->event);
	d->event = NULL;
	if (d->state == OE_DELIVERY_READY)
		d->lane->endpoint->incomplete = true;
}

void
oe_delivery_free(OeDelivery *d)
{
	oe_delivery_drop(d);
	oe_snapshot_unref(d->place.seen);
	oe_snapshot_unref(d->place.upto);
	if (d->state == OE_DELIVERY_SLEEPING)
		pairingheap_remove(&sleeping, &d->sleep_node);
	if (d->last_error != NULL)
		pfree(d->last_error);
	dlist_delete(&d->all_node);
	pfree(d);
}

/* ---------- ready ---------- */

static void
push_ready(OeDelivery *d, bool first, TimestampTz now)
{
	OeLane	   *lane = d->lane;
	OeEndpoint *endpoint = lane->endpoint;

	d->state = OE_DELIVERY_READY;
	if (first)
		dlist_push_head(&lane->ready, &d->ready_node);
	else
	{
		d->ready_at = now;
		dlist_push_tail(&lane->ready, &d->ready_node);
	}
	endpoint->nready++;
	if (d->event == NULL || d->event->bodies[endpoint->body] == NULL)
		endpoint->incomplete = true;
	if (endpoint->nready == endpoint->max_batch && endpoint->wait_until != DT_NOEND)
		endpoint->wait_until = 0;	/* a request is full: if that was all that it waited for, it goes */
	if (!lane->in_ready)
	{
		lane->in_ready = true;
		dlist_push_tail(&endpoint->ready_lanes, &lane->ready_node);
	}
	if (!endpoint->sendable)
	{
		endpoint->sendable = true;
		dlist_push_tail(&oe_sendable, &endpoint->sendable_node);
	}
}

static void
unlink_ready(OeDelivery *d)
{
	OeLane	   *lane = d->lane;
	OeEndpoint *endpoint = lane->endpoint;

	dlist_delete(&d->ready_node);
	if (dlist_is_empty(&lane->ready))
	{
		dlist_delete(&lane->ready_node);
		lane->in_ready = false;
	}
	if (--endpoint->nready == 0)
	{
		dlist_delete(&endpoint->sendable_node);
		endpoint->sendable = false;
	}
}

void
oe_delivery_ready(OeDelivery *d, TimestampTz now)
{
	if (d->next_attempt_at > now)
	{
		d->state = OE_DELIVERY_SLEEPING;
		pairingheap_add(&sleeping, &d->sleep_node);
	}
	else
		push_ready(d, false, now);
}

TimestampTz
oe_delivery_wake(TimestampTz now)
{
	while (!pairingheap_is_empty(&sleeping))
	{
		OeDelivery *d = pairingheap_container(OeDelivery, sleep_node, pairingheap_first(&sleeping));

		if (d->next_attempt_at > now)
			return d->next_attempt_at;
		(void) pairingheap_remove_first(&sleeping);
		push_ready(d, false, now);
	}
	return 0;
}

/*
 * The lanes of an endpoint take turns.  A lane whose first event has to be read
 * again is passed over until it was.
 */
OeDelivery *
oe_delivery_next(OeEndpoint *endpoint)
{
	dlist_iter	iter;

	dlist_foreach(iter, &endpoint->ready_lanes)
	{
		OeLane	   *lane = dlist_container(OeLane, ready_node, iter.cur);
		OeDelivery *d = dlist_head_element(OeDelivery, ready_node, &lane->ready);

		if (d->event == NULL)
			continue;
		if (d->event->bodies[endpoint->body] == NULL)
		{
			oe_delivery_drop(d);	/* the format was altered */
			continue;
		}
		dlist_delete(&lane->ready_node);
		dlist_push_tail(&endpoint->ready_lanes, &lane->ready_node);
		return d;
	}
	return NULL;
}

OeDelivery *
oe_delivery_follower(OeDelivery *d)
{
	OeDelivery *next;

	if (d->aggregate == NULL || !dlist_has_next(&d->aggregate->deliveries, &d->aggregate_node))
		return NULL;
	next = dlist_container(OeDelivery, aggregate_node, d->aggregate_node.next);
	if (next->state != OE_DELIVERY_WAITING || next->held_back || next->place_holder ||
		next->alone || next->event == NULL ||
		next->event->bodies[next->lane->endpoint->body] == NULL)
		return NULL;
	return next;
}

void
oe_delivery_taken(OeDelivery *d, TimestampTz now)
{
	if (d->state == OE_DELIVERY_READY)
		unlink_ready(d);
	d->state = OE_DELIVERY_IN_FLIGHT;
	d->taken_at = now;
	if (d->first_attempt_at == 0)
		d->first_attempt_at = now;
}

int
oe_delivery_without_event(OeDelivery **deliveries, int max, TimestampTz now)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &oe_sendable)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, sendable_node, iter.cur);
		int			room = endpoint->max_batch * endpoint->policy.max_in_flight - endpoint->in_flight;
		int			before = n;
		bool		whole = true;
		dlist_iter	lanes;

		if (!endpoint->incomplete || !endpoint->active || endpoint->wait_until > now)
			continue;
		dlist_foreach(lanes, &endpoint->ready_lanes)
		{
			OeLane	   *lane = dlist_container(OeLane, ready_node, lanes.cur);
			dlist_iter	ready;

			dlist_foreach(ready, &lane->ready)
			{
				OeDelivery *d = dlist_container(OeDelivery, ready_node, ready.cur);

				if (n == max || room-- <= 0)
				{
					whole = false;
					break;
				}
				if (d->event == NULL || d->event->bodies[endpoint->body] == NULL)
				{
					oe_delivery_drop(d);
					deliveries[n++] = d;
				}
			}
		}
		/* those that were found are only now being read, and that may fail */
		endpoint->incomplete = !whole || n > before;
	}
	return n;
}

void
oe_delivery_set_event(OeDelivery *d, OeLogEvent *event)
{
	OeEndpoint *endpoint = d->lane->endpoint;

	/*
	 * The second case is that of a place holder of before a restart, or of an
	 * endpoint that was altered meanwhile.
	 */
	if (event != NULL && (d->lane->kind == OE_LANE_REPLAY || oe_wants(endpoint, event)))
	{
		oe_delivery_hold(d, event);
		return;
	}
	if (event == NULL)
		ereport(WARNING,
				(errmsg("an event that waited for endpoint \"%s\" is not in the outbox any more",
						endpoint->name)));
	unlink_ready(d);
	d->state = OE_DELIVERY_WAITING;
	if (d->exception)
		note(d, OE_NOTE_SETTLED);
	oe_delivery_finish(d, GetCurrentTimestamp());
}

/* ---------- aggregates ---------- */

OeAggregate *
oe_aggregate_find(OeEndpoint *endpoint, const char *key)
{
	AggregateEntry *entry;

	if (endpoint->aggregates == NULL)
		return NULL;
	entry = aggregate_lookup(endpoint->aggregates, key);
	return entry != NULL ? entry->aggregate : NULL;
}

OeAggregate *
oe_aggregate_join(OeDelivery *d, const char *key)
{
	OeEndpoint *endpoint = d->lane->endpoint;
	bool		found;
	AggregateEntry *entry;
	OeAggregate *aggregate;

	if (endpoint->aggregates == NULL)
		endpoint->aggregates = aggregate_create(endpoint->context, 64, NULL);
	entry = aggregate_insert(endpoint->aggregates, key, &found);
	if (!found)
	{
		aggregate = MemoryContextAlloc(endpoint->context,
									   offsetof(OeAggregate, key) + strlen(key) + 1);
		dlist_init(&aggregate->deliveries);
		strcpy(aggregate->key, key);
		entry->aggregate = aggregate;
		entry->key = aggregate->key;
	}
	aggregate = entry->aggregate;
	d->aggregate = aggregate;

	/*
	 * Without numbers, in the order of the log, but for one that says it comes
	 * after a transaction that was read only now.
	 */
	if (d->aggregate_seq == 0)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &aggregate->deliveries)
		{
			OeDelivery *other = dlist_container(OeDelivery, aggregate_node, iter.cur);

			if (other->held_back && other->after_txid == d->place.txid)
			{
				dlist_insert_before(&other->aggregate_node, &d->aggregate_node);
				return aggregate;
			}
		}
	}

	/* before those with a higher number, as far as they have not begun */
	if (d->aggregate_seq != 0 && !dlist_is_empty(&aggregate->deliveries))
	{
		dlist_node *at = dlist_tail_node(&aggregate->deliveries);

		for (;;)
		{
			OeDelivery *other = dlist_container(OeDelivery, aggregate_node, at);

			if (other->state != OE_DELIVERY_WAITING || other->aggregate_seq <= d->aggregate_seq)
			{
				dlist_insert_after(at, &d->aggregate_node);
				return aggregate;
			}
			if (!dlist_has_prev(&aggregate->deliveries, at))
				break;
			at = dlist_prev_node(&aggregate->deliveries, at);
		}
		dlist_push_head(&aggregate->deliveries, &d->aggregate_node);
		return aggregate;
	}
	dlist_push_tail(&aggregate->deliveries, &d->aggregate_node);
	return aggregate;
}

static void
mark_done(OeDelivery *d)
{
	OeEndpoint *endpoint = d->lane->endpoint;

	if (d->suspect)
	{
		d->suspect = false;
		dlist_delete(&d->suspect_node);
	}
	if (d->state == OE_DELIVERY_BLOCKED)
		endpoint->blocked--;
	if (d->exception)
		endpoint->exceptions--;
	if (d->retry)
		endpoint->retries--;
	d->state = OE_DELIVERY_DONE;
	oe_lane_dirty(d->lane);
	oe_unflushed++;
	if (d->in_window)
	{
		d->lane->window_done++;
		oe_delivery_drop(d);
	}
	else
		oe_delivery_free(d);
}

/* Also takes place holders out of the way, and frees an aggregate without deliveries. */
void
oe_aggregate_settle(OeEndpoint *endpoint, OeAggregate *aggregate, TimestampTz now)
{
	while (!dlist_is_empty(&aggregate->deliveries))
	{
		OeDelivery *d = dlist_head_element(OeDelivery, aggregate_node, &aggregate->deliveries);

		if (d->state != OE_DELIVERY_WAITING || d->held_back)
			return;
		if (!d->place_holder)
		{
			oe_delivery_ready(d, now);
			return;
		}
		dlist_delete(&d->aggregate_node);
		d->aggregate = NULL;
		if (d->exception)
			note(d, OE_NOTE_SETTLED);
		mark_done(d);
	}
	aggregate_delete(endpoint->aggregates, aggregate->key);
	pfree(aggregate);
}

void
oe_delivery_finish(OeDelivery *d, TimestampTz now)
{
	OeEndpoint *endpoint = d->lane->endpoint;
	OeAggregate *aggregate = d->aggregate;

	if (aggregate != NULL)
	{
		dlist_delete(&d->aggregate_node);
		d->aggregate = NULL;
	}
	mark_done(d);
	if (aggregate != NULL)
		oe_aggregate_settle(endpoint, aggregate, now);
}

/* ---------- what became of an attempt ---------- */

static void
count_retry(OeDelivery *d)
{
	if (d->retry)
		return;
	d->retry = true;
	d->lane->endpoint->retries++;
}

void
oe_delivery_except(OeDelivery *d)
{
	if (d->suspect)
	{
		d->suspect = false;
		dlist_delete(&d->suspect_node);
		count_retry(d);
	}
	if (!d->exception)
	{
		d->exception = true;
		d->lane->endpoint->exceptions++;
	}
	note(d, OE_NOTE_RETRY);
}

bool
oe_delivery_to_blame(const OeDelivery *d)
{
	return d->retry || (d->failed && d->mark != d->lane->endpoint->successes);
}

static void
remember_error(OeDelivery *d, const char *error)
{
	if (d->last_error != NULL)
		pfree(d->last_error);
	d->last_error = error != NULL && error[0] != '\0' ?
		MemoryContextStrdup(d->lane->endpoint->context, error) : NULL;
}

void
oe_delivery_succeeded(OeDelivery *d, TimestampTz now)
{
	d->lane->endpoint->successes++;
	if (d->exception || d->lane->kind == OE_LANE_REPLAY)
		note(d, OE_NOTE_SETTLED);
	oe_delivery_finish(d, now);
}

static void
give_up(OeDelivery *d, TimestampTz now)
{
	OeEndpoint *endpoint = d->lane->endpoint;

	if (endpoint->best_effort)
	{
		if (d->exception)
			note(d, OE_NOTE_SETTLED);
		oe_delivery_finish(d, now);
		return;
	}
	note(d, OE_NOTE_DEAD);
	if (!endpoint->block_dead || d->aggregate == NULL)
	{
		oe_delivery_finish(d, now);
		return;
	}

	/* its aggregate waits for it; the dead letter is its row */
	if (d->suspect)
	{
		d->suspect = false;
		dlist_delete(&d->suspect_node);
	}
	if (d->retry)
		endpoint->retries--;
	d->retry = false;
	if (!d->exception)
		endpoint->exceptions++;
	d->exception = true;
	d->state = OE_DELIVERY_BLOCKED;
	endpoint->blocked++;
	oe_delivery_drop(d);
}

bool
oe_delivery_failed(OeDelivery *d, bool permanent, int64 not_before, const char *error, TimestampTz now)
{
	OeEndpoint *endpoint = d->lane->endpoint;
	bool		to_blame = oe_delivery_to_blame(d);
	int64		next;

	d->attempts++;
	d->failed = true;
	d->mark = endpoint->successes;
	remember_error(d, error);
	if (permanent || endpoint->best_effort ||
		!oe_retry_next(d->attempts, d->first_attempt_at, now, endpoint->schedule,
					   endpoint->nsteps, endpoint->max_age,
					   pg_prng_double(&pg_global_prng_state), &next))
	{
		give_up(d, now);
		return true;
	}
	d->next_attempt_at = Max(next, not_before);
	if (d->exception || to_blame)
	{
		count_retry(d);
		oe_delivery_except(d);
	}
	else if (!d->suspect)
	{
		d->suspect = true;
		dlist_push_tail(&endpoint->suspects, &d->suspect_node);
	}
	oe_delivery_drop(d);
	oe_delivery_ready(d, now);
	return false;
}

void
oe_delivery_again(OeDelivery *d, TimestampTz now)
{
	if (d->aggregate != NULL &&
		dlist_head_node(&d->aggregate->deliveries) != &d->aggregate_node)
		d->state = OE_DELIVERY_WAITING;
	else
		push_ready(d, true, now);
}

void
oe_endpoint_forgive(OeEndpoint *endpoint, TimestampTz now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &endpoint->suspects)
	{
		OeDelivery *d = dlist_container(OeDelivery, suspect_node, iter.cur);

		d->suspect = false;
		dlist_delete(&d->suspect_node);
		d->alone = false;
		d->attempts = 0;
		d->first_attempt_at = d->state == OE_DELIVERY_IN_FLIGHT ? now : 0;
		d->next_attempt_at = 0;
		if (d->state == OE_DELIVERY_SLEEPING)
		{
			pairingheap_remove(&sleeping, &d->sleep_node);
			push_ready(d, false, now);
		}
	}
}

/* ---------- what a restart brings back ---------- */

/* Its row was written before base came to it: the lane shall not bring it again. */
static void
know_unless_passed(OeLane *lane, const OeDelivery *d)
{
	const OePlace *base = oe_lane_place(lane);

	if (!oe_snapshot_sees(base->seen, d->place.txid) &&
		(base->upto == NULL || !oe_snapshot_sees(base->upto, d->place.txid) ||
		 oe_place_compare_row(base, d->place.txid, &d->place.id) < 0))
		oe_lane_known(lane, &d->place.id);
}

void
oe_delivery_restore(OeEndpoint *endpoint, int shard, const char *aggregate,
					const OeNote *stored, uint64 after_txid, bool blocked)
{
	OeLane	   *lane = oe_lane_of(endpoint, shard);
	const OePlace *base = oe_lane_place(lane);
	OeDelivery *d = oe_delivery_new(lane);

	d->place.txid = stored->txid;
	d->place.id = stored->id;
	d->aggregate_seq = stored->aggregate_seq;
	d->after_txid = after_txid;
	d->attempts = stored->attempts;
	d->first_attempt_at = stored->first_attempt_at;
	d->next_attempt_at = stored->next_attempt_at;
	if (stored->last_error != NULL)
		d->last_error = MemoryContextStrdup(endpoint->context, stored->last_error);
	d->exception = true;
	endpoint->exceptions++;
	if (blocked)
	{
		d->state = OE_DELIVERY_BLOCKED;
		endpoint->blocked++;
		(void) oe_aggregate_join(d, aggregate);
		return;
	}
	if (stored->attempts > 0)
		count_retry(d);

	know_unless_passed(lane, d);
	if (lane->partner != NULL)
		know_unless_passed(lane->partner, d);

	if (!endpoint->ordered)
	{
		oe_delivery_ready(d, GetCurrentTimestamp());
		return;
	}
	if (after_txid > d->place.txid && !oe_snapshot_sees(base->seen, after_txid) &&
		!(base->upto != NULL && oe_snapshot_sees(base->upto, after_txid) &&
		  after_txid < base->txid))
		oe_delivery_hold_back(d);
	oe_aggregate_settle(endpoint, oe_aggregate_join(d, aggregate), GetCurrentTimestamp());
}

/* ---------- held back ---------- */

void
oe_delivery_hold_back(OeDelivery *d)
{
	OeLane	   *lane = d->lane;

	d->held_back = true;
	if (lane->held_back++ == 0 && !oe_lane_knows(lane))
		oe_attentive_lanes++;
}

void
oe_delivery_let_go(OeDelivery *d)
{
	OeLane	   *lane = d->lane;

	d->held_back = false;
	if (--lane->held_back == 0 && !oe_lane_knows(lane))
		oe_attentive_lanes--;
}
