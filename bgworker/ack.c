/*
 * ack.c
 *	  Make durable what was delivered: one short transaction for many results.
 *
 * It appends the positions of the lanes that moved (position.c), writes the rows
 * of exceptions and dead letters, and the attempt log.  These belong together:
 * base passes an exception in the transaction that writes the exception's row.
 *
 * What is to be said of an endpoint (it was disabled, it came back, it did not
 * take an event) goes into the outbox by the same transaction.
 *
 * A flush waits for nobody: an operator's open transaction that alters or drops
 * an endpoint, or discards dead letters, must not stop the deliveries of others.
 * Rows that are there are changed only if their lock can be had at once; what
 * could not be removed is tried again with the next flush.
 *
 * Nor for the disk: it commits asynchronously, and others' commits take it to disk
 * along with theirs.  If none does, the launcher is asked to (it has the time).
 * The next flush begins only when the last one is durable, so a crash of the
 * server forgets no more than two.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "ack.h"
#include "attempt_log.h"
#include "catalog/pg_type.h"
#include "pgstat.h"
#include "position.h"
#include "quarantine.h"
#include "shared.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "wakeup.h"
#include "worker_slot.h"
#include "worker_sql.h"

/* positions of endpoints that only let events pass are recorded so often */
#define RECORD_ALL_MS	30000

static TimestampTz all_recorded_at = 0;

/* end of the last flush in WAL; nobody need care when it is durable */
static XLogRecPtr last_flush = InvalidXLogRecPtr;

/* what met a lock, to be tried again with the next flush */
static List *deferred = NIL;	/* of OeNote, in oe_notes_context */
static bool news_deferred = false;

/* ---------- exceptions ---------- */

static void
write_retry(const OeNote *n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {
		INT4OID, XID8OID, UUIDOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID
	};
	Datum		values[7] = {0};
	char		nulls[7];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int32GetDatum(n->endpoint_id);
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
	 * No lock on the endpoint.  What is written for one that is just being
	 * dropped is removed when the worker hears of that.  A row that somebody
	 * else has locked is there, and that is what counts.
	 */
	oe_worker_execute(&plan,
					  "WITH updated AS (UPDATE order_engine.delivery_retry AS r SET attempts = $4,"
					  "  first_attempt_at = $5, next_attempt_at = $6, last_error = $7"
					  "  FROM (SELECT endpoint_id, id FROM order_engine.delivery_retry"
					  "   WHERE endpoint_id = $1 AND id = $3 FOR UPDATE SKIP LOCKED) AS free"
					  "  WHERE r.endpoint_id = free.endpoint_id AND r.id = free.id)"
					  " INSERT INTO order_engine.delivery_retry (endpoint_id, txid, id,"
					  " shard, aggregatetype, aggregateid, aggregate_seq, attempts, first_attempt_at,"
					  " next_attempt_at, last_error)"
					  " SELECT e.endpoint_id, o.txid, o.id, o.shard, o.aggregatetype, o.aggregateid,"
					  " o.aggregate_seq, $4, $5, $6, $7"
					  " FROM order_engine.endpoint e, order_engine.outbox o"
					  " WHERE e.endpoint_id = $1 AND o.txid = $2 AND o.id = $3 AND NOT EXISTS"
					  "  (SELECT FROM order_engine.delivery_retry r WHERE r.endpoint_id = $1 AND r.id = $3)",
					  7, types, values, nulls, SPI_OK_INSERT);
}

/* The statement returned the rows that it could not remove. */
static void
defer(List *notes, int first, int n)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int32		endpoint_id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i],
															 SPI_tuptable->tupdesc, 1, &isnull));
		pg_uuid_t  *id = DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i],
													 SPI_tuptable->tupdesc, 2, &isnull));

		for (int j = first; j < first + n; j++)
		{
			OeNote	   *note = list_nth(notes, j);

			if (note->endpoint_id != endpoint_id || memcmp(&note->id, id, sizeof(pg_uuid_t)) != 0)
				continue;
			if (!list_member_ptr(deferred, note))
			{
				MemoryContext old = MemoryContextSwitchTo(oe_notes_context);

				deferred = lappend(deferred, note);
				MemoryContextSwitchTo(old);
			}
			break;
		}
	}
	SPI_freetuptable(SPI_tuptable);
}

