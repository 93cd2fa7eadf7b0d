-- verify_orders(): nothing for good orders, and each single fault by name.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin
SET client_min_messages = warning;

SELECT * FROM order_engine.verify_orders();
-- drafts that are no machines are in nobody's way
BEGIN;
SELECT order_engine.define_machine('ticket', 'a', '{"transitions": {}}') > 0,
	order_engine.define_machine('ticket', 'b', '{"states": [], "transitions": "x"}') > 0,
	order_engine.define_machine('ticket', 'c', '{"transitions": [1]}') > 0;
SELECT * FROM order_engine.verify_orders();
ROLLBACK;

-- orders by their verbs
SELECT order_engine.upsert_product('A', 'A', 10, 'EUR'), order_engine.upsert_product('B', 'B', 2.50, 'EUR'),
	order_engine.upsert_product('S', 'S', 1, 'EUR', tracked => false);
SELECT order_engine.adjust_stock('A', 'default', 100, 'r'), order_engine.adjust_stock('B', 'default', 100, 'r');
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 6}, {"sku": "S", "quantity": 1}, {"sku": "A", "quantity": 2}]', 'EUR',
	terms => 'invoice', shipping => 5, tax => 3, discount => 10) AS shipped \gset
SELECT order_engine.cancel_order(:shipped, 'r', '[{"line_no": 3, "quantity": 1}]'), order_engine.transition('order', :shipped, 'confirm');
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 4}]', 'EUR') AS pending \gset
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 4}, {"sku": "S", "quantity": 1}]', 'EUR', terms => 'invoice') AS confirmed \gset
SELECT order_engine.transition('order', :confirmed, 'confirm');
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 4}]', 'EUR') AS cancelled \gset
SELECT order_engine.cancel_order(:cancelled, 'r', '[{"line_no": 1, "quantity": 1}]'), order_engine.cancel_order(:cancelled, 'r');
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 4}, {"sku": "B", "quantity": 1}]', 'EUR', hold_for => '1 millisecond') AS expired \gset
SELECT pg_sleep(0.01);
SELECT order_engine.transition('order', :expired, 'expire');
BEGIN;
SET LOCAL order_engine.order_machine = 'simple';
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 1}]', 'EUR') AS delivered \gset
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 2}]', 'EUR') AS refunded \gset
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 3}]', 'EUR') AS paid \gset
COMMIT;
SELECT order_engine.transition('order', :delivered, 'pay'), order_engine.transition('order', :delivered, 'ship'), order_engine.transition('order', :delivered, 'deliver'),
	order_engine.transition('order', :refunded, 'pay'), order_engine.transition('order', :refunded, 'ship'), order_engine.transition('order', :refunded, 'refund'),
	order_engine.transition('order', :paid, 'pay');
SELECT * FROM order_engine.verify_orders();

-- parts by hand: a payment that was captured in part and refunded in part, four parcels of which one came back,
-- a return of which half is here, a hold
SET session_replication_role = replica;
CREATE FUNCTION pg_temp.log_step(id bigint, entity text, entity_id bigint, event text, from_state text, to_state text, machine integer) RETURNS void LANGUAGE sql AS $$
	UPDATE order_engine.orders SET version = version + 1 WHERE order_id = id;
	INSERT INTO order_engine.history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, actor, created_at)
	SELECT id, entity, entity_id::text, version, event, from_state, to_state, machine, 'test', now() FROM order_engine.orders WHERE order_id = id;
$$;
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition) VALUES
	(3, 'payment', 'default', 1, 'published', now(), '{"initial": "pending", "states": {}, "transitions": [
		{"event": "authorize", "from": "pending", "to": "authorized"}, {"event": "capture", "from": "authorized", "to": "captured"}]}'),
	(4, 'fulfillment', 'default', 1, 'published', now(), '{"initial": "pending", "states": {}, "transitions": [
		{"event": "ready", "from": "pending", "to": "ready"}, {"event": "ship", "from": "ready", "to": "shipped"},
		{"event": "deliver", "from": "shipped", "to": "delivered"}, {"event": "fail", "from": "shipped", "to": "undeliverable"},
		{"event": "restock", "from": "undeliverable", "to": "returned"}]}'),
	(5, 'return', 'default', 1, 'published', now(), '{"initial": "requested", "states": {}, "transitions": [
		{"event": "approve", "from": "requested", "to": "approved"}, {"event": "receive", "from": "approved", "to": "received"}]}')
ON CONFLICT DO NOTHING;

INSERT INTO order_engine.payment (payment_id, order_id, machine_id, state, state_since, created_at, updated_at, amount, authorized, captured, refunded, charged_back,
	kind, currency, provider)
