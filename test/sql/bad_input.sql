-- Bad input: each with its SQLSTATE, message and DETAIL, and nothing left behind.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- places an order with these items, and with more arguments
CREATE FUNCTION pg_temp.place(items text, more text DEFAULT '', currency text DEFAULT 'EUR') RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT attempt(format('SELECT order_engine.place_order(%L, %L, %L%s)', 'customer', items, currency, more))
$$;

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR'), order_engine.upsert_product('Y', 'Y', 500, 'JPY'),
	order_engine.upsert_product('N', 'N');
SELECT order_engine.adjust_stock(sku, 'default', 100, 'delivery') FROM unnest('{A,Y,N}'::text[]) AS sku;
SELECT order_engine.place_order('customer', '[{"sku": "A", "quantity": 1}]', 'EUR', order_number => 'TAKEN') AS id \gset

-- what is there before
CREATE TEMP VIEW contents AS
SELECT 'orders' AS relation, count(*) AS n, md5(string_agg(t::text, ',' ORDER BY t::text)) AS hash FROM order_engine.orders t
UNION ALL SELECT 'order_line', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.order_line t
UNION ALL SELECT 'stock', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.stock t
UNION ALL SELECT 'reservation', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.reservation t
UNION ALL SELECT 'stock_movement', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.stock_movement t
UNION ALL SELECT 'history', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.history t
UNION ALL SELECT 'outbox', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.outbox t
UNION ALL SELECT 'idempotency_key', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.idempotency_key t
UNION ALL SELECT 'product', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.product t
UNION ALL SELECT 'location', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM order_engine.location t;
CREATE TEMP TABLE before AS SELECT * FROM contents;

-- unknown SKUs: all of them
SELECT pg_temp.place('[{"sku": "X", "quantity": 1}, {"sku": "A", "quantity": 1}, {"sku": "Z\"z", "quantity": 1}]');

-- quantity
SELECT pg_temp.place('[{"sku": "A", "quantity": 0}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}, {"sku": "A", "quantity": -1}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1.5}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": "1"}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1000000001}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1e999}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": [1]}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": true}]');
SELECT pg_temp.place('[{"sku": "A"}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": null}]');
-- more than there can ever be, over several lines
SELECT pg_temp.place('[{"sku": "A", "quantity": 1000000000}, {"sku": "A", "quantity": 1000000000}, {"sku": "A", "quantity": 1000000000}]');

-- items
SELECT pg_temp.place('[]');
SELECT pg_temp.place('{"sku": "A", "quantity": 1}');
SELECT pg_temp.place('"A"');
SELECT pg_temp.place('null');
SELECT pg_temp.place('[null]');
SELECT pg_temp.place('["A"]');
SELECT pg_temp.place('[[{"sku": "A", "quantity": 1}]]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}, {}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}, {"sku": "A", "quantitty": 1}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "line_no": 1}]');
SELECT pg_temp.place('[{"sku": "", "quantity": 1}]');
SELECT pg_temp.place('[{"sku": 7, "quantity": 1}]');
SELECT pg_temp.place('[{"sku": null, "quantity": 1}]');
SELECT pg_temp.place('[{"sku": "a\u0001", "quantity": 1}]');
SELECT pg_temp.place(format('[{"sku": %s, "quantity": 1}]', to_json(repeat('x', 256))));
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "location": ""}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "seller": 7}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "metadata": []}]');
SELECT pg_temp.place(format('[{"sku": "A", "quantity": 1, "metadata": {"x": %s}}]', to_json(repeat('x', 70000))));
SELECT pg_temp.place((SELECT json_agg('{"sku": "A", "quantity": 1}'::json)::text FROM generate_series(1, 1001)));
SELECT attempt($$SELECT order_engine.place_order('customer', '[{"sku": "A", "quantity": 1}', 'EUR')$$);

-- prices
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": 9.999}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": "9.999"}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": 0.5}]', currency => 'JPY');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": -1}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": "-0.01"}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": "NaN"}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": "Infinity"}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": "1e3"}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": "1."}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": ""}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": "9,99"}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": false}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "unit_price": 1e18}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}, {"sku": "N", "quantity": 1}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1000000000, "unit_price": 999999999999}]');

-- currency
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}, {"sku": "Y", "quantity": 1}]');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', currency => 'XYZ');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', currency => 'eur');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', currency => '');

-- amounts
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', shipping => 0.001');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', tax => -1');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', tax => ''NaN''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', shipping => ''Infinity''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', shipping => 1e18');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', discount => 10.01');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', expected_total => 9.99');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', expected_total => 10.001');

-- nulls
SELECT attempt($$SELECT order_engine.place_order(NULL, '[{"sku": "A", "quantity": 1}]', 'EUR')$$);
SELECT attempt($$SELECT order_engine.place_order('customer', NULL, 'EUR')$$);
SELECT attempt($$SELECT order_engine.place_order('customer', '[{"sku": "A", "quantity": 1}]', NULL)$$);
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', channel => NULL');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', terms => NULL');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', shipping => NULL');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', tax => NULL, idempotency_key => ''null''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', discount => NULL');

