/*
 * position.c
 *	  Positions of the lanes and health of the endpoints, durable.
 *
 * Records are only ever appended; of those that speak of the same thing the one
 * with the highest n counts.  An UPDATE in place would bloat under any snapshot
 * that somebody holds.
 *
 * Two tables take turns.  When the one in use has grown, the first worker has
 * all workers write to the other, and as soon as it gets the lock (a dump may
 * hold it) it copies what still counts there and truncates the first, in one
 * transaction.  TRUNCATE is not MVCC-safe, so whoever reads positions takes his
 * locks before his snapshot.
 *
 * A record speaks of a set of shards.  After the number of workers has changed a
 * worker takes for each of its shards the newest record with that shard, and
 * makes one lane of the shards that have the same ones.
 */
#include "postgres.h"

#include "access/xact.h"
#include "append.h"
#include "catalog/pg_type.h"
#include "housekeeping.h"
#include "miscadmin.h"
#include "position.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker_slot.h"
#include "worker_sql.h"

#define RECORDS_PER_TURN	10000
#define TRY_AGAIN_MS		1000

enum
{
	COL_N, COL_ENDPOINT_ID, COL_SHARDS, COL_REPLAY_ID, COL_SPLIT, COL_SEEN, COL_UPTO, COL_TXID, COL_ID,
	COL_DONE, COL_RECORDED_AT, COL_LAST_SUCCESS_AT, COL_LAST_ERROR_AT, COL_LAST_ERROR, COL_FAILING_SINCE,
	COL_FAILURES, COL_PAUSED_UNTIL, COL_BREAKER_OPENS, COL_OPEN_UNTIL, COL_BY_BIRTH, NUM_COLS
};

/* one record as it is read */
typedef struct Record
{
	int64		n;
	int32		endpoint_id;
	uint32		shards;
	OePlace		place;			/* seen NULL: the record is void */
	OeSnapshot *split;			/* NULL: none */
	bool		by_birth;		/* see OeLane */
	pg_uuid_t  *done;
	int			ndone;
	OeHealthState health;
} Record;

/* a lane that ended, whose record is to be void */
typedef struct Ended
{
	int32		endpoint_id;
	uint32		shards;
	char	   *split;
} Ended;

/* without shared memory there is one worker, which knows these alone */
static pg_atomic_uint64 own_n;
static pg_atomic_uint32 own_table;

static bool initialized = false;
static bool turning = false;	/* the table not in use is to be emptied */
static uint64 n_at_turn = 0;
static TimestampTz turn_tried_at = 0;
static List *ended = NIL;		/* of Ended, in oe_notes_context */

static pg_atomic_uint64 *
last_n(void)
{
	return oe_my_database != NULL ? &oe_my_database->position_n : &own_n;
}

static pg_atomic_uint32 *
current_table(void)
{
	return oe_my_database != NULL ? &oe_my_database->position_table : &own_table;
}

/* ---------- reading ---------- */

/* Nobody may truncate between our snapshot and our reading. */
static void
lock_tables(void)
{
	LockRelationOid(oe_relid(OE_REL_POSITION_0), AccessShareLock);
	LockRelationOid(oe_relid(OE_REL_POSITION_1), AccessShareLock);
}

/* Runs a SELECT with a snapshot that is taken now. */
static uint64
select_now(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *argtypes, const Datum *values)
{
	lock_tables();
	return oe_worker_execute_now(plan, sql, nargs, argtypes, values, NULL, SPI_OK_SELECT);
}

/*
 * Which number was given last?  Every worker asks when it starts: the tables may
 * have come with a restore, and then know more than shared memory does.
 */
