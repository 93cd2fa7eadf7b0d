/*
 * express.c
 *	  New aggregates overtake a backlog.
 *
 * A lane that has much to read, be it a million events of one transaction or
 * those of a night that the worker was stopped, would keep the events of every
 * new order waiting until it is through.  Order matters only within an
 * aggregate, so when a read finds no end the lane splits at the snapshot that it
 * reads up to: it goes on as before, and an express lane beside it takes the
 * aggregates that begin behind that snapshot.  Whether one does is known by its
 * first event (aggregate_seq 1); of the others, and of events without a number,
 * nothing is known, and they wait for the backlog.  An endpoint that wants no
 * order gets everything by the express lane.
 *
 * When the main lane has read up to the split, the express lane stops between
 * two reads, the main lane reads on to the same place, passing over what the
 * other took, and when all of that is delivered the two are one again.
 *
 * Which aggregates began behind the split is remembered by a 64-bit hash, for
 * all endpoints that split at the same place together.  When there are too many
 * the express lanes stop at the next rest.  After a restart the log tells them
 * again, and the positions tell whether the endpoint kept an order when it split:
 * what an operator alters meanwhile counts for the next split.
 *
 * An event that stands in the log before its predecessor makes it doubtful where
 * its aggregate began: such aggregates wait for the backlog.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "delivery.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* reads within one pair of snapshots that make a backlog */
#define BACKLOG_READS	4

#define MAX_BORN		200000

/* one read while the aggregates are looked up again */
#define RESTORE_ROWS	500
#define RESTORE_BYTES	(4 * 1024 * 1024)

typedef struct BornEntry
{
	uint64		key;
	bool		doubtful;
	char		status;
} BornEntry;

#define SH_PREFIX born
#define SH_ELEMENT_TYPE BornEntry
#define SH_KEY_TYPE uint64
#define SH_KEY key
#define SH_HASH_KEY(tb, key) ((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct OeSplit
{
	int			refcount;
	OeSnapshot *from;
	bool		full;
	struct born_hash *born;
	dlist_node	node;
};

static dlist_head splits = DLIST_STATIC_INIT(splits);

/* ---------- splits ---------- */

static OeSplit *
new_split(OeSnapshot *from)
{
	OeSplit    *split = MemoryContextAllocZero(TopMemoryContext, sizeof(OeSplit));

	split->from = oe_snapshot_ref(from);
	split->born = born_create(TopMemoryContext, 1024, NULL);
	dlist_push_tail(&splits, &split->node);
	return split;
}

static OeSplit *
ref_split(OeSplit *split)
{
	split->refcount++;
	return split;
}

void
oe_split_unref(OeSplit *split)
{
	if (split == NULL || --split->refcount > 0)
		return;
	dlist_delete(&split->node);
	oe_snapshot_unref(split->from);
	born_destroy(split->born);
	pfree(split);
}

OeSnapshot *
oe_express_from(const OeLane *lane)
{
	return lane->split->from;
}

static uint64
aggregate_key(const OeLogEvent *event)
{
	return hash_bytes_extended((const unsigned char *) event->aggregate,
							   strlen(event->aggregate), 0);
}

/* Did the event's aggregate begin behind the split? */
static bool
is_born(const OeSplit *split, const OeLogEvent *event)
{
	BornEntry  *entry = born_lookup(split->born, aggregate_key(event));

	return entry != NULL && !entry->doubtful;
}

/*
 * A decision once made must not change: what the express lane left the main lane
 * takes, and nobody else.  So entries stay as they are, and one too many is
 * better than to forget an aggregate.  After a restart lanes that read in
 * different steps may disagree whether one is doubtful: then it is, and the main
 * lane brings again what the express lane had.
 */
static void
learn(OeSplit *split, const OeLogEvent *event, bool late, bool again)
{
	BornEntry  *entry;
	bool		found;

	if (event->aggregate_seq == 0 || (event->aggregate_seq > 1 && !late))
		return;
	if (split->born->members >= MAX_BORN)
		split->full = true;
	entry = born_insert(split->born, aggregate_key(event), &found);
	if (!found || again)
		entry->doubtful = (found && entry->doubtful) || event->aggregate_seq > 1;
}

