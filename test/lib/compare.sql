\set ECHO none
-- pg_temp.compare(view, check): how many rows the view has and the check has not, and the
-- other way round; whether there are any at all.
CREATE FUNCTION pg_temp.compare(view regclass, "check" regclass, OUT many boolean, OUT only_view bigint, OUT only_check bigint) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT (SELECT count(*) FROM %1$s) > 4, (SELECT count(*) FROM (TABLE %1$s EXCEPT ALL TABLE %2$s) q),
		(SELECT count(*) FROM (TABLE %2$s EXCEPT ALL TABLE %1$s) q)', view, "check") INTO many, only_view, only_check;
END $$;
\set ECHO all