static void
initialize(void)
{
	static SPIPlanPtr plan = NULL;
	uint64		n[2];
	uint64		last = pg_atomic_read_u64(last_n());

	if (initialized)
		return;
	(void) select_now(&plan,
					  "SELECT coalesce(pg_catalog.max(n), 0) FROM order_engine.position_0"
					  " UNION ALL"
					  " SELECT coalesce(pg_catalog.max(n), 0) FROM order_engine.position_1",
					  0, NULL, NULL);
	for (int i = 0; i < 2; i++)
	{
		bool		isnull;

		n[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);

	while (last < Max(n[0], n[1]))
	{
		if (pg_atomic_compare_exchange_u64(last_n(), &last, Max(n[0], n[1])))
		{
			pg_atomic_write_u32(current_table(), n[1] > n[0] ? 1 : 0);
			break;
		}
	}
	turning = (n[0] != 0 && n[1] != 0);
	n_at_turn = Max(n[0], n[1]);
	initialized = true;
}

static TimestampTz
time_column(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(datum);
}

static OeSnapshot *
snapshot_column(HeapTuple tuple, TupleDesc desc, int column)
{
	char	   *text = SPI_getvalue(tuple, desc, column);

	return text != NULL ? oe_snapshot_parse(text) : NULL;
}

#define RECORD_COLUMNS \
	"n, endpoint_id, shards, split, seen, upto, txid, id, done, last_success_at, last_error_at," \
	" last_error, failing_since, failures, paused_until, breaker_opens, open_until, by_birth"
#define BOTH_TABLES \
	"(SELECT * FROM order_engine.position_0 UNION ALL SELECT * FROM order_engine.position_1) AS p"

/* References to snapshots are the caller's to give back. */
static void
read_record(Record *r, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		datum;
	char	   *error;

	memset(r, 0, sizeof(Record));
	r->n = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	r->endpoint_id = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	r->shards = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	r->split = snapshot_column(tuple, desc, 4);
	r->place.seen = snapshot_column(tuple, desc, 5);
	r->place.upto = snapshot_column(tuple, desc, 6);
	datum = SPI_getbinval(tuple, desc, 7, &isnull);
	if (!isnull)
		r->place.txid = U64FromFullTransactionId(DatumGetFullTransactionId(datum));
	datum = SPI_getbinval(tuple, desc, 8, &isnull);
	if (!isnull)
		r->place.id = *DatumGetUUIDP(datum);
	datum = SPI_getbinval(tuple, desc, 9, &isnull);
	if (!isnull)
	{
		Datum	   *ids;

		deconstruct_array(DatumGetArrayTypeP(datum), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  &ids, NULL, &r->ndone);
		r->done = palloc((r->ndone + 1) * sizeof(pg_uuid_t));
		for (int i = 0; i < r->ndone; i++)
			r->done[i] = *DatumGetUUIDP(ids[i]);
	}
	r->health.last_success_at = time_column(tuple, desc, 10);
	r->health.last_error_at = time_column(tuple, desc, 11);
	error = SPI_getvalue(tuple, desc, 12);
	if (error != NULL)
		strlcpy(r->health.last_error, error, OE_HEALTH_ERROR_SIZE);
	r->health.failing_since = time_column(tuple, desc, 13);
	r->health.failures = DatumGetInt32(SPI_getbinval(tuple, desc, 14, &isnull));
	r->health.paused_until = time_column(tuple, desc, 15);
	r->health.breaker_opens = DatumGetInt32(SPI_getbinval(tuple, desc, 16, &isnull));
	r->health.open_until = time_column(tuple, desc, 17);
	r->by_birth = DatumGetBool(SPI_getbinval(tuple, desc, 18, &isnull)) && !isnull;
}

static void
free_records(Record *records, int n)
{
	for (int i = 0; i < n; i++)
	{
		oe_snapshot_unref(records[i].place.seen);
		oe_snapshot_unref(records[i].place.upto);
		oe_snapshot_unref(records[i].split);
	}
}

/* Of records with descending n, the first with the shard; NULL: none. */
static Record *
newest_of(Record *records, int n, int shard, bool split)
{
	for (int i = 0; i < n; i++)
	{
		if ((records[i].split != NULL) == split && (records[i].shards & (1 << shard)) != 0)
			return &records[i];
	}
	return NULL;
}

static void
add_known(OeLane *lane, const Record *r)
{
	for (int i = 0; i < r->ndone; i++)
		oe_lane_known(lane, &r->done[i]);
}

/* Makes the lanes of one endpoint from its records, by descending n. */
static void
make_lanes(OeEndpoint *endpoint, const char *start, Record *records, int n)
{
	uint32		left = oe_my_shards;

	if (n > 0)
		oe_health_restore(endpoint->health, &records[0].health);
	while (left != 0)
	{
		int			shard = pg_rightmost_one_pos32(left);
		Record	   *main_record = newest_of(records, n, shard, false);
		Record	   *express_record = newest_of(records, n, shard, true);
		uint32		shards = 0;
		OePlace		place = {0};
		OeLane	   *main;

		for (int i = shard; i < OE_SHARDS; i++)
		{
			if ((left & (1 << i)) != 0 && newest_of(records, n, i, false) == main_record &&
				newest_of(records, n, i, true) == express_record)
				shards |= 1 << i;
		}
		left &= ~shards;

		if (main_record != NULL)
			oe_place_copy(&place, &main_record->place);
		else
			place.seen = oe_snapshot_parse(start);
		main = oe_lane_new(endpoint, OE_LANE_MAIN, shards, &place, NULL);
		if (main_record != NULL)
			add_known(main, main_record);
		oe_snapshot_unref(place.seen);
		oe_snapshot_unref(place.upto);
		if (express_record != NULL && express_record->place.seen != NULL)
		{
			OeLane	   *express = oe_lane_new(endpoint, OE_LANE_EXPRESS, shards,
											  &express_record->place, NULL);

			oe_express_restore(main, express, express_record->split, express_record->by_birth);
			add_known(express, express_record);
		}
	}
}

void
oe_position_load(OeEndpoint **endpoints, const char **starts, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4ARRAYOID};
	Datum	   *ids = palloc(Max(n, 1) * sizeof(Datum));
	Datum		values[1];
	Record	   *records;
	int			nrecords;
	SPITupleTable *table;

	if (n == 0)
		return;
	initialize();
	for (int i = 0; i < n; i++)
		ids[i] = Int32GetDatum(endpoints[i]->endpoint_id);
	values[0] = PointerGetDatum(construct_array(ids, n, INT4OID, 4, true, TYPALIGN_INT));

	/* one record for each set of shards, the newest first */
	nrecords = (int) select_now(&plan,
								"SELECT * FROM (SELECT DISTINCT ON (endpoint_id, shards, split IS NULL) "
								RECORD_COLUMNS " FROM " BOTH_TABLES
								" WHERE endpoint_id = ANY ($1) AND replay_id IS NULL"
								" ORDER BY endpoint_id, shards, split IS NULL, n DESC) AS newest"
								" ORDER BY endpoint_id, n DESC",
								1, types, values);
	table = SPI_tuptable;
	records = palloc((nrecords + 1) * sizeof(Record));
	for (int i = 0; i < nrecords; i++)
		read_record(&records[i], table->vals[i], table->tupdesc);
	SPI_freetuptable(table);

	for (int i = 0; i < n; i++)
	{
		int			first = 0;
		int			count = 0;

		/* both are in the order of the ids */
		while (first < nrecords && records[first].endpoint_id < endpoints[i]->endpoint_id)
			first++;
		while (first + count < nrecords &&
			   records[first + count].endpoint_id == endpoints[i]->endpoint_id)
			count++;
		make_lanes(endpoints[i], starts[i], records + first, count);
	}
	free_records(records, nrecords);
}