-- the rest
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', terms => ''later''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', hold_for => ''0''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', hold_for => ''-1 hour''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', hold_for => ''300000 years''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', order_number => ''''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', format(', order_number => %L', repeat('x', 256)));
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', order_number => ''TAKEN''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', idempotency_key => ''''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', format(', idempotency_key => %L', repeat('x', 256)));
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', metadata => ''[1]''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', metadata => ''"text"''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', ', metadata => ''null''');
-- 1 MB of metadata, as one value and as many; it compresses well and is refused all the same
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', format(', metadata => %L', json_build_object('x', repeat('x', 1024 * 1024))));
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', format(', metadata => %L', (SELECT json_object_agg(n, 0) FROM generate_series(1, 100000) n)));
SELECT pg_temp.place('[{"sku": "A", "quantity": 101}]', ', idempotency_key => ''short''');
SELECT pg_temp.place('[{"sku": "A", "quantity": 1, "location": "nowhere"}]');
BEGIN;
SET LOCAL order_engine.order_machine = 'none';
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]');
COMMIT;

-- a missing order
SELECT attempt('SELECT order_engine.order_json(-1)');
SELECT attempt('SELECT order_engine.order_json(NULL)');
SELECT attempt($$SELECT order_engine.cancel_order(-1, 'no')$$);
SELECT attempt($$SELECT order_engine.cancel_order(NULL, 'no')$$);
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, NULL)$$, :id));

-- partial cancellations
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'no', '[{"line_no": 2, "quantity": 1}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'no', '[{"line_no": 1, "quantity": 2}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'no', '[{"line_no": 1, "quantity": 0}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'no', '[{"sku": "A", "quantity": 1}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'no', '[]')$$, :id));

-- stock, products, locations
SELECT attempt($$SELECT order_engine.adjust_stock('X', 'default', 1, 'r')$$);
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'nowhere', 1, 'r')$$);
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', NULL, 'r')$$);
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', 1, NULL)$$);
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', 2147483647, 'r')$$);
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', -100, 'r')$$);
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', 1, 'r', expected_on_hand => 99)$$);
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1, "unit_price": 1}]')$$);
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', ttl => '0')$$);
SELECT attempt($$SELECT order_engine.release_stock(-1)$$);
SELECT attempt($$SELECT order_engine.upsert_product(NULL, 'n')$$);
SELECT attempt($$SELECT order_engine.upsert_product('P', 'n', 1)$$);
SELECT attempt($$SELECT order_engine.upsert_product('P', 'n', 1.001, 'EUR')$$);
SELECT attempt($$SELECT order_engine.upsert_product('P', 'n', -1, 'EUR')$$);
SELECT attempt($$SELECT order_engine.upsert_product('P', 'n', 1, 'XYZ')$$);
SELECT attempt($$SELECT order_engine.upsert_product('P', 'n', tracked => NULL)$$);
SELECT attempt($$SELECT order_engine.upsert_location('', 'n')$$);
SELECT attempt($$SELECT order_engine.upsert_location('l', 'n', priority => NULL)$$);

-- texts are measured as text, before anything is done with them: 1e131071 takes 16 bytes as jsonb
CREATE FUNCTION pg_temp.numbers(number text, n int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT format('{"x": [%s]}', string_agg(number, ',')) ::jsonb FROM generate_series(1, n)
$$;
SELECT attempt(format(command, argument)) AS attempt FROM
	unnest(ARRAY[pg_temp.numbers('1e131071', 1000), pg_temp.numbers('1e1000', 1), pg_temp.numbers('-1e1000', 1),
		pg_temp.numbers('0.' || repeat('0', 1001), 1)]) AS argument,
	unnest(ARRAY['SELECT order_engine.place_order(''c'', ''[{"sku": "A", "quantity": 1}]'', ''EUR'', metadata => %L, idempotency_key => ''text'')',
		'SELECT order_engine.place_order(''c'', ''[{"sku": "A", "quantity": 1, "metadata": %s}]'', ''EUR'', idempotency_key => ''text'')',
		'SELECT order_engine.reserve_stock(''[%s]'', idempotency_key => ''text'')',
		'SELECT order_engine.cancel_order(1, ''r'', ''[%s]'', idempotency_key => ''text'')',
		'SELECT order_engine.transition(''order'', 1, ''cancel'', metadata => %L, idempotency_key => ''text'')',
		'SELECT order_engine.define_machine(''order'', ''m'', %L)']) AS command;
-- numbers of a length that may be written count with that length: 10 bytes as jsonb, 1000 as text
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', format(', metadata => %L', pg_temp.numbers('1e999', 66)));
SELECT pg_temp.place(format('[{"sku": "A", "quantity": 1, "metadata": %s}]', pg_temp.numbers('1e999', 66)));
-- as do control characters: \u0001
SELECT pg_temp.place('[{"sku": "A", "quantity": 1}]', format(', metadata => %L', jsonb_build_object('x', repeat(E'\x01', 11000))));
SELECT pg_temp.place((SELECT jsonb_agg(jsonb_build_object('sku', 'A', 'quantity', 1, 'metadata', jsonb_build_object('x', repeat('x', 60000))))::text
	FROM generate_series(1, 14)));

-- nothing was left behind in any table
SELECT relation, n FROM contents ORDER BY relation;
SELECT * FROM contents EXCEPT SELECT * FROM before;
SELECT * FROM order_engine.verify_stock();