#define REMOVE(table) \
	"WITH n AS (SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS n (endpoint_id, id))," \
	" free AS (SELECT r.endpoint_id, r.id FROM n JOIN order_engine." table " r USING (endpoint_id, id)" \
	"  FOR UPDATE OF r SKIP LOCKED)," \
	" removed AS (DELETE FROM order_engine." table " r USING free" \
	"  WHERE r.endpoint_id = free.endpoint_id AND r.id = free.id RETURNING r.endpoint_id, r.id)" \
	" SELECT r.endpoint_id, r.id FROM n JOIN order_engine." table " r USING (endpoint_id, id)" \
	" EXCEPT ALL SELECT * FROM removed"

/* Removes the retries, and with "dead" the dead letters, of a run of notes. */
static void
settle(List *notes, int first, int n, bool dead)
{
	static SPIPlanPtr retry_plan = NULL;
	static SPIPlanPtr dead_plan = NULL;
	static const Oid types[] = {INT4ARRAYOID, UUIDARRAYOID};
	Datum	   *endpoints = palloc(n * sizeof(Datum));
	Datum	   *ids = palloc(n * sizeof(Datum));
	Datum		values[2];

	for (int i = 0; i < n; i++)
	{
		OeNote	   *note = list_nth(notes, first + i);

		endpoints[i] = Int32GetDatum(note->endpoint_id);
		ids[i] = UUIDPGetDatum(&note->id);
	}
	values[0] = PointerGetDatum(construct_array(endpoints, n, INT4OID, 4, true, TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(ids, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	oe_worker_execute_now(&retry_plan, REMOVE("delivery_retry"), 2, types, values, NULL, SPI_OK_SELECT);
	defer(notes, first, n);
	if (!dead)
		return;
	oe_worker_execute_now(&dead_plan, REMOVE("delivery_dead"), 2, types, values, NULL, SPI_OK_SELECT);
	defer(notes, first, n);
}

static void
say_exhausted(const OeNote *n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, UUIDOID};
	Datum		values[2];

	values[0] = Int32GetDatum(n->endpoint_id);
	values[1] = UUIDPGetDatum(&n->id);
	oe_worker_execute_now(&plan,
						  "SELECT order_engine.append_event('endpoint', endpoint, 'delivery.exhausted',"
						  " pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('endpoint', endpoint,"
						  "  'event_id', 'evt_' || pg_catalog.replace(id::pg_catalog.text, '-', ''),"
						  "  'event_type', type, 'event_aggregatetype', aggregatetype,"
						  "  'event_aggregateid', aggregateid, 'event_sequence', aggregate_seq,"
						  "  'attempts', attempts, 'last_error', last_error)))"
						  " FROM order_engine.dead_letter WHERE endpoint_id = $1 AND id = $2",
						  2, types, values, NULL, SPI_OK_SELECT);
	SPI_freetuptable(SPI_tuptable);
}

/*
 * A redriven event may be gone from the outbox: its dead letter is still there,
 * and is brought up to date.
 */
static void
write_dead_letter(const OeNote *n)
{
	static SPIPlanPtr update_plan = NULL;
	static SPIPlanPtr insert_plan = NULL;
	static const Oid types[] = {INT4OID, UUIDOID, INT4OID, TEXTOID, XID8OID, BOOLOID};
	Datum		values[6];

	values[0] = Int32GetDatum(n->endpoint_id);
	values[1] = UUIDPGetDatum(&n->id);
	values[2] = Int32GetDatum(n->attempts);
	values[3] = CStringGetTextDatum(n->last_error != NULL ? n->last_error : "unknown");
	values[4] = FullTransactionIdGetDatum(FullTransactionIdFromU64(n->txid));

	/* its data is not touched any more once to copy it crashed the worker, too */
	values[5] = BoolGetDatum(oe_quarantine_crashes(n->endpoint_id, &n->id) <= OE_CRASHES_ALLOWED);
	if (oe_worker_execute(&update_plan,
						  "UPDATE order_engine.delivery_dead d SET attempts = $3, last_error = $4,"
						  " died_at = pg_catalog.clock_timestamp()"
						  " FROM (SELECT endpoint_id, id FROM order_engine.delivery_dead"
						  "  WHERE endpoint_id = $1 AND id = $2 FOR UPDATE SKIP LOCKED) AS free"
						  " WHERE d.endpoint_id = free.endpoint_id AND d.id = free.id",
						  4, types, values, NULL, SPI_OK_UPDATE) == 0)
		oe_worker_execute(&insert_plan,
						  "INSERT INTO order_engine.delivery_dead (endpoint_id, id, txid, shard, aggregatetype,"
						  " aggregateid, aggregate_seq, type, payload, headers, created_at, died_at,"
						  " attempts, last_error)"
						  " SELECT e.endpoint_id, o.id, o.txid, o.shard, o.aggregatetype, o.aggregateid,"
						  " o.aggregate_seq, o.type, CASE WHEN $6 THEN o.payload ELSE 'null'::pg_catalog.jsonb END,"
						  " CASE WHEN $6 THEN o.headers END, o.created_at,"
						  " pg_catalog.clock_timestamp(), $3, $4"
						  " FROM order_engine.endpoint e, order_engine.outbox o"
						  " WHERE e.endpoint_id = $1 AND o.txid = $5 AND o.id = $2 AND NOT EXISTS"
						  "  (SELECT FROM order_engine.delivery_dead d WHERE d.endpoint_id = $1 AND d.id = $2)",
						  6, types, values, NULL, SPI_OK_INSERT);
	if (!n->operational)
		say_exhausted(n);
	ereport(LOG,
			(errmsg("order_engine gave up an event for endpoint \"%s\" after %d attempts",
					n->endpoint_name, n->attempts),
			 errdetail("Event %s: %s.", DatumGetCString(DirectFunctionCall1(uuid_out, values[1])),
					   n->last_error != NULL ? n->last_error : "unknown")));
}

static void
write_notes(void)
{
	int			count = list_length(oe_notes);

	for (int i = 0; i < count;)
	{
		OeNote	   *n = list_nth(oe_notes, i);
		int			run = 1;

		oe_quarantine_at(n->endpoint_id, &n->id);
		switch (n->kind)
		{
			case OE_NOTE_RETRY:
				write_retry(n);
				break;
			case OE_NOTE_SETTLED:
				while (i + run < count &&
					   ((OeNote *) list_nth(oe_notes, i + run))->kind == OE_NOTE_SETTLED)
					run++;
				settle(oe_notes, i, run, true);
				break;
			case OE_NOTE_DEAD:
				write_dead_letter(n);
				settle(oe_notes, i, 1, false);
				break;
			case OE_NOTE_BURIED:
				settle(oe_notes, i, 1, false);
				break;
		}
		i += run;
	}
	oe_quarantine_at_nothing();
	oe_notes = NIL;
}

/* Of all notes only those of removals that met a lock are left. */
static void
keep_deferred(void)
{
	MemoryContext old;
	List	   *kept = NIL;
	ListCell   *lc;

	foreach(lc, deferred)
	{
		OeNote	   *copy = palloc(sizeof(OeNote));

		*copy = *(OeNote *) lfirst(lc);
		if (copy->kind == OE_NOTE_DEAD)
			copy->kind = OE_NOTE_BURIED;	/* its dead letter stays */
		copy->endpoint_name = copy->last_error = NULL;
		kept = lappend(kept, copy);
	}
	MemoryContextReset(oe_notes_context);
	old = MemoryContextSwitchTo(oe_notes_context);
	foreach(lc, kept)
	{
		OeNote	   *note = palloc(sizeof(OeNote));

		*note = *(OeNote *) lfirst(lc);
		oe_notes = lappend(oe_notes, note);
	}
	MemoryContextSwitchTo(old);
	list_free_deep(kept);
	deferred = NIL;
}

/* ---------- endpoints ---------- */

static void
disable(OeEndpoint *endpoint)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		values[2];
	bool		done;
	bool		isnull;

	values[0] = Int32GetDatum(endpoint->endpoint_id);
	values[1] = CStringGetTextDatum(endpoint->disable);
	oe_worker_execute_now(&plan,
						  "WITH free AS (SELECT endpoint_id FROM order_engine.endpoint"
						  "  WHERE endpoint_id = $1 AND status = 'active' FOR NO KEY UPDATE SKIP LOCKED),"
						  " disabled AS (UPDATE order_engine.endpoint e SET status = 'disabled',"
						  "  status_since = pg_catalog.clock_timestamp(), status_reason = $2"
						  "  FROM free WHERE e.endpoint_id = free.endpoint_id RETURNING e.endpoint_id, e.name),"
						  " said AS (SELECT order_engine.append_event('endpoint', name, 'endpoint.disabled',"
						  "  pg_catalog.jsonb_build_object('endpoint', name, 'reason', $2)) AS id FROM disabled)"
						  " SELECT said.id IS NOT NULL FROM order_engine.endpoint e LEFT JOIN said ON true"
						  " WHERE e.endpoint_id = $1 AND e.status = 'active'",
						  2, types, values, NULL, SPI_OK_SELECT);
	done = SPI_processed > 0 &&
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (SPI_processed > 0 && !done)
		news_deferred = true;	/* somebody has locked it */
	else
		endpoint->disable[0] = '\0';
	if (done)
		ereport(LOG,
				(errmsg("order_engine disabled endpoint \"%s\"", endpoint->name),
				 errdetail("Reason: %s.", TextDatumGetCString(values[1])),
				 errhint("Its events are kept. Call order_engine.resume_endpoint() when it works again.")));
	SPI_freetuptable(SPI_tuptable);
}

static void
say_recovered(OeEndpoint *endpoint)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[2];

	values[0] = Int32GetDatum(endpoint->endpoint_id);
	values[1] = TimestampTzGetDatum(endpoint->recovered_since);
	endpoint->recovered_since = 0;
	oe_worker_execute_now(&plan,
						  "SELECT order_engine.append_event('endpoint', name, 'delivery.recovered',"
						  " pg_catalog.jsonb_build_object('endpoint', name, 'failing_since', $2))"
						  " FROM order_engine.endpoint WHERE endpoint_id = $1",
						  2, types, values, NULL, SPI_OK_SELECT);
	SPI_freetuptable(SPI_tuptable);
}

