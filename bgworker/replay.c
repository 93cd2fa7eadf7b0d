/*
 * replay.c
 *	  Events that are sent once more: replay() and redrive().
 *
 * A request is one row of the table replay, however many events it has.  The
 * worker works it through with lanes of their own, which read by id instead of
 * by snapshots; their places are recorded like any other.  One request of an
 * endpoint is worked through after the other, which bounds memory.
 *
 * What the ordinary course has not passed yet is left out, because it comes
 * anyway.  A dead letter that holds up its aggregate is taken out of the way
 * when it comes again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "config.h"
#include "delivery.h"
#include "position.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker_slot.h"
#include "worker_sql.h"

#define READ_ROWS	500
#define READ_BYTES	(4 * 1024 * 1024)

struct OeReplay
{
	int64		replay_id;
	OeEndpoint *endpoint;
	MemoryContext context;
	OeReplaySet set;
	dlist_node	node;
};

bool		oe_replay_deferred = false;

static dlist_head replays = DLIST_STATIC_INIT(replays);

int64
oe_replay_id(const OeReplay *replay)
{
	return replay->replay_id;
}

static void
forget(OeReplay *replay)
{
	oe_snapshot_unref(replay->set.visible);
	oe_snapshot_unref(replay->set.unseen);
	dlist_delete(&replay->node);
	MemoryContextDelete(replay->context);
}

void
oe_replay_forget(OeEndpoint *endpoint)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &replays)
	{
		OeReplay   *replay = dlist_container(OeReplay, node, iter.cur);

		if (replay->endpoint == endpoint)
			forget(replay);
	}
}

static OeReplay *
replay_of(const OeEndpoint *endpoint)
{
	dlist_iter	iter;

	dlist_foreach(iter, &replays)
	{
		OeReplay   *replay = dlist_container(OeReplay, node, iter.cur);

		if (replay->endpoint == endpoint)
			return replay;
	}
	return NULL;
}

/* ---------- loading ---------- */

static void
make_lane(OeReplay *replay, uint32 shards, const OePlace *place, const pg_uuid_t *done, int ndone)
{
	OeLane	   *lane = oe_lane_new(replay->endpoint, OE_LANE_REPLAY, shards, place, replay);

	for (int i = 0; i < ndone; i++)
		oe_lane_known(lane, &done[i]);
}

static void
load_one(OeEndpoint *endpoint, int64 replay_id, uint32 shards, HeapTuple tuple, TupleDesc desc)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "order_engine replay",
												  ALLOCSET_SMALL_SIZES);
	OeReplay   *replay = MemoryContextAllocZero(context, sizeof(OeReplay));
	char	   *text;
	bool		isnull;
	Datum		datum;

	replay->context = context;
	replay->replay_id = replay_id;
	replay->endpoint = endpoint;
	replay->set.endpoint_id = endpoint->endpoint_id;
	datum = SPI_getbinval(tuple, desc, 3, &isnull);
	if (!isnull)
	{
		Datum	   *ids;

		deconstruct_array(DatumGetArrayTypeP(datum), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  &ids, NULL, &replay->set.nids);
		replay->set.ids = MemoryContextAlloc(context, (replay->set.nids + 1) * sizeof(pg_uuid_t));
		for (int i = 0; i < replay->set.nids; i++)
			replay->set.ids[i] = *DatumGetUUIDP(ids[i]);
	}
	datum = SPI_getbinval(tuple, desc, 4, &isnull);
	if (!isnull)
		replay->set.first_id = *DatumGetUUIDP(datum);
	datum = SPI_getbinval(tuple, desc, 5, &isnull);
	if (!isnull)
		replay->set.last_id = *DatumGetUUIDP(datum);
	text = SPI_getvalue(tuple, desc, 6);
	if (text != NULL)
		replay->set.visible = oe_snapshot_parse(text);
	text = SPI_getvalue(tuple, desc, 7);
	if (text != NULL)
		replay->set.unseen = oe_snapshot_parse(text);
	dlist_push_tail(&replays, &replay->node);
	oe_position_load_replay(replay, replay_id, endpoint->endpoint_id, shards, make_lane);
}

/* Of each endpoint the oldest that has something left for this worker. */
void
oe_replay_load(void)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID};
	Datum		values[1];
	uint64		nrows;
	SPITupleTable *table;

	values[0] = Int32GetDatum((int32) oe_my_shards);
	nrows = oe_worker_execute(&plan,
							  "SELECT DISTINCT ON (endpoint_id) replay_id, endpoint_id, ids, first_id,"
							  " last_id, visible, unseen, shards_done FROM order_engine.replay"
							  " WHERE $1 & ~shards_done <> 0 ORDER BY endpoint_id, replay_id",
							  1, types, values, NULL, SPI_OK_SELECT);
	table = SPI_tuptable;
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = table->vals[i];
		bool		isnull;
		int64		replay_id = DatumGetInt64(SPI_getbinval(tuple, table->tupdesc, 1, &isnull));
		OeEndpoint *endpoint = oe_endpoint_find(DatumGetInt32(SPI_getbinval(tuple, table->tupdesc,
																			2, &isnull)));

		if (endpoint != NULL && endpoint->configured && replay_of(endpoint) == NULL)
			load_one(endpoint, replay_id,
					 oe_my_shards & ~DatumGetInt32(SPI_getbinval(tuple, table->tupdesc, 8, &isnull)),
					 tuple, table->tupdesc);
	}
	SPI_freetuptable(table);
}

/* ---------- reading ---------- */

