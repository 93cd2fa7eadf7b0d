/*
 * How orders move: how far they get, how long they stay, which are stuck.
 *
 * History is ordered by its sequence, never by its times: the clock of a server
 * may be set back.  A stay in a state is taken only from two steps that fit, so
 * gaps in the history make figures fewer, not wrong.
 */

CREATE VIEW order_engine.order_funnel AS
SELECT o.tenant, o.placed_at::date AS day, o.channel, o.machine_id,
	pg_catalog.count(*) AS placed,
	pg_catalog.count(*) FILTER (WHERE o.payment_status <> 'unpaid') AS paid,
	pg_catalog.count(o.confirmed_at) AS confirmed,
	pg_catalog.count(o.first_shipped_at) AS shipped,
	pg_catalog.count(o.delivered_at) AS delivered,
	pg_catalog.count(o.completed_at) AS completed,
	pg_catalog.count(*) FILTER (WHERE o.return_status <> 'none') AS returned,
	pg_catalog.count(*) FILTER (WHERE o.cancelled_at IS NOT NULL AND o.state <> 'expired') AS cancelled,
	pg_catalog.count(*) FILTER (WHERE o.cancelled_at IS NOT NULL AND o.state = 'expired') AS expired,
	pg_catalog.count(*) FILTER (WHERE s.terminal IS NOT TRUE) AS open,
	pg_catalog.count(*) FILTER (WHERE s.terminal IS NOT TRUE AND o.on_hold) AS on_hold
FROM order_engine.orders o
	LEFT JOIN order_engine.machine_state s ON s.machine_id = o.machine_id AND s.state = o.state
WHERE o.placed_at IS NOT NULL
GROUP BY o.tenant, o.placed_at::date, o.channel, o.machine_id;
COMMENT ON VIEW order_engine.order_funnel IS
'How far the orders placed on a day got until now, by tenant, day, channel and machine. Every figure counts orders; an order counts in each step that it reached.';
COMMENT ON COLUMN order_engine.order_funnel.tenant IS 'order_engine.tenant when the orders were placed; empty without tenants.';
COMMENT ON COLUMN order_engine.order_funnel.day IS 'Day on which the orders were placed, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.order_funnel.channel IS 'Sales channel.';
COMMENT ON COLUMN order_engine.order_funnel.machine_id IS 'The machine version that the orders run on.';
COMMENT ON COLUMN order_engine.order_funnel.placed IS 'Orders placed.';
COMMENT ON COLUMN order_engine.order_funnel.paid IS 'Orders for which something was authorized or paid, later refunds included.';
COMMENT ON COLUMN order_engine.order_funnel.confirmed IS 'Orders that were confirmed (in the machine simple: paid).';
COMMENT ON COLUMN order_engine.order_funnel.shipped IS 'Orders of which something was shipped.';
COMMENT ON COLUMN order_engine.order_funnel.delivered IS 'Orders of which everything was delivered.';
COMMENT ON COLUMN order_engine.order_funnel.completed IS 'Orders that were completed.';
COMMENT ON COLUMN order_engine.order_funnel.returned IS 'Orders with a return that is open or came back.';
COMMENT ON COLUMN order_engine.order_funnel.cancelled IS 'Orders that were cancelled.';
COMMENT ON COLUMN order_engine.order_funnel.expired IS 'Orders that ran into their time limit: cancelled by it, and in the state "expired".';
COMMENT ON COLUMN order_engine.order_funnel.open IS 'Orders in a state that is not terminal.';
COMMENT ON COLUMN order_engine.order_funnel.on_hold IS 'Of these, orders with an open hold.';

-- The first row of an entity begins its first known stay, even when it is the
-- row of its creation, which changes no state.  Any other row that leaves the
-- state as it is amends the order and ends nothing.
CREATE VIEW order_engine.state_stay AS
SELECT p.order_id, p.entity, p.entity_id, p.machine_id, p.from_state, p.event, p.to_state, p.forced,
	GREATEST(p.created_at - p.entered_at, interval '0') AS duration
