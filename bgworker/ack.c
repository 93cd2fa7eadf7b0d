/*
 * ack.c
 *	  Make durable what was delivered: positions, retries, dead letters.
 *
 * A flush is one short transaction.  For each endpoint that moved it appends
 * one record to the position table in use; for exceptions it writes their rows.
 * The record and the rows belong together: base passes an exception in the
 * transaction that writes the exception's row.
 *
 * A position table grows until it has ROWS_PER_TURN records.  Then a complete
 * set of records goes to the other table, and in a later transaction the first
 * is truncated, if the lock is free (a dump may hold it); else that is tried
 * again, and records go on to be appended.  The record with the highest n of
 * an endpoint counts, whichever table it is in.
 */
#include "postgres.h"

#include "access/xact.h"
#include "ack.h"
#include "append.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shared.h"
#include "worker_slot.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker_sql.h"

#define ROWS_PER_TURN		10000
#define TRUNCATE_EVERY_MS	1000

enum
{
	COL_N, COL_ENDPOINT_ID, COL_SHARDS, COL_REPLAY_ID, COL_SPLIT, COL_SEEN, COL_UPTO, COL_TXID, COL_ID,
	COL_DONE, COL_RECORDED_AT, COL_LAST_SUCCESS_AT, COL_LAST_ERROR_AT, COL_LAST_ERROR, COL_FAILING_SINCE,
	COL_FAILURES, COL_PAUSED_UNTIL, COL_BREAKER_OPENS, COL_OPEN_UNTIL, NUM_COLS
};

static int64 last_n = 0;
static int	current_table = -1;		/* -1: not looked yet */
static int	rows_in_current = 0;
static bool other_to_truncate = false;
static TimestampTz truncate_tried_at = 0;

/* ---------- loading ---------- */

/* Which table is in use, and what number was given last? */
static void
find_current_table(void)
{
	static SPIPlanPtr plan = NULL;
	int64		n[2];
	int64		count[2];

	oe_worker_execute(&plan,
					  "SELECT pg_catalog.max(n), pg_catalog.count(n) FROM order_engine.position_0"
					  " UNION ALL"
					  " SELECT pg_catalog.max(n), pg_catalog.count(n) FROM order_engine.position_1",
					  0, NULL, NULL, NULL, SPI_OK_SELECT);
	for (int i = 0; i < 2; i++)
	{
		bool		isnull;
		Datum		max = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		n[i] = isnull ? 0 : DatumGetInt64(max);
		count[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
											   2, &isnull));
	}
	current_table = n[1] > n[0] ? 1 : 0;
	last_n = Max(n[0], n[1]);
	rows_in_current = (int) Min(count[current_table], ROWS_PER_TURN);
	other_to_truncate = false;	/* the next turn writes a complete set first */
	SPI_freetuptable(SPI_tuptable);
}

