/* State machines: define them, attach them to tables, apply their events. */

CREATE FUNCTION order_engine.define_machine(kind text, name text, definition jsonb)
RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_define_machine';
COMMENT ON FUNCTION order_engine.define_machine(text, text, jsonb) IS
'Writes a draft of a state machine and returns its machine_id: replaces the draft of that name, or makes one with the next version. The graph is checked by publish_machine. Errors: 22004 for a null, 22023 for a name that is not valid, a kind that belongs to order_engine, or a definition that is not an object.';

CREATE FUNCTION order_engine.publish_machine(machine_id integer)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_publish_machine';
COMMENT ON FUNCTION order_engine.publish_machine(integer) IS
'Checks a draft and freezes it; from the commit on it is the current version of its name. Does nothing for a machine that is published already. Errors: OE004 with every fault in DETAIL, OE005 when there is no such machine.';

