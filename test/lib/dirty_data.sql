\set ECHO none
-- Orders as no verb would leave them, for the views of analysts: several tenants,
-- currencies with 0 to 3 decimals, prices with more decimals than the currency,
-- orders without lines, cancelled and expired ones, drafts, every unit cancelled
-- without the order being so, days that differ between time zones, history whose
-- times go back, whose rows are missing or have no sequence, circles, forced
-- steps, amendments, rows of parts between those of the order.  Rows are written
-- by hand; everything hangs on the number of the order alone.
SET session_replication_role = replica;
BEGIN;

SELECT count(order_engine.upsert_product('P' || n, 'Product ' || n, tracked => n <> 4)) FROM generate_series(1, 5) n \g /dev/null
SELECT order_engine.upsert_location('berlin', 'Berlin') \g /dev/null
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition) VALUES
	(1001, 'ticket', 'support', 1, 'published', now(), '{"initial": "open", "states": {"open": {}, "waiting": {}, "closed": {"terminal": true}},
		"transitions": [{"event": "ask", "from": "open", "to": "waiting"}, {"event": "answer", "from": "waiting", "to": "open"},
			{"event": "close", "from": ["open", "waiting"], "to": "closed"}]}'),
	(1003, 'payment', 'test', 1, 'published', now(), '{"initial": "pending", "states": {"pending": {}, "authorized": {},
			"captured": {}, "failed": {"terminal": true}, "voided": {"terminal": true}},
		"transitions": [{"event": "authorize", "from": "pending", "to": "authorized"}, {"event": "capture", "from": "authorized", "to": "captured"}]}'),
	(1005, 'return', 'test', 1, 'published', now(), '{"initial": "requested", "states": {"requested": {}, "approved": {}, "received": {},
			"closed": {"terminal": true}, "declined": {"terminal": true}, "cancelled": {"terminal": true}},
		"transitions": [{"event": "close", "from": ["requested", "received"], "to": "closed"}]}');

-- 320 orders; those from 301 on are recent
CREATE TEMP TABLE plan AS
SELECT i, 1000 + i AS order_id,
	CASE WHEN i % 6 = 0 THEN 2 ELSE 1 END AS machine_id,
	CASE WHEN i % 5 = 0 THEN 'acme' ELSE '' END AS tenant,
	(ARRAY['web', 'store', 'app'])[i % 3 + 1] AS channel,
	CASE i % 4 WHEN 0 THEN 'north' WHEN 1 THEN 'south' END AS region,
	(ARRAY['EUR', 'USD', 'JPY', 'KWD', 'EUR', 'EUR', 'EUR'])[i % 7 + 1] AS currency,
	(ARRAY[2, 2, 0, 3, 2, 2, 2])[i % 7 + 1] AS minor_units,
	CASE WHEN i % 6 = 0
		THEN (ARRAY['pending', 'paid', 'shipped', 'delivered', 'refunded', 'cancelled', 'expired'])[i / 6 % 7 + 1]
		ELSE (ARRAY['draft', 'pending', 'confirmed', 'completed', 'cancelled', 'expired', 'confirmed', 'confirmed', 'no_such_state'])[i % 9 + 1]
	END AS state,
	CASE WHEN i > 300 THEN now() - i % 13 * interval '40 minutes'
		ELSE timestamptz '2024-03-29 21:40:00+00' + i * interval '23 minutes' END AS at,
	i % 4 AS lines
FROM generate_series(1, 320) AS i;
ANALYZE plan;

INSERT INTO order_engine.order_line (order_id, line_no, quantity, cancelled, shipped, delivered, undelivered, returned,
	tracked, sku, seller, unit_price, line_total)
SELECT q.order_id, q.n, q.quantity, q.cancelled, q.shipped, q.delivered, q.undelivered, q.returned,
	q.sku <> 4, 'P' || q.sku, q.seller, q.unit_price, round(q.unit_price * (q.quantity - q.cancelled), q.minor_units)