static void
load_position(OeEndpoint *endpoint, const char *start_snapshot)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID};
	Datum		values[1];
	HeapTuple	tuple;
	TupleDesc	desc;
	char	   *upto;
	bool		isnull;
	Datum		datum;

	values[0] = Int32GetDatum(endpoint->endpoint_id);
	if (oe_worker_execute(&plan,
						  "SELECT seen::pg_catalog.text, upto::pg_catalog.text, txid, id, done FROM"
						  " (SELECT * FROM order_engine.position_0"
						  "  UNION ALL SELECT * FROM order_engine.position_1) p"
						  " WHERE endpoint_id = $1 ORDER BY n DESC LIMIT 1",
						  1, types, values, NULL, SPI_OK_SELECT) == 0)
	{
		endpoint->base.seen = oe_snapshot_parse(start_snapshot);
		SPI_freetuptable(SPI_tuptable);
		return;
	}
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	endpoint->base.seen = oe_snapshot_parse(SPI_getvalue(tuple, desc, 1));
	upto = SPI_getvalue(tuple, desc, 2);
	if (upto != NULL)
		endpoint->base.upto = oe_snapshot_parse(upto);
	datum = SPI_getbinval(tuple, desc, 3, &isnull);
	if (!isnull)
		endpoint->base.txid = U64FromFullTransactionId(DatumGetFullTransactionId(datum));
	datum = SPI_getbinval(tuple, desc, 4, &isnull);
	if (!isnull)
		endpoint->base.id = *DatumGetUUIDP(datum);
	datum = SPI_getbinval(tuple, desc, 5, &isnull);
	if (!isnull)
	{
		Datum	   *ids;
		int			nids;

		deconstruct_array(DatumGetArrayTypeP(datum), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  &ids, NULL, &nids);
		for (int i = 0; i < nids; i++)
			oe_delivery_known(endpoint, DatumGetUUIDP(ids[i]));
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
load_retries(OeEndpoint *endpoint)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID};
	Datum		values[1];
	uint64		nrows;
	SPITupleTable *table;

	values[0] = Int32GetDatum(endpoint->endpoint_id);
	nrows = oe_worker_execute(&plan,
							  "SELECT r.txid, r.id, r.aggregate_seq, r.attempts, r.first_attempt_at,"
							  " r.next_attempt_at, r.last_error,"
							  " r.aggregatetype || E'\\n' || r.aggregateid, o.after_txid"
							  " FROM order_engine.delivery_retry r"
							  " LEFT JOIN order_engine.outbox o ON o.txid = r.txid AND o.id = r.id"
							  " WHERE r.endpoint_id = $1"
							  " ORDER BY r.aggregate_seq, r.txid, r.id",
							  1, types, values, NULL, SPI_OK_SELECT);
	table = SPI_tuptable;
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = table->vals[i];
		TupleDesc	desc = table->tupdesc;
		OeNote		stored = {0};
		uint64		after_txid;
		bool		isnull;
		Datum		datum;

		datum = SPI_getbinval(tuple, desc, 1, &isnull);
		stored.txid = U64FromFullTransactionId(DatumGetFullTransactionId(datum));
		stored.id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 2, &isnull));
		datum = SPI_getbinval(tuple, desc, 3, &isnull);
		stored.aggregate_seq = isnull ? 0 : DatumGetInt64(datum);
		stored.attempts = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));
		datum = SPI_getbinval(tuple, desc, 5, &isnull);
		stored.first_attempt_at = isnull ? 0 : DatumGetTimestampTz(datum);
		datum = SPI_getbinval(tuple, desc, 6, &isnull);
		stored.next_attempt_at = isnull ? 0 : DatumGetTimestampTz(datum);
		stored.last_error = SPI_getvalue(tuple, desc, 7);
		datum = SPI_getbinval(tuple, desc, 9, &isnull);
		after_txid = isnull ? 0 : U64FromFullTransactionId(DatumGetFullTransactionId(datum));
		oe_delivery_restore(endpoint, SPI_getvalue(tuple, desc, 8), &stored, after_txid);
	}
	SPI_freetuptable(table);
}

void
oe_ack_load(OeEndpoint *endpoint, const char *start_snapshot)
{
	if (current_table < 0)
		find_current_table();
	load_position(endpoint, start_snapshot);
	oe_place_copy(&endpoint->cursor, &endpoint->base);
	load_retries(endpoint);
}

/* ---------- writing ---------- */

static Datum
snapshot_datum(const OeSnapshot *snapshot)
{
	return OidInputFunctionCall(F_PG_SNAPSHOT_IN, snapshot->text, InvalidOid, -1);
}

