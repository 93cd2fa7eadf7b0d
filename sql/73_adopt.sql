/*
 * Copies of a database: how one becomes a database in its own right.
 *
 * Within one server (CREATE DATABASE ... TEMPLATE, or a clone of the whole) a
 * transaction id means the same in the copy, so positions go on to be true there.
 * What came with a dump, or through pg_upgrade, speaks of the transactions of
 * another server, which may be a clone of this one: its ids may be above ours, or
 * come up here again.  Then all
 * events get new ids, in the one transaction that adopts the database:
 *
 * - what every endpoint has passed gets an id of long ago (3, 4, ...), which every
 *   snapshot sees
 * - what one of them is yet to get gets the id of this transaction
 * - each endpoint gets one position: behind everything that ran before, and within
 *   this transaction up to its first event that it was not sent
 *
 * What was written in the copy before that has ids of this server.  It is known by
 * its mark, after_txid = txid (src/outbox.c), and nobody has passed it.
 */

CREATE FUNCTION order_engine.is_copy() RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM order_engine.endpoint WHERE owner <> order_engine.database_identity())
$$;
COMMENT ON FUNCTION order_engine.is_copy() IS
'Internal: whether there are endpoints of another database, so that nothing is sent from here.';

CREATE FUNCTION order_engine.shares_transactions(identity text) RETURNS boolean
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'oe_shares_transactions';
COMMENT ON FUNCTION order_engine.shares_transactions(text) IS
'Internal: whether transaction ids that came from the database with this identity mean the same here, as in a copy of a template and in a clone.';

CREATE FUNCTION order_engine.is_dump() RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM order_engine.endpoint WHERE NOT order_engine.shares_transactions(owner))
$$;
COMMENT ON FUNCTION order_engine.is_dump() IS
'Internal: whether there are endpoints that came with a dump, so that events and positions have transaction ids of another server.';

CREATE FUNCTION order_engine.has_future_events() RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM order_engine.outbox
		WHERE txid > pg_current_xact_id() AND txid >= pg_snapshot_xmax(pg_current_snapshot()))
$$;
COMMENT ON FUNCTION order_engine.has_future_events() IS
'Internal: whether the outbox has events of transactions that are yet to come here, because they are of another server.';

/*
 * A writer keeps a lock on his leaf to the end of his transaction.  So when these
 * locks are there every event is visible, and whoever writes the next one finds out
 * anew whether the database is a copy.
 */
CREATE FUNCTION order_engine.lock_delivery() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10s'	-- others queue behind us
AS $$
BEGIN
	-- statements that follow must see what was committed meanwhile
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'this is possible only in a transaction with isolation level READ COMMITTED' USING
			ERRCODE = 'invalid_transaction_state';
	END IF;
	LOCK TABLE order_engine.endpoint, order_engine.outbox, order_engine.outbox_leaf, order_engine.position_0, order_engine.position_1,
		order_engine.delivery_retry, order_engine.delivery_dead, order_engine.replay IN SHARE ROW EXCLUSIVE MODE;
EXCEPTION WHEN lock_not_available THEN
	RAISE EXCEPTION 'transactions that have written events have not ended within 10 seconds' USING
		ERRCODE = 'lock_not_available',
		HINT = 'Try again when they have. Prepared transactions are among them, see pg_prepared_xacts.';
END
$$;
COMMENT ON FUNCTION order_engine.lock_delivery() IS
'Internal: keeps everybody from writing to the outbox and to what belongs to delivery until the end of the transaction. Errors: 55P03 when a writer does not end within 10 seconds, 25000 with another isolation level than READ COMMITTED.';

CREATE FUNCTION order_engine.leave_copy() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM order_engine.lock_delivery();
	UPDATE order_engine.outbox SET after_txid = NULL WHERE after_txid = txid;
END
$$;
COMMENT ON FUNCTION order_engine.leave_copy() IS
'Internal: the last endpoint of another server is gone; events that were written until now are no longer marked.';

/*
 * Snapshots around the transaction "own", which is ours: neither sees what else runs
 * now.  The id behind own serves as one that nobody sees (see renumber_events), so
 * it counts as running, whatever became of it.
 */
