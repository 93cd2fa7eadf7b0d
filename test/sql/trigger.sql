-- The trigger of the state machine: UPDATEs written by hand, and other tables.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- rows as the engine makes them, without stock
CREATE PROCEDURE new_order(id bigint, machine_id integer) LANGUAGE sql AS $$
	INSERT INTO order_engine.orders (order_id, version, last_txid, machine_id, state, state_since, expires_at,
		order_number, customer_id, terms, currency, lines_total, total, placed_at, created_at, updated_at)
	VALUES (id, 1, pg_current_xact_id(), machine_id, 'pending', '2020-01-01', now() + interval '1 hour',
		'N' || id, 'C1', 'invoice', 'EUR', 30, 30, '2020-01-01', '2020-01-01', '2020-01-01');
	INSERT INTO order_engine.order_line (order_id, line_no, quantity, tracked, sku, unit_price, line_total)
	VALUES (id, 1, 2, false, 'A', 10, 20), (id, 2, 1, false, 'B', 10, 10);
$$;
CREATE VIEW row_state AS
SELECT order_id, version, state, state_since = updated_at AS stamped, last_txid = pg_current_xact_id() AS ours,
	expires_at IS NULL AS no_limit, payment_status AS payment, fulfillment_status AS fulfillment,
	confirmed_at = state_since AS confirmed, first_shipped_at = state_since AS shipped,
	delivered_at = state_since AS delivered, completed_at = state_since AS completed, cancelled_at = state_since AS cancelled
FROM order_engine.orders ORDER BY order_id;
CREATE VIEW trail AS
SELECT h.order_id, h.seq, h.event, h.from_state, h.to_state, h.machine_id, h.forced, h.reason,
	h.created_at = o.state_since AS now
FROM order_engine.history AS h LEFT JOIN order_engine.orders AS o ON o.order_id = h.order_id AND o.version = h.seq
ORDER BY h.order_id, h.seq;
CREATE VIEW events AS
SELECT aggregatetype, aggregateid, aggregate_seq AS seq, type, payload, after_txid, txid = pg_current_xact_id() AS ours
FROM order_engine.outbox ORDER BY txid, id;

CALL new_order(1, 1);
CALL new_order(2, 1);
CALL new_order(3, 2);

-- a legal step writes stamps, history and event, at one time
BEGIN;
UPDATE order_engine.orders SET state = 'confirmed' WHERE order_id = 1;
SELECT * FROM row_state WHERE order_id = 1;
SELECT * FROM trail;
SELECT * FROM events;
SELECT o.created_at = h.created_at AS one_time, o.headers - 'actor' AS headers, o.headers ->> 'actor' = h.actor AS one_actor,
	h.actor = session_user AS actor
FROM order_engine.outbox AS o, order_engine.history AS h;
COMMIT;

-- an illegal one: nothing changes
SELECT attempt($$UPDATE order_engine.orders SET state = 'pending' WHERE order_id = 1$$);
SELECT attempt($$UPDATE order_engine.orders SET state = 'nonsense' WHERE order_id = 1$$);
SELECT attempt($$UPDATE order_engine.orders SET state = '' WHERE order_id = 1$$);
SELECT attempt($$UPDATE order_engine.orders SET state = NULL WHERE order_id = 1$$);
SELECT order_id, version, state FROM order_engine.orders ORDER BY order_id;

-- guards hold by hand too
SELECT attempt($$UPDATE order_engine.orders SET state = 'completed' WHERE order_id = 1$$);
SELECT attempt($$UPDATE order_engine.orders SET state = 'expired' WHERE order_id = 2$$);
SELECT attempt($$UPDATE order_engine.orders SET state = 'confirmed', on_hold = true WHERE order_id = 2$$);
SET session_replication_role = replica;
UPDATE order_engine.orders SET on_hold = true WHERE order_id = 2;
RESET session_replication_role;
SELECT attempt($$UPDATE order_engine.orders SET state = 'confirmed' WHERE order_id = 2$$);
SET session_replication_role = replica;
UPDATE order_engine.orders SET on_hold = false WHERE order_id = 2;
RESET session_replication_role;
SELECT attempt($$UPDATE order_engine.orders SET state = 'confirmed', terms = 'prepaid' WHERE order_id = 2$$);
SELECT order_id, version, state, on_hold, terms FROM order_engine.orders ORDER BY order_id;