static void
append_position(OeAppender *appender, OeEndpoint *endpoint, TimestampTz now)
{
	const OePlace *base = &endpoint->base;
	Datum		values[NUM_COLS] = {0};
	bool		nulls[NUM_COLS] = {false};
	pg_uuid_t  *done;
	int			ndone;

	done = oe_delivery_done_beyond(endpoint, &ndone);
	values[COL_N] = Int64GetDatum(++last_n);
	values[COL_ENDPOINT_ID] = Int32GetDatum(endpoint->endpoint_id);
	values[COL_SHARDS] = Int32GetDatum(OE_ALL_SHARDS);
	nulls[COL_REPLAY_ID] = nulls[COL_SPLIT] = true;
	nulls[COL_LAST_SUCCESS_AT] = nulls[COL_LAST_ERROR_AT] = nulls[COL_LAST_ERROR] = true;
	nulls[COL_FAILING_SINCE] = nulls[COL_PAUSED_UNTIL] = nulls[COL_OPEN_UNTIL] = true;
	values[COL_SEEN] = snapshot_datum(base->seen);
	nulls[COL_UPTO] = nulls[COL_TXID] = nulls[COL_ID] = (base->upto == NULL);
	if (base->upto != NULL)
	{
		values[COL_UPTO] = snapshot_datum(base->upto);
		values[COL_TXID] = FullTransactionIdGetDatum(FullTransactionIdFromU64(base->txid));
		values[COL_ID] = UUIDPGetDatum(&base->id);
	}
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
	oe_append_row(appender, values, nulls);
	rows_in_current++;
	endpoint->moved = false;
	endpoint->read_on = false;
}

static void
delete_retry(OeEndpoint *endpoint, OeNote *n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, UUIDOID};
	Datum		values[2];

	values[0] = Int32GetDatum(endpoint->endpoint_id);
	values[1] = UUIDPGetDatum(&n->id);
	oe_worker_execute(&plan,
					  "DELETE FROM order_engine.delivery_retry WHERE endpoint_id = $1 AND id = $2",
					  2, types, values, NULL, SPI_OK_DELETE);
}

static void
write_retry(OeEndpoint *endpoint, OeNote *n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {
		INT4OID, XID8OID, UUIDOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID
	};
	Datum		values[7] = {0};
	char		nulls[7];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int32GetDatum(endpoint->endpoint_id);
	values[1] = FullTransactionIdGetDatum(FullTransactionIdFromU64(n->txid));
	values[2] = UUIDPGetDatum(&n->id);
	values[3] = Int32GetDatum(n->attempts);
	values[4] = TimestampTzGetDatum(n->first_attempt_at);
	nulls[4] = n->first_attempt_at == 0 ? 'n' : ' ';
	values[5] = TimestampTzGetDatum(n->next_attempt_at);
	nulls[5] = n->next_attempt_at == 0 ? 'n' : ' ';
	nulls[6] = n->last_error == NULL ? 'n' : ' ';
	if (n->last_error != NULL)
		values[6] = CStringGetTextDatum(n->last_error);

	/*
	 * No lock on the endpoint: whoever alters or drops it must not hold up the
	 * others.  What is written for one that is just being dropped is removed
	 * when the worker hears of that.
	 */
	oe_worker_execute(&plan,
					  "INSERT INTO order_engine.delivery_retry AS r (endpoint_id, txid, id,"
					  " shard, aggregatetype, aggregateid, aggregate_seq, attempts, first_attempt_at,"
					  " next_attempt_at, last_error)"
					  " SELECT e.endpoint_id, o.txid, o.id, o.shard, o.aggregatetype, o.aggregateid,"
					  " o.aggregate_seq, $4, $5, $6, $7"
					  " FROM order_engine.endpoint e, order_engine.outbox o"
					  " WHERE e.endpoint_id = $1 AND o.txid = $2 AND o.id = $3"
					  " ON CONFLICT (endpoint_id, id) DO UPDATE SET attempts = excluded.attempts,"
					  " first_attempt_at = excluded.first_attempt_at,"
					  " next_attempt_at = excluded.next_attempt_at, last_error = excluded.last_error",
					  7, types, values, nulls, SPI_OK_INSERT);
}