FROM (SELECT p.*, c.*, s.*, (p.i * n) % 5 + 1 AS sku, n,
		CASE n % 3 WHEN 1 THEN 'seller ' || p.i % 4 END AS seller,
		((p.i * 7 + n * 3) % 50 + (p.i % 8) * 0.1235)::numeric AS unit_price,
		CASE WHEN s.shipped > 1 AND p.i % 8 = 3 THEN 1 ELSE 0 END AS undelivered,
		CASE WHEN s.shipped > 0 AND p.i % 8 <> 3 THEN s.shipped - p.i % 2 ELSE 0 END AS delivered,
		CASE WHEN s.shipped > 0 AND p.i % 8 <> 3 AND p.i % 5 < 2 THEN 1 ELSE 0 END AS returned
	FROM plan p
		CROSS JOIN generate_series(1, p.lines) AS n
		CROSS JOIN LATERAL (SELECT (p.i * n) % 6 + 1 AS quantity) AS g
		CROSS JOIN LATERAL (SELECT g.quantity, CASE
			WHEN p.state IN ('cancelled', 'expired') AND p.i % 4 <> 3 THEN g.quantity
			WHEN p.state = 'refunded' OR p.i % 19 = 0 THEN g.quantity
			WHEN p.i % 5 = 1 AND n = 1 THEN g.quantity
			WHEN p.i % 5 = 2 THEN g.quantity / 2
			ELSE 0 END AS cancelled) AS c
		CROSS JOIN LATERAL (SELECT CASE
			WHEN p.state IN ('shipped', 'delivered', 'completed') THEN c.quantity - c.cancelled
			WHEN p.state = 'confirmed' AND p.i % 9 = 6 THEN (c.quantity - c.cancelled) / 2
			WHEN p.state = 'confirmed' AND p.i % 9 = 7 THEN c.quantity - c.cancelled
			ELSE 0 END AS shipped) AS s) q;

INSERT INTO order_engine.orders (order_id, version, last_txid, machine_id, on_hold, state, state_since, expires_at, tenant, channel,
	order_number, customer_id, region, terms, currency, lines_total, shipping, tax, discount, total,
	authorized_total, captured_total, refunded_total, charged_back_total, credited_total,
	payment_status, fulfillment_status, return_status,
	placed_at, confirmed_at, first_shipped_at, delivered_at, completed_at, cancelled_at, created_at, updated_at)
SELECT p.order_id, 3, pg_current_xact_id(), p.machine_id, p.i % 14 = 5, p.state, p.at + interval '30 minutes',
	CASE WHEN p.state = 'pending' AND p.i % 4 < 3 THEN CASE p.i % 4 WHEN 0 THEN now() + interval '1 hour' WHEN 1 THEN now() - interval '1 minute'
		ELSE now() - interval '1 hour' END
		WHEN p.i > 300 AND p.i % 5 = 2 THEN now() - interval '10 minutes' END,
	p.tenant, p.channel, 'N' || p.i, 'customer ' || p.i % 20, p.region, (ARRAY['prepaid', 'invoice', 'cash_on_delivery'])[p.i % 11 % 3 + 1],
	p.currency, l.total, 10, 4, CASE WHEN l.total > 5 THEN 5 ELSE 0 END, l.total + 14 - CASE WHEN l.total > 5 THEN 5 ELSE 0 END,
	m.authorized, m.captured, m.refunded, m.charged_back, m.credited,
	CASE WHEN m.captured > 0 THEN 'paid' WHEN m.authorized > 0 THEN 'authorized' ELSE 'unpaid' END,
	(ARRAY['unfulfilled', 'partially_shipped', 'shipped'])[p.i % 3 + 1],
	CASE WHEN p.i % 15 = 4 THEN 'requested' WHEN p.i % 15 = 5 THEN 'returned' ELSE 'none' END,
	CASE WHEN p.state <> 'draft' THEN p.at END,
	CASE WHEN p.state IN ('confirmed', 'completed', 'paid', 'shipped', 'delivered', 'refunded') THEN p.at + interval '10 minutes' END,
	CASE WHEN p.state IN ('completed', 'shipped', 'delivered') OR p.i % 9 IN (6, 7) THEN p.at + interval '20 minutes' END,
	CASE WHEN p.state IN ('completed', 'delivered') THEN p.at + interval '25 minutes' END,
	CASE WHEN p.state = 'completed' THEN p.at + interval '30 minutes' END,
	CASE WHEN p.state IN ('cancelled', 'expired') THEN p.at + interval '30 minutes' END,
	p.at, p.at + interval '40 minutes'
FROM plan p
	CROSS JOIN LATERAL (SELECT coalesce(sum(line_total), 0) AS total FROM order_engine.order_line l WHERE l.order_id = p.order_id) l
	CROSS JOIN LATERAL (SELECT CASE WHEN p.i % 7 IN (1, 2, 5) THEN round(l.total + p.i % 3 * 9, 0) ELSE 0 END AS captured,
		CASE WHEN p.i % 7 = 3 THEN l.total + 14 ELSE 0 END AS authorized,
		CASE WHEN p.i % 10 = 7 THEN 3 ELSE 0 END AS credited) c
	CROSS JOIN LATERAL (SELECT c.*, CASE WHEN p.i % 8 = 1 THEN least(c.captured, 7) ELSE 0 END AS refunded,
		CASE WHEN p.i % 16 = 2 THEN least(c.captured, 4) ELSE 0 END AS charged_back) m;

