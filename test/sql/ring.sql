--
-- The ring of the outbox, as far as SQL goes: what holds a leaf, and how it is given up.
-- (The worker turns it.)
--
\set SHOW_CONTEXT never
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- patterns of event types
SELECT p AS patterns, t AS type, order_engine.event_type_matches(p, t) AS matches
FROM (VALUES ('{*}'::text[], 'order.placed'), ('{order.*}', 'order.placed'), ('{order.*}', 'orders.placed'),
	('{a.b,order.*}', 'order.placed'), ('{order}', 'order.placed'), ('{}', 'order.placed'), ('{NULL,*.placed}', 'order.placed')) AS v (p, t);

-- one snapshot and a later one: only what ran and wrote in between matters
SELECT seen, writers, order_engine.snapshot_covers(seen::pg_snapshot, writers::pg_snapshot) AS covers
FROM (VALUES ('10:10:', '10:10:'), ('9:9:', '10:10:'), ('8:12:8', '10:10:'), ('8:12:8', '8:10:8'), ('8:12:8,9', '8:10:8'), ('11:12:11', '8:10:8'), ('8:9:8', '8:10:8,9')) AS v (seen, writers);

-- at first everything goes to leaf 0
SELECT leaf, state, closed_at, size > 0 AS size, held_by FROM order_engine.outbox_ring_status ORDER BY leaf;
SELECT count(order_engine.emit('test', n::text, CASE WHEN n > 6 THEN 'other.event' ELSE 'test.event' END, jsonb_build_object('n', n))) FROM generate_series(1, 8) n;
SELECT leaf, state, held_by FROM order_engine.outbox_ring_status WHERE state <> 'free' ORDER BY leaf;

-- the worker turns it to leaf 1 and closes leaf 0
INSERT INTO order_engine.outbox_ring VALUES (1, now());
SELECT leaf, state, held_by FROM order_engine.outbox_ring_status WHERE state <> 'free' ORDER BY leaf;
INSERT INTO order_engine.outbox_leaf VALUES (0, now(), pg_current_snapshot());
SELECT leaf, state, closed_at = (SELECT closed_at FROM order_engine.outbox_leaf) AS closed_at, held_by FROM order_engine.outbox_ring_status WHERE state <> 'free' ORDER BY leaf;
UPDATE order_engine.outbox_leaf SET closed_at = now() - interval '10 years';
SELECT leaf, state, held_by FROM order_engine.outbox_ring_status WHERE state <> 'free' ORDER BY leaf;
BEGIN;
LOCK TABLE order_engine.outbox_0 IN ACCESS SHARE MODE;
SELECT held_by FROM order_engine.outbox_ring_status WHERE leaf = 0;	-- one's own lock is not in the way
COMMIT;

-- the current leaf is due to be left and the next one is not free
UPDATE order_engine.outbox_ring SET current_leaf = 7, switched_at = now() - interval '10 years';
SELECT leaf, state, held_by FROM order_engine.outbox_ring_status WHERE state <> 'free' ORDER BY leaf;
INSERT INTO order_engine.outbox SELECT (jsonb_populate_record(o, '{"leaf": 7}')).* FROM order_engine.outbox o WHERE aggregateid = '1';
SELECT leaf, state, held_by FROM order_engine.outbox_ring_status WHERE state <> 'free' ORDER BY leaf;
TRUNCATE order_engine.outbox_7;
UPDATE order_engine.outbox_ring SET current_leaf = 1, switched_at = now();

-- endpoints: one created now, one that is at the beginning
CREATE FUNCTION make_endpoint(name text, start_snapshot pg_snapshot) RETURNS integer LANGUAGE sql AS $$
	INSERT INTO order_engine.endpoint (name, owner, url, event_types, format, ordering, guarantee, max_in_flight,
		connect_timeout, timeout, retry_schedule, max_age, start_snapshot)
	VALUES (name, order_engine.database_identity(), 'https://example.com', '{test.*}', 'webhook', 'aggregate', 'at_least_once', 16,
		'5s', '15s', '{5s}', '72h', start_snapshot)
	RETURNING endpoint_id
