-- State machines on tables of the application.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE VIEW trail AS
SELECT order_id, entity, entity_id, seq, event, from_state, to_state, reason FROM order_engine.history ORDER BY entity_id, seq;
CREATE VIEW events AS
SELECT aggregatetype, aggregateid, aggregate_seq AS seq, type, payload FROM order_engine.outbox ORDER BY aggregateid, aggregate_seq;

SELECT order_engine.define_machine('ticket', 'support', '{
	"initial": "open", "states": {"open": {}, "waiting": {}, "closed": {"terminal": true}},
	"transitions": [
		{"event": "ask", "from": "open", "to": "waiting", "type": "helpdesk.asked"},
		{"event": "answer", "from": "waiting", "to": "open"},
		{"event": "close", "from": ["open", "waiting"], "to": "closed"}]}') AS machine_id \gset

-- with a version column
CREATE TABLE ticket (id integer PRIMARY KEY, "the state" text, note text, version bigint NOT NULL DEFAULT 0);
SELECT attempt($$SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'the state', 'id', 'version')$$);
SELECT order_engine.publish_machine(:machine_id);
SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'the state', 'id', 'version');
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'ticket'::regclass ORDER BY tgname;

-- rows start in the initial state, and that is no event
INSERT INTO ticket VALUES (1, 'open', 'first'), (2, 'open', 'second');
SELECT attempt($$INSERT INTO ticket VALUES (3, 'closed', 'third')$$);
SELECT attempt($$INSERT INTO ticket VALUES (3, NULL, 'third')$$);
SELECT * FROM trail;
-- steps
UPDATE ticket SET "the state" = 'waiting' WHERE id = 1;
UPDATE ticket SET "the state" = 'open', note = 'answered' WHERE id = 1;
UPDATE ticket SET note = 'still open', "the state" = 'open' WHERE id = 1;
UPDATE ticket SET "the state" = 'closed';
SELECT attempt($$UPDATE ticket SET "the state" = 'open' WHERE id = 1$$);
SELECT attempt($$UPDATE ticket SET "the state" = NULL WHERE id = 1$$);
SELECT attempt($$UPDATE ticket SET id = 7 WHERE id = 1$$);
SELECT attempt($$UPDATE ticket SET version = 7 WHERE id = 1$$);
SELECT * FROM ticket ORDER BY id;
SELECT * FROM trail;
SELECT * FROM events;
DELETE FROM ticket WHERE id = 2;

-- columns move, the machine stays
ALTER TABLE ticket DROP COLUMN note;
ALTER TABLE ticket RENAME COLUMN version TO counter;
SELECT attempt($$INSERT INTO ticket (id, "the state") VALUES (4, 'open')$$);
ALTER TABLE ticket RENAME COLUMN counter TO version;
INSERT INTO ticket (id, "the state") VALUES (4, 'open');
UPDATE ticket SET "the state" = 'waiting' WHERE id = 4;
SELECT * FROM ticket WHERE id = 4;

-- the next version of the machine counts from its commit on, in this session too
SELECT order_engine.define_machine('ticket', 'support', '{
	"initial": "open", "states": {"open": {}, "waiting": {}, "closed": {"terminal": true}, "lost": {"terminal": true}},
	"transitions": [
		{"event": "ask", "from": "open", "to": "waiting"},
		{"event": "lose", "from": "waiting", "to": "lost"},
		{"event": "close", "from": "open", "to": "closed"}]}') AS second_id \gset
SELECT attempt($$UPDATE ticket SET "the state" = 'lost' WHERE id = 4$$);
BEGIN;
SELECT order_engine.publish_machine(:second_id);
SAVEPOINT s;
UPDATE ticket SET "the state" = 'lost' WHERE id = 4;
ROLLBACK;
SELECT attempt($$UPDATE ticket SET "the state" = 'lost' WHERE id = 4$$);
SELECT order_engine.publish_machine(:second_id);
UPDATE ticket SET "the state" = 'lost' WHERE id = 4;
SELECT h.event, h.seq, h.machine_id = :second_id AS new_machine FROM order_engine.history AS h WHERE entity_id = '4' ORDER BY seq;

