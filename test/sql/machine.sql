-- State machines: definition, checks, publication.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- defines a machine, tries to publish it and returns the faults; leaves nothing behind
CREATE FUNCTION faults(definition jsonb, kind text DEFAULT 'ticket') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM order_engine.publish_machine(order_engine.define_machine(kind, 'trial', definition));
	RAISE EXCEPTION 'accepted' USING ERRCODE = 'P0002';
EXCEPTION
	WHEN no_data_found THEN
		RETURN NEXT 'none';
	WHEN SQLSTATE 'OE004' THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN QUERY SELECT jsonb_array_elements_text(detail::jsonb -> 'faults');
END $$;

-- the machines of the extension
SELECT machine_id, kind, name, version, status FROM order_engine.machine ORDER BY machine_id;
SELECT kind, name, t ->> 'event' AS event, t -> 'from' AS "from", t ->> 'to' AS "to", t ->> 'type' AS type,
	t -> 'guards' AS guards, t -> 'effects' AS effects, t ->> 'milestone' AS milestone
FROM order_engine.machine, jsonb_array_elements(definition -> 'transitions') WITH ORDINALITY AS x (t, n)
ORDER BY machine_id, n;
-- obey the rules that they are checked by
SELECT kind, name, faults(definition, kind) FROM order_engine.machine WHERE kind <> 'reservation' ORDER BY machine_id;

-- a sound machine, also one with a circle
SELECT faults('{"initial": "open", "states": {"open": {}, "waiting": {"terminal": false}, "closed": {"terminal": true}},
	"transitions": [{"event": "ask", "from": "open", "to": "waiting"},
		{"event": "answer", "from": "waiting", "to": "open"},
		{"event": "close", "from": ["open", "waiting"], "to": "closed"}]}');

-- shape of the definition
SELECT faults('{}');
SELECT faults('{"initial": 1, "states": [], "transitions": {}, "comment": "no"}');
SELECT faults('{"initial": "a", "states": {}, "transitions": []}');
SELECT faults('{"initial": "b", "states": {"a": {"terminal": true}}, "transitions": []}');
SELECT faults('{"initial": "", "states": {"a": {"terminal": 1}, "b": {"final": true}, "c": [], "": {}}, "transitions": []}');

-- transitions
SELECT faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	5,
	{},
	{"event": 1, "from": 2, "to": null},
	{"event": "e1", "from": [], "to": "z"},
	{"event": "e2", "from": ["a", 7], "to": "z"},
	{"event": "e3", "from": "x", "to": "y"},
	{"event": "e4", "from": "a", "to": "a"},
	{"event": "e5", "from": "a", "to": "z", "gaurds": ["no_hold"]},
	{"event": "", "from": "a", "to": "z"},
	{"event": "e\u0007", "from": "a", "to": "z"}]}');

-- type of the event: given, or made of kind and event
SELECT faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "e", "from": "a", "to": "z", "type": "has space"}]}');
SELECT faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "e", "from": "a", "to": "z", "type": 3}]}');
SELECT faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "no type of this", "from": "a", "to": "z"}]}');

-- guards, effects, milestones are those of orders
SELECT faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "e", "from": "a", "to": "z", "guards": ["no_hold"], "effects": ["release_stock"], "milestone": "placed_at"}]}');
SELECT faults('{"initial": "a", "states": {"a": {}, "b": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "place", "from": "a", "to": "b"},
	{"event": "e", "from": "b", "to": "z", "guards": ["no_hold"], "effects": ["release_stock"], "milestone": "placed_at"}]}', 'order');
SELECT faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "e", "from": "a", "to": "z", "guards": ["nohold", 1, "no_hold"], "effects": "release_stock", "milestone": "version"}]}', 'order');

-- place_order makes the first step: it must be there, and nobody would ask its guards
SELECT faults('{"initial": "a", "states": {"a": {}, "b": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "place", "from": "a", "to": "b", "milestone": "placed_at"}, {"event": "end", "from": "b", "to": "z", "guards": ["no_hold"]}]}', 'order');
SELECT faults('{"initial": "a", "states": {"a": {}, "b": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "start", "from": "a", "to": "b"}, {"event": "place", "from": "b", "to": "z"}]}', 'order');
SELECT faults('{"initial": "a", "states": {"a": {}, "b": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "place", "from": "a", "to": "b", "guards": ["no_hold"]}, {"event": "end", "from": "b", "to": "z"}]}', 'order');
SELECT faults('{"initial": "a", "states": {"a": {}, "b": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "place", "from": "a", "to": "b", "effects": ["cancel_lines"]}, {"event": "end", "from": "b", "to": "z"}]}', 'order');
SELECT faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "place", "from": "a", "to": "z"}]}', 'order');

