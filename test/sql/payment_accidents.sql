-- Payments when things go wrong: late and repeated reports, attempts that nobody wants any more, triggers of the application.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR'), order_engine.adjust_stock('A', 'default', 100, 'r') IS NOT NULL AS stock;
CREATE FUNCTION pg_temp.place(quantity integer, terms text DEFAULT 'prepaid') RETURNS bigint LANGUAGE sql
RETURN order_engine.place_order('c', jsonb_build_array(jsonb_build_object('sku', 'A', 'quantity', quantity)), 'EUR', terms => terms);
CREATE FUNCTION pg_temp.payment_of(transaction bigint) RETURNS bigint LANGUAGE sql
BEGIN ATOMIC SELECT payment_id FROM order_engine.payment_transaction WHERE transaction_id = transaction; END;
CREATE FUNCTION pg_temp.make_due() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	UPDATE order_engine.payment SET next_attempt_at = now() - interval '1 s' WHERE next_attempt_at IS NOT NULL;
	SET LOCAL session_replication_role = origin;
END $$;
CREATE TEMP VIEW money AS
SELECT order_id AS id, state, payment_status, total, authorized_total AS auth, captured_total AS capt, refunded_total AS refd,
	credited_total AS cred, version FROM order_engine.orders;
CREATE TEMP VIEW pay AS
SELECT order_id AS id, state, amount, authorized AS auth, captured AS capt, voided AS void, attempts AS tries, next_attempt_at IS NOT NULL AS planned
FROM order_engine.payment ORDER BY payment_id;
CREATE TEMP VIEW event AS
SELECT (payload ->> 'order_id')::bigint AS id, aggregate_seq AS seq, type, payload ->> 'from' AS "from", payload ->> 'to' AS "to", payload ->> 'kind' AS kind,
	payload -> 'amount' AS amount, payload ->> 'reason' AS reason, payload ->> 'order' AS "order", payload ? 'next_attempt_at' AS planned
FROM order_engine.outbox WHERE aggregatetype = 'order' ORDER BY 1, 2;

-- A payment that is given up while its next attempt is planned is not attempted again.
SELECT pg_temp.place(2) AS id \gset
SELECT order_engine.request_payment(:id, 'capture') AS t \gset
SELECT order_engine.record_payment(:t, 'failure');
SELECT order_engine.transition('payment', pg_temp.payment_of(:t), 'void');
SELECT pg_temp.make_due(), order_engine.retry_payments(10);
SELECT * FROM event WHERE id = :id;
-- and stands in the way of no other; the same for an UPDATE written by hand, and for one that is forced
SELECT order_engine.request_payment(:id, 'capture') AS t \gset
SELECT order_engine.record_payment(:t, 'failure');
UPDATE order_engine.payment SET state = 'failed' WHERE payment_id = pg_temp.payment_of(:t);
SELECT order_engine.request_payment(:id, 'authorization') AS t \gset
SELECT order_engine.force_transition('payment', pg_temp.payment_of(:t), 'void', 'nobody knows it');
SELECT order_engine.record_payment(:t, 'failure');
SELECT * FROM pay WHERE id = :id;
SELECT state FROM money WHERE id = :id;

-- An attempt asks for no more than the order needs by then.
SELECT pg_temp.place(5) AS id \gset
SELECT order_engine.request_payment(:id, 'capture') AS t \gset
SELECT order_engine.record_payment(:t, 'failure');
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 4}]');
SELECT pg_temp.make_due(), order_engine.retry_payments(10);
SELECT max(transaction_id) AS t FROM order_engine.payment_transaction WHERE order_id = :id \gset
SELECT order_engine.record_payment(:t, 'failure');
SELECT * FROM event WHERE id = :id;
-- or for nothing
SELECT pg_temp.place(5) AS id \gset
SELECT order_engine.request_payment(:id, 'capture', 20) AS t1, order_engine.request_payment(:id, 'capture', 30) AS t2 \gset
SELECT order_engine.record_payment(:t1, 'failure'), order_engine.record_payment(:t2, 'success');
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 2}]');
SELECT pg_temp.make_due(), order_engine.retry_payments(10);
SELECT * FROM event WHERE id = :id AND seq > 5;
SELECT * FROM pay WHERE id = :id;

