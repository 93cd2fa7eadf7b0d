/* Orders are not deleted by accident: DROP and TRUNCATE need order_engine.allow_drop. */

CREATE FUNCTION order_engine.load_library() RETURNS void
LANGUAGE C AS 'MODULE_PATHNAME', 'oe_load_library';
COMMENT ON FUNCTION order_engine.load_library() IS
'Has the library, which guards the orders, loaded into this session. Fails when the file is missing or does not fit.';

/*
 * Where the library is gone, nobody's ALTER TABLE may fail because of that; but it
 * is no permission to delete orders either.
 */
CREATE FUNCTION order_engine.drop_guard() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM order_engine.load_library();
EXCEPTION WHEN OTHERS THEN
	IF tg_tag = 'DROP EXTENSION' AND current_query() ~ 'order_engine'
		AND current_setting('order_engine.allow_drop', true) IS DISTINCT FROM 'on' THEN
		IF EXISTS (SELECT FROM order_engine.orders) THEN
			RAISE EXCEPTION 'DROP EXTENSION order_engine would delete all orders' USING
				ERRCODE = 'object_in_use',
				DETAIL = 'The table order_engine.orders has rows.',
				HINT = 'Save them with pg_dump; then set order_engine.allow_drop to on in the session and repeat the command.';
		END IF;
	END IF;
	RAISE WARNING 'order_engine does not guard its tables: %', SQLERRM USING
		ERRCODE = SQLSTATE,
		HINT = 'Install the library again, or drop the extension.';
END $$;
COMMENT ON FUNCTION order_engine.drop_guard() IS
'Event trigger: has the library loaded before a command that may drop the extension or change its tables, so that it refuses while there are orders (55006) unless order_engine.allow_drop is on. A library that cannot be loaded is a warning.';

CREATE EVENT TRIGGER order_engine_drop_guard ON ddl_command_start
	WHEN TAG IN ('DROP EXTENSION', 'DROP OWNED', 'DROP SCHEMA', 'ALTER EXTENSION', 'ALTER TABLE')
	EXECUTE FUNCTION order_engine.drop_guard();
ALTER EVENT TRIGGER order_engine_drop_guard ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER order_engine_drop_guard IS 'Keeps commands from deleting orders, and from changing the types of columns that the library knows.';

CREATE FUNCTION order_engine.truncate_guard() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'oe_truncate_guard';
COMMENT ON FUNCTION order_engine.truncate_guard() IS
'Trigger: TRUNCATE of a table whose rows others refer to is refused (55006) unless it is empty or order_engine.allow_drop is on.';

CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.machine EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.history EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.orders EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.order_line EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.payment EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.payment_transaction EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.fulfillment EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.fulfillment_line EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.order_return EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.return_line EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.order_hold EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.stock EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.reservation EXECUTE FUNCTION order_engine.truncate_guard();
CREATE TRIGGER order_engine_truncate BEFORE TRUNCATE ON order_engine.stock_movement EXECUTE FUNCTION order_engine.truncate_guard();
