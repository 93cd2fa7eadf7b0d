/*
 * The ring of the outbox's leaves: what holds a leaf, and how one is given up.
 * The worker turns the ring (bgworker/ring.c); these are its questions.
 */

CREATE FUNCTION order_engine.event_type_matches(event_types text[], type text) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'oe_event_type_matches';
COMMENT ON FUNCTION order_engine.event_type_matches(text[], text) IS
'Internal: whether one of the patterns, in which * stands for any run of characters, is that of the event type.';

/*
 * Of each endpoint and shard the record that counts: the newest one, and the
 * newest one with split, unless that says that the lane has ended.
 */
CREATE VIEW order_engine.position_current AS
SELECT p.endpoint_id, p.shard, p.n, p.split, p.seen, p.upto, p.txid, p.id, p.done, p.recorded_at, p.by_birth
FROM (
	SELECT DISTINCT ON (r.endpoint_id, s.shard, r.split IS NULL) r.*, s.shard
	FROM (
		-- first one record for each set of shards: there are thousands that say the same of older times
		SELECT DISTINCT ON (q.endpoint_id, q.shards, q.split IS NULL) q.*
		FROM (SELECT * FROM order_engine.position_0 UNION ALL SELECT * FROM order_engine.position_1) q
		WHERE q.replay_id IS NULL
		ORDER BY q.endpoint_id, q.shards, q.split IS NULL, q.n DESC) r
	JOIN generate_series(0, 15) AS s (shard) ON r.shards & (1 << s.shard) <> 0
	ORDER BY r.endpoint_id, s.shard, r.split IS NULL, r.n DESC) p
WHERE p.seen IS NOT NULL;
COMMENT ON VIEW order_engine.position_current IS 'Internal: of each endpoint and shard the position records that count.';
COMMENT ON COLUMN order_engine.position_current.endpoint_id IS 'The endpoint.';
COMMENT ON COLUMN order_engine.position_current.shard IS 'Shard of the outbox, 0 to 15.';
COMMENT ON COLUMN order_engine.position_current.n IS 'Number of the record.';
COMMENT ON COLUMN order_engine.position_current.split IS 'See position_0, as for the columns that follow.';
COMMENT ON COLUMN order_engine.position_current.seen IS 'Events of transactions that this snapshot sees are done.';
COMMENT ON COLUMN order_engine.position_current.upto IS 'Within the events that this snapshot sees and seen does not, those up to (txid, id) are done.';
COMMENT ON COLUMN order_engine.position_current.txid IS 'See upto.';
COMMENT ON COLUMN order_engine.position_current.id IS 'See upto.';
COMMENT ON COLUMN order_engine.position_current.done IS 'Events beyond that place that are done as well.';
COMMENT ON COLUMN order_engine.position_current.recorded_at IS 'When the record was written.';
COMMENT ON COLUMN order_engine.position_current.by_birth IS 'With split: the record is only about aggregates that began behind it.';

/*
 * Snapshot "writers" sees all transactions of a set, which have ended.  A later
 * snapshot sees them all as well.  An xmin would tell that too, but only when no
 * transaction of the whole server is as old any more; this does not care.
 */
CREATE FUNCTION order_engine.snapshot_covers(seen pg_snapshot, writers pg_snapshot) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT pg_snapshot_xmax(seen) >= pg_snapshot_xmax(writers)
		AND NOT EXISTS (SELECT FROM pg_snapshot_xip(seen) AS running WHERE pg_visible_in_snapshot(running, writers))
$$;
COMMENT ON FUNCTION order_engine.snapshot_covers(pg_snapshot, pg_snapshot) IS
'Internal: whether the first snapshot sees every transaction that the second one sees.';

/*
 * Where order is kept, the express lane takes the aggregates that began behind the
 * split, and of those behind it the others wait for the main lane (see
 * bgworker/express.c).  What the express lane has read tells nothing about them.
 */
