-- Guards that users write in SQL.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE SCHEMA shop;
SELECT order_engine.upsert_product('A', 'Tea', 10, 'EUR', tracked => false);
CREATE FUNCTION new_order(customer text DEFAULT 'C1') RETURNS bigint LANGUAGE sql
RETURN order_engine.place_order(customer, '[{"sku": "A", "quantity": 2}]', 'EUR', terms => 'invoice');
-- an order machine with these guards on "accept"
CREATE FUNCTION define(guards text, kind text DEFAULT 'order') RETURNS integer LANGUAGE sql
RETURN order_engine.define_machine(kind, 'guarded', format('{
	"initial": "draft", "states": {"draft": {}, "pending": {}, "accepted": {}, "done": {"terminal": true}},
	"transitions": [{"event": "place", "from": "draft", "to": "pending"},
		{"event": "accept", "from": "pending", "to": "accepted", "guards": %s},
		{"event": "finish", "from": ["pending", "accepted"], "to": "done"}]}', guards)::jsonb);
CREATE FUNCTION publish(guards text, kind text DEFAULT 'order') RETURNS void LANGUAGE sql
BEGIN ATOMIC
	SELECT order_engine.publish_machine(define(guards, kind));
END;

-- faults: not there, wrong type of the id, of the result, not a plain function, not a name
CREATE FUNCTION shop.of_text(id text) RETURNS text LANGUAGE sql RETURN NULL;
CREATE FUNCTION shop.truth(id bigint) RETURNS boolean LANGUAGE sql RETURN true;
CREATE FUNCTION shop.many(id bigint) RETURNS SETOF text LANGUAGE sql RETURN NULL;
CREATE PROCEDURE shop.procedure(id bigint) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION shop.two(id bigint, other integer DEFAULT 1) RETURNS text LANGUAGE sql RETURN NULL;
SELECT attempt($$SELECT publish('["shop.missing", "nowhere.check", "shop.of_text", "shop.truth", "shop.many", "shop.procedure", "shop.two", "pg_catalog.max"]')$$);
SELECT attempt($$SELECT publish('["a.b.c", ".", "shop.", "\"open.x", "no_hold", "nohold", 7]')$$);
SELECT attempt($$SELECT publish('"shop.check"')$$);
-- place_order asks nobody
SELECT attempt($$SELECT order_engine.publish_machine(order_engine.define_machine('order', 'guarded', '{
	"initial": "draft", "states": {"draft": {}, "pending": {}, "done": {"terminal": true}},
	"transitions": [{"event": "place", "from": "draft", "to": "pending", "guards": ["shop.check"]},
		{"event": "finish", "from": "pending", "to": "done"}]}'))$$);

-- NULL agrees, a text is the reason; it sees the order as it is to be, be it STABLE
CREATE FUNCTION shop.check_vip(id bigint) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT format('customer %s is no VIP, state %s, version %s', o.customer_id, o.state, o.version)
	FROM order_engine.orders AS o WHERE o.order_id = id AND o.customer_id NOT LIKE 'VIP%'
$$;
CREATE FUNCTION shop."Never On" (id bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE WHEN customer_id = 'VIP 2' THEN 'never' END FROM order_engine.orders WHERE order_id = id;
END $$;
SELECT publish('["no_hold", "shop.check_vip", "shop.\"Never On\""]');
SET order_engine.order_machine = 'guarded';
SELECT new_order() AS plain, new_order('VIP 1') AS vip1, new_order('VIP 2') AS vip2 \gset
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'accept')$$, :plain));
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'accept')$$, :vip2));
SELECT attempt(format($$UPDATE order_engine.orders SET state = 'accepted' WHERE order_id = %s$$, :plain));
SELECT order_engine.transition('order', :vip1, 'accept');
SELECT state, version FROM order_engine.orders ORDER BY order_id;
-- built-in guards come first
SELECT order_engine.place_hold(:plain, 'fraud') > 0 AS held;
SELECT * FROM order_engine.allowed_events('order', :plain);
SELECT order_engine.release_hold(hold_id) FROM order_engine.order_hold;
-- allowed_events asks too, and sees what is
SELECT * FROM order_engine.allowed_events('order', :plain);
SELECT * FROM order_engine.allowed_events('order', :vip2);
BEGIN TRANSACTION READ ONLY;
SELECT * FROM order_engine.allowed_events('order', :vip2);
COMMIT;