CREATE FUNCTION order_engine.snapshot_around(own xid8, sees_own boolean) RETURNS pg_snapshot
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
	WITH bounds AS (
		SELECT s, pg_snapshot_xmax(s)::text::bigint AS next, own::text::bigint AS own FROM pg_current_snapshot() AS s
	), running AS (
		SELECT x::text::bigint AS id FROM bounds, pg_snapshot_xip(s) AS x
		UNION SELECT generate_series(next, bounds.own - 1) FROM bounds
		UNION SELECT bounds.own + 1 FROM bounds
		UNION SELECT bounds.own FROM bounds WHERE NOT sees_own
	)
	SELECT format('%s:%s:%s', min(r.id), greatest(min(b.next), min(b.own) + 2), string_agg(r.id::text, ',' ORDER BY r.id))::pg_snapshot
	FROM bounds b, running r
	WHERE r.id <> b.own OR NOT sees_own
$$;
COMMENT ON FUNCTION order_engine.snapshot_around(xid8, boolean) IS
'Internal: a snapshot that sees what has ended by now, and this transaction (own) or not.';

/*
 * By the positions, and in the transaction ids of the server that they came from.
 * Retries and dead letters are on their own: for the position they are passed.
 */
CREATE FUNCTION order_engine.undelivered_ids(endpoint order_engine.endpoint) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off	-- there are no statistics yet
SET jit = off				-- which that would call for
AS $$
	WITH place AS MATERIALIZED (
		SELECT * FROM order_engine.position_current p WHERE p.endpoint_id = (endpoint).endpoint_id
	), ours AS MATERIALIZED (
		-- of this server are only the endpoint's own events, none that came with a dump
		SELECT pg_snapshot_xmax(pg_current_snapshot()) AS next, pg_current_xact_id() AS own
		WHERE (endpoint).owner = order_engine.database_identity()
	)
	SELECT o.id
	FROM order_engine.outbox o
	LEFT JOIN place m ON m.shard = o.shard AND m.split IS NULL
	LEFT JOIN place x ON x.shard = o.shard AND x.split IS NOT NULL
	LEFT JOIN order_engine.express_aggregates((endpoint).endpoint_id) AS b ON b.aggregatetype = o.aggregatetype AND b.aggregateid = o.aggregateid
	LEFT JOIN ours ON true
	WHERE (o.after_txid = o.txid
			OR NOT (pg_visible_in_snapshot(o.txid, (endpoint).start_snapshot)
				OR m.seen IS NOT NULL AND (pg_visible_in_snapshot(o.txid, m.seen)
					OR m.upto IS NOT NULL AND pg_visible_in_snapshot(o.txid, m.upto) AND (o.txid, o.id) <= (m.txid, m.id))
				OR x.seen IS NOT NULL AND NOT pg_visible_in_snapshot(o.txid, x.split)
					AND (x.by_birth IS NOT TRUE OR b.aggregateid IS NOT NULL)
					AND (pg_visible_in_snapshot(o.txid, x.seen)
						OR x.upto IS NOT NULL AND pg_visible_in_snapshot(o.txid, x.upto) AND (o.txid, o.id) <= (x.txid, x.id))
				OR o.txid > ours.own AND o.txid >= ours.next)
			IS TRUE)
		AND NOT EXISTS (SELECT FROM place p, unnest(p.done) AS d (id) WHERE d.id = o.id)
		AND NOT EXISTS (SELECT FROM order_engine.delivery_retry r WHERE r.endpoint_id = (endpoint).endpoint_id AND r.id = o.id)
		AND NOT EXISTS (SELECT FROM order_engine.delivery_dead d WHERE d.endpoint_id = (endpoint).endpoint_id AND d.id = o.id)
$$;
COMMENT ON FUNCTION order_engine.undelivered_ids(order_engine.endpoint) IS
'Internal: the events that an endpoint''s positions have not passed, of whatever type.';

CREATE FUNCTION order_engine.list_replays() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE order_engine.replay r
	SET first_id = NULL, last_id = NULL, visible = NULL, unseen = NULL, ids = ARRAY(
		SELECT o.id
		FROM order_engine.outbox o JOIN order_engine.endpoint e ON e.endpoint_id = r.endpoint_id
		WHERE o.id BETWEEN r.first_id AND r.last_id AND o.after_txid IS DISTINCT FROM o.txid
			AND (r.visible IS NULL OR pg_visible_in_snapshot(o.txid, r.visible))
			AND (r.unseen IS NULL OR pg_visible_in_snapshot(o.txid, r.unseen))
			AND order_engine.endpoint_gets(e.name, e.event_types, o.aggregatetype, o.aggregateid, o.type)
		ORDER BY o.id)
	WHERE r.ids IS NULL