-- two payments for some orders, of others none; refunds and voids under way
INSERT INTO order_engine.payment (payment_id, order_id, machine_id, state, state_since, created_at, updated_at,
	amount, authorized, captured, voided, refunded, charged_back, next_attempt_at, kind, currency, provider, method)
SELECT p.order_id * 10 + n, p.order_id, 1003,
	(ARRAY['pending', 'authorized', 'captured', 'failed', 'voided'])[(p.i + n) % 5 + 1], p.at, p.at, p.at,
	50, a.authorized, a.captured, CASE WHEN (p.i + n) % 5 = 4 AND p.i % 2 = 0 THEN a.authorized - a.captured ELSE 0 END,
	least(a.captured, p.i % 3 * 10), CASE WHEN p.i % 13 = 2 THEN least(a.captured, 5) ELSE 0 END,
	CASE p.i % 12 WHEN 4 THEN now() - interval '1 hour' WHEN 5 THEN now() + interval '1 hour' END,
	(ARRAY['authorization', 'capture'])[n], p.currency, (ARRAY['adyen', 'stripe'])[p.i % 2 + 1], 'card'
FROM plan p
	CROSS JOIN generate_series(1, p.i % 3) AS n
	CROSS JOIN LATERAL (SELECT CASE WHEN (p.i + n) % 5 IN (0, 3) THEN 0 ELSE 50 END AS authorized,
		CASE WHEN (p.i + n) % 5 = 2 THEN CASE WHEN p.i % 4 = 1 THEN 30 ELSE 50 END ELSE 0 END AS captured) a;
INSERT INTO order_engine.payment_transaction (transaction_id, payment_id, order_id, amount, requested, created_at, updated_at, decided_at,
	return_id, kind, state, provider, provider_ref)
SELECT y.payment_id * 10 + n, y.payment_id, y.order_id, CASE WHEN y.order_id % 9 = n THEN 20 ELSE 25 END, 25, c.created, c.created,
	CASE WHEN s.state IN ('success', 'failure') THEN c.created END,
	CASE WHEN s.kind = 'refund' AND y.order_id % 5 < 3 THEN y.order_id * 10 + 5 END,
	s.kind, s.state, y.provider, CASE WHEN s.state <> 'initial' THEN 'ref ' || y.payment_id || '-' || n END
FROM order_engine.payment y
	CROSS JOIN generate_series(1, 3) AS n
	CROSS JOIN LATERAL (SELECT now() - (ARRAY[5, 20, 50, 70, 3000])[(y.payment_id + n) % 5 + 1] * interval '1 minute' AS created) c
	CROSS JOIN LATERAL (SELECT (ARRAY['authorization', 'capture', 'void', 'refund', 'chargeback'])[(y.payment_id / 10 + n) % 5 + 1] AS kind,
		(ARRAY['initial', 'pending', 'success', 'failure'])[(y.payment_id / 10 * 3 + n) % 4 + 1] AS state) s;

-- returns in every state; one without lines; reasons of their own for some lines
INSERT INTO order_engine.order_return (return_id, order_id, machine_id, state, state_since, created_at, updated_at, received_at, refund_amount, reason)
SELECT p.order_id * 10 + 5, p.order_id, 1005, s.state, p.at, p.at + interval '1 day', p.at,
	CASE WHEN s.state IN ('received', 'closed') THEN p.at + interval '2 days' END,
	CASE p.i % 3 WHEN 0 THEN 20 WHEN 1 THEN 30 END, (ARRAY['too_small', 'broken', 'late'])[p.i % 4 % 3 + 1]
FROM plan p
	CROSS JOIN LATERAL (SELECT (ARRAY['requested', 'approved', 'received', 'closed', 'closed', 'declined', 'cancelled'])[p.i % 11 % 7 + 1] AS state) s
WHERE p.i % 5 < 3;
INSERT INTO order_engine.return_line (return_id, line_no, quantity, open, restocked, damaged, discarded, reason)
SELECT r.return_id, l.line_no, l.quantity + 2, 0, c.came * (r.order_id % 2), c.came * (l.line_no % 2), c.came, CASE WHEN l.line_no = 2 THEN 'wrong_item' END
FROM order_engine.order_return r
	JOIN order_engine.order_line l ON l.order_id = r.order_id
	CROSS JOIN LATERAL (SELECT CASE WHEN r.received_at IS NULL THEN 0 ELSE least(1, l.quantity) END AS came) c
WHERE r.order_id % 6 <> 0;

-- reservations of orders and carts, of every age
INSERT INTO order_engine.reservation (reservation_id, expires_at, created_at, quantity, shipped, slot, sku, location, state)
SELECT l.order_id, o.expires_at, now() - (ARRAY[10, 70, 2000, 20000])[l.order_id % 4 + 1] * interval '1 minute',
	sum(l.quantity - l.cancelled - l.shipped), 0, 0, l.sku, 'berlin', CASE WHEN l.order_id % 10 = 2 THEN 'expired' ELSE 'held' END
