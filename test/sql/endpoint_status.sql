--
-- What the views make of positions, retries and health; no worker runs here, so
-- that the records are made by hand.
--
\set SHOW_CONTEXT never

\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- five events of one aggregate, each of its own transaction, and snapshots between them
CREATE TABLE mark (name text, at pg_snapshot);
SELECT order_engine.create_endpoint('shop', 'https://example.com/', '{order.*}') IS NOT NULL AS secret;
SELECT endpoint_id AS shop FROM order_engine.endpoint \gset
INSERT INTO mark SELECT 's0', pg_current_snapshot();
SELECT order_engine.emit('x', '1', 'order.a', '{}') AS a \gset
INSERT INTO mark SELECT 's1', pg_current_snapshot();
SELECT order_engine.emit('x', '1', 'order.b', '{}') AS b \gset
SELECT order_engine.emit('x', '1', 'other', '{}') AS other \gset
INSERT INTO mark SELECT 's3', pg_current_snapshot();
SELECT order_engine.emit('x', '1', 'order.d', '{}') AS d \gset
INSERT INTO mark SELECT 's4', pg_current_snapshot();
SELECT order_engine.emit('x', '1', 'order.e', '{}') AS e \gset
INSERT INTO mark SELECT 's5', pg_current_snapshot();
SELECT 1 << shard AS own, 65535 - (1 << shard) AS others FROM order_engine.outbox WHERE id = :'a' \gset
CREATE FUNCTION at(name text) RETURNS pg_snapshot LANGUAGE sql RETURN (SELECT at FROM mark WHERE mark.name = at.name);
CREATE FUNCTION txid(id uuid) RETURNS xid8 LANGUAGE sql RETURN (SELECT txid FROM order_engine.outbox WHERE outbox.id = txid.id);
-- what is left, counted either way, and the type of the oldest
CREATE VIEW lag AS
SELECT s.lag_events, order_engine.undelivered(s.name), s.lag IS NOT NULL AS lag,
	(SELECT o.type FROM order_engine.outbox o WHERE o.created_at = s.oldest_undelivered_at) AS oldest
FROM order_engine.endpoint_status s WHERE s.name = 'shop';
CREATE FUNCTION record(n bigint, shards integer, seen pg_snapshot, upto pg_snapshot DEFAULT NULL, id uuid DEFAULT NULL,
	done uuid[] DEFAULT NULL, split pg_snapshot DEFAULT NULL) RETURNS SETOF lag LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO order_engine.position_0 (n, endpoint_id, shards, seen, upto, txid, id, done, split, recorded_at)
	SELECT record.n, endpoint_id, record.shards, record.seen, record.upto, txid(record.id), record.id, record.done, record.split, now()
	FROM order_engine.endpoint WHERE name = 'shop';
	RETURN QUERY SELECT * FROM lag;
END $$;

-- no record: from the start
SELECT * FROM lag;
-- a snapshot; the newest record counts, in whichever table it is
SELECT * FROM record(1, 65535, at('s1'));
INSERT INTO order_engine.position_1 (n, endpoint_id, shards, seen, recorded_at) VALUES (2, :shop, 65535, at('s3'), now());
SELECT * FROM lag;
-- an older number does not
SELECT * FROM record(1, 65535, at('s0'));
-- between two snapshots, up to a place; beyond it single events
SELECT * FROM record(3, 65535, at('s1'), at('s4'), :'b');
SELECT * FROM record(4, 65535, at('s1'), at('s4'), :'b', ARRAY[:'d']::uuid[]);
-- a transaction that ran when the first snapshot was taken has committed since: its event is still to come
SELECT * FROM record(5, 65535, format('%s:%s:%s', txid(:'a'), pg_snapshot_xmax(at('s4')), txid(:'a'))::pg_snapshot);
-- and is done when the place is beyond it
SELECT * FROM record(6, 65535, format('%s:%s:%s', txid(:'a'), pg_snapshot_xmax(at('s4')), txid(:'a'))::pg_snapshot, at('s4'), :'a');
-- a transaction that ran when the second snapshot was taken is not passed by the place
SELECT * FROM record(7, 65535, at('s0'), format('%s:%s:%s', txid(:'a'), pg_snapshot_xmax(at('s5')), txid(:'a'))::pg_snapshot, :'d');

-- other shards say nothing of this one; a set of several and a set of one do
SELECT * FROM record(8, :others, at('s5'));
SELECT * FROM record(9, :own, at('s4'));
SELECT * FROM record(10, 65535, at('s3'));
SELECT endpoint_id = :shop AS shop, bit_count(shards::bit(16)) FROM order_engine.endpoint_position;
SELECT * FROM record(11, :own, at('s0'));
SELECT bit_count(shards::bit(16)), shards = :own AS own FROM order_engine.endpoint_position ORDER BY 1;

