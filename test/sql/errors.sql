-- Every SQLSTATE that the engine promises, in one place: which call ends in it,
-- and which keys the JSON in DETAIL has.  40001 and 55P03 take two sessions: see
-- the isolation test duplicate_calls.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- SQLSTATE, DETAIL with the type of each value instead of the value, and whether there is a hint
CREATE FUNCTION pg_temp.shape(value jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE jsonb_typeof(value)
		WHEN 'object' THEN '{' || (SELECT string_agg(m.key || ': ' || pg_temp.shape(m.value), ', ' ORDER BY m.key COLLATE "C") FROM jsonb_each(value) m) || '}'
		WHEN 'array' THEN '[' || coalesce((SELECT string_agg(DISTINCT pg_temp.shape(e), ' | ') FROM jsonb_array_elements(value) e), '') || ']'
		ELSE jsonb_typeof(value) END;
END $$;
CREATE FUNCTION pg_temp.error_of(command text, VARIADIC args text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE format(command, VARIADIC args);
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || CASE WHEN detail <> '' THEN ' ' || pg_temp.shape(detail::jsonb) ELSE '' END;
END $$;
CREATE FUNCTION pg_temp.place(terms text DEFAULT 'invoice', quantity integer DEFAULT 2) RETURNS bigint LANGUAGE sql
RETURN order_engine.place_order('c', jsonb_build_array(jsonb_build_object('sku', 'A', 'quantity', quantity)), 'EUR', terms => terms);

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR'), order_engine.upsert_product('Y', 'Y', 500, 'JPY'),
	order_engine.adjust_stock('A', 'default', 100, 'delivery') IS NOT NULL AS stock;
SELECT pg_temp.place('prepaid') AS pending \gset
SELECT pg_temp.place() AS confirmed \gset
SELECT order_engine.transition('order', :confirmed, 'confirm');
SELECT order_engine.create_fulfillment(:confirmed) AS fulfillment \gset

-- OE001 invalid_transition
SELECT pg_temp.error_of('SELECT order_engine.transition(''order'', %s, ''ship'')', :'pending');
SELECT pg_temp.error_of('SELECT order_engine.transition(''fulfillment'', %s, ''deliver'')', :'fulfillment');
SELECT pg_temp.error_of('SELECT order_engine.force_transition(''order'', %s, ''place'', ''r'')', :'confirmed');
SELECT pg_temp.error_of('UPDATE order_engine.orders SET state = ''completed'' WHERE order_id = %s', :'pending');
SELECT pg_temp.error_of('UPDATE order_engine.fulfillment SET state = ''delivered'' WHERE fulfillment_id = %s', :'fulfillment');

-- OE002 guard_rejected
SELECT pg_temp.error_of('SELECT order_engine.transition(''order'', %s, ''confirm'')', :'pending');
SELECT pg_temp.error_of('UPDATE order_engine.orders SET state = ''confirmed'' WHERE order_id = %s', :'pending');
SELECT pg_temp.error_of('SELECT order_engine.create_fulfillment(%s)', :'pending');

-- OE003 version_conflict: every verb that changes an order that is there
SELECT pg_temp.error_of(c, :'pending') FROM unnest(ARRAY[
	'SELECT order_engine.transition(''order'', %s, ''confirm'', expected_version => 9)',
	'SELECT order_engine.force_transition(''order'', %s, ''confirm'', ''r'', expected_version => 9)',
	'SELECT order_engine.cancel_order(%s, ''r'', expected_version => 9)',
	'SELECT order_engine.cancel_order(%s, ''r'', ''[{"line_no": 1, "quantity": 1}]'', expected_version => 9)',
	'SELECT order_engine.place_hold(%s, ''r'', expected_version => 9)',
	'SELECT order_engine.request_payment(%s, ''authorization'', expected_version => 9)',
	'SELECT order_engine.refund(%s, expected_version => 9)',
	'SELECT order_engine.create_fulfillment(%s, expected_version => 9)',
	'SELECT order_engine.create_return(%s, ''[{"line_no": 1, "quantity": 1}]'', ''r'', expected_version => 9)']) AS c;
SELECT pg_temp.error_of('SELECT order_engine.set_tracking(%s, ''[]'', expected_version => 9)', :'fulfillment');
SELECT order_engine.place_hold(:confirmed, 'fraud', expected_version => 3) AS hold \gset
SELECT pg_temp.error_of('SELECT order_engine.release_hold(%s, expected_version => 9)', :'hold');
-- the version is part of the request, and a repetition with the same one is no conflict
SELECT order_engine.place_hold(:pending, 'r', idempotency_key => 'v', expected_version => 1) IS NOT NULL AS placed;
SELECT order_engine.place_hold(:pending, 'r', idempotency_key => 'v', expected_version => 1) IS NOT NULL AS placed, order_engine.was_replayed();
SELECT pg_temp.error_of('SELECT order_engine.place_hold(%s, ''r'', idempotency_key => ''v'', expected_version => 2)', :'pending');
SELECT order_engine.release_hold((SELECT hold_id FROM order_engine.order_hold WHERE order_id = :pending), expected_version => 2);
SELECT order_engine.cancel_order(pg_temp.place(), 'r', idempotency_key => 'w', expected_version => 1);

-- OE004 invalid_machine
SELECT order_engine.define_machine('order', 'bad', '{"initial": "x", "states": {"y": {}}, "transitions": []}') AS bad \gset
SELECT pg_temp.error_of('SELECT order_engine.publish_machine(%s)', :'bad');

-- OE005 not_found
SELECT pg_temp.error_of(c) FROM unnest(ARRAY[
	'SELECT order_engine.transition(''order'', 0, ''confirm'')', 'SELECT order_engine.transition(''payment'', 0, ''void'')',
	'SELECT order_engine.transition(''fulfillment'', 0, ''ship'')', 'SELECT order_engine.transition(''return'', 0, ''close'')',
	'SELECT order_engine.order_json(0)', 'SELECT * FROM order_engine.allowed_events(''order'', 0)',
	'SELECT order_engine.cancel_order(0, ''r'')', 'SELECT order_engine.place_hold(0, ''r'')', 'SELECT order_engine.release_hold(0)',
	'SELECT order_engine.request_payment(0, ''capture'')', 'SELECT order_engine.record_payment(0, ''success'')',
	'SELECT order_engine.record_chargeback(0, 1, ''p'')', 'SELECT order_engine.refund(0)', 'SELECT order_engine.create_fulfillment(0)',
	'SELECT order_engine.set_tracking(0, ''[]'')', 'SELECT order_engine.create_return(0, ''[{"line_no": 1, "quantity": 1}]'', ''r'')',
	'SELECT order_engine.receive_return(0)', 'SELECT order_engine.release_stock(0, ''r'')', 'SELECT order_engine.publish_machine(0)',
	'SELECT order_engine.migrate_orders(1, 0)', 'SELECT order_engine.machine_diagram(0)',
	'SELECT order_engine.transfer_stock(''A'', ''default'', ''nowhere'', 1, ''r'')',
	'SELECT order_engine.set_slots(''A'', ''nowhere'', 2)',
	'SELECT order_engine.alter_endpoint(''e'')', 'SELECT order_engine.pause_endpoint(''e'')', 'SELECT order_engine.resume_endpoint(''e'')',
	'SELECT order_engine.drop_endpoint(''e'')', 'SELECT order_engine.rotate_secret(''e'')', 'SELECT order_engine.send_test_event(''e'')',
	'SELECT order_engine.replay(''e'', ''{}'')', 'SELECT order_engine.replay(''e'', ''-infinity'', ''infinity'')',
	'SELECT order_engine.redrive(''e'')', 'SELECT order_engine.discard_dead_letters(''e'')', 'SELECT order_engine.undelivered(''e'')',
	'SELECT order_engine.place_order(''c'', ''[{"sku": "A", "quantity": 1}]'', ''EUR'', reservation_id => 0)']) AS c;

-- OE101 and OE102: idempotency key required; reused with another request
SET order_engine.idempotency_required = on;
SELECT pg_temp.error_of('SELECT order_engine.cancel_order(%s, ''r'')', :'pending');
RESET order_engine.idempotency_required;
SELECT order_engine.set_tracking(:fulfillment, '[]', idempotency_key => 'k');
SELECT pg_temp.error_of('SELECT order_engine.set_tracking(%s, ''[{"number": "1"}]'', idempotency_key => ''k'')', :'fulfillment');
SELECT pg_temp.error_of('SELECT order_engine.cancel_order(%s, ''r'', idempotency_key => ''k'')', :'pending');

-- OE201 insufficient_stock
SELECT pg_temp.error_of('SELECT order_engine.place_order(''c'', ''[{"sku": "A", "quantity": 1000}]'', ''EUR'')');
SELECT pg_temp.error_of('SELECT order_engine.reserve_stock(''[{"sku": "A", "quantity": 1000}]'')');
-- OE202 reservation_expired
SELECT pg_temp.place() AS late \gset
UPDATE order_engine.reservation SET expires_at = now() - interval '1 s' WHERE reservation_id = :late;
SELECT pg_temp.error_of('SELECT order_engine.place_order(''c'', ''[{"sku": "A", "quantity": %s}]'', ''EUR'')',
	(SELECT (on_hand - reserved + 3)::text FROM order_engine.stock WHERE sku = 'A'));
SELECT order_engine.reserve_stock(format('[{"sku": "A", "quantity": %s}]', on_hand - reserved + 1)::jsonb) IS NOT NULL AS took_it FROM order_engine.stock WHERE sku = 'A';
SELECT pg_temp.error_of('SELECT order_engine.transition(''order'', %s, ''confirm'')', :'late');
-- OE203 unknown_sku
SELECT pg_temp.error_of('SELECT order_engine.place_order(''c'', ''[{"sku": "X", "quantity": 1}]'', ''EUR'')');
-- OE204 stock_changed
SELECT pg_temp.error_of('SELECT order_engine.adjust_stock(''A'', ''default'', 1, ''r'', expected_on_hand => 5)');

-- OE301 amount_exceeds_limit: money and units
SELECT pg_temp.error_of('SELECT order_engine.request_payment(%s, ''capture'', 1000)', :'pending');
SELECT pg_temp.error_of('SELECT order_engine.refund(%s, 1000)', :'pending');
SELECT pg_temp.error_of('SELECT order_engine.cancel_order(%s, ''r'', ''[{"line_no": 1, "quantity": 3}]'')', :'pending');
SELECT pg_temp.error_of('SELECT order_engine.create_fulfillment(%s)', :'confirmed');
SELECT pg_temp.error_of('SELECT order_engine.create_fulfillment(%s, ''[{"line_no": 1, "quantity": 3}]'')', :'confirmed');
SELECT pg_temp.error_of('SELECT order_engine.create_return(%s, ''[{"line_no": 1, "quantity": 1}]'', ''r'')', :'confirmed');
-- OE302 payment_conflict
SELECT order_engine.request_payment(:pending, 'authorization') AS request \gset
SELECT order_engine.record_payment(:request, 'success', 'ref');
SELECT pg_temp.error_of('SELECT order_engine.record_payment(%s, ''failure'', ''ref'')', :'request');
SELECT pg_temp.error_of('SELECT order_engine.record_payment(%s, ''success'', ''ref'', 1)', :'request');
SELECT pg_temp.error_of('SELECT order_engine.record_payment(%s, ''success'', ''other'')', :'request');
-- OE303 and OE304: currency_mismatch, total_mismatch
SELECT pg_temp.error_of('SELECT order_engine.place_order(''c'', ''[{"sku": "Y", "quantity": 1}]'', ''EUR'')');
SELECT pg_temp.error_of('SELECT order_engine.place_order(''c'', ''[{"sku": "A", "quantity": 1}]'', ''EUR'', expected_total => 11)');

-- OE401 order_on_hold
SELECT order_engine.transition('fulfillment', :fulfillment, 'ready');
SELECT pg_temp.error_of('SELECT order_engine.transition(''fulfillment'', %s, ''ship'')', :'fulfillment');
SELECT pg_temp.error_of('UPDATE order_engine.fulfillment SET state = ''shipped'' WHERE fulfillment_id = %s', :'fulfillment');
SELECT order_engine.place_hold(:pending, 'fraud') AS hold \gset
SELECT pg_temp.error_of('SELECT order_engine.transition(''order'', %s, ''confirm'')', :'pending');

-- PostgreSQL's own: 22004, 22023, 42501
SELECT pg_temp.error_of('SELECT order_engine.cancel_order(NULL, ''r'')');
SELECT pg_temp.error_of('SELECT order_engine.force_transition(''order'', 1, ''cancel'', NULL)');
SELECT pg_temp.error_of('SELECT order_engine.transition(''parcel'', 1, ''ship'')');
SELECT pg_temp.error_of('SELECT order_engine.place_order(''c'', ''[{"sku": "A", "quantity": 0}]'', ''EUR'')');
SELECT pg_temp.error_of('SELECT order_engine.cancel_order(%s, ''r'', ''[{"line_no": 7, "quantity": 1}]'')', :'pending');
SELECT pg_temp.error_of('SELECT order_engine.migrate_orders(1, 2)');
CREATE ROLE regress_nobody;
SET ROLE regress_nobody;
SELECT pg_temp.error_of('SELECT order_engine.cancel_order(1, ''r'')');
RESET ROLE;
SELECT order_engine.grant_access('regress_nobody', 'app');
SET ROLE regress_nobody;
SELECT pg_temp.error_of('SELECT order_engine.force_transition(''order'', 1, ''cancel'', ''r'')');
SELECT pg_temp.error_of('UPDATE order_engine.orders SET state = ''cancelled''');
RESET ROLE;
SELECT order_engine.revoke_access('regress_nobody');
DROP ROLE regress_nobody;

-- nothing of this left anything wrong behind
SELECT * FROM order_engine.verify_orders();
SELECT * FROM order_engine.verify_stock();
