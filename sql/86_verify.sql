/*
 * Verification of orders: what is stored twice must agree.
 *
 * Every roll-up is computed here from the rows that it sums up, in another way
 * than the verbs keep it, and only what surely holds for every machine is
 * compared.  Parts on machines of the user may have states that this page cannot
 * know, so what depends on states is compared for the built-in machines only.
 */

-- It has so many expressions that compiling them takes longer than running them.
CREATE FUNCTION order_engine.verify_orders()
RETURNS TABLE (order_id bigint, counter text, stored text, expected text, source text)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
	WITH line AS (
		SELECT l.order_id, sum(l.line_total) AS line_total,
			sum(l.quantity - l.cancelled) AS units, sum(l.shipped) AS shipped, sum(l.delivered) AS delivered,
			sum(l.undelivered) AS undelivered, sum(l.returned) AS returned
		FROM order_engine.order_line l
		GROUP BY l.order_id),
	transaction_sum AS (
		SELECT t.payment_id,
			sum(t.amount) FILTER (WHERE t.kind = 'authorization') AS authorized,
			sum(t.amount) FILTER (WHERE t.kind = 'capture') AS captured,
			sum(t.amount) FILTER (WHERE t.kind = 'void') AS voided,
			sum(t.amount) FILTER (WHERE t.kind = 'refund') AS refunded,
			sum(t.amount) FILTER (WHERE t.kind = 'chargeback') AS charged_back
		FROM order_engine.payment_transaction t
		WHERE t.state = 'success'
		GROUP BY t.payment_id),
	payment_sum AS (
		SELECT p.order_id,
			-- what is left of an authorization behind the end of a payment pays nothing, unless it is being captured
			sum(CASE WHEN p.state NOT IN ('refunded', 'failed', 'voided', 'expired') THEN p.authorized - p.captured - p.voided
				ELSE least(p.authorized - p.captured - p.voided, coalesce(c.under_way, 0)) END) AS authorized,
			sum(p.captured) AS captured, sum(p.refunded) AS refunded, sum(p.charged_back) AS charged_back,
			bool_and(p.machine_id < 1000) AS built_in
		FROM order_engine.payment p
			LEFT JOIN (
				SELECT t.payment_id, sum(t.requested) AS under_way
				FROM order_engine.payment_transaction t
				WHERE t.kind = 'capture' AND t.state IN ('initial', 'pending')
				GROUP BY t.payment_id) c ON c.payment_id = p.payment_id
		GROUP BY p.order_id),
	-- orders whose machine writes payment_status itself; a draft may hold anything
	marked AS (
		SELECT DISTINCT m.machine_id
		FROM order_engine.machine m, jsonb_array_elements(m.definition -> 'transitions') t
		WHERE m.status = 'published' AND t.value -> 'effects' ?| '{mark_paid,mark_refunded}'),
	-- orders whose machine ships and delivers lines as a whole, fulfillments or not
	whole AS (
		SELECT DISTINCT m.machine_id
		FROM order_engine.machine m, jsonb_array_elements(m.definition -> 'transitions') t
		WHERE m.status = 'published' AND t.value -> 'effects' ?| '{ship_all,deliver_all}'),
	fulfilled AS (
		SELECT f.order_id, l.line_no, sum(l.shipped) AS shipped, sum(l.delivered) AS delivered,
			sum(l.undelivered) AS undelivered
		FROM order_engine.fulfillment f
			JOIN order_engine.fulfillment_line l ON l.fulfillment_id = f.fulfillment_id
		GROUP BY f.order_id, l.line_no),
	sent_back AS (
		SELECT r.order_id, l.line_no, sum(l.restocked + l.damaged + l.discarded) AS units
		FROM order_engine.order_return r
			JOIN order_engine.return_line l ON l.return_id = r.return_id
		GROUP BY r.order_id, l.line_no),
	open_return AS (
		SELECT r.order_id, sum(l.open) AS units
		FROM order_engine.order_return r
			JOIN order_engine.return_line l ON l.return_id = r.return_id
		GROUP BY r.order_id),
	-- one row for each part that has a state
	part AS (
		SELECT o.order_id, 'order' AS entity, o.order_id::text AS entity_id, o.machine_id, o.state
		FROM order_engine.orders o
		UNION ALL
		SELECT p.order_id, 'payment', p.payment_id::text, p.machine_id, p.state FROM order_engine.payment p
		UNION ALL
		SELECT f.order_id, 'fulfillment', f.fulfillment_id::text, f.machine_id, f.state FROM order_engine.fulfillment f
		UNION ALL
		SELECT r.order_id, 'return', r.return_id::text, r.machine_id, r.state FROM order_engine.order_return r),
	step AS (
		SELECT h.order_id, h.entity, h.entity_id, h.seq, h.event, h.from_state, h.to_state, h.machine_id, h.forced,
			lag(h.to_state) OVER w AS before, lead(h.seq) OVER w IS NULL AS last
		FROM order_engine.history h
		WHERE h.order_id IS NOT NULL AND h.seq IS NOT NULL
		WINDOW w AS (PARTITION BY h.order_id, h.entity, h.entity_id ORDER BY h.seq)),
	log AS (
		SELECT h.order_id, count(h.seq) AS n, count(DISTINCT h.seq) AS seqs, min(h.seq) AS first, max(h.seq) AS last,
			bool_or(h.forced OR h.event = 'migrate') FILTER (WHERE h.entity = 'order') AS overridden
		FROM order_engine.history h
		WHERE h.order_id IS NOT NULL
		GROUP BY h.order_id),
	passed AS (
		SELECT h.order_id, t.milestone
		FROM order_engine.history h
			JOIN order_engine.machine_transition t ON t.machine_id = h.machine_id AND t.event = h.event
				AND t.from_state = h.from_state AND t.to_state = h.to_state
		WHERE h.entity = 'order' AND t.milestone IS NOT NULL
		GROUP BY h.order_id, t.milestone),
	held AS (
		SELECT r.reservation_id AS order_id, r.sku, sum(r.quantity) AS units
		FROM order_engine.reservation r
		WHERE r.state = 'held'
		GROUP BY r.reservation_id, r.sku),
	needed AS (
		SELECT o.order_id, l.sku,
			CASE WHEN o.cancelled_at IS NULL THEN sum(l.quantity - l.cancelled - l.shipped) ELSE 0 END AS units
		FROM order_engine.orders o
			JOIN order_engine.order_line l ON l.order_id = o.order_id
			LEFT JOIN log ON log.order_id = o.order_id
			JOIN order_engine.machine_state s ON s.machine_id = o.machine_id AND s.state = o.state
		WHERE l.tracked AND o.machine_id < 1000 AND log.overridden IS NOT TRUE
			AND (o.cancelled_at IS NOT NULL OR o.confirmed_at IS NOT NULL AND NOT s.terminal)
		GROUP BY o.order_id, l.sku)

	-- money of the order
	SELECT o.order_id, v.counter, v.stored::text, v.expected::text, v.source
	FROM order_engine.orders o
		LEFT JOIN line l ON l.order_id = o.order_id
		LEFT JOIN payment_sum p ON p.order_id = o.order_id,
		LATERAL (VALUES
			('lines_total', o.lines_total, coalesce(l.line_total, 0), 'order_line'),
			('total', o.total, o.lines_total + o.shipping + o.tax - o.discount, 'orders'),
			('authorized_total', o.authorized_total, coalesce(p.authorized, 0), 'payment'),
			('captured_total', o.captured_total, coalesce(p.captured, 0), 'payment'),
			('refunded_total', o.refunded_total, coalesce(p.refunded, 0), 'payment'),
			('charged_back_total', o.charged_back_total, coalesce(p.charged_back, 0), 'payment')) AS v (counter, stored, expected, source)
	WHERE v.stored <> v.expected AND (v.counter <> 'authorized_total' OR p.built_in IS NOT FALSE)

	-- money of its payments
	UNION ALL
	SELECT p.order_id, format('payment %s %s', p.payment_id, v.counter), v.stored::text, v.expected::text, 'payment_transaction'
	FROM order_engine.payment p
		LEFT JOIN transaction_sum t ON t.payment_id = p.payment_id,
		LATERAL (VALUES
			-- who reports that something was captured or voided says that it had been authorized
			('authorized', p.authorized, greatest(t.authorized, coalesce(t.captured, 0) + coalesce(t.voided, 0))),
			('captured', p.captured, coalesce(t.captured, 0)),
			('voided', p.voided, coalesce(t.voided, 0)),
			('refunded', p.refunded, coalesce(t.refunded, 0)),
			('charged_back', p.charged_back, coalesce(t.charged_back, 0))) AS v (counter, stored, expected)
	WHERE v.stored <> v.expected

	-- roll-ups and flags of the order
	UNION ALL
	SELECT o.order_id, v.counter, v.stored, v.expected, v.source
	FROM order_engine.orders o
		LEFT JOIN line l ON l.order_id = o.order_id
		LEFT JOIN payment_sum p ON p.order_id = o.order_id
		LEFT JOIN open_return r ON r.order_id = o.order_id
		LEFT JOIN (SELECT DISTINCT h.order_id FROM order_engine.order_hold h WHERE h.released_at IS NULL) h
			ON h.order_id = o.order_id,
		LATERAL (VALUES
			('payment_status', o.payment_status, CASE
				WHEN p.order_id IS NULL OR NOT p.built_in OR o.machine_id IN (SELECT m.machine_id FROM marked m) THEN o.payment_status
				WHEN p.captured > 0 AND p.refunded + p.charged_back >= p.captured THEN 'refunded'
				WHEN p.refunded + p.charged_back > 0 THEN 'partially_refunded'
				WHEN p.captured > 0 AND p.captured >= o.total - o.credited_total THEN 'paid'
				WHEN p.captured > 0 THEN 'partially_paid'
				WHEN p.authorized > 0 THEN 'authorized'
				ELSE 'unpaid' END, 'payment'),
			('fulfillment_status', o.fulfillment_status, CASE
				WHEN coalesce(l.shipped, 0) = 0 THEN 'unfulfilled'
				WHEN l.delivered > 0 AND l.delivered + l.undelivered = l.units THEN 'delivered'
				WHEN l.delivered > 0 THEN 'partially_delivered'
				WHEN l.shipped = l.units THEN 'shipped'
				ELSE 'partially_shipped' END, 'order_line'),
			('return_status', o.return_status, CASE
				WHEN l.returned > 0 AND l.returned >= l.shipped - l.undelivered THEN 'returned'
				WHEN l.returned > 0 THEN 'partially_returned'
				WHEN r.units > 0 THEN 'requested'
				ELSE 'none' END, 'order_return'),
			('on_hold', o.on_hold::text, (h.order_id IS NOT NULL)::text, 'order_hold')) AS v (counter, stored, expected, source)
	WHERE v.stored <> v.expected

	-- counters of its lines
	UNION ALL
	SELECT l.order_id, format('line %s %s', l.line_no, v.counter), v.stored::text, v.expected::text, v.source
	FROM order_engine.order_line l
		LEFT JOIN (
			SELECT DISTINCT f.order_id
			FROM order_engine.fulfillment f
				JOIN order_engine.orders p ON p.order_id = f.order_id
			WHERE p.machine_id NOT IN (SELECT w.machine_id FROM whole w)) o ON o.order_id = l.order_id
		LEFT JOIN fulfilled f ON f.order_id = l.order_id AND f.line_no = l.line_no
		LEFT JOIN sent_back b ON b.order_id = l.order_id AND b.line_no = l.line_no,
		LATERAL (VALUES
			('shipped', l.shipped, coalesce(f.shipped, 0), 'fulfillment_line'),
			('delivered', l.delivered, coalesce(f.delivered, 0), 'fulfillment_line'),
			('undelivered', l.undelivered, coalesce(f.undelivered, 0), 'fulfillment_line'),
			('returned', l.returned, coalesce(b.units, 0), 'return_line')) AS v (counter, stored, expected, source)
	WHERE v.stored <> v.expected AND (v.source = 'return_line' OR o.order_id IS NOT NULL)

	-- counters of the lines of fulfillments, by the state that these are in
	UNION ALL
	SELECT f.order_id, format('fulfillment %s line %s %s', f.fulfillment_id, l.line_no, v.counter), v.stored::text, v.expected::text, 'fulfillment'
	FROM order_engine.fulfillment f
		JOIN order_engine.fulfillment_line l ON l.fulfillment_id = f.fulfillment_id,
		LATERAL (VALUES
			('open', l.open, CASE WHEN f.state IN ('pending', 'ready') THEN l.open ELSE 0 END),
			('shipped', l.shipped, CASE WHEN f.state IN ('pending', 'ready', 'cancelled') THEN 0 ELSE l.shipped END),
			('delivered', l.delivered, CASE WHEN f.state = 'delivered' THEN l.shipped ELSE 0 END),
			('undelivered', l.undelivered, CASE WHEN f.state = 'returned' THEN l.shipped ELSE 0 END)) AS v (counter, stored, expected)
	WHERE v.stored <> v.expected AND f.machine_id < 1000

	-- one gapless sequence of events
	UNION ALL
	SELECT o.order_id, 'version', o.version::text,
		CASE WHEN g.n = g.last AND g.seqs = g.n AND g.first = 1 THEN g.last::text
			WHEN g.n > 0 THEN format('%s numbers of %s events, %s to %s', g.seqs, g.n, g.first, g.last)
			ELSE 'no events' END, 'history'
	FROM order_engine.orders o
		LEFT JOIN log g ON g.order_id = o.order_id
	WHERE NOT coalesce(o.version = g.last AND g.n = g.last AND g.seqs = g.n AND g.first = 1, false)

	-- the state, and the path that led to it
	UNION ALL
	SELECT p.order_id, CASE p.entity WHEN 'order' THEN 'state' ELSE format('%s %s state', p.entity, p.entity_id) END,
		p.state, s.to_state, 'history'
	FROM part p
		LEFT JOIN step s ON s.order_id = p.order_id AND s.entity = p.entity AND s.entity_id = p.entity_id AND s.last
	WHERE p.state IS DISTINCT FROM s.to_state
	UNION ALL
	SELECT p.order_id, CASE p.entity WHEN 'order' THEN 'machine_id' ELSE format('%s %s machine_id', p.entity, p.entity_id) END,
		p.machine_id::text, s.machine_id::text, 'history'
	FROM part p
		JOIN step s ON s.order_id = p.order_id AND s.entity = p.entity AND s.entity_id = p.entity_id AND s.last
	WHERE p.machine_id <> s.machine_id
	UNION ALL
	SELECT s.order_id, format('history %s from_state', s.seq), s.from_state, s.before, 'history'
	FROM step s
	WHERE s.from_state <> s.before
	UNION ALL
	SELECT s.order_id, format('history %s event', s.seq), format('%s: %s to %s', s.event, s.from_state, s.to_state), NULL, 'machine'
	FROM step s
	WHERE s.from_state <> s.to_state AND NOT s.forced AND s.event <> 'migrate'
		AND NOT EXISTS (
			SELECT FROM order_engine.machine_transition t
			WHERE t.machine_id = s.machine_id AND t.event = s.event
				AND t.from_state = s.from_state AND t.to_state = s.to_state)

	-- milestones of the events that happened, and only of these
	UNION ALL
	SELECT o.order_id, v.milestone, v.stamp::text,
		CASE WHEN t.order_id IS NULL THEN 'null' ELSE 'not null' END, 'history'
	FROM order_engine.orders o
		CROSS JOIN LATERAL (VALUES
			('placed_at', o.placed_at), ('confirmed_at', o.confirmed_at),
			('completed_at', o.completed_at), ('cancelled_at', o.cancelled_at)) AS v (milestone, stamp)
		LEFT JOIN passed t ON t.order_id = o.order_id AND t.milestone = v.milestone
	WHERE (v.stamp IS NULL) <> (t.order_id IS NULL)

	UNION ALL
	SELECT o.order_id, v.milestone, v.stamp::text, CASE WHEN v.happened THEN 'not null' ELSE 'null' END, 'order_line'
	FROM order_engine.orders o
		LEFT JOIN line l ON l.order_id = o.order_id
		CROSS JOIN LATERAL (VALUES
			('first_shipped_at', o.first_shipped_at, coalesce(l.shipped > 0, false)),
			('delivered_at', o.delivered_at, coalesce(l.delivered > 0 AND l.delivered + l.undelivered = l.units, false))
			) AS v (milestone, stamp, happened)
		LEFT JOIN passed t ON t.order_id = o.order_id AND t.milestone = v.milestone
	WHERE o.machine_id < 1000 AND (v.stamp IS NOT NULL) <> v.happened
		-- an order that ends before all is delivered does not reach it by that
		AND (v.milestone <> 'delivered_at' OR o.state NOT IN ('cancelled', 'expired', 'refunded'))
		-- an event of the whole order stamps it, also when nothing of it arrived
		AND (v.stamp IS NULL OR t.order_id IS NULL)

	-- stock that is held for the order
	UNION ALL
	SELECT n.order_id, format('reserved %s', n.sku), coalesce(h.units, 0)::text, n.units::text, 'order_line'
	FROM needed n
		LEFT JOIN held h ON h.order_id = n.order_id AND h.sku = n.sku
	WHERE coalesce(h.units, 0) <> n.units
	ORDER BY 1, 2, 5
$$;
COMMENT ON FUNCTION order_engine.verify_orders() IS
'Compares what is stored twice of every order and returns what differs: nothing when all is right. Compared are: lines_total and total; the money of the order with its payments and theirs with their transactions; payment_status, fulfillment_status, return_status and on_hold; the counters of the lines with fulfillments and returns; the version and the history, which is to be gapless; the state and machine of the order and its parts with the last event; each step of the history with the one before and with the machine, but forced ones; the milestones; and the stock that is held. An amount is in the currency of the order, a counter in units; stored or expected is null where there is nothing. Reads all tables of orders whole.';