-- once only; off and on again
SELECT attempt($$SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'the state', 'id')$$);
SELECT order_engine.detach_machine('ticket');
UPDATE ticket SET "the state" = 'anything' WHERE id = 4;
SELECT attempt($$SELECT order_engine.detach_machine('ticket')$$);
SELECT attempt($$SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'the state', 'id')$$);
UPDATE ticket SET "the state" = NULL WHERE id = 4;
SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'the state', 'id', 'version');
-- a row without a state enters at the start
SELECT attempt($$UPDATE ticket SET "the state" = 'lost' WHERE id = 4$$);
UPDATE ticket SET "the state" = 'open' WHERE id = 4;
SELECT * FROM ticket ORDER BY id;
DROP TABLE ticket;

-- without a version column, with an enum, a uuid, a schema and quotes; rows that were there before
CREATE SCHEMA "Help Desk";
CREATE TYPE ticket_state AS ENUM ('open', 'waiting', 'closed', 'lost', 'unused');
CREATE TABLE "Help Desk"."it's" ("State" ticket_state, "Key" uuid);
INSERT INTO "Help Desk"."it's" VALUES ('waiting', '00000000-0000-0000-0000-000000000001');
SELECT order_engine.attach_machine('"Help Desk"."it''s"', 'ticket', 'support', 'State', 'Key');
UPDATE "Help Desk"."it's" SET "State" = 'lost';
SELECT attempt($$UPDATE "Help Desk"."it's" SET "State" = 'unused'$$);
SELECT * FROM trail WHERE entity_id LIKE '%-%';
SELECT * FROM events WHERE aggregateid LIKE '%-%';
INSERT INTO "Help Desk"."it's" VALUES ('open', NULL);
SELECT attempt($$UPDATE "Help Desk"."it's" SET "State" = 'waiting' WHERE "Key" IS NULL$$);
DROP SCHEMA "Help Desk" CASCADE;
DROP TYPE ticket_state;

-- a column of type integer for the version; a domain; a partitioned table
CREATE DOMAIN status AS varchar(20) CHECK (VALUE <> '');
CREATE TABLE parted (region text, id text, state status, version integer DEFAULT 0) PARTITION BY LIST (region);
CREATE TABLE parted_n (version integer DEFAULT 0, state status, id text, region text);
ALTER TABLE parted ATTACH PARTITION parted_n FOR VALUES IN ('n');
CREATE TABLE parted_s PARTITION OF parted FOR VALUES IN ('s');
INSERT INTO parted VALUES ('s', 'S1', 'open', 2147483647);
SELECT order_engine.attach_machine('parted', 'ticket', 'support', 'state', 'id', 'version');
INSERT INTO parted VALUES ('n', 'N1', 'open', NULL);
UPDATE parted SET state = 'waiting' WHERE id = 'N1';
SELECT attempt($$UPDATE parted SET state = 'waiting' WHERE id = 'S1'$$);
-- a row that moves to another partition would lose its trail: refused unless it is a new one
SELECT attempt($$UPDATE parted SET region = 's' WHERE id = 'N1'$$);
-- nor can it move in a transition, be it into the initial state
SELECT attempt($$UPDATE parted SET state = 'lost', region = 's' WHERE id = 'N1'$$);
INSERT INTO parted VALUES ('n', 'N2', 'open', 0);
UPDATE parted SET region = 's' WHERE id = 'N2';
SELECT tableoid::regclass, * FROM parted ORDER BY id;
SELECT seq, type, aggregateid FROM events WHERE aggregateid = 'N1';
DROP TABLE parted;
SELECT order_engine.define_machine('lamp', 'switch', '{"initial": "off", "states": {"off": {}, "on": {}, "broken": {"terminal": true}},
	"transitions": [{"event": "light", "from": "off", "to": "on"}, {"event": "dim", "from": "on", "to": "off"},
		{"event": "fall", "from": ["off", "on"], "to": "broken"}]}') AS lamp_id \gset
