/*
 * route.c
 *	  From a read of the log to the lanes that it concerns.
 *
 * Which endpoints want a type is worked out once for each type, so an event
 * costs what its matches cost, however many endpoints there are.
 *
 * The order of the log is that of txid, and an event whose predecessor stands
 * later in it says so (after_txid).  It is held back until a read has passed
 * the predecessor; when such an event is not for an endpoint at all, a place
 * holder stands for it, because what follows it must wait all the same.  These
 * are the rare cases in which an event concerns every lane of the cursor.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "delivery.h"
#include "outbox.h"
#include "policy_match.h"
#include "quarantine.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* types are chosen by applications: forget them all when they are too many */
#define MAX_TYPES	4096

typedef struct TypeEntry
{
	const char *type;
	int			nendpoints;
	OeEndpoint **endpoints;
	uint32		hash;
	char		status;
} TypeEntry;

#define SH_PREFIX types
#define SH_ELEMENT_TYPE TypeEntry
#define SH_KEY_TYPE const char *
#define SH_KEY type
#define SH_HASH_KEY(tb, key) DatumGetUInt32(hash_any((const unsigned char *) (key), strlen(key)))
#define SH_EQUAL(tb, a, b) (strcmp((a), (b)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static MemoryContext types_context = NULL;
static struct types_hash *types = NULL;

void
oe_route_reset(void)
{
	if (types_context == NULL)
		types_context = AllocSetContextCreate(TopMemoryContext, "order_engine subscriptions",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(types_context);
	types = NULL;
}

static bool
matches(const OeEndpoint *endpoint, const char *type)
{
	size_t		len = strlen(type);

	for (int i = 0; i < endpoint->nglobs; i++)
	{
		if (oe_glob_match(endpoint->globs[i], strlen(endpoint->globs[i]), type, len))
			return true;
	}
	return false;
}

/* The endpoints whose filters match a type. */
static TypeEntry *
subscribers(const char *type)
{
	TypeEntry  *entry;
	dlist_iter	iter;
	bool		found;
	int			n = 0;

	if (types != NULL && types->members >= MAX_TYPES)
		oe_route_reset();
	if (types == NULL)
		types = types_create(types_context, 256, NULL);
	entry = types_lookup(types, type);
	if (entry != NULL)
		return entry;

	entry = types_insert(types, MemoryContextStrdup(types_context, type), &found);
	entry->endpoints = NULL;
	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (!endpoint->configured || !matches(endpoint, type))
			continue;
		if (entry->endpoints == NULL)
			entry->endpoints = MemoryContextAlloc(types_context, 8 * sizeof(OeEndpoint *));
		else if (n >= 8 && (n & (n - 1)) == 0)
			entry->endpoints = repalloc(entry->endpoints, 2 * n * sizeof(OeEndpoint *));
		entry->endpoints[n++] = endpoint;
	}
	entry->nendpoints = n;
	return entry;
}

/* News about an endpoint go to the others; a test event goes to nobody else. */
static bool
is_about(const OeEndpoint *endpoint, const OeLogEvent *event)
{
	return strcmp(strchr(event->aggregate, '\n') + 1, endpoint->name) == 0;
}

bool
oe_wants(const OeEndpoint *endpoint, const OeLogEvent *event)
{
	if (event->operational)
	{
		if (strcmp(event->type, OE_TYPE_ENDPOINT_TEST) == 0)
			return is_about(endpoint, event);
		if (is_about(endpoint, event))
			return false;
	}
	return matches(endpoint, event->type);
}

/* ---------- order ---------- */

/* A read has passed this event: what was held back for it alone may go. */
static void
release_successor(OeEndpoint *endpoint, const OeLogEvent *event, TimestampTz now)
{
	OeAggregate *aggregate = oe_aggregate_find(endpoint, event->aggregate);
	dlist_iter	iter;

	if (aggregate == NULL || event->aggregate_seq == 0)
		return;
	dlist_foreach(iter, &aggregate->deliveries)
	{
		OeDelivery *d = dlist_container(OeDelivery, aggregate_node, iter.cur);

		if (d->held_back && d->aggregate_seq == event->aggregate_seq + 1)
			oe_delivery_let_go(d);
	}
	oe_aggregate_settle(endpoint, aggregate, now);
}

/* A pair of snapshots was read to its end: nothing is held back any more. */
static void
release_all(OeLane *lane, TimestampTz now)
{
	dlist_iter	iter;
	List	   *aggregates = NIL;
	ListCell   *lc;

	dlist_foreach(iter, &lane->endpoint->all)
	{
		OeDelivery *d = dlist_container(OeDelivery, all_node, iter.cur);

		if (d->held_back && d->lane == lane)
		{
			oe_delivery_let_go(d);
			aggregates = list_append_unique_ptr(aggregates, d->aggregate);
		}
	}
	foreach(lc, aggregates)
		oe_aggregate_settle(lane->endpoint, lfirst(lc), now);
	list_free(aggregates);
}

/* ---------- routing ---------- */

static void
touch(OeLane *lane, dlist_head *touched)
{
	if (lane->touched)
		return;
	lane->touched = true;
	dlist_push_tail(touched, &lane->touched_node);
}

