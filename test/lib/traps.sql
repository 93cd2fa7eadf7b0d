/*
 * What a stranger who may create objects in public puts there, for 142_stranger.pl:
 * functions, aggregates, operators, types and tables that look like those of the
 * server and of order_engine.  Who has public before pg_catalog in his search_path
 * and does not say which he means gets these, and each leaves the word TRAPPED in
 * the server's log.
 */

SET check_function_bodies = off;
SET client_min_messages = error;

-- all functions of the server that can be imitated
DO $$
DECLARE
	f record;
BEGIN
	FOR f IN
		SELECT p.oid, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid) AS arguments, p.proretset,
			pg_catalog.format_type(p.prorettype, NULL) AS result
		FROM pg_catalog.pg_proc p
		WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.prokind = 'f' AND p.provariadic = 0
			AND p.proallargtypes IS NULL AND p.proname NOT IN ('void_send')
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t
				WHERE t.oid = ANY (p.proargtypes::pg_catalog.oid[] || p.prorettype) AND t.typtype = 'p'
					AND t.typname !~ '^any(element|array|nonarray|enum|range|multirange|compatible.*)$' AND t.typname <> 'void')
	LOOP
		EXECUTE pg_catalog.format('CREATE FUNCTION public.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS %L', f.proname, f.arguments,
			CASE WHEN f.proretset THEN 'SETOF' END, f.result,
			pg_catalog.format('BEGIN RAISE WARNING ''TRAPPED function %s''; RETURN%s; END', f.oid::pg_catalog.regprocedure,
				CASE WHEN f.result <> 'void' AND NOT f.proretset THEN ' NULL' END));
	END LOOP;
END $$;
CREATE FUNCTION public.trapped(what pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING 'TRAPPED %', what;
	RETURN true;
END $$;
-- of those with arguments of any number and type
DO $$
DECLARE
	f record;
	n integer;
BEGIN
	FOR f IN SELECT * FROM (VALUES ('format', 'pg_catalog.text'), ('concat', 'pg_catalog.text'), ('jsonb_build_object', 'pg_catalog.jsonb'),
			('jsonb_build_array', 'pg_catalog.jsonb'), ('num_nulls', 'integer')) AS v (name, result) LOOP
		FOR n IN 2..6 LOOP
			EXECUTE pg_catalog.format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', f.name,
				pg_catalog.array_to_string(pg_catalog.array_fill('pg_catalog.text'::pg_catalog.text, ARRAY[n]), ', '), f.result,
				pg_catalog.format('BEGIN RAISE WARNING ''TRAPPED %s''; RETURN NULL; END', f.name));
		END LOOP;
	END LOOP;
END $$;
CREATE FUNCTION public.jsonb_each(given pg_catalog.jsonb) RETURNS TABLE (key pg_catalog.text, value pg_catalog.jsonb) LANGUAGE plpgsql AS
	$$BEGIN PERFORM public.trapped('jsonb_each'); END$$;
CREATE FUNCTION public.trapped_state(state bigint, value pg_catalog.anyelement) RETURNS bigint LANGUAGE plpgsql AS
	$$BEGIN PERFORM public.trapped('aggregate'); RETURN 0; END$$;
CREATE FUNCTION public.trapped_state(state bigint) RETURNS bigint LANGUAGE plpgsql AS
	$$BEGIN PERFORM public.trapped('aggregate'); RETURN 0; END$$;
CREATE AGGREGATE public.count(*) (SFUNC = public.trapped_state, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE public.count(pg_catalog.anyelement) (SFUNC = public.trapped_state, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE public.sum(pg_catalog.anyelement) (SFUNC = public.trapped_state, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE public.max(pg_catalog.anyelement) (SFUNC = public.trapped_state, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE public.min(pg_catalog.anyelement) (SFUNC = public.trapped_state, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE public.array_agg(pg_catalog.anynonarray) (SFUNC = public.trapped_state, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE public.jsonb_agg(pg_catalog.anyelement) (SFUNC = public.trapped_state, STYPE = bigint, INITCOND = '0');

-- all operators
DO $$
DECLARE
	o record;
	name text;
BEGIN
	FOR o IN
		SELECT p.oid, p.oprname, p.oprkind, pg_catalog.format_type(p.oprleft, NULL) AS l, pg_catalog.format_type(p.oprright, NULL) AS r,
			pg_catalog.format_type(p.oprresult, NULL) AS result
		FROM pg_catalog.pg_operator p
		WHERE p.oprnamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.oprresult <> 0
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid IN (p.oprleft, p.oprright, p.oprresult) AND t.typtype = 'p'
				AND t.typname !~ '^any(element|array|nonarray|enum|range|multirange|compatible.*)$')
	LOOP
		name := 'trapped_operator_' || o.oid;
		EXECUTE pg_catalog.format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', name,
			CASE o.oprkind WHEN 'b' THEN o.l || ', ' || o.r ELSE o.r END, o.result,
			pg_catalog.format('BEGIN RAISE WARNING ''TRAPPED operator %s''; RETURN NULL; END', o.oprname));
		EXECUTE pg_catalog.format('CREATE OPERATOR public.%s (FUNCTION = public.%I, %s RIGHTARG = %s)', o.oprname, name,
			CASE o.oprkind WHEN 'b' THEN 'LEFTARG = ' || o.l || ',' END, o.r);
	END LOOP;
END $$;

-- a cast of his own
CREATE TYPE public.mine AS ENUM ('a');
CREATE FUNCTION public.of_mine(public.mine) RETURNS pg_catalog.jsonb LANGUAGE plpgsql AS $$BEGIN PERFORM public.trapped('cast'); END$$;
CREATE FUNCTION public.to_mine(pg_catalog.text) RETURNS public.mine LANGUAGE plpgsql AS $$BEGIN PERFORM public.trapped('cast'); END$$;
CREATE CAST (public.mine AS pg_catalog.jsonb) WITH FUNCTION public.of_mine(public.mine) AS IMPLICIT;
CREATE CAST (pg_catalog.text AS public.mine) WITH FUNCTION public.to_mine(pg_catalog.text) AS IMPLICIT;

-- types and tables
DO $$
DECLARE
	t record;
BEGIN
	FOR t IN SELECT typname FROM pg_catalog.pg_type
		WHERE typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND typtype = 'b' AND typname !~ '^_' LOOP
		EXECUTE pg_catalog.format('CREATE DOMAIN public.%I AS pg_catalog.%1$I CHECK (public.trapped(%L))', t.typname, 'type ' || t.typname);
	END LOOP;
	FOR t IN SELECT relname FROM pg_catalog.pg_class
		WHERE relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND relkind IN ('r', 'v') AND relname !~ '^pg_stat' LOOP
		EXECUTE pg_catalog.format('CREATE VIEW public.%I AS SELECT public.trapped(%L) AS oid', t.relname, 'table ' || t.relname);
	END LOOP;
END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