void
oe_position_load_replay(OeReplay *replay, int64 replay_id, int32 endpoint_id, uint32 left,
						oe_position_callback callback)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT8OID};
	Datum		values[2];
	Record	   *records;
	int			nrecords;
	SPITupleTable *table;

	initialize();
	values[0] = Int32GetDatum(endpoint_id);
	values[1] = Int64GetDatum(replay_id);
	nrecords = (int) select_now(&plan,
								"SELECT " RECORD_COLUMNS " FROM " BOTH_TABLES
								" WHERE endpoint_id = $1 AND replay_id = $2 ORDER BY n DESC",
								2, types, values);
	table = SPI_tuptable;
	records = palloc((nrecords + 1) * sizeof(Record));
	for (int i = 0; i < nrecords; i++)
		read_record(&records[i], table->vals[i], table->tupdesc);
	SPI_freetuptable(table);

	while (left != 0)
	{
		int			shard = pg_rightmost_one_pos32(left);
		Record	   *record = newest_of(records, nrecords, shard, false);
		uint32		shards = 0;
		OePlace		start = {0};

		for (int i = shard; i < OE_SHARDS; i++)
		{
			if ((left & (1 << i)) != 0 && newest_of(records, nrecords, i, false) == record)
				shards |= 1 << i;
		}
		left &= ~shards;
		if (record != NULL)
			callback(replay, shards, &record->place, record->done, record->ndone);
		else
			callback(replay, shards, &start, NULL, 0);
	}
	free_records(records, nrecords);
}

