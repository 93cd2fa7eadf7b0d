-- The same statements in one round trip: nothing comes back before all were sent, so the
-- id is the sequence's current value and prices are read where they are needed. (currval is volatile:
-- only within a sub-SELECT does it let the table be read by its index.)
\startpipeline
BEGIN;
INSERT INTO idempotency_key (created_at, request_hash, scope, key, operation, result)
VALUES (now(), md5('customer-' || :c::int || '{SKU-' || :a::int || ',SKU-' || :b::int || ',SKU-' || :d::int || '}{1,2,1}EUR')::uuid,
	session_user, :k::text, 'place_order', nextval('order_id_seq'));
INSERT INTO order_line (order_id, line_no, quantity, tracked, sku, unit_price, line_total)
SELECT currval('order_id_seq'), i.n, i.quantity, p.tracked, p.sku, p.unit_price, i.quantity * p.unit_price
FROM (VALUES (1, 1, 'SKU-' || :a::int), (2, 2, 'SKU-' || :b::int), (3, 1, 'SKU-' || :d::int)) AS i (n, quantity, sku)
JOIN product p USING (sku);
INSERT INTO orders (order_id, last_txid, machine_id, state, state_since, expires_at, order_number, customer_id,
	currency, lines_total, total, placed_at, created_at, updated_at)
SELECT currval('order_id_seq'), pg_current_xact_id(), 1, 'pending', now(), now() + interval '30 minutes', currval('order_id_seq'),
	'customer-' || :c::int, 'EUR', sum(line_total), sum(line_total), now(), now(), now()
FROM order_line WHERE order_id = (SELECT currval('order_id_seq'));
-- full
INSERT INTO history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, actor, created_at)
VALUES (currval('order_id_seq'), 'order', currval('order_id_seq'), 1, 'place', 'draft', 'pending', 1, session_user, now());
-- /full
INSERT INTO outbox (txid, created_at, aggregate_seq, leaf, shard, id, aggregatetype, aggregateid, type, payload, headers)
SELECT pg_current_xact_id(), now(), 1, 0, hashint8(currval('order_id_seq')) & 15, gen_random_uuid(), 'order',
	currval('order_id_seq'), 'order.placed',
	jsonb_build_object('to', 'pending', 'from', 'draft', 'event', 'place',
		'lines', jsonb_agg(jsonb_build_object('line_no', line_no, 'sku', sku, 'quantity', quantity,
			'unit_price', unit_price, 'line_total', line_total)),
		'total', sum(line_total), 'channel', 'default', 'version', 1, 'currency', 'EUR', 'order_id', currval('order_id_seq'),
		'customer_id', 'customer-' || :c::int, 'order_number', currval('order_id_seq')::text),
	jsonb_build_object('actor', session_user)
FROM order_line WHERE order_id = (SELECT currval('order_id_seq'));
INSERT INTO reservation (reservation_id, expires_at, created_at, quantity, slot, sku, location, state)
VALUES (currval('order_id_seq'), now() + interval '30 minutes', now(), 1, 0, 'SKU-' || :a::int, 'default', 'held'),
	(currval('order_id_seq'), now() + interval '30 minutes', now(), 2, 0, 'SKU-' || :b::int, 'default', 'held'),
	(currval('order_id_seq'), now() + interval '30 minutes', now(), 1, 0, 'SKU-' || :d::int, 'default', 'held');
-- full
INSERT INTO stock_movement (reference_id, created_at, on_hand_delta, reserved_delta, slot, sku, location, kind, actor)
VALUES (currval('order_id_seq'), now(), 0, 1, 0, 'SKU-' || :a::int, 'default', 'reserve', session_user),
	(currval('order_id_seq'), now(), 0, 2, 0, 'SKU-' || :b::int, 'default', 'reserve', session_user),
	(currval('order_id_seq'), now(), 0, 1, 0, 'SKU-' || :d::int, 'default', 'reserve', session_user);
-- /full
UPDATE stock SET reserved = reserved + 1
WHERE sku = 'SKU-' || :a::int AND location = 'default' AND slot = 0 AND reserved + 1 <= on_hand + backorder_limit - safety_stock;
UPDATE stock SET reserved = reserved + 2
WHERE sku = 'SKU-' || :b::int AND location = 'default' AND slot = 0 AND reserved + 2 <= on_hand + backorder_limit - safety_stock;
UPDATE stock SET reserved = reserved + 1
WHERE sku = 'SKU-' || :d::int AND location = 'default' AND slot = 0 AND reserved + 1 <= on_hand + backorder_limit - safety_stock;
COMMIT;
\endpipeline