CREATE FUNCTION order_engine.express_aggregates(endpoint_id integer) RETURNS TABLE (aggregatetype text, aggregateid text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off	-- as often as not there are no statistics
SET jit = off				-- which that would call for
AS $$
	SELECT first.aggregatetype, first.aggregateid
	FROM order_engine.outbox first
	JOIN order_engine.position_current x ON x.endpoint_id = express_aggregates.endpoint_id
		AND x.shard = first.shard AND x.split IS NOT NULL AND x.by_birth
	WHERE first.aggregate_seq = 1 AND NOT pg_visible_in_snapshot(first.txid, x.split)
		AND first.after_txid IS DISTINCT FROM first.txid
		AND NOT EXISTS (
			SELECT FROM order_engine.outbox late
			WHERE late.aggregatetype = first.aggregatetype AND late.aggregateid = first.aggregateid
				AND late.aggregate_seq > 1 AND late.after_txid > late.txid AND (late.txid, late.id) < (first.txid, first.id))
$$;
COMMENT ON FUNCTION order_engine.express_aggregates(integer) IS
'Internal: the aggregates that an endpoint''s express lane has taken, where it keeps their order.';

/*
 * Who is done with a leaf?  Whoever's position sees all that wrote to it, which
 * two snapshots tell; or, where the position is older than that because nothing
 * came any more, sees the transactions of all rows.
 *
 * An endpoint of another database holds everything: nobody knows what it has got
 * until adopt_database() says so, and what is gone then is lost.
 */
CREATE FUNCTION order_engine.outbox_leaf_holders(leaf smallint)
RETURNS TABLE (endpoint_id integer, held_by text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH closed AS MATERIALIZED (
		SELECT l.writers FROM order_engine.outbox_leaf l WHERE l.leaf = outbox_leaf_holders.leaf
	), place AS MATERIALIZED (
		SELECT p.endpoint_id, array_agg(p.shard) FILTER (WHERE p.split IS NULL) AS shards,
			bool_and(CASE WHEN order_engine.snapshot_covers(p.seen, c.writers) THEN true ELSE NOT EXISTS (
				SELECT FROM order_engine.outbox o
				WHERE o.leaf = outbox_leaf_holders.leaf AND o.shard = p.shard
					AND o.txid >= pg_snapshot_xmin(p.seen) AND NOT pg_visible_in_snapshot(o.txid, p.seen)) END) AS past
		FROM order_engine.position_current p, closed c
		GROUP BY p.endpoint_id
	)
	SELECT e.endpoint_id, 'endpoint ' || e.name
	FROM order_engine.endpoint e CROSS JOIN closed c LEFT JOIN place p USING (endpoint_id)
	WHERE e.owner <> order_engine.database_identity() OR NOT p.past
		-- shards without a record: it is where it started
		OR coalesce(cardinality(p.shards), 0) < 16 AND NOT order_engine.snapshot_covers(e.start_snapshot, c.writers)
			AND EXISTS (
				SELECT FROM order_engine.outbox o
				WHERE o.leaf = outbox_leaf_holders.leaf AND (p.shards IS NULL OR o.shard <> ALL (p.shards))
					AND o.txid >= pg_snapshot_xmin(e.start_snapshot) AND NOT pg_visible_in_snapshot(o.txid, e.start_snapshot))
	UNION ALL
	SELECT e.endpoint_id, 'retry of ' || e.name
	FROM order_engine.endpoint e CROSS JOIN closed c
	WHERE EXISTS (SELECT FROM order_engine.delivery_retry r
		JOIN order_engine.outbox o ON o.leaf = outbox_leaf_holders.leaf AND o.txid = r.txid AND o.id = r.id
		WHERE r.endpoint_id = e.endpoint_id)
	UNION ALL
	SELECT e.endpoint_id, 'replay'
	FROM order_engine.endpoint e CROSS JOIN closed c
	WHERE EXISTS (SELECT FROM order_engine.replay r
		JOIN order_engine.outbox o ON o.leaf = outbox_leaf_holders.leaf
			AND (o.id = ANY (r.ids) OR o.id BETWEEN r.first_id AND r.last_id)
		WHERE r.endpoint_id = e.endpoint_id)
$$;
COMMENT ON FUNCTION order_engine.outbox_leaf_holders(smallint) IS
'Internal: which endpoints still need a closed leaf of the outbox, and what for. Behind outbox_ring_status.';

/*
 * Runs under locks that keep every other writer of these tables away, and the
 * leaf is truncated in the same transaction.
 */
CREATE FUNCTION order_engine.give_up_outbox_leaf(leaf smallint) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	reason text := 'held the outbox longer than order_engine.max_retention';
	holder record;
	given_up integer := 0;
BEGIN
	FOR holder IN
		SELECT e.* FROM order_engine.endpoint e
		WHERE e.endpoint_id IN (SELECT h.endpoint_id FROM order_engine.outbox_leaf_holders(give_up_outbox_leaf.leaf) h)
		ORDER BY e.endpoint_id
	LOOP
		WITH gone AS (
			DELETE FROM order_engine.delivery_retry r
			USING order_engine.outbox o
			WHERE r.endpoint_id = holder.endpoint_id
				AND o.leaf = give_up_outbox_leaf.leaf AND o.txid = r.txid AND o.id = r.id
			RETURNING r.attempts, o.*)
		INSERT INTO order_engine.delivery_dead (endpoint_id, attempts, aggregate_seq, txid, created_at, died_at, shard, id,
			aggregatetype, aggregateid, type, payload, headers, last_error)
		SELECT holder.endpoint_id, g.attempts, g.aggregate_seq, g.txid, g.created_at, clock_timestamp(), g.shard, g.id,
			g.aggregatetype, g.aggregateid, g.type, g.payload, g.headers, 'given up: older than order_engine.max_retention'
		FROM gone g
		ON CONFLICT (endpoint_id, id) DO NOTHING;

		-- the others that it was to get: of its course and of its replays
		INSERT INTO order_engine.delivery_gap (endpoint_id, events, first_created_at, last_created_at)
		WITH place AS MATERIALIZED (
			SELECT * FROM order_engine.position_current p WHERE p.endpoint_id = holder.endpoint_id
		)
		SELECT holder.endpoint_id, count(*), min(o.created_at), max(o.created_at)
		FROM order_engine.outbox o
		WHERE o.leaf = give_up_outbox_leaf.leaf
			AND NOT EXISTS (SELECT FROM order_engine.delivery_dead d WHERE d.endpoint_id = holder.endpoint_id AND d.id = o.id)
			AND (EXISTS (
					SELECT FROM order_engine.replay r
					WHERE r.endpoint_id = holder.endpoint_id
						AND (o.id = ANY (r.ids)
							OR o.id BETWEEN r.first_id AND r.last_id AND pg_visible_in_snapshot(o.txid, r.visible)
								AND (r.unseen IS NULL OR pg_visible_in_snapshot(o.txid, r.unseen))
								AND order_engine.event_type_matches(holder.event_types, o.type)))
				OR CASE WHEN o.aggregatetype = 'endpoint' AND o.type = 'endpoint.test' THEN o.aggregateid = holder.name
						ELSE NOT (o.aggregatetype = 'endpoint' AND o.aggregateid = holder.name)
							AND order_engine.event_type_matches(holder.event_types, o.type) END
					AND NOT pg_visible_in_snapshot(o.txid, holder.start_snapshot)
					AND (o.id IN (SELECT l.id FROM order_engine.left_by_express(holder.endpoint_id) AS l) OR NOT EXISTS (
						SELECT FROM place p
						WHERE p.shard = o.shard
							AND (p.split IS NULL OR NOT pg_visible_in_snapshot(o.txid, p.split))
							AND (pg_visible_in_snapshot(o.txid, p.seen)
								OR p.upto IS NOT NULL AND pg_visible_in_snapshot(o.txid, p.upto)
									AND (o.txid, o.id) <= (p.txid, p.id)
								OR o.id = ANY (p.done)))));

		IF holder.status <> 'disabled' THEN
			UPDATE order_engine.endpoint e
			SET status = 'disabled', status_since = clock_timestamp(), status_reason = reason
			WHERE e.endpoint_id = holder.endpoint_id;
			PERFORM order_engine.append_event('endpoint', holder.name, 'endpoint.disabled',
				jsonb_build_object('endpoint', holder.name, 'reason', reason));
		END IF;
		given_up := given_up + 1;
	END LOOP;
	RETURN given_up;
END
$$;
COMMENT ON FUNCTION order_engine.give_up_outbox_leaf(smallint) IS
'Internal: disables the endpoints that hold a leaf of the outbox, makes dead letters of their retries in it and records the rest in delivery_gap; returns how many they are.';

CREATE VIEW order_engine.outbox_ring_status AS
WITH ring AS (
	SELECT coalesce(max(o.current_leaf), 0) AS leaf,
		max(o.switched_at) + current_setting('order_engine.retention')::interval / 6 < clock_timestamp() AS due
	FROM order_engine.outbox_ring o
), leaf AS (
	SELECT n.leaf, t.relid, l.closed_at, pg_relation_size(t.relid) > 0 AS used, n.leaf = ring.leaf AS current, ring.due,
		CASE WHEN n.leaf = ring.leaf THEN 'current' WHEN l.leaf IS NOT NULL THEN 'kept'
			WHEN pg_relation_size(t.relid) > 0 THEN 'closing' ELSE 'free' END AS state
	FROM generate_series(0, 7) AS n (leaf)
	CROSS JOIN ring
	CROSS JOIN LATERAL (SELECT ('order_engine.outbox_' || n.leaf)::regclass AS relid) t
	LEFT JOIN order_engine.outbox_leaf l ON l.leaf = n.leaf
)
SELECT f.leaf::smallint AS leaf, f.state, f.closed_at, pg_total_relation_size(f.relid) AS size,
	CASE f.state
		WHEN 'current' THEN
			(SELECT 'leaf ' || next.leaf FROM leaf next
			 WHERE f.used AND f.due AND next.leaf = (f.leaf + 1) % 8 AND next.state <> 'free')
		WHEN 'closing' THEN 'a writer'
		WHEN 'kept' THEN coalesce(
			CASE WHEN f.closed_at + current_setting('order_engine.retention')::interval > clock_timestamp() THEN 'retention' END,
			(SELECT h.held_by FROM order_engine.outbox_leaf_holders(f.leaf::smallint) h ORDER BY h.held_by LIMIT 1),
			(SELECT 'lock' FROM pg_locks l, pg_database d
			 WHERE l.locktype = 'relation' AND l.relation = f.relid AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
				AND l.database = d.oid AND d.datname = current_database() LIMIT 1))
	END AS held_by
FROM leaf f;
COMMENT ON VIEW order_engine.outbox_ring_status IS 'The leaves of the outbox: which one is written to, and why the others are not empty yet.';
COMMENT ON COLUMN order_engine.outbox_ring_status.leaf IS 'Number of the leaf, 0 to 7.';
COMMENT ON COLUMN order_engine.outbox_ring_status.state IS 'current: new events go there; closing: transactions that wrote to it may still run; kept: nobody writes to it any more; free: empty.';
COMMENT ON COLUMN order_engine.outbox_ring_status.closed_at IS 'When it was closed; order_engine.retention counts from there.';
COMMENT ON COLUMN order_engine.outbox_ring_status.size IS 'Bytes on disk, with indexes.';
COMMENT ON COLUMN order_engine.outbox_ring_status.held_by IS 'Of a kept leaf, why it is not truncated: retention, endpoint NAME (not done with it, or of another database), retry of NAME, replay, lock; of a closing one: a writer; of the current one, when it should have been left: the next leaf. Null when nothing is in the way.';
