-- The views of the flow, of money and of reservations, against the same figures found row by row.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin
\set dirty :srcdir '/lib/dirty_data.sql'
\i :dirty
\set compare :srcdir '/lib/compare.sql'
\i :compare

-- how far orders got
CREATE TEMP TABLE check_funnel (LIKE order_engine.order_funnel);
CREATE FUNCTION pg_temp.tally_funnel() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	o order_engine.orders;
	is_open integer;
	one check_funnel;
BEGIN
	FOR o IN SELECT * FROM order_engine.orders LOOP
		CONTINUE WHEN o.placed_at IS NULL;
		is_open := CASE WHEN o.state IN ('completed', 'cancelled', 'expired', 'delivered', 'refunded') THEN 0 ELSE 1 END;
		one := (o.tenant, to_char(o.placed_at, 'YYYY-MM-DD')::date, o.channel, o.machine_id, 1,
			CASE WHEN o.payment_status = 'unpaid' THEN 0 ELSE 1 END, CASE WHEN o.confirmed_at IS NULL THEN 0 ELSE 1 END,
			CASE WHEN o.first_shipped_at IS NULL THEN 0 ELSE 1 END, CASE WHEN o.delivered_at IS NULL THEN 0 ELSE 1 END,
			CASE WHEN o.completed_at IS NULL THEN 0 ELSE 1 END, CASE WHEN o.return_status = 'none' THEN 0 ELSE 1 END,
			CASE WHEN o.state = 'cancelled' THEN 1 ELSE 0 END, CASE WHEN o.state = 'expired' THEN 1 ELSE 0 END,
			is_open, CASE WHEN o.on_hold THEN is_open ELSE 0 END);
		UPDATE check_funnel c SET placed = c.placed + 1, paid = c.paid + one.paid, confirmed = c.confirmed + one.confirmed,
			shipped = c.shipped + one.shipped, delivered = c.delivered + one.delivered, completed = c.completed + one.completed,
			returned = c.returned + one.returned, cancelled = c.cancelled + one.cancelled, expired = c.expired + one.expired,
			open = c.open + one.open, on_hold = c.on_hold + one.on_hold
		WHERE (c.tenant, c.day, c.channel, c.machine_id) = (one.tenant, one.day, one.channel, one.machine_id);
		IF NOT FOUND THEN
			INSERT INTO check_funnel SELECT one.*;
		END IF;
	END LOOP;
END $$;
SET timezone = 'Europe/Berlin';
SELECT pg_temp.tally_funnel();
SELECT * FROM pg_temp.compare('order_engine.order_funnel', 'check_funnel');
SELECT sum(placed) > 0 AS placed, sum(completed) > 0 AS completed, sum(cancelled) > 0 AS cancelled, sum(expired) > 0 AS expired, sum(on_hold) > 0 AS on_hold
FROM order_engine.order_funnel;

-- how long rows stay in a state: walk the path of each row
CREATE TEMP TABLE stay (machine_id integer, entity text, from_state text, event text, to_state text, forced boolean, duration interval);
CREATE FUNCTION pg_temp.walk() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	h order_engine.history;
	who text := '';
	state text;
	since timestamptz;
BEGIN
	FOR h IN SELECT * FROM order_engine.history ORDER BY order_id, entity, entity_id, seq, created_at LOOP
		IF who <> coalesce(h.order_id::text, '-') || h.entity || h.entity_id THEN
			who := coalesce(h.order_id::text, '-') || h.entity || h.entity_id;
		ELSIF h.from_state = h.to_state THEN
			CONTINUE;
		ELSIF state = h.from_state THEN
			INSERT INTO stay VALUES (h.machine_id, h.entity, h.from_state, h.event, h.to_state, h.forced,
				CASE WHEN h.created_at < since THEN '0' ELSE h.created_at - since END);
		END IF;
		state := h.to_state;
		since := h.created_at;
	END LOOP;
END $$;
SELECT pg_temp.walk();
-- the value that a part p of the sorted list is not above, between two neighbours in proportion
CREATE FUNCTION pg_temp.quantile(list interval[], p float8) RETURNS interval LANGUAGE sql AS $$
	SELECT list[floor(at)::integer + 1] + (list[ceil(at)::integer + 1] - list[floor(at)::integer + 1]) * (at - floor(at))
	FROM (SELECT p * (array_length(list, 1) - 1) AS at) q
