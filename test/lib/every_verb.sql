/*
 * Calls every verb of order_engine, for 142_stranger.pl and 143_settings.pl, with
 * literals alone: what else stands in a query is looked up by the search_path of
 * the session, and that is the session's own business.  :n makes the names unique;
 * what is printed does not depend on it.
 */
\set sku A:n
\set key key:n
\set certificate '-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n'
\set certificate_key '-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\n'
SELECT order_engine.upsert_location('L1', 'One'), order_engine.upsert_location('L2', 'Two') \gset l_
SELECT order_engine.upsert_product(:'sku', E'T\\e"a''', 12.50, 'EUR', metadata => E'{"a\\\\b": [1.50, null]}') AS sku \gset p_
SELECT order_engine.adjust_stock(:'sku', 'L1', 50, 'start');
SELECT order_engine.set_slots(:'sku', 'L1', 2);
SELECT order_engine.transfer_stock(:'sku', 'L1', 'L2', 5, 'move');
SELECT order_engine.set_backorder_limit(:'sku', 'L2', 3);
SELECT order_engine.set_safety_stock(:'sku', 'L2', 1);
SELECT order_engine.set_channel_locations('web', '{L1,L2}');

\set items '[{"sku": "' :sku '", "quantity": 5}]'
\set one '[{"sku": "' :sku '", "quantity": 1}]'
SELECT order_engine.reserve_stock(:'one', ttl => '1 day 02:00:01') AS cart \gset
SELECT order_engine.release_stock(:cart, 'no');
SELECT order_engine.reserve_stock(:'one', ttl => '0.001 s') AS cart \gset
SELECT order_engine.expire_reservations(1000) AS expired \gset

SELECT order_engine.place_order('C1', :'items', 'EUR', channel => 'web', terms => 'invoice', shipping => 4.90, hold_for => '1 day 02:00',
	metadata => '{"note": "x"}', idempotency_key => :'key') AS o \gset
BEGIN;
SELECT order_engine.place_order('C1', :'items', 'EUR', channel => 'web', terms => 'invoice', shipping => 4.90, hold_for => '1 day 2 hours',
	metadata => '{"note": "x"}', idempotency_key => :'key') AS again \gset
SELECT order_engine.was_replayed();
COMMIT;
SELECT order_engine.transition('order', :o, 'confirm', E'a\\b');
SELECT order_engine.place_hold(:o, 'fraud', 'look') AS hold \gset
SELECT order_engine.release_hold(:hold, 'fine');
SELECT order_engine.request_payment(:o, 'capture', 30.10, provider => 'gate') AS t \gset
SELECT order_engine.record_payment(:t, 'success', :'key', details => '{"fee": 0.10}');
SELECT order_engine.create_fulfillment(:o, '[{"line_no": 1, "quantity": 3}]', 'L1') AS f \gset
SELECT order_engine.set_tracking(:f, '[{"number": "1"}]');
SELECT order_engine.transition('fulfillment', :f, 'ready');
SELECT order_engine.transition('fulfillment', :f, 'ship');
SELECT order_engine.transition('fulfillment', :f, 'deliver');
SELECT order_engine.create_return(:o, '[{"line_no": 1, "quantity": 1}]', 'broken') AS r \gset
SELECT order_engine.transition('return', :r, 'approve');
SELECT order_engine.receive_return(:r);
SELECT order_engine.refund(:o, 0.50, 'sorry') AS refunds \gset
SELECT order_engine.cancel_order(:o, 'fewer', '[{"line_no": 1, "quantity": 1}]');
SELECT order_engine.allowed_events('order', :o);
SELECT order_engine.order_json(:o) AS json \gset
SELECT order_engine.place_order('C1', :'one', 'EUR') AS o2 \gset
SELECT order_engine.force_transition('order', :o2, 'cancel', 'by force');
SELECT payment_id AS p FROM order_engine.payment WHERE order_id OPERATOR(pg_catalog.=) :o \gset
SELECT order_engine.record_chargeback(:p, 0.10, :'key', 'bank') AS c \gset
SELECT order_engine.emit('test', :'key', 'test.event', '{"a": 1.50}') AS event \gset

