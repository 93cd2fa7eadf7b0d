-- Refunds and chargebacks.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR', tracked => false), order_engine.upsert_product('B', 'B', 2.50, 'EUR', tracked => false);
CREATE FUNCTION pg_temp.place() RETURNS bigint LANGUAGE sql
RETURN order_engine.place_order('c', '[{"sku": "A", "quantity": 4}, {"sku": "B", "quantity": 4}]', 'EUR');
-- a payment that was captured at once
CREATE FUNCTION pg_temp.pay(id bigint, amount numeric DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	t bigint := order_engine.request_payment(id, 'capture', amount, provider => 'psp');
BEGIN
	PERFORM order_engine.record_payment(t, 'success', 'capture ' || t);
	RETURN (SELECT payment_id FROM order_engine.payment_transaction WHERE transaction_id = t);
END $$;
CREATE TEMP VIEW money AS
SELECT order_id AS id, state, payment_status, total, captured_total AS capt, refunded_total AS refd, charged_back_total AS back, credited_total AS cred,
	total - credited_total - (captured_total - refunded_total - charged_back_total) AS balance, on_hold AS hold, version FROM order_engine.orders;
CREATE TEMP VIEW pay AS
SELECT order_id AS id, state, captured AS capt, refunded AS refd, charged_back AS back FROM order_engine.payment ORDER BY payment_id;
CREATE TEMP VIEW trans AS
SELECT order_id AS id, kind, state, requested, amount, credited, reason FROM order_engine.payment_transaction WHERE kind <> 'capture' ORDER BY transaction_id;
CREATE TEMP VIEW event AS
SELECT (payload ->> 'order_id')::bigint AS id, aggregate_seq AS seq, type, payload ->> 'from' AS "from", payload ->> 'to' AS "to", payload -> 'kind' AS kind,
	payload -> 'amount' AS amount, payload ->> 'reason' AS reason FROM order_engine.outbox WHERE aggregatetype = 'order' ORDER BY 1, 2;

-- nothing is paid
SELECT pg_temp.place() AS id \gset
SELECT attempt(format($$SELECT order_engine.refund(%s)$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, 1)$$, :id));

-- goodwill, then items, then the rest, over two payments
SELECT pg_temp.pay(:id, 20) AS p1, pg_temp.pay(:id) AS p2 \gset
SELECT cardinality(order_engine.refund(:id, 5, 'late', idempotency_key => 'g')) AS refunds;
SELECT cardinality(order_engine.refund(:id, 5.00, 'late', idempotency_key => 'g')) AS refunds, order_engine.was_replayed();
SELECT * FROM money WHERE id = :id;
SELECT attempt(format($$SELECT order_engine.refund(%s, 45.01)$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, 15.01, payment_id => %s)$$, :id, :p1));
SELECT order_engine.refund(:id, items => '[{"line_no": 1, "quantity": 1}, {"line_no": 2, "quantity": 3}]', reason => 'broken') AS ids \gset
SELECT cardinality(:'ids'::bigint[]) AS refunds;
SELECT order_engine.refund(:id, 1, payment_id => :p2) AS ids2 \gset
SELECT * FROM trans WHERE id = :id;
SELECT count(order_engine.record_payment(transaction_id, 'success', 'r' || transaction_id)) FROM order_engine.payment_transaction WHERE kind = 'refund' AND state = 'initial' AND order_id = :id;
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
SELECT order_engine.refund(:id, reason => 'all of it') AS ids \gset
SELECT count(order_engine.record_payment(t, 'success', 'r' || t)) FROM unnest(:'ids'::bigint[]) t;
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
SELECT seq, type, "from", "to", amount, reason FROM event WHERE id = :id;
-- a repeated report, and nothing more to refund
SELECT order_engine.record_payment((:'ids'::bigint[])[1], 'success');
SELECT attempt(format($$SELECT order_engine.refund(%s)$$, :id));