$$;
CREATE TEMP VIEW check_durations AS
SELECT machine_id, (SELECT m.name FROM order_engine.machine m WHERE m.machine_id = q.machine_id),
	(SELECT m.version FROM order_engine.machine m WHERE m.machine_id = q.machine_id),
	entity, from_state, event, to_state, array_length(list, 1)::bigint AS n, forced, total / array_length(list, 1) AS average,
	pg_temp.quantile(list, 0.5) AS p50, pg_temp.quantile(list, 0.9) AS p90, pg_temp.quantile(list, 0.99) AS p99, list[array_length(list, 1)] AS longest
FROM (SELECT machine_id, entity, from_state, event, to_state, sum(forced::integer) AS forced, sum(duration) AS total, array_agg(duration ORDER BY duration) AS list
	FROM stay GROUP BY machine_id, entity, from_state, event, to_state) q;
SELECT * FROM pg_temp.compare('order_engine.state_durations', 'check_durations');
SELECT machine, entity, from_state, event, n, forced, p50, p99 FROM order_engine.state_durations ORDER BY machine_id, entity, from_state COLLATE "C", event COLLATE "C";
SELECT count(*) > 5 AS clamped FROM stay WHERE duration = '0';
-- by hand: amendments end nothing, a clock that went back gives 0, a missing row leaves the stay out, forced steps count
BEGIN;
TRUNCATE order_engine.history;
INSERT INTO order_engine.history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, forced, actor, created_at)
SELECT id, 'order', id::text, seq, event, from_state, to_state, 1, event = 'cancel', 'test', timestamptz '2026-01-01 00:00+00' + minute * interval '1 minute'
FROM (VALUES
	(1, 1, 'place', 'draft', 'pending', 0), (1, 2, 'place_hold', 'pending', 'pending', 50), (1, 3, 'confirm', 'pending', 'confirmed', 60),
	(2, 1, 'place', 'draft', 'pending', 100), (2, 2, 'confirm', 'pending', 'confirmed', 20), (2, 3, 'complete', 'confirmed', 'completed', 30),
	(3, 1, 'place', 'draft', 'pending', 0), (3, 3, 'complete', 'confirmed', 'completed', 1000),
	(4, 1, 'place', 'draft', 'pending', 0), (4, 2, 'cancel', 'pending', 'cancelled', 7)) AS v (id, seq, event, from_state, to_state, minute);
SELECT from_state, event, n, forced, average, longest FROM order_engine.state_durations ORDER BY event;
ROLLBACK;

-- orders that are stuck: ask for each
CREATE TEMP TABLE check_stuck (LIKE order_engine.stuck_orders);
CREATE FUNCTION pg_temp.tally_stuck() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	o order_engine.orders;
	many bigint;
	usual interval;
	late boolean;
	open integer; way integer; tracked_open integer; held bigint; short boolean;
	balance numeric;
	reason text;
BEGIN
	FOR o IN SELECT * FROM order_engine.orders LOOP
		CONTINUE WHEN o.state IN ('completed', 'cancelled', 'expired', 'delivered', 'refunded');
		SELECT count(*), pg_temp.quantile(array_agg(s.duration ORDER BY s.duration), 0.99) INTO many, usual
		FROM stay s WHERE s.entity = 'order' AND s.machine_id = o.machine_id AND s.from_state = o.state;
		IF many < 100 THEN
			usual := '3 days';
		ELSIF usual < '1 hour' THEN
			usual := '1 hour';
		END IF;
		late := o.expires_at IS NOT NULL AND o.expires_at < now() - interval '5 minutes';
		CONTINUE WHEN NOT late AND now() - o.state_since <= usual;
		SELECT sum(quantity - cancelled - shipped), sum(CASE WHEN tracked THEN quantity - cancelled - shipped ELSE 0 END),
			sum(shipped - delivered - undelivered) INTO open, tracked_open, way
		FROM order_engine.order_line WHERE order_id = o.order_id;
		SELECT sum(quantity) INTO held FROM order_engine.reservation WHERE reservation_id = o.order_id AND state = 'held';
		-- of the SKUs only P2 is on backorder
		short := EXISTS (SELECT FROM order_engine.reservation WHERE reservation_id = o.order_id AND state = 'held' AND sku = 'P2');
		balance := o.total - o.credited_total - o.captured_total + o.refunded_total + o.charged_back_total;
		IF late THEN reason := 'limit passed';
		ELSIF o.on_hold THEN reason := 'on hold';
		ELSIF o.state = 'draft' THEN reason := 'not placed';
		ELSIF o.confirmed_at IS NULL THEN
			IF o.terms = 'prepaid' AND o.authorized_total < balance THEN reason := 'waiting for payment';
			ELSIF tracked_open > 0 AND coalesce(held, 0) < tracked_open THEN reason := 'stock not reserved';
			ELSE reason := 'waiting for confirmation';
			END IF;
		ELSIF open > 0 THEN
			reason := CASE WHEN short THEN 'waiting for stock' ELSE 'waiting for shipment' END;
		ELSIF way > 0 THEN reason := 'waiting for delivery';
		ELSIF o.return_status = 'requested' THEN reason := 'waiting for a return';
		ELSIF balance <> 0 THEN reason := 'balance not settled';
		ELSE reason := 'waiting for an event';
		END IF;
		INSERT INTO check_stuck VALUES (o.order_id, o.tenant, o.channel, o.order_number, o.machine_id, o.state, o.state_since, now() - o.state_since,
			usual, many, o.expires_at, reason, NULL, o.on_hold, o.payment_status, o.fulfillment_status, o.return_status, o.currency, o.total, balance);
	END LOOP;
