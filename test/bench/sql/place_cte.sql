-- One statement, written for exactly three lines: each UPDATE of stock waits for the one
-- before it, so the rows are locked in order; fewer than three updated rows is an error.
WITH key AS (
	INSERT INTO idempotency_key (created_at, request_hash, scope, key, operation, result)
	VALUES (now(), md5('customer-' || :c::int || '{SKU-' || :a::int || ',SKU-' || :b::int || ',SKU-' || :d::int || '}{1,2,1}EUR')::uuid,
		session_user, :k::text, 'place_order', nextval('order_id_seq'))
	RETURNING result::bigint AS id),
line AS (
	INSERT INTO order_line (order_id, line_no, quantity, tracked, sku, unit_price, line_total)
	SELECT key.id, i.n, i.quantity, p.tracked, p.sku, p.unit_price, i.quantity * p.unit_price
	FROM key, (VALUES (1, 1, 'SKU-' || :a::int), (2, 2, 'SKU-' || :b::int), (3, 1, 'SKU-' || :d::int)) AS i (n, quantity, sku)
	JOIN product p USING (sku)
	RETURNING order_id, line_no, quantity, sku, unit_price, line_total),
total AS MATERIALIZED (
	SELECT order_id AS id, sum(line_total) AS total,
		jsonb_agg(jsonb_build_object('line_no', line_no, 'sku', sku, 'quantity', quantity,
			'unit_price', unit_price, 'line_total', line_total)) AS lines
	FROM line GROUP BY order_id),
placed AS (
	INSERT INTO orders (order_id, last_txid, machine_id, state, state_since, expires_at, order_number, customer_id,
		currency, lines_total, total, placed_at, created_at, updated_at)
	SELECT id, pg_current_xact_id(), 1, 'pending', now(), now() + interval '30 minutes', id,
		'customer-' || :c::int, 'EUR', total, total, now(), now(), now()
	FROM total),
-- full
noted AS (
	INSERT INTO history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, actor, created_at)
	SELECT id, 'order', id, 1, 'place', 'draft', 'pending', 1, session_user, now() FROM key),
-- /full
event AS (
	INSERT INTO outbox (txid, created_at, aggregate_seq, leaf, shard, id, aggregatetype, aggregateid, type, payload, headers)
	SELECT pg_current_xact_id(), now(), 1, 0, hashint8(id) & 15, gen_random_uuid(), 'order', id, 'order.placed',
		jsonb_build_object('to', 'pending', 'from', 'draft', 'event', 'place', 'lines', lines, 'total', total,
			'channel', 'default', 'version', 1, 'currency', 'EUR', 'order_id', id,
			'customer_id', 'customer-' || :c::int, 'order_number', id::text),
		jsonb_build_object('actor', session_user)
	FROM total),
held AS (
	INSERT INTO reservation (reservation_id, expires_at, created_at, quantity, slot, sku, location, state)
	SELECT id, now() + interval '30 minutes', now(), i.quantity, 0, i.sku, 'default', 'held'
	FROM key, (VALUES (1, 'SKU-' || :a::int), (2, 'SKU-' || :b::int), (1, 'SKU-' || :d::int)) AS i (quantity, sku)),
-- full
moved AS (
	INSERT INTO stock_movement (reference_id, created_at, on_hand_delta, reserved_delta, slot, sku, location, kind, actor)
	SELECT id, now(), 0, i.quantity, 0, i.sku, 'default', 'reserve', session_user
	FROM key, (VALUES (1, 'SKU-' || :a::int), (2, 'SKU-' || :b::int), (1, 'SKU-' || :d::int)) AS i (quantity, sku)),
-- /full
one AS (
	UPDATE stock SET reserved = reserved + 1
	WHERE sku = 'SKU-' || :a::int AND location = 'default' AND slot = 0 AND reserved + 1 <= on_hand + backorder_limit - safety_stock
	RETURNING true AS taken),
two AS (
	UPDATE stock SET reserved = reserved + 2 FROM one
	WHERE sku = 'SKU-' || :b::int AND location = 'default' AND slot = 0 AND reserved + 2 <= on_hand + backorder_limit - safety_stock
	RETURNING true AS taken),
three AS (
	UPDATE stock SET reserved = reserved + 1 FROM two
	WHERE sku = 'SKU-' || :d::int AND location = 'default' AND slot = 0 AND reserved + 1 <= on_hand + backorder_limit - safety_stock
	RETURNING true AS taken)
SELECT id, 1 / (SELECT count(*) FROM three) AS all_taken FROM key;
