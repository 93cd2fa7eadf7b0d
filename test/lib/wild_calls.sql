/*
 * Calls of every function of the extension with whatever its argument types can
 * hold: nothing, the ends of ranges, other kinds' ids, what is no JSON of ours,
 * far too long texts.  For test/checks/sqlsmith; an error is a fine answer.
 *
 * wild.calls(n) returns n calls of each function that the current user may call,
 * each a statement of its own.
 */
CREATE SCHEMA wild;
CREATE TABLE wild.value (type regtype NOT NULL, value text);

INSERT INTO wild.value
SELECT 'text', unnest(ARRAY[NULL, '', ' ', 'order', 'payment', 'fulfillment', 'return', 'simple', 'shop', 'lists', 'nobody', 'S1', 'S2', 'S7',
	'default', 'L1', 'store', 'EUR', 'eur', 'XXX', 'confirm', 'ship', 'cancel', 'pay', 'deliver', 'expire', 'initial', 'pending',
	'placed', 'completed', 'success', 'failure', 'action_required', 'capture', 'authorize', 'refund', 'void', 'received', 'card', 'bank', 'invoice',
	'damaged', 'restock', 'now', 'earliest', 'webhook', 'cloudevents', 'none', 'aggregate', 'block', 'best_effort', 'at_least_once',
	'*', 'order.*', '**.*', '[', 'order.placed', 'endpoint.disabled', 'http://127.0.0.1:1/x', 'https://user:pw@[::1]:99999/?#', 'ftp://x', 'http://',
	'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'whsec_', '%s%n%d', E'a\nb\tc', E'\x01\x7f', U&'\+01F34F gr\00FC n', '''; DROP TABLE x; --', '"', '\\', '{}', '[]', 'null', '{"a":',
	'0', '-1', '1', '9223372036854775807', '99999999999999999999', 'NaN', repeat('x', 300), repeat('longer', 20000), repeat(U&'\20AC', 700),
	'order_engine.orders', 'wild.value', 'pg_class', current_user, 'viewer', 'app', 'operator', 'mermaid', 'dot']);
INSERT INTO wild.value
SELECT 'bigint', unnest(ARRAY[NULL, '0', '-1', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12', '15', '20', '30', '50', '100',
	'32767', '65535', '65536', '2147483647', '2147483648', '-2147483649', '9223372036854775807', '-9223372036854775808']);
INSERT INTO wild.value
SELECT 'integer', unnest(ARRAY[NULL, '0', '-1', '1', '2', '3', '7', '16', '255', '1000', '32767', '65536', '2147483647', '-2147483648']);
INSERT INTO wild.value
SELECT 'smallint', unnest(ARRAY[NULL, '0', '-1', '1', '2', '3', '7', '16', '255', '32767', '-32768']);
INSERT INTO wild.value
SELECT t::regtype, v FROM unnest('{real,double precision,numeric}'::text[]) t, unnest(ARRAY[NULL, '0', '-0', '1', '-1', '0.01', '0.001', '10', '19.99',
	'1e-30', '1e30', '999999999999.99', '99999999999999999999.999', 'NaN', 'Infinity', '-Infinity']) v;
INSERT INTO wild.value
SELECT 'numeric', unnest(ARRAY['1e131000', '1e-16000', '0.000000000000000000000000000000000000001']);
INSERT INTO wild.value
SELECT 'boolean', unnest(ARRAY[NULL, 't', 'f']);
INSERT INTO wild.value
SELECT 'interval', unnest(ARRAY[NULL, '0', '1 second', '-1 second', '1 day', '1 month', '-178000000 years', '178000000 years', '24 hours', '1 microsecond']);
INSERT INTO wild.value
SELECT t::regtype, v FROM unnest('{timestamptz,timestamp,date}'::text[]) t,
	unnest(ARRAY[NULL, 'now', 'epoch', 'infinity', '-infinity', '4713-01-01 BC', '5000-01-01', 'tomorrow', 'yesterday']) v;
