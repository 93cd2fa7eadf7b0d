/*
 * lane.c
 *	  Endpoints, their lanes, and how far each lane is in the log.
 *
 * A lane reads the log through a window.  What was read stands in it in the
 * order of the log until "base", the place before which everything is done, has
 * passed it.  Base and the ids that are done beyond it are what the flush makes
 * durable (position.c), so a crash repeats only what was in flight and what the
 * last flush did not cover.
 *
 * Base must not wait for an event that sleeps until a retry of its own, or that
 * stands behind one: such a delivery becomes an exception, gets a row in
 * delivery_retry, and leaves the window.  So does an attempt that hangs while
 * hundreds behind it are done.  It does wait for an event that failed while the
 * endpoint took nothing else: of an endpoint that is down there are no rows.
 *
 * Memory is bounded: with a full window a lane reads no further.  The log is the
 * buffer.
 *
 * Lanes whose window is empty are where their cursor is, so that a read costs
 * nothing for the endpoints that it does not concern.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "delivery.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* base waits no longer for an attempt while hundreds behind it are done */
#define HANGS_MS	500

/* cursors between two reads are of so many courses at once that are worth looking for */
#define MAX_COURSES	16

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
dlist_head	oe_cursors = DLIST_STATIC_INIT(oe_cursors);
dlist_head	oe_dirty_lanes = DLIST_STATIC_INIT(oe_dirty_lanes);
MemoryContext oe_notes_context = NULL;
List	   *oe_notes = NIL;
int			oe_unflushed = 0;
int			oe_attentive_lanes = 0;

static MemoryContext delivery_context = NULL;
static TimestampTz hang_at = 0; /* the first of the lanes' hangs_at, or before; 0: none */

void
oe_delivery_init(void)
{
	delivery_context = AllocSetContextCreate(TopMemoryContext, "order_engine delivery",
											 ALLOCSET_DEFAULT_SIZES);
	oe_notes_context = AllocSetContextCreate(TopMemoryContext, "order_engine notes",
											 ALLOCSET_DEFAULT_SIZES);
}

/* ---------- endpoints ---------- */

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
												  ALLOCSET_SMALL_SIZES);
	OeEndpoint *endpoint = MemoryContextAllocZero(context, sizeof(OeEndpoint));

	endpoint->context = context;
	endpoint->config_context = AllocSetContextCreate(context, "order_engine endpoint settings",
													 ALLOCSET_SMALL_SIZES);
	endpoint->endpoint_id = endpoint_id;
	endpoint->health = oe_health_attach(endpoint_id);
	endpoint->epoch = oe_health_epoch(endpoint->health);
	dlist_init(&endpoint->lanes);
	dlist_init(&endpoint->all);
	dlist_init(&endpoint->suspects);
	dlist_init(&endpoint->ready_lanes);
	dlist_push_tail(&oe_endpoints, &endpoint->node);
	return endpoint;
}

/* ---------- cursors ---------- */

static OeCursor *
new_cursor(const OePlace *place, uint32 shards, OeReplay *replay)
{
	OeCursor   *cursor = MemoryContextAllocZero(delivery_context, sizeof(OeCursor));

	oe_place_copy(&cursor->place, place);
	cursor->shards = shards;
	cursor->replay = replay;
	dlist_init(&cursor->lanes);
	dlist_push_tail(&oe_cursors, &cursor->node);
	return cursor;
}

static void
join_cursor(OeLane *lane, OeCursor *cursor)
{
	lane->cursor = cursor;
	dlist_push_tail(&cursor->lanes, &lane->cursor_node);
	cursor->nlanes++;
}

static void
leave_cursor(OeLane *lane)
{
	OeCursor   *cursor = lane->cursor;

	dlist_delete(&lane->cursor_node);
	lane->cursor = NULL;
	if (--cursor->nlanes > 0)
		return;
	oe_snapshot_unref(cursor->place.seen);
	oe_snapshot_unref(cursor->place.upto);
	dlist_delete(&cursor->node);
	pfree(cursor);
}

void
oe_lane_detach(OeLane *lane)
{
	OeCursor   *shared = lane->cursor;
	OeCursor   *own;

	if (shared->nlanes == 1)
		return;
	own = new_cursor(&shared->place, shared->shards, shared->replay);
	own->at_end = shared->at_end;
	own->reads_in_pair = shared->reads_in_pair;
	leave_cursor(lane);
	join_cursor(lane, own);
}