static bool
is_late(const OeLogEvent *event, const OePlace *before)
{
	return event->after_txid > event->txid && !oe_snapshot_sees(before->seen, event->after_txid);
}

void
oe_express_learn(OeCursor *cursor, OeLogEvent **events, int nevents, const OePlace *before)
{
	OeLane	   *lane = dlist_head_element(OeLane, cursor_node, &cursor->lanes);

	if (lane->kind != OE_LANE_EXPRESS)
		return;
	for (int i = 0; i < nevents; i++)
		learn(lane->split, events[i], is_late(events[i], before), false);
}

bool
oe_express_takes(const OeLane *lane, const OeLogEvent *event)
{
	if (lane->split == NULL)
		return true;
	if (lane->kind == OE_LANE_EXPRESS)
		return !lane->by_birth || is_born(lane->split, event);
	if (oe_snapshot_sees(lane->split->from, event->txid))
		return true;
	return lane->by_birth && !is_born(lane->split, event);
}

/* ---------- begin ---------- */

static void
begin_express(OeLane *main, OeSplit *split)
{
	OePlace		place = {0};

	place.seen = split->from;
	main->split = ref_split(split);
	main->partner = oe_lane_new(main->endpoint, OE_LANE_EXPRESS, main->shards, &place, NULL);
	main->partner->split = ref_split(split);
	main->partner->partner = main;
	main->by_birth = main->partner->by_birth = main->endpoint->ordered;
	oe_lane_dirty(main->partner);
}

void
oe_express_consider(OeCursor *cursor, OeSnapshot *newest)
{
	OeLane	   *first = dlist_head_element(OeLane, cursor_node, &cursor->lanes);
	OeSplit    *split;
	dlist_iter	iter;

	if (first->kind != OE_LANE_MAIN || first->split != NULL || cursor->place.upto == NULL ||
		cursor->place.upto == newest || cursor->reads_in_pair < BACKLOG_READS)
		return;
	split = new_split(cursor->place.upto);
	dlist_foreach(iter, &cursor->lanes)
		begin_express(dlist_container(OeLane, cursor_node, iter.cur), split);
}

/* ---------- how far ---------- */

/* Up to what may a cursor read that is between two reads?  NULL: it has to wait. */
static OeSnapshot *
target(OeCursor *cursor, OeSnapshot *newest)
{
	OeLane	   *first = dlist_head_element(OeLane, cursor_node, &cursor->lanes);
	OeSnapshot *upto = newest;

	if (first->kind == OE_LANE_EXPRESS && (first->closing || first->split->full))
		return NULL;
	if (first->kind == OE_LANE_MAIN && first->split != NULL)
	{
		OeLane	   *partner = first->partner;

		/* as a restart finds it that came before its record said it was on the way there */
		if (!oe_snapshot_covers(cursor->place.seen, first->split->from))
			return first->split->from;
		if (!first->by_birth)
			return NULL;
		if (!partner->closing)
		{
			oe_lane_detach(partner);
			partner->closing = true;
		}
		if (partner->cursor->place.upto != NULL)
			return NULL;		/* it is not at rest yet */
		upto = partner->cursor->place.seen;
	}
	return upto == cursor->place.seen ? NULL : upto;
}

/* Main lanes beside express lanes part when they are at the split: each waits for its own partner. */
static bool
parts(const OeCursor *cursor)
{
	const OeLane *first = dlist_container(OeLane, cursor_node, cursor->lanes.head.next);

	return cursor->nlanes > 1 && first->kind == OE_LANE_MAIN && first->split != NULL;
}

bool
oe_express_may_read(OeCursor *cursor, OeSnapshot *newest)
{
	return cursor->place.upto != NULL || parts(cursor) || target(cursor, newest) != NULL;
}

bool
oe_express_prepare(OeCursor *cursor, OeSnapshot *newest)
{
	OeSnapshot *upto;

	if (cursor->place.upto != NULL)
		return true;
	while (parts(cursor))
		oe_lane_detach(dlist_tail_element(OeLane, cursor_node, &cursor->lanes));
	upto = target(cursor, newest);
	if (upto == NULL)
		return false;
	cursor->place.upto = oe_snapshot_ref(upto);
	cursor->reads_in_pair = 0;
	return true;
}