static void
write_news(void)
{
	dlist_iter	iter;

	news_deferred = false;
	dlist_foreach(iter, &oe_endpoints)
	{
		OeEndpoint *endpoint = dlist_container(OeEndpoint, node, iter.cur);

		if (endpoint->disable[0] != '\0')
			disable(endpoint);
		if (endpoint->recovered_since != 0)
			say_recovered(endpoint);
	}
}

/* ---------- the flush ---------- */

bool
oe_ack_pending(TimestampTz now)
{
	return oe_position_pending() || oe_notes != NIL || news_deferred || oe_replay_deferred ||
		(TimestampDifferenceExceeds(all_recorded_at, now, RECORD_ALL_MS) && oe_position_moved());
}

bool
oe_ack_is_durable(void)
{
	if (!XLogRecPtrIsInvalid(last_flush) && !XLogNeedsFlush(last_flush))
		last_flush = InvalidXLogRecPtr;
	return XLogRecPtrIsInvalid(last_flush);
}

void
oe_ack_make_durable(void)
{
	if (!oe_ack_is_durable())
		XLogFlush(last_flush);
}

void
oe_ack_hasten(void)
{
	if (oe_ack_is_durable())
		return;
	if (oe_shared == NULL || oe_shared->launcher_procno == OE_NO_PROC)
	{
		XLogFlush(last_flush);
		return;
	}
	oe_shared_raise(&oe_shared->flush_upto, last_flush);
	oe_set_latch_of(oe_shared->launcher_procno);
}

/* As oe_worker_commit, but waits for no disk. */
static void
commit_asynchronously(void)
{
	int			saved = synchronous_commit;

	synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	oe_worker_commit();
	synchronous_commit = saved;
	last_flush = XactLastCommitEnd;
}

void
oe_ack_flush(bool all)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	oe_ack_make_durable();
	if (TimestampDifferenceExceeds(all_recorded_at, now, RECORD_ALL_MS))
		all = true;
	if (all)
		all_recorded_at = now;
	oe_worker_begin("acknowledging deliveries");
	dlist_foreach(iter, &oe_dirty_lanes)
		oe_lane_advance(dlist_container(OeLane, dirty_node, iter.cur), now);
	oe_replay_flush();
	write_notes();
	oe_quarantine_flush();
	write_news();
	oe_position_write(all, now);
	oe_attempt_log_flush();
	commit_asynchronously();

	/* a background worker reports by itself, or autovacuum never hears of its writes */
	pgstat_report_stat(true);

	keep_deferred();
	oe_unflushed = 0;
	if (oe_my_slot != NULL)
		pg_atomic_write_u64(&oe_my_slot->flushes, pg_atomic_read_u64(&oe_my_slot->flushes) + 1);
}