-- the same state: success, no event
UPDATE order_engine.orders SET state = 'confirmed', region = 'north' WHERE order_id = 1;
SELECT order_id, version, state, region, updated_at > state_since AS touched FROM order_engine.orders WHERE order_id = 1;
SELECT count(*) FROM order_engine.history;
SELECT count(*) FROM order_engine.outbox;

-- what the engine keeps is not changed by hand, with a step or without
SELECT c.column_name, attempt(format('UPDATE order_engine.orders SET %I = %s WHERE order_id = 2', column_name, value))
FROM (VALUES ('order_id', '20'), ('version', '7'), ('version', 'NULL'), ('last_txid', '''3'''), ('machine_id', '2'), ('state_since', 'now()'),
	('placed_at', 'NULL'), ('confirmed_at', 'now()'), ('first_shipped_at', 'now()'), ('delivered_at', 'now()'),
	('completed_at', 'now()'), ('cancelled_at', 'now()')) AS c (column_name, value);
SELECT attempt($$UPDATE order_engine.orders SET state = 'cancelled', version = version + 1 WHERE order_id = 2$$);
SELECT attempt($$UPDATE order_engine.orders SET state = 'cancelled', cancelled_at = now() WHERE order_id = 2$$);
-- a client that writes all columns back changes nothing
UPDATE order_engine.orders SET version = 1, machine_id = 1, state = 'pending', confirmed_at = NULL WHERE order_id = 2;

-- effects on lines
UPDATE order_engine.orders SET state = 'cancelled' WHERE order_id = 2;
SELECT order_id, version, state, cancelled_at = state_since AS cancelled FROM order_engine.orders WHERE order_id = 2;
SELECT line_no, quantity, cancelled, shipped FROM order_engine.order_line WHERE order_id = 2 ORDER BY line_no;
-- a terminal state is final
SELECT attempt($$UPDATE order_engine.orders SET state = 'pending' WHERE order_id = 2$$);

-- the ladder of the machine simple
BEGIN;
UPDATE order_engine.orders SET state = 'paid' WHERE order_id = 3;
SELECT * FROM row_state WHERE order_id = 3;
UPDATE order_engine.orders SET state = 'shipped' WHERE order_id = 3;
SELECT * FROM row_state WHERE order_id = 3;
UPDATE order_engine.orders SET state = 'delivered' WHERE order_id = 3;
SELECT * FROM row_state WHERE order_id = 3;
SELECT line_no, quantity, cancelled, shipped, delivered FROM order_engine.order_line WHERE order_id = 3 ORDER BY line_no;
SELECT * FROM trail WHERE order_id = 3;
SELECT seq, type, payload FROM events WHERE aggregateid = '3';
COMMIT;

-- many rows in one statement
CALL new_order(11, 1);
CALL new_order(12, 1);
CALL new_order(13, 1);
UPDATE order_engine.orders SET state = CASE order_id WHEN 12 THEN 'cancelled' ELSE 'confirmed' END WHERE order_id > 10;
SELECT * FROM trail WHERE order_id > 10;
SELECT seq, type, aggregateid FROM events WHERE aggregateid::bigint > 10;
-- one of them illegal: none happens
SELECT attempt($$UPDATE order_engine.orders SET state = 'completed' WHERE order_id > 10$$);
SELECT order_id, version, state FROM order_engine.orders WHERE order_id > 10 ORDER BY order_id;

-- a rolled back step leaves nothing
BEGIN;
SAVEPOINT s;
UPDATE order_engine.orders SET state = 'cancelled' WHERE order_id = 11;
ROLLBACK TO s;
UPDATE order_engine.orders SET state = 'cancelled' WHERE order_id = 13;
COMMIT;
SELECT order_id, version, state FROM order_engine.orders WHERE order_id > 10 ORDER BY order_id;
SELECT order_id, seq, event FROM trail WHERE order_id > 10;

-- an order whose machine is gone
INSERT INTO order_engine.orders SELECT (jsonb_populate_record(o, '{"order_id": 14, "order_number": "N14", "machine_id": 999}')).*
FROM order_engine.orders AS o WHERE order_id = 11;
SELECT attempt($$UPDATE order_engine.orders SET state = 'cancelled' WHERE order_id = 14$$);

-- other triggers on orders: the check comes last, the record first
CREATE FUNCTION to_cancelled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.state := 'cancelled';
	RETURN NEW;
