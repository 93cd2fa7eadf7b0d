-- Cancelling an order, whole or in part.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE TEMP VIEW level AS
SELECT sku, location, on_hand, reserved FROM order_engine.stock ORDER BY sku COLLATE "C", location COLLATE "C";

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR'), order_engine.upsert_product('B', 'B', 2.50, 'EUR'),
	order_engine.upsert_product('S', 'S', 1, 'EUR', tracked => false);
SELECT order_engine.upsert_location('near', 'Near', priority => 1);
SELECT order_engine.adjust_stock('A', 'near', 3, 'r'), order_engine.adjust_stock('A', 'default', 10, 'r'), order_engine.adjust_stock('B', 'default', 10, 'r');

-- the whole order
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 5}, {"sku": "S", "quantity": 1}]', 'EUR') AS id \gset
SELECT * FROM level;
SELECT order_engine.cancel_order(:id, 'changed his mind');
SELECT state, version, total, cancelled_at = state_since AS stamped, expires_at IS NULL AS no_limit FROM order_engine.orders WHERE order_id = :id;
SELECT line_no, quantity, cancelled FROM order_engine.order_line WHERE order_id = :id ORDER BY line_no;
SELECT location, quantity, state FROM order_engine.reservation WHERE reservation_id = :id ORDER BY location;
SELECT location, kind, reserved_delta, reason FROM order_engine.stock_movement WHERE reference_id = :id AND kind = 'release' ORDER BY location;
SELECT seq, event, from_state, to_state, reason FROM order_engine.history WHERE order_id = :id ORDER BY seq;
SELECT aggregate_seq, type, payload ->> 'reason' AS reason FROM order_engine.outbox WHERE aggregateid = :'id' ORDER BY 1;
SELECT * FROM level;
-- a second time: the order is cancelled already, which is what was asked for
SELECT order_engine.cancel_order(:id, 'again');
SELECT version FROM order_engine.orders WHERE order_id = :id;

-- some units: stock, totals, version, history and event
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 5}, {"sku": "B", "quantity": 4, "location": "default"}, {"sku": "S", "quantity": 2}]', 'EUR',
	shipping => 5, tax => 3, discount => 10) AS id \gset
SELECT lines_total, total FROM order_engine.orders WHERE order_id = :id;
SELECT order_engine.cancel_order(:id, 'too many', '[{"line_no": 1, "quantity": 1}, {"line_no": 3, "quantity": 1}, {"line_no": 1, "quantity": 1}]');
SELECT state, version, lines_total, shipping, tax, discount, total FROM order_engine.orders WHERE order_id = :id;
SELECT line_no, quantity, cancelled, unit_price, line_total FROM order_engine.order_line WHERE order_id = :id ORDER BY line_no;
SELECT sku, location, quantity, state FROM order_engine.reservation WHERE reservation_id = :id ORDER BY sku, location;
SELECT seq, event, from_state, to_state, reason FROM order_engine.history WHERE order_id = :id ORDER BY seq;
SELECT aggregate_seq, type, payload -> 'version' AS version, payload -> 'total' AS total, payload -> 'lines' AS lines
FROM order_engine.outbox WHERE aggregateid = :'id' AND type = 'order.lines_cancelled';
SELECT order_engine.cancel_order(:id, 'no B', '[{"line_no": 2, "quantity": 4}]');
SELECT line_no, quantity, cancelled, line_total FROM order_engine.order_line WHERE order_id = :id ORDER BY line_no;
SELECT sku, location, quantity, state FROM order_engine.reservation WHERE reservation_id = :id ORDER BY sku, location;
SELECT * FROM level;
SELECT * FROM order_engine.verify_stock();
-- more than is left
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r', '[{"line_no": 1, "quantity": 3}, {"line_no": 1, "quantity": 1}]')$$, :id));
-- the discount was meant for a larger order
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r', '[{"line_no": 1, "quantity": 3}]')$$, :id));
-- an order that lost units can still be confirmed
UPDATE order_engine.orders SET terms = 'invoice' WHERE order_id = :id;
SELECT order_engine.transition('order', :id, 'confirm');
-- and units of a confirmed order can be cancelled; with the last ones the order is
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 1}]');
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 2}, {"line_no": 3, "quantity": 1}]');
SELECT state, version FROM order_engine.orders WHERE order_id = :id;
SELECT order_engine.order_json(:id) -> 'reservations' -> 0 ->> 'state' AS reservation;
-- nothing more to cancel in part
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r', '[{"line_no": 1, "quantity": 1}]')$$, :id));
SELECT sum(reserved) AS reserved FROM level;
-- the sequence of the aggregate has no gaps, and last_txid is that of the last event
SELECT aggregate_seq, type FROM order_engine.outbox WHERE aggregateid = :'id' ORDER BY 1;
SELECT o.last_txid = b.txid AS last FROM order_engine.orders o JOIN order_engine.outbox b ON b.aggregateid = o.order_id::text AND b.aggregate_seq = o.version
WHERE order_id = :id;

-- units of a shipped order
BEGIN;
SET LOCAL order_engine.order_machine = 'simple';
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 1}]', 'EUR', terms => 'invoice') AS id \gset
COMMIT;
SELECT order_engine.transition('order', :id, 'pay'), order_engine.transition('order', :id, 'ship');
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r')$$, :id));
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r', '[{"line_no": 1, "quantity": 1}]')$$, :id));

-- when the stock of the order has expired, cancelling gives back what is left
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 13}, {"sku": "B", "quantity": 2}]', 'EUR', hold_for => '1 millisecond') AS id \gset
SELECT pg_sleep(0.01);
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 13}]') IS NOT NULL AS reserved;
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 1}, {"line_no": 2, "quantity": 1}]');
SELECT order_engine.cancel_order(:id, 'r');
SELECT * FROM level;
SELECT * FROM order_engine.verify_stock();
