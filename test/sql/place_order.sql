-- Orders: placing them, what is written, and money.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SELECT order_engine.upsert_product('TEA', 'Green tea', 4.50, 'EUR');
SELECT order_engine.upsert_product('POT', 'Teapot', 30, 'EUR', metadata => '{"colour": "blue"}');
SELECT order_engine.upsert_product('WRAP', 'Gift wrapping', 1, 'EUR', tracked => false);
SELECT order_engine.upsert_product('YEN', 'Priced in yen', 500, 'JPY');
SELECT order_engine.upsert_product('FREE', 'Has no price of its own');
SELECT order_engine.adjust_stock('TEA', 'default', 100, 'delivery'), order_engine.adjust_stock('POT', 'default', 10, 'delivery'),
	order_engine.adjust_stock('YEN', 'default', 10, 'delivery'), order_engine.adjust_stock('FREE', 'default', 10, 'delivery');

-- every argument
BEGIN;
SET LOCAL order_engine.tenant = 'acme';
SET LOCAL order_engine.actor = 'web shop';
SET LOCAL order_engine.correlation_id = 'request 7';
SELECT order_engine.place_order('customer-7', '[
	{"sku": "TEA", "quantity": 2},
	{"sku": "POT", "quantity": 1, "unit_price": "27.95", "location": "default", "seller": "potter", "metadata": {"engraving": "T"}},
	{"sku": "TEA", "quantity": 3, "unit_price": 4},
	{"sku": "WRAP", "quantity": 1}]', 'EUR',
	order_number => 'W-1001', channel => 'web', region => 'north', terms => 'invoice', shipping => 4.9, tax => 7, discount => 2.85,
	expected_total => 59, hold_for => '2 hours', metadata => '{"coupon": "SPRING"}', idempotency_key => 'checkout 1') AS id \gset
COMMIT;

SELECT version, state, tenant, channel, order_number, customer_id, region, terms, currency, on_hold, metadata
FROM order_engine.orders WHERE order_id = :id;
SELECT lines_total, shipping, tax, discount, total, authorized_total, captured_total, refunded_total FROM order_engine.orders WHERE order_id = :id;
SELECT payment_status, fulfillment_status, return_status, expires_at - placed_at AS hold,
	placed_at = state_since AND placed_at = created_at AND placed_at = updated_at AS same_time, confirmed_at IS NULL AS not_confirmed,
	last_txid IS NOT NULL AS has_txid, machine_id
FROM order_engine.orders WHERE order_id = :id;
SELECT line_no, quantity, cancelled, shipped, tracked, sku, location, seller, unit_price, line_total, metadata
FROM order_engine.order_line WHERE order_id = :id ORDER BY line_no;
-- lines of one SKU are one reservation; the engine chose the same stock row for all
SELECT sku, location, slot, quantity, state, ref, expires_at - created_at AS hold FROM order_engine.reservation WHERE reservation_id = :id ORDER BY sku;
SELECT sku, on_hand, reserved FROM order_engine.stock ORDER BY sku;
SELECT sku, on_hand_delta, reserved_delta, kind, reason, actor FROM order_engine.stock_movement WHERE reference_id = :id ORDER BY sku;
SELECT entity, entity_id = :'id' AS is_order, seq, event, from_state, to_state, machine_id, tenant, actor, correlation_id
FROM order_engine.history WHERE order_id = :id;
SELECT aggregatetype, aggregateid = :'id' AS is_order, aggregate_seq, type, headers - 'traceparent' AS headers,
	payload - 'order_id' - 'lines' AS payload
FROM order_engine.outbox;
SELECT jsonb_array_elements(payload -> 'lines') AS lines FROM order_engine.outbox;
SELECT count(*) AS of_the_same_transaction
FROM order_engine.outbox b JOIN order_engine.orders o ON o.last_txid = b.txid AND o.updated_at = b.created_at;
SELECT * FROM order_engine.verify_stock();

-- defaults: number, channel, hold time, terms, and an order without amounts
SET order_engine.hold_time = '10min';
SELECT order_engine.place_order('customer-8', '[{"sku": "TEA", "quantity": 1}]', 'EUR') AS id2 \gset
SELECT order_number = order_id::text AS numbered_by_id, channel, tenant, terms, region, total, metadata, expires_at - placed_at AS hold
FROM order_engine.orders WHERE order_id = :id2;
RESET order_engine.hold_time;

-- the product's later price does not change an order
SELECT order_engine.upsert_product('TEA', 'Green tea, first flush', 6, 'EUR');
SELECT unit_price, line_total FROM order_engine.order_line WHERE order_id = :id2;