FROM order_engine.order_line l JOIN order_engine.orders o USING (order_id)
WHERE l.tracked AND o.cancelled_at IS NULL AND l.order_id % 12 > 0
GROUP BY l.order_id, l.sku, o.expires_at
HAVING sum(l.quantity - l.cancelled - l.shipped) > 0;
INSERT INTO order_engine.reservation (reservation_id, expires_at, created_at, quantity, slot, sku, location, state, ref)
SELECT n, CASE n % 3 WHEN 0 THEN now() - interval '1 minute' WHEN 1 THEN now() + interval '1 hour' END, now() - n * n * interval '1 minute',
	n, n % 2, 'P' || n % 5 + 1, 'berlin', (ARRAY['held', 'held', 'released'])[n % 3 + 1], 'cart ' || n
FROM generate_series(1, 60) AS n;
INSERT INTO order_engine.stock (sku, location, slot, on_hand, reserved, backorder_limit)
SELECT sku, location, slot, CASE WHEN sku = 'P2' THEN 0 ELSE sum(quantity) END, sum(quantity), CASE WHEN sku = 'P2' THEN sum(quantity) ELSE 0 END
FROM order_engine.reservation WHERE state = 'held' GROUP BY sku, location, slot;

-- History: 1 place, 2 an amendment, 3 a payment begins, 4 confirm, 5 the payment moves, 6 complete.  The clock goes
-- back in some, rows are missing in others (2: nothing is lost; 4: the stay in "confirmed" is unknown).
INSERT INTO order_engine.history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, forced, actor, created_at)
SELECT p.order_id, h.entity, CASE h.entity WHEN 'order' THEN p.order_id ELSE p.order_id * 10 + 1 END::text,
	h.seq, h.event, h.from_state, h.to_state, CASE h.entity WHEN 'order' THEN p.machine_id ELSE 1003 END,
	p.i % 23 = 0 AND h.event = 'confirm', 'test',
	p.at + h.seq * (p.i % 40) * interval '1 minute' * CASE WHEN p.i % 13 = 6 AND h.seq > 3 THEN -1 ELSE 1 END
FROM plan p
	CROSS JOIN (VALUES
		(1, 'order', 'place', 'draft', 'pending'),
		(2, 'order', 'cancel_lines', 'pending', 'pending'),
		(3, 'payment', 'request', 'pending', 'pending'),
		(4, 'order', 'confirm', 'pending', 'confirmed'),
		(5, 'payment', 'authorize', 'pending', 'authorized'),
		(6, 'order', 'complete', 'confirmed', 'completed'),
		(7, 'payment', 'capture', 'authorized', 'captured')) AS h (seq, entity, event, from_state, to_state)
WHERE p.state <> 'draft' AND NOT (p.i % 17 = 4 AND h.seq = 4) AND NOT (p.i % 17 = 2 AND h.seq = 2)
	AND h.seq <= CASE p.state WHEN 'pending' THEN 3 WHEN 'confirmed' THEN 5 ELSE 7 END;
-- an order that was sent back by hand and went on: a circle
INSERT INTO order_engine.history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, forced, actor, created_at)
SELECT p.order_id, 'order', p.order_id::text, n + 7, CASE n % 2 WHEN 1 THEN 'reopen' ELSE 'complete' END,
	CASE n % 2 WHEN 1 THEN 'completed' ELSE 'confirmed' END, CASE n % 2 WHEN 1 THEN 'confirmed' ELSE 'completed' END, 1, n % 2 = 1, 'test',
	p.at + n * n * interval '1 hour'
FROM plan p CROSS JOIN generate_series(1, 4) AS n
WHERE p.state = 'completed' AND p.i % 5 = 0;
-- rows of an application's table: no order, some without a sequence, in circles
INSERT INTO order_engine.history (entity, entity_id, seq, event, from_state, to_state, machine_id, actor, created_at)
SELECT 'ticket', 't' || k, CASE WHEN k % 2 = 0 THEN n END, CASE n % 2 WHEN 1 THEN 'ask' ELSE 'answer' END,
	CASE n % 2 WHEN 1 THEN 'open' ELSE 'waiting' END, CASE n % 2 WHEN 1 THEN 'waiting' ELSE 'open' END, 1001, 'test',
	timestamptz '2026-01-01 00:00+00' + (n * n * k) * interval '1 minute'
FROM generate_series(1, 20) AS k, generate_series(1, k) AS n;
COMMIT;
RESET session_replication_role;
\set ECHO all
