/*
 * delivery.c
 *	  What is to be delivered to whom: the worker's state in memory.
 *
 * An endpoint reads the log through a window.  What was read stands in it in
 * the order of the log until "base", the place before which everything is done,
 * has passed it.  Base and the ids that are done beyond it are what the flush
 * makes durable (ack.c), so a crash repeats only what was in flight and what the
 * last flush did not cover.
 *
 * Within an aggregate only the first event that is not done may be sent.  The
 * others queue behind it, those of other aggregates do not.
 *
 * Base must not wait for an event that sleeps until a retry, or that stands
 * behind one: such a delivery becomes an exception, gets a row of its own in
 * delivery_retry, and leaves the window.  So does an attempt that hangs while
 * hundreds behind it are done.
 *
 * Memory is bounded: the window and the number of exceptions are limited, and
 * with either full the endpoint reads no further.  The log is the buffer.
 *
 * The order of the log is that of txid, and an event whose predecessor stands
 * later in it says so (after_txid).  It is held back until a read has passed
 * the predecessor; when such an event is not for this endpoint at all, a place
 * holder stands for it, because what follows it must wait all the same.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "delivery.h"
#include "policy_match.h"
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

typedef struct KnownEntry
{
	pg_uuid_t	id;
	char		status;
} KnownEntry;

#define SH_PREFIX known
#define SH_ELEMENT_TYPE KnownEntry
#define SH_KEY_TYPE pg_uuid_t
#define SH_KEY id
#define SH_HASH_KEY(tb, key) DatumGetUInt32(hash_any((key).data, UUID_LEN))
#define SH_EQUAL(tb, a, b) (memcmp(&(a), &(b), UUID_LEN) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

dlist_head	oe_endpoints = DLIST_STATIC_INIT(oe_endpoints);
MemoryContext oe_notes_context = NULL;
int			oe_unflushed = 0;

static MemoryContext delivery_context = NULL;

void
oe_delivery_init(void)
{
	delivery_context = AllocSetContextCreate(TopMemoryContext, "order_engine delivery",
											 ALLOCSET_DEFAULT_SIZES);
	oe_notes_context = AllocSetContextCreate(TopMemoryContext, "order_engine notes",
											 ALLOCSET_DEFAULT_SIZES);
}

/* ---------- endpoints ---------- */

static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz due_a = pairingheap_const_container(OeDelivery, sleep_node, a)->next_attempt_at;
	TimestampTz due_b = pairingheap_const_container(OeDelivery, sleep_node, b)->next_attempt_at;

	/* the first of the heap is the greatest, and that shall be the earliest */
	return due_a < due_b ? 1 : (due_a > due_b ? -1 : 0);
}

OeEndpoint *
oe_endpoint_find(int32 endpoint_id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (endpoint->endpoint_id == endpoint_id)
			return endpoint;
	}
	return NULL;
}

