/* What finance and the warehouse look at: money, reservations and returns that need attention. */

CREATE VIEW order_engine.payment_reconciliation AS
WITH
	-- refunds and voids that were requested and have no answer yet are on their way
	under_way AS (
		SELECT t.order_id, t.payment_id,
			coalesce(pg_catalog.sum(t.amount) FILTER (WHERE t.kind = 'refund'), 0) AS refunds,
			coalesce(pg_catalog.sum(t.amount) FILTER (WHERE t.kind = 'void'), 0) AS voids
		FROM order_engine.payment_transaction t
		WHERE t.state IN ('initial', 'pending')
		GROUP BY t.order_id, t.payment_id),
	order_under_way AS (
		SELECT u.order_id, pg_catalog.sum(u.refunds) AS refunds
		FROM under_way u
		GROUP BY u.order_id),
	account AS (
		SELECT o.order_id, o.cancelled_at, o.state_since, o.updated_at, o.total - o.credited_total AS owed,
			o.captured_total, o.charged_back_total,
			o.captured_total - o.refunded_total - o.charged_back_total AS paid,
			coalesce(u.refunds, 0) AS refunds,
			coalesce(s.terminal, false) AS terminal, o.completed_at
		FROM order_engine.orders o
			LEFT JOIN order_engine.machine_state s ON s.machine_id = o.machine_id AND s.state = o.state
			LEFT JOIN order_under_way u ON u.order_id = o.order_id),
	-- by return: what should be refunded for it, and what was or is being refunded
	return_account AS (
		SELECT r.return_id, r.order_id, r.received_at, r.refund_amount,
			coalesce(r.refund_amount, (
				SELECT pg_catalog.sum(pg_catalog.round(l.unit_price * (n.restocked + n.damaged + n.discarded), c.minor_units))
				FROM order_engine.return_line n
					JOIN order_engine.order_line l ON l.order_id = r.order_id AND l.line_no = n.line_no
					JOIN order_engine.orders o ON o.order_id = r.order_id
					JOIN order_engine.currency c ON c.currency = o.currency
				WHERE n.return_id = r.return_id), 0) AS due,
			(SELECT coalesce(pg_catalog.sum(t.amount), 0)
			 FROM order_engine.payment_transaction t
			 WHERE t.order_id = r.order_id AND t.return_id = r.return_id
				AND t.kind = 'refund' AND t.state <> 'failure') AS refunded
		FROM order_engine.order_return r
			JOIN order_engine.machine_state s ON s.machine_id = r.machine_id AND s.state = r.state
		WHERE s.terminal AND r.received_at IS NOT NULL),
	finding AS (
		SELECT 'no_answer' AS finding, t.order_id, t.payment_id, t.transaction_id, NULL::bigint AS return_id,
			t.amount, NULL::numeric AS expected, t.created_at AS since,
			'Ask the payment service what became of it and report that with record_payment().' AS what_to_do
		FROM order_engine.payment_transaction t
		WHERE t.state = 'initial' AND t.created_at < pg_catalog.now() - interval '15 minutes'
		UNION ALL
		SELECT 'pending_long', t.order_id, t.payment_id, t.transaction_id, NULL,
			t.amount, NULL, t.created_at,
			'Ask the payment service what became of it and report that with record_payment().'
		FROM order_engine.payment_transaction t
		WHERE t.state = 'pending' AND t.created_at < pg_catalog.now() - interval '1 hour'
		UNION ALL
		SELECT 'retry_overdue', p.order_id, p.payment_id, NULL, NULL,
			p.amount, NULL, p.next_attempt_at,
			'See that maintenance runs: the next attempt was due.'
		FROM order_engine.payment p
		WHERE p.next_attempt_at < pg_catalog.now() - interval '15 minutes'
		UNION ALL
		SELECT 'amount_differs', t.order_id, t.payment_id, t.transaction_id, NULL,
			t.amount, t.requested, t.decided_at,
			'The payment service reported another amount than was requested: compare with its statement.'
		FROM order_engine.payment_transaction t
		WHERE t.state = 'success' AND t.amount <> t.requested
		UNION ALL
		SELECT 'captured_on_dead_order', p.order_id, p.payment_id, NULL, NULL,
			p.captured - p.refunded - p.charged_back - coalesce(u.refunds, 0), 0, a.cancelled_at,
			'The order is cancelled or expired: refund the money.'
		FROM order_engine.payment p
			JOIN account a ON a.order_id = p.order_id
			LEFT JOIN under_way u ON u.payment_id = p.payment_id
		WHERE a.cancelled_at IS NOT NULL
			AND p.captured - p.refunded - p.charged_back - coalesce(u.refunds, 0) > 0
		UNION ALL
		SELECT 'authorized_on_dead_order', p.order_id, p.payment_id, NULL, NULL,
			p.authorized - p.captured - p.voided - coalesce(u.voids, 0), 0, a.cancelled_at,
			'The order is cancelled or expired: void the authorization.'
		FROM order_engine.payment p
			JOIN account a ON a.order_id = p.order_id
			LEFT JOIN under_way u ON u.payment_id = p.payment_id
		WHERE a.cancelled_at IS NOT NULL AND p.state IN ('authorized', 'captured')
			AND p.authorized - p.captured - p.voided - coalesce(u.voids, 0) > 0
		UNION ALL
		SELECT 'refund_due', a.order_id, NULL, NULL, NULL,
			a.paid - a.refunds, a.owed, a.updated_at,
			'More was captured than the order costs: refund the difference.'
		FROM account a
		WHERE a.cancelled_at IS NULL AND a.paid - a.refunds > a.owed
		UNION ALL
		SELECT 'charged_back', a.order_id, NULL, NULL, NULL,
			a.paid, a.owed, a.updated_at,
			'The bank took money back: contest it, collect it in another way, or credit it.'
		FROM account a
		WHERE a.cancelled_at IS NULL AND a.charged_back_total > 0 AND a.paid < a.owed
		UNION ALL
		SELECT 'underpaid', a.order_id, NULL, NULL, NULL,
			a.paid, a.owed, a.state_since,
			'The order has ended and is not paid in full: collect the difference or credit it.'
		FROM account a
		WHERE a.cancelled_at IS NULL AND a.charged_back_total = 0 AND a.terminal AND a.paid < a.owed
			AND (a.captured_total > 0 OR a.completed_at IS NOT NULL)
		UNION ALL
		SELECT 'return_not_refunded', r.order_id, NULL, NULL, r.return_id,
			r.refunded, r.due, r.received_at,
			'The goods came back and the return has ended: refund the customer.'
		FROM return_account r
			JOIN account a ON a.order_id = r.order_id
		WHERE a.paid - a.refunds > 0
			AND CASE WHEN r.refund_amount IS NULL THEN r.due > 0 AND r.refunded = 0 ELSE r.refunded < r.due END)