-- the graph: ambiguous, stuck, unreachable
SELECT faults('{"initial": "a", "states": {"a": {}, "b": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "go", "from": "a", "to": "b"},
	{"event": "go", "from": "a", "to": "z"},
	{"event": "end", "from": ["a", "b", "b"], "to": "z"}]}');
SELECT faults('{"initial": "a", "states": {"a": {}, "loop1": {}, "loop2": {}, "island": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "go", "from": "a", "to": "loop1"},
	{"event": "on", "from": "loop1", "to": "loop2"},
	{"event": "back", "from": "loop2", "to": "loop1"},
	{"event": "end", "from": ["a", "island"], "to": "z"},
	{"event": "reopen", "from": "z", "to": "a"}]}');

-- time limits: for orders and their parts; automatic transitions: for orders
SELECT kind, faults('{"initial": "a", "states": {
		"a": {}, "b": {"limit": "2 hours", "on_limit": "end"}, "c": {"on_limit": "end"}, "z": {"terminal": true}},
	"transitions": [{"event": "place", "from": "a", "to": "b"}, {"event": "next", "from": "b", "to": "c", "automatic": true},
		{"event": "end", "from": ["b", "c"], "to": "z"}]}', kind) AS fault
FROM unnest('{order,payment,fulfillment,return,ticket}'::text[]) WITH ORDINALITY AS k (kind, n) ORDER BY n;
SELECT faults(jsonb_build_object('initial', 'a', 'states', jsonb_build_object('a', '{}'::jsonb, 'b', state, 'z', '{"terminal": true}'::jsonb),
	'transitions', '[{"event": "place", "from": "a", "to": "b"}, {"event": "end", "from": "b", "to": "z"}]'::jsonb), 'order') AS fault
FROM (VALUES
	(1, '{"limit": "2 hours"}'::jsonb),
	(2, '{"limit": "2 hours", "on_limit": "launch"}'),
	(3, '{"limit": "soon", "on_limit": "end"}'),
	(4, '{"limit": "0 s", "on_limit": "end"}'),
	(5, '{"limit": "-1 day", "on_limit": "end"}'),
	(6, '{"limit": "1 day -30 hours", "on_limit": "end"}'),
	(7, '{"limit": "11 years", "on_limit": "end"}'),
	(8, '{"limit": 5, "on_limit": 6}'),
	(9, '{"limit": "tomorrow", "on_limit": ""}'),
	(10, '{"limit": "2 hours", "on_limit": "end", "after": 1}')) AS t (n, state) ORDER BY n;
SELECT faults('{"initial": "a", "states": {"a": {}, "b": {}, "z": {"terminal": true, "limit": "1 day", "on_limit": "end"}},
	"transitions": [{"event": "place", "from": "a", "to": "b", "automatic": true}, {"event": "end", "from": "b", "to": "z", "automatic": "yes"}]}', 'order');
SELECT faults('{"initial": "a", "states": {"a": {}, "b": {}, "c": {}, "z": {"terminal": true}},
	"transitions": [{"event": "place", "from": "a", "to": "b"}, {"event": "on", "from": "b", "to": "c", "automatic": true},
		{"event": "back", "from": "c", "to": "b", "automatic": true}, {"event": "end", "from": ["b", "c"], "to": "z"}]}', 'order');

-- each kind has guards, effects and milestones of its own
SELECT kind, faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "e", "from": "a", "to": "z", "guards": ["no_such_guard", "shop.no_such_guard"], "effects": ["no_such_effect"], "milestone": "no_such_milestone"}]}', kind) AS fault
FROM unnest('{order,payment,fulfillment,return,ticket}'::text[]) WITH ORDINALITY AS k (kind, n) ORDER BY n;
SELECT kind, faults('{"initial": "a", "states": {"a": {}, "z": {"terminal": true}}, "transitions": [
	{"event": "e", "from": "a", "to": "z", "effects": ["release_stock"], "milestone": "placed_at"}]}', kind) AS fault
FROM unnest('{payment,return}'::text[]) WITH ORDINALITY AS k (kind, n) ORDER BY n;