-- a backlog up to the split, and newer events beside it
SELECT * FROM record(12, 65535, at('s1'));
SELECT * FROM record(13, 65535, at('s4'), split => at('s3'));
-- an express lane with a place of its own
SELECT * FROM record(14, 65535, at('s3'), at('s5'), :'d', split => at('s3'));
SELECT before IS NOT NULL AS before, upto IS NOT NULL AS upto FROM order_engine.endpoint_position ORDER BY 1;
-- the backlog is done up to the split: the lane beyond it stays where it is
SELECT * FROM record(15, 65535, at('s3'));
-- it ends, which a record without a place says, and the other goes on for both
SELECT * FROM record(16, 65535, NULL, split => at('s3'));
SELECT * FROM record(17, 65535, at('s5'));
SELECT before IS NOT NULL AS before, upto IS NOT NULL AS upto FROM order_engine.endpoint_position ORDER BY 1;
-- a replay's record is none of the ordinary course
INSERT INTO order_engine.position_0 (n, endpoint_id, shards, replay_id, id, recorded_at) VALUES (18, :shop, 65535, 1, :'a', now());
SELECT * FROM lag;

-- retries are undelivered, too
INSERT INTO order_engine.delivery_retry
SELECT :shop, CASE id WHEN :'b' THEN 2 ELSE 0 END, txid, NULL, now(), CASE id WHEN :'b' THEN '2100-01-01'::timestamptz END, shard, id,
	aggregatetype, aggregateid, 'HTTP status 500'
FROM order_engine.outbox WHERE id IN (:'b', :'d');
SELECT lag_events, undelivered FROM lag;
SELECT retrying, parked, next_attempt_at, oldest_undelivered_at = order_engine.uuid_time(:'b') AS oldest FROM order_engine.endpoint_status;

-- health as it was last recorded
CREATE VIEW health AS SELECT state, breaker, since, next_attempt_at, last_success_at, last_error_at, last_error, failing_since, failures FROM order_engine.endpoint_status;
INSERT INTO order_engine.position_1 (n, endpoint_id, shards, seen, recorded_at, last_success_at, last_error_at, last_error, failing_since, failures, breaker_opens, open_until)
VALUES (19, :shop, 65535, at('s5'), now(), '2020-01-01', '2020-01-02', 'connection refused', '2020-01-01 12:00', 7, 2, '2100-02-02');
SELECT * FROM health;
UPDATE order_engine.position_1 SET open_until = '2020-01-03', paused_until = '2100-03-03';
SELECT * FROM health;
DROP VIEW health;

-- what is stuck and what to do; the first that applies
CREATE VIEW advice AS
SELECT state, regexp_replace(advice, '\w{3} \w{3} \d\d .{13,22} P[SD]T', 'TIME', 'g') AS advice FROM order_engine.endpoint_status;
SELECT * FROM advice;
UPDATE order_engine.endpoint_secret SET expires_at = now();
SELECT * FROM advice;
SELECT order_engine.pause_endpoint('shop');
SELECT * FROM advice;
UPDATE order_engine.endpoint SET status = 'disabled', status_reason = 'it answered with HTTP status 410';
SELECT * FROM advice;
UPDATE order_engine.endpoint SET owner = regexp_replace(owner, '[^/]*$', 'elsewhere');
SELECT * FROM advice;

-- what the judgement rests on does not move: a worker that does not run is made up
SELECT order_engine.adopt_database(), order_engine.resume_endpoint('shop');
UPDATE order_engine.endpoint_secret SET expires_at = NULL;
BEGIN;
CREATE OR REPLACE FUNCTION order_engine.has_worker() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
SELECT * FROM advice;
UPDATE order_engine.position_1 SET open_until = '2100-02-02', paused_until = NULL;
SELECT * FROM advice;
UPDATE order_engine.position_1 SET breaker_opens = 0, open_until = NULL;
SELECT * FROM advice;
UPDATE order_engine.position_1 SET failing_since = NULL;
SELECT * FROM advice;
DELETE FROM order_engine.delivery_retry;
SELECT * FROM advice;
INSERT INTO order_engine.delivery_dead
SELECT :shop, 3, NULL, txid, created_at, now(), shard, id, aggregatetype, aggregateid, type, payload, headers, 'HTTP status 400'
FROM order_engine.outbox WHERE id = :'a';
SELECT * FROM advice;
SELECT order_engine.alter_endpoint('shop', after_dead => 'block');
SELECT * FROM advice;
SELECT order_engine.discard_dead_letters('shop');
-- however slow this machine is
UPDATE order_engine.outbox SET created_at = now();
UPDATE order_engine.position_1 SET seen = at('s4') WHERE n = 19;
SELECT * FROM advice;
UPDATE order_engine.outbox SET created_at = '2020-01-01' WHERE id = :'e';
SELECT * FROM advice;
SELECT lag > interval '1 year' AS lag, since, oldest_undelivered_at FROM order_engine.endpoint_status;
ROLLBACK;

-- gaps and replays are counted
INSERT INTO order_engine.delivery_gap (endpoint_id, events) VALUES (:shop, 3), (:shop, 4);
SELECT order_engine.replay('shop', ARRAY[:'a', :'b']::uuid[]);
SELECT gaps, replaying FROM order_engine.endpoint_status;
SELECT attempt('SELECT order_engine.undelivered(''nobody'')');
SELECT attempt('SELECT order_engine.undelivered(NULL)');

SELECT order_engine.drop_endpoint('shop');
SELECT count(*) FROM order_engine.endpoint_status;
DROP FUNCTION record;
DROP VIEW lag, advice;
DROP FUNCTION at, txid;
DROP TABLE mark;