/* ---------- end ---------- */

/* The main lane has read what the express lane left, up to where that stands. */
static void
end_express(OeLane *main)
{
	OeLane	   *express = main->partner;

	oe_lane_gone(express);
	main->partner = NULL;
	oe_lane_end(express, main);
	oe_split_unref(main->split);
	main->split = NULL;
	oe_lane_dirty(main);
}

/* Without order the express lane has taken all behind the split: it goes on alone. */
static void
end_main(OeLane *main)
{
	OeLane	   *express = main->partner;

	oe_lane_gone(express);		/* its record as such */
	express->partner = NULL;
	oe_lane_end(main, express);
	oe_lane_detach(express);
	express->kind = OE_LANE_MAIN;
	oe_split_unref(express->split);
	express->split = NULL;
	oe_lane_dirty(express);
}

static void
merge_lanes(OeEndpoint *endpoint)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &endpoint->lanes)
	{
		OeLane	   *lane = dlist_container(OeLane, node, iter.cur);
		const OePlace *place = &lane->cursor->place;

		if (lane->kind != OE_LANE_MAIN || lane->partner == NULL || place->upto != NULL)
			continue;
		if (!lane->by_birth)
		{
			if (place->seen == lane->split->from && dlist_is_empty(&lane->window))
			{
				end_main(lane);
				return;			/* the list has changed under us */
			}
		}
		else if (lane->partner->cursor->place.upto == NULL &&
				 lane->partner->cursor->place.seen == place->seen &&
				 dlist_is_empty(&lane->partner->window))
		{
			end_express(lane);
			return;
		}
	}
}

void
oe_express_merge(void)
{
	dlist_iter	iter;

	if (dlist_is_empty(&splits))
		return;
	dlist_foreach(iter, &oe_endpoints)
		merge_lanes(dlist_container(OeEndpoint, node, iter.cur));
}

/* ---------- after a restart ---------- */

/* Learns again what is between the split and the express lane's place. */
static void
learn_again(OeSplit *split, const OePlace *until, uint32 shards)
{
	OePlace		place = {0};

	place.seen = oe_snapshot_ref(split->from);
	for (;;)
	{
		OeLogEvent *events[RESTORE_ROWS];
		OePlace		before = {0};
		int			n;
		bool		done;

		if (place.upto == NULL)
		{
			OeSnapshot *next = place.seen != until->seen ? until->seen : until->upto;

			if (next == NULL || place.seen == next)
				break;
			place.upto = oe_snapshot_ref(next);
		}
		CHECK_FOR_INTERRUPTS();
		oe_place_copy(&before, &place);
		n = oe_reader_read(&place, shards, RESTORE_ROWS, RESTORE_BYTES, NULL, NULL, events);
		done = place.upto != NULL && place.upto == until->upto &&
			oe_place_compare_row(until, place.txid, &place.id) <= 0;
		for (int i = 0; i < n; i++)
		{
			learn(split, events[i], is_late(events[i], &before), true);
			oe_event_unref(events[i]);
		}
		oe_snapshot_unref(before.seen);
		oe_snapshot_unref(before.upto);
		if (done || (place.upto == NULL && place.seen == until->upto))
			break;
	}
	oe_snapshot_unref(place.seen);
	oe_snapshot_unref(place.upto);
}

void
oe_express_restore(OeLane *main, OeLane *express, OeSnapshot *from, bool by_birth)
{
	OeSplit    *split = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &splits)
	{
		if (dlist_container(OeSplit, node, iter.cur)->from == from)
			split = dlist_container(OeSplit, node, iter.cur);
	}
	if (split == NULL)
		split = new_split(from);
	main->split = ref_split(split);
	main->partner = express;
	express->split = ref_split(split);
	express->partner = main;
	main->by_birth = express->by_birth = by_birth;
	if (by_birth)
		learn_again(split, oe_lane_place(express), express->shards);
}
