-- Payments: requests, reports, retries and what becomes of the order.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR'), order_engine.adjust_stock('A', 'default', 100, 'r') IS NOT NULL AS stock;
CREATE FUNCTION pg_temp.place(quantity integer, terms text DEFAULT 'prepaid') RETURNS bigint LANGUAGE sql
RETURN order_engine.place_order('c', jsonb_build_array(jsonb_build_object('sku', 'A', 'quantity', quantity)), 'EUR', terms => terms);
CREATE FUNCTION pg_temp.payment_of(transaction bigint) RETURNS bigint LANGUAGE sql
BEGIN ATOMIC SELECT payment_id FROM order_engine.payment_transaction WHERE transaction_id = transaction; END;
CREATE FUNCTION pg_temp.first_line(command text) RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT a FROM attempt(command) a LIMIT 1; END;
CREATE TEMP VIEW money AS
SELECT order_id AS id, state, payment_status, authorized_total AS auth, captured_total AS capt, refunded_total AS refd,
	charged_back_total AS back, credited_total AS cred, version FROM order_engine.orders;
CREATE TEMP VIEW pay AS
SELECT order_id AS id, state, amount, authorized AS auth, captured AS capt, voided AS void, refunded AS refd, charged_back AS back,
	attempts AS tries, next_attempt_at IS NOT NULL AS planned FROM order_engine.payment ORDER BY payment_id;
CREATE TEMP VIEW trans AS
SELECT order_id AS id, kind, state, requested, amount, attempt, provider_ref, reason FROM order_engine.payment_transaction ORDER BY transaction_id;
CREATE TEMP VIEW event AS
SELECT (payload ->> 'order_id')::bigint AS id, aggregate_seq AS seq, type, payload ->> 'from' AS "from", payload ->> 'to' AS "to", payload -> 'kind' AS kind,
	payload -> 'amount' AS amount, payload ->> 'reason' AS reason FROM order_engine.outbox WHERE aggregatetype = 'order' ORDER BY 1, 2;

-- authorize, capture twice, void the rest
SELECT pg_temp.place(10) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization', method => 'card', provider => 'psp', metadata => '{"wallet": 1}') AS auth \gset
SELECT pg_temp.payment_of(:auth) AS payment \gset
SELECT payload - 'order_id' - 'payment_id' - 'transaction_id' - 'order_number' AS payload, payload -> 'transaction_id' = to_jsonb(:auth) AS transaction,
	payload -> 'payment_id' = to_jsonb(:payment) AS payment FROM order_engine.outbox WHERE type = 'payment.requested';
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'confirm')$$, :id));
SELECT order_engine.record_payment(:auth, 'pending', 'ref-1');
SELECT order_engine.record_payment(:auth, 'success', 'ref-1');
-- the webhook says it again, and what was under way comes late
SELECT order_engine.record_payment(:auth, 'success', 'ref-1', 100);
SELECT order_engine.record_payment(:auth, 'success');
SELECT order_engine.record_payment(:auth, 'timeout');
SELECT * FROM money WHERE id = :id;
SELECT round(extract(epoch FROM expires_at - state_since) / 3600) AS hours, metadata FROM order_engine.payment WHERE payment_id = :payment;
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.request_payment(:id, 'capture', 40, payment_id => :payment) AS c1 \gset
SELECT order_engine.request_payment(:id, 'capture', 30, payment_id => :payment) AS c2 \gset
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', 30.01, payment_id => %s)$$, :id, :payment));
SELECT order_engine.record_payment(:c2, 'success', 'ref-3');
SELECT * FROM money WHERE id = :id;
-- less than was requested
SELECT order_engine.record_payment(:c1, 'success', 'ref-2', 35);
SELECT order_engine.request_payment(:id, 'void', payment_id => :payment, reason => 'rest not needed') AS v \gset
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', payment_id => %s)$$, :id, :payment));
SELECT order_engine.record_payment(:v, 'success');
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
SELECT * FROM trans WHERE id = :id;
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
SELECT seq, entity, event, from_state, to_state, reason FROM order_engine.history WHERE order_id = :id ORDER BY seq;