/* May lanes of these two share one?  Both have lanes that have room. */
static bool
same_course(const OeCursor *a, const OeCursor *b)
{
	const OeLane *x = dlist_container(OeLane, cursor_node, a->lanes.head.next);
	const OeLane *y = dlist_container(OeLane, cursor_node, b->lanes.head.next);

	return a->replay == NULL && b->replay == NULL && a->shards == b->shards &&
		x->kind == y->kind && x->split == y->split && oe_place_equal(&a->place, &b->place);
}

/* Puts the lanes of the cursors of a kind that are at the same place together. */
static void
merge_cursors(bool between_reads)
{
	OeCursor   *courses[MAX_COURSES];
	int			ncourses = 0;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &oe_cursors)
	{
		OeCursor   *cursor = dlist_container(OeCursor, node, iter.cur);
		OeLane	   *first = dlist_head_element(OeLane, cursor_node, &cursor->lanes);
		int			i;

		/* a main lane beside an express lane waits for that alone */
		if ((cursor->place.upto == NULL) != between_reads || cursor->replay != NULL ||
			(first->kind == OE_LANE_MAIN && first->split != NULL) || first->closing ||
			!oe_lane_has_room(first))
			continue;
		for (i = 0; i < ncourses && !same_course(courses[i], cursor); i++)
			;
		if (i == ncourses)
		{
			if (ncourses < MAX_COURSES)
				courses[ncourses++] = cursor;
			continue;
		}
		for (int n = cursor->nlanes; n > 0; n--)
		{
			OeLane	   *lane = dlist_head_element(OeLane, cursor_node, &cursor->lanes);

			leave_cursor(lane); /* the last one frees the cursor */
			join_cursor(lane, courses[i]);
		}
	}
}

/*
 * Within a read two lanes are at the same place only after a restart, or when
 * they parted because one had no room; all come to rest at the same snapshot.
 */
void
oe_cursors_merge(void)
{
	merge_cursors(true);
	merge_cursors(false);
}

/* ---------- lanes ---------- */

OeLane *
oe_lane_new(OeEndpoint *endpoint, OeLaneKind kind, uint32 shards, const OePlace *place,
			OeReplay *replay)
{
	OeLane	   *lane = MemoryContextAllocZero(endpoint->context, sizeof(OeLane));

	lane->kind = kind;
	lane->endpoint = endpoint;
	lane->shards = shards;
	lane->replay = replay;
	dlist_init(&lane->window);
	dlist_init(&lane->ready);
	dlist_push_tail(&endpoint->lanes, &lane->node);
	join_cursor(lane, new_cursor(place, shards, replay));
	return lane;
}

OeLane *
oe_lane_of(OeEndpoint *endpoint, int shard)
{
	dlist_iter	iter;

	dlist_foreach(iter, &endpoint->lanes)
	{
		OeLane	   *lane = dlist_container(OeLane, node, iter.cur);

		if (lane->kind == OE_LANE_MAIN && (lane->shards & (1 << shard)) != 0)
			return lane;
	}
	return NULL;
}

static bool
is_attentive(const OeLane *lane)
{
	return lane->held_back > 0 || oe_lane_knows(lane);
}

static void
release_lane(OeLane *lane)
{
	if (lane->dirty)
		dlist_delete(&lane->dirty_node);
	if (is_attentive(lane))
		oe_attentive_lanes--;
	if (lane->known != NULL)
		known_destroy(lane->known);
	oe_snapshot_unref(lane->base.seen);
	oe_snapshot_unref(lane->base.upto);
	oe_snapshot_unref(lane->recorded_seen);
	oe_snapshot_unref(lane->recorded_upto);
	oe_snapshot_unref(lane->known_until);
	oe_split_unref(lane->split);
	leave_cursor(lane);
	dlist_delete(&lane->node);
}

/* What is known of events that the lane has not read yet. */
static void
inherit_known(OeLane *heir, OeLane *lane)
{
	known_iterator it;
	KnownEntry *entry;
	bool		found;

	if (!oe_lane_knows(lane))
		return;
	if (heir->known == NULL)
	{
		heir->known = known_create(heir->endpoint->context, 64, NULL);
		heir->known_until = oe_snapshot_ref(lane->known_until);
	}
	known_start_iterate(lane->known, &it);
	while ((entry = known_iterate(lane->known, &it)) != NULL)
		(void) known_insert(heir->known, entry->id, &found);
}

