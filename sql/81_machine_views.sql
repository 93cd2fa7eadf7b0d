/* The graphs of the machines as rows. */

CREATE VIEW order_engine.machine_state AS
SELECT m.machine_id, m.kind, m.name, m.version, s.key AS state,
	coalesce((s.value ->> 'terminal')::boolean, false) AS terminal,
	s.value ->> 'limit' AS time_limit,
	s.value ->> 'on_limit' AS on_limit
FROM order_engine.machine m, pg_catalog.jsonb_each(m.definition -> 'states') s
WHERE m.status = 'published';
COMMENT ON VIEW order_engine.machine_state IS 'The states of every published machine.';
COMMENT ON COLUMN order_engine.machine_state.machine_id IS 'The machine version.';
COMMENT ON COLUMN order_engine.machine_state.kind IS 'What it governs: order, payment, fulfillment, return, or a word of the application.';
COMMENT ON COLUMN order_engine.machine_state.name IS 'Name within the kind.';
COMMENT ON COLUMN order_engine.machine_state.version IS 'Version of the name.';
COMMENT ON COLUMN order_engine.machine_state.state IS 'The state.';
COMMENT ON COLUMN order_engine.machine_state.terminal IS 'True when no event leads out of it.';
COMMENT ON COLUMN order_engine.machine_state.time_limit IS 'How long a row may stay in it, as text of an interval; null for ever.';
COMMENT ON COLUMN order_engine.machine_state.on_limit IS 'The event that is fired when the limit passes; null when there is none.';

CREATE VIEW order_engine.machine_transition AS
SELECT m.machine_id, m.kind, m.name, m.version,
	t.value ->> 'event' AS event,
	f.value #>> '{}' AS from_state,
	t.value ->> 'to' AS to_state,
	t.value ->> 'milestone' AS milestone,
	coalesce((t.value ->> 'automatic')::boolean, false) AS automatic
FROM order_engine.machine m, pg_catalog.jsonb_array_elements(m.definition -> 'transitions') t,
	pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof(t.value -> 'from')
		WHEN 'array' THEN t.value -> 'from'
		ELSE pg_catalog.jsonb_build_array(t.value -> 'from') END) f
WHERE m.status = 'published';
COMMENT ON VIEW order_engine.machine_transition IS 'The transitions of every published machine, one row for each state that an event leads out of.';
COMMENT ON COLUMN order_engine.machine_transition.machine_id IS 'The machine version.';
COMMENT ON COLUMN order_engine.machine_transition.kind IS 'What it governs: order, payment, fulfillment, return, or a word of the application.';
COMMENT ON COLUMN order_engine.machine_transition.name IS 'Name within the kind.';
COMMENT ON COLUMN order_engine.machine_transition.version IS 'Version of the name.';
COMMENT ON COLUMN order_engine.machine_transition.event IS 'The event.';
COMMENT ON COLUMN order_engine.machine_transition.from_state IS 'State before the event.';
COMMENT ON COLUMN order_engine.machine_transition.to_state IS 'State after the event.';
COMMENT ON COLUMN order_engine.machine_transition.milestone IS 'Column of the order that the transition stamps; null when it stamps none.';
COMMENT ON COLUMN order_engine.machine_transition.automatic IS 'True when the engine fires it by itself as soon as its guards agree.';