FROM (SELECT s.order_id, s.entity, s.entity_id, s.machine_id, s.from_state, s.event, s.to_state, s.forced, s.created_at,
		pg_catalog.lag(s.to_state) OVER w AS entered_state,
		pg_catalog.lag(s.created_at) OVER w AS entered_at
	FROM (SELECT h.order_id, h.entity, h.entity_id, h.seq, h.machine_id, h.from_state, h.event, h.to_state, h.forced, h.created_at,
			pg_catalog.row_number() OVER (PARTITION BY h.order_id, h.entity, h.entity_id
				ORDER BY h.seq, h.created_at) AS n
		FROM order_engine.history h) s
	WHERE s.n = 1 OR s.from_state <> s.to_state
	WINDOW w AS (PARTITION BY s.order_id, s.entity, s.entity_id ORDER BY s.n)) p
WHERE p.from_state <> p.to_state AND p.entered_state = p.from_state;
COMMENT ON VIEW order_engine.state_stay IS
'Internal: one row for each stay of an order, a part or a row of the application in a state, once it ended.';
COMMENT ON COLUMN order_engine.state_stay.order_id IS 'The order; null for tables of the application.';
COMMENT ON COLUMN order_engine.state_stay.entity IS 'order, payment, fulfillment, return, or the kind of a machine of the application.';
COMMENT ON COLUMN order_engine.state_stay.entity_id IS 'Id of the row, as text.';
COMMENT ON COLUMN order_engine.state_stay.machine_id IS 'The machine version that allowed the event.';
COMMENT ON COLUMN order_engine.state_stay.from_state IS 'The state.';
COMMENT ON COLUMN order_engine.state_stay.event IS 'The event that ended the stay.';
COMMENT ON COLUMN order_engine.state_stay.to_state IS 'The state that followed.';
COMMENT ON COLUMN order_engine.state_stay.forced IS 'True where an operator overrode the guards.';
COMMENT ON COLUMN order_engine.state_stay.duration IS 'How long it lasted; 0 where the clock went back meanwhile.';

CREATE VIEW order_engine.state_durations AS
SELECT q.machine_id, m.name AS machine, m.version AS machine_version,
	q.entity, q.from_state, q.event, q.to_state, q.n, q.forced, q.average, q.p50, q.p90, q.p99, q.longest
FROM (SELECT s.machine_id, s.entity, s.from_state, s.event, s.to_state,
		pg_catalog.count(*) AS n,
		pg_catalog.count(*) FILTER (WHERE s.forced) AS forced,
		pg_catalog.avg(s.duration) AS average,
		pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY s.duration) AS p50,
		pg_catalog.percentile_cont(0.9) WITHIN GROUP (ORDER BY s.duration) AS p90,
		pg_catalog.percentile_cont(0.99) WITHIN GROUP (ORDER BY s.duration) AS p99,
		pg_catalog.max(s.duration) AS longest
	FROM order_engine.state_stay s
	GROUP BY s.machine_id, s.entity, s.from_state, s.event, s.to_state) q
	LEFT JOIN order_engine.machine m ON m.machine_id = q.machine_id;
COMMENT ON VIEW order_engine.state_durations IS
'How long rows stayed in a state before an event led them out of it, for each transition that happened. Amendments, which leave the state as it is, end no stay; where the row before is missing from the history, the stay is not counted.';
COMMENT ON COLUMN order_engine.state_durations.machine_id IS 'The machine version that allowed the event.';
COMMENT ON COLUMN order_engine.state_durations.machine IS 'Its name.';
COMMENT ON COLUMN order_engine.state_durations.machine_version IS 'Its version.';
COMMENT ON COLUMN order_engine.state_durations.entity IS 'order, payment, fulfillment, return, or the kind of a machine of the application.';
COMMENT ON COLUMN order_engine.state_durations.from_state IS 'The state that was left.';
COMMENT ON COLUMN order_engine.state_durations.event IS 'The event.';
COMMENT ON COLUMN order_engine.state_durations.to_state IS 'The state that followed.';
COMMENT ON COLUMN order_engine.state_durations.n IS 'Stays that ended so; a row that comes back to the state counts each time.';
COMMENT ON COLUMN order_engine.state_durations.forced IS 'Of these, the ones that an operator forced.';
COMMENT ON COLUMN order_engine.state_durations.average IS 'Average of the stays.';
COMMENT ON COLUMN order_engine.state_durations.p50 IS 'Median: half of the stays were not longer.';
COMMENT ON COLUMN order_engine.state_durations.p90 IS 'Nine of ten stays were not longer.';
COMMENT ON COLUMN order_engine.state_durations.p99 IS '99 of 100 stays were not longer.';
COMMENT ON COLUMN order_engine.state_durations.longest IS 'The longest stay.';

