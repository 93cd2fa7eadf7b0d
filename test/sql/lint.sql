--
-- Rules that every object of the extension keeps. Each query lists offenders.
--
CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'order_engine' AND d.deptype = 'e'
	AND d.classid <> 'pg_type'::regclass;		-- 17 and later name the types of tables, too

-- there is something to look at
SELECT count(*) > 60 AS objects FROM member;

-- a function with its owner's rights pins its search_path
SELECT p.oid::regprocedure
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false);

-- PUBLIC may do nothing
SELECT p.oid::regprocedure, a.privilege_type
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid,
	aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE a.grantee = 0;
SELECT c.oid::regclass, a.privilege_type
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid,
	aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
WHERE a.grantee = 0;
SELECT n.nspname, a.privilege_type
FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
WHERE n.nspname = 'order_engine' AND a.grantee = 0;

-- every table and sequence is marked for dump (a partitioned table has no rows of its own)
SELECT c.oid::regclass
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
	JOIN pg_extension e ON e.extname = 'order_engine'
WHERE c.relkind IN ('r', 'S') AND c.oid <> ALL (e.extconfig);

-- every function, table, view, sequence and column has a comment
SELECT p.oid::regprocedure
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'S') AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT c.oid::regclass, a.attname
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND col_description(c.oid, a.attnum) IS NULL;

-- what the page of access rules names is there
SELECT r.kind, r.object
FROM order_engine.access_rule r
WHERE NOT CASE r.kind
	WHEN 'table' THEN to_regclass('order_engine.' || quote_ident(r.object)) IS NOT NULL
	ELSE EXISTS (SELECT FROM pg_proc WHERE proname = r.object AND pronamespace = 'order_engine'::regnamespace) END;

-- no trigger of ours fires on INSERT, which a restore would do, but the one that announces endpoints
SELECT t.tgrelid::regclass, t.tgname
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'order_engine'::regnamespace AND NOT t.tgisinternal
	AND (t.tgtype & 4) <> 0 AND t.tgname <> 'endpoint_changed';

-- a trigger function that is called as a plain one says so
DO $$
DECLARE
	function regproc;
BEGIN
	FOR function IN SELECT p.oid FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
			WHERE p.prorettype = 'trigger'::regtype LOOP
		BEGIN
			EXECUTE format('SELECT %s()', function);
			RAISE WARNING '% can be called', function;
		EXCEPTION WHEN trigger_protocol_violated THEN
			NULL;
		END;
	END LOOP;
END $$;

-- nothing is leakproof; what is volatile stays in one process, and what writes is volatile
SELECT p.oid::regprocedure
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.proleakproof OR p.proparallel <> 'u' AND p.provolatile = 'v' OR p.proparallel = 'r';
SELECT p.oid::regprocedure
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.provolatile <> 'v' AND p.prosrc ~* '\m(INSERT INTO|UPDATE order_engine|DELETE FROM|TRUNCATE|nextval|LOCK TABLE|FOR (NO KEY )?UPDATE|FOR (KEY )?SHARE)\M';

-- a body whose names depend on the search_path of its caller has a function that pins it
SELECT p.oid::regprocedure
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('c', 'internal') AND p.prosqlbody IS NULL
	AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false);

-- members are of these kinds, all in our schema but for event triggers, and of the owner of the extension
SELECT classid::regclass, count(*) > 0 AS some FROM member GROUP BY 1 ORDER BY classid::regclass::text COLLATE "C";
SELECT pg_describe_object(m.classid, m.objid, 0)
FROM member m CROSS JOIN pg_extension e
	LEFT JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
	LEFT JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	LEFT JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND n.oid = m.objid
	LEFT JOIN pg_event_trigger t ON m.classid = 'pg_event_trigger'::regclass AND t.oid = m.objid
WHERE e.extname = 'order_engine' AND (coalesce(c.relowner, p.proowner, n.nspowner, t.evtowner) IS DISTINCT FROM e.extowner
	OR coalesce(c.relnamespace, p.pronamespace, n.oid) IS DISTINCT FROM 'order_engine'::regnamespace AND t.oid IS NULL);
-- and there is nothing in our schema that is not a member
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind <> 'i' AND c.relkind <> 'I'
	AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid);
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'order_engine'::regnamespace
	AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid);

-- whole tables are dumped, but for these
SELECT c.oid::regclass, e.condition
FROM pg_extension x CROSS JOIN LATERAL unnest(x.extconfig, x.extcondition) AS e (relation, condition) JOIN pg_class c ON c.oid = e.relation
WHERE x.extname = 'order_engine' AND e.condition <> '' ORDER BY c.relname;

-- settings: who may change which, and when
SELECT s.name, s.context FROM pg_settings s WHERE s.name LIKE 'order\_engine.%' ORDER BY s.name COLLATE "C";

-- our prefix of settings is reserved
SET order_engine.no_such_setting = 1;
