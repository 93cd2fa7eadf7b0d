-- migrate_orders(): orders in flight change to another machine; machine versions and forced transitions.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SELECT order_engine.upsert_product('A', 'Tea', 10, 'EUR');
SELECT order_engine.adjust_stock('A', 'default', 100, 'delivery');
CREATE FUNCTION new_order(terms text DEFAULT 'invoice', hold_for interval DEFAULT NULL) RETURNS bigint LANGUAGE sql
RETURN order_engine.place_order('C1', '[{"sku": "A", "quantity": 1}]', 'EUR', terms => terms, hold_for => hold_for);
CREATE FUNCTION publish(definition jsonb, name text DEFAULT 'shop', kind text DEFAULT 'order') RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	id integer := order_engine.define_machine(kind, name, definition);
BEGIN
	PERFORM order_engine.publish_machine(id);
	RETURN id;
END $$;
CREATE VIEW orders AS
SELECT order_id, machine_id, state, version, state_since = updated_at AS state_is_new, expires_at IS NULL AS no_limit
FROM order_engine.orders ORDER BY order_id;

SELECT publish('{"initial": "draft", "states": {"draft": {}, "pending": {"on_limit": "lapse"}, "open": {}, "packed": {}, "done": {"terminal": true}},
	"transitions": [{"event": "place", "from": "draft", "to": "pending"},
		{"event": "accept", "from": "pending", "to": "open"},
		{"event": "pack", "from": "open", "to": "packed"},
		{"event": "lapse", "from": "pending", "to": "done", "effects": ["expire_stock", "cancel_lines"]},
		{"event": "finish", "from": ["open", "packed"], "to": "done"}]}') AS v1 \gset
SET order_engine.order_machine = 'shop';
SELECT new_order() AS a, new_order(hold_for => '3 days') AS b, new_order() AS c, new_order() AS d, new_order() AS e \gset
SELECT order_engine.transition('order', id, 'accept') FROM unnest(ARRAY[:b, :c, :d, :e]::bigint[]) AS id;
SELECT order_engine.transition('order', id, 'pack') FROM unnest(ARRAY[:c, :d]::bigint[]) AS id;
SELECT order_engine.transition('order', :d, 'finish');

-- version 2 changes nothing for orders in flight
SELECT publish('{"initial": "draft", "states": {"draft": {}, "pending": {"on_limit": "lapse"}, "open": {"limit": "2 days", "on_limit": "finish"},
		"boxed": {}, "checked": {}, "done": {"terminal": true}, "lost": {"terminal": true}},
	"transitions": [{"event": "place", "from": "draft", "to": "pending"},
		{"event": "accept", "from": "pending", "to": "open"},
		{"event": "box", "from": "open", "to": "boxed"},
		{"event": "check", "from": "boxed", "to": "checked", "guards": ["no_hold"], "automatic": true},
		{"event": "lapse", "from": "pending", "to": "lost", "effects": ["expire_stock", "cancel_lines"]},
		{"event": "finish", "from": ["open", "checked"], "to": "done"}]}') AS v2 \gset
SELECT version, status FROM order_engine.machine WHERE name = 'shop' ORDER BY version;
SELECT * FROM orders;
SELECT new_order() AS f \gset
SELECT order_engine.transition('order', :e, 'pack');
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'box')$$, :b));
SELECT order_engine.transition('order', :f, 'accept');
SELECT expires_at - state_since AS state_limit FROM order_engine.orders WHERE order_id = :f;
SELECT attempt(format('UPDATE order_engine.orders SET machine_id = %s WHERE order_id = %s', :v2, :b));

-- all faults at once
SELECT attempt(format($$SELECT order_engine.migrate_orders(%s, %s, '{"nowhere": "open", "open": "nothing", "done": "done", "pending": "draft", "packed": 5, "draft": "lost"}')$$, :v1, :v2));
SELECT attempt(format($$SELECT order_engine.migrate_orders(%s, %s)$$, :v1, :v2));
SELECT attempt(format('SELECT order_engine.migrate_orders(%s)', args)) AS attempt
FROM (VALUES
	(1, format('NULL, %s', :v2)),
	(2, format('%s, NULL', :v1)),
	(3, format('%s, %s', :v1, :v1)),
	(4, format('%s, 3', :v1)),
	(5, format('6, %s', :v2)),
	(6, format('%s, -1', :v1)),
	(7, format('%s, %s, ''[]''', :v1, :v2)),
	(8, format('%s, %s, NULL, repeat(''x'', 8193)', :v1, :v2))) AS t (n, args) ORDER BY n;
SELECT order_engine.define_machine('order', 'draft', '{}') AS draft \gset
SELECT attempt(format($$SELECT order_engine.migrate_orders(%s, %s)$$, :v1, :draft)) LIMIT 1;
SELECT count(*) FROM order_engine.history WHERE event = 'migrate';