static void
write_dead_letter(OeEndpoint *endpoint, OeNote *n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, XID8OID, UUIDOID, INT4OID, TEXTOID};
	Datum		values[5];

	values[0] = Int32GetDatum(endpoint->endpoint_id);
	values[1] = FullTransactionIdGetDatum(FullTransactionIdFromU64(n->txid));
	values[2] = UUIDPGetDatum(&n->id);
	values[3] = Int32GetDatum(n->attempts);
	values[4] = CStringGetTextDatum(n->last_error != NULL ? n->last_error : "unknown");
	oe_worker_execute(&plan,
					  "INSERT INTO order_engine.delivery_dead (endpoint_id, id, txid, shard, aggregatetype,"
					  " aggregateid, aggregate_seq, type, payload, headers, created_at, died_at,"
					  " attempts, last_error)"
					  " SELECT e.endpoint_id, o.id, o.txid, o.shard, o.aggregatetype, o.aggregateid,"
					  " o.aggregate_seq, o.type, o.payload, o.headers, o.created_at,"
					  " pg_catalog.clock_timestamp(), $4, $5"
					  " FROM order_engine.endpoint e, order_engine.outbox o"
					  " WHERE e.endpoint_id = $1 AND o.txid = $2 AND o.id = $3"
					  " ON CONFLICT (endpoint_id, id) DO NOTHING",
					  5, types, values, NULL, SPI_OK_INSERT);
	delete_retry(endpoint, n);
	ereport(LOG,
			(errmsg("order_engine gave up an event for endpoint \"%s\" after %d attempts",
					endpoint->name, n->attempts),
			 errdetail("Event %s: %s.", DatumGetCString(DirectFunctionCall1(uuid_out, values[2])),
					   n->last_error != NULL ? n->last_error : "unknown")));
}

static void
write_notes(OeEndpoint *endpoint)
{
	ListCell   *lc;

	foreach(lc, endpoint->notes)
	{
		OeNote	   *n = lfirst(lc);

		switch (n->kind)
		{
			case OE_NOTE_RETRY:
				write_retry(endpoint, n);
				break;
			case OE_NOTE_SETTLED:
				delete_retry(endpoint, n);
				break;
			case OE_NOTE_DEAD:
				write_dead_letter(endpoint, n);
				break;
		}
	}
	endpoint->notes = NIL;
}

static void
truncate_other_table(TimestampTz now)
{
	Oid			relid;

	truncate_tried_at = now;
	oe_worker_begin("truncating old positions");
	relid = oe_relid(current_table == 0 ? OE_REL_POSITION_1 : OE_REL_POSITION_0);
	if (ConditionalLockRelationOid(relid, AccessExclusiveLock))
	{
		if (SPI_execute(current_table == 0 ? "TRUNCATE order_engine.position_1" :
						"TRUNCATE order_engine.position_0", false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "TRUNCATE failed");
		other_to_truncate = false;
	}
	oe_worker_commit();
}

bool
oe_ack_pending(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (endpoint->configured && (endpoint->moved || endpoint->read_on))
			return true;
	}
	return false;
}

void
oe_ack_flush(void)
{
	OeWorkerSlot *slot = oe_my_slot;
	TimestampTz now = GetCurrentTimestamp();
	bool		turn = rows_in_current >= ROWS_PER_TURN && !other_to_truncate;
	OeAppender *appender;
	dlist_iter	iter;

	oe_worker_begin("acknowledging deliveries");
	if (turn)
	{
		current_table = 1 - current_table;
		rows_in_current = 0;
	}
	appender = oe_append_begin(oe_relid(current_table == 0 ? OE_REL_POSITION_0 : OE_REL_POSITION_1),
							   NUM_COLS, false);
	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (!endpoint->configured)
		{
			endpoint->notes = NIL;
			continue;
		}
		oe_delivery_advance(endpoint);
		if (endpoint->moved || endpoint->read_on || turn)
			append_position(appender, endpoint, now);
		if (endpoint->notes != NIL)
			write_notes(endpoint);
	}
	oe_append_end(appender);
	oe_worker_commit();

	/* a background worker reports by itself, or autovacuum never hears of its writes */
	pgstat_report_stat(true);

	MemoryContextReset(oe_notes_context);
	if (turn)
		other_to_truncate = true;
	if (slot != NULL)
		pg_atomic_write_u64(&slot->flushes, pg_atomic_read_u64(&slot->flushes) + 1);
	if (other_to_truncate &&
		TimestampDifferenceExceeds(truncate_tried_at, now, TRUNCATE_EVERY_MS))
		truncate_other_table(now);
}
