/*
 * Calls every function of the extension with odd arguments, for 140_access.pl:
 * odd.call_all() gives what went wrong, and that is nothing.  What there is to
 * call comes from the catalog, so a new function is called as well.
 *
 * Every argument takes null and all the odd values of its type, while the others
 * have values that make sense.  Each call is rolled back.
 */

CREATE SCHEMA odd;
GRANT USAGE ON SCHEMA odd TO PUBLIC;

-- SQL expressions; the first one of a type makes sense in most places
CREATE TABLE odd.value (type text NOT NULL, n serial, value text NOT NULL);
INSERT INTO odd.value (type, value)
SELECT t.type, v.value
FROM (VALUES
	('smallint', ARRAY['1', '0', '-1', '32767', '-32768']),
	('integer', ARRAY['1', '0', '-1', '2147483647', '-2147483648', '65535']),
	('bigint', ARRAY['(SELECT odd.an_order())', '0', '-1', '9223372036854775807', '-9223372036854775808', '17592186044416']),
	('boolean', ARRAY['true', 'false']),
	('text', ARRAY['''order''', '''''', ''' ''', '''endpoint''', '''payment''', '''fulfillment''', '''return''', '''reservation''',
		'''confirm''', '''shop''', '''support''', '''A''', '''L1''', '''EUR''', '''ticket''', '''success''', '''capture''', '''earliest''',
		'''https://example.com/''', '''https://user:pass@[::1]:99999/''', '''http://\''', 'E''\\x01\\n''', '''"''''\$$%s%n''',
		'''pg_catalog.pg_sleep''', 'U&''\FFFF\0301''', 'repeat(''x'', 255)', 'repeat(''é'', 128)', 'repeat(''y'', 1100000)',
		'''NaN''', '''-1''', '''9223372036854775808''', '''whsec_''', '''whsec_'' || repeat(''A'', 4096)', '''mermaid''', '''viewer''',
		'repeat(''-----BEGIN CERTIFICATE-----x-----END CERTIFICATE-----'', 1000)']),
	('jsonb', ARRAY['''[{"sku": "A", "quantity": 1}]''', '''null''', '''{}''', '''[]''', '''1''', '''"x"''', '''[[]]''', '''[null]''',
		'''{"": null}''', '''{"a": 1e131071}''', '''[1e131071]''', '(repeat(''['', 3000) || repeat('']'', 3000))::jsonb',
		'(repeat(''{"a":'', 3000) || ''1'' || repeat(''}'', 3000))::jsonb',
		'(SELECT jsonb_agg(jsonb_build_object(''sku'', ''A'', ''quantity'', 1)) FROM generate_series(1, 3000))',
		'(SELECT jsonb_object_agg(i, i) FROM generate_series(1, 3000) i)', 'jsonb_build_object(repeat(''k'', 70000), 1)',
		'''[{"sku": "A", "quantity": 2147483648}]''', '''[{"sku": "A", "quantity": 1.5}]''', '''[{"sku": "A", "quantity": -1}]''',
		'''[{"sku": "A", "quantity": 1e400}]''', '''[{"sku": "A", "quantity": 2147483647, "unit_price": 1e999}]''',
		'''[{"sku": "A", "quantity": 2147483647, "unit_price": 1e-999}]''',
		'''[{"sku": "A", "quantity": 2147483647}, {"sku": "A", "quantity": 2147483647}]''',
		'''[{"sku": {"a": 1}, "quantity": "x"}]''', '''[{"sku": "A", "quantity": null, "unit_price": null, "metadata": []}]''',
		'''[{"line_no": 1, "quantity": 1}]''', '''[{"line_no": 2147483647, "quantity": 2147483647}]''', '''[{"line_no": -1, "quantity": -1}]''',
		'''[{"line_no": 1, "restock": 2147483647, "damaged": 2147483647, "discarded": 1}]''', '''[{"line_no": 1, "restocked": 1e10}]''',
		'''{"initial": "a", "states": {"a": {}}, "transitions": []}''',
		'''{"initial": "a", "states": {"a": {"limit": "infinity"}}, "transitions": [{"event": "e", "from": [], "to": "a"}]}''',
		'''{"initial": 1, "states": [], "transitions": {}}''', '''{"initial": null, "states": null, "transitions": null}''',
		'''{"initial": "a", "states": {"a": null, "": {}}, "transitions": [null, {}, {"event": {}, "from": {"a": 1}, "to": []}]}''',
		'(SELECT jsonb_build_object(''initial'', ''s1'', ''states'', jsonb_object_agg(''s'' || i, ''{}''::jsonb), ''transitions'', jsonb_agg(jsonb_build_object(''event'', ''e'', ''from'', ''s'' || i, ''to'', ''s'' || (i + 1)))) FROM generate_series(1, 1500) i)',
		'''{"host": "x"}''', '''{"x\\u0001": "y"}''', '''{"x": "y\\u000d\\u000a"}''', '''{"breaker_window": "1 year", "pause": 1}''', '''{"breaker_ratio": "x"}''']),
	('numeric', ARRAY['10', '0', '-1', '0.001', '''NaN''', '''Infinity''', '''-Infinity''', '''1e1000''', '''1e-1000''', '''1e131071''', '''-1e131071''']),
	('uuid', ARRAY['''018f0000-0000-7000-8000-000000000000''', '''00000000-0000-0000-0000-000000000000''', '''ffffffff-ffff-ffff-ffff-ffffffffffff''']),
	('bytea', ARRAY['''\\x0001020304050607''', '''\\x''', 'decode(repeat(''00'', 100000), ''hex'')']),
	('timestamp with time zone', ARRAY['now()', '''infinity''', '''-infinity''', '''4713-01-01 BC''', '''294276-12-31 23:59:59.999999+00''', '''1969-12-31''']),
	('interval', ARRAY['''1 hour''', '''0''', '''-1 s''', '''1 microsecond''', '''178000000 years''', '''-178000000 years''', '''2147483647 days''',
		'''-2147483648 months -2147483648 days''', '''2562047788 hours''', '''1 month -30 days''']),
	('text[]', ARRAY['ARRAY[''order.*'']', '''{}''', '''{NULL}''', '''{{a,b},{c,d}}''', '''[5:6]={a,b}''', '''{""}''', '''{"****************************************"}''',
		'ARRAY[repeat(''*a'', 200)]', 'array_fill(''x''::text, ARRAY[20000])', '''{L1,L1}''', '''{L1}''']),
	('uuid[]', ARRAY['ARRAY[''018f0000-0000-7000-8000-000000000000''::uuid]', '''{}''', '''{NULL}''',
		'array_fill(''018f0000-0000-7000-8000-000000000000''::uuid, ARRAY[2, 3])', 'array_fill(''018f0000-0000-7000-8000-000000000000''::uuid, ARRAY[20000])']),
	('interval[]', ARRAY['''{0,5s}''', '''{}''', '''{NULL}''', '''{{0,1s},{2s,3s}}''', '''[7:8]={0,1s}''', '''{178000000 years}''', '''{-1s}''',
		'array_fill(''1s''::interval, ARRAY[20000])']),
	('pg_snapshot', ARRAY['pg_current_snapshot()', '''1:1:''', '''3:9223372036854775807:''', '''3:9:3,4,8''']),
	('xid8', ARRAY['pg_current_xact_id()', '''0''', '''18446744073709551615''']),
	('regclass', ARRAY['''odd.governed''', '0', '4294967295', '''pg_class''', '''odd.value_n_seq''', '''odd.a_view''', '''order_engine.orders''', '''order_engine.outbox_0''', '''pg_toast.pg_toast_1255''']),
	('regrole', ARRAY['''odd stranger''', '0', '4294967295', '''pg_monitor''']),
	('order_engine.endpoint', ARRAY['(SELECT e FROM order_engine.endpoint e LIMIT 1)', 'ROW(NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)']),
	('order_engine.endpoint_position', ARRAY['(SELECT p FROM order_engine.endpoint_position p LIMIT 1)',
		'ROW(1, -1, ''3:3:'', ''1:1:'', ''18446744073709551615'', ''ffffffff-ffff-ffff-ffff-ffffffffffff'', ''{{NULL}}'', ''3:3:'', ''infinity'')',
		'ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)'])) AS t (type, list), unnest(t.list) AS v (value);

CREATE TABLE odd.governed (id bigint PRIMARY KEY, state text, version bigint);
CREATE VIEW odd.a_view AS SELECT 1 AS id, 'x' AS state;
CREATE FUNCTION odd.an_order() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT max(order_id) FROM order_engine.orders';
CREATE FUNCTION odd.a_part(kind text) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS $$
	SELECT CASE kind WHEN 'payment' THEN (SELECT max(payment_id) FROM order_engine.payment)
		WHEN 'fulfillment' THEN (SELECT max(fulfillment_id) FROM order_engine.fulfillment)
		WHEN 'return' THEN (SELECT max(return_id) FROM order_engine.order_return)
		ELSE (SELECT max(transaction_id) FROM order_engine.payment_transaction WHERE state = 'initial') END
$$;
CREATE TABLE odd.outcome (signature text NOT NULL, call text NOT NULL, sqlstate text NOT NULL, message text);

-- The functions that are called: all members but trigger functions.
CREATE VIEW odd.callable AS
SELECT p.oid, p.oid::regprocedure::text AS signature, format('%I.%I', n.nspname, p.proname) AS name,
	p.proargnames AS arguments, p.pronargs - p.pronargdefaults AS required,
	ARRAY(SELECT format_type(a.type, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, n) ORDER BY a.n) AS types
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
	JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE e.extname = 'order_engine' AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype);

-- Runs one command, rolls it back, and gives its SQLSTATE and message.
CREATE FUNCTION odd.attempt(command text, OUT code text, OUT message text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RAISE EXCEPTION USING ERRCODE = 'ODD00';
EXCEPTION WHEN OTHERS OR assert_failure OR query_canceled THEN
	code := nullif(SQLSTATE, 'ODD00');
	message := SQLERRM;
END $$;

CREATE FUNCTION odd.literal(value text, type text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(%s)::%s', value, type);

CREATE FUNCTION odd.call(callable odd.callable, arguments text[]) RETURNS text LANGUAGE sql STABLE
RETURN format('SELECT * FROM %s(%s)', callable.name, array_to_string(arguments, ', '));

-- What makes sense where the name of an argument, or of its function, tells more than its type.
CREATE TABLE odd.sensible (argument text PRIMARY KEY, value text NOT NULL);
INSERT INTO odd.sensible VALUES ('entity', '''order'''), ('event', '''confirm'''), ('sku', '''A'''), ('location', '''L1'''),
	('from_location', '''L1'''), ('to_location', '''L2'''), ('name', '''shop'''), ('kind', '''ticket'''), ('currency', '''EUR'''),
	('url', '''https://example.com/'''), ('payment_id', '(SELECT odd.a_part(''payment''))'), ('fulfillment_id', '(SELECT odd.a_part(''fulfillment''))'),
	('return_id', '(SELECT odd.a_part(''return''))'), ('transaction_id', '(SELECT odd.a_part(''transaction''))'),
	('lines', '''[{"line_no": 1, "quantity": 1}]'''), ('payload', '''{}'''), ('channel', '''web'''), ('machine_id', '1'),
	('reason', '''other'''), ('outcome', '''success'''), ('state', '''success'''), ('role', '''odd stranger'''), ('level', '''viewer'''),
	('policy', '''{}'''), ('headers', '''{"x-a": "b"}'''), ('details', '''{}'''), ('metadata', '''{}'''), ('tracking', '''{"number": "1"}'''),
	('secret', 'NULL'), ('client_certificate', 'NULL'), ('client_key', 'NULL'), ('customer_id', '''C1'''),
	('order_engine.request_payment.kind', '''capture'''), ('order_engine.emit.aggregatetype', '''test'''),
	('order_engine.append_event.aggregatetype', '''test'''), ('order_engine.create_return.items', '''[{"line_no": 1, "quantity": 1}]'''),
	('order_engine.create_fulfillment.items', '''[{"line_no": 1, "quantity": 1}]'''), ('order_engine.cancel_order.items', '''[{"line_no": 1, "quantity": 1}]'''),
	('order_engine.receive_return.items', '''[{"line_no": 1, "restocked": 1}]'''), ('order_engine.create_endpoint.name', '''another'''),
	('order_engine.set_tracking.tracking', '''[{"number": "1"}]'''), ('order_engine.migrate_orders.to_machine_id', '2'),
	('order_engine.seal_secret.kind', '''signing'''), ('order_engine.add_secret.kind', '''signing'''), ('order_engine.set_limit.expires_at', 'now()'),
	('definition', '''{"initial": "a", "states": {"a": {}, "b": {"terminal": true}}, "transitions": [{"event": "e", "from": "a", "to": "b"}]}''');

-- Calls with values that make sense, with nulls alone, and with one odd value.
CREATE FUNCTION odd.calls(callable odd.callable) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	plain text[];
	place integer;
	odd_value text;
	named boolean := callable.arguments IS NOT NULL AND '' <> ALL (callable.arguments);
	names text[] := CASE WHEN named THEN ARRAY(SELECT quote_ident(a.name) || ' => '
		FROM unnest(callable.arguments) WITH ORDINALITY AS a (name, n) ORDER BY a.n) END;
	required integer := CASE WHEN named THEN callable.required ELSE cardinality(callable.types) END;
BEGIN
	plain := ARRAY(SELECT coalesce(names[t.n], '') || odd.literal(coalesce(
			(SELECT s.value FROM odd.sensible s
			 WHERE named AND s.argument IN (callable.arguments[t.n], callable.name || '.' || callable.arguments[t.n])
			 ORDER BY length(s.argument) DESC LIMIT 1),
			(SELECT v.value FROM odd.value v WHERE v.type = t.type ORDER BY v.n LIMIT 1), 'NULL'), t.type)
		FROM unnest(callable.types) WITH ORDINALITY AS t (type, n) ORDER BY t.n);
	RETURN NEXT odd.call(callable, plain[:required]);
	RETURN NEXT odd.call(callable, ARRAY(SELECT odd.literal('NULL', t.type)
		FROM unnest(callable.types) WITH ORDINALITY AS t (type, n) ORDER BY t.n));
	FOR place IN 1..cardinality(callable.types) LOOP
		FOR odd_value IN SELECT 'NULL' UNION ALL SELECT v.value FROM odd.value v WHERE v.type = callable.types[place] LOOP
			RETURN NEXT odd.call(callable, plain[:least(place - 1, required)]
				|| (coalesce(names[place], '') || odd.literal(odd_value, callable.types[place])) || plain[place + 1:required]);
		END LOOP;
	END LOOP;
END $$;

CREATE FUNCTION odd.call_all(pattern text DEFAULT '.', fraction float8 DEFAULT 1) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	callable odd.callable;
	command text;
	outcome record;
	done bigint := 0;
BEGIN
	FOR callable IN SELECT * FROM odd.callable c WHERE c.signature ~ pattern ORDER BY c.signature LOOP
		FOR command IN SELECT odd.calls(callable) LOOP
			CONTINUE WHEN random() >= fraction;
			outcome := odd.attempt(command);
			done := done + 1;
			IF outcome.code IS NOT NULL THEN
				INSERT INTO odd.outcome VALUES (callable.signature, left(command, 500), outcome.code, left(outcome.message, 300));
			END IF;
		END LOOP;
	END LOOP;
	RETURN done;
END $$;