END $$;
CREATE TRIGGER before_ours BEFORE UPDATE ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION to_cancelled();
UPDATE order_engine.orders SET region = 'south' WHERE order_id = 11;
SELECT order_id, version, state FROM order_engine.orders WHERE order_id = 11;
SELECT order_id, seq, event FROM trail WHERE order_id = 11;
DROP TRIGGER before_ours ON order_engine.orders;
CALL new_order(15, 1);
CREATE TRIGGER zzz_behind_ours BEFORE UPDATE ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION to_cancelled();
SELECT attempt($$UPDATE order_engine.orders SET region = 'south' WHERE order_id = 15$$);
SELECT attempt($$UPDATE order_engine.orders SET state = 'confirmed' WHERE order_id = 15$$);
DROP TRIGGER zzz_behind_ours ON order_engine.orders;
CREATE OR REPLACE FUNCTION to_cancelled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.state := OLD.state;
	RETURN NEW;
END $$;
CREATE TRIGGER zzz_behind_ours BEFORE UPDATE ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION to_cancelled();
SELECT attempt($$UPDATE order_engine.orders SET state = 'confirmed' WHERE order_id = 15$$);
DROP TRIGGER zzz_behind_ours ON order_engine.orders;
CREATE FUNCTION cancel_at_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.state = 'confirmed' THEN
		PERFORM order_engine.transition('order', NEW.order_id, 'cancel', 'changed our mind');
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER "1_ours_is_first" AFTER UPDATE ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION cancel_at_once();
SELECT order_engine.transition('order', 15, 'confirm', 'paid by invoice');
SELECT order_id, version, state FROM order_engine.orders WHERE order_id = 15;
SELECT order_id, seq, event, reason FROM trail WHERE order_id = 15;
SELECT seq, type FROM events WHERE aggregateid = '15';
DROP TRIGGER "1_ours_is_first" ON order_engine.orders;
DROP FUNCTION cancel_at_once, to_cancelled;

-- Whoever may UPDATE the table needs no other right, and brings no search_path.
CREATE SCHEMA evil;
CREATE FUNCTION evil.equal(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'the operator of the caller was used by %', current_user;
END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.equal, LEFTARG = bigint, RIGHTARG = bigint);
CREATE ROLE regress_clerk;
GRANT USAGE ON SCHEMA order_engine, evil TO regress_clerk;
GRANT SELECT, UPDATE ON order_engine.orders TO regress_clerk;
CALL new_order(16, 1);
CALL new_order(17, 2);
SET ROLE regress_clerk;
SET search_path = evil, pg_catalog;
UPDATE order_engine.orders SET state = 'cancelled' WHERE order_number = 'N16';
UPDATE order_engine.orders SET state = 'paid' WHERE order_number = 'N17';
UPDATE order_engine.orders SET state = 'shipped' WHERE order_number = 'N17';
SELECT current_user, current_setting('search_path');
RESET search_path;
RESET ROLE;
SELECT order_id, line_no, quantity, cancelled, shipped FROM order_engine.order_line WHERE order_id IN (16, 17) ORDER BY order_id, line_no;
SELECT order_id, seq, event FROM trail WHERE order_id IN (16, 17);

-- A trigger of the user goes on with another order of the same UPDATE: its events would be recorded in reverse.
CALL new_order(18, 2);
CALL new_order(19, 2);
CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE TG_ARGV[0];
	RETURN NULL;
END $$;
CREATE TRIGGER go_on AFTER UPDATE ON order_engine.orders FOR EACH ROW WHEN (NEW.order_id = 18 AND NEW.state = 'paid')
EXECUTE FUNCTION go_on($$SELECT order_engine.transition('order', 19, 'ship')$$);
SELECT attempt($$UPDATE order_engine.orders SET state = 'paid' WHERE order_id IN (18, 19)$$);
-- one after the other, and other columns, are in order
SELECT order_engine.transition('order', 19, 'pay');
SELECT order_engine.transition('order', 18, 'pay');
DROP TRIGGER go_on ON order_engine.orders;
CREATE TRIGGER go_on AFTER UPDATE ON order_engine.orders FOR EACH ROW WHEN (NEW.order_id = 18 AND NEW.state = 'refunded')
EXECUTE FUNCTION go_on($$UPDATE order_engine.orders SET region = 'x' WHERE order_id = 19$$);
UPDATE order_engine.orders SET state = 'refunded' WHERE order_id IN (18, 19);
SELECT order_id, seq, event FROM trail WHERE order_id IN (18, 19);
DROP TRIGGER go_on ON order_engine.orders;
DROP FUNCTION go_on;