/* ---------- writing ---------- */

static Datum
snapshot_datum(const char *text)
{
	return OidInputFunctionCall(F_PG_SNAPSHOT_IN, unconstify(char *, text), InvalidOid, -1);
}

static void
set_time(Datum *values, bool *nulls, int column, TimestampTz time)
{
	values[column] = TimestampTzGetDatum(time);
	nulls[column] = (time == 0);
}

static void
set_health(Datum *values, bool *nulls, OeEndpoint *endpoint)
{
	OeHealthState state;

	oe_health_get(endpoint->health, &state);
	set_time(values, nulls, COL_LAST_SUCCESS_AT, state.last_success_at);
	set_time(values, nulls, COL_LAST_ERROR_AT, state.last_error_at);
	set_time(values, nulls, COL_FAILING_SINCE, state.failing_since);
	set_time(values, nulls, COL_PAUSED_UNTIL, state.paused_until);
	set_time(values, nulls, COL_OPEN_UNTIL, state.open_until);
	nulls[COL_LAST_ERROR] = (state.last_error[0] == '\0');
	values[COL_LAST_ERROR] = CStringGetTextDatum(state.last_error);
	values[COL_FAILURES] = Int32GetDatum(state.failures);
	values[COL_BREAKER_OPENS] = Int32GetDatum(state.breaker_opens);
}

