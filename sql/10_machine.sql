/* State machines are data: a row holds one version of one machine. */

CREATE SEQUENCE order_engine.machine_id_seq AS integer START 1000 MINVALUE 1000;
COMMENT ON SEQUENCE order_engine.machine_id_seq IS
'Ids of the machines that users define; ids below 1000 belong to the extension.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.machine_id_seq', '');

CREATE TABLE order_engine.machine (
	machine_id		integer		NOT NULL DEFAULT pg_catalog.nextval('order_engine.machine_id_seq') PRIMARY KEY,
	kind			text		NOT NULL CHECK (kind <> ''),
	name			text		NOT NULL CHECK (name <> ''),
	version			integer		NOT NULL CHECK (version > 0),
	status			text		NOT NULL CHECK (status IN ('draft', 'published')),
	definition		jsonb		NOT NULL,
	created_at		timestamptz	NOT NULL DEFAULT pg_catalog.now(),
	published_at	timestamptz,
	UNIQUE (kind, name, version),
	CHECK ((status = 'published') = (published_at IS NOT NULL))
);
COMMENT ON TABLE order_engine.machine IS
'State machines: every row one version of one machine. A published version never changes; rows that run on it name it by machine_id.';
COMMENT ON COLUMN order_engine.machine.machine_id IS 'The id that a row of an order pins; below 1000 for the machines of the extension.';
COMMENT ON COLUMN order_engine.machine.kind IS 'What the machine governs: order, payment, fulfillment, return or reservation, any other word for tables of the application.';
COMMENT ON COLUMN order_engine.machine.name IS 'Name within the kind, such as default or simple.';
COMMENT ON COLUMN order_engine.machine.version IS 'Version of the name, from 1; the highest published one is used for new rows.';
COMMENT ON COLUMN order_engine.machine.status IS 'draft: may still be replaced; published: frozen and usable.';
COMMENT ON COLUMN order_engine.machine.definition IS 'The graph: {"initial": state, "states": {...}, "transitions": [...]}.';
COMMENT ON COLUMN order_engine.machine.created_at IS 'When the version was defined.';
COMMENT ON COLUMN order_engine.machine.published_at IS 'When the version was published; null for a draft.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.machine', 'WHERE machine_id >= 1000');

-- The path that every governed row took.  One index serves both the events of
-- an order and, with order_id null, those of a row of an application's table.
CREATE TABLE order_engine.history (
	order_id		bigint,
	entity			text		NOT NULL,
	entity_id		text		NOT NULL,
	seq				bigint,
	event			text		NOT NULL,
	from_state		text		NOT NULL,
	to_state		text		NOT NULL,
	machine_id		integer		NOT NULL,
	forced			boolean		NOT NULL DEFAULT false,
	reason			text,
	tenant			text,
	actor			text		NOT NULL,
	correlation_id	text,
	traceparent		text,
	metadata		jsonb,
	created_at		timestamptz	NOT NULL
);
CREATE INDEX history_entity_idx ON order_engine.history (order_id, entity, entity_id);
COMMENT ON TABLE order_engine.history IS
'Every transition of every governed row, written in the transaction that made it. Append-only.';
COMMENT ON COLUMN order_engine.history.order_id IS 'The order that the row belongs to; null for tables of the application.';
COMMENT ON COLUMN order_engine.history.entity IS 'What changed: order, or the kind of the machine that governs the table.';
COMMENT ON COLUMN order_engine.history.entity_id IS 'The id of the row that changed, as text.';
COMMENT ON COLUMN order_engine.history.seq IS 'The version of the aggregate after the event; aggregate_seq of its outbox row.';
COMMENT ON COLUMN order_engine.history.event IS 'The event that was applied.';
COMMENT ON COLUMN order_engine.history.from_state IS 'State before the event; for the first event the initial state of the machine.';
COMMENT ON COLUMN order_engine.history.to_state IS 'State after the event.';
COMMENT ON COLUMN order_engine.history.machine_id IS 'The machine version that allowed it.';
COMMENT ON COLUMN order_engine.history.forced IS 'True where an operator overrode the guards.';
COMMENT ON COLUMN order_engine.history.reason IS 'What the caller gave as the reason.';
COMMENT ON COLUMN order_engine.history.tenant IS 'order_engine.tenant at the time, null when not set.';
COMMENT ON COLUMN order_engine.history.actor IS 'order_engine.actor at the time, the session user when not set.';
COMMENT ON COLUMN order_engine.history.correlation_id IS 'order_engine.correlation_id at the time, null when not set.';
COMMENT ON COLUMN order_engine.history.traceparent IS 'order_engine.traceparent at the time, null when not set.';
COMMENT ON COLUMN order_engine.history.metadata IS 'What the caller gave with the event.';
COMMENT ON COLUMN order_engine.history.created_at IS 'Time of the event (statement clock, not transaction start).';
SELECT pg_catalog.pg_extension_config_dump('order_engine.history', '');
