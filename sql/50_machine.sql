/* State machines: define them, attach them to tables, apply their events. */

CREATE FUNCTION order_engine.define_machine(kind text, name text, definition jsonb)
RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_define_machine';
COMMENT ON FUNCTION order_engine.define_machine(text, text, jsonb) IS
'Writes a draft of a state machine and returns its machine_id: replaces the draft of that name, or makes one with the next version. The graph is checked by publish_machine. A repetition of the call before that returns the same draft, so it needs no key. '
'definition: {"initial": state, "states": {state: {"terminal": boolean, "limit": interval as text, "on_limit": event}, ...}, "transitions": [{"event", "from", "to", "type", "guards", "effects", "milestone", "automatic"}, ...]}; from is a state or an array of them, type that of the event in the outbox (kind.event unless given). '
'A guard without a dot is one of those that the extension has for the kind. One with a dot ("shop.check_vip") is a function of the user, which gets the id of the row (bigint for orders and their parts, text for tables of the application) and returns text: NULL agrees, anything else is the reason why not. It sees the row as it is to be, runs as its own owner with search_path pg_catalog, pg_temp, and may only read. '
'limit and on_limit say how long a row may stay in a state and which event is fired then; these are for orders and their parts. automatic, for orders only, has a transition fired as soon as its guards agree, after any event of the order or its parts. Errors: 22004 for a null, 22023 for a name that is not valid, a kind that belongs to order_engine, or a definition that is not an object.';

CREATE FUNCTION order_engine.publish_machine(machine_id integer)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_publish_machine';
COMMENT ON FUNCTION order_engine.publish_machine(integer) IS
'Checks a draft and freezes it; from the commit on it is the current version of its name. A machine of kind "order" must have the event "place" in its initial state, to a state that is not terminal and without guards and effects, for place_order makes this step itself. Functions that it names as guards must exist, and who publishes must be allowed to execute them and have the rights of their owner, as whom they run, unless they are SECURITY DEFINER. Orders in flight stay on their version (migrate_orders moves them). Does nothing for a machine that is published already. Errors: OE004 with every fault in DETAIL, OE005 when there is no such machine.';

CREATE FUNCTION order_engine.state_machine()
RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'oe_state_machine';
COMMENT ON FUNCTION order_engine.state_machine() IS
'Trigger that holds every UPDATE to a state machine and records each transition in history and outbox. Made by attach_machine; arguments: kind, machine, state column, id column and, where there is one, version column.';

-- The check is the last BEFORE trigger and the record the first AFTER trigger;
-- the function insists on these names.  The record has no WHEN clause, for the server
-- would read its text anew in each UPDATE; the function returns at once where no state changed.
CREATE TRIGGER zz_order_engine_check BEFORE UPDATE ON order_engine.orders
FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine();
CREATE TRIGGER "00_order_engine_record" AFTER UPDATE ON order_engine.orders
FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine();

CREATE TRIGGER zz_order_engine_check BEFORE UPDATE ON order_engine.payment
FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine();
CREATE TRIGGER "00_order_engine_record" AFTER UPDATE ON order_engine.payment
FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine();

CREATE TRIGGER zz_order_engine_check BEFORE UPDATE ON order_engine.fulfillment
FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine();
CREATE TRIGGER "00_order_engine_record" AFTER UPDATE ON order_engine.fulfillment
FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine();

CREATE TRIGGER zz_order_engine_check BEFORE UPDATE ON order_engine.order_return
FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine();
CREATE TRIGGER "00_order_engine_record" AFTER UPDATE ON order_engine.order_return
FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine();

CREATE FUNCTION order_engine.attach_machine(
	relation regclass,
	kind text,
	machine text,
	state_column name,
	id_column name,
	version_column name DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_attach_machine';
COMMENT ON FUNCTION order_engine.attach_machine(regclass, text, text, name, name, name) IS
'Puts a table of the application under the current version of a state machine: new rows start in its initial state, an UPDATE of the state must be one of its transitions, and each is recorded in history and, with the kind as aggregate type and the id as aggregate id, in the outbox. The state column is text, varchar or an enum, the id smallint, integer, bigint, numeric, text, varchar or uuid. The version column (integer or bigint, NOT NULL DEFAULT 0) counts the events and makes them a gapless sequence; a new row has version 0. Deleting a row and inserting its id again starts a new sequence. A foreign table is governed where it is changed through this server; what is changed on its own server is not seen. A transition cannot move a row to another partition. id and version cannot be changed by hand. Runs as the caller, who must own the table. Errors: 42501 for another''s table, 42703 for a missing column, 42710 when a machine is attached already, 22023 for a reserved kind, a wrong type, a generated column or rows in a state that the machine does not have, OE005 for a machine that is not published.';

CREATE FUNCTION order_engine.detach_machine(relation regclass)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_detach_machine';
COMMENT ON FUNCTION order_engine.detach_machine(regclass) IS
'Takes the state machine off a table; history stays. Runs as the caller, who must own the table. Errors: 42501 for another''s table, 42704 when none is attached.';

CREATE FUNCTION order_engine.transition(
	entity text,
	id bigint,
	event text,
	reason text DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_transition';
COMMENT ON FUNCTION order_engine.transition(text, bigint, text, text, bigint, jsonb, text) IS
'Applies an event to an order or a part of it (entity order, payment, fulfillment or return) and returns the state that follows. When the row is already in the state that the event leads to, returns it and changes nothing. expected_version is that of the order, also for its parts. reason and metadata go into history, reason also into the event. Errors: OE001 with the events that are possible, OE002 or its own code for a guard (OE401 with the open holds), 42883 for a guard function that is gone, whatever a guard function raises, OE003 when the order does not have the expected version, OE005 when there is no such order, OE101 and OE102 for the idempotency key, 22023 for an unknown entity.';

CREATE FUNCTION order_engine.force_transition(
	entity text,
	id bigint,
	event text,
	reason text,
	metadata jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	expected_version bigint DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_force_transition';
COMMENT ON FUNCTION order_engine.force_transition(text, bigint, text, text, jsonb, text, bigint) IS
'Applies an event as transition() does, also with expected_version, but asks no guards, neither built-in ones nor functions; for operators. history says forced, and so does the event. The reason is required. What it does not override: the machine itself (an event that the state does not have is OE001), CHECK constraints, and stock that is not there (OE202). Transitions that follow by themselves are asked as ever. Errors: those of transition() without those of its guards, 22004 and 22023 for the reason.';

CREATE FUNCTION order_engine.allowed_events(entity text, id bigint)
RETURNS TABLE (event text, to_state text, allowed boolean, reason text)
LANGUAGE C STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_allowed_events';
COMMENT ON FUNCTION order_engine.allowed_events(text, bigint) IS
'Each event that the machine has for the order''s state, whether its guards would agree now, and if not, the reason. Guards that are functions are asked, too, and see the row as it is. Takes no locks. Errors: OE005 when there is no such order, 22023 for an unknown entity, 42883 for a guard function that is gone, whatever a guard function raises.';