static void
append_record(OeAppender *appender, OeLane *lane, TimestampTz now)
{
	const OePlace *place = oe_lane_place(lane);
	Datum		values[NUM_COLS] = {0};
	bool		nulls[NUM_COLS] = {false};
	pg_uuid_t  *done;
	int			ndone;

	done = oe_lane_done_beyond(lane, &ndone);
	values[COL_N] = Int64GetDatum((int64) pg_atomic_add_fetch_u64(last_n(), 1));
	values[COL_ENDPOINT_ID] = Int32GetDatum(lane->endpoint->endpoint_id);
	values[COL_SHARDS] = Int32GetDatum((int32) lane->shards);
	nulls[COL_REPLAY_ID] = (lane->replay == NULL);
	if (lane->replay != NULL)
		values[COL_REPLAY_ID] = Int64GetDatum(oe_replay_id(lane->replay));
	nulls[COL_SPLIT] = (lane->kind != OE_LANE_EXPRESS);
	if (lane->kind == OE_LANE_EXPRESS)
		values[COL_SPLIT] = snapshot_datum(oe_express_from(lane)->text);
	nulls[COL_BY_BIRTH] = (lane->kind != OE_LANE_EXPRESS);
	values[COL_BY_BIRTH] = BoolGetDatum(lane->by_birth);
	nulls[COL_SEEN] = (place->seen == NULL);
	if (place->seen != NULL)
		values[COL_SEEN] = snapshot_datum(place->seen->text);
	nulls[COL_UPTO] = nulls[COL_TXID] = (place->upto == NULL);
	if (place->upto != NULL)
	{
		values[COL_UPTO] = snapshot_datum(place->upto->text);
		values[COL_TXID] = FullTransactionIdGetDatum(FullTransactionIdFromU64(place->txid));
	}
	nulls[COL_ID] = (place->upto == NULL && lane->replay == NULL);
	values[COL_ID] = UUIDPGetDatum(&place->id);
	nulls[COL_DONE] = (ndone == 0);
	if (ndone > 0)
	{
		Datum	   *datums = palloc(ndone * sizeof(Datum));

		for (int i = 0; i < ndone; i++)
			datums[i] = UUIDPGetDatum(&done[i]);
		values[COL_DONE] = PointerGetDatum(construct_array(datums, ndone, UUIDOID, UUID_LEN,
														   false, TYPALIGN_CHAR));
	}
	values[COL_RECORDED_AT] = TimestampTzGetDatum(now);
	set_health(values, nulls, lane->endpoint);
	oe_append_row(appender, values, nulls);

	oe_snapshot_unref(lane->recorded_seen);
	oe_snapshot_unref(lane->recorded_upto);
	lane->recorded_seen = oe_snapshot_ref(place->seen);
	lane->recorded_upto = oe_snapshot_ref(place->upto);
}

static void
append_void(OeAppender *appender, const Ended *e, TimestampTz now)
{
	Datum		values[NUM_COLS] = {0};
	bool		nulls[NUM_COLS];

	memset(nulls, true, sizeof(nulls));
	nulls[COL_N] = nulls[COL_ENDPOINT_ID] = nulls[COL_SHARDS] = nulls[COL_SPLIT] = false;
	nulls[COL_RECORDED_AT] = nulls[COL_FAILURES] = nulls[COL_BREAKER_OPENS] = false;
	values[COL_N] = Int64GetDatum((int64) pg_atomic_add_fetch_u64(last_n(), 1));
	values[COL_ENDPOINT_ID] = Int32GetDatum(e->endpoint_id);
	values[COL_SHARDS] = Int32GetDatum((int32) e->shards);
	values[COL_SPLIT] = snapshot_datum(e->split);
	values[COL_RECORDED_AT] = TimestampTzGetDatum(now);
	values[COL_FAILURES] = Int32GetDatum(0);
	values[COL_BREAKER_OPENS] = Int32GetDatum(0);
	oe_append_row(appender, values, nulls);
}

void
oe_lane_gone(const OeLane *lane)
{
	MemoryContext old = MemoryContextSwitchTo(oe_notes_context);
	Ended	   *e = palloc(sizeof(Ended));

	Assert(lane->kind == OE_LANE_EXPRESS);
	e->endpoint_id = lane->endpoint->endpoint_id;
	e->shards = lane->shards;
	e->split = pstrdup(oe_express_from(lane)->text);
	ended = lappend(ended, e);
	MemoryContextSwitchTo(old);
}

bool
oe_position_pending(void)
{
	return !dlist_is_empty(&oe_dirty_lanes) || ended != NIL;
}

static bool
has_moved(const OeLane *lane)
{
	const OePlace *place = oe_lane_place(lane);

	return lane->replay == NULL &&
		(place->seen != lane->recorded_seen || place->upto != lane->recorded_upto);
}

