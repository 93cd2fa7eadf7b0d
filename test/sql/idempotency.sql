-- Idempotency keys: what a repeated call gets.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR');
SELECT order_engine.adjust_stock('A', 'default', 100, 'delivery');

CREATE TEMP VIEW counts AS
SELECT (SELECT count(*) FROM order_engine.orders) AS orders, (SELECT count(*) FROM order_engine.outbox) AS events,
	(SELECT count(*) FROM order_engine.history) AS history, (SELECT count(*) FROM order_engine.idempotency_key) AS keys,
	(SELECT sum(reserved) FROM order_engine.stock) AS reserved, (SELECT count(*) FROM order_engine.stock_movement) AS movements;

-- first call, then the same again
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2, "unit_price": 1.0}]', 'EUR', shipping => 1, idempotency_key => 'k1') AS id,
	order_engine.was_replayed() \gset first_
\echo :first_was_replayed
SELECT * FROM counts;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2, "unit_price": 1.0}]', 'EUR', shipping => 1, idempotency_key => 'k1') = :first_id AS same,
	order_engine.was_replayed();
-- the same by value: order of the keys, spelling of the numbers
SELECT order_engine.place_order('c', '[{"unit_price": 1.00, "quantity": 2.0, "sku": "A"}]', 'EUR', shipping => 1.000, idempotency_key => 'k1') = :first_id AS same;
SELECT * FROM counts;

-- a stored key has no arguments in it
SELECT scope = 'user:' || session_user AS scope, key, operation, result = :'first_id' AS is_result FROM order_engine.idempotency_key;
SELECT column_name FROM information_schema.columns WHERE table_schema = 'order_engine' AND table_name = 'idempotency_key' ORDER BY 1;

-- other arguments, each alone
SELECT attempt($$SELECT order_engine.place_order('d', '[{"sku": "A", "quantity": 2, "unit_price": 1.0}]', 'EUR', shipping => 1, idempotency_key => 'k1')$$);
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 3, "unit_price": 1.0}]', 'EUR', shipping => 1, idempotency_key => 'k1')$$);
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2, "unit_price": "1.0"}]', 'EUR', shipping => 1, idempotency_key => 'k1')$$);
SELECT count(*) AS differ FROM (VALUES
	('USD', NULL, 'default', NULL, 'prepaid', 1, 0, 0, NULL, NULL, NULL), ('EUR', 'n', 'default', NULL, 'prepaid', 1, 0, 0, NULL, NULL, NULL),
	('EUR', NULL, 'web', NULL, 'prepaid', 1, 0, 0, NULL, NULL, NULL), ('EUR', NULL, 'default', 'r', 'prepaid', 1, 0, 0, NULL, NULL, NULL),
	('EUR', NULL, 'default', NULL, 'invoice', 1, 0, 0, NULL, NULL, NULL), ('EUR', NULL, 'default', NULL, 'prepaid', 2, 0, 0, NULL, NULL, NULL),
	('EUR', NULL, 'default', NULL, 'prepaid', 1, 1, 0, NULL, NULL, NULL), ('EUR', NULL, 'default', NULL, 'prepaid', 1, 0, 1, NULL, NULL, NULL),
	('EUR', NULL, 'default', NULL, 'prepaid', 1, 0, 0, 3, NULL, NULL), ('EUR', NULL, 'default', NULL, 'prepaid', 1, 0, 0, NULL, '1 hour', NULL),
	('EUR', NULL, 'default', NULL, 'prepaid', 1, 0, 0, NULL, NULL, '{}')) AS v (currency, number, channel, region, terms, shipping, tax, discount, expected, hold, metadata),
	LATERAL attempt(format('SELECT order_engine.place_order(%L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L)', 'c',
		'[{"sku": "A", "quantity": 2, "unit_price": 1.0}]', currency, number, channel, region, terms, shipping, tax, discount, expected, hold, metadata, 'k1')) AS error
WHERE error LIKE 'OE102%';
-- not even these are taken for one another, which differ in their nesting only
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', metadata => '{"a": {"b": 1, "c": 2}}', idempotency_key => 'nested') IS NOT NULL AS placed;
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', metadata => '{"a": {"b": 1}, "c": 2}', idempotency_key => 'nested')$$);
-- another operation
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', 1, 'r', idempotency_key => 'k1')$$);
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r', idempotency_key => 'k1')$$, :first_id));

-- a first call that failed leaves nothing; a repetition runs afresh
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1000}]', 'EUR', idempotency_key => 'k2')$$);
SELECT count(*) AS stored FROM order_engine.idempotency_key WHERE key = 'k2';
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k2') IS NOT NULL AS placed, order_engine.was_replayed();

-- rolled back, whole or to a savepoint
BEGIN;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k3') IS NOT NULL AS placed;
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k3') IS NOT NULL AS placed, order_engine.was_replayed();
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k3') IS NOT NULL AS placed, order_engine.was_replayed();
ROLLBACK TO s;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k3') IS NOT NULL AS placed, order_engine.was_replayed();
COMMIT;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k3') IS NOT NULL AS placed, order_engine.was_replayed();