SELECT f.finding, o.tenant, f.order_id, o.channel, o.order_number, o.state AS order_state,
	f.payment_id, f.transaction_id, f.return_id,
	coalesce(t.kind, p.kind) AS kind, coalesce(t.provider, p.provider) AS provider, t.provider_ref,
	coalesce(o.currency, p.currency) AS currency, f.amount, f.expected, f.since, pg_catalog.now() - f.since AS age,
	f.what_to_do
FROM finding f
	LEFT JOIN order_engine.orders o ON o.order_id = f.order_id
	LEFT JOIN order_engine.payment p ON p.payment_id = f.payment_id
	LEFT JOIN order_engine.payment_transaction t ON t.transaction_id = f.transaction_id;
COMMENT ON VIEW order_engine.payment_reconciliation IS
'What of the money needs attention, one row a finding; a transaction, payment or order can have several.';
COMMENT ON COLUMN order_engine.payment_reconciliation.finding IS
'no_answer: requested 15 minutes ago or earlier, nothing heard. pending_long: pending for more than 1 hour. retry_overdue: the next attempt was due 15 minutes ago or earlier. amount_differs: success with another amount than requested. captured_on_dead_order, authorized_on_dead_order: the order is cancelled or expired and the money is not being given back. refund_due: more is captured than the order costs, refunds under way taken into account. charged_back: a bank took money back and the order is no longer paid. underpaid: the order has ended and is not paid in full. return_not_refunded: the goods came back, the return has ended and too little was refunded.';
COMMENT ON COLUMN order_engine.payment_reconciliation.tenant IS 'order_engine.tenant when the order was placed; empty without tenants.';
COMMENT ON COLUMN order_engine.payment_reconciliation.order_id IS 'The order.';
COMMENT ON COLUMN order_engine.payment_reconciliation.channel IS 'Its sales channel.';
COMMENT ON COLUMN order_engine.payment_reconciliation.order_number IS 'Its number for people.';
COMMENT ON COLUMN order_engine.payment_reconciliation.order_state IS 'Its state.';
COMMENT ON COLUMN order_engine.payment_reconciliation.payment_id IS 'The payment; null when the finding is about the whole order.';
COMMENT ON COLUMN order_engine.payment_reconciliation.transaction_id IS 'The transaction; null when the finding is not about one.';
COMMENT ON COLUMN order_engine.payment_reconciliation.return_id IS 'The return; null when the finding is not about one.';
COMMENT ON COLUMN order_engine.payment_reconciliation.kind IS 'Kind of the transaction, else of the payment.';
COMMENT ON COLUMN order_engine.payment_reconciliation.provider IS 'The payment service.';
COMMENT ON COLUMN order_engine.payment_reconciliation.provider_ref IS 'The service''s own reference of the transaction; null until reported.';
COMMENT ON COLUMN order_engine.payment_reconciliation.currency IS 'ISO 4217 code of the amounts.';
COMMENT ON COLUMN order_engine.payment_reconciliation.amount IS
'The amount in question, in currency: of the transaction or payment; for money on a dead order what is still to be given back; for refund_due, charged_back and underpaid what is captured and not given back; for return_not_refunded what was refunded for it.';
COMMENT ON COLUMN order_engine.payment_reconciliation.expected IS 'What the amount should be, in currency; null where that is not the question.';
COMMENT ON COLUMN order_engine.payment_reconciliation.since IS 'Since when, or when the order was last changed.';
COMMENT ON COLUMN order_engine.payment_reconciliation.age IS 'How long ago that is.';
COMMENT ON COLUMN order_engine.payment_reconciliation.what_to_do IS 'What helps, a sentence.';