/* The same event among those of its aggregate that are not done. */
static OeDelivery *
find_same(OeAggregate *aggregate, const pg_uuid_t *id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &aggregate->deliveries)
	{
		OeDelivery *d = dlist_container(OeDelivery, aggregate_node, iter.cur);

		if (memcmp(&d->place.id, id, sizeof(pg_uuid_t)) == 0)
			return d;
	}
	return NULL;
}

static bool
is_wanted(OeEndpoint *endpoint, const OeLogEvent *event)
{
	OeLane	   *course = oe_lane_of(endpoint, event->shard);
	OeAggregate *aggregate = oe_aggregate_find(endpoint, event->aggregate);
	OeDelivery *same = aggregate != NULL ? find_same(aggregate, &event->id) : NULL;

	if (course->partner != NULL && !oe_snapshot_sees(oe_express_from(course), event->txid) &&
		oe_express_takes(course->partner, event))
		course = course->partner;

	/* also what waits for another attempt comes anyway */
	return oe_wants(endpoint, event) && oe_lane_has_passed(course, event->txid, &event->id) &&
		(same == NULL || same->state == OE_DELIVERY_BLOCKED);
}

static void
enter(OeLane *lane, OeLogEvent *event, const OePlace *before, TimestampTz now)
{
	OeEndpoint *endpoint = lane->endpoint;
	bool		known = oe_lane_take_known(lane, &event->id);
	OeAggregate *aggregate;
	OeDelivery *blocked = NULL;
	OeDelivery *d;

	if (!known && !is_wanted(endpoint, event))
		return;
	d = oe_delivery_new(lane);
	oe_lane_enter(d, before, event);
	if (known)
	{
		oe_delivery_finish(d, now);
		return;
	}
	d->aggregate_seq = event->aggregate_seq;
	oe_delivery_hold(d, event);
	if (!endpoint->ordered)
	{
		oe_delivery_ready(d, now);
		return;
	}
	aggregate = oe_aggregate_find(endpoint, event->aggregate);
	if (aggregate != NULL)
		blocked = find_same(aggregate, &event->id);
	if (blocked != NULL)
	{
		d->aggregate = aggregate;
		dlist_insert_after(&blocked->aggregate_node, &d->aggregate_node);
		oe_delivery_finish(blocked, now);
	}
	else
		oe_aggregate_settle(endpoint, oe_aggregate_join(d, event->aggregate), now);
}

void
oe_replay_read(OeCursor *cursor)
{
	OeLogEvent *events[READ_ROWS];
	OeLane	   *lane = dlist_head_element(OeLane, cursor_node, &cursor->lanes);
	TimestampTz now = GetCurrentTimestamp();
	OePlace		before = cursor->place;
	int			nevents;

	nevents = oe_reader_read_replay(&cursor->replay->set, &cursor->place, cursor->shards,
									READ_ROWS, READ_BYTES, events, &cursor->at_end);
	for (int i = 0; i < nevents; i++)
	{
		enter(lane, events[i], &before, now);
		oe_event_unref(events[i]);
	}
	oe_lane_dirty(lane);
	oe_unflushed++;
}

/* ---------- the end ---------- */

/*
 * Whoever sets the last bit removes the row; each worker has its own bits.  Waits
 * for nobody: false when somebody else has locked the row.
 */
static bool
record_end(OeReplay *replay, uint32 shards)
{
	static SPIPlanPtr update_plan = NULL;
	static SPIPlanPtr select_plan = NULL;
	static SPIPlanPtr delete_plan = NULL;
	static const Oid types[] = {INT8OID, INT4OID};
	uint64		nrows;
	Datum		values[2];

	values[0] = Int64GetDatum(replay->replay_id);
	values[1] = Int32GetDatum((int32) shards);
	if (oe_worker_execute(&update_plan,
						  "UPDATE order_engine.replay r SET shards_done = r.shards_done | $2"
						  " FROM (SELECT replay_id FROM order_engine.replay WHERE replay_id = $1"
						  "  FOR NO KEY UPDATE SKIP LOCKED) AS free WHERE r.replay_id = free.replay_id",
						  2, types, values, NULL, SPI_OK_UPDATE) == 0)
	{
		nrows = oe_worker_execute_now(&select_plan,
									  "SELECT 1 FROM order_engine.replay WHERE replay_id = $1",
									  1, types, values, NULL, SPI_OK_SELECT);
		SPI_freetuptable(SPI_tuptable);
		return nrows == 0;
	}
	values[1] = Int32GetDatum((int32) OE_ALL_SHARDS);
	oe_worker_execute(&delete_plan,
					  "DELETE FROM order_engine.replay WHERE replay_id = $1 AND shards_done = $2",
					  2, types, values, NULL, SPI_OK_DELETE);
	return true;
}

void
oe_replay_flush(void)
{
	dlist_mutable_iter iter;

	oe_replay_deferred = false;
	dlist_foreach_modify(iter, &replays)
	{
		OeReplay   *replay = dlist_container(OeReplay, node, iter.cur);
		OeEndpoint *endpoint = replay->endpoint;
		dlist_mutable_iter lanes;
		bool		left = false;

		dlist_foreach_modify(lanes, &endpoint->lanes)
		{
			OeLane	   *lane = dlist_container(OeLane, node, lanes.cur);

			if (lane->replay != replay)
				continue;
			if (!lane->cursor->at_end || !dlist_is_empty(&lane->window) || !endpoint->configured)
			{
				left = true;
				continue;
			}
			if (!record_end(replay, lane->shards))
			{
				oe_replay_deferred = left = true;
				continue;
			}
			oe_lane_end(lane, oe_lane_of(endpoint, pg_rightmost_one_pos32(lane->shards)));
		}
		if (!left)
		{
			forget(replay);
			oe_config_changed = true;	/* the next one of the endpoint */
		}
	}
}
