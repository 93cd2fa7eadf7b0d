--
-- Sending events once more: what is asked for, and what is refused. That it is
-- sent is the worker's part.
--
\set SHOW_CONTEXT never

\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- events from before the endpoint's start, and after it
SELECT order_engine.emit('x', '1', 'order.old', '{}') AS old \gset
SELECT order_engine.create_endpoint('shop', 'https://example.com/', '{order.*}') IS NOT NULL AS secret;
SELECT endpoint_id AS shop FROM order_engine.endpoint \gset
SELECT order_engine.emit('x', '1', 'order.a', '{}') AS a \gset
SELECT order_engine.emit('x', '1', 'order.b', '{}') AS b \gset
SELECT order_engine.emit('x', '2', 'other', '{}') AS other \gset
SELECT order_engine.append_event('endpoint', 'shop', 'order.disabled', '{}') AS news \gset
-- what a call leaves, with names for the ids
CREATE VIEW asked AS
SELECT events, shards_done, cardinality(ids) AS ids, first_id IS NOT NULL AS range, visible IS NOT NULL AS visible, unseen IS NOT NULL AS unseen
FROM order_engine.replay ORDER BY replay_id;

-- ids: ascending, each once, only types that the endpoint gets
SELECT order_engine.replay('shop', ARRAY[:'b', :'other', :'a', :'b', :'news']::uuid[]);
SELECT * FROM asked;
SELECT ids = ARRAY[:'a', :'b']::uuid[] AS ascending FROM order_engine.replay;
-- nothing to send leaves nothing
SELECT order_engine.replay('shop', ARRAY[:'other']::uuid[]), order_engine.replay('shop', '{}');
-- a repetition asks again
SELECT order_engine.replay('shop', ARRAY[:'b']::uuid[]);
SELECT * FROM asked;
SELECT attempt('SELECT order_engine.replay(''nobody'', ''{}'')');
SELECT attempt('SELECT order_engine.replay(NULL, ''{}''::uuid[])');
SELECT attempt('SELECT order_engine.replay(''shop'', NULL)');
SELECT attempt(format('SELECT order_engine.replay(''shop'', ARRAY[%L, NULL]::uuid[])', :'a'));
SELECT attempt(format('SELECT order_engine.replay(''shop'', ARRAY[%L, ''00000000-0000-7000-8000-000000000002'', ''00000000-0000-7000-8000-000000000001'']::uuid[])', :'a'));
SELECT attempt(format('SELECT order_engine.replay(''shop'', array_fill(%L::uuid, ARRAY[100001]))', :'a'));
SELECT attempt(format('SELECT order_engine.%s(''shop'', ARRAY[ARRAY[%L]]::uuid[])', verb, :'a')) FROM unnest('{replay,redrive,discard_dead_letters}'::text[]) verb;
SELECT * FROM asked;
TRUNCATE order_engine.replay;

-- a range of time, to the millisecond
SELECT order_engine.replay('shop', '-infinity', 'infinity');
SELECT order_engine.replay('shop', created_at, created_at + interval '1 ms') >= 1 AS found FROM order_engine.outbox WHERE id = :'a';
SELECT order_engine.replay('shop', '2000-01-01', '2001-01-01');
SELECT events >= 1 AS found, ids, order_engine.uuid_time(first_id) AS first, unseen FROM order_engine.replay WHERE first_id < '01000000-0000-0000-0000-000000000000';
SELECT count(*) FROM order_engine.replay;
-- what this transaction does is still to come
TRUNCATE order_engine.replay;
BEGIN;
SELECT order_engine.emit('x', '3', 'order.c', '{}') IS NOT NULL AS emitted;
SELECT order_engine.replay('shop', '-infinity', 'infinity');
ROLLBACK;
SELECT attempt('SELECT order_engine.replay(''nobody'', ''-infinity'', ''infinity'')');
SELECT attempt('SELECT order_engine.replay(''shop'', NULL, ''infinity'')');
SELECT attempt('SELECT order_engine.replay(''shop'', ''-infinity'', NULL)');
SELECT attempt('SELECT order_engine.replay(''shop'', ''-infinity'', ''infinity'', NULL)');
SELECT attempt('SELECT order_engine.replay(''shop'', ''2000-01-01'', ''2000-01-01'')');
SELECT attempt('SELECT order_engine.replay(''shop'', ''infinity'', ''-infinity'')');
SELECT * FROM asked;
-- ids carry the time
SELECT at, order_engine.uuid_at(at, false), order_engine.uuid_at(at, true), order_engine.uuid_time(order_engine.uuid_at(at, true))
FROM unnest('{1969-12-31 23:59:59.999+00,1970-01-01 00:00:00.0019+00,1999-12-31 23:59:59.9995+00,2024-02-29 12:00:00.1239+00,infinity}'::timestamptz[]) AS at;

