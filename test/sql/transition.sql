-- The verb transition(), and allowed_events().
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- rows as the engine makes them: two units of a tracked SKU, reserved, and one of another
INSERT INTO order_engine.stock (on_hand, reserved, sku, location) VALUES (100, 0, 'A', 'default');
ALTER TABLE order_engine.stock DISABLE TRIGGER USER;
ALTER TABLE order_engine.reservation DISABLE TRIGGER USER;
CREATE PROCEDURE new_order(id bigint, machine_id integer, terms text DEFAULT 'invoice', expires_in interval DEFAULT '1 hour') LANGUAGE sql AS $$
	INSERT INTO order_engine.orders (order_id, version, last_txid, machine_id, state, state_since, expires_at,
		order_number, customer_id, terms, currency, lines_total, total, placed_at, created_at, updated_at)
	VALUES (id, 1, pg_current_xact_id(), machine_id, 'pending', now(), now() + expires_in,
		'N' || id, 'C1', terms, 'EUR', 30, 30, now(), now(), now());
	INSERT INTO order_engine.order_line (order_id, line_no, quantity, tracked, sku, unit_price, line_total)
	VALUES (id, 1, 2, true, 'A', 10, 20), (id, 2, 1, false, 'B', 10, 10);
	INSERT INTO order_engine.reservation (reservation_id, expires_at, created_at, quantity, slot, sku, location, state)
	VALUES (id, now() + expires_in, now(), 2, 0, 'A', 'default', 'held');
	UPDATE order_engine.stock SET reserved = reserved + 2 WHERE sku = 'A';
$$;
CREATE VIEW trail AS
SELECT order_id, seq, event, from_state, to_state, reason, metadata FROM order_engine.history ORDER BY order_id, seq;
CREATE VIEW events AS
SELECT aggregateid, aggregate_seq AS seq, type, payload ->> 'reason' AS reason FROM order_engine.outbox ORDER BY txid, id;
CREATE VIEW held AS
SELECT r.reservation_id, r.state, r.quantity, r.expires_at IS NULL AS no_limit, s.on_hand, s.reserved
FROM order_engine.reservation AS r JOIN order_engine.stock AS s USING (sku, location, slot) ORDER BY r.reservation_id;

-- confirm: the reservation loses its limit
CALL new_order(1, 1);
SELECT order_engine.transition('order', 1, 'confirm', reason => 'invoice sent', metadata => '{"by": "clerk"}');
SELECT version, state, expires_at IS NULL AS no_limit, confirmed_at = state_since AS milestone FROM order_engine.orders WHERE order_id = 1;
SELECT * FROM trail;
SELECT * FROM events;
SELECT * FROM held;

-- already there: a success that changes nothing
SELECT order_engine.transition('order', 1, 'confirm');
SELECT version, state FROM order_engine.orders WHERE order_id = 1;
SELECT count(*) FROM order_engine.history;

-- not possible here: the events that are
SELECT attempt($$SELECT order_engine.transition('order', 1, 'expire')$$);
SELECT attempt($$SELECT order_engine.transition('order', 1, 'launch')$$);
SELECT attempt($$SELECT order_engine.transition('order', 1, 'place')$$);

-- cancel: stock is free again, lines are cancelled; from then on nothing is possible
SELECT order_engine.transition('order', 1, 'cancel', 'no longer wanted');
SELECT * FROM held;
SELECT line_no, quantity, cancelled FROM order_engine.order_line WHERE order_id = 1 ORDER BY line_no;
SELECT on_hand_delta, reserved_delta, kind, reason FROM order_engine.stock_movement WHERE reference_id = 1;
SELECT order_engine.transition('order', 1, 'cancel', 'once more');
SELECT attempt($$SELECT order_engine.transition('order', 1, 'confirm')$$);
SELECT * FROM trail;

-- guards
CALL new_order(2, 1, 'prepaid');
SELECT attempt($$SELECT order_engine.transition('order', 2, 'confirm')$$);
SET session_replication_role = replica;
UPDATE order_engine.orders SET authorized_total = 10, captured_total = 19.99 WHERE order_id = 2;
RESET session_replication_role;
SELECT attempt($$SELECT order_engine.transition('order', 2, 'confirm')$$);
SET session_replication_role = replica;
UPDATE order_engine.orders SET captured_total = 20, on_hold = true WHERE order_id = 2;
RESET session_replication_role;
SELECT attempt($$SELECT order_engine.transition('order', 2, 'confirm')$$);
SET session_replication_role = replica;
UPDATE order_engine.orders SET on_hold = false, refunded_total = 0.01 WHERE order_id = 2;
RESET session_replication_role;
SELECT attempt($$SELECT order_engine.transition('order', 2, 'confirm')$$);
SET session_replication_role = replica;
UPDATE order_engine.orders SET refunded_total = 0 WHERE order_id = 2;
RESET session_replication_role;
BEGIN;
UPDATE order_engine.reservation SET state = 'expired' WHERE reservation_id = 2;
SELECT attempt($$SELECT order_engine.transition('order', 2, 'confirm')$$);
ROLLBACK;
SELECT attempt($$SELECT order_engine.transition('order', 2, 'expire')$$);
SELECT order_engine.transition('order', 2, 'confirm');
-- something shipped: no cancel any more; complete when all is settled
UPDATE order_engine.order_line SET shipped = 1 WHERE order_id = 2 AND line_no = 1;
SELECT attempt($$SELECT order_engine.transition('order', 2, 'cancel')$$);
SELECT attempt($$SELECT order_engine.transition('order', 2, 'complete')$$);
SET session_replication_role = replica;
UPDATE order_engine.orders SET captured_total = 30, authorized_total = 0 WHERE order_id = 2;
RESET session_replication_role;
SELECT attempt($$SELECT order_engine.transition('order', 2, 'complete')$$);
UPDATE order_engine.order_line SET shipped = 1, delivered = 1, cancelled = quantity - 1 WHERE order_id = 2;
SELECT order_engine.transition('order', 2, 'complete');
SELECT seq, event, to_state FROM trail WHERE order_id = 2;