-- each kind of fault at once, and all are told
SELECT * FROM faults('{"initial": "draft", "comment": "no", "states": {"draft": {"final": true}, "pending": {"limit": "1 day"}, "odd": {"limit": "x", "on_limit": "go"},
		"island": {}, "loop": {}, "done": {"terminal": true}},
	"transitions": [5, {"event": "place", "from": "draft", "to": "pending", "guards": ["no_hold"], "automatic": true},
		{"event": "end", "from": "pending", "to": "done", "guards": ["nohold", "shop.missing", "a.b.c"], "effects": ["none"], "milestone": "never"},
		{"event": "end", "from": "pending", "to": "odd"}, {"event": "also", "from": "pending", "to": "odd"}, {"event": "stay", "from": "odd", "to": "odd"},
		{"event": "reopen", "from": "done", "to": "loop", "automatic": true}, {"event": "turn", "from": "loop", "to": "pending", "automatic": true},
		{"event": "leave", "from": "nowhere", "to": "away"}, {"event": "x y", "from": "island", "to": "done"}]}', 'order');

-- sizes
SELECT faults(jsonb_build_object('initial', 's1', 'transitions', '[]'::jsonb,
	'states', (SELECT jsonb_object_agg('s' || n, '{"terminal": true}'::jsonb) FROM generate_series(1, 201) AS n)));
SELECT count(*), max(left(fault, 60)) FILTER (WHERE fault LIKE 'there are more%')
FROM faults(jsonb_build_object('initial', 's1',
	'states', (SELECT jsonb_object_agg('s' || n, '{"terminal": true}'::jsonb) FROM generate_series(1, 60) AS n),
	'transitions', (SELECT jsonb_agg(jsonb_build_object('event', 'to_' || b, 'from', 's' || a, 'to', 's' || b))
		FROM generate_series(1, 60) AS a, generate_series(1, 60) AS b WHERE a <> b))) AS fault;
-- a fault repeats only the beginning of what is too long
SELECT max(length(fault)) < 200 FROM faults(jsonb_build_object('initial', 'a', 'states', '{"a": {"terminal": true}}'::jsonb,
	'transitions', '[]'::jsonb, repeat('x', 100000), 1)) AS fault;

-- the error as a whole
SELECT attempt($$SELECT order_engine.publish_machine(order_engine.define_machine('ticket', 'trial', '{}'))$$);

-- versions: a draft is replaced, a published version is frozen
SELECT order_engine.define_machine('ticket', 'support', '{}') AS first \gset
SELECT order_engine.define_machine('ticket', 'support',
	'{"initial": "open", "states": {"open": {}, "closed": {"terminal": true}}, "transitions": [{"event": "close", "from": "open", "to": "closed"}]}') = :first AS same_draft;
SELECT version, status, published_at IS NULL AS unpublished FROM order_engine.machine WHERE machine_id = :first;
SELECT order_engine.publish_machine(:first);
SELECT version, status, published_at IS NULL AS unpublished FROM order_engine.machine WHERE machine_id = :first;
-- again: nothing to do
SELECT published_at AS before FROM order_engine.machine WHERE machine_id = :first \gset
SELECT order_engine.publish_machine(:first);
SELECT published_at = :'before' AS untouched FROM order_engine.machine WHERE machine_id = :first;
SELECT order_engine.define_machine('ticket', 'support', '{"initial": "none"}') AS second \gset
SELECT :second <> :first AS another_id, version, status FROM order_engine.machine WHERE machine_id = :second;
SELECT version, status, definition ->> 'initial' AS initial FROM order_engine.machine WHERE machine_id = :first;
-- the next version of a machine of the extension
SELECT order_engine.define_machine('order', 'default', '{}') AS third \gset
SELECT version, status FROM order_engine.machine WHERE machine_id = :third;
-- the same name in another kind is another machine
SELECT order_engine.define_machine('parcel', 'support', '{}') AS fourth \gset
SELECT version, status FROM order_engine.machine WHERE machine_id = :fourth;

-- arguments
SELECT attempt($$SELECT order_engine.define_machine(NULL, 'x', '{}')$$);
SELECT attempt($$SELECT order_engine.define_machine('ticket', NULL, '{}')$$);
SELECT attempt($$SELECT order_engine.define_machine('ticket', 'x', NULL)$$);
SELECT attempt($$SELECT order_engine.define_machine('', 'x', '{}')$$);
SELECT attempt($$SELECT order_engine.define_machine('ticket', repeat('x', 256), '{}')$$);
SELECT attempt($$SELECT order_engine.define_machine('ticket', E'x\n', '{}')$$);
SELECT attempt($$SELECT order_engine.define_machine('ticket', 'x', '[]')$$);
SELECT attempt($$SELECT order_engine.define_machine('reservation', 'x', '{}')$$);
SELECT attempt($$SELECT order_engine.publish_machine(NULL)$$);
SELECT attempt($$SELECT order_engine.publish_machine(-1)$$);
-- not a fault: parts have machines of their own
SELECT attempt($$SELECT order_engine.define_machine('payment', 'x', '{}')$$);

DROP FUNCTION attempt, faults;
