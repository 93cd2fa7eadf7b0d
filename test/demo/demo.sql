--
-- The demo: a shop takes orders, and its warehouse hears of each by webhook.
-- test/demo/run runs it, and has started the receiver that plays the warehouse.
--
\pset footer off
\getenv receiver OE_RECEIVER
\set ECHO queries

\echo
\echo '=== 1. The extension, and a webhook endpoint for the warehouse'
\echo
CREATE EXTENSION order_engine;
SELECT order_engine.create_endpoint('warehouse', :'receiver' || '/warehouse') AS secret \gset
\setenv OE_SECRET :secret
\! printf '/warehouse %s\n' "$OE_SECRET" >"$OE_SECRETS"
\echo '   >> the receiver was given the secret and checks every signature with it'

\echo
\echo '=== 2. Products and stock'
\echo
SELECT order_engine.upsert_location('berlin', 'Berlin warehouse');
SELECT order_engine.upsert_product('TEA', 'Green tea, 100 g', 7.90, 'EUR');
SELECT order_engine.upsert_product('POT', 'Teapot', 34.50, 'EUR');
SELECT order_engine.adjust_stock('TEA', 'berlin', 10, 'delivery');
SELECT order_engine.adjust_stock('POT', 'berlin', 2, 'delivery');

\echo
\echo '=== 3. An order is placed: order, stock, history and event in one transaction'
\echo
SELECT order_engine.place_order(
	customer_id => 'ada',
	items => '[{"sku": "TEA", "quantity": 3}, {"sku": "POT", "quantity": 1}]',
	currency => 'EUR', shipping => 4.90, terms => 'invoice',
	idempotency_key => 'cart-1') AS order_id \gset
\echo '   >> the order is' :order_id
SELECT sku, location, on_hand, reserved FROM order_engine.stock ORDER BY sku;
\i test/demo/show.sql

\echo
\echo '=== 4. The client did not hear the answer and sends it again: same order, no second event'
\echo
SELECT order_engine.place_order(
	customer_id => 'ada',
	items => '[{"sku": "TEA", "quantity": 3}, {"sku": "POT", "quantity": 1}]',
	currency => 'EUR', shipping => 4.90, terms => 'invoice',
	idempotency_key => 'cart-1') = :order_id AS same_order;
SELECT pg_catalog.count(*) AS orders FROM order_engine.orders;
\i test/demo/show.sql

\echo
\echo '=== 5. The order goes through its states; each step is an event, in order'
\echo
SELECT * FROM order_engine.allowed_events('order', :order_id);
SELECT order_engine.transition('order', :order_id, 'confirm');
\i test/demo/show.sql

\echo
\echo '=== 6. What the state machine does not allow is refused, by function and by hand'
\echo
\set ON_ERROR_STOP off
SELECT order_engine.transition('order', :order_id, 'expire');
\set ON_ERROR_STOP on
\set expected OE001
\i test/demo/refused.sql
\set ON_ERROR_STOP off
UPDATE order_engine.orders SET state = 'pending' WHERE order_id = :order_id;
\set ON_ERROR_STOP on
\set expected OE001
\i test/demo/refused.sql

\echo
\echo '=== 7. Nothing is sold twice: one teapot is left, this basket wants two'
\echo
\set ON_ERROR_STOP off
SELECT order_engine.place_order(
	customer_id => 'bob', items => '[{"sku": "POT", "quantity": 2}]', currency => 'EUR');
\set ON_ERROR_STOP on
\set expected OE201
\i test/demo/refused.sql
SELECT pg_catalog.count(*) AS orders FROM order_engine.orders;

\echo
\echo '=== 8. Parcels, money, and a teapot that comes back'
\echo
SELECT order_engine.create_fulfillment(:order_id, location => 'berlin',
	tracking => '[{"carrier": "DHL", "number": "4711"}]') AS parcel \gset
SELECT order_engine.transition('fulfillment', :parcel, 'ready');
SELECT order_engine.transition('fulfillment', :parcel, 'ship');
SELECT order_engine.transition('fulfillment', :parcel, 'deliver');
-- the payment service would hear of the request by webhook, and report what became of it
SELECT order_engine.request_payment(:order_id, 'capture', method => 'card', provider => 'bank') AS request \gset
SELECT order_engine.record_payment(:request, 'success', provider_ref => 'ch_1');
SELECT state, payment_status, fulfillment_status, total, captured_total, balance
FROM order_engine.order_summary WHERE order_id = :order_id;
\echo '   >> all is delivered and paid, so the order has completed by itself'
SELECT order_engine.create_return(:order_id, '[{"line_no": 2, "quantity": 1}]', 'broken spout') AS rma \gset
SELECT order_engine.transition('return', :rma, 'approve');
SELECT order_engine.receive_return(:rma, '[{"line_no": 2, "quantity": 1, "disposition": "damaged"}]');
SELECT order_engine.transition('return', :rma, 'close');
SELECT state, payment_status, return_status, credited_total, balance
FROM order_engine.order_summary WHERE order_id = :order_id;
\echo '   >> closing it has requested the refund, of which the payment service hears'
\i test/demo/show.sql

\echo
\echo '=== 9. An order on another machine, from payment to delivery, and one that is cancelled'
\echo
SET order_engine.order_machine = 'simple';
SELECT order_engine.place_order(
	customer_id => 'bob', items => '[{"sku": "POT", "quantity": 1}]', currency => 'EUR') AS bobs \gset
SELECT order_engine.transition('order', :bobs, 'pay');
SELECT order_engine.transition('order', :bobs, 'ship');
SELECT order_engine.transition('order', :bobs, 'deliver');
RESET order_engine.order_machine;
SELECT order_engine.place_order(
	customer_id => 'eve', items => '[{"sku": "TEA", "quantity": 7}]', currency => 'EUR') AS eves \gset
SELECT order_engine.transition('order', :eves, 'cancel', reason => 'changed her mind');
\i test/demo/show.sql
SELECT sku, location, on_hand, reserved FROM order_engine.stock ORDER BY sku;

\echo
\echo '=== 10. What there is to see afterwards'
\echo
SELECT order_id, order_number, state, payment_status, fulfillment_status, total, currency, version
FROM order_engine.order_summary ORDER BY order_id;
SELECT * FROM order_engine.stock_level ORDER BY sku;
SELECT name, status, state, retrying, dead, lag_events, advice FROM order_engine.endpoint_status;
SELECT event, from_state, to_state, reason FROM order_engine.history WHERE order_id = :eves ORDER BY seq;
SELECT * FROM order_engine.sales_by_sku ORDER BY sku;
SELECT pg_catalog.jsonb_pretty(order_engine.order_json(:bobs));
SELECT (SELECT pg_catalog.count(*) FROM order_engine.verify_orders()) + (SELECT pg_catalog.count(*) FROM order_engine.verify_stock()) AS mismatches;

\set ECHO none
\echo
\echo 'Shown: an order is one transaction with its stock and its event; a repeated request'
\echo 'changes nothing; illegal steps and overselling are refused; every committed event'
\echo 'reached the warehouse, in the order of its sequence, with a signature that verified.'