-- cash on delivery needs no payment before
CALL new_order(3, 1, 'cash_on_delivery');
SELECT order_engine.transition('order', 3, 'confirm');

-- expire: not before its time, and never without a limit
CALL new_order(4, 1, 'prepaid', '-1 second');
SELECT order_engine.transition('order', 4, 'expire');
SELECT state, cancelled_at = state_since AS milestone FROM order_engine.orders WHERE order_id = 4;
SELECT * FROM held WHERE reservation_id = 4;
SELECT kind FROM order_engine.stock_movement WHERE reference_id = 4;
CALL new_order(5, 1, 'prepaid', NULL);
SELECT attempt($$SELECT order_engine.transition('order', 5, 'expire')$$);

-- the machine simple: events decide, not names of states
CALL new_order(6, 2, 'prepaid');
SELECT order_engine.transition('order', 6, event) FROM unnest('{pay,ship}'::text[]) AS event;
SELECT * FROM held WHERE reservation_id = 6;
SELECT kind, on_hand_delta, reserved_delta FROM order_engine.stock_movement WHERE reference_id = 6;
SELECT attempt($$SELECT order_engine.transition('order', 6, 'cancel')$$);
SELECT order_engine.transition('order', 6, 'deliver');
SELECT payment_status, fulfillment_status, state FROM order_engine.orders WHERE order_id = 6;
CALL new_order(7, 2, 'prepaid');
SELECT order_engine.transition('order', 7, event) FROM unnest('{pay,refund}'::text[]) AS event;
SELECT payment_status, fulfillment_status, state FROM order_engine.orders WHERE order_id = 7;
SELECT * FROM held WHERE reservation_id = 7;
SELECT * FROM events WHERE aggregateid IN ('6', '7');

-- expected version
CALL new_order(8, 1);
SELECT attempt($$SELECT order_engine.transition('order', 8, 'confirm', expected_version => 2)$$);
SELECT order_engine.transition('order', 8, 'confirm', expected_version => 1);
-- also where the event has happened already: it was not the caller who saw it
SELECT attempt($$SELECT order_engine.transition('order', 8, 'confirm', expected_version => 1)$$);
SELECT order_engine.transition('order', 8, 'confirm', expected_version => 2);

-- idempotency: the first result, even when the order has moved on
CALL new_order(9, 1);
SELECT order_engine.transition('order', 9, 'confirm', idempotency_key => 'k1');
SELECT order_engine.transition('order', 9, 'cancel', idempotency_key => 'k2');
SELECT order_engine.transition('order', 9, 'confirm', idempotency_key => 'k1');
SELECT attempt($$SELECT order_engine.transition('order', 9, 'expire', idempotency_key => 'k1')$$) LIMIT 1;
SELECT attempt($$SELECT order_engine.transition('order', 9, 'confirm', reason => 'other', idempotency_key => 'k1')$$) LIMIT 1;
SELECT attempt($$SELECT order_engine.transition('order', 9, 'confirm', metadata => '{"a": 1}', idempotency_key => 'k1')$$) LIMIT 1;
SELECT attempt($$SELECT order_engine.transition('order', 9, 'confirm', expected_version => 1, idempotency_key => 'k1')$$) LIMIT 1;
SELECT seq, event FROM trail WHERE order_id = 9;
-- a call that failed leaves its key free
SELECT attempt($$SELECT order_engine.transition('order', 5, 'complete', idempotency_key => 'k3')$$) LIMIT 1;
SELECT order_engine.transition('order', 5, 'cancel', idempotency_key => 'k3');
SET order_engine.idempotency_required = on;
SELECT attempt($$SELECT order_engine.transition('order', 5, 'cancel')$$) LIMIT 1;
RESET order_engine.idempotency_required;

