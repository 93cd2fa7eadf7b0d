-- attach_machine() on foreign tables.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin
SELECT count(*) = 0 AS missing FROM pg_available_extensions WHERE name = 'postgres_fdw' \gset
\if :missing
\echo postgres_fdw is not installed, so foreign tables are not tested
DROP FUNCTION attempt;
\quit
\endif

-- this database, seen from outside
CREATE EXTENSION postgres_fdw;
DO $$
BEGIN
	EXECUTE format('CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L)',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database());
END $$;
CREATE USER MAPPING FOR CURRENT_USER SERVER loopback;
CREATE TABLE remote_ticket (id integer PRIMARY KEY, state text, answer text, version bigint NOT NULL DEFAULT 0);
INSERT INTO remote_ticket VALUES (1, 'open'), (2, 'open');
CREATE FOREIGN TABLE ticket (id integer, state text, answer text, version bigint NOT NULL DEFAULT 0)
	SERVER loopback OPTIONS (table_name 'remote_ticket');
CREATE VIEW trail AS
SELECT entity_id, seq, event, from_state, to_state FROM order_engine.history ORDER BY entity_id, seq;
CREATE VIEW events AS
SELECT aggregatetype, aggregateid, aggregate_seq AS seq, type, payload FROM order_engine.outbox ORDER BY aggregateid, aggregate_seq;

CREATE FUNCTION check_answer(id text) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT 'there is no answer' FROM public.ticket AS t WHERE t.id::text = check_answer.id AND t.answer IS NULL
$$;
SELECT order_engine.publish_machine(order_engine.define_machine('ticket', 'support', '{
	"initial": "open", "states": {"open": {}, "waiting": {}, "closed": {"terminal": true}},
	"transitions": [{"event": "ask", "from": "open", "to": "waiting"}, {"event": "answer", "from": "waiting", "to": "open"},
		{"event": "close", "from": ["open", "waiting"], "to": "closed", "guards": ["public.check_answer"]}]}'));
UPDATE remote_ticket SET state = 'lost' WHERE id = 2;
SELECT attempt($$SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'state', 'id', 'version')$$);
UPDATE remote_ticket SET state = 'open' WHERE id = 2;
SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'state', 'id', 'version');

-- entry, steps, and what is refused
INSERT INTO ticket VALUES (3, 'open', NULL, 0);
SELECT attempt($$INSERT INTO ticket VALUES (4, 'closed', NULL, 0)$$);
UPDATE ticket SET state = 'waiting' WHERE id = 1;
BEGIN;
UPDATE ticket SET state = 'open' WHERE id = 1;
UPDATE ticket SET state = 'waiting';
SAVEPOINT s;
UPDATE ticket SET state = 'open';
ROLLBACK TO s;
UPDATE ticket SET answer = 'yes' WHERE id = 1;
UPDATE ticket SET state = 'closed' WHERE id = 1;
COMMIT;
SELECT attempt($$UPDATE ticket SET state = 'open' WHERE id = 1$$);
SELECT attempt($$UPDATE ticket SET state = 'closed' WHERE id = 2$$);
SELECT attempt($$UPDATE ticket SET version = 7 WHERE id = 2$$);
SELECT attempt($$UPDATE ticket SET id = 7 WHERE id = 2$$);
SELECT * FROM ticket ORDER BY id;
SELECT * FROM trail;
SELECT * FROM events;
SELECT order_engine.detach_machine('ticket');
UPDATE ticket SET state = 'anything' WHERE id = 1;

-- a foreign partition of a governed table
CREATE TABLE parted (id integer, state text, region text, version bigint NOT NULL DEFAULT 0) PARTITION BY LIST (region);
CREATE TABLE remote_n (id integer, state text, region text, version bigint NOT NULL DEFAULT 0);
CREATE TABLE parted_s PARTITION OF parted FOR VALUES IN ('s');
CREATE FOREIGN TABLE parted_n PARTITION OF parted FOR VALUES IN ('n') SERVER loopback OPTIONS (table_name 'remote_n');
SELECT order_engine.attach_machine('parted', 'ticket', 'support', 'state', 'id', 'version');
INSERT INTO parted VALUES (21, 'open', 'n'), (22, 'open', 's');
UPDATE parted SET state = 'waiting';
UPDATE parted SET state = 'open';
SELECT attempt($$UPDATE parted SET state = 'lost'$$);
SELECT tableoid::regclass, * FROM parted ORDER BY id;
SELECT * FROM trail WHERE entity_id IN ('21', '22');

DROP VIEW trail, events;
DROP FUNCTION check_answer, attempt;
DROP TABLE parted, remote_n;
DROP FOREIGN TABLE ticket;
DROP TABLE remote_ticket;
SET client_min_messages = warning;
DROP EXTENSION postgres_fdw CASCADE;
RESET client_min_messages;