void
oe_lane_end(OeLane *lane, OeLane *heir)
{
	bool		was_attentive = is_attentive(heir);
	dlist_iter	iter;

	Assert(dlist_is_empty(&lane->window));
	if (lane->replay == NULL)
		inherit_known(heir, lane);
	heir->held_back += lane->held_back;
	if (!was_attentive && is_attentive(heir))
		oe_attentive_lanes++;
	dlist_foreach(iter, &lane->endpoint->all)
	{
		OeDelivery *d = dlist_container(OeDelivery, all_node, iter.cur);

		if (d->lane != lane)
			continue;
		if (d->event != NULL)
		{
			lane->bytes -= d->event->size;
			heir->bytes += d->event->size;
		}
		d->lane = heir;
	}
	while (!dlist_is_empty(&lane->ready))
		dlist_push_tail(&heir->ready, dlist_pop_head_node(&lane->ready));
	if (lane->in_ready)
		dlist_delete(&lane->ready_node);
	if (!heir->in_ready && !dlist_is_empty(&heir->ready))
	{
		heir->in_ready = true;
		dlist_push_tail(&lane->endpoint->ready_lanes, &heir->ready_node);
	}
	release_lane(lane);
	pfree(lane);
}

void
oe_endpoint_free(OeEndpoint *endpoint)
{
	dlist_mutable_iter iter;

	Assert(endpoint->in_flight == 0);
	oe_replay_forget(endpoint);
	dlist_foreach_modify(iter, &endpoint->all)
		oe_delivery_free(dlist_container(OeDelivery, all_node, iter.cur));
	dlist_foreach_modify(iter, &endpoint->lanes)
		release_lane(dlist_container(OeLane, node, iter.cur));
	if (endpoint->sendable)
		dlist_delete(&endpoint->sendable_node);
	dlist_delete(&endpoint->node);
	oe_health_detach(endpoint->health);
	MemoryContextDelete(endpoint->context);
}

bool
oe_lane_has_room(const OeLane *lane)
{
	const OeEndpoint *endpoint = lane->endpoint;

	return endpoint->active && lane->window_size < OE_WINDOW &&
		lane->bytes < (oe_event_bytes < OE_ALL_BYTES ? OE_WINDOW_BYTES : OE_FAIR_BYTES) &&
		endpoint->retries < OE_MAX_RETRIES && endpoint->exceptions < OE_MAX_EXCEPTIONS;
}

const OePlace *
oe_lane_place(const OeLane *lane)
{
	return lane->window_size == 0 ? &lane->cursor->place : &lane->base;
}

static bool
place_has_passed(const OePlace *place, uint64 txid, const pg_uuid_t *id)
{
	return oe_snapshot_sees(place->seen, txid) ||
		(place->upto != NULL && oe_snapshot_sees(place->upto, txid) &&
		 oe_place_compare_row(place, txid, id) >= 0);
}

bool
oe_lane_has_passed(const OeLane *lane, uint64 txid, const pg_uuid_t *id)
{
	dlist_iter	iter;

	if (place_has_passed(oe_lane_place(lane), txid, id))
		return true;
	dlist_foreach(iter, &unconstify(OeLane *, lane)->window)
	{
		OeDelivery *d = dlist_container(OeDelivery, window_node, iter.cur);

		if (memcmp(&d->place.id, id, sizeof(pg_uuid_t)) == 0)
			return d->state == OE_DELIVERY_DONE;
	}

	/* read, but not for this endpoint */
	return place_has_passed(&lane->cursor->place, txid, id);
}

void
oe_lane_dirty(OeLane *lane)
{
	if (lane->dirty)
		return;
	lane->dirty = true;
	dlist_push_tail(&oe_dirty_lanes, &lane->dirty_node);
}

/* ---------- what is known of a time before the restart ---------- */

void
oe_lane_known(OeLane *lane, const pg_uuid_t *id)
{
	bool		found;

	if (lane->known == NULL)
	{
		lane->known = known_create(lane->endpoint->context, 64, NULL);
		lane->known_until = oe_snapshot_current();
	}
	if (lane->known->members == 0 && lane->held_back == 0)
		oe_attentive_lanes++;
	(void) known_insert(lane->known, *id, &found);
}

bool
oe_lane_knows(const OeLane *lane)
{
	return lane->known != NULL && lane->known->members > 0;
}

bool
oe_lane_take_known(OeLane *lane, const pg_uuid_t *id)
{
	if (lane->known == NULL || !known_delete(lane->known, *id))
		return false;
	if (lane->known->members == 0 && lane->held_back == 0)
		oe_attentive_lanes--;
	return true;
}

/*
 * Some are never read: after the number of workers has changed those of other
 * shards, and beside an express lane those that the other lane takes.
 */
void
oe_lane_forget_known(OeLane *lane)
{
	if (!oe_lane_knows(lane) || lane->replay != NULL ||
		!oe_snapshot_covers(lane->cursor->place.seen, lane->known_until))
		return;
	known_reset(lane->known);
	if (lane->held_back == 0)
		oe_attentive_lanes--;
}