-- Misuse of the function.
SELECT attempt($$SELECT order_engine.state_machine()$$);
CREATE TABLE plain (id integer PRIMARY KEY, state text, version bigint);
INSERT INTO plain VALUES (1, 'open', 0);
CREATE VIEW plain_view AS SELECT * FROM plain;
CREATE FUNCTION misuse(trigger_name text, what text, args text, command text, relation text DEFAULT 'plain') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER %I %s EXECUTE FUNCTION order_engine.state_machine(%s)', trigger_name, what, args);
	RETURN QUERY SELECT attempt(command);
	EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, relation);
END $$;
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain', '''ticket'', ''support'', ''state'', ''id''', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain FOR EACH ROW', '', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain FOR EACH ROW', '1, 2, 3, 4, 5, 6', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'BEFORE DELETE ON plain FOR EACH ROW', '''ticket'', ''support'', ''state'', ''id''', 'DELETE FROM plain');
SELECT misuse('zz_order_engine_check', 'BEFORE TRUNCATE ON plain', '''ticket'', ''support'', ''state'', ''id''', 'TRUNCATE plain');
SELECT misuse('00_order_engine_record', 'AFTER INSERT ON plain FOR EACH ROW', '''ticket'', ''support'', ''state'', ''id''', 'INSERT INTO plain VALUES (2)');
SELECT misuse('00_order_engine_record', 'AFTER DELETE ON plain FOR EACH ROW', '''ticket'', ''support'', ''state'', ''id''', 'DELETE FROM plain');
SELECT misuse('other_name', 'BEFORE UPDATE ON plain FOR EACH ROW', '''ticket'', ''support'', ''state'', ''id''', 'UPDATE plain SET id = 1');
SELECT misuse('other_name', 'AFTER UPDATE ON plain FOR EACH ROW', '''ticket'', ''support'', ''state'', ''id''', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'INSTEAD OF UPDATE ON plain_view FOR EACH ROW', '''ticket'', ''support'', ''state'', ''id''', 'UPDATE plain_view SET id = 1', 'plain_view');
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain FOR EACH ROW', '''order'', ''default'', ''state'', ''id''', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain FOR EACH ROW', '''ticket'', ''support'', ''nowhere'', ''id''', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain FOR EACH ROW', '''ticket'', ''support'', ''ctid'', ''id''', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain FOR EACH ROW', '''ticket'', ''support'', ''version'', ''id''', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain FOR EACH ROW', '''ticket'', ''support'', ''state'', ''id'', ''state''', 'UPDATE plain SET id = 1');
SELECT misuse('zz_order_engine_check', 'BEFORE UPDATE ON plain FOR EACH ROW', '''ticket'', ''missing'', ''state'', ''id''', 'UPDATE plain SET state = ''closed''');
CREATE CONSTRAINT TRIGGER "00_order_engine_record" AFTER UPDATE ON plain DEFERRABLE FOR EACH ROW
EXECUTE FUNCTION order_engine.state_machine('ticket', 'support', 'state', 'id');
SELECT attempt($$UPDATE plain SET id = 1$$);
DROP TRIGGER "00_order_engine_record" ON plain;
-- on orders itself
SELECT misuse('once_more', 'BEFORE UPDATE ON order_engine.orders FOR EACH ROW', '', 'UPDATE order_engine.orders SET region = ''x''', 'order_engine.orders');
SELECT misuse('once_more', 'AFTER UPDATE ON order_engine.orders FOR EACH ROW', '', 'UPDATE order_engine.orders SET region = ''x''', 'order_engine.orders');
SELECT misuse('once_more', 'BEFORE INSERT ON order_engine.orders FOR EACH ROW', '', 'INSERT INTO order_engine.orders SELECT * FROM order_engine.orders', 'order_engine.orders');
-- a table that is only called orders
CREATE TABLE orders (LIKE order_engine.orders);
SELECT misuse('zz_order_engine_check', 'BEFORE INSERT ON orders FOR EACH ROW', '', 'INSERT INTO orders SELECT * FROM order_engine.orders', 'orders');
DROP TABLE orders;

DROP VIEW row_state, trail, events, plain_view;
DROP TABLE plain;
DROP PROCEDURE new_order;
DROP FUNCTION attempt, misuse;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
RESET client_min_messages;
REVOKE ALL ON SCHEMA order_engine FROM regress_clerk;
REVOKE ALL ON order_engine.orders FROM regress_clerk;
DROP ROLE regress_clerk;