OeEndpoint *
oe_endpoint_new(int32 endpoint_id)
{
	MemoryContext context = AllocSetContextCreate(delivery_context, "order_engine endpoint",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	OeEndpoint *endpoint = palloc0(sizeof(OeEndpoint));

	endpoint->context = context;
	endpoint->config_context = AllocSetContextCreate(context, "order_engine endpoint settings",
													 ALLOCSET_SMALL_SIZES);
	endpoint->endpoint_id = endpoint_id;
	dlist_init(&endpoint->all);
	dlist_init(&endpoint->window);
	dlist_init(&endpoint->ready);
	endpoint->sleeping = pairingheap_allocate(compare_due, NULL);
	endpoint->aggregates = aggregate_create(context, 256, NULL);
	dlist_push_tail(&oe_endpoints, &endpoint->node);
	MemoryContextSwitchTo(old);
	return endpoint;
}

/* A delivery's share in an event. */
static void
hold_event(OeDelivery *d, OeLogEvent *event)
{
	Assert(d->event == NULL);
	d->event = oe_event_ref(event);
	d->endpoint->body_bytes += event->bodylens[OE_BODY_WEBHOOK];
}

static void
drop_event(OeDelivery *d)
{
	if (d->event == NULL)
		return;
	d->endpoint->body_bytes -= d->event->bodylens[OE_BODY_WEBHOOK];
	oe_event_unref(d->event);
	d->event = NULL;
}

void
oe_endpoint_free(OeEndpoint *endpoint)
{
	dlist_iter	iter;

	Assert(endpoint->in_flight == 0);
	dlist_foreach(iter, &endpoint->all)
	{
		OeDelivery *d = dlist_container(OeDelivery, all_node, iter.cur);

		drop_event(d);
		oe_snapshot_unref(d->place.seen);
		oe_snapshot_unref(d->place.upto);
	}
	oe_snapshot_unref(endpoint->cursor.seen);
	oe_snapshot_unref(endpoint->cursor.upto);
	oe_snapshot_unref(endpoint->base.seen);
	oe_snapshot_unref(endpoint->base.upto);
	dlist_delete(&endpoint->node);
	MemoryContextDelete(endpoint->context);
}

bool
oe_endpoint_has_room(const OeEndpoint *endpoint)
{
	if (!endpoint->active)
		return false;
	if (endpoint->window_size < OE_WINDOW && endpoint->body_bytes < OE_WINDOW_BYTES &&
		endpoint->retries < OE_MAX_RETRIES && endpoint->exceptions < OE_MAX_EXCEPTIONS)
		return true;

	/*
	 * What is held back is let go by reading on and by nothing else.  So when
	 * nothing moves any more the limits do not count; such events are kept
	 * without their bodies.
	 */
	return endpoint->held_back > 0 && endpoint->in_flight == 0 && dlist_is_empty(unconstify(dlist_head *, &endpoint->ready));
}

/* ---------- notes for the flush ---------- */

static void
note(OeDelivery *d, OeNoteKind kind)
{
	MemoryContext old = MemoryContextSwitchTo(oe_notes_context);
	OeNote	   *n = palloc0(sizeof(OeNote));

	n->kind = kind;
	n->txid = d->place.txid;
	n->id = d->place.id;
	n->aggregate_seq = d->aggregate_seq;
	n->attempts = d->attempts;
	n->first_attempt_at = d->first_attempt_at;
	n->next_attempt_at = d->next_attempt_at;
	if (d->last_error != NULL)
		n->last_error = pstrdup(d->last_error);
	d->endpoint->notes = lappend(d->endpoint->notes, n);
	MemoryContextSwitchTo(old);
	d->endpoint->moved = true;
	oe_unflushed++;
}

static void
make_exception(OeDelivery *d)
{
	if (!d->exception)
	{
		d->exception = true;
		d->endpoint->exceptions++;
	}
	note(d, OE_NOTE_RETRY);
}

/* ---------- the life of a delivery ---------- */

static OeDelivery *
new_delivery(OeEndpoint *endpoint)
{
	OeDelivery *d = MemoryContextAllocZero(endpoint->context, sizeof(OeDelivery));

	d->endpoint = endpoint;
	d->state = OE_DELIVERY_WAITING;
	dlist_push_tail(&endpoint->all, &d->all_node);
	return d;
}

static void
free_delivery(OeDelivery *d)
{
	drop_event(d);
	oe_snapshot_unref(d->place.seen);
	oe_snapshot_unref(d->place.upto);
	if (d->last_error != NULL)
		pfree(d->last_error);
	dlist_delete(&d->all_node);
	pfree(d);
}

static void
enter_window(OeDelivery *d, const OePlace *pair, const OeLogEvent *event)
{
	OeEndpoint *endpoint = d->endpoint;

	d->place.seen = oe_snapshot_ref(pair->seen);
	d->place.upto = oe_snapshot_ref(pair->upto);
	d->place.txid = event->txid;
	d->place.id = event->id;
	d->in_window = true;
	dlist_push_tail(&endpoint->window, &d->window_node);
	endpoint->window_size++;
}

/* Base passes it; a delivery that is not done lives on as an exception. */
static void
leave_window(OeDelivery *d)
{
	OeEndpoint *endpoint = d->endpoint;

	oe_place_copy(&endpoint->base, &d->place);
	endpoint->moved = true;
	dlist_delete(&d->window_node);
	endpoint->window_size--;
	d->in_window = false;
	if (d->state == OE_DELIVERY_DONE)
	{
		endpoint->window_done--;
		free_delivery(d);
		return;
	}
	oe_snapshot_unref(d->place.seen);
	oe_snapshot_unref(d->place.upto);
	d->place.seen = d->place.upto = NULL;
}

/* It is the first of its aggregate, or has none: it may be sent when it is due. */
static void
make_ready(OeDelivery *d, TimestampTz now)
{
	if (d->next_attempt_at > now)
	{
		d->state = OE_DELIVERY_SLEEPING;
		pairingheap_add(d->endpoint->sleeping, &d->sleep_node);
	}
	else
	{
		d->state = OE_DELIVERY_READY;
		dlist_push_tail(&d->endpoint->ready, &d->ready_node);
	}
}

static void
mark_done(OeDelivery *d)
{
	d->state = OE_DELIVERY_DONE;
	if (d->exception)
		d->endpoint->exceptions--;
	if (d->retry)
		d->endpoint->retries--;
	d->endpoint->moved = true;
	oe_unflushed++;
	if (d->in_window)
	{
		d->endpoint->window_done++;
		drop_event(d);
	}
	else
		free_delivery(d);
}

/*
 * Lets the first of an aggregate go if nothing holds it back, and takes place
 * holders out of the way.  Frees an aggregate without deliveries.
 */
static void
settle_aggregate(OeEndpoint *endpoint, OeAggregate *aggregate, TimestampTz now)
{
	while (!dlist_is_empty(&aggregate->deliveries))
	{
		OeDelivery *d = dlist_head_element(OeDelivery, aggregate_node, &aggregate->deliveries);

		if (d->state != OE_DELIVERY_WAITING || d->held_back)
			return;
		if (!d->place_holder)
		{
			make_ready(d, now);
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

static void
finish(OeDelivery *d, TimestampTz now)
{
	OeEndpoint *endpoint = d->endpoint;
	OeAggregate *aggregate = d->aggregate;

	if (aggregate != NULL)
	{
		dlist_delete(&d->aggregate_node);
		d->aggregate = NULL;
	}
	mark_done(d);
	if (aggregate != NULL)
		settle_aggregate(endpoint, aggregate, now);
}

/* Puts it into the queue of its aggregate. */
static OeAggregate *
join_aggregate(OeDelivery *d, const char *key)
{
	OeEndpoint *endpoint = d->endpoint;
	bool		found;
	AggregateEntry *entry = aggregate_insert(endpoint->aggregates, key, &found);
	OeAggregate *aggregate;

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

/* ---------- what a restart brings back ---------- */

void
oe_delivery_restore(OeEndpoint *endpoint, const char *aggregate, const OeNote *stored,
					uint64 after_txid)
{
	OeDelivery *d = new_delivery(endpoint);
	const OePlace *base = &endpoint->base;
	bool		beyond_base;

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
	d->retry = stored->attempts > 0;
	if (d->retry)
		endpoint->retries++;

	beyond_base = !oe_snapshot_sees(base->seen, d->place.txid) &&
		(base->upto == NULL || !oe_snapshot_sees(base->upto, d->place.txid) ||
		 oe_place_compare_row(base, d->place.txid, &d->place.id) < 0);
	if (beyond_base)
		oe_delivery_known(endpoint, &d->place.id);

	if (!endpoint->ordered)
	{
		make_ready(d, GetCurrentTimestamp());
		return;
	}
	if (after_txid > d->place.txid && !oe_snapshot_sees(base->seen, after_txid) &&
		!(base->upto != NULL && oe_snapshot_sees(base->upto, after_txid) &&
		  after_txid < base->txid))
	{
		d->held_back = true;
		endpoint->held_back++;
	}
	settle_aggregate(endpoint, join_aggregate(d, aggregate), GetCurrentTimestamp());
}

void
oe_delivery_known(OeEndpoint *endpoint, const pg_uuid_t *id)
{
	bool		found;

	if (endpoint->known == NULL)
		endpoint->known = known_create(endpoint->context, 64, NULL);
	(void) known_insert(endpoint->known, *id, &found);
}

/* ---------- from the log ---------- */

static bool
wants(const OeEndpoint *endpoint, const char *type)
{
	size_t		len = strlen(type);

	for (int i = 0; i < endpoint->nglobs; i++)
	{
		if (oe_glob_match(endpoint->globs[i], strlen(endpoint->globs[i]), type, len))
			return true;
	}
	return false;
}

/* A read has passed this event: what was held back for it alone may go. */
static void
release_successor(OeEndpoint *endpoint, const OeLogEvent *event, TimestampTz now)
{
	AggregateEntry *entry = aggregate_lookup(endpoint->aggregates, event->aggregate);
	dlist_iter	iter;

	if (entry == NULL || event->aggregate_seq == 0)
		return;
	dlist_foreach(iter, &entry->aggregate->deliveries)
	{
		OeDelivery *d = dlist_container(OeDelivery, aggregate_node, iter.cur);

		if (d->held_back && d->aggregate_seq == event->aggregate_seq + 1)
		{
			d->held_back = false;
			endpoint->held_back--;
		}
	}
	settle_aggregate(endpoint, entry->aggregate, now);
}

/* A pair of snapshots was read to its end: nothing is held back any more. */
static void
release_all(OeEndpoint *endpoint, TimestampTz now)
{
	dlist_iter	iter;
	List	   *aggregates = NIL;
	ListCell   *lc;

	dlist_foreach(iter, &endpoint->all)
	{
		OeDelivery *d = dlist_container(OeDelivery, all_node, iter.cur);

		if (d->held_back)
		{
			d->held_back = false;
			aggregates = list_append_unique_ptr(aggregates, d->aggregate);
		}
	}
	endpoint->held_back = 0;
	foreach(lc, aggregates)
		settle_aggregate(endpoint, lfirst(lc), now);
	list_free(aggregates);
}

static void
route_one(OeEndpoint *endpoint, OeLogEvent *event, const OePlace *pair, TimestampTz now)
{
	bool		wanted;
	bool		late;
	OeDelivery *d;

	if (endpoint->known != NULL && known_delete(endpoint->known, event->id))
	{
		d = new_delivery(endpoint);
		enter_window(d, pair, event);
		mark_done(d);
		if (endpoint->held_back > 0)
			release_successor(endpoint, event, now);
		return;
	}

	wanted = wants(endpoint, event->type);
	late = endpoint->ordered && event->after_txid > event->txid &&
		!oe_snapshot_sees(pair->seen, event->after_txid);
	if (wanted || late)
	{
		OeAggregate *aggregate = NULL;

		d = new_delivery(endpoint);
		d->aggregate_seq = event->aggregate_seq;
		d->after_txid = event->after_txid;
		d->place_holder = !wanted;
		enter_window(d, pair, event);
		if (late)
		{
			d->held_back = true;
			endpoint->held_back++;
		}
		if (endpoint->ordered)
			aggregate = join_aggregate(d, event->aggregate);

		/* behind what is held back it may take long: it is read again then */
		if (wanted && (aggregate == NULL ||
					   !dlist_head_element(OeDelivery, aggregate_node,
										   &aggregate->deliveries)->held_back))
			hold_event(d, event);
		if (aggregate != NULL)
			settle_aggregate(endpoint, aggregate, now);
		else
			make_ready(d, now);
	}
	if (endpoint->held_back > 0)
		release_successor(endpoint, event, now);
}

void
oe_delivery_route(OeEndpoint *endpoint, OeLogEvent **events, int nevents,
				  const OePlace *before, const OePlace *after)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < nevents; i++)
		route_one(endpoint, events[i], before, now);
	if (after->upto == NULL && endpoint->held_back > 0)
		release_all(endpoint, now);
	if (nevents > 0)
		endpoint->read_on = true;
	oe_place_copy(&endpoint->cursor, after);
	if (dlist_is_empty(&endpoint->window))
		oe_place_copy(&endpoint->base, after);
}

TimestampTz
oe_delivery_wake(TimestampTz now)
{
	TimestampTz next = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		while (endpoint->active && !pairingheap_is_empty(endpoint->sleeping))
		{
			OeDelivery *d = pairingheap_container(OeDelivery, sleep_node,
												  pairingheap_first(endpoint->sleeping));

			if (d->next_attempt_at > now)
			{
				if (next == 0 || d->next_attempt_at < next)
					next = d->next_attempt_at;
				break;
			}
			(void) pairingheap_remove_first(endpoint->sleeping);
			make_ready(d, now);
		}
	}
	return next;
}

int
oe_delivery_without_event(OeDelivery **deliveries, int max)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);
		int			room = endpoint->max_in_flight - endpoint->in_flight;
		dlist_iter	ready;

		if (!endpoint->active)
			continue;
		dlist_foreach(ready, &endpoint->ready)
		{
			OeDelivery *d = dlist_container(OeDelivery, ready_node, ready.cur);

			if (n == max || room-- <= 0)
				break;
			if (d->event == NULL)
				deliveries[n++] = d;
		}
	}
	return n;
}