CREATE VIEW order_engine.reservation_aging AS
SELECT o.tenant, CASE WHEN o.order_id IS NULL THEN 'cart' ELSE 'order' END AS holder, r.sku, r.location,
	pg_catalog.count(DISTINCT r.reservation_id) AS reservations,
	pg_catalog.sum(r.quantity) AS units,
	coalesce(pg_catalog.sum(r.quantity) FILTER (WHERE r.expires_at IS NULL), 0) AS units_without_limit,
	coalesce(pg_catalog.sum(r.quantity) FILTER (WHERE r.expires_at <= pg_catalog.now()), 0) AS units_past_limit,
	coalesce(pg_catalog.sum(r.quantity) FILTER (WHERE a.age < interval '1 hour'), 0) AS units_under_1_hour,
	coalesce(pg_catalog.sum(r.quantity) FILTER (WHERE a.age >= interval '1 hour' AND a.age < interval '1 day'), 0) AS units_under_1_day,
	coalesce(pg_catalog.sum(r.quantity) FILTER (WHERE a.age >= interval '1 day' AND a.age < interval '7 days'), 0) AS units_under_7_days,
	coalesce(pg_catalog.sum(r.quantity) FILTER (WHERE a.age >= interval '7 days'), 0) AS units_older,
	pg_catalog.min(r.created_at) AS oldest_at,
	pg_catalog.max(a.age) AS oldest_age
FROM order_engine.reservation r
	CROSS JOIN LATERAL (SELECT pg_catalog.now() - r.created_at AS age) a
	LEFT JOIN order_engine.orders o ON o.order_id = r.reservation_id