END $$;
BEGIN;
SELECT pg_temp.tally_stuck();
UPDATE check_stuck c SET what_to_do = s.what_to_do FROM order_engine.stuck_orders s WHERE s.order_id = c.order_id;
SELECT * FROM pg_temp.compare('order_engine.stuck_orders', 'check_stuck');
SELECT reason, count(*) > 0 AS found, min(what_to_do) AS what_to_do FROM order_engine.stuck_orders GROUP BY reason ORDER BY reason;
SELECT count(*) > 3 AS not_stuck FROM order_engine.orders o WHERE state IN ('pending', 'confirmed', 'paid', 'shipped', 'draft')
	AND NOT EXISTS (SELECT FROM order_engine.stuck_orders s WHERE s.order_id = o.order_id);
COMMIT;

-- money that needs attention
CREATE TEMP TABLE check_money (finding text, order_id bigint, payment_id bigint, transaction_id bigint, return_id bigint, amount numeric, expected numeric, since timestamptz);
CREATE FUNCTION pg_temp.tally_money() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	o order_engine.orders;
	p order_engine.payment;
	t order_engine.payment_transaction;
	r order_engine.order_return;
	owed numeric; paid numeric; coming_back numeric; left_over numeric; due numeric; given numeric; decimals integer;
BEGIN
	FOR t IN SELECT * FROM order_engine.payment_transaction LOOP
		IF t.state = 'initial' AND now() - t.created_at > interval '15 minutes' THEN
			INSERT INTO check_money VALUES ('no_answer', t.order_id, t.payment_id, t.transaction_id, NULL, t.amount, NULL, t.created_at);
		ELSIF t.state = 'pending' AND now() - t.created_at > interval '60 minutes' THEN
			INSERT INTO check_money VALUES ('pending_long', t.order_id, t.payment_id, t.transaction_id, NULL, t.amount, NULL, t.created_at);
		ELSIF t.state = 'success' AND t.amount - t.requested <> 0 THEN
			INSERT INTO check_money VALUES ('amount_differs', t.order_id, t.payment_id, t.transaction_id, NULL, t.amount, t.requested, t.decided_at);
		END IF;
	END LOOP;
	FOR o IN SELECT * FROM order_engine.orders LOOP
		owed := o.total - o.credited_total;
		paid := o.captured_total - o.refunded_total - o.charged_back_total;
		coming_back := 0;
		FOR p IN SELECT * FROM order_engine.payment x WHERE x.order_id = o.order_id LOOP
			left_over := p.captured - p.refunded - p.charged_back;
			FOR t IN SELECT * FROM order_engine.payment_transaction x WHERE x.payment_id = p.payment_id AND x.kind = 'refund' AND x.state IN ('initial', 'pending') LOOP
				left_over := left_over - t.amount;
				coming_back := coming_back + t.amount;
			END LOOP;
			IF left_over > 0 AND o.cancelled_at IS NOT NULL THEN
				INSERT INTO check_money VALUES ('captured_on_dead_order', o.order_id, p.payment_id, NULL, NULL, left_over, 0, o.cancelled_at);
			END IF;
			left_over := p.authorized - p.captured - p.voided;
			FOR t IN SELECT * FROM order_engine.payment_transaction x WHERE x.payment_id = p.payment_id AND x.kind = 'void' AND x.state IN ('initial', 'pending') LOOP
				left_over := left_over - t.amount;
			END LOOP;
			IF left_over > 0 AND o.cancelled_at IS NOT NULL AND p.state <> 'voided' AND p.state <> 'failed' AND p.state <> 'pending' THEN
				INSERT INTO check_money VALUES ('authorized_on_dead_order', o.order_id, p.payment_id, NULL, NULL, left_over, 0, o.cancelled_at);
			END IF;
			IF p.next_attempt_at IS NOT NULL AND now() - p.next_attempt_at > interval '15 minutes' THEN
				INSERT INTO check_money VALUES ('retry_overdue', o.order_id, p.payment_id, NULL, NULL, p.amount, NULL, p.next_attempt_at);
			END IF;
		END LOOP;
		IF o.cancelled_at IS NULL THEN
			IF paid - coming_back > owed THEN
				INSERT INTO check_money VALUES ('refund_due', o.order_id, NULL, NULL, NULL, paid - coming_back, owed, o.updated_at);
			END IF;
			IF paid < owed AND o.charged_back_total > 0 THEN
				INSERT INTO check_money VALUES ('charged_back', o.order_id, NULL, NULL, NULL, paid, owed, o.updated_at);
			ELSIF paid < owed AND (o.state = 'completed' OR o.captured_total > 0 AND o.state IN ('delivered', 'refunded')) THEN
				INSERT INTO check_money VALUES ('underpaid', o.order_id, NULL, NULL, NULL, paid, owed, o.state_since);
			END IF;
		END IF;
		SELECT minor_units INTO decimals FROM order_engine.currency c WHERE c.currency = o.currency;
		FOR r IN SELECT * FROM order_engine.order_return x WHERE x.order_id = o.order_id AND x.state = 'closed' AND x.received_at IS NOT NULL LOOP
			CONTINUE WHEN paid - coming_back <= 0;
			SELECT coalesce(sum(amount), 0) INTO given FROM order_engine.payment_transaction x
			WHERE x.return_id = r.return_id AND x.kind = 'refund' AND x.state IN ('initial', 'pending', 'success');
			due := r.refund_amount;
			IF due IS NULL THEN
				due := 0;
				FOR l IN 1 .. 10 LOOP
					due := due + coalesce((SELECT round((restocked + damaged + discarded) * (SELECT unit_price FROM order_engine.order_line x
						WHERE x.order_id = o.order_id AND x.line_no = l), decimals) FROM order_engine.return_line x WHERE x.return_id = r.return_id AND x.line_no = l), 0);
				END LOOP;
				CONTINUE WHEN given > 0;
			END IF;
			IF given < due THEN
				INSERT INTO check_money VALUES ('return_not_refunded', o.order_id, NULL, NULL, r.return_id, given, due, r.received_at);
			END IF;
		END LOOP;
	END LOOP;