CREATE VIEW order_engine.stuck_orders AS
SELECT q.order_id, q.tenant, q.channel, q.order_number, q.machine_id, q.state, q.state_since, q.age,
	q.usual, q.samples, q.expires_at, r.reason,
	CASE r.reason
		WHEN 'limit passed' THEN 'See that maintenance runs: the event of the time limit is due and was not fired, or a guard refuses it.'
		WHEN 'on hold' THEN 'Decide on the open holds, then release them or cancel the order.'
		WHEN 'not placed' THEN 'Place or cancel the draft.'
		WHEN 'waiting for payment' THEN 'Look into payment_reconciliation for its payments; request a payment or cancel the order.'
		WHEN 'stock not reserved' THEN 'Its stock was taken back: cancel the order, or place it anew.'
		WHEN 'waiting for confirmation' THEN 'Payment and stock are there: confirm it; allowed_events() tells what refuses.'
		WHEN 'waiting for stock' THEN 'A SKU that it reserved is on backorder: restock it, or cancel these units.'
		WHEN 'waiting for shipment' THEN 'Ship what is open: create a fulfillment or move the one that waits.'
		WHEN 'waiting for delivery' THEN 'Ask the carrier; report the fulfillment as delivered or failed.'
		WHEN 'waiting for a return' THEN 'Receive, decline or cancel the open return.'
		WHEN 'balance not settled' THEN 'Collect or refund the balance, see payment_reconciliation.'
		ELSE 'allowed_events() tells what is possible, and why the rest is not.'
	END AS what_to_do,
	q.on_hold, q.payment_status, q.fulfillment_status, q.return_status, q.currency, q.total, q.balance
FROM (SELECT o.order_id, o.tenant, o.channel, o.order_number, o.machine_id, o.state, o.state_since, o.expires_at,
		o.on_hold, o.payment_status, o.fulfillment_status, o.return_status, o.currency, o.total, o.terms,
		o.placed_at, o.confirmed_at,
		pg_catalog.now() - o.state_since AS age,
		CASE WHEN u.samples >= 100 THEN GREATEST(u.p99, interval '1 hour') ELSE interval '3 days' END AS usual,
		coalesce(u.samples, 0) AS samples,
		o.expires_at < pg_catalog.now() - interval '5 minutes' AS past_limit,
		o.total - o.credited_total - (o.captured_total - o.refunded_total - o.charged_back_total) AS balance,
		o.authorized_total
	FROM order_engine.orders o
		LEFT JOIN order_engine.machine_state s ON s.machine_id = o.machine_id AND s.state = o.state
		LEFT JOIN (
			SELECT d.machine_id, d.from_state, pg_catalog.count(*) AS samples,
				pg_catalog.percentile_cont(0.99) WITHIN GROUP (ORDER BY d.duration) AS p99
			FROM order_engine.state_stay d
			WHERE d.entity = 'order'
			GROUP BY d.machine_id, d.from_state) u ON u.machine_id = o.machine_id AND u.from_state = o.state
	WHERE s.terminal IS NOT TRUE) q
	CROSS JOIN LATERAL (
		SELECT coalesce(pg_catalog.sum(l.quantity - l.cancelled - l.shipped), 0) AS units_open,
			coalesce(pg_catalog.sum(l.quantity - l.cancelled - l.shipped) FILTER (WHERE l.tracked), 0) AS tracked_open,
			coalesce(pg_catalog.sum(l.shipped - l.delivered - l.undelivered), 0) AS units_on_the_way
		FROM order_engine.order_line l
		WHERE l.order_id = q.order_id) l
	CROSS JOIN LATERAL (
		SELECT coalesce(pg_catalog.sum(v.quantity), 0) AS held,
			coalesce(pg_catalog.bool_or(t.on_hand < t.reserved), false) AS backordered
		FROM order_engine.reservation v
			LEFT JOIN order_engine.stock t ON t.sku = v.sku AND t.location = v.location AND t.slot = v.slot
		WHERE v.reservation_id = q.order_id AND v.state = 'held') v
	CROSS JOIN LATERAL (
		SELECT CASE
			WHEN q.past_limit THEN 'limit passed'
			WHEN q.on_hold THEN 'on hold'
			WHEN q.placed_at IS NULL THEN 'not placed'
			WHEN q.confirmed_at IS NULL AND q.terms = 'prepaid' AND q.balance > q.authorized_total THEN 'waiting for payment'
			WHEN q.confirmed_at IS NULL AND v.held < l.tracked_open THEN 'stock not reserved'
			WHEN q.confirmed_at IS NULL THEN 'waiting for confirmation'
			WHEN l.units_open > 0 AND v.backordered THEN 'waiting for stock'
			WHEN l.units_open > 0 THEN 'waiting for shipment'
			WHEN l.units_on_the_way > 0 THEN 'waiting for delivery'
			WHEN q.return_status = 'requested' THEN 'waiting for a return'
			WHEN q.balance <> 0 THEN 'balance not settled'
			ELSE 'waiting for an event'
		END AS reason) r