static void
route_one(OeLane *lane, OeLogEvent *event, bool late, const OePlace *pair, dlist_head *touched,
		  TimestampTz now)
{
	OeEndpoint *endpoint = lane->endpoint;
	OeAggregate *aggregate = NULL;
	OeDelivery *d;
	bool		wanted;

	if (!oe_express_takes(lane, event))
	{
		(void) oe_lane_take_known(lane, &event->id);
		return;
	}
	if (oe_lane_take_known(lane, &event->id))
	{
		touch(lane, touched);
		d = oe_delivery_new(lane);
		oe_lane_enter(d, pair, event);
		oe_delivery_finish(d, now);
		if (lane->held_back > 0)
			release_successor(endpoint, event, now);
		return;
	}

	wanted = oe_wants(endpoint, event);
	late = late && endpoint->ordered;
	if (wanted || late)
	{
		touch(lane, touched);
		d = oe_delivery_new(lane);
		d->aggregate_seq = event->aggregate_seq;
		d->after_txid = event->after_txid;
		d->place_holder = !wanted;
		oe_lane_enter(d, pair, event);
		if (late)
			oe_delivery_hold_back(d);
		if (endpoint->ordered)
			aggregate = oe_aggregate_join(d, event->aggregate);

		/* behind what is held back it may take long: it is read again then */
		if (wanted && (aggregate == NULL ||
					   !dlist_head_element(OeDelivery, aggregate_node,
										   &aggregate->deliveries)->held_back))
			oe_delivery_hold(d, event);
		if (aggregate != NULL)
			oe_aggregate_settle(endpoint, aggregate, now);
		else
			oe_delivery_ready(d, now);
	}
	if (lane->held_back > 0)
		release_successor(endpoint, event, now);
}

/* The lane of an endpoint that reads with this cursor. */
static OeLane *
lane_at(OeEndpoint *endpoint, const OeCursor *cursor)
{
	dlist_iter	iter;

	dlist_foreach(iter, &endpoint->lanes)
	{
		OeLane	   *lane = dlist_container(OeLane, node, iter.cur);

		if (lane->cursor == cursor)
			return lane;
	}
	return NULL;
}

uint32
oe_route_bodies(const void *cursor, const char *type)
{
	TypeEntry  *entry = subscribers(type);
	uint32		bodies = 0;

	for (int i = 0; i < entry->nendpoints && bodies != oe_bodies_wanted; i++)
	{
		if (lane_at(entry->endpoints[i], cursor) != NULL)
			bodies |= (uint32) 1 << entry->endpoints[i]->body;
	}
	return bodies;
}

static void
route_to_subscribers(OeCursor *cursor, OeLogEvent *event, const OePlace *before,
					 dlist_head *touched, TimestampTz now)
{
	TypeEntry  *entry;

	if (cursor->nlanes == 1)
	{
		route_one(dlist_head_element(OeLane, cursor_node, &cursor->lanes), event, false, before,
				  touched, now);
		return;
	}
	entry = subscribers(event->type);
	for (int i = 0; i < entry->nendpoints; i++)
	{
		OeLane	   *lane = lane_at(entry->endpoints[i], cursor);

		if (lane != NULL)
			route_one(lane, event, false, before, touched, now);
	}
}

static void
route_to_all(OeCursor *cursor, OeLogEvent *event, bool late, const OePlace *before,
			 dlist_head *touched, TimestampTz now)
{
	dlist_iter	iter;

	dlist_foreach(iter, &cursor->lanes)
		route_one(dlist_container(OeLane, cursor_node, iter.cur), event, late, before,
				  touched, now);
}

void
oe_route(OeCursor *cursor, OeLogEvent **events, int nevents,
		 const OePlace *before, const OePlace *after)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_head	touched = DLIST_STATIC_INIT(touched);
	dlist_mutable_iter iter;

	for (int i = 0; i < nevents; i++)
	{
		OeLogEvent *event = events[i];
		bool		late = event->after_txid > event->txid &&
			!oe_snapshot_sees(before->seen, event->after_txid);

		oe_quarantine_at(0, &event->id);

		/* a test event goes to its endpoint whatever that wants */
		if (late || event->operational || oe_attentive_lanes > 0)
			route_to_all(cursor, event, late, before, &touched, now);
		else
			route_to_subscribers(cursor, event, before, &touched, now);
	}
	oe_quarantine_at_nothing();
	if (after->upto == NULL && oe_attentive_lanes > 0)
	{
		dlist_foreach_modify(iter, &cursor->lanes)
		{
			OeLane	   *lane = dlist_container(OeLane, cursor_node, iter.cur);

			if (lane->held_back > 0)
				release_all(lane, now);
		}
	}
	oe_place_copy(&cursor->place, after);
	if (after->upto == NULL && oe_attentive_lanes > 0)
	{
		dlist_foreach_modify(iter, &cursor->lanes)
			oe_lane_forget_known(dlist_container(OeLane, cursor_node, iter.cur));
	}

	dlist_foreach_modify(iter, &touched)
	{
		OeLane	   *lane = dlist_container(OeLane, touched_node, iter.cur);

		lane->touched = false;
		if (!oe_lane_has_room(lane))
			oe_lane_detach(lane);
	}
}