void
oe_delivery_set_event(OeDelivery *d, OeLogEvent *event)
{
	/*
	 * The second case is that of a place holder of before a restart, or of an
	 * endpoint that was altered meanwhile.
	 */
	if (event != NULL && wants(d->endpoint, event->type))
	{
		hold_event(d, event);
		return;
	}
	if (event == NULL)
		ereport(WARNING,
				(errmsg("an event that waited for endpoint \"%s\" is not in the outbox any more",
						d->endpoint->name)));
	dlist_delete(&d->ready_node);
	if (d->exception)
		note(d, OE_NOTE_SETTLED);
	finish(d, GetCurrentTimestamp());
}

/* ---------- what became of it ---------- */

static void
remember_error(OeDelivery *d, const char *error)
{
	if (d->last_error != NULL)
		pfree(d->last_error);
	d->last_error = error != NULL && error[0] != '\0' ?
		MemoryContextStrdup(d->endpoint->context, error) : NULL;
}

void
oe_delivery_finished(OeDelivery *d, oe_outcome outcome, int64 retry_after, const char *error,
					 TimestampTz now)
{
	OeEndpoint *endpoint = d->endpoint;
	int64		next;

	d->attempts++;
	if (outcome == OE_OUTCOME_SUCCESS)
	{
		if (d->exception)
			note(d, OE_NOTE_SETTLED);
		finish(d, now);
		return;
	}

	remember_error(d, error);
	if (outcome == OE_OUTCOME_PERMANENT ||
		!oe_retry_next(d->attempts, d->first_attempt_at, now, endpoint->schedule,
					   endpoint->nsteps, endpoint->max_age,
					   pg_prng_double(&pg_global_prng_state), &next))
	{
		note(d, OE_NOTE_DEAD);
		finish(d, now);
		return;
	}
	if (outcome == OE_OUTCOME_PAUSE)
		next = Max(next, now + oe_pause_delay(retry_after));
	d->next_attempt_at = next;
	if (!d->retry)
	{
		d->retry = true;
		endpoint->retries++;
	}
	make_exception(d);
	drop_event(d);
	make_ready(d, now);
}

