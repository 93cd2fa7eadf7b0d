/* What operators do with machines: move orders to another version, draw them. */

CREATE FUNCTION order_engine.migrate_orders(
	from_machine integer,
	to_machine integer,
	state_map jsonb DEFAULT '{}',
	reason text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_migrate_orders';
COMMENT ON FUNCTION order_engine.migrate_orders(integer, integer, jsonb, text) IS
'Moves the orders in flight of one published machine to another and returns how many. '
'A state becomes what state_map says ({"old state": "new state", ...}), else the state of the same name; each state that has orders must have a counterpart that is neither initial nor terminal. Orders in terminal states stay. '
'No guards are asked and no effects happen. state_since changes only with the name of the state. Where the new state has a time limit, the order keeps the one that it has, else it gets that of the state; where it has none, expires_at becomes null. What a reservation has as its limit stays. '
'History and outbox get the event migrate (order.migrated, with machine_id and from_machine_id). All orders move in one transaction, locked one by one; one that is placed meanwhile stays, and a second call takes it along. That is why no idempotency key is needed. '
'Errors: 22004 and 22023 for arguments, a kind other than order and, with all faults in DETAIL, states without counterpart and a state_map that does not fit; OE005 for a machine that is not published.';

CREATE FUNCTION order_engine.machine_diagram(machine_id integer, format text DEFAULT 'mermaid')
RETURNS text
LANGUAGE C STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_machine_diagram';
COMMENT ON FUNCTION order_engine.machine_diagram(integer, text) IS
'The diagram of a machine, also of a draft, as text for mermaid or graphviz: guards stand in brackets behind the event, (automatic) and (after 2 hours) tell what the engine fires by itself. Errors: 22004 and 22023 for arguments, OE004 for a draft that cannot be read, OE005 when there is no such machine.';
