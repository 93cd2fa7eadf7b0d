/* Orders are not deleted by accident: DROP and TRUNCATE need order_engine.allow_drop. */

CREATE FUNCTION order_engine.drop_guard() RETURNS event_trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'oe_drop_guard';
COMMENT ON FUNCTION order_engine.drop_guard() IS
'Event trigger: has the library loaded before a command that may drop the extension, so that it refuses while there are orders (55006) unless order_engine.allow_drop is on. Refuses ALTER TABLE that changes the type of a column of the extension (0A000).';

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