SELECT order_engine.publish_machine(:lamp_id);
CREATE TABLE lamp (room text, id integer, state text) PARTITION BY LIST (room);
CREATE TABLE lamp_a PARTITION OF lamp FOR VALUES IN ('a');
CREATE TABLE lamp_b PARTITION OF lamp FOR VALUES IN ('b');
SELECT order_engine.attach_machine('lamp', 'lamp', 'switch', 'state', 'id');
INSERT INTO lamp VALUES ('a', 1, 'off');
UPDATE lamp SET state = 'on';
SELECT attempt($$UPDATE lamp SET state = 'off', room = 'b'$$);
UPDATE lamp SET state = 'off';
UPDATE lamp SET room = 'b';
UPDATE lamp SET state = 'on';
SELECT tableoid::regclass, * FROM lamp;
SELECT event, from_state, to_state FROM order_engine.history WHERE entity = 'lamp' ORDER BY created_at;
DROP TABLE lamp;
DROP DOMAIN status;

-- ON CONFLICT: the row that is proposed must be a new one, too
CREATE TABLE ticket (id integer PRIMARY KEY, state text, version bigint);
SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'state', 'id');
INSERT INTO ticket VALUES (1, 'open') ON CONFLICT (id) DO UPDATE SET state = 'waiting';
INSERT INTO ticket VALUES (1, 'open') ON CONFLICT (id) DO UPDATE SET state = 'waiting';
SELECT attempt($$INSERT INTO ticket VALUES (1, 'lost') ON CONFLICT (id) DO UPDATE SET state = EXCLUDED.state$$);
SELECT * FROM ticket;
-- a new row has version 0: null becomes it, anything else would be the start of another sequence
SELECT order_engine.detach_machine('ticket');
SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'state', 'id', 'version');
SELECT attempt($$INSERT INTO ticket VALUES (3, 'open', 100)$$);
SELECT attempt($$INSERT INTO ticket VALUES (3, 'open', -1)$$);
INSERT INTO ticket VALUES (5, 'open', 0), (6, 'open', NULL);
UPDATE ticket SET state = 'waiting' WHERE id IN (5, 6);
SELECT aggregateid, seq, type FROM events WHERE aggregateid IN ('5', '6');
-- a trigger that goes on with another row of the same UPDATE would have its event recorded too early
CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE TG_ARGV[0];
	RETURN NULL;
END $$;
INSERT INTO ticket VALUES (11, 'open'), (12, 'open');
CREATE TRIGGER go_on AFTER UPDATE ON ticket FOR EACH ROW WHEN (NEW.id = 11 AND NEW.state = 'waiting')
EXECUTE FUNCTION go_on('UPDATE ticket SET state = ''lost'' WHERE id = 12');
SELECT attempt($$UPDATE ticket SET state = 'waiting' WHERE id IN (11, 12)$$);
-- not when the state of that row is another matter
DROP TRIGGER go_on ON ticket;
CREATE TRIGGER go_on AFTER UPDATE ON ticket FOR EACH ROW WHEN (NEW.id = 11 AND NEW.state = 'waiting')
EXECUTE FUNCTION go_on('UPDATE ticket SET state = state WHERE id = 12');
UPDATE ticket SET state = 'waiting' WHERE id IN (11, 12);
SELECT aggregateid, seq, type FROM events WHERE aggregateid IN ('11', '12');
DROP TRIGGER go_on ON ticket;
DROP FUNCTION go_on;
DELETE FROM ticket WHERE id > 2;
SELECT order_engine.detach_machine('ticket');
SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'state', 'id');
-- the id is the aggregate id
INSERT INTO ticket VALUES (2, 'open');
ALTER TABLE ticket ALTER COLUMN id TYPE text USING CASE id WHEN 2 THEN repeat('x', 256) ELSE id::text END;
SELECT attempt($$UPDATE ticket SET state = 'waiting' WHERE id LIKE 'x%'$$);
SELECT order_engine.detach_machine('ticket');

-- arguments
CREATE TABLE unfit (state text, bpchar character(8), stamp timestamptz, amount double precision,
	gen text GENERATED ALWAYS AS (lower(state)) STORED, genv bigint GENERATED ALWAYS AS (length(state)) STORED);