WHERE q.past_limit OR q.age > q.usual;
COMMENT ON VIEW order_engine.stuck_orders IS
'Orders that stay in a state that is not terminal for longer than usual, or whose time limit passed more than 5 minutes ago: why, and what to do. Usual is the p99 of the ended stays in that state, at least 1 hour, or 3 days with fewer than 100 of them. Reads the whole history of orders.';
COMMENT ON COLUMN order_engine.stuck_orders.order_id IS 'Id of the order.';
COMMENT ON COLUMN order_engine.stuck_orders.tenant IS 'order_engine.tenant when it was placed; empty without tenants.';
COMMENT ON COLUMN order_engine.stuck_orders.channel IS 'Sales channel.';
COMMENT ON COLUMN order_engine.stuck_orders.order_number IS 'Number for people, unique per tenant and channel.';
COMMENT ON COLUMN order_engine.stuck_orders.machine_id IS 'The machine version that it runs on.';
COMMENT ON COLUMN order_engine.stuck_orders.state IS 'State in its machine.';
COMMENT ON COLUMN order_engine.stuck_orders.state_since IS 'When it entered the state.';
COMMENT ON COLUMN order_engine.stuck_orders.age IS 'How long ago that is.';
COMMENT ON COLUMN order_engine.stuck_orders.usual IS 'What it is measured by: the longest stay that is still usual.';
COMMENT ON COLUMN order_engine.stuck_orders.samples IS 'Ended stays in the state of orders on the same machine version.';
COMMENT ON COLUMN order_engine.stuck_orders.expires_at IS 'When the time limit of the state passes; null when it has none.';
COMMENT ON COLUMN order_engine.stuck_orders.reason IS 'The first that applies of: limit passed, on hold, not placed, waiting for payment, stock not reserved, waiting for confirmation, waiting for stock, waiting for shipment, waiting for delivery, waiting for a return, balance not settled, waiting for an event.';
COMMENT ON COLUMN order_engine.stuck_orders.what_to_do IS 'What helps, a sentence.';
COMMENT ON COLUMN order_engine.stuck_orders.on_hold IS 'True while a hold is open.';
COMMENT ON COLUMN order_engine.stuck_orders.payment_status IS 'unpaid, authorized, partially_paid, paid, partially_refunded or refunded.';
COMMENT ON COLUMN order_engine.stuck_orders.fulfillment_status IS 'unfulfilled, partially_shipped, shipped, partially_delivered or delivered.';
COMMENT ON COLUMN order_engine.stuck_orders.return_status IS 'none, requested, partially_returned or returned.';
COMMENT ON COLUMN order_engine.stuck_orders.currency IS 'ISO 4217 code of the amounts.';
COMMENT ON COLUMN order_engine.stuck_orders.total IS 'Total of the order, in currency.';
COMMENT ON COLUMN order_engine.stuck_orders.balance IS 'What the customer still owes, in currency; negative when money is to be refunded.';