/* ---------- the window ---------- */

void
oe_lane_enter(OeDelivery *d, const OePlace *pair, const OeLogEvent *event)
{
	OeLane	   *lane = d->lane;

	if (dlist_is_empty(&lane->window))
		oe_place_copy(&lane->base, pair);
	d->place.seen = oe_snapshot_ref(pair->seen);
	d->place.upto = oe_snapshot_ref(pair->upto);
	d->place.txid = event->txid;
	d->place.id = event->id;
	d->in_window = true;
	dlist_push_tail(&lane->window, &d->window_node);
	lane->window_size++;
}

/* Base passes it; a delivery that is not done lives on as an exception. */
static void
leave_window(OeDelivery *d)
{
	OeLane	   *lane = d->lane;

	oe_place_copy(&lane->base, &d->place);
	dlist_delete(&d->window_node);
	lane->window_size--;
	d->in_window = false;
	if (d->state == OE_DELIVERY_DONE)
	{
		lane->window_done--;
		oe_delivery_free(d);
		return;
	}
	oe_snapshot_unref(d->place.seen);
	oe_snapshot_unref(d->place.upto);
	d->place.seen = d->place.upto = NULL;
}

/*
 * Must base not wait for this one?  That hundreds behind it are done is not enough
 * for one that is under way: it may have waited for its aggregate and be sent only
 * now, and a few requests with many events each are hundreds at once.
 */
static bool
stands_in_the_way(const OeDelivery *d, TimestampTz now)
{
	OeLane	   *lane = d->lane;
	TimestampTz hangs_at;

	/* it gets no row whatever happens */
	if (d->lane->endpoint->best_effort)
		return false;

	/* it failed, and the endpoint has taken others since: the fault is its own */
	if (d->suspect && d->mark != d->lane->endpoint->successes)
		return true;
	if (d->state == OE_DELIVERY_WAITING && d->aggregate != NULL &&
		dlist_head_element(OeDelivery, aggregate_node, &d->aggregate->deliveries)->exception)
		return true;
	if (d->state == OE_DELIVERY_READY || lane->window_done < OE_WINDOW / 2)
		return false;
	if (d->state != OE_DELIVERY_IN_FLIGHT)
		return true;
	hangs_at = TimestampTzPlusMilliseconds(d->taken_at, HANGS_MS);
	if (hangs_at <= now)
		return true;
	lane->hangs_at = hangs_at;
	if (hang_at == 0 || hangs_at < hang_at)
		hang_at = hangs_at;
	return false;
}

bool
oe_lanes_hang(TimestampTz now)
{
	bool		found = false;
	dlist_iter	iter;

	if (hang_at == 0 || hang_at > now)
		return false;
	hang_at = 0;
	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);
		dlist_iter	lanes;

		dlist_foreach(lanes, &endpoint->lanes)
		{
			OeLane	   *lane = dlist_container(OeLane, node, lanes.cur);

			if (lane->hangs_at == 0)
				continue;
			if (lane->hangs_at <= now)
			{
				oe_lane_dirty(lane);
				found = true;
			}
			else if (hang_at == 0 || lane->hangs_at < hang_at)
				hang_at = lane->hangs_at;
		}
	}
	return found;
}

TimestampTz
oe_lanes_hang_at(void)
{
	return hang_at;
}

void
oe_lane_advance(OeLane *lane, TimestampTz now)
{
	lane->hangs_at = 0;
	while (!dlist_is_empty(&lane->window))
	{
		OeDelivery *d = dlist_head_element(OeDelivery, window_node, &lane->window);

		if (d->state != OE_DELIVERY_DONE && !d->exception)
		{
			if (!stands_in_the_way(d, now))
				break;
			oe_delivery_except(d);
			if (d->state == OE_DELIVERY_WAITING)
				oe_delivery_drop(d);
		}
		leave_window(d);
	}
}

pg_uuid_t *
oe_lane_done_beyond(OeLane *lane, int *n)
{
	int			nknown = lane->known != NULL ? (int) lane->known->members : 0;
	pg_uuid_t  *ids = palloc((lane->window_done + nknown + 1) * sizeof(pg_uuid_t));
	dlist_iter	iter;

	*n = 0;
	if (lane->window_done > 0)
	{
		dlist_foreach(iter, &lane->window)
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

		known_start_iterate(lane->known, &it);
		while ((entry = known_iterate(lane->known, &it)) != NULL)
			ids[(*n)++] = entry->id;
	}
	return ids;
}