WHERE r.state = 'held'
GROUP BY o.tenant, o.order_id IS NULL, r.sku, r.location;
COMMENT ON VIEW order_engine.reservation_aging IS
'Units that are held, by tenant, holder, SKU and location, and for how long.';
COMMENT ON COLUMN order_engine.reservation_aging.tenant IS 'Tenant of the orders; null for carts, which have none.';
COMMENT ON COLUMN order_engine.reservation_aging.holder IS 'order, or cart for a reservation without an order.';
COMMENT ON COLUMN order_engine.reservation_aging.sku IS 'The product.';
COMMENT ON COLUMN order_engine.reservation_aging.location IS 'The location.';
COMMENT ON COLUMN order_engine.reservation_aging.reservations IS 'Reservations that hold some of it.';
COMMENT ON COLUMN order_engine.reservation_aging.units IS 'Units held.';
COMMENT ON COLUMN order_engine.reservation_aging.units_without_limit IS 'Of these, units of reservations that do not end by themselves, as those of confirmed orders.';
COMMENT ON COLUMN order_engine.reservation_aging.units_past_limit IS 'Of these, units whose time limit passed and that were not taken back yet.';
COMMENT ON COLUMN order_engine.reservation_aging.units_under_1_hour IS 'Of these, units held for less than 1 hour.';
COMMENT ON COLUMN order_engine.reservation_aging.units_under_1_day IS 'Of these, units held for 1 hour or more, and less than 1 day.';
COMMENT ON COLUMN order_engine.reservation_aging.units_under_7_days IS 'Of these, units held for 1 day or more, and less than 7 days.';
COMMENT ON COLUMN order_engine.reservation_aging.units_older IS 'Of these, units held for 7 days or more.';
COMMENT ON COLUMN order_engine.reservation_aging.oldest_at IS 'When the oldest was made.';
COMMENT ON COLUMN order_engine.reservation_aging.oldest_age IS 'How long ago that is.';

CREATE VIEW order_engine.returns_by_reason AS
SELECT q.tenant, q.day, q.reason, q.currency,
	pg_catalog.count(DISTINCT q.return_id) AS returns,
	pg_catalog.count(DISTINCT q.return_id) FILTER (WHERE q.dropped) AS returns_dropped,
	coalesce(pg_catalog.sum(q.quantity), 0) AS units,
	coalesce(pg_catalog.sum(q.restocked), 0) AS restocked,
	coalesce(pg_catalog.sum(q.damaged), 0) AS damaged,
	coalesce(pg_catalog.sum(q.discarded), 0) AS discarded,
	coalesce(pg_catalog.sum(pg_catalog.round(q.unit_price * (q.restocked + q.damaged + q.discarded), q.minor_units)), 0) AS value
FROM (SELECT o.tenant, r.created_at::date AS day, coalesce(n.reason, r.reason) AS reason, o.currency, c.minor_units,
		r.return_id, coalesce(s.terminal, false) AND r.received_at IS NULL AS dropped,
		n.quantity, n.restocked, n.damaged, n.discarded, l.unit_price
	FROM order_engine.order_return r
		JOIN order_engine.orders o ON o.order_id = r.order_id
		JOIN order_engine.currency c ON c.currency = o.currency
		LEFT JOIN order_engine.machine_state s ON s.machine_id = r.machine_id AND s.state = r.state
		LEFT JOIN order_engine.return_line n ON n.return_id = r.return_id
		LEFT JOIN order_engine.order_line l ON l.order_id = r.order_id AND l.line_no = n.line_no) q
GROUP BY q.tenant, q.day, q.reason, q.currency;
COMMENT ON VIEW order_engine.returns_by_reason IS 'Returns by tenant, day, reason and currency; sum units and values over the days you want.';
COMMENT ON COLUMN order_engine.returns_by_reason.tenant IS 'order_engine.tenant when the orders were placed; empty without tenants.';
COMMENT ON COLUMN order_engine.returns_by_reason.day IS 'Day on which the return was requested, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.returns_by_reason.reason IS 'Reason of the line, else of the return.';
COMMENT ON COLUMN order_engine.returns_by_reason.currency IS 'ISO 4217 code of the value.';
COMMENT ON COLUMN order_engine.returns_by_reason.returns IS 'Returns with that reason; a return with several reasons counts in each.';
COMMENT ON COLUMN order_engine.returns_by_reason.returns_dropped IS 'Of these, returns that were declined or cancelled: they ended and nothing was received.';
COMMENT ON COLUMN order_engine.returns_by_reason.units IS 'Units that were to come back.';
COMMENT ON COLUMN order_engine.returns_by_reason.restocked IS 'Units that came back and went into stock.';
COMMENT ON COLUMN order_engine.returns_by_reason.damaged IS 'Units that came back damaged and were kept aside.';
COMMENT ON COLUMN order_engine.returns_by_reason.discarded IS 'Units that came back, or stayed with the customer, and are gone.';
COMMENT ON COLUMN order_engine.returns_by_reason.value IS 'Price of the units restocked, damaged and discarded, in currency, whatever was refunded for them.';