-- a price is needed only when the product has none, and then in any currency
SELECT order_engine.place_order('c', '[{"sku": "FREE", "quantity": 2, "unit_price": 3}, {"sku": "TEA", "quantity": 1, "unit_price": "700"}]', 'JPY') AS id3 \gset
SELECT currency, total FROM order_engine.orders WHERE order_id = :id3;
-- three decimals, and four
SELECT order_engine.place_order('c', '[{"sku": "FREE", "quantity": 3, "unit_price": 0.125}]', 'KWD', shipping => 1.005) AS id4 \gset
SELECT order_engine.place_order('c', '[{"sku": "FREE", "quantity": 1, "unit_price": "0.0001"}]', 'CLF') AS id5 \gset
SELECT currency, lines_total, shipping, total FROM order_engine.orders WHERE order_id IN (:id4, :id5) ORDER BY order_id;
-- large: exact to the last digit
SELECT order_engine.place_order('c', '[{"sku": "WRAP", "quantity": 1000000000, "unit_price": "99999999.99"}]', 'EUR', tax => 0.01) AS id6 \gset
SELECT total FROM order_engine.orders WHERE order_id = :id6;
-- all of it discounted
SELECT order_engine.place_order('c', '[{"sku": "WRAP", "quantity": 1}]', 'EUR', discount => 1.00) AS id7 \gset
SELECT total FROM order_engine.orders WHERE order_id = :id7;

-- an order without tracked lines reserves nothing
SELECT count(*) FROM order_engine.reservation WHERE reservation_id IN (:id6, :id7);

-- order numbers are unique per tenant and channel
SELECT order_engine.place_order('c', '[{"sku": "WRAP", "quantity": 1}]', 'EUR', order_number => 'N-1') IS NOT NULL AS placed;
SELECT order_engine.place_order('c', '[{"sku": "WRAP", "quantity": 1}]', 'EUR', order_number => 'N-1', channel => 'store') IS NOT NULL AS placed;
\set VERBOSITY default
SELECT order_engine.place_order('c', '[{"sku": "WRAP", "quantity": 1}]', 'EUR', order_number => 'N-1');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse

-- the other machine
BEGIN;
SET LOCAL order_engine.order_machine = 'simple';
SELECT order_engine.place_order('c', '[{"sku": "WRAP", "quantity": 1}]', 'EUR') AS id8 \gset
COMMIT;
SELECT o.state, m.name, m.version FROM order_engine.orders o JOIN order_engine.machine m USING (machine_id) WHERE order_id = :id8;

-- several calls in one query each see what the ones before them wrote
SELECT count(order_engine.place_order('c', '[{"sku": "POT", "quantity": 3}, {"sku": "TEA", "quantity": 1}]', 'EUR')) FROM generate_series(1, 3);
SELECT sku, on_hand, reserved FROM order_engine.stock WHERE sku = 'POT';
SELECT * FROM order_engine.verify_stock();

-- ids carry the shard, and stay exact in a double
SELECT order_engine.next_id() >> 44 AS shard, order_engine.next_id() < 2 ^ 53 AS exact;

-- reading
SELECT jsonb_object_keys(order_engine.order_json(:id)) AS parts ORDER BY 1;
SELECT order_engine.order_json(:id) #>> '{order,order_number}' AS order_number,
	jsonb_array_length(order_engine.order_json(:id) -> 'lines') AS lines,
	jsonb_array_length(order_engine.order_json(:id) -> 'reservations') AS reservations,
	jsonb_array_length(order_engine.order_json(:id) -> 'history') AS history;
SELECT order_number, state, lines, units, units_cancelled, total FROM order_engine.order_summary WHERE order_id = :id;
-- analysts see no personal data
SELECT count(*) FROM information_schema.columns
WHERE table_schema = 'order_engine' AND table_name = 'order_summary' AND column_name IN ('customer_id', 'metadata');
SELECT sku, product_name, location, on_hand, reserved, available FROM order_engine.stock_level ORDER BY sku;

-- a search_path of the caller's does not reach our queries
CREATE SCHEMA trap;
CREATE TABLE trap.stock (on_hand integer);
CREATE FUNCTION trap.spring(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'the trap sprang'; END$$;
CREATE OPERATOR trap.= (FUNCTION = trap.spring, LEFTARG = bigint, RIGHTARG = bigint);
SET search_path = trap, pg_catalog;
SELECT 1::bigint = 1::bigint AS trapped;
SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 1}]', 'EUR') AS id9 \gset
SELECT order_engine.cancel_order(:id9, 'test');
SELECT order_engine.order_json(:id9) #>> '{order,state}' AS state;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA trap CASCADE;
RESET client_min_messages;

-- the largest order: its event stays below 1 MiB
SELECT order_engine.upsert_product(repeat('"', 255), 'Long', 999999.99, 'EUR', tracked => false) IS NOT NULL AS made;
SELECT jsonb_agg(jsonb_build_object('sku', repeat('"', 255), 'quantity', 1000000000, 'seller', repeat('s', 225))) AS items
FROM generate_series(1, 1000) \gset large_
SELECT octet_length(:'large_items') AS items;
SELECT order_engine.place_order(repeat('"', 255), :'large_items', 'EUR', order_number => repeat('"', 255), channel => repeat('"', 255)) AS id \gset large_
SELECT jsonb_array_length(payload -> 'lines') AS lines, octet_length(payload::text) BETWEEN 786432 AND 1048576 AS below_limit
FROM order_engine.outbox WHERE aggregateid = :'large_id';

-- read-only transactions
BEGIN READ ONLY;
SELECT order_engine.place_order('c', '[{"sku": "WRAP", "quantity": 1}]', 'EUR');
ROLLBACK;
SELECT * FROM order_engine.verify_stock();