$$;
COMMENT ON FUNCTION order_engine.list_replays() IS
'Internal: makes replays of a range such of a list of ids, because their snapshots are about to lose their meaning. Their places are ids anyway.';

CREATE FUNCTION order_engine.long_ago(place bigint, own xid8) RETURNS xid8
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT least(3 + place, own::text::bigint - 1)::text::xid8
$$;
COMMENT ON FUNCTION order_engine.long_ago(bigint, xid8) IS
'Internal: one of the transaction ids from the server''s beginning, by its place among them; always below own, however many there shall be.';

/*
 * The ids of long ago tell how many endpoints had been created when the event was
 * written, so that replay() goes on to know what came before an endpoint's start.
 */
CREATE FUNCTION order_engine.renumber_events(own xid8) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off SET jit = off
AS $$
BEGIN
	UPDATE order_engine.outbox o
	SET after_txid = NULL, txid = order_engine.long_ago((
		SELECT count(*) FROM order_engine.endpoint e WHERE NOT pg_visible_in_snapshot(o.txid, e.start_snapshot)), own)
	WHERE NOT EXISTS (SELECT FROM pg_temp.order_engine_undelivered u WHERE u.id = o.id);

	-- within our transaction the order is that of the ids; who stands before his predecessor waits for it
	UPDATE order_engine.outbox o
	SET txid = own, after_txid = CASE WHEN n.early THEN (own::text::bigint + 1)::text::xid8 END
	FROM (
		SELECT w.id, w.aggregate_seq IS NOT NULL
			AND lag(w.id) OVER (PARTITION BY w.aggregatetype COLLATE "C", w.aggregateid COLLATE "C" ORDER BY w.aggregate_seq) > w.id AS early
		FROM order_engine.outbox w
		WHERE EXISTS (SELECT FROM pg_temp.order_engine_undelivered u WHERE u.id = w.id)) AS n
	WHERE o.id = n.id;

	UPDATE order_engine.delivery_retry r
	SET txid = coalesce((SELECT o.txid FROM order_engine.outbox o WHERE o.id = r.id LIMIT 1), '3');
	UPDATE order_engine.delivery_dead d
	SET txid = coalesce((SELECT o.txid FROM order_engine.outbox o WHERE o.id = d.id LIMIT 1), '3');
END
$$;
COMMENT ON FUNCTION order_engine.renumber_events(xid8) IS
'Internal: gives the events of the outbox transaction ids of this server, by the table order_engine_undelivered.';

CREATE FUNCTION order_engine.renumber_positions(own xid8) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seen pg_snapshot := order_engine.snapshot_around(own, false);
	upto pg_snapshot := order_engine.snapshot_around(own, true);
	n bigint;
	health order_engine.position_0;
	e record;
	first uuid;		-- that is to be delivered
	place uuid;		-- the last one before it