-- twice in one query
SELECT count(DISTINCT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k4')) AS orders FROM generate_series(1, 3);

-- was_replayed() tells of this transaction only, and of the last verb in it
SELECT order_engine.was_replayed();
BEGIN;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k4') IS NOT NULL AS placed;
SELECT order_engine.was_replayed();
SELECT order_engine.adjust_stock('A', 'default', 0, 'count') IS NOT NULL AS counted;
SELECT order_engine.was_replayed();
COMMIT;

-- a replay writes nothing and so works in a read-only transaction, and in a repeatable one
SELECT * FROM counts;
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k4') IS NOT NULL AS placed;
SELECT order_engine.was_replayed();
COMMIT;
SELECT * FROM counts;

-- keys belong to the tenant, or else to the session user
BEGIN;
SET LOCAL order_engine.tenant = 'acme';
SELECT order_engine.place_order('another', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k1') <> :first_id AS other, order_engine.was_replayed();
COMMIT;
BEGIN;
SET LOCAL order_engine.tenant = 'globex';
SELECT order_engine.place_order('yet another', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k1') <> :first_id AS other, order_engine.was_replayed();
COMMIT;
SELECT replace(scope, session_user, 'ME') AS scope FROM order_engine.idempotency_key WHERE key = 'k1' ORDER BY 1;

-- demanded by a setting
SET order_engine.idempotency_required = on;
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR')$$);
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', 1, 'r')$$);
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r')$$, :first_id));
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]')$$);
SELECT attempt($$SELECT order_engine.release_stock(1)$$);
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'confirm')$$, :first_id));
SELECT attempt($$SELECT order_engine.emit('cart', '1', 'cart.created', '{}')$$);
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k5') IS NOT NULL AS placed;
RESET order_engine.idempotency_required;

-- a trigger of the application that makes the same call again: final, because a repetition would end the same
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 5}]', 'EUR') AS id \gset nested_
CREATE FUNCTION cancel_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM order_engine.cancel_order(NEW.order_id, 'r', '[{"line_no": 1, "quantity": 1}]', TG_ARGV[0]);
	RETURN NULL;
END $$;
CREATE TRIGGER same_key AFTER UPDATE ON order_engine.orders FOR EACH ROW WHEN (pg_trigger_depth() < 1) EXECUTE FUNCTION cancel_again('n1');
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r', '[{"line_no": 1, "quantity": 1}]', 'n1')$$, :nested_id));
SELECT cancelled FROM order_engine.order_line WHERE order_id = :nested_id;
-- with a key of its own it may
SELECT order_engine.cancel_order(:nested_id, 'r', '[{"line_no": 1, "quantity": 1}]', 'n2');
SELECT cancelled FROM order_engine.order_line WHERE order_id = :nested_id;
DROP TRIGGER same_key ON order_engine.orders;
DROP FUNCTION cancel_again();

-- the other verbs
SELECT order_engine.adjust_stock('A', 'default', 5, 'delivery', idempotency_key => 'a1') AS on_hand, order_engine.was_replayed();
SELECT order_engine.adjust_stock('A', 'default', 5, 'delivery', idempotency_key => 'a1') AS on_hand, order_engine.was_replayed();
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', 'cart', '1 hour', idempotency_key => 'r1') AS id \gset cart_
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', 'cart', '1 hour', idempotency_key => 'r1') = :cart_id AS same, order_engine.was_replayed();
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', 'cart', '2 hours', idempotency_key => 'r1')$$);
SELECT order_engine.release_stock(:cart_id, 'left', idempotency_key => 'r2'), order_engine.was_replayed();
SELECT order_engine.release_stock(:cart_id, 'left', idempotency_key => 'r2'), order_engine.was_replayed();
SELECT order_engine.cancel_order(:first_id, 'changed his mind', idempotency_key => 'c1'), order_engine.was_replayed();
SELECT order_engine.cancel_order(:first_id, 'changed his mind', idempotency_key => 'c1'), order_engine.was_replayed();
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', terms => 'invoice') AS id \gset moved_
SELECT order_engine.transition('order', :moved_id, 'confirm', idempotency_key => 't1'), order_engine.was_replayed();
SELECT order_engine.transition('order', :moved_id, 'cancel', idempotency_key => 't2'), order_engine.was_replayed();
-- the stored result is that of the first call, not the state of today
SELECT order_engine.transition('order', :moved_id, 'confirm', idempotency_key => 't1'), order_engine.was_replayed();
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'confirm', 'secret reason', idempotency_key => 't1')$$, :moved_id));
SELECT order_engine.emit('cart', '17', 'cart.created', '{"n": 1.0}', '{"x": "y"}', 'e1') AS id, order_engine.was_replayed() \gset event_
\echo :event_was_replayed
SELECT order_engine.emit('cart', '17', 'cart.created', '{"n": 1.00}', '{"x": "y"}', 'e1') = :'event_id' AS same, order_engine.was_replayed();
SELECT count(*) AS events, bool_and(id = :'event_id') AS same FROM order_engine.outbox WHERE aggregatetype = 'cart';
SELECT attempt(format('SELECT order_engine.emit(%L, %L, %L, %L, %L, %L)', type, id, event, payload, headers, 'e1')) FROM (VALUES
	('cart', '18', 'cart.created', '{"n": 1}', '{"x": "y"}'), ('cart', '17', 'cart.changed', '{"n": 1}', '{"x": "y"}'),
	('basket', '17', 'cart.created', '{"n": 1}', '{"x": "y"}'), ('cart', '17', 'cart.created', '{"n": 2}', '{"x": "y"}'),
	('cart', '17', 'cart.created', '{"n": 1}', NULL)) AS v (type, id, event, payload, headers);
