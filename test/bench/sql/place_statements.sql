-- One statement after the other: twelve round trips.  The application knows by the row
-- that comes back whether the key is new; that an UPDATE found its row is not looked at.
BEGIN;
INSERT INTO idempotency_key (created_at, request_hash, scope, key, operation, result)
VALUES (now(), md5('customer-' || :c::int || '{SKU-' || :a::int || ',SKU-' || :b::int || ',SKU-' || :d::int || '}{1,2,1}EUR')::uuid,
	session_user, :k::text, 'place_order', nextval('order_id_seq'))
ON CONFLICT DO NOTHING
RETURNING result AS id \gset
SELECT (SELECT unit_price FROM product WHERE sku = 'SKU-' || :a::int) AS pa,
	(SELECT unit_price FROM product WHERE sku = 'SKU-' || :b::int) AS pb,
	(SELECT unit_price FROM product WHERE sku = 'SKU-' || :d::int) AS pd \gset
INSERT INTO orders (order_id, last_txid, machine_id, state, state_since, expires_at, order_number, customer_id,
	currency, lines_total, total, placed_at, created_at, updated_at)
VALUES (:id::bigint, pg_current_xact_id(), 1, 'pending', now(), now() + interval '30 minutes', :id::bigint, 'customer-' || :c::int,
	'EUR', :pa::numeric + 2 * :pb::numeric + :pd::numeric, :pa::numeric + 2 * :pb::numeric + :pd::numeric, now(), now(), now());
INSERT INTO order_line (order_id, line_no, quantity, tracked, sku, unit_price, line_total)
VALUES (:id::bigint, 1, 1, true, 'SKU-' || :a::int, :pa::numeric, :pa::numeric),
	(:id::bigint, 2, 2, true, 'SKU-' || :b::int, :pb::numeric, 2 * :pb::numeric),
	(:id::bigint, 3, 1, true, 'SKU-' || :d::int, :pd::numeric, :pd::numeric);
-- full
INSERT INTO history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, actor, created_at)
VALUES (:id::bigint, 'order', :id::bigint, 1, 'place', 'draft', 'pending', 1, session_user, now());
-- /full
INSERT INTO outbox (txid, created_at, aggregate_seq, leaf, shard, id, aggregatetype, aggregateid, type, payload, headers)
VALUES (pg_current_xact_id(), now(), 1, 0, hashint8(:id::bigint) & 15, gen_random_uuid(), 'order', :id::bigint, 'order.placed',
	jsonb_build_object('to', 'pending', 'from', 'draft', 'event', 'place', 'lines', jsonb_build_array(
			jsonb_build_object('line_no', 1, 'sku', 'SKU-' || :a::int, 'quantity', 1, 'unit_price', :pa::numeric, 'line_total', :pa::numeric),
			jsonb_build_object('line_no', 2, 'sku', 'SKU-' || :b::int, 'quantity', 2, 'unit_price', :pb::numeric, 'line_total', 2 * :pb::numeric),
			jsonb_build_object('line_no', 3, 'sku', 'SKU-' || :d::int, 'quantity', 1, 'unit_price', :pd::numeric, 'line_total', :pd::numeric)),
		'total', :pa::numeric + 2 * :pb::numeric + :pd::numeric, 'channel', 'default', 'version', 1, 'currency', 'EUR',
		'order_id', :id::bigint, 'customer_id', 'customer-' || :c::int, 'order_number', :id::text),
	jsonb_build_object('actor', session_user));
INSERT INTO reservation (reservation_id, expires_at, created_at, quantity, slot, sku, location, state)
VALUES (:id::bigint, now() + interval '30 minutes', now(), 1, 0, 'SKU-' || :a::int, 'default', 'held'),
	(:id::bigint, now() + interval '30 minutes', now(), 2, 0, 'SKU-' || :b::int, 'default', 'held'),
	(:id::bigint, now() + interval '30 minutes', now(), 1, 0, 'SKU-' || :d::int, 'default', 'held');
-- full
INSERT INTO stock_movement (reference_id, created_at, on_hand_delta, reserved_delta, slot, sku, location, kind, actor)
VALUES (:id::bigint, now(), 0, 1, 0, 'SKU-' || :a::int, 'default', 'reserve', session_user),
	(:id::bigint, now(), 0, 2, 0, 'SKU-' || :b::int, 'default', 'reserve', session_user),
	(:id::bigint, now(), 0, 1, 0, 'SKU-' || :d::int, 'default', 'reserve', session_user);
-- /full
UPDATE stock SET reserved = reserved + 1
WHERE sku = 'SKU-' || :a::int AND location = 'default' AND slot = 0 AND reserved + 1 <= on_hand + backorder_limit - safety_stock;
UPDATE stock SET reserved = reserved + 2
WHERE sku = 'SKU-' || :b::int AND location = 'default' AND slot = 0 AND reserved + 2 <= on_hand + backorder_limit - safety_stock;
UPDATE stock SET reserved = reserved + 1
WHERE sku = 'SKU-' || :d::int AND location = 'default' AND slot = 0 AND reserved + 1 <= on_hand + backorder_limit - safety_stock;
COMMIT;