-- it runs as its owner, with a search_path of its own, and leaves nothing behind
CREATE ROLE regress_guard_owner;
CREATE ROLE regress_guard_app;
GRANT USAGE ON SCHEMA shop TO regress_guard_owner, regress_guard_app;
SELECT order_engine.grant_access('regress_guard_app', 'app');
-- what is for operators, and what is not
SELECT proname, has_function_privilege('regress_guard_app', oid, 'EXECUTE') AS app FROM pg_proc
WHERE pronamespace = 'order_engine'::regnamespace
	AND proname IN ('force_transition', 'machine_diagram', 'migrate_orders', 'place_hold', 'publish_machine', 'release_hold') ORDER BY proname;
CREATE FUNCTION shop.spy(id bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('order_engine.actor', 'guard', false), set_config('work_mem', '64kB', false);
	RETURN format('%s, %s, %s', current_user, current_setting('search_path'), current_setting('transaction_read_only'));
END $$;
ALTER FUNCTION shop.spy OWNER TO regress_guard_owner;
SELECT publish('["shop.spy"]');
SELECT new_order() AS id \gset
SET ROLE regress_guard_app;
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'accept')$$, :id));
SELECT * FROM order_engine.allowed_events('order', :id);
SELECT current_user, current_setting('search_path'), current_setting('transaction_read_only'), current_setting('work_mem') <> '64kB' AS untouched,
	current_setting('order_engine.actor') AS actor;
RESET ROLE;
-- nor can it take on other rights, make objects or write
CREATE OR REPLACE FUNCTION shop.spy(id bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE current_setting('test.command');
	RETURN NULL;
END $$;
ALTER FUNCTION shop.spy OWNER TO CURRENT_USER;
CREATE TABLE shop.log (id bigint);
SELECT set_config('test.command', command, false) AS command, attempt(format($$SELECT order_engine.transition('order', %s, 'accept')$$, :id)) AS attempt
FROM (VALUES
	(1, 'SET ROLE regress_guard_owner'),
	(2, 'SET SESSION AUTHORIZATION regress_guard_owner'),
	(3, 'INSERT INTO shop.log VALUES (1)'),
	(4, 'CREATE TEMP TABLE t (i integer)'),
	(5, 'SET transaction_read_only = off'),
	(6, 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'),
	(7, $$SELECT order_engine.emit('a', 'b', 'c.d', '{}')$$),
	(8, format($$SELECT order_engine.transition('order', %s, 'finish')$$, :id)),
	(9, 'DO $x$ BEGIN RAISE EXCEPTION SQLSTATE ''XX123'' USING MESSAGE = ''mine'', DETAIL = ''its detail'', HINT = ''its hint''; END $x$')) AS t (n, command) ORDER BY n;
-- what it caught is over
SELECT set_config('test.command', 'DO $x$ BEGIN INSERT INTO shop.log VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END $x$', false) IS NULL AS set;
SELECT order_engine.transition('order', :id, 'accept');
INSERT INTO shop.log VALUES (2);
SELECT * FROM shop.log;
SELECT state, version FROM order_engine.orders WHERE order_id = :id;

-- nor does a guard that asks for it make the transaction read-only
SELECT set_config('test.command', 'SET transaction_read_only = on', false) IS NULL AS set;
SELECT new_order() AS id \gset
BEGIN;
SELECT order_engine.transition('order', :id, 'accept');
INSERT INTO shop.log VALUES (3);
COMMIT;

-- a reason is clipped
CREATE OR REPLACE FUNCTION shop.spy(id bigint) RETURNS text LANGUAGE sql RETURN repeat(E'\u00e9', 10000);
SELECT new_order() AS id \gset
SELECT octet_length(reason), right(reason, 1) = E'\u00e9' AS whole FROM order_engine.allowed_events('order', :id) WHERE reason IS NOT NULL;
-- a function that is gone, or became another
DROP FUNCTION shop.spy;
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'accept')$$, :id));
CREATE FUNCTION shop.spy(id bigint) RETURNS SETOF text LANGUAGE sql RETURN NULL;
SELECT attempt(format($$SELECT order_engine.transition('order', %s, 'accept')$$, :id)) LIMIT 1;
-- other ways out stay open, and the operator has one too
SELECT order_engine.force_transition('order', :id, 'accept', 'guard is gone');
SELECT state FROM order_engine.orders WHERE order_id = :id;
DROP FUNCTION shop.spy;