-- reports that contradict
SELECT pg_temp.first_line(format($$SELECT order_engine.record_payment(%s, 'failure')$$, :auth)) LIKE 'OE302%' AS conflict;
SELECT pg_temp.first_line(format($$SELECT order_engine.record_payment(%s, 'success', 'ref-9')$$, :auth)) LIKE 'OE302%' AS conflict;
SELECT pg_temp.first_line(format($$SELECT order_engine.record_payment(%s, 'success', 'ref-1', 99)$$, :auth)) LIKE 'OE302%' AS conflict;
SELECT regexp_replace(attempt(format($$SELECT order_engine.record_payment(%s, 'success', 'ref-1', 99)$$, :auth)), '("transaction_id": )\d+', '\1N', 'g');
SELECT pg_temp.place(1) AS other \gset
SELECT order_engine.request_payment(:other, 'authorization', provider => 'psp') AS t \gset
SELECT regexp_replace(attempt(format($$SELECT order_engine.record_payment(%s, 'success', 'ref-1')$$, :t)), '("transaction_id": )\d+', '\1N', 'g');
SELECT attempt(format($$SELECT order_engine.record_payment(%s, 'success', 'ref-t', 10.01)$$, :t));
SELECT attempt(format($$SELECT order_engine.record_payment(%s, 'success', 'ref-t', 0)$$, :t));
SELECT attempt(format($$SELECT order_engine.record_payment(%s, 'success', 'ref-t', 1.001)$$, :t));
SELECT attempt(format($$SELECT order_engine.record_payment(%s, 'done')$$, :t));
SELECT attempt(format($$SELECT order_engine.record_payment(%s, 'failure', details => '{"final": 1}')$$, :t));
SELECT attempt(format($$SELECT order_engine.record_payment(%s, 'success', details => '{"expires_at": "soon"}')$$, :t));
SELECT attempt($$SELECT order_engine.record_payment(99, 'success')$$);
SELECT state, version FROM money WHERE id = :other;
-- a success after a time-out; the reference may come later, and once
SELECT order_engine.record_payment(:t, 'timeout');
SELECT order_engine.record_payment(:t, 'success', details => '{"expires_at": "2099-01-01T00:00:00Z", "score": 7}');
SELECT order_engine.record_payment(:t, 'success', 'ref-t');
SELECT order_engine.record_payment(:t, 'success', 'ref-t');
SELECT pg_temp.first_line(format($$SELECT order_engine.record_payment(%s, 'success', 'ref-u')$$, :t)) LIKE 'OE302%' AS conflict;
SELECT kind, state, provider_ref, details, decided_at IS NOT NULL AS decided FROM order_engine.payment_transaction WHERE transaction_id = :t;
SELECT expires_at AT TIME ZONE 'UTC' AS expires FROM order_engine.payment WHERE order_id = :other;
SELECT version FROM money WHERE id = :other;

-- requests that cannot be
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'authorization')$$, :other));
SELECT pg_temp.place(2) AS id \gset
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', 20.01)$$, :id));
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', 0)$$, :id));
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', 1.234)$$, :id));
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', -1)$$, :id));
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'refund')$$, :id));
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'void')$$, :id));
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'authorization', payment_id => %s)$$, :id, :payment));
SELECT left(pg_temp.first_line(format($$SELECT order_engine.request_payment(%s, 'capture', payment_id => %s)$$, :id, :payment)), 5) AS sqlstate;
SELECT pg_temp.first_line(format($$SELECT order_engine.request_payment(%s, 'capture', expected_version => 7)$$, :id)) LIKE 'OE003%' AS conflict;
SELECT attempt($$SELECT order_engine.request_payment(99, 'capture')$$);
SELECT attempt($$SELECT order_engine.request_payment(NULL, 'capture')$$);
-- undecided requests count
SELECT order_engine.request_payment(:id, 'authorization', 15, idempotency_key => 'k') AS t \gset
SELECT order_engine.request_payment(:id, 'authorization', 15.00, idempotency_key => 'k') = :t AS replayed;
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', 5.01)$$, :id));
-- captured at once, beside an authorization
SELECT order_engine.request_payment(:id, 'capture', expected_version => 2) AS c \gset
SELECT order_engine.record_payment(:c, 'success', 'x');
SELECT * FROM money WHERE id = :id;
SELECT order_engine.record_payment(:t, 'success', 'x', 10);
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
-- what the authorization lacks can be requested
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', 5.01)$$, :id));