-- what was overpaid comes first
SELECT pg_temp.place() AS id \gset
SELECT pg_temp.pay(:id) AS p \gset
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 1}]');
SELECT * FROM money WHERE id = :id;
SELECT cardinality(order_engine.refund(:id, 4)), cardinality(order_engine.refund(:id, 10)), cardinality(order_engine.refund(:id, 2));
SELECT * FROM trans WHERE id = :id;
SELECT * FROM money WHERE id = :id;
-- a refund that fails takes back its credit, and no more
SELECT array_agg(transaction_id ORDER BY transaction_id) AS ids FROM order_engine.payment_transaction WHERE order_id = :id AND kind = 'refund' \gset
SELECT order_engine.record_payment((:'ids'::bigint[])[1], 'failure'), order_engine.record_payment((:'ids'::bigint[])[2], 'failure');
SELECT * FROM money WHERE id = :id;
SELECT order_engine.record_payment((:'ids'::bigint[])[3], 'success', 's1', 1.50);
SELECT * FROM money WHERE id = :id;
SELECT seq, type, "from", "to", amount, reason FROM event WHERE id = :id AND seq > 4;
-- nobody owes less than nothing
SELECT cardinality(order_engine.refund(:id));
SELECT * FROM money WHERE id = :id;
SELECT order_engine.cancel_order(:id, 'r', '[{"line_no": 1, "quantity": 2}]');
SELECT * FROM money WHERE id = :id;

-- arguments
SELECT pg_temp.place() AS id \gset
SELECT pg_temp.pay(:id) AS p \gset
SELECT attempt(format($$SELECT order_engine.refund(%s, 0)$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, -1)$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, 0.001)$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, 'NaN')$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, 1, items => '[{"line_no": 1, "quantity": 1}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, items => '[{"line_no": 3, "quantity": 1}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, items => '[{"line_no": 1, "quantity": 4}, {"line_no": 1, "quantity": 1}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, items => '[{"line_no": 1, "quantity": 1, "sku": "A"}]')$$, :id));
SELECT attempt($$SELECT order_engine.refund(99)$$);
SELECT attempt(format($$SELECT order_engine.refund(%s, payment_id => 99)$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, payment_id => payment_id) FROM order_engine.payment LIMIT 1$$, :id));
SELECT attempt(format($$SELECT order_engine.refund(%s, expected_version => 1)$$, :id)) LIKE 'OE003%' AS conflict LIMIT 1;
SELECT version FROM money WHERE id = :id;

-- chargebacks
SELECT order_engine.record_chargeback(:p, 20, 'cb1', 'fraud', '{"code": "4837"}') AS cb \gset
SELECT order_engine.record_chargeback(:p, 20.00, 'cb1') = :cb AS same;
SELECT regexp_replace(attempt(format($$SELECT order_engine.record_chargeback(%s, 21, 'cb1')$$, :p)), '("payment_id": )\d+', '\1N', 'g');
SELECT attempt(format($$SELECT order_engine.record_chargeback(%s, 30.01, 'cb2')$$, :p));
SELECT attempt(format($$SELECT order_engine.record_chargeback(%s, 0, 'cb2')$$, :p));
SELECT attempt(format($$SELECT order_engine.record_chargeback(%s, 1, NULL)$$, :p));
SELECT attempt($$SELECT order_engine.record_chargeback(99, 1, 'cb2')$$);
SELECT * FROM money WHERE id = :id;
SELECT reason, note, released_at FROM order_engine.order_hold WHERE order_id = :id;
SELECT attempt(format($$SELECT order_engine.refund(%s, 30.01)$$, :id));
SELECT * FROM trans WHERE id = :id;
SELECT order_engine.record_chargeback(:p, 30, 'cb3') IS NOT NULL AS recorded;
SELECT * FROM money WHERE id = :id;
SELECT * FROM pay WHERE id = :id;
SELECT seq, type, "from", "to", amount, reason FROM event WHERE id = :id;
-- the customer owes it again
SELECT order_engine.request_payment(:id, 'capture') IS NOT NULL AS requested;
SELECT amount FROM order_engine.payment WHERE order_id = :id ORDER BY payment_id DESC LIMIT 1;

-- every sequence of events is gapless
SELECT aggregateid FROM order_engine.outbox GROUP BY aggregateid HAVING count(*) <> max(aggregate_seq);