$$;
CREATE FUNCTION put_position(n bigint, endpoint integer, shards integer, seen pg_snapshot, split pg_snapshot DEFAULT NULL, replay bigint DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	INSERT INTO order_engine.position_0 (n, endpoint_id, shards, seen, split, replay_id, recorded_at) VALUES (n, endpoint, shards, seen, split, replay, now())
$$;
SELECT make_endpoint('new', pg_current_snapshot()) AS new, make_endpoint('old', '3:3:') AS old \gset
SELECT e.name, h.held_by FROM order_engine.outbox_leaf_holders(0::smallint) h JOIN order_engine.endpoint e USING (endpoint_id);
SELECT held_by FROM order_engine.outbox_ring_status WHERE leaf = 0;
-- each shard must be past it; the highest n counts, in either table
SELECT put_position(1, :old, 65535, '3:3:'), put_position(2, :old, 21845, pg_current_snapshot());
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
SELECT put_position(3, :old, 43690, pg_current_snapshot());
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
INSERT INTO order_engine.position_1 (n, endpoint_id, shards, seen, recorded_at) VALUES (4, :old, 1, '3:3:', now());
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
SELECT put_position(5, :old, 65535, pg_current_snapshot());
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
-- one that is older than the last writer, but has seen all rows: other transactions came and went
SELECT put_position(6, :old, 65535, (SELECT format('%s:%s:', max(txid::text::bigint) + 1, max(txid::text::bigint) + 1)::pg_snapshot FROM order_engine.outbox WHERE leaf = 0));
SELECT pg_snapshot_xmax(seen) < pg_snapshot_xmax(writers) AS older FROM order_engine.position_0, order_engine.outbox_leaf WHERE n = 6;
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
-- both halves of one that is split, until a record without a place says that the express lane has ended
SELECT put_position(7, :old, 65535, '3:3:', '3:3:');
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
SELECT put_position(8, :old, 65535, pg_current_snapshot());
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
SELECT put_position(9, :old, 65535, NULL, '3:3:');
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
-- the record of a replay is about the replay
SELECT put_position(10, :old, 65535, NULL, NULL, 1);
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
-- paused and disabled ones hold it, too; so does one of another database, wherever it is
UPDATE order_engine.endpoint SET status = 'paused' WHERE name = 'old';
SELECT put_position(11, :old, 65535, '3:3:');
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
SELECT put_position(12, :old, 65535, pg_current_snapshot());
UPDATE order_engine.endpoint SET owner = 'another' WHERE name = 'new';
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
UPDATE order_engine.endpoint SET owner = order_engine.database_identity();
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
-- a retry, a replay of a list and of a range
INSERT INTO order_engine.delivery_retry (endpoint_id, attempts, txid, shard, id, aggregatetype, aggregateid)
	SELECT :old, 3, txid, shard, id, aggregatetype, aggregateid FROM order_engine.outbox WHERE aggregateid = '2';
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
BEGIN;
DELETE FROM order_engine.delivery_retry;
INSERT INTO order_engine.replay (endpoint_id, events, ids) SELECT :new, 1, ARRAY[id] FROM order_engine.outbox WHERE aggregateid = '3';
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
UPDATE order_engine.replay SET ids = NULL, first_id = ids[1], last_id = ids[1];
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
UPDATE order_engine.replay SET first_id = gen_random_uuid(), last_id = NULL;
SELECT held_by FROM order_engine.outbox_leaf_holders(0::smallint);
ROLLBACK;

-- given up: a dead letter, a gap, the endpoint disabled, and news of it
BEGIN;
-- it stands behind the third event and has done the fifth as well
INSERT INTO order_engine.position_0 (n, endpoint_id, shards, seen, upto, txid, id, done, recorded_at)
	SELECT 13, :old, 65535, '3:3:', pg_current_snapshot(), o.txid, o.id, ARRAY[d.id], now()
	FROM order_engine.outbox o, order_engine.outbox d WHERE o.aggregateid = '3' AND d.aggregateid = '5';
SELECT order_engine.give_up_outbox_leaf(0::smallint);
SELECT name, status, status_reason FROM order_engine.endpoint ORDER BY endpoint_id;
SELECT e.name, d.attempts, d.aggregateid, d.type, d.payload, d.last_error FROM order_engine.delivery_dead d JOIN order_engine.endpoint e USING (endpoint_id);
SELECT count(*) AS retries FROM order_engine.delivery_retry;
SELECT e.name, g.events, g.first_created_at = (SELECT min(created_at) FROM order_engine.outbox WHERE aggregateid = '4') AS first, g.last_created_at >= g.first_created_at AS last
FROM order_engine.delivery_gap g JOIN order_engine.endpoint e USING (endpoint_id);
SELECT leaf, aggregatetype, aggregateid, aggregate_seq, type, payload FROM order_engine.outbox WHERE leaf = 1;
-- once more: there is nothing new to tell about it
SELECT order_engine.give_up_outbox_leaf(0::smallint);
SELECT count(*) AS news FROM order_engine.outbox WHERE aggregatetype = 'endpoint';
SELECT order_engine.give_up_outbox_leaf(6::smallint);
ROLLBACK;

-- of what is behind a split, the express lane has only done what began there; the rest was for the main lane
BEGIN;
DELETE FROM order_engine.delivery_retry;
SELECT put_position(14, :old, 65535, (SELECT format('%1$s:%1$s:', min(txid))::pg_snapshot FROM order_engine.outbox WHERE leaf = 0));
INSERT INTO order_engine.position_0 (n, endpoint_id, shards, seen, split, by_birth, recorded_at)
	SELECT 15, :old, 65535, pg_current_snapshot(), p.seen, true, now() FROM order_engine.position_0 p WHERE p.n = 14;
UPDATE order_engine.outbox SET aggregate_seq = aggregateid::integer % 3 WHERE leaf = 0 AND aggregateid::integer IN (1, 2, 4, 5);
SELECT aggregatetype, aggregateid FROM order_engine.express_aggregates(:old) ORDER BY 2;
SELECT aggregateid, aggregate_seq FROM order_engine.left_by_express(:old) JOIN order_engine.outbox USING (id) ORDER BY 1;
SELECT count(*) FROM order_engine.left_by_express(NULL);
SELECT order_engine.undelivered('old');
SELECT lag_events, lag IS NOT NULL AS lag FROM order_engine.endpoint_status WHERE name = 'old';
SELECT order_engine.give_up_outbox_leaf(0::smallint);
SELECT e.name, g.events FROM order_engine.delivery_gap g JOIN order_engine.endpoint e USING (endpoint_id);
-- without order it has done all
UPDATE order_engine.position_0 SET by_birth = false WHERE n = 15;
SELECT count(*) FROM order_engine.left_by_express(:old);
SELECT order_engine.undelivered('old');
ROLLBACK;

-- operators may look
CREATE ROLE ring_operator;
SELECT order_engine.grant_access('ring_operator', 'operator');
SET ROLE ring_operator;
SELECT leaf, state, held_by FROM order_engine.outbox_ring_status WHERE state <> 'free' ORDER BY leaf;
SELECT count(*) FROM order_engine.delivery_attempt;
SELECT order_engine.give_up_outbox_leaf(0::smallint);
SELECT order_engine.append_event('endpoint', 'old', 'endpoint.test', '{}');
RESET ROLE;
SELECT order_engine.revoke_access('ring_operator');
DROP ROLE ring_operator;
