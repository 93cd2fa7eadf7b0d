-- order_json(): an order with everything that belongs to it.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SELECT order_engine.upsert_product('A', 'Tea', 10, 'EUR');
SELECT order_engine.adjust_stock('A', 'default', 100, 'delivery');
SELECT order_engine.place_order('C1', '[{"sku": "A", "quantity": 2}]', 'EUR', order_number => 'N1') AS id \gset
SELECT order_engine.place_order('C2', '[{"sku": "A", "quantity": 1}]', 'EUR', order_number => 'N2') AS other \gset
-- nothing yet: empty arrays
SELECT key, jsonb_array_length(value) AS length FROM jsonb_each(order_engine.order_json(:id)) WHERE key <> 'order' ORDER BY key;

INSERT INTO order_engine.payment (payment_id, order_id, machine_id, state, state_since, created_at, updated_at, amount, kind, currency, provider)
SELECT n, CASE n WHEN 103 THEN :other ELSE :id END, 3, 'pending', now(), now(), now(), 20, 'authorization', 'EUR', 'default' FROM generate_series(101, 103) AS n;
INSERT INTO order_engine.payment_transaction (transaction_id, payment_id, order_id, amount, requested, created_at, updated_at, kind, state, provider)
SELECT n, CASE n WHEN 203 THEN 103 ELSE 102 END, CASE n WHEN 203 THEN :other ELSE :id END, 20, 20, now(), now(), 'authorization', 'initial', 'default' FROM generate_series(201, 203) AS n;
INSERT INTO order_engine.fulfillment (fulfillment_id, order_id, machine_id, state, state_since, created_at, updated_at)
SELECT n, :id, 4, 'pending', now(), now(), now() FROM generate_series(301, 302) AS n;
INSERT INTO order_engine.fulfillment_line VALUES (301, 2, 1, 1), (301, 1, 1, 1);
INSERT INTO order_engine.order_return (return_id, order_id, machine_id, state, state_since, created_at, updated_at, reason)
VALUES (401, :id, 5, 'requested', now(), now(), now(), 'too small');
INSERT INTO order_engine.return_line (return_id, line_no, quantity, open) VALUES (401, 1, 2, 2);
SELECT order_engine.place_hold(:id, 'fraud', 'a note') > 0 AS held;

-- columns that were not set and times are left out for brevity
CREATE FUNCTION brief(value jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE jsonb_typeof(value)
		WHEN 'array' THEN coalesce((SELECT jsonb_agg(brief(e)) FROM jsonb_array_elements(value) AS e), '[]')
		WHEN 'object' THEN (SELECT jsonb_object_agg(k, brief(v)) FROM jsonb_each(value) AS x (k, v)
			WHERE k !~ '_at$|_since$|placed_by|hold_id' AND v NOT IN ('null', '0'))
		ELSE value END;
END $$;
SELECT key, brief(value) AS value FROM jsonb_each(order_engine.order_json(:id)) WHERE key IN ('payments', 'fulfillments', 'returns', 'holds') ORDER BY key;
SELECT brief(order_engine.order_json(:other) -> 'payments') AS payments;
-- the keys are those of the table
SELECT string_agg(key, ' ' ORDER BY key) FROM jsonb_object_keys(order_engine.order_json(:id) #> '{holds,0}') AS key;

DROP FUNCTION brief, attempt;
