\set ECHO none
-- Begins a regression test: a clean slate, and attempt().
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_engine;
CREATE EXTENSION order_engine;
RESET client_min_messages;
-- runs a command and tells its error, each part on a line of its own; times are masked
CREATE OR REPLACE FUNCTION attempt(command text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command;
	RETURN NEXT 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN NEXT SQLSTATE || ' ' || message;
	IF detail <> '' THEN
		RETURN NEXT 'DETAIL ' || regexp_replace(detail, '\d{4}-\d\d-\d\dT[\d:.+-]+', 'TIME');
	END IF;
	IF hint <> '' THEN
		RETURN NEXT 'HINT ' || hint;
	END IF;
END $$;
\set ECHO all
