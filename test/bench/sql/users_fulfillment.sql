-- The warehouse: confirm and ship the order, the next time deliver it, after that only look.
\if :mine = 0
\set mine :first + :client_id
\endif
\if :stage = 0
\set stage 1
BEGIN;
SELECT order_engine.transition('order', :mine::bigint, 'confirm');
SELECT order_engine.create_fulfillment(:mine::bigint) AS shipped \gset
SELECT order_engine.transition('fulfillment', :shipped::bigint, 'ready');
SELECT order_engine.transition('fulfillment', :shipped::bigint, 'ship');
COMMIT;
\elif :stage = 1
\set stage 2
SELECT order_engine.transition('fulfillment', :shipped::bigint, 'deliver');
\else
SELECT state, fulfillment_status FROM order_engine.orders WHERE order_id = :mine::bigint;
\endif