-- Void was asked for before the authorization failed: that was the last attempt, and no reason to cancel the order.
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.request_payment(:id, 'void', payment_id => pg_temp.payment_of(:a)) AS v \gset
SELECT order_engine.record_payment(:a, 'failure');
SELECT order_engine.record_payment(:v, 'failure');
SELECT * FROM event WHERE id = :id;
SELECT * FROM pay WHERE id = :id;

-- The last hope of a payment may be a capture.
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.request_payment(:id, 'capture', payment_id => pg_temp.payment_of(:a)) AS c \gset
SELECT order_engine.record_payment(:a, 'failure', details => '{"final": true}');
SELECT order_engine.record_payment(:c, 'failure');
SELECT * FROM event WHERE id = :id;

-- What is left of an authorization behind its end pays nothing, also when nobody can void it.
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.record_payment(:a, 'success', details => '{"expires_at": "2000-01-01T00:00:00Z"}');
SELECT order_engine.request_payment(:id, 'capture', payment_id => pg_temp.payment_of(:a)) AS c \gset
SELECT order_engine.transition('payment', pg_temp.payment_of(:a), 'expire');
SELECT order_engine.record_payment(:c, 'failure');
SELECT max(transaction_id) AS v FROM order_engine.payment_transaction WHERE order_id = :id \gset
SELECT order_engine.record_payment(:v, 'failure');
SELECT * FROM pay WHERE id = :id;
SELECT * FROM money WHERE id = :id;
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'confirm')$$, :id)) LIKE '%do not cover%' AS refused LIMIT 1;
-- an operator knows of an authorization that was never reported, and of its end
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.force_transition('payment', pg_temp.payment_of(:a), 'authorize', 'on the phone'),
	order_engine.force_transition('payment', pg_temp.payment_of(:a), 'expire', 'on the phone');
SELECT order_engine.record_payment(:a, 'success');
SELECT * FROM pay WHERE id = :id;

-- Reports that are repeated: of a failure the amount means nothing, and the time of the decision stays.
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'capture') AS t \gset
SELECT order_engine.record_payment(:t, 'failure', 'x3', 5);
SELECT order_engine.record_payment(:t, 'failure', 'x3', 5);
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'capture') AS t \gset
SELECT order_engine.record_payment(:t, 'success');
SELECT order_engine.record_payment(:t, 'success', 'x4');
SELECT decided_at < updated_at AS decided_before FROM order_engine.payment_transaction WHERE transaction_id = :t;

-- Goods came back that were not paid: the rest is.
SELECT pg_temp.place(5, 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT order_engine.transition('fulfillment', :f, e) FROM unnest('{ready,ship,deliver}'::text[]) e;
SELECT order_engine.request_payment(:id, 'capture', 10) AS c \gset
SELECT order_engine.record_payment(:c, 'success');
SELECT cardinality(order_engine.refund(:id, 10));
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 3}]', 'r', refund_amount => 35) AS r \gset
SELECT order_engine.transition('return', :r, 'approve');
SELECT order_engine.receive_return(:r, '[{"line_no": 1, "quantity": 3, "disposition": "discard"}]');
SELECT payment_status FROM money WHERE id = :id;
SELECT order_engine.transition('return', :r, 'close');
SELECT * FROM money WHERE id = :id;

-- Triggers of the application that use verbs: the event that is under way gets the next number.
CREATE FUNCTION place_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM order_engine.place_hold(NEW.order_id, 'review');
	RETURN NULL;
END $$;
CREATE TRIGGER app AFTER UPDATE ON order_engine.payment FOR EACH ROW
	WHEN (NEW.captured > OLD.captured OR NEW.attempts > OLD.attempts) EXECUTE FUNCTION place_hold();
SELECT pg_temp.place(2) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.record_payment(:a, 'success');
SELECT order_engine.request_payment(:id, 'capture', 5, payment_id => pg_temp.payment_of(:a)) AS c1,
	order_engine.request_payment(:id, 'capture', 5, payment_id => pg_temp.payment_of(:a)) AS c2 \gset
