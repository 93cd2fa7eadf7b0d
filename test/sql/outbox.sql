--
-- emit(): events of the application.
--
\set SHOW_CONTEXT never
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- an event, its id is a UUID of version 7
SELECT order_engine.emit('cart', '17', 'cart.created', '{"items": 3}') AS id \gset
SELECT substr(:'id', 15, 1) AS version;
SELECT id = :'id' AS same_id, pg_xact_status(txid) AS txid, leaf, aggregatetype, aggregateid, aggregate_seq, type, payload,
	headers = jsonb_build_object('actor', session_user) AS headers, after_txid,
	created_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS created_now
FROM order_engine.outbox;

-- the context of the transaction, and headers of the call, which win
BEGIN;
SET LOCAL order_engine.tenant = 'acme';
SET LOCAL order_engine.actor = 'ada';
SET LOCAL order_engine.correlation_id = 'c-1';
SET LOCAL order_engine.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SELECT order_engine.emit('cart', '18', 'cart.created', '[]', '{"actor": "bob", "x": {"y": 1}}') IS NOT NULL AS emitted;
COMMIT;
SELECT payload, headers FROM order_engine.outbox WHERE aggregateid = '18';

-- ids of one session increase
SELECT count(order_engine.emit('many', n::text, 'many.made', 'null')) FROM generate_series(1, 1000) n;
SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY aggregateid::int) AS before FROM order_engine.outbox WHERE aggregatetype = 'many') AS o WHERE id <= before;

-- what is rolled back never was
BEGIN;
SELECT order_engine.emit('gone', '1', 'gone.made', '{}') IS NOT NULL AS emitted;
SAVEPOINT s;
SELECT order_engine.emit('gone', '2', 'gone.made', '{}') IS NOT NULL AS emitted;
ROLLBACK TO s;
SELECT order_engine.emit('kept', '3', 'kept.made', '{}') IS NOT NULL AS emitted;
COMMIT;
SELECT aggregatetype, aggregateid FROM order_engine.outbox WHERE aggregatetype IN ('gone', 'kept') ORDER BY 2;

-- bad input changes nothing
SELECT count(*) AS before FROM order_engine.outbox \gset
SELECT attempt('SELECT order_engine.emit(' || arguments || ')') AS outcome
FROM unnest(ARRAY[
	$$NULL, '1', 'a.b', '{}'$$, $$'a', NULL, 'a.b', '{}'$$, $$'a', '1', NULL, '{}'$$, $$'a', '1', 'a.b', NULL$$,
	$$'', '1', 'a.b', '{}'$$, $$'a', '', 'a.b', '{}'$$, $$'a', '1', '', '{}'$$,
	$$repeat('a', 300), '1', 'a.b', '{}'$$, $$E'a\nb', '1', 'a.b', '{}'$$,
	$$'a', '1', 'a b', '{}'$$, $$'a', '1', 'a..b', '{}'$$, $$'a', '1', 'a.*', '{}'$$,
	$$'order', '1', 'order.placed', '{}'$$,
	$$'a', '1', 'a.b', '{}', '[]'$$]) AS arguments;
SELECT attempt($$SELECT order_engine.emit('a', '1', 'a.b', jsonb_build_object('x', repeat('y', 1048576)))$$);
SELECT attempt($$SELECT order_engine.emit('a', '1', 'a.b', '{}', jsonb_build_object('x', repeat('y', 65536)))$$);
-- the limit is one of the text: 1e131071 takes 16 bytes as jsonb
SELECT attempt(format('SELECT order_engine.emit(%L, %L, %L, %L)', 'a', '1', 'a.b', payload)) AS outcome
FROM (SELECT ('[' || string_agg(number, ',') || ']')::jsonb FROM unnest('{1e131071,1e999,-1e999}'::text[]) AS number, generate_series(1, 1100)
	GROUP BY number ORDER BY number COLLATE "C") AS p (payload);
SELECT attempt(format('SELECT order_engine.emit(%L, %L, %L, %L, %L)', 'a', '1', 'a.b', '{}', headers)) AS outcome
FROM unnest(ARRAY['{"x": 1e131071}', '{"x": 1e-1001}']::jsonb[]) AS headers;
SELECT count(*) - :before AS added FROM order_engine.outbox;
-- just below: 1 MiB with the quotes and brackets around it
SELECT order_engine.emit('large', '1', 'a.b', jsonb_build_object('x', repeat('y', 1048576 - 20)), jsonb_build_object('x', repeat('y', 65536 - 20))) IS NOT NULL AS emitted;
SELECT max(octet_length(payload::text)) AS payload FROM order_engine.outbox WHERE aggregatetype = 'large';
-- what is measured is not less than what is written
SELECT order_engine.emit('large', '2', 'a.b', format('[%s]', string_agg('1e999', ','))::jsonb) IS NOT NULL AS emitted FROM generate_series(1, 1046);
SELECT max(octet_length(payload::text)) <= 1048576 AS within FROM order_engine.outbox WHERE aggregatetype = 'large';

-- the caller's context is bounded, too
SELECT name, replace(attempt(format('SET order_engine.%s = %L', name, value)), repeat('x', 256), 'LONG') AS outcome
FROM unnest('{actor,correlation_id,tenant,traceparent}'::text[]) AS name, unnest(ARRAY[repeat('x', 256), E'a\nb', repeat('x', 255), '']) AS value;

-- the log is append-only by use, and readable with SQL
SELECT count(*) > 1000 AS events FROM order_engine.outbox;