-- any payload, also one that is no object
SELECT order_engine.emit('cart', '1', 'cart.made', payload, idempotency_key => key) IS NOT NULL AS emitted, order_engine.was_replayed()
FROM (VALUES (1, '5'::jsonb, 's1'), (2, 'null', 's2'), (3, '[]', 's3'), (4, '"5"', 's4'), (5, '"5"', 's4')) AS v (n, payload, key) ORDER BY n;
SELECT attempt($$SELECT order_engine.emit('cart', '1', 'cart.made', '"5"', idempotency_key => 's1')$$);
-- what is refused takes no key
SELECT attempt($$SELECT order_engine.emit('order', '1', 'cart.made', '5', idempotency_key => 's5')$$);
SELECT attempt($$SELECT order_engine.emit('cart', '1', 'cart.made', '5', idempotency_key => '')$$);
SELECT order_engine.emit('cart', '1', 'cart.made', '5', idempotency_key => 's5') IS NOT NULL AS emitted, order_engine.was_replayed();
BEGIN READ ONLY;
SELECT order_engine.emit('cart', '1', 'cart.made', '5', idempotency_key => 's5') IS NOT NULL AS emitted, order_engine.was_replayed();
SELECT order_engine.emit('cart', '1', 'cart.made', '5', idempotency_key => 's6');
ROLLBACK;

-- these need no key: the same call twice does the same as once
SELECT count(*) AS keys FROM order_engine.idempotency_key \gset before_
CREATE TEMP VIEW kept AS
SELECT (SELECT jsonb_agg(to_jsonb(p) ORDER BY p.sku) FROM order_engine.product p) AS products,
	(SELECT jsonb_agg(to_jsonb(l) ORDER BY l.location) FROM order_engine.location l) AS locations,
	(SELECT jsonb_agg(to_jsonb(m) ORDER BY m.machine_id) FROM order_engine.machine m) AS machines,
	-- to resume an endpoint forgets what it failed until now, so it tells the time of the last call
	(SELECT jsonb_agg(to_jsonb(e) - 'updated_at' - CASE status WHEN 'active' THEN 'status_since' ELSE '' END ORDER BY e.name)
	 FROM order_engine.endpoint e) AS endpoints;
SELECT order_engine.create_endpoint('shop', 'https://shop.example/hooks') IS NOT NULL AS created;
CREATE FUNCTION twice(command text) RETURNS TABLE (call text, same_result boolean, same_rows boolean) LANGUAGE plpgsql AS $$
DECLARE
	first text;
	second text;
	rows_before kept;
	rows_after kept;
BEGIN
	EXECUTE 'SELECT (' || twice.command || ')::text' INTO first;
	SELECT * INTO rows_before FROM kept;
	EXECUTE 'SELECT (' || twice.command || ')::text' INTO second;
	SELECT * INTO rows_after FROM kept;
	RETURN QUERY SELECT left(command, 45), first = second, rows_before = rows_after;
END $$;
SELECT * FROM twice($$order_engine.upsert_product('B', 'B', 3, 'EUR')$$);
SELECT * FROM twice($$order_engine.upsert_location('berlin', 'Berlin', priority => 3)$$);
SELECT * FROM twice($$order_engine.define_machine('order', 'mine', (SELECT definition FROM order_engine.machine WHERE machine_id = 1))$$);
SELECT * FROM twice(format('order_engine.publish_machine(%s)', (SELECT machine_id FROM order_engine.machine WHERE name = 'mine')));
SELECT * FROM twice($$order_engine.alter_endpoint('shop', max_in_flight => 3)$$);
SELECT * FROM twice($$order_engine.pause_endpoint('shop')$$);
SELECT * FROM twice($$order_engine.resume_endpoint('shop')$$);
-- these refuse the repetition, or make another secret, which is never stored as a result
SELECT attempt($$SELECT order_engine.create_endpoint('shop', 'https://shop.example/hooks')$$);
SELECT * FROM twice($$order_engine.rotate_secret('shop')$$);
SELECT order_engine.drop_endpoint('shop');
SELECT attempt($$SELECT order_engine.drop_endpoint('shop')$$);
SELECT count(*) - :before_keys AS keys FROM order_engine.idempotency_key;
DROP FUNCTION twice(text);
SELECT * FROM order_engine.verify_stock();