END $$;
BEGIN;
CREATE TEMP VIEW money AS
SELECT finding, order_id, payment_id, transaction_id, return_id, amount, expected, since FROM order_engine.payment_reconciliation;
SELECT pg_temp.tally_money();
SELECT * FROM pg_temp.compare('money', 'check_money');
SELECT finding, count(*) > 0 AS found, min(what_to_do) AS what_to_do FROM order_engine.payment_reconciliation GROUP BY finding ORDER BY finding;
-- what stands beside a finding is that of its order and transaction
SELECT count(*) FROM order_engine.payment_reconciliation f JOIN order_engine.orders o USING (order_id)
	LEFT JOIN order_engine.payment p USING (payment_id) LEFT JOIN order_engine.payment_transaction t USING (transaction_id)
WHERE (f.tenant, f.order_number, f.order_state, f.currency, f.age, f.kind, f.provider, f.provider_ref) IS DISTINCT FROM
	(o.tenant, o.order_number, o.state, o.currency, now() - f.since, coalesce(t.kind, p.kind), coalesce(t.provider, p.provider), t.provider_ref);
COMMIT;

-- reservations
CREATE TEMP TABLE check_aging (LIKE order_engine.reservation_aging);
CREATE FUNCTION pg_temp.tally_aging() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r order_engine.reservation;
	group_tenant text;
	group_holder text;
	hours numeric;