-- arguments
SELECT attempt(format('SELECT order_engine.transition(%s)', args)) AS attempt
FROM (VALUES
	(1, $$NULL, 1, 'cancel'$$),
	(2, $$'order', NULL, 'cancel'$$),
	(3, $$'order', 1, NULL$$),
	(4, $$'payment', 1, 'cancel'$$),
	(5, $$'order', 1, ''$$),
	(6, $$'order', 1, repeat('x', 256)$$),
	(7, $$'order', 1, 'cancel', metadata => '[]'$$),
	(8, $$'order', 1, 'cancel', metadata => '"scalar"'$$),
	(9, $$'order', 1, 'cancel', metadata => jsonb_build_object('x', repeat('x', 1000000))$$),
	(10, $$'order', 1, 'cancel', idempotency_key => ''$$),
	(11, $$'order', 1, 'cancel', reason => repeat('x', 8193)$$),
	(12, $$'order', -1, 'cancel'$$)) AS v (n, args)
ORDER BY n;
BEGIN TRANSACTION READ ONLY;
SELECT order_engine.transition('order', 3, 'cancel');
ROLLBACK;

-- the caller's context is in history and event
CALL new_order(10, 1);
BEGIN;
SET LOCAL order_engine.actor = 'Ada';
SET LOCAL order_engine.tenant = 'shop 7';
SET LOCAL order_engine.correlation_id = 'c-1';
SET LOCAL order_engine.traceparent = '00-1-2-3';
SELECT order_engine.transition('order', 10, 'cancel', 'why not');
COMMIT;
SELECT actor, tenant, correlation_id, reason FROM order_engine.history WHERE order_id = 10;
SELECT headers, payload - 'order_id' AS payload FROM order_engine.outbox WHERE aggregateid = '10';

-- an error midway leaves nothing of the call behind
CALL new_order(11, 1);
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'failed in an AFTER trigger';
END $$;
CREATE TRIGGER fail AFTER UPDATE ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION fail();
SELECT attempt($$SELECT order_engine.transition('order', 11, 'confirm', 'a reason that must not survive')$$);
DROP TRIGGER fail ON order_engine.orders;
UPDATE order_engine.orders SET state = 'confirmed' WHERE order_id = 11;
SELECT * FROM trail WHERE order_id = 11;
-- a BEFORE trigger that suppresses the change
CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RETURN NULL;
END $$;
CREATE TRIGGER fail BEFORE UPDATE ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION fail();
SELECT attempt($$SELECT order_engine.transition('order', 11, 'cancel')$$);
DROP TRIGGER fail ON order_engine.orders;
-- a trigger that moves another order, by the verb and by hand
CALL new_order(12, 1);
CALL new_order(13, 1);
CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.order_id = 11 THEN
		PERFORM order_engine.transition('order', 12, 'confirm', 'reason of 12', metadata => '{"n": 12}');
		UPDATE order_engine.orders SET state = 'confirmed' WHERE order_id = 13;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER fail AFTER UPDATE ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION fail();
SELECT order_engine.transition('order', 11, 'cancel', 'reason of 11', metadata => '{"n": 11}');
DROP TRIGGER fail ON order_engine.orders;
DROP FUNCTION fail;
SELECT * FROM trail WHERE order_id > 10;

-- what is possible, and why the rest is not
CALL new_order(20, 1, 'prepaid');
SELECT * FROM order_engine.allowed_events('order', 20);
SET session_replication_role = replica;
UPDATE order_engine.orders SET on_hold = true, expires_at = now() - interval '1 second' WHERE order_id = 20;
RESET session_replication_role;
SELECT * FROM order_engine.allowed_events('order', 20);
SET session_replication_role = replica;
UPDATE order_engine.orders SET on_hold = false, captured_total = 30 WHERE order_id = 20;
RESET session_replication_role;
UPDATE order_engine.reservation SET state = 'released' WHERE reservation_id = 20;
SELECT * FROM order_engine.allowed_events('order', 20);
SELECT * FROM order_engine.allowed_events('order', 1);
CALL new_order(21, 2);
SELECT order_engine.transition('order', 21, 'pay');
BEGIN TRANSACTION READ ONLY;
SELECT * FROM order_engine.allowed_events('order', 21);
COMMIT;
SELECT attempt($$SELECT order_engine.allowed_events('order', -1)$$);
SELECT attempt($$SELECT order_engine.allowed_events('stock', 1)$$);
SELECT attempt($$SELECT order_engine.allowed_events(NULL, 1)$$);
SELECT attempt($$SELECT order_engine.allowed_events('order', NULL)$$);

-- DROP and CREATE EXTENSION in one session: neither plans nor machines are stale
DROP VIEW trail, events, held;
DROP PROCEDURE new_order;
DROP EXTENSION order_engine;
SET client_min_messages = warning;
CREATE EXTENSION order_engine;
RESET client_min_messages;
INSERT INTO order_engine.orders (order_id, version, last_txid, machine_id, state, state_since, expires_at,
	order_number, customer_id, terms, currency, lines_total, total, created_at, updated_at)
VALUES (1, 1, pg_current_xact_id(), 1, 'pending', now(), now(), 'N1', 'C1', 'invoice', 'EUR', 1, 1, now(), now());
SELECT * FROM order_engine.allowed_events('order', 1);
SELECT order_engine.transition('order', 1, 'confirm');
SELECT order_id, seq, event FROM order_engine.history;

DROP FUNCTION attempt;