VALUES (901, :shipped, 3, 'captured', now(), now(), now(), 60, 60, 50, 10, 2, 'authorization', 'EUR', 'p'),
	(902, :shipped, 3, 'pending', now(), now(), now(), 8, 0, 0, 0, 0, 'capture', 'EUR', 'p');
INSERT INTO order_engine.payment_transaction (transaction_id, payment_id, order_id, amount, requested, created_at, updated_at, decided_at, kind, state, provider)
VALUES (911, 901, :shipped, 60, 60, now(), now(), now(), 'authorization', 'success', 'p'),
	(912, 901, :shipped, 50, 50, now(), now(), now(), 'capture', 'success', 'p'),
	(913, 901, :shipped, 10, 10, now(), now(), now(), 'capture', 'failure', 'p'),
	(914, 901, :shipped, 10, 10, now(), now(), now(), 'refund', 'success', 'p'),
	(915, 901, :shipped, 2, 2, now(), now(), now(), 'chargeback', 'success', 'p'),
	(916, 902, :shipped, 8, 8, now(), now(), NULL, 'capture', 'pending', 'p');
SELECT pg_temp.log_step(:shipped, 'payment', 901, 'request', 'pending', 'pending', 3), pg_temp.log_step(:shipped, 'payment', 902, 'request', 'pending', 'pending', 3),
	pg_temp.log_step(:shipped, 'payment', 901, 'authorize', 'pending', 'authorized', 3), pg_temp.log_step(:shipped, 'payment', 901, 'capture', 'authorized', 'captured', 3);

INSERT INTO order_engine.fulfillment (fulfillment_id, order_id, machine_id, state, state_since, created_at, updated_at)
VALUES (921, :shipped, 4, 'delivered', now(), now(), now()), (922, :shipped, 4, 'returned', now(), now(), now()),
	(923, :shipped, 4, 'shipped', now(), now(), now()), (924, :shipped, 4, 'pending', now(), now(), now());
INSERT INTO order_engine.fulfillment_line (fulfillment_id, line_no, quantity, open, shipped, delivered, undelivered)
VALUES (921, 1, 2, 0, 2, 2, 0), (921, 2, 1, 0, 1, 1, 0), (922, 1, 1, 0, 1, 0, 1), (923, 1, 2, 0, 1, 0, 0), (924, 1, 2, 1, 0, 0, 0), (924, 3, 1, 1, 0, 0, 0);
SELECT pg_temp.log_step(:shipped, 'fulfillment', id, 'create', 'pending', 'pending', 4) FROM generate_series(921, 924) AS id;
SELECT pg_temp.log_step(:shipped, 'fulfillment', id, event, from_state, to_state, 4) FROM (VALUES
	(1, 921, 'ready', 'pending', 'ready'), (2, 921, 'ship', 'ready', 'shipped'), (3, 921, 'deliver', 'shipped', 'delivered'),
	(4, 922, 'ready', 'pending', 'ready'), (5, 922, 'ship', 'ready', 'shipped'), (6, 922, 'fail', 'shipped', 'undeliverable'),
	(7, 922, 'restock', 'undeliverable', 'returned'), (8, 923, 'ready', 'pending', 'ready'), (9, 923, 'ship', 'ready', 'shipped')) AS v (n, id, event, from_state, to_state);
UPDATE order_engine.order_line SET shipped = 4, delivered = 2, undelivered = 1, returned = 1 WHERE order_id = :shipped AND line_no = 1;
UPDATE order_engine.order_line SET shipped = 1, delivered = 1 WHERE order_id = :shipped AND line_no = 2;
UPDATE order_engine.reservation SET quantity = quantity - 4, shipped = 4 WHERE reservation_id = :shipped;

INSERT INTO order_engine.order_return (return_id, order_id, machine_id, state, state_since, created_at, updated_at, received_at, reason)
VALUES (931, :shipped, 5, 'received', now(), now(), now(), now(), 'r'), (932, :shipped, 5, 'requested', now(), now(), now(), NULL, 'r');
INSERT INTO order_engine.return_line (return_id, line_no, quantity, open, damaged) VALUES (931, 1, 2, 0, 1), (932, 1, 1, 1, 0);
SELECT pg_temp.log_step(:shipped, 'return', 931, 'create', 'requested', 'requested', 5), pg_temp.log_step(:shipped, 'return', 932, 'create', 'requested', 'requested', 5),
	pg_temp.log_step(:shipped, 'return', 931, 'approve', 'requested', 'approved', 5), pg_temp.log_step(:shipped, 'return', 931, 'receive', 'approved', 'received', 5);

