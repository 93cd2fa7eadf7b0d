/*
 * feed.c
 *	  Feed the lanes from the outbox.
 *
 * One transaction reads for as many cursors as a few milliseconds allow; the
 * cursors take turns, so that an endpoint with a backlog holds up no other.
 * Requests go on between two such transactions.
 *
 * A commit announces itself by a flag in shared memory.  The flag is cleared
 * before the snapshot is taken, so nothing is missed.  COMMIT PREPARED announces
 * nothing: while there are prepared transactions with events the worker polls.
 */
#include "postgres.h"

#include "config.h"
#include "delivery.h"
#include "feed.h"
#include "portability/instr_time.h"
#include "settings.h"
#include "utils/inval.h"
#include "utils/timestamp.h"
#include "worker_slot.h"
#include "worker_sql.h"

/* one read */
#define READ_ROWS			500
#define READ_BYTES			(4 * 1024 * 1024)

/* one transaction */
#define READ_MS				5

/* while transactions with events are prepared, nobody tells when they commit */
#define PREPARED_POLL_MS	50

/* events of due retries that are read again in one transaction */
#define REFETCH_ROWS		64

static bool look = true;
static bool prepared_work = true;
static OeSnapshot *newest = NULL;	/* the last that was taken */
static TimestampTz next_poll = 0;
static TimestampTz next_sync = 0;

void
oe_feed_look(void)
{
	look = true;
}

TimestampTz
oe_feed_next(void)
{
	return next_poll;
}

/* ---------- reading ---------- */

static bool
readable(OeCursor *cursor)
{
	OeLane	   *first = dlist_head_element(OeLane, cursor_node, &cursor->lanes);

	if (cursor->nlanes == 1 && !oe_lane_has_room(first))
		return false;
	if (cursor->replay != NULL)
		return !cursor->at_end;
	return newest != NULL && oe_express_may_read(cursor, newest);
}

bool
oe_feed_wanted(void)
{
	dlist_iter	iter;

	if (look)
		return true;
	dlist_foreach(iter, &oe_cursors)
	{
		if (readable(dlist_container(OeCursor, node, iter.cur)))
			return true;
	}
	return false;
}

static void
read_with(OeCursor *cursor)
{
	OeLogEvent *events[READ_ROWS];
	OePlace		before = {0};
	OePlace		after = {0};
	int			nevents;

	if (cursor->replay != NULL)
	{
		oe_replay_read(cursor);
		return;
	}
	if (!oe_express_prepare(cursor, newest))
		return;
	oe_place_copy(&before, &cursor->place);
	oe_place_copy(&after, &cursor->place);
	nevents = oe_reader_read(&after, cursor->shards, READ_ROWS, READ_BYTES,
							 oe_route_bodies, cursor, events);
	oe_express_learn(cursor, events, nevents, &before);
	oe_route(cursor, events, nevents, &before, &after);
	cursor->reads_in_pair++;
	oe_express_consider(cursor, newest);

	for (int i = 0; i < nevents; i++)
		oe_event_unref(events[i]);
	oe_snapshot_unref(before.seen);
	oe_snapshot_unref(before.upto);
	oe_snapshot_unref(after.seen);
	oe_snapshot_unref(after.upto);
}

static void
read_in_turn(void)
{
	instr_time	begin;
	int			left = 0;
	dlist_iter	iter;

	INSTR_TIME_SET_CURRENT(begin);
	dlist_foreach(iter, &oe_cursors)
		left++;
	for (; left > 0; left--)
	{
		OeCursor   *cursor = dlist_head_element(OeCursor, node, &oe_cursors);
		instr_time	spent;

		dlist_delete(&cursor->node);
		dlist_push_tail(&oe_cursors, &cursor->node);
		if (!readable(cursor))
			continue;
		read_with(cursor);
		INSTR_TIME_SET_CURRENT(spent);
		INSTR_TIME_SUBTRACT(spent, begin);
		if (INSTR_TIME_GET_MILLISEC(spent) >= READ_MS)
			break;
	}
	oe_cursors_merge();
}

/* Only those that have written events matter: they hold the lock on a leaf. */
static bool
prepared_transactions_exist(void)
{
	static SPIPlanPtr plan = NULL;
	bool		exist;

	exist = oe_worker_execute(&plan,
							  "SELECT 1 FROM pg_catalog.pg_prepared_xacts"
							  " WHERE database = pg_catalog.current_database() LIMIT 1",
							  0, NULL, NULL, NULL, SPI_OK_SELECT) > 0;
	SPI_freetuptable(SPI_tuptable);
	if (exist)
	{
		static SPIPlanPtr lock_plan = NULL;

		exist = oe_worker_execute(&lock_plan,
								  "SELECT 1 FROM pg_catalog.pg_locks l"
								  " JOIN pg_catalog.pg_inherits i ON i.inhrelid = l.relation"
								  " WHERE l.locktype = 'relation' AND l.pid IS NULL"
								  " AND i.inhparent = 'order_engine.outbox'::pg_catalog.regclass LIMIT 1",
								  0, NULL, NULL, NULL, SPI_OK_SELECT) > 0;
		SPI_freetuptable(SPI_tuptable);
	}
	return exist;
}

void
oe_feed(TimestampTz now)
{
	bool		take_snapshot = look || newest == NULL;

	/* cleared first: a commit that comes later sets it again */
	if (take_snapshot && oe_my_slot != NULL)
	{
		(void) pg_atomic_exchange_u32(&oe_my_slot->pending, 0);
		if (pg_atomic_exchange_u32(&oe_my_slot->prepared, 0) != 0)
			prepared_work = true;
	}
	look = false;

	oe_worker_begin("reading the outbox");

	/*
	 * An endpoint that was changed before an event that this snapshot sees must
	 * have changed for that event: take the change in first.
	 */
	AcceptInvalidationMessages();
	if (oe_config_changed)
	{
		oe_worker_commit();
		look = true;
		return;
	}
	if (take_snapshot)
	{
		oe_snapshot_unref(newest);
		newest = oe_snapshot_current();
	}
	if (now >= next_sync)
	{
		oe_reader_sync();
		next_sync = TimestampTzPlusMilliseconds(now, oe_poll_interval);
	}
	if (prepared_work && !prepared_transactions_exist())
	{
		/* the last of them may have ended after the snapshot: look once more */
		prepared_work = false;
		look = true;
	}
	read_in_turn();
	oe_worker_commit();

	if (oe_my_slot != NULL)
		pg_atomic_write_u64(&oe_my_slot->reads, pg_atomic_read_u64(&oe_my_slot->reads) + 1);
	if (take_snapshot)
		next_poll = TimestampTzPlusMilliseconds(now, prepared_work ?
												Min(PREPARED_POLL_MS, oe_poll_interval) :
												oe_poll_interval);
}

bool
oe_feed_retries(TimestampTz now)
{
	OeDelivery *due[REFETCH_ROWS];
	OeLogEvent *events[REFETCH_ROWS];
	int			n = oe_delivery_without_event(due, REFETCH_ROWS, now);

	if (n == 0)
		return false;
	oe_worker_begin("reading events for another attempt");
	for (int i = 0; i < n; i++)
		events[i] = oe_reader_fetch(due[i]->lane->endpoint->endpoint_id, due[i]->place.txid,
									&due[i]->place.id);
	oe_worker_commit();
	for (int i = 0; i < n; i++)
	{
		oe_delivery_set_event(due[i], events[i]);
		oe_event_unref(events[i]);
	}
	return n == REFETCH_ROWS;
}