BEGIN
	SELECT coalesce(max(p.n), 0) INTO n
	FROM (SELECT * FROM order_engine.position_0 UNION ALL SELECT * FROM order_engine.position_1) AS p;

	CREATE TEMPORARY TABLE order_engine_old_position ON COMMIT DROP AS
	SELECT DISTINCT ON (p.endpoint_id) p.*
	FROM (SELECT * FROM order_engine.position_0 UNION ALL SELECT * FROM order_engine.position_1) AS p
	WHERE p.replay_id IS NULL
	ORDER BY p.endpoint_id, p.n DESC;
	DELETE FROM order_engine.position_0 WHERE replay_id IS NULL;
	DELETE FROM order_engine.position_1 WHERE replay_id IS NULL;

	FOR e IN
		SELECT t.endpoint_id, row_number() OVER (ORDER BY pg_snapshot_xmax(t.start_snapshot), t.endpoint_id) AS place
		FROM order_engine.endpoint t
	LOOP
		n := n + 1;
		SELECT u.id INTO first FROM pg_temp.order_engine_undelivered u WHERE u.endpoint_id = e.endpoint_id ORDER BY u.id LIMIT 1;
		SELECT u.id INTO place FROM pg_temp.order_engine_undelivered u WHERE u.id < first ORDER BY u.id DESC LIMIT 1;
		place := CASE WHEN first IS NOT NULL THEN coalesce(place, '00000000-0000-0000-0000-000000000000') END;
		SELECT * INTO health FROM pg_temp.order_engine_old_position p WHERE p.endpoint_id = e.endpoint_id;

		INSERT INTO order_engine.position_0 (n, endpoint_id, shards, seen, upto, txid, id, done, recorded_at,
			last_success_at, last_error_at, last_error, failing_since, failures, paused_until, breaker_opens, open_until)
		-- one that has got everything is behind our transaction, and holds no leaf
		VALUES (n, e.endpoint_id, 65535, CASE WHEN first IS NULL THEN upto ELSE seen END, CASE WHEN first IS NOT NULL THEN upto END,
			CASE WHEN first IS NOT NULL THEN own END, place,
			nullif(ARRAY(SELECT u.id FROM pg_temp.order_engine_undelivered u WHERE u.id > place
				   EXCEPT SELECT u.id FROM pg_temp.order_engine_undelivered u WHERE u.endpoint_id = e.endpoint_id), '{}'),
			coalesce(health.recorded_at, clock_timestamp()), health.last_success_at, health.last_error_at, health.last_error,
			health.failing_since, coalesce(health.failures, 0), health.paused_until, coalesce(health.breaker_opens, 0), health.open_until);

		-- sees the events that are older than the endpoint, see renumber_events
		UPDATE order_engine.endpoint t
		SET start_snapshot = format('%1$s:%1$s:', order_engine.long_ago(e.place, own))::pg_snapshot
		WHERE t.endpoint_id = e.endpoint_id;
	END LOOP;
	DROP TABLE pg_temp.order_engine_old_position;
END
$$;
COMMENT ON FUNCTION order_engine.renumber_positions(xid8) IS
'Internal: makes one position of each endpoint''s, by the table order_engine_undelivered, and lets it start where it did.';

CREATE FUNCTION order_engine.renumber() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own xid8 := pg_current_xact_id();
	e order_engine.endpoint;
BEGIN
	CREATE TEMPORARY TABLE order_engine_undelivered (endpoint_id integer NOT NULL, id uuid NOT NULL) ON COMMIT DROP;
	FOR e IN SELECT * FROM order_engine.endpoint LOOP
		INSERT INTO pg_temp.order_engine_undelivered SELECT e.endpoint_id, u FROM order_engine.undelivered_ids(e) AS u;
	END LOOP;
	CREATE INDEX ON pg_temp.order_engine_undelivered (endpoint_id, id);
	CREATE INDEX ON pg_temp.order_engine_undelivered (id);
	ANALYZE pg_temp.order_engine_undelivered;

	PERFORM order_engine.list_replays();
	PERFORM order_engine.renumber_events(own);
	PERFORM order_engine.renumber_positions(own);
	-- when who wrote to a leaf has ended is found out anew
	DELETE FROM order_engine.outbox_leaf;
	DROP TABLE pg_temp.order_engine_undelivered;
END
$$;
COMMENT ON FUNCTION order_engine.renumber() IS
'Internal: gives events and positions of another server transaction ids of this one. Everything is locked.';

CREATE FUNCTION order_engine.adopt_database() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	was_copy boolean;
BEGIN
	IF NOT order_engine.is_copy() AND NOT order_engine.has_future_events() THEN
		RETURN false;
	END IF;
	PERFORM order_engine.lock_delivery();
	was_copy := order_engine.is_copy();
	IF order_engine.is_dump() OR order_engine.has_future_events() THEN
		PERFORM order_engine.renumber();
	ELSE
		-- a dump may be old: what it brought along is kept as if it had been closed now
		UPDATE order_engine.outbox_leaf SET closed_at = clock_timestamp();
	END IF;
	UPDATE order_engine.endpoint SET owner = order_engine.database_identity(), updated_at = clock_timestamp()
	WHERE owner <> order_engine.database_identity();
	RETURN was_copy;
END
$$;
COMMENT ON FUNCTION order_engine.adopt_database() IS
'Lets a copy of a database (template copy, clone, restored dump, upgraded server) send to the endpoints that it brought along: what was not delivered is sent, also what was written in the copy, and what was acknowledged is not. Returns whether there were any. After a dump or an upgrade all events of the outbox are written anew, and nobody else can write events meanwhile. Without endpoints it does that too, where the dump is of a server with higher transaction ids, so that some can be created. A repetition does nothing. Errors: 55P03 when a transaction that has written events does not end within 10 seconds, 25000 with another isolation level than READ COMMITTED.';