-- a capture that is reported before the authorization that it rests on
SELECT pg_temp.place(3) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT pg_temp.payment_of(:a) AS payment \gset
SELECT order_engine.request_payment(:id, 'capture', 20, payment_id => :payment) AS c \gset
SELECT order_engine.record_payment(:c, 'success', 'o1');
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
SELECT order_engine.record_payment(:a, 'success', 'o2');
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;

-- what no payment service has said cannot be written
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT pg_temp.payment_of(:a) AS payment \gset
SELECT regexp_replace(attempt(format($$UPDATE order_engine.payment SET state = '%s' WHERE payment_id = %s$$, s, :payment)), '("id": )\d+', '\1N')
FROM unnest(ARRAY['authorized', 'captured', 'refunded', 'failed', 'voided', 'expired']) s;
SELECT attempt(format($$UPDATE order_engine.payment SET %s = %s WHERE payment_id = %s$$, c, v, :payment))
FROM (VALUES ('authorized', '10'), ('captured', '10'), ('voided', '1'), ('refunded', '1'), ('charged_back', '1'), ('amount', '1'),
	('attempts', '2'), ('next_attempt_at', 'now()'), ('kind', '''capture'''), ('currency', '''USD'''), ('provider', '''x''')) v (c, v);
SELECT * FROM order_engine.allowed_events('payment', :payment);
SELECT order_engine.record_payment(:a, 'success', 'h1');
SELECT regexp_replace(attempt(format($$UPDATE order_engine.payment SET state = '%s' WHERE payment_id = %s$$, s, :payment)), '("id": )\d+', '\1N')
FROM unnest(ARRAY['captured', 'voided', 'expired']) s;

-- an authorization expires
UPDATE order_engine.payment SET expires_at = now() - interval '1 s' WHERE payment_id = :payment;
SELECT order_engine.transition('payment', :payment, 'expire');
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
SELECT * FROM trans WHERE id = :id;
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
-- and nothing is left to capture, but new money can be asked for
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture', payment_id => %s)$$, :id, :payment));
SELECT order_engine.request_payment(:id, 'capture') AS c \gset

-- attempts: twice more, then the order is cancelled
SELECT pg_temp.place(2) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization', method => 'card') AS t \gset
SELECT pg_temp.payment_of(:t) AS payment \gset
SELECT order_engine.record_payment(:t, 'failure', 'f1', details => '{"code": "do_not_honor"}');
SELECT order_engine.record_payment(:t, 'failure', 'f1');
SELECT round(extract(epoch FROM next_attempt_at - updated_at)) AS wait, state FROM order_engine.payment WHERE payment_id = :payment;
SELECT order_engine.retry_payments(10) AS nothing_due;
-- the next attempt counts as requested
SELECT attempt(format($$SELECT order_engine.request_payment(%s, 'capture')$$, :id));
CREATE FUNCTION pg_temp.due(id bigint) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	UPDATE order_engine.payment SET next_attempt_at = now() - interval '1 s' WHERE payment_id = id;
	SET LOCAL session_replication_role = origin;
	RETURN order_engine.retry_payments(10);
END $$;
SELECT pg_temp.due(:payment);
SELECT max(transaction_id) AS t FROM order_engine.payment_transaction WHERE payment_id = :payment \gset
SELECT order_engine.record_payment(:t, 'failure', 'f2');
SELECT round(extract(epoch FROM next_attempt_at - updated_at)) AS wait, attempts FROM order_engine.payment WHERE payment_id = :payment;
SELECT pg_temp.due(:payment);
SELECT max(transaction_id) AS t FROM order_engine.payment_transaction WHERE payment_id = :payment \gset
SELECT order_engine.record_payment(:t, 'failure', 'f3');
SELECT * FROM pay WHERE id = :id;
SELECT * FROM trans WHERE id = :id;
SELECT * FROM money WHERE id = :id;
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
SELECT payload -> 'attempt' AS attempt, payload -> 'attempts' AS attempts, payload ->> 'order' AS "order",
	(payload ->> 'next_attempt_at')::timestamptz BETWEEN created_at AND created_at + interval '1 day' AS planned FROM order_engine.outbox