-- the move: terminal orders stay, limits follow, what the new machine does by itself happens
SELECT expires_at AS before FROM order_engine.orders WHERE order_id = :a \gset
SELECT order_engine.place_hold(:e, 'fraud') > 0 AS held;
SELECT order_engine.migrate_orders(:v1, :v2, '{"packed": "boxed"}', 'boxes are new') AS moved;
SELECT order_id, machine_id = :v2 AS moved, state, version, no_limit FROM orders;
SELECT expires_at = :'before' AS kept FROM order_engine.orders WHERE order_id = :a;
SELECT expires_at - updated_at BETWEEN '1 day 23 hours' AND '2 days' AS state_limit, state_since < updated_at AS since_before FROM order_engine.orders WHERE order_id = :b;
SELECT order_id, seq, event, from_state, to_state, machine_id = :v2 AS new, forced, reason, metadata = jsonb_build_object('machine_id', :v2, 'from_machine_id', :v1) AS names_machines
FROM order_engine.history WHERE seq > 1 AND event IN ('migrate', 'check') ORDER BY order_id, seq;
SELECT aggregateid, aggregate_seq, payload - '{channel,currency,customer_id,order_number,machine_id,from_machine_id}'::text[] AS payload,
	payload -> 'machine_id' = to_jsonb(:v2) AND payload -> 'from_machine_id' = to_jsonb(:v1) AS names_machines
FROM order_engine.outbox WHERE type = 'order.migrated' ORDER BY id;
-- each order has one gapless sequence, in history as in the outbox
SELECT order_id, array_agg(seq ORDER BY seq) = array_agg(n ORDER BY n) AS gapless
FROM (SELECT order_id, seq, row_number() OVER (PARTITION BY order_id ORDER BY seq) AS n FROM order_engine.history) AS h GROUP BY order_id ORDER BY order_id;
-- again: nothing is left to do
SELECT order_engine.migrate_orders(:v1, :v2, '{"packed": "boxed"}');
-- and on the new path, the limit being that of the new state
SELECT order_engine.transition('order', :b, 'box');
SELECT order_engine.transition('order', :c, 'finish');
SELECT * FROM order_engine.verify_stock();
-- back again: where the new state has no limit the order loses its own
SELECT order_engine.migrate_orders(:v2, :v1, '{"boxed": "packed", "checked": "open"}');
SELECT order_id, machine_id = :v1 AS moved, state, version, no_limit FROM orders;

-- a trigger of the application that goes on changing the row behind the check is told
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.version = NEW.version + 1;
	RETURN NEW;
END $$;
CREATE TRIGGER zzz BEFORE UPDATE ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION meddle();
SELECT attempt(format($$SELECT order_engine.migrate_orders(%s, %s, '{"packed": "boxed"}')$$, :v1, :v2));
DROP TRIGGER zzz ON order_engine.orders;
DROP FUNCTION meddle;

-- forced: guards are not asked, everything else holds; history and event tell
RESET order_engine.order_machine;
SELECT new_order('prepaid') AS id \gset
SELECT order_engine.place_hold(:id, 'fraud') > 0 AS held;
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'confirm')$$, :id)) LIMIT 1;
SELECT attempt(format('SELECT order_engine.force_transition(%s)', args)) AS attempt
FROM (VALUES
	(1, $$'order', 1, 'confirm', NULL$$),
	(2, $$'order', 1, 'confirm', ' '$$),
	(3, $$'order', 1, 'confirm', repeat('x', 8193)$$),
	(4, $$NULL, 1, 'confirm', 'r'$$),
	(5, $$'order', NULL, 'confirm', 'r'$$),
	(6, $$'order', 1, NULL, 'r'$$),
	(7, $$'stock', 1, 'confirm', 'r'$$),
	(8, $$'order', -1, 'confirm', 'r'$$),
	(9, $$'payment', -1, 'confirm', 'r'$$),
	(10, $$'order', 1, 'confirm', 'r', '[]'$$)) AS t (n, args) ORDER BY n;
SELECT order_engine.force_transition('order', :id, 'confirm', 'the bank called', '{"by": "ann"}', 'f1');
SELECT order_engine.force_transition('order', :id, 'confirm', 'the bank called', '{"by": "ann"}', 'f1'), order_engine.was_replayed();
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'confirm', 'the bank called', metadata => '{"by": "ann"}', idempotency_key => 'f1')$$, :id)) LIMIT 1;
SELECT order_engine.force_transition('order', :id, 'confirm', 'already there');
SELECT seq, event, from_state, to_state, forced, reason, metadata -> 'by' AS by FROM order_engine.history WHERE order_id = :id ORDER BY seq;
SELECT aggregate_seq, type, payload -> 'forced' AS forced, payload -> 'reason' AS reason FROM order_engine.outbox WHERE aggregateid = :'id' ORDER BY aggregate_seq;
-- what it does not override: the machine, and stock that is not there
SELECT attempt(format($$SELECT order_engine.force_transition('order', %s, 'expire', 'r')$$, :id));
SELECT new_order(hold_for => '1 microsecond') AS late \gset
DO $$
BEGIN
	PERFORM order_engine.adjust_stock('A', 'default', -on_hand + reserved, 'write off') FROM order_engine.stock WHERE sku = 'A';
END $$;
SELECT new_order() AS taker \gset
SELECT attempt(format($$SELECT order_engine.force_transition('order', %s, 'confirm', 'r')$$, :late)) LIMIT 1;
SELECT * FROM order_engine.verify_stock();

DROP VIEW orders;
DROP FUNCTION new_order, publish, attempt;
