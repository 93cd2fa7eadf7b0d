-- Holds.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin



SELECT order_engine.upsert_product('A', 'Tea', 10, 'EUR');
SELECT order_engine.adjust_stock('A', 'default', 100, 'delivery') > 0 AS stocked;
CREATE FUNCTION new_order(terms text DEFAULT 'invoice') RETURNS bigint LANGUAGE sql
RETURN order_engine.place_order('C1', '[{"sku": "A", "quantity": 2}]', 'EUR', terms => terms);
CREATE VIEW events AS
SELECT aggregate_seq AS seq, type, payload - '{channel,currency,customer_id,order_id,order_number,total}'::text[] AS payload
FROM order_engine.outbox ORDER BY aggregateid, aggregate_seq;

-- place: an event that leaves the state as it is
SELECT new_order() AS id \gset
SELECT order_engine.place_hold(:id, 'fraud', 'card from another country') AS hold \gset
SELECT order_engine.place_hold(:id, 'address') AS second \gset
SELECT state, version, on_hold FROM order_engine.orders WHERE order_id = :id;
SELECT hold_id = :hold AS is_first, order_id = :id AS is_order, placed_at IS NOT NULL AS placed, released_at, reason, note,
	placed_by = session_user AS placed_by, released_by, release_note
FROM order_engine.order_hold ORDER BY hold_id;
SELECT seq, entity, event, from_state, to_state, machine_id, reason, metadata = jsonb_build_object('hold_id', CASE seq WHEN 2 THEN :hold ELSE :second END) AS names_hold
FROM order_engine.history WHERE order_id = :id ORDER BY seq;
SELECT seq, type, payload - 'hold_id' AS payload, payload ->> 'hold_id' IN (:'hold', :'second') AS names_hold FROM events WHERE seq > 1;
-- what it forbids, and the holds that are open
SELECT replace(replace(attempt, :'hold', 'FIRST'), :'second', 'SECOND')
FROM attempt(format($$SELECT order_engine.transition('order', %s, 'confirm')$$, :id)) AS attempt OFFSET 1;
SELECT attempt::text FROM attempt(format($$SELECT order_engine.transition('order', %s, 'confirm')$$, :id)) AS attempt LIMIT 1;
SELECT * FROM order_engine.allowed_events('order', :id);

-- release: the order is free with the last one
SET order_engine.actor = 'ann';
SELECT order_engine.release_hold(:hold, 'called the customer');
SELECT order_engine.release_hold(:hold, 'again');
SELECT state, version, on_hold FROM order_engine.orders WHERE order_id = :id;
SELECT replace(attempt, :'second', 'SECOND')
FROM attempt(format($$SELECT order_engine.transition('order', %s, 'confirm')$$, :id)) AS attempt OFFSET 1;
SELECT order_engine.release_hold(:second);
RESET order_engine.actor;
SELECT reason, released_at IS NOT NULL AS released, released_by, release_note FROM order_engine.order_hold ORDER BY hold_id;
SELECT state, version, on_hold FROM order_engine.orders WHERE order_id = :id;
SELECT seq, type, payload - 'hold_id' AS payload FROM events WHERE seq > 3;
SELECT order_engine.transition('order', :id, 'confirm');

-- also in a state that is final, as after a chargeback
SELECT order_engine.transition('order', :id, 'cancel');
SELECT order_engine.place_hold(:id, 'chargeback') AS third \gset
SELECT state, version, on_hold FROM order_engine.orders WHERE order_id = :id;
SELECT order_engine.release_hold(:third);
SELECT state, version, on_hold FROM order_engine.orders WHERE order_id = :id;

-- a transition that waited for the hold alone happens by itself
SELECT order_engine.define_machine('order', 'eager', '{
	"initial": "draft", "states": {"draft": {}, "pending": {}, "checked": {}, "open": {}, "done": {"terminal": true}},
	"transitions": [{"event": "place", "from": "draft", "to": "pending"}, {"event": "check", "from": "pending", "to": "checked"},
		{"event": "accept", "from": "checked", "to": "open", "guards": ["no_hold"], "automatic": true},
		{"event": "finish", "from": "open", "to": "done"}]}') AS eager \gset
SELECT order_engine.publish_machine(:eager);
BEGIN;
SET LOCAL order_engine.order_machine = 'eager';
SELECT new_order() AS id \gset
SELECT order_engine.place_hold(:id, 'fraud') AS hold \gset
SELECT order_engine.transition('order', :id, 'check');
COMMIT;
SELECT state, version, on_hold FROM order_engine.orders WHERE order_id = :id;
SELECT order_engine.release_hold(:hold);
SELECT state, version, on_hold FROM order_engine.orders WHERE order_id = :id;
SELECT seq, event, from_state, to_state FROM order_engine.history WHERE order_id = :id ORDER BY seq;

-- idempotency
SELECT new_order() AS id \gset
SELECT order_engine.place_hold(:id, 'fraud', idempotency_key => 'h1') AS hold \gset
SELECT order_engine.place_hold(:id, 'fraud', idempotency_key => 'h1') = :hold AS same, order_engine.was_replayed();
SELECT attempt(format($$SELECT order_engine.place_hold(%s, 'other', idempotency_key => 'h1')$$, :id)) LIMIT 1;
SELECT attempt(format($$SELECT order_engine.place_hold(%s, 'fraud', 'note', idempotency_key => 'h1')$$, :id)) LIMIT 1;
SELECT order_engine.release_hold(:hold, idempotency_key => 'h2');
SELECT order_engine.release_hold(:hold, idempotency_key => 'h2');
SELECT order_engine.release_hold(:hold, idempotency_key => 'h3');
SELECT order_engine.release_hold(:hold, idempotency_key => 'h3');
SELECT attempt(format($$SELECT order_engine.release_hold(%s, idempotency_key => 'h1')$$, :hold)) LIMIT 1;
SELECT count(*), max(version) FROM order_engine.order_hold JOIN order_engine.orders USING (order_id) WHERE order_id = :id;

-- arguments
SELECT attempt(format('SELECT order_engine.%s', call)) AS attempt
FROM (VALUES
	(1, $$place_hold(NULL, 'fraud')$$),
	(2, $$place_hold(1, NULL)$$),
	(3, $$place_hold(1, '')$$),
	(4, $$place_hold(1, repeat('x', 256))$$),
	(5, $$place_hold(1, 'fraud', repeat('x', 8193))$$),
	(6, $$place_hold(-1, 'fraud')$$),
	(7, $$release_hold(NULL)$$),
	(8, $$release_hold(-1)$$),
	(9, $$release_hold(-1, repeat('x', 8193))$$)) AS t (n, call) ORDER BY n;

-- the column is the engine's
SELECT attempt(format('UPDATE order_engine.orders SET on_hold = true WHERE order_id = %s', :id));
DROP VIEW events;
DROP FUNCTION new_order, attempt;