/* ---------- how far it is ---------- */

/* Must base not wait for this one? */
static bool
stands_in_the_way(const OeDelivery *d)
{
	const OeEndpoint *endpoint = d->endpoint;

	if (d->state == OE_DELIVERY_WAITING && d->aggregate != NULL &&
		dlist_head_element(OeDelivery, aggregate_node, &d->aggregate->deliveries)->exception)
		return true;
	return d->state != OE_DELIVERY_READY && endpoint->window_done >= OE_WINDOW / 2;
}

void
oe_delivery_advance(OeEndpoint *endpoint)
{
	while (!dlist_is_empty(&endpoint->window))
	{
		OeDelivery *d = dlist_head_element(OeDelivery, window_node, &endpoint->window);

		if (d->state != OE_DELIVERY_DONE && !d->exception)
		{
			if (!stands_in_the_way(d))
				break;
			make_exception(d);
			if (d->state == OE_DELIVERY_WAITING)
				drop_event(d);
		}
		leave_window(d);
	}
	if (dlist_is_empty(&endpoint->window))
		oe_place_copy(&endpoint->base, &endpoint->cursor);
}

pg_uuid_t *
oe_delivery_done_beyond(OeEndpoint *endpoint, int *n)
{
	int			nknown = endpoint->known != NULL ? (int) endpoint->known->members : 0;
	pg_uuid_t  *ids = palloc((endpoint->window_done + nknown + 1) * sizeof(pg_uuid_t));
	dlist_iter	iter;

	*n = 0;
	if (endpoint->window_done > 0)
	{
		dlist_foreach(iter, &endpoint->window)
		{
			OeDelivery *d = dlist_container(OeDelivery, window_node, iter.cur);

			if (d->state == OE_DELIVERY_DONE)
				ids[(*n)++] = d->place.id;
		}
	}
	if (nknown > 0)
	{
		known_iterator it;
		KnownEntry *entry;

		known_start_iterate(endpoint->known, &it);
		while ((entry = known_iterate(endpoint->known, &it)) != NULL)
			ids[(*n)++] = entry->id;
	}
	return ids;
}