BEGIN
	FOR r IN SELECT * FROM order_engine.reservation ORDER BY reservation_id LOOP
		CONTINUE WHEN r.state <> 'held';
		group_tenant := (SELECT o.tenant FROM order_engine.orders o WHERE o.order_id = r.reservation_id);
		group_holder := CASE WHEN r.ref IS NULL THEN 'order' ELSE 'cart' END;
		hours := extract(epoch FROM now() - r.created_at) / 3600;
		-- no order has two reservations for one SKU and location here, nor has a cart
		UPDATE check_aging c SET reservations = reservations + 1, units = units + r.quantity,
			units_without_limit = units_without_limit + CASE WHEN r.expires_at IS NULL THEN r.quantity ELSE 0 END,
			units_past_limit = units_past_limit + CASE WHEN r.expires_at <= now() THEN r.quantity ELSE 0 END,
			units_under_1_hour = units_under_1_hour + CASE WHEN hours < 1 THEN r.quantity ELSE 0 END,
			units_under_1_day = units_under_1_day + CASE WHEN hours >= 1 AND hours < 24 THEN r.quantity ELSE 0 END,
			units_under_7_days = units_under_7_days + CASE WHEN hours >= 24 AND hours < 168 THEN r.quantity ELSE 0 END,
			units_older = units_older + CASE WHEN hours >= 168 THEN r.quantity ELSE 0 END,
			oldest_at = least(oldest_at, r.created_at), oldest_age = greatest(oldest_age, now() - r.created_at)
		WHERE c.tenant IS NOT DISTINCT FROM group_tenant AND (c.holder, c.sku, c.location) = (group_holder, r.sku, r.location);
		IF NOT FOUND THEN
			INSERT INTO check_aging VALUES (group_tenant, group_holder, r.sku, r.location, 1, r.quantity,
				CASE WHEN r.expires_at IS NULL THEN r.quantity ELSE 0 END, CASE WHEN r.expires_at <= now() THEN r.quantity ELSE 0 END,
				CASE WHEN hours < 1 THEN r.quantity ELSE 0 END, CASE WHEN hours >= 1 AND hours < 24 THEN r.quantity ELSE 0 END,
				CASE WHEN hours >= 24 AND hours < 168 THEN r.quantity ELSE 0 END, CASE WHEN hours >= 168 THEN r.quantity ELSE 0 END,
				r.created_at, now() - r.created_at);
		END IF;
	END LOOP;
END $$;
BEGIN;
SELECT pg_temp.tally_aging();
SELECT * FROM pg_temp.compare('order_engine.reservation_aging', 'check_aging');
SELECT holder, bool_or(units_without_limit > 0) AS without_limit, bool_or(units_past_limit > 0) AS past_limit, bool_or(units_under_1_hour > 0) AS hour,
	bool_or(units_under_1_day > 0) AS day, bool_or(units_under_7_days > 0) AS week, bool_or(units_older > 0) AS older
FROM order_engine.reservation_aging GROUP BY holder ORDER BY holder;
COMMIT;

-- machines as rows
SELECT machine_id, kind, state, terminal FROM order_engine.machine_state WHERE machine_id IN (1001, 1005) ORDER BY machine_id, state COLLATE "C";
SELECT machine_id, event, from_state, to_state, milestone FROM order_engine.machine_transition WHERE machine_id IN (1001, 1005)
ORDER BY machine_id, event COLLATE "C", from_state COLLATE "C";

-- a viewer reads all of them; they write nothing, so that they run on a standby
CREATE ROLE regress_oe_viewer;
SELECT order_engine.grant_access('regress_oe_viewer', 'viewer');
BEGIN READ ONLY;
SET LOCAL ROLE regress_oe_viewer;
SELECT (SELECT count(*) FROM order_engine.order_funnel) > 0 AS funnel, (SELECT count(*) FROM order_engine.state_durations) > 0 AS durations,
	(SELECT count(*) FROM order_engine.stuck_orders) > 0 AS stuck, (SELECT count(*) FROM order_engine.payment_reconciliation) > 0 AS money,
	(SELECT count(*) FROM order_engine.reservation_aging) > 0 AS aging, (SELECT count(*) FROM order_engine.machine_state) > 0 AS machines;
COMMIT;
SELECT order_engine.revoke_access('regress_oe_viewer');
DROP ROLE regress_oe_viewer;
