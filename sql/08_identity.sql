/* Which database this is, so that a copy of it sends nothing by itself. */

CREATE TABLE order_engine.identity (
	system_identifier	text		NOT NULL,
	database_oid		oid			NOT NULL,
	recorded_at			timestamptz	NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE order_engine.identity IS
'The database that owns what is to be delivered. A worker runs only when there is one row and it names the server and database that it runs in; a restored dump has two, a template copy another database.';
COMMENT ON COLUMN order_engine.identity.system_identifier IS 'system_identifier of pg_control_system().';
COMMENT ON COLUMN order_engine.identity.database_oid IS 'oid of the database in pg_database.';
COMMENT ON COLUMN order_engine.identity.recorded_at IS 'When it was recorded.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.identity', '');

INSERT INTO order_engine.identity (system_identifier, database_oid)
SELECT s.system_identifier::text, d.oid
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database();