INSERT INTO wild.value
SELECT t::regtype, '294276-12-31 23:59:59.999999' FROM unnest('{timestamptz,timestamp}'::text[]) t;
INSERT INTO wild.value
SELECT 'uuid', unnest(ARRAY[NULL, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', gen_random_uuid()::text]);
INSERT INTO wild.value
SELECT 'uuid', id::text FROM (SELECT id FROM order_engine.outbox ORDER BY random() LIMIT 10) o;
INSERT INTO wild.value
SELECT 'bytea', unnest(ARRAY[NULL, '', '\x00', '\xff00ff', '\x' || repeat('ab', 50000)]);
INSERT INTO wild.value
SELECT 'jsonb', unnest(ARRAY[NULL, 'null', '{}', '[]', '[[]]', '[{}]', '1', '-1e400', 'true', '"x"', '{"a": null}', '[null]', '[1, "x", {}]',
	'[{"sku": "S1", "quantity": 1}]', '[{"sku": "S7", "quantity": 1, "unit_price": 1.5}]', '[{"sku": "S1", "quantity": -1}]', '[{"sku": "S1", "quantity": 1e400}]', '[{"sku": null, "quantity": "1"}]',
	'[{"sku": "S1", "quantity": 1, "unit_price": "NaN", "location": "L1"}]', '[{"sku": "S1", "quantity": 0.5}]', '[{"sku": {"sku": []}}]',
	'[{"line_no": 1, "quantity": 1}]', '[{"line_no": 1e9, "quantity": 1}]', '[{"line_no": 1, "quantity": 1, "disposition": "restock"}]',
	'[{"carrier": "DHL", "number": "1"}]', '[{"carrier": 1}]', '{"breaker_open": "200 ms"}', '{"breaker_open": "-1"}', '{"retry_schedule": ["1 s"]}',
	'{"x-shop": "one"}', '{"host": "x"}', '{"x": "a\r\nb"}', '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}', '{"correlation_id": {"a": 1}}',
	'{"initial": "open", "states": {"open": {}, "closed": {"terminal": true}}, "transitions": [{"event": "close", "from": ["open"], "to": "closed"}]}',
	'{"initial": "open", "states": {"open": {}}, "transitions": [{"event": "close", "from": "open", "to": "nowhere", "guard": "f"}]}',
	'{"initial": 1, "states": [], "transitions": {}}', '{"states": null}',
	repeat('[', 300) || repeat(']', 300), '{"' || repeat('k', 70000) || '": "' || repeat('v', 70000) || '"}',
	'{"sequence": 1, "order_id": "7", "event": "confirm", "from": "x", "to": "y"}']);
INSERT INTO wild.value
SELECT 'json', value FROM wild.value WHERE type = 'jsonb'::regtype;
INSERT INTO wild.value
SELECT 'name', left(value, 63) FROM wild.value WHERE type = 'text'::regtype;
INSERT INTO wild.value
SELECT 'regclass', unnest(ARRAY[NULL, '0', '4294967295', 'pg_class', 'order_engine.orders', 'order_engine.outbox', 'order_engine.payment', 'order_engine.endpoint_status', 'wild.value',
	'pg_stat_activity', 'order_engine.orders_pkey']);
INSERT INTO wild.value
SELECT 'regrole', unnest(ARRAY[NULL, '0', '4294967295', 'wild_operator']);
INSERT INTO wild.value
SELECT t::regtype, v FROM unnest('{oid,regproc,regprocedure,regtype}'::text[]) t, unnest(ARRAY[NULL, '0', '1', '1259', '16384', '4294967295']) v;
INSERT INTO wild.value
SELECT 'xid8', unnest(ARRAY[NULL, '0', '1', '3', '1000', '4294967296', '18446744073709551615', pg_current_xact_id()::text]);
INSERT INTO wild.value
SELECT 'pg_snapshot', unnest(ARRAY[NULL, '1:1:', '10:20:10,14,15', '700:710:705', '9223372036854775807:9223372036854775807:', pg_current_snapshot()::text]);
INSERT INTO wild.value
SELECT 'inet', unnest(ARRAY[NULL, '127.0.0.1', '::1', '0.0.0.0/0', '::ffff:10.0.0.1']);
INSERT INTO wild.value
SELECT 'cidr', unnest(ARRAY[NULL, '127.0.0.0/8', '::/0', '0.0.0.0/0']);
INSERT INTO wild.value
SELECT 'pg_lsn', unnest(ARRAY[NULL, '0/0', 'FFFFFFFF/FFFFFFFF', '0/1000000']);

-- one query without functions, because the server it is for is slow
CREATE FUNCTION wild.calls(n integer) RETURNS SETOF text LANGUAGE sql VOLATILE AS $$
	WITH pool AS MATERIALIZED (
		SELECT type, array_agg(value) AS v, count(*) AS n FROM wild.value GROUP BY type
	), call AS MATERIALIZED (
		-- arguments at the end are left to their defaults in every second call
		SELECT p.*, i, pronargs - CASE WHEN i % 2 = 0 AND provariadic = 0 THEN pronargdefaults ELSE 0 END AS given
		FROM generate_series(1, n) AS i, pg_proc AS p
		WHERE p.pronamespace = 'order_engine'::regnamespace AND p.prokind IN ('f', 'p')
			AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
			AND NOT 'internal'::regtype = ANY (p.proargtypes)
			AND has_function_privilege(p.oid, 'EXECUTE')
	), argument AS (
		SELECT call.oid, i, place, type, element, provariadic <> 0 AND place = pronargs AS is_variadic,
			CASE WHEN element IS NULL THEN 1 ELSE floor(random() * 4)::int END AS picks
		FROM call, unnest(proargtypes) WITH ORDINALITY AS a (type, place),
			LATERAL (SELECT max(typelem) AS element FROM pg_type
				WHERE oid = a.type AND typlen = -1 AND typelem <> 0) AS e
		WHERE place <= given
	), written AS (
		SELECT a.oid, i, string_agg(CASE WHEN is_variadic THEN 'VARIADIC ' ELSE '' END
			|| CASE WHEN element IS NULL THEN '' ELSE 'ARRAY[' END
			|| CASE WHEN picks > 0 THEN quote_nullable(v[1 + floor(random() * pool.n)::int]) ELSE '' END
			|| CASE WHEN picks > 1 THEN ', ' || quote_nullable(v[1 + floor(random() * pool.n)::int]) ELSE '' END
			|| CASE WHEN picks > 2 THEN ', ' || quote_nullable(v[1 + floor(random() * pool.n)::int]) ELSE '' END
			|| CASE WHEN element IS NULL THEN '' ELSE ']' END
			|| '::' || a.type::regtype, ', ' ORDER BY place) AS arguments
		FROM argument AS a LEFT JOIN pool ON pool.type = coalesce(element, a.type)
		GROUP BY a.oid, i
	)
	SELECT format(CASE WHEN prokind = 'p' THEN 'CALL %s(%s);' WHEN proretset THEN 'SELECT count(*) FROM %s(%s);'
			ELSE 'SELECT %s(%s) IS NULL;' END, call.oid::regproc, arguments)
	FROM call LEFT JOIN written USING (oid, i)
	ORDER BY random()
$$;