/* Finds lanes that moved: whether there is one, or marks them all. */
static bool
find_moved(bool mark)
{
	bool		found = false;
	dlist_iter	iter;

	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);
		dlist_iter	lanes;

		dlist_foreach(lanes, &endpoint->lanes)
		{
			OeLane	   *lane = dlist_container(OeLane, node, lanes.cur);

			if (!has_moved(lane))
				continue;
			if (!mark)
				return true;
			oe_lane_dirty(lane);
			found = true;
		}
	}
	return found;
}

bool
oe_position_moved(void)
{
	return find_moved(false);
}

void
oe_position_write(bool all, TimestampTz now)
{
	OeAppender *appender;
	ListCell   *lc;

	if (all)
		(void) find_moved(true);
	if (!oe_position_pending())
		return;
	appender = oe_append_begin(oe_relid(pg_atomic_read_u32(current_table()) == 0 ?
										OE_REL_POSITION_0 : OE_REL_POSITION_1), NUM_COLS, false);

	/* before those of the lanes that go on: a new express lane is not void, and health is theirs */
	foreach(lc, ended)
		append_void(appender, lfirst(lc), now);
	ended = NIL;
	while (!dlist_is_empty(&oe_dirty_lanes))
	{
		OeLane	   *lane = dlist_head_element(OeLane, dirty_node, &oe_dirty_lanes);

		dlist_delete(&lane->dirty_node);
		lane->dirty = false;
		if (lane->endpoint->configured)
			append_record(appender, lane, now);
	}
	oe_append_end(appender);
}

/* ---------- turning ---------- */

#define COLUMNS \
	"n, endpoint_id, shards, replay_id, split, seen, upto, txid, id, done, recorded_at, last_success_at," \
	" last_error_at, last_error, failing_since, failures, paused_until, breaker_opens, open_until, by_birth"

/*
 * What still counts of the table that is to be emptied: what no newer records
 * cover in all of its shards.
 */
#define COPY(from, to) \
	"INSERT INTO order_engine." to " (" COLUMNS ")" \
	" SELECT " COLUMNS " FROM (SELECT *, coalesce(pg_catalog.bit_or(shards) OVER" \
	"  (PARTITION BY endpoint_id, replay_id, split IS NULL ORDER BY n DESC" \
	"   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS covered" \
	"  FROM (SELECT *, false AS is_old FROM order_engine." to \
	"   UNION ALL SELECT *, true FROM order_engine." from ") AS p) AS f" \
	" WHERE is_old AND shards & ~covered <> 0" \
	" AND (replay_id IS NULL OR EXISTS (SELECT FROM order_engine.replay r WHERE r.replay_id = f.replay_id))" \
	" AND EXISTS (SELECT FROM order_engine.endpoint e WHERE e.endpoint_id = f.endpoint_id)"

void
oe_position_turn(TimestampTz now)
{
	static SPIPlanPtr plans[2] = {NULL, NULL};
	static const char *const copies[2] = {
		COPY("position_0", "position_1"), COPY("position_1", "position_0")
	};
	static const OeRel relations[2] = {OE_REL_POSITION_0, OE_REL_POSITION_1};
	uint64		n = pg_atomic_read_u64(last_n());
	uint32		old;

	if (!initialized)
		return;
	if (turning)
	{
		if (!TimestampDifferenceExceeds(turn_tried_at, now, TRY_AGAIN_MS))
			return;
	}
	else
	{
		if (n - n_at_turn < RECORDS_PER_TURN)
			return;
		pg_atomic_write_u32(current_table(), 1 - pg_atomic_read_u32(current_table()));
		turning = true;
		n_at_turn = n;
	}

	turn_tried_at = now;
	old = 1 - pg_atomic_read_u32(current_table());
	oe_worker_begin("truncating old positions");
	if (oe_table_lock_to_truncate(oe_relid(relations[old])))
	{
		oe_worker_execute_now(&plans[old], copies[old], 0, NULL, NULL, NULL, SPI_OK_INSERT);
		oe_table_truncate(oe_relid(relations[old]));
		turning = false;
	}
	oe_worker_commit();
}