-- who publishes must be allowed to execute it, and to have it run as its owner
CREATE ROLE regress_guard_operator;
SELECT order_engine.grant_access('regress_guard_operator', 'operator');
GRANT EXECUTE ON FUNCTION define, publish TO regress_guard_operator;
CREATE FUNCTION shop.foreign_guard(id bigint) RETURNS text LANGUAGE sql RETURN NULL;
ALTER FUNCTION shop.foreign_guard OWNER TO regress_guard_owner;
SET ROLE regress_guard_operator;
SELECT attempt($$SELECT publish('["shop.foreign_guard"]')$$);
RESET ROLE;
GRANT USAGE ON SCHEMA shop TO regress_guard_operator;
REVOKE EXECUTE ON FUNCTION shop.foreign_guard FROM PUBLIC;
SET ROLE regress_guard_operator;
SELECT attempt($$SELECT publish('["shop.foreign_guard"]')$$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION shop.foreign_guard TO regress_guard_operator;
SET ROLE regress_guard_operator;
SELECT attempt($$SELECT publish('["shop.foreign_guard"]')$$);
RESET ROLE;
ALTER FUNCTION shop.foreign_guard SECURITY DEFINER;
SET ROLE regress_guard_operator;
SELECT attempt($$SELECT publish('["shop.foreign_guard"]')$$);
RESET ROLE;
ALTER FUNCTION shop.foreign_guard SECURITY INVOKER;
ALTER FUNCTION shop.foreign_guard OWNER TO regress_guard_operator;
SET ROLE regress_guard_operator;
SELECT attempt($$SELECT publish('["shop.foreign_guard"]')$$);
RESET ROLE;

-- a part: the id is that of the part
CREATE FUNCTION shop.check_payment(id bigint) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT format('payment %s of order %s is %s', p.payment_id = id, o.order_number, p.state)
	FROM order_engine.payment AS p JOIN order_engine.orders AS o USING (order_id) WHERE p.payment_id = id AND p.method = 'cash'
$$;
SELECT publish('["shop.check_payment"]', 'payment');
SELECT new_order() AS id \gset
INSERT INTO order_engine.payment (payment_id, order_id, machine_id, state, state_since, created_at, updated_at, kind, currency, provider, method, amount)
SELECT n, :id, max(machine_id), 'pending', now(), now(), now(), 'authorization', 'EUR', 'default', CASE n WHEN 70 THEN 'cash' ELSE 'card' END, 20
FROM order_engine.machine, generate_series(70, 71) AS n WHERE kind = 'payment' AND name = 'guarded' GROUP BY n;
SELECT attempt($$SELECT order_engine.transition('payment', 70, 'accept')$$);
SELECT * FROM order_engine.allowed_events('payment', 70);
SELECT order_engine.transition('payment', 71, 'accept');
SELECT order_engine.force_transition('payment', 70, 'accept', 'the till was counted');
SELECT entity, entity_id, event, forced, reason FROM order_engine.history WHERE order_id = :id ORDER BY seq;

-- a table of the application: the id is a text
CREATE TABLE shop.ticket (id integer PRIMARY KEY, state text, answer text, version bigint NOT NULL DEFAULT 0);
CREATE FUNCTION shop.check_answer(id text) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT format('ticket %s has no answer, state %s', t.id, t.state) FROM shop.ticket AS t WHERE t.id::text = check_answer.id AND t.answer IS NULL
$$;
SELECT attempt($$SELECT order_engine.publish_machine(order_engine.define_machine('ticket', 'support', '{
	"initial": "open", "states": {"open": {}, "closed": {"terminal": true}},
	"transitions": [{"event": "close", "from": "open", "to": "closed", "guards": ["shop.check_vip", "no_hold"]}]}'))$$);
SELECT order_engine.publish_machine(order_engine.define_machine('ticket', 'support', '{
	"initial": "open", "states": {"open": {}, "closed": {"terminal": true}},
	"transitions": [{"event": "close", "from": "open", "to": "closed", "guards": ["shop.check_answer"]}]}'));
SELECT order_engine.attach_machine('shop.ticket', 'ticket', 'support', 'state', 'id', 'version');
INSERT INTO shop.ticket VALUES (1, 'open', NULL), (2, 'open', 'yes');
SELECT attempt($$UPDATE shop.ticket SET state = 'closed'$$);
UPDATE shop.ticket SET state = 'closed' WHERE id = 2;
UPDATE shop.ticket SET state = 'closed', answer = 'no' WHERE id = 1;
SELECT * FROM shop.ticket ORDER BY id;
SELECT aggregateid, aggregate_seq, type FROM order_engine.outbox WHERE aggregatetype = 'ticket' ORDER BY txid, id;

-- a guard of an automatic transition that fails, or is gone, keeps the verb before it from nothing
CREATE FUNCTION shop.check_broken(id bigint) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RAISE EXCEPTION 'broken'; END$$;
SELECT order_engine.publish_machine(order_engine.define_machine('order', 'eager', '{
	"initial": "new", "states": {"new": {}, "open": {}, "sure": {}, "done": {"terminal": true}},
	"transitions": [{"event": "place", "from": "new", "to": "open"},
		{"event": "assure", "from": "open", "to": "sure", "automatic": true, "guards": ["no_hold", "shop.check_broken"]},
		{"event": "finish", "from": ["open", "sure"], "to": "done"}]}'));
SET order_engine.order_machine = 'eager';
SELECT new_order() AS id \gset
SELECT order_engine.place_hold(:id, 'look') AS hold \gset
SELECT order_engine.release_hold(:hold);
SELECT attempt(format('SELECT order_engine.transition(%L, %s, %L)', 'order', :id, 'assure'));
DROP FUNCTION shop.check_broken;
SELECT order_engine.place_hold(:id, 'look again') AS hold \gset
SELECT order_engine.release_hold(:hold);
-- as soon as it agrees, the next event of the order is followed
CREATE FUNCTION shop.check_broken(id bigint) RETURNS text LANGUAGE sql STABLE AS $$SELECT NULL::text$$;
SELECT order_engine.place_hold(:id, 'once more') AS hold \gset
SELECT order_engine.release_hold(:hold);
SELECT seq, event, from_state, to_state FROM order_engine.history WHERE order_id = :id ORDER BY seq;

RESET order_engine.order_machine;
SELECT set_config('test.command', '', false);
DROP FUNCTION define, publish, new_order, attempt;
SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
RESET client_min_messages;
DROP OWNED BY regress_guard_owner, regress_guard_app, regress_guard_operator;
DROP ROLE regress_guard_owner, regress_guard_app, regress_guard_operator;