INSERT INTO order_engine.order_hold (hold_id, order_id, placed_at, released_at, reason, placed_by, released_by)
VALUES (941, :shipped, now(), NULL, 'fraud', 'x', NULL), (942, :pending, now(), now(), 'fraud', 'x', 'y');
UPDATE order_engine.orders SET authorized_total = 10, captured_total = 50, refunded_total = 10, charged_back_total = 2, on_hold = true,
	payment_status = 'partially_refunded', fulfillment_status = 'partially_delivered', return_status = 'partially_returned', first_shipped_at = now()
WHERE order_id = :shipped;
SELECT * FROM order_engine.verify_orders();

-- one fault at a time; times are masked
CREATE FUNCTION pg_temp.found(command text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	lines text[];
BEGIN
	BEGIN
		EXECUTE command;
		SELECT array_agg(format('%s: %s, expected %s (%s)', v.counter,
			CASE WHEN v.stored ~ '^\d{4}-' OR v.stored ~ '\d\d:\d\d' THEN 'TIME' ELSE coalesce(v.stored, 'null') END, coalesce(v.expected, 'null'), v.source)
			ORDER BY v.counter COLLATE "C", v.source COLLATE "C") INTO lines
		FROM order_engine.verify_orders() v;
		RAISE SQLSTATE 'ZZZZZ';
	EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
		RETURN QUERY SELECT unnest(coalesce(lines, '{nothing}'));
	END;
END $$;
CREATE FUNCTION pg_temp.change_order(id bigint, assignment text) RETURNS text LANGUAGE sql AS $$
	SELECT format('UPDATE order_engine.orders SET %s WHERE order_id = %s', assignment, id)
$$;

-- money
SELECT pg_temp.found(pg_temp.change_order(:pending, 'lines_total = 11, total = 11'));
SELECT pg_temp.found(format('ALTER TABLE order_engine.orders DROP CONSTRAINT orders_check; %s', pg_temp.change_order(:pending, 'total = 11')));
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'authorized_total = 0'));
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'captured_total = 49'));
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'refunded_total = 9'));
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'charged_back_total = 0'));
SELECT pg_temp.found(pg_temp.change_order(:pending, 'captured_total = 10'));
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'payment_status = ''paid'''));
SELECT pg_temp.found('UPDATE order_engine.payment SET authorized = 61 WHERE payment_id = 901');
SELECT pg_temp.found('UPDATE order_engine.payment SET voided = 10 WHERE payment_id = 901');
SELECT pg_temp.found('UPDATE order_engine.payment SET charged_back = 3 WHERE payment_id = 901');
SELECT pg_temp.found('DELETE FROM order_engine.payment_transaction WHERE transaction_id = 914');
SELECT pg_temp.found('UPDATE order_engine.payment_transaction SET state = ''success'', decided_at = now() WHERE transaction_id = 916');
SELECT pg_temp.found('UPDATE order_engine.payment_transaction SET state = ''success'' WHERE transaction_id = 913');
-- what the status is for each sum
SELECT pg_temp.found(format('UPDATE order_engine.payment SET refunded = 0, charged_back = 0 WHERE payment_id = 901; DELETE FROM order_engine.payment_transaction WHERE transaction_id IN (914, 915); %s',
	pg_temp.change_order(:shipped, 'refunded_total = 0, charged_back_total = 0')));
SELECT pg_temp.found(format('UPDATE order_engine.payment SET refunded = 0, charged_back = 0 WHERE payment_id = 901; DELETE FROM order_engine.payment_transaction WHERE transaction_id IN (914, 915); %s',
	pg_temp.change_order(:shipped, 'refunded_total = 0, charged_back_total = 0, credited_total = 19')));
SELECT pg_temp.found(format('UPDATE order_engine.payment SET refunded = 48 WHERE payment_id = 901; UPDATE order_engine.payment_transaction SET amount = 48 WHERE transaction_id = 914; %s',
	pg_temp.change_order(:shipped, 'refunded_total = 48')));
SELECT pg_temp.found(format('UPDATE order_engine.payment SET captured = 0, refunded = 0, charged_back = 0 WHERE payment_id = 901; DELETE FROM order_engine.payment_transaction WHERE transaction_id BETWEEN 912 AND 915; %s',
	pg_temp.change_order(:shipped, 'captured_total = 0, refunded_total = 0, charged_back_total = 0, authorized_total = 60')));