SELECT order_engine.define_machine('order', 'variant', (SELECT definition FROM order_engine.machine WHERE machine_id OPERATOR(pg_catalog.=) 1)) AS machine \gset
SELECT order_engine.publish_machine(:machine);
SELECT order_engine.machine_diagram(:machine) AS diagram \gset
SELECT order_engine.migrate_orders(:machine, 1) AS migrated \gset

SELECT order_engine.create_endpoint(:'key', 'https://192.0.2.1/', '{test.event}', retry_schedule => '{0,5s,1h}', max_age => '2 days 03:00',
	policy => '{"pause": "90 s", "breaker_window": "00:01:30", "disable_after": "1 day 2 hours"}', headers => E'{"x-a": "b\\\\c"}') AS secret \gset
SELECT order_engine.alter_endpoint(:'key', rate => 10.5, connect_timeout => '2.5 s', client_certificate => :'certificate', client_key => :'certificate_key') AS e \gset
SELECT order_engine.pause_endpoint(:'key') AS e \gset
SELECT order_engine.rotate_secret(:'key', '1 day 02:00') AS secret \gset
SELECT order_engine.send_test_event(:'key') AS test \gset
SELECT order_engine.undelivered(:'key') AS u \gset
SELECT order_engine.replay(:'key', ARRAY[:'event']::pg_catalog.uuid[]);
SELECT order_engine.replay(:'key', '2020-01-02', 'infinity') AS replayed \gset
SELECT order_engine.redrive(:'key');
SELECT order_engine.discard_dead_letters(:'key');
SELECT order_engine.resume_endpoint(:'key') AS e \gset
SELECT retry_schedule::pg_catalog.text OPERATOR(pg_catalog.=) '{0,5s,1h}'::pg_catalog.interval[]::pg_catalog.text, rate, policy, header_names,
	pg_catalog.extract('epoch', max_age), connect_timeout OPERATOR(pg_catalog.=) '2.5 s'::pg_catalog.interval
FROM order_engine.endpoint_settings WHERE name OPERATOR(pg_catalog.=) :'key';
SELECT state OPERATOR(pg_catalog.<>) '' FROM order_engine.endpoint_status WHERE name OPERATOR(pg_catalog.=) :'key';
SELECT order_engine.drop_endpoint(:'key') AS e \gset
SELECT order_engine.reencrypt_secrets();

SELECT order_engine.run_maintenance(100000) AS maintained \gset
SELECT order_engine.adopt_database();
SELECT order_engine.verify_stock();
SELECT order_engine.verify_orders();

SELECT state, version, total, payment_status, fulfillment_status, return_status FROM order_engine.orders
WHERE order_id OPERATOR(pg_catalog.=) :o;
SELECT entity, event, from_state, to_state, reason FROM order_engine.history WHERE order_id OPERATOR(pg_catalog.=) :o
ORDER BY seq USING OPERATOR(pg_catalog.<);
SELECT type, aggregate_seq FROM order_engine.outbox WHERE aggregateid OPERATOR(pg_catalog.=) :'o'
ORDER BY aggregate_seq USING OPERATOR(pg_catalog.<);
SELECT kind, pg_catalog.sum(on_hand_delta), pg_catalog.sum(reserved_delta), pg_catalog.max(reason) FROM order_engine.stock_movement
WHERE sku OPERATOR(pg_catalog.=) :'sku' GROUP BY kind ORDER BY kind USING OPERATOR(pg_catalog.<);
SELECT location, pg_catalog.sum(on_hand), pg_catalog.sum(reserved) FROM order_engine.stock WHERE sku OPERATOR(pg_catalog.=) :'sku'
GROUP BY location ORDER BY location USING OPERATOR(pg_catalog.<);
\echo done
