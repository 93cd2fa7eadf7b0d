-- machine_diagram(): Mermaid and Graphviz.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin
\pset format unaligned
\pset tuples_only on

SELECT order_engine.machine_diagram(1);
SELECT order_engine.machine_diagram(1, 'graphviz');
-- every name is a label: keywords, quotes, what has a meaning in a label, and beyond ASCII
SELECT order_engine.define_machine('order', 'quoted "&amp; \ name"', '{
	"initial": "end", "states": {"end": {}, "state": {"limit": "2 hours", "on_limit": "a--b"}, "s0": {}, "[*]": {"on_limit": "note right of s0: x"},
		"with \"quotes\" and \\ #;:": {}, "größe &lt; 納品": {}, "graph {": {"terminal": true}},
	"transitions": [{"event": "place", "from": "end", "to": "state"},
		{"event": "a--b", "from": "state", "to": "s0", "type": "x.y", "guards": ["no_hold", "past_limit", "shop.\"Check; it\""], "automatic": true},
		{"event": "end", "from": "s0", "to": "[*]", "guards": ["shop.check_vip"]},
		{"event": "note right of s0: x", "from": "[*]", "to": "with \"quotes\" and \\ #;:", "type": "x.y"},
		{"event": "<b>--&gt;</b>", "from": "with \"quotes\" and \\ #;:", "to": "größe &lt; 納品", "type": "x.y"},
		{"event": "fork", "from": "größe &lt; 納品", "to": "graph {", "automatic": true}]}') AS id \gset
SELECT order_engine.machine_diagram(:id);
SELECT order_engine.machine_diagram(:id, 'graphviz');
-- a draft that cannot be read
SELECT order_engine.define_machine('order', 'broken', '{"initial": "a", "states": {"a": {}}}') AS id \gset
SELECT attempt(format('SELECT order_engine.machine_diagram(%s)', :id));
-- arguments
SELECT attempt($$SELECT order_engine.machine_diagram(NULL)$$);
SELECT attempt($$SELECT order_engine.machine_diagram(1, NULL)$$);
SELECT attempt($$SELECT order_engine.machine_diagram(1, 'svg')$$);
SELECT attempt($$SELECT order_engine.machine_diagram(-1)$$);

DROP FUNCTION attempt;