-- units
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'fulfillment_status = ''delivered'''));
SELECT pg_temp.found(pg_temp.change_order(:delivered, 'fulfillment_status = ''shipped'''));
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'return_status = ''none'''));
SELECT pg_temp.found(pg_temp.change_order(:pending, 'return_status = ''requested'''));
SELECT pg_temp.found(format('UPDATE order_engine.order_line SET shipped = 3 WHERE order_id = %s AND line_no = 1', :shipped));
SELECT pg_temp.found(format('UPDATE order_engine.order_line SET delivered = 1 WHERE order_id = %s AND line_no = 1', :shipped));
SELECT pg_temp.found(format('UPDATE order_engine.order_line SET undelivered = 0 WHERE order_id = %s AND line_no = 1', :shipped));
SELECT pg_temp.found(format('UPDATE order_engine.order_line SET returned = 2 WHERE order_id = %s AND line_no = 1', :shipped));
SELECT pg_temp.found(format('UPDATE order_engine.order_line SET returned = 1 WHERE order_id = %s', :delivered));
SELECT pg_temp.found('DELETE FROM order_engine.fulfillment_line WHERE fulfillment_id = 923');
SELECT pg_temp.found('UPDATE order_engine.fulfillment SET state = ''delivered'' WHERE fulfillment_id = 923');
SELECT pg_temp.found('UPDATE order_engine.return_line SET damaged = 0 WHERE return_id = 931; UPDATE order_engine.order_line SET returned = 0');
SELECT pg_temp.found('UPDATE order_engine.fulfillment_line SET open = 1 WHERE fulfillment_id = 923');
SELECT pg_temp.found('UPDATE order_engine.fulfillment_line SET delivered = 1 WHERE fulfillment_id = 923');
SELECT pg_temp.found('UPDATE order_engine.fulfillment_line SET open = 0, shipped = 1 WHERE fulfillment_id = 924 AND line_no = 3');
SELECT pg_temp.found('UPDATE order_engine.return_line SET restocked = 1 WHERE return_id = 931');
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'on_hold = false'));
SELECT pg_temp.found(pg_temp.change_order(:pending, 'on_hold = true'));

-- history
SELECT pg_temp.found(pg_temp.change_order(:pending, 'version = 2'));
SELECT pg_temp.found(format('DELETE FROM order_engine.history WHERE order_id = %s', :pending));
SELECT pg_temp.found(format('DELETE FROM order_engine.history WHERE order_id = %s AND seq = 1', :confirmed));
SELECT pg_temp.found(format('DELETE FROM order_engine.history WHERE order_id = %s AND seq = 4', :shipped));
SELECT pg_temp.found(format('UPDATE order_engine.history SET seq = 3 WHERE order_id = %s AND seq = 4', :shipped));
SELECT pg_temp.found(pg_temp.change_order(:pending, 'state = ''confirmed'''));
SELECT pg_temp.found('UPDATE order_engine.payment SET state = ''authorized'' WHERE payment_id = 902');
SELECT pg_temp.found('UPDATE order_engine.fulfillment SET state = ''ready'' WHERE fulfillment_id = 924');
SELECT pg_temp.found('UPDATE order_engine.order_return SET state = ''approved'' WHERE return_id = 932');
SELECT pg_temp.found(pg_temp.change_order(:pending, 'machine_id = 2'));
SELECT pg_temp.found(format('UPDATE order_engine.history SET from_state = ''draft'' WHERE order_id = %s AND seq = 2', :confirmed));
SELECT pg_temp.found(format('UPDATE order_engine.history SET event = ''complete'' WHERE order_id = %s AND seq = 2', :confirmed));
-- a forced step need not be one of the machine
SELECT pg_temp.found(format('UPDATE order_engine.history SET event = ''jump'', forced = true WHERE order_id = %s AND entity_id = ''923'' AND event = ''ship''', :shipped));

-- milestones
SELECT pg_temp.found(pg_temp.change_order(:pending, 'placed_at = NULL'));
SELECT pg_temp.found(pg_temp.change_order(:confirmed, 'confirmed_at = NULL'));
SELECT pg_temp.found(pg_temp.change_order(:pending, 'confirmed_at = now()'));
SELECT pg_temp.found(pg_temp.change_order(:expired, 'cancelled_at = NULL'));
SELECT pg_temp.found(pg_temp.change_order(:confirmed, 'completed_at = now()'));
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'first_shipped_at = NULL'));
SELECT pg_temp.found(pg_temp.change_order(:delivered, 'delivered_at = NULL'));
SELECT pg_temp.found(pg_temp.change_order(:shipped, 'delivered_at = now()'));

-- stock
SELECT pg_temp.found(format('UPDATE order_engine.reservation SET quantity = 3 WHERE reservation_id = %s', :confirmed));
SELECT pg_temp.found(format('UPDATE order_engine.reservation SET state = ''released'' WHERE reservation_id = %s', :shipped));
SELECT pg_temp.found(format('DELETE FROM order_engine.reservation WHERE reservation_id = %s', :paid));
SELECT pg_temp.found(format('UPDATE order_engine.reservation SET state = ''held'' WHERE reservation_id = %s', :cancelled));

-- and still nothing
SELECT * FROM order_engine.verify_orders();
RESET session_replication_role;