SELECT attempt(format('SELECT order_engine.attach_machine(%s)', args)) AS attempt
FROM (VALUES
	(1, $$NULL, 'ticket', 'support', 'state', 'id'$$),
	(2, $$'ticket', NULL, 'support', 'state', 'id'$$),
	(3, $$'ticket', 'ticket', NULL, 'state', 'id'$$),
	(4, $$'ticket', 'ticket', 'support', NULL, 'id'$$),
	(5, $$'ticket', 'ticket', 'support', 'state', NULL$$),
	(6, $$'ticket', 'order', 'default', 'state', 'id'$$),
	(7, $$'ticket', 'fulfillment', 'default', 'state', 'id'$$),
	(8, $$'ticket', 'ticket', 'nothing', 'state', 'id'$$),
	(9, $$'ticket', 'ticket', 'support', 'nothing', 'id'$$),
	(10, $$'ticket', 'ticket', 'support', 'state', 'ctid'$$),
	(11, $$'ticket', 'ticket', 'support', 'state', 'id', 'state'$$),
	(12, $$'ticket', 'ticket', 'support', 'version', 'id'$$),
	(17, $$'unfit', 'ticket', 'support', 'state', 'bpchar'$$),
	(18, $$'unfit', 'ticket', 'support', 'state', 'stamp'$$),
	(19, $$'unfit', 'ticket', 'support', 'state', 'amount'$$),
	(20, $$'unfit', 'ticket', 'support', 'gen', 'state'$$),
	(21, $$'unfit', 'ticket', 'support', 'state', 'gen'$$),
	(22, $$'unfit', 'ticket', 'support', 'state', 'state', 'genv'$$),
	(13, $$'trail', 'ticket', 'support', 'entity', 'entity_id'$$),
	(14, $$'order_engine.orders', 'ticket', 'support', 'state', 'order_id'$$),
	(15, $$'order_engine.stock', 'ticket', 'support', 'sku', 'location'$$),
	(16, $$0, 'ticket', 'support', 'state', 'id'$$)) AS v (n, args)
ORDER BY n;
DROP TABLE unfit;
SELECT attempt($$SELECT order_engine.detach_machine(NULL)$$);
SELECT attempt($$SELECT order_engine.detach_machine('order_engine.orders')$$);

-- only for the owner of the table, and only by those who may
CREATE ROLE regress_owner;
CREATE ROLE regress_stranger;
GRANT CREATE ON SCHEMA public TO regress_owner;
GRANT USAGE ON SCHEMA order_engine TO regress_owner, regress_stranger;
GRANT EXECUTE ON FUNCTION order_engine.attach_machine, order_engine.detach_machine, order_engine.state_machine TO regress_owner;
ALTER TABLE ticket OWNER TO regress_stranger;
SET ROLE regress_owner;
SELECT attempt($$SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'state', 'id')$$);
SELECT attempt($$SELECT order_engine.detach_machine('ticket')$$);
SET ROLE regress_stranger;
SELECT attempt($$SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'state', 'id')$$);
SELECT attempt($$CREATE TRIGGER zz_order_engine_check BEFORE UPDATE ON ticket FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine('ticket', 'support', 'state', 'id')$$);
RESET ROLE;
ALTER TABLE ticket OWNER TO regress_owner;
DELETE FROM ticket WHERE id LIKE 'x%';
SET ROLE regress_owner;
SELECT order_engine.attach_machine('ticket', 'ticket', 'support', 'state', 'id');
-- the owner has no right on history and outbox, yet his events are recorded
INSERT INTO ticket VALUES ('9', 'open');
UPDATE ticket SET state = 'waiting' WHERE id = '9';
SELECT attempt('SELECT * FROM order_engine.history');
RESET ROLE;
SELECT * FROM trail WHERE entity_id = '9';

-- the extension does not go while a table depends on it, and takes the triggers along
DROP VIEW trail, events;
SELECT attempt('DROP EXTENSION order_engine');
SET client_min_messages = warning;
DROP EXTENSION order_engine CASCADE;
CREATE EXTENSION order_engine;
RESET client_min_messages;
UPDATE ticket SET state = 'anything' WHERE id = '9';
DROP TABLE ticket;
DROP FUNCTION attempt;
REVOKE ALL ON SCHEMA public FROM regress_owner;
DROP ROLE regress_owner, regress_stranger;