WHERE type IN ('payment.failed', 'payment.attempt_failed') AND aggregateid = :'id' ORDER BY aggregate_seq;
SELECT reserved FROM order_engine.stock WHERE sku = 'A';
SELECT pg_temp.first_line(format($$SELECT order_engine.request_payment(%s, 'capture')$$, :id)) LIKE 'OE002%cancelled' AS dead;
-- it is of no use to try again, but another payment covers what is left of the order
SELECT pg_temp.place(2) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization', 10) AS t1, order_engine.request_payment(:id, 'authorization', 10) AS t2 \gset
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 1}]');
SELECT order_engine.record_payment(:t1, 'failure', details => '{"final": true}');
SELECT state, payload ->> 'order' AS "order" FROM order_engine.outbox JOIN order_engine.orders ON order_id = :id
WHERE type = 'payment.failed' AND aggregateid = :'id';
-- nor does an order on invoice end with a payment
SELECT pg_temp.place(2, 'invoice') AS id \gset
SELECT order_engine.request_payment(:id, 'capture') AS t \gset
SELECT order_engine.record_payment(:t, 'failure', details => '{"final": true}');
SELECT state, payment_status FROM money WHERE id = :id;
-- one of two fails: the order is cancelled, and the other one given back
SELECT pg_temp.place(2) AS id \gset
SELECT order_engine.request_payment(:id, 'capture', 5) AS t1, order_engine.request_payment(:id, 'authorization', 15) AS t2 \gset
SELECT order_engine.record_payment(:t1, 'success', 'g1');
SELECT order_engine.record_payment(:t2, 'failure', details => '{"final": true}');
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
SELECT * FROM money WHERE id = :id;
-- a capture of an authorization that fails can be requested again
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS t \gset
SELECT pg_temp.payment_of(:t) AS payment \gset
SELECT order_engine.record_payment(:t, 'success', 'i1');
SELECT order_engine.request_payment(:id, 'capture', payment_id => :payment) AS c \gset
SELECT order_engine.record_payment(:c, 'failure', 'i2');
SELECT order_engine.request_payment(:id, 'void', payment_id => :payment) AS v \gset
SELECT order_engine.record_payment(:v, 'failure', 'i3');
SELECT order_engine.request_payment(:id, 'capture', payment_id => :payment) AS c \gset
SELECT order_engine.record_payment(:c, 'success', 'i4');
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
SELECT * FROM money WHERE id = :id;

-- success on a dead order: the money goes back
SELECT pg_temp.place(2) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization', 5) AS t1, order_engine.request_payment(:id, 'capture', 15) AS t2 \gset
SELECT order_engine.cancel_order(:id, 'changed his mind');
SELECT order_engine.record_payment(:t1, 'success', 'd1'), order_engine.record_payment(:t2, 'success', 'd2');
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
SELECT max(transaction_id) FILTER (WHERE kind = 'void') AS v, max(transaction_id) FILTER (WHERE kind = 'refund') AS r
FROM order_engine.payment_transaction WHERE order_id = :id \gset
SELECT order_engine.record_payment(:v, 'success', 'd3'), order_engine.record_payment(:r, 'success', 'd4');
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
-- cancelled with an authorization, a capture, and an attempt that is planned
SELECT pg_temp.place(3) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization', 5) AS t1, order_engine.request_payment(:id, 'capture', 15) AS t2,
	order_engine.request_payment(:id, 'authorization', 10) AS t3 \gset
