/*
 * Attaches every trigger function of the extension to tables of all kinds, in all
 * ways that the server allows and with odd arguments, and changes the tables, for
 * 141_odd_calls.pl: odd.attach_all() leaves in odd.trigger_outcome how that ended.
 */

CREATE TABLE odd.trigger_outcome (attached text NOT NULL, command text NOT NULL, sqlstate text NOT NULL, message text);

-- The tables; :server is a foreign server.
CREATE TABLE odd.plain (id bigint, state text, version bigint);
INSERT INTO odd.plain VALUES (1, 'open', 0);
CREATE TABLE odd.other_types (state integer, id timestamptz, version text);
INSERT INTO odd.other_types VALUES (1, now(), 'x');
CREATE TYPE odd.state AS ENUM ('open', 'closed');
CREATE DOMAIN odd.id AS uuid;
CREATE TABLE odd.own_types (id odd.id, state odd.state, version integer);
INSERT INTO odd.own_types VALUES (gen_random_uuid(), 'open', 0);
CREATE TABLE odd.dropped (a integer, id bigint, b text, state text, version bigint, c integer);
INSERT INTO odd.dropped VALUES (1, 1, 'x', 'open', 0, 1);
ALTER TABLE odd.dropped DROP COLUMN a, DROP COLUMN b, DROP COLUMN c, ADD COLUMN d integer DEFAULT 5;
CREATE TABLE odd.parts (id bigint, state text, version bigint) PARTITION BY LIST (state);
CREATE TABLE odd.part_open PARTITION OF odd.parts FOR VALUES IN ('open');
CREATE TABLE odd.part_else (a integer, version bigint, state text, id bigint);
ALTER TABLE odd.part_else DROP COLUMN a;
ALTER TABLE odd.parts ATTACH PARTITION odd.part_else DEFAULT;
INSERT INTO odd.parts VALUES (1, 'open', 0), (2, 'closed', 1);
CREATE TABLE odd.parent (id bigint, state text, version bigint);
CREATE TABLE odd.child (more text) INHERITS (odd.parent);
INSERT INTO odd.parent VALUES (2, 'open', 0);
INSERT INTO odd.child VALUES (1, 'open', 0, 'x');
CREATE TABLE odd.generated (id bigint, state text GENERATED ALWAYS AS ('open') STORED, version bigint);
INSERT INTO odd.generated (id) VALUES (1);
CREATE TABLE odd.orders (LIKE order_engine.orders INCLUDING ALL);
ALTER TABLE odd.orders ADD COLUMN id bigint;
INSERT INTO odd.orders SELECT o.*, o.order_id FROM order_engine.orders o;
CREATE VIEW odd.view AS SELECT 1::bigint AS id, 'open'::text AS state, 0::bigint AS version;
CREATE FOREIGN TABLE odd.foreign (id bigint, state text, version bigint) SERVER :server OPTIONS (schema_name 'odd', table_name 'plain');

CREATE VIEW odd.trigger_function AS
SELECT p.oid::regprocedure::text AS signature, p.oid::regproc::text AS name
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
	JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE e.extname = 'order_engine' AND p.prorettype = 'trigger'::regtype;

-- A command of CREATE TRIGGER for each way; those that the server refuses are harmless.
CREATE VIEW odd.attachment AS
SELECT t.name AS relation, format('CREATE %s TRIGGER %I %s %s ON odd.%I %s FOR EACH %s EXECUTE FUNCTION %s(%s)',
	CASE w.way WHEN 'CONSTRAINT' THEN w.way END, n.name, CASE w.way WHEN 'CONSTRAINT' THEN 'AFTER' ELSE w.way END, v.event, t.name,
	CASE w.way WHEN 'CONSTRAINT' THEN 'DEFERRABLE INITIALLY DEFERRED' END, l.level, f.name, a.arguments) AS command
FROM odd.trigger_function f,
	unnest('{plain,other_types,own_types,dropped,parts,parent,child,generated,orders,view,foreign}'::text[]) AS t (name),
	unnest('{BEFORE,AFTER,INSTEAD OF,CONSTRAINT}'::text[]) AS w (way),
	unnest('{INSERT OR UPDATE OR DELETE,UPDATE OF state,TRUNCATE}'::text[]) AS v (event),
	unnest('{ROW,STATEMENT}'::text[]) AS l (level),
	unnest('{zz_order_engine_check,00_order_engine_record,any}'::text[]) AS n (name),
	unnest(ARRAY['', '''ticket'', ''support'', ''state'', ''id''', '''ticket'', ''support'', ''state'', ''id'', ''version''',
		'''order'', ''default'', ''state'', ''order_id'', ''version''', ''''', '''', '''', ''''', '''ticket'', ''support'', ''id'', ''state'', ''state''',
		'''ticket'', ''support''', '1, 2, 3, 4, 5, 6, 7']) AS a (arguments)
WHERE (f.name ~ 'state_machine' OR a.arguments = '' AND n.name = 'any')
	AND (w.way = 'BEFORE' OR w.way = 'AFTER' OR w.way = 'INSTEAD OF' AND t.name = 'view' OR w.way = 'CONSTRAINT' AND l.level = 'ROW')
	AND (v.event <> 'TRUNCATE' OR l.level = 'STATEMENT');

CREATE FUNCTION odd.attach_all(fraction float8) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	place odd.attachment;
	change text;
	codes text[];
	messages text[];
	rows constant text[] := ARRAY['INSERT INTO %s (id) VALUES (DEFAULT)', 'INSERT INTO %s SELECT * FROM %1$s',
		'INSERT INTO %s (id) SELECT id FROM %1$s ON CONFLICT DO NOTHING',
		'UPDATE %s SET state = state', 'UPDATE %s SET state = ''closed''', 'UPDATE %s SET state = NULL, version = version', 'UPDATE %s SET id = NULL, version = NULL',
		'DELETE FROM %s',
		'MERGE INTO %s AS t USING (SELECT id FROM %1$s) AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET state = ''closed'''];
	changes text[];
	attached boolean;
	done bigint := 0;
BEGIN
	FOR place IN SELECT * FROM odd.attachment ORDER BY relation, command LOOP
		CONTINUE WHEN random() >= fraction;
		changes := CASE WHEN place.command ~ ' TRUNCATE ' THEN '{TRUNCATE %s}' ELSE rows END;
		codes := '{}';
		messages := '{}';
		attached := false;
		BEGIN
			EXECUTE place.command;
			attached := true;
			FOREACH change IN ARRAY changes LOOP
				BEGIN
					EXECUTE format(change, format('odd.%I', place.relation));
					SET CONSTRAINTS ALL IMMEDIATE;
					RAISE EXCEPTION USING ERRCODE = 'ODD00';
				EXCEPTION WHEN OTHERS THEN
					codes := codes || SQLSTATE;
					messages := messages || SQLERRM;
				END;
			END LOOP;
			RAISE EXCEPTION USING ERRCODE = 'ODD00';
		EXCEPTION WHEN OTHERS THEN
			IF NOT attached THEN
				codes := codes || SQLSTATE;
				messages := messages || SQLERRM;
			END IF;
		END;
		INSERT INTO odd.trigger_outcome
		SELECT place.command, coalesce(changes[o.n], ''), o.code, o.message
		FROM unnest(codes, messages) WITH ORDINALITY AS o (code, message, n);
		done := done + 1;
	END LOOP;
	RETURN done;
END $$;