-- dead letters: one that the outbox still has, and one that it has no more
INSERT INTO order_engine.delivery_dead
SELECT :shop, 3, NULL, o.txid, o.created_at, now(), o.shard, o.id, o.aggregatetype, o.aggregateid, o.type, o.payload, o.headers, 'HTTP status 400'
FROM order_engine.outbox o WHERE o.id = :'a';
INSERT INTO order_engine.delivery_dead
SELECT :shop, 3, NULL, txid, created_at, died_at, shard, '00000000-0000-7000-8000-000000000001', aggregatetype, aggregateid, type, payload, headers, last_error
FROM order_engine.delivery_dead;
SELECT endpoint, id = :'a' AS a, type, attempts, last_error FROM order_engine.dead_letter ORDER BY id;

SELECT order_engine.redrive('shop', ARRAY[:'a', :'b']::uuid[]);
SELECT ids = ARRAY[:'a']::uuid[] AS a, events FROM order_engine.replay;
-- a repetition does not send again what is under way
SELECT order_engine.redrive('shop', ARRAY[:'a', :'b']::uuid[]);
SELECT order_engine.redrive('shop'), order_engine.redrive('shop');
SELECT * FROM asked;
TRUNCATE order_engine.replay;
SELECT order_engine.redrive('shop');
SELECT ids = ARRAY['00000000-0000-7000-8000-000000000001', :'a']::uuid[] AS ascending FROM order_engine.replay;
TRUNCATE order_engine.replay;
SELECT attempt('SELECT order_engine.redrive(''nobody'')');
SELECT attempt('SELECT order_engine.redrive(''shop'', ''{NULL}'')');

-- what the endpoint never got: from before its start, and dead letters of that time
SELECT order_engine.replay('shop', '2000-01-01', 'infinity', only_undelivered => true);
SELECT * FROM asked;
SELECT ids = ARRAY[:'a']::uuid[] AS a FROM order_engine.replay WHERE ids IS NOT NULL;
-- the dead letter that is under way is left alone; the other one lies in this longer range
SELECT order_engine.replay('shop', '-infinity', 'infinity', only_undelivered => true);
SELECT * FROM asked;
SELECT replaying, dead FROM order_engine.endpoint_status;

-- for good
SELECT order_engine.discard_dead_letters('shop', ARRAY[:'b', '00000000-0000-7000-8000-000000000001']::uuid[]);
SELECT id = :'a' AS a FROM order_engine.dead_letter;
SELECT order_engine.discard_dead_letters('shop'), order_engine.discard_dead_letters('shop');
SELECT attempt('SELECT order_engine.discard_dead_letters(''nobody'')');
SELECT attempt('SELECT order_engine.discard_dead_letters(''shop'', ''{NULL}'')');

-- an endpoint that is dropped takes its replays along
SELECT order_engine.drop_endpoint('shop');
SELECT count(*) FROM order_engine.replay;
DROP VIEW asked;

-- operators may, applications may not
SELECT order_engine.create_endpoint('shop', 'https://example.com/', start_at => 'earliest') IS NOT NULL AS secret;
CREATE ROLE regress_replay;
SELECT order_engine.grant_access('regress_replay', 'app');
SET ROLE regress_replay;
SELECT attempt(c) FROM unnest(ARRAY['SELECT order_engine.replay(''shop'', ''{}'')', 'SELECT order_engine.redrive(''shop'')',
	'SELECT order_engine.discard_dead_letters(''shop'')', 'SELECT order_engine.send_test_event(''shop'')',
	'SELECT order_engine.undelivered(''shop'')', 'SELECT * FROM order_engine.endpoint_status']) AS c;
RESET ROLE;
SELECT order_engine.grant_access('regress_replay', 'operator');
SET ROLE regress_replay;
SELECT order_engine.replay('shop', '-infinity', 'infinity'), order_engine.replay('shop', '-infinity', 'infinity', true),
	order_engine.redrive('shop'), order_engine.discard_dead_letters('shop'), order_engine.send_test_event('shop') IS NOT NULL AS sent;
SELECT name, state, lag_events, replaying, advice FROM order_engine.endpoint_status;
SELECT order_engine.undelivered('shop');
SELECT count(*) FROM order_engine.dead_letter;
SELECT attempt(c) FROM unnest(ARRAY['SELECT order_engine.append_event(''endpoint'', ''shop'', ''t'', ''{}'')',
	'SELECT order_engine.wake_workers()', 'SELECT * FROM order_engine.endpoint_position', 'SELECT * FROM order_engine.endpoint_secret']) AS c;
RESET ROLE;
SELECT order_engine.revoke_access('regress_replay');
DROP ROLE regress_replay;
SELECT order_engine.drop_endpoint('shop');