SELECT order_engine.record_payment(:t1, 'success', 'e1'), order_engine.record_payment(:t2, 'success', 'e2'), order_engine.record_payment(:t3, 'failure', 'e3');
SELECT order_engine.cancel_order(:id, 'changed his mind');
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
SELECT * FROM money WHERE id = :id;
-- expired with an authorization
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', hold_for => '1 millisecond') AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS t \gset
SELECT order_engine.record_payment(:t, 'success', 'j1');
SELECT pg_sleep(0.01);
SELECT order_engine.transition('order', :id, 'expire');
SELECT seq, type, kind, amount, reason FROM event WHERE id = :id;

-- the machine simple, and units that are cancelled after the capture
BEGIN;
SET LOCAL order_engine.order_machine = 'simple';
SELECT pg_temp.place(2) AS id \gset
COMMIT;
SELECT order_engine.request_payment(:id, 'capture') AS t \gset
SELECT order_engine.record_payment(:t, 'success', 'l1');
SELECT order_engine.transition('order', :id, 'pay'), order_engine.transition('order', :id, 'refund', 'sorry');
SELECT seq, type, kind, amount, reason FROM event WHERE id = :id;
SELECT pg_temp.place(3) AS id \gset
SELECT order_engine.request_payment(:id, 'capture', 25) AS t \gset
SELECT order_engine.record_payment(:t, 'success', 'm1');
SELECT payment_status FROM money WHERE id = :id;
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 1}]');
SELECT payment_status FROM money WHERE id = :id;

-- a void that is requested, and succeeds, before the authorization is reported
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.request_payment(:id, 'void', payment_id => pg_temp.payment_of(:a)) AS v \gset
SELECT order_engine.record_payment(:v, 'success', 'q1', idempotency_key => 'void');
SELECT order_engine.record_payment(:v, 'success', 'q1', idempotency_key => 'void'), order_engine.was_replayed();
SELECT * FROM pay WHERE id = :id;
SELECT order_engine.record_payment(:a, 'success', 'q2');
SELECT * FROM pay WHERE id = :id;
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
-- a capture that was under way when the authorization expired
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.record_payment(:a, 'success', 'p1', details => '{"expires_at": "2000-01-01T00:00:00Z"}');
SELECT order_engine.request_payment(:id, 'capture', payment_id => pg_temp.payment_of(:a)) AS c \gset
SELECT order_engine.transition('payment', pg_temp.payment_of(:a), 'expire');
SELECT * FROM money WHERE id = :id;
SELECT order_engine.record_payment(:c, 'success', 'p2', 6);
SELECT * FROM pay WHERE id = :id;
SELECT * FROM money WHERE id = :id;
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;
-- a payment that is forced to its end while its authorization and its void are undecided counts for nothing, not for less
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'authorization') AS a \gset
SELECT order_engine.request_payment(:id, 'void', payment_id => pg_temp.payment_of(:a)) AS v \gset
SELECT order_engine.force_transition('payment', pg_temp.payment_of(:a), 'fail', 'the service lost it');
SELECT * FROM money WHERE id = :id;
SELECT order_engine.record_payment(:a, 'success', 'forced1');
SELECT order_engine.record_payment(:v, 'success', 'forced2');
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
SELECT * FROM order_engine.verify_orders();
-- what is reported is recorded, whatever the machine thinks of it
SELECT order_engine.publish_machine(order_engine.define_machine('payment', 'default', '{"initial": "asked", "states": {"asked": {}, "done": {"terminal": true}},
	"transitions": [{"event": "capture", "from": "asked", "to": "done", "guards": ["refund_complete"]}]}'));
SELECT pg_temp.place(1) AS id \gset
SELECT order_engine.request_payment(:id, 'capture') AS c \gset
SELECT order_engine.record_payment(:c, 'success', 'n1');
SELECT * FROM pay WHERE id = :id;
SELECT seq, type, "from", "to", kind, amount, reason FROM event WHERE id = :id;

-- access
SELECT level, object FROM order_engine.access_rule WHERE object ~ 'payment|refund|chargeback' AND kind = 'function' ORDER BY 2;
-- every sequence of events is gapless, and nothing is out of balance
SELECT aggregateid FROM order_engine.outbox GROUP BY aggregateid HAVING count(*) <> max(aggregate_seq);
SELECT * FROM order_engine.verify_stock();