SELECT order_engine.record_payment(:c1, 'success'), order_engine.record_payment(:c2, 'success');
SELECT * FROM event WHERE id = :id AND seq > 5;
SELECT pg_temp.place(2) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.record_payment(:a, 'failure');
SELECT * FROM event WHERE id = :id AND seq > 2;
DROP TRIGGER app ON order_engine.payment;
CREATE TRIGGER app AFTER UPDATE ON order_engine.orders FOR EACH ROW WHEN (NEW.credited_total > OLD.credited_total) EXECUTE FUNCTION place_hold();
SELECT pg_temp.place(2) AS id \gset
SELECT order_engine.request_payment(:id, 'capture', 5) AS c1, order_engine.request_payment(:id, 'capture', 15) AS c2 \gset
SELECT order_engine.record_payment(:c1, 'success'), order_engine.record_payment(:c2, 'success');
SELECT cardinality(order_engine.refund(:id));
SELECT * FROM event WHERE id = :id AND seq > 5;
DROP TRIGGER app ON order_engine.orders;
-- each tells its own
CREATE FUNCTION expire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE order_engine.payment SET expires_at = now() - interval '1 s' WHERE payment_id = NEW.payment_id;
	PERFORM order_engine.transition('payment', NEW.payment_id, 'expire');
	RETURN NULL;
END $$;
CREATE TRIGGER app AFTER UPDATE ON order_engine.payment FOR EACH ROW WHEN (NEW.state = 'authorized' AND OLD.state = 'pending') EXECUTE FUNCTION expire();
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.record_payment(order_engine.request_payment(:id, 'authorization'), 'success');
SELECT aggregate_seq AS seq, type, payload ? 'transaction_id' AS transaction FROM order_engine.outbox WHERE aggregateid = :'id' ORDER BY 1;
DROP TRIGGER app ON order_engine.payment;
-- and their errors are theirs
CREATE TABLE seen (x integer PRIMARY KEY);
INSERT INTO seen VALUES (1);
CREATE FUNCTION insert_seen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen VALUES (1);
	RETURN NULL;
END $$;
CREATE TRIGGER app AFTER UPDATE ON order_engine.payment_transaction FOR EACH ROW EXECUTE FUNCTION insert_seen();
SELECT attempt(format($$SELECT order_engine.record_payment(%s, 'success', 'r')$$, order_engine.request_payment(pg_temp.place(1), 'capture')));
DROP TRIGGER app ON order_engine.payment_transaction;

-- Attempts are made in the name of the tenant, and one that fails stops no other.
SELECT count(order_engine.transition('payment', payment_id, 'void')) FROM order_engine.payment WHERE next_attempt_at IS NOT NULL;
BEGIN;
SET LOCAL order_engine.tenant = 'acme';
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS t \gset
SELECT order_engine.record_payment(:t, 'failure');
COMMIT;
SELECT pg_temp.place(2) AS bad \gset
SELECT order_engine.request_payment(:bad, 'authorization') AS t \gset
SELECT order_engine.record_payment(:t, 'failure');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'no';
END $$;
CREATE TRIGGER app BEFORE UPDATE ON order_engine.orders FOR EACH ROW WHEN (NEW.total = 20) EXECUTE FUNCTION refuse();
SELECT pg_temp.make_due();
SELECT order_engine.run_maintenance(time_limit => '1 hour') -> 'payments_retried' AS retried;
SELECT seq, event, tenant, reason FROM order_engine.history WHERE order_id = :id ORDER BY seq;
SELECT headers - 'actor' AS headers FROM order_engine.outbox WHERE aggregateid = :'id' ORDER BY aggregate_seq DESC LIMIT 1;
SELECT next_attempt_at BETWEEN now() + interval '4 min' AND now() + interval '5 min' AS later FROM order_engine.payment WHERE order_id = :bad;
DROP TRIGGER app ON order_engine.orders;
SELECT attempt('SELECT order_engine.retry_payments(0)'), attempt('SELECT order_engine.retry_payments(NULL)');

-- every sequence of events is gapless, and nothing is out of balance
SELECT aggregateid FROM order_engine.outbox GROUP BY aggregateid HAVING count(*) <> max(aggregate_seq) OR count(DISTINCT aggregate_seq) <> count(*);
SELECT * FROM order_engine.verify_orders();
SELECT * FROM order_engine.verify_stock();
DROP TABLE seen;
DROP FUNCTION place_hold, expire, insert_seen, refuse;
