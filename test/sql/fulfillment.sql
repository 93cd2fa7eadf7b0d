-- Fulfillments: what leaves the house together.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE TEMP VIEW level AS
SELECT sku, location, on_hand, reserved FROM order_engine.stock ORDER BY sku COLLATE "C", location COLLATE "C";
CREATE TEMP VIEW line AS
SELECT order_id, line_no, quantity, cancelled, shipped, delivered, undelivered, returned FROM order_engine.order_line ORDER BY order_id, line_no;
CREATE TEMP VIEW status AS
SELECT order_id, version, state, fulfillment_status, first_shipped_at IS NOT NULL AS shipped, delivered_at IS NOT NULL AS delivered FROM order_engine.orders;
CREATE TEMP VIEW part AS
SELECT order_id, fulfillment_id, f.state, location, line_no, quantity, open, l.shipped, l.delivered, l.undelivered
FROM order_engine.fulfillment f JOIN order_engine.fulfillment_line l USING (fulfillment_id) ORDER BY fulfillment_id, line_no;
CREATE TEMP VIEW event AS
SELECT order_id, seq, entity, event, from_state, to_state, reason FROM order_engine.history ORDER BY order_id, seq;
CREATE OR REPLACE FUNCTION move(id bigint, VARIADIC events text[]) RETURNS SETOF text LANGUAGE sql AS
$$SELECT order_engine.transition('fulfillment', id, event) FROM unnest(events) WITH ORDINALITY AS e (event, n) ORDER BY n$$;
-- attempt() without ids
CREATE OR REPLACE FUNCTION try(command text) RETURNS SETOF text LANGUAGE sql AS
$$SELECT regexp_replace(a, '("id": |"hold_id": |order |fulfillment )\d+', '\1N', 'g') FROM attempt(command) WITH ORDINALITY AS t (a, n) ORDER BY n$$;

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR'), order_engine.upsert_product('B', 'B', 2.50, 'EUR'),
	order_engine.upsert_product('S', 'S', 1, 'EUR', tracked => false), order_engine.upsert_product('F', 'F', 0, 'EUR');
SELECT order_engine.upsert_location('near', 'Near', priority => 1), order_engine.upsert_location('far', 'Far', priority => 2);
SELECT order_engine.adjust_stock('A', 'near', 3, 'r'), order_engine.adjust_stock('A', 'far', 20, 'r'),
	order_engine.adjust_stock('B', 'far', 10, 'r'), order_engine.adjust_stock('F', 'far', 10, 'r');

-- an order that is not confirmed
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 5}, {"sku": "B", "quantity": 4}, {"sku": "S", "quantity": 2}]', 'EUR',
	terms => 'invoice') AS id \gset
SELECT try(format('SELECT order_engine.create_fulfillment(%s)', :id));
SELECT order_engine.transition('order', :id, 'confirm');

-- some units, folded; the events tell what is in it
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 1}, {"line_no": 3, "quantity": 1}, {"line_no": 1, "quantity": 2}]',
	tracking => '[{"carrier": "DHL", "number": "4711", "url": "https://track.example/4711"}]', metadata => '{"box": 1}') AS f1 \gset
SELECT state, line_no, quantity, open, shipped FROM part WHERE fulfillment_id = :f1;
SELECT seq, entity, event, from_state, to_state FROM event WHERE order_id = :id;
SELECT aggregate_seq, type, payload - '{order_id,fulfillment_id,order_number}'::text[] AS payload FROM order_engine.outbox
WHERE aggregateid = :'id' AND aggregate_seq = 3;
SELECT machine_id, state, expires_at, shipped_at, location, tracking, metadata FROM order_engine.fulfillment WHERE fulfillment_id = :f1;
-- more than is open
SELECT attempt(format($$SELECT order_engine.create_fulfillment(%s, '[{"line_no": 2, "quantity": 1}, {"line_no": 1, "quantity": 3}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.create_fulfillment(%s, '[{"line_no": 1, "quantity": 2}, {"line_no": 1, "quantity": 1}]')$$, :id));
SELECT attempt(format($$SELECT order_engine.create_fulfillment(%s, '[{"line_no": 9, "quantity": 1}]')$$, :id));
-- the rest, from a location of its own
SELECT order_engine.create_fulfillment(:id, location => 'far') AS f2 \gset
SELECT state, location, line_no, quantity, open FROM part WHERE fulfillment_id = :f2;
SELECT attempt(format('SELECT order_engine.create_fulfillment(%s)', :id));
-- what waits in a fulfillment is not cancelled
SELECT attempt(format($$SELECT order_engine.cancel_order(%s, 'r', '[{"line_no": 2, "quantity": 1}]')$$, :id));
SELECT version, state, fulfillment_status FROM status WHERE order_id = :id;

-- shipping in parts, from two locations
SELECT * FROM level WHERE sku < 'F';
SELECT try(format($$SELECT order_engine.transition('fulfillment', %s, 'ship')$$, :f1));
SELECT order_engine.transition('fulfillment', :f1, 'ready'), order_engine.transition('fulfillment', :f1, 'ship', 'truck 7');
SELECT state, line_no, quantity, open, shipped, delivered FROM part WHERE fulfillment_id = :f1;
SELECT line_no, quantity, shipped, delivered FROM line WHERE order_id = :id;
SELECT version, state, fulfillment_status, shipped, delivered FROM status WHERE order_id = :id;
SELECT * FROM level WHERE sku < 'F';
SELECT sku, location, quantity, shipped, state FROM order_engine.reservation WHERE reservation_id = :id ORDER BY sku, location;
SELECT sku, location, kind, on_hand_delta, reserved_delta FROM order_engine.stock_movement WHERE reference_id = :f1 ORDER BY sku, location, kind;
SELECT f.shipped_at = f.state_since AS stamped, h.created_at = f.shipped_at AS same, h.reason
FROM order_engine.fulfillment f JOIN order_engine.history h ON h.entity_id = f.fulfillment_id::text AND h.event = 'ship' WHERE fulfillment_id = :f1;
-- by hand, all at once: what the verb does
UPDATE order_engine.fulfillment SET state = 'ready' WHERE fulfillment_id = :f2;
UPDATE order_engine.fulfillment SET state = 'shipped' WHERE fulfillment_id = :f2;
SELECT state, line_no, quantity, open, shipped, delivered FROM part WHERE fulfillment_id = :f2;
SELECT version, state, fulfillment_status FROM status WHERE order_id = :id;
SELECT * FROM level WHERE sku < 'F';
SELECT sku, location, quantity, shipped, state FROM order_engine.reservation WHERE reservation_id = :id ORDER BY sku, location;
SELECT * FROM order_engine.verify_stock();
-- what the engine keeps, and steps that are none
SELECT attempt(format('UPDATE order_engine.fulfillment SET tracking = NULL WHERE fulfillment_id = %s', :f1));
SELECT attempt(format($$UPDATE order_engine.fulfillment SET location = 'near' WHERE fulfillment_id = %s$$, :f1));
SELECT attempt(format('UPDATE order_engine.fulfillment SET shipped_at = NULL WHERE fulfillment_id = %s', :f1));
SELECT try(format($$UPDATE order_engine.fulfillment SET state = 'pending' WHERE fulfillment_id = %s$$, :f1));
UPDATE order_engine.fulfillment SET metadata = '{"box": 2}' WHERE fulfillment_id = :f1;
-- the same state again: nothing
SELECT order_engine.transition('fulfillment', :f1, 'ship');
SELECT version FROM status WHERE order_id = :id;
-- delivery, of one; the other comes back, to where it left from
SELECT move(:f1, 'deliver');
SELECT version, state, fulfillment_status, shipped, delivered FROM status WHERE order_id = :id;
SELECT move(:f2, 'fail');
SELECT version, state, fulfillment_status, shipped, delivered FROM status WHERE order_id = :id;
SELECT order_engine.transition('fulfillment', :f2, 'restock', 'nobody at home');
SELECT version, state, fulfillment_status, shipped, delivered FROM status WHERE order_id = :id;
SELECT state, line_no, quantity, open, shipped, delivered, undelivered FROM part WHERE order_id = :id;
SELECT line_no, quantity, shipped, delivered, undelivered FROM line WHERE order_id = :id;
SELECT * FROM level WHERE sku < 'F';
SELECT sku, location, kind, on_hand_delta, reserved_delta, reason FROM order_engine.stock_movement WHERE reference_id = :f2 ORDER BY sku, location, kind;
SELECT seq, entity, event, from_state, to_state, reason FROM event WHERE order_id = :id;
SELECT aggregate_seq, type FROM order_engine.outbox WHERE aggregateid = :'id' ORDER BY aggregate_seq;
SELECT * FROM order_engine.verify_stock();

-- an order that stock splits over two locations leaves from where it is held, and goes back there
SELECT order_engine.adjust_stock('A', 'near', 4, 'r') AS near;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 8}]', 'EUR', terms => 'invoice') AS id \gset
SELECT location, quantity FROM order_engine.reservation WHERE reservation_id = :id ORDER BY location;
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT move(:f, 'ready', 'ship', 'fail');
SELECT * FROM level WHERE sku = 'A';
SELECT version, fulfillment_status FROM status WHERE order_id = :id;
SELECT move(:f, 'restock');
SELECT location, kind, on_hand_delta FROM order_engine.stock_movement WHERE reference_id = :f ORDER BY location, kind;
SELECT * FROM level WHERE sku = 'A';
-- nothing was delivered to anybody
SELECT version, state, fulfillment_status, shipped, delivered FROM status WHERE order_id = :id;
SELECT * FROM order_engine.verify_stock();

-- from another location than where it is reserved
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2, "location": "near"}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT attempt(format($$SELECT order_engine.create_fulfillment(%s, location => 'nowhere')$$, :id));
SELECT order_engine.create_fulfillment(:id, location => 'far') AS f \gset
SELECT move(:f, 'ready', 'ship');
SELECT location, kind, on_hand_delta, reserved_delta FROM order_engine.stock_movement WHERE reference_id = :f ORDER BY location, kind;
SELECT location, quantity, shipped, state FROM order_engine.reservation WHERE reservation_id = :id ORDER BY location;
SELECT * FROM order_engine.verify_stock();
-- where too little lies: nothing happens
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 8, "location": "far"}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id, location => 'near') AS f \gset
SELECT move(:f, 'ready');
SELECT attempt(format($$SELECT order_engine.transition('fulfillment', %s, 'ship')$$, :f));
SELECT state, open, shipped FROM part WHERE fulfillment_id = :f;
SELECT version, fulfillment_status FROM status WHERE order_id = :id;

-- a hold lets one be made, not shipped
SELECT order_engine.place_hold(:id, 'fraud') IS NOT NULL AS held;
SELECT order_engine.transition('fulfillment', :f, 'cancel', 'other warehouse');
SELECT state, quantity, open, shipped FROM part WHERE fulfillment_id = :f;
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 3}]') AS f \gset
SELECT move(:f, 'ready');
SELECT try(format($$SELECT order_engine.transition('fulfillment', %s, 'ship')$$, :f));
SELECT try(format($$UPDATE order_engine.fulfillment SET state = 'shipped' WHERE fulfillment_id = %s$$, :f));
SELECT event, allowed, reason FROM order_engine.allowed_events('fulfillment', :f) ORDER BY event;
SELECT order_engine.release_hold(hold_id) FROM order_engine.order_hold WHERE order_id = :id;
SELECT event, allowed, reason FROM order_engine.allowed_events('fulfillment', :f) ORDER BY event;
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 4}]') AS f2 \gset
-- what nobody ships can be cancelled in part; whoever cancels all cancels the fulfillments
SELECT order_engine.cancel_order(:id, 'one less', '[{"line_no": 1, "quantity": 1}]');
SELECT order_engine.cancel_order(:id, 'changed his mind');
SELECT state, quantity, open FROM part WHERE order_id = :id;
SELECT quantity, cancelled, shipped FROM line WHERE order_id = :id;
SELECT version, state, fulfillment_status FROM status WHERE order_id = :id;
SELECT seq, entity, event, from_state, to_state, reason FROM event WHERE order_id = :id ORDER BY seq DESC LIMIT 4;
SELECT try(format($$SELECT order_engine.create_fulfillment(%s)$$, :id));
SELECT try(format($$SELECT order_engine.transition('fulfillment', %s, 'ship')$$, :f));
SELECT * FROM order_engine.verify_stock();
-- not after something has left
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 3}, {"sku": "B", "quantity": 1}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 2}]') AS f \gset
SELECT move(:f, 'ready', 'ship');
SELECT try(format($$SELECT order_engine.cancel_order(%s, 'r')$$, :id));
SELECT version, state, fulfillment_status FROM status WHERE order_id = :id;
-- the rest is cancelled: then all is shipped, and later delivered
SELECT order_engine.cancel_order(:id, 'sold out', '[{"line_no": 1, "quantity": 1}, {"line_no": 2, "quantity": 1}]');
SELECT version, state, fulfillment_status, delivered FROM status WHERE order_id = :id;
SELECT move(:f, 'deliver');
SELECT version, state, fulfillment_status, delivered FROM status WHERE order_id = :id;
-- in the other order: what was delivered is all, once the rest is cancelled
SELECT order_engine.place_order('c', '[{"sku": "F", "quantity": 3}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 2}]') AS f \gset
SELECT move(:f, 'ready', 'ship', 'deliver');
SELECT version, state, fulfillment_status, delivered FROM status WHERE order_id = :id;
SELECT order_engine.cancel_order(:id, 'sold out', '[{"line_no": 1, "quantity": 1}]');
SELECT version, state, fulfillment_status, delivered FROM status WHERE order_id = :id;
SELECT seq, entity, event, to_state FROM event WHERE order_id = :id ORDER BY seq;
-- an order of which nothing is owed completes with the last delivery
SELECT order_engine.place_order('c', '[{"sku": "F", "quantity": 3}, {"sku": "S", "quantity": 1, "unit_price": 0}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 2}]') AS f1 \gset
SELECT order_engine.create_fulfillment(:id) AS f2 \gset
SELECT move(:f1, 'ready', 'ship', 'deliver'), move(:f2, 'ready', 'ship', 'fail');
SELECT version, state, fulfillment_status, delivered FROM status WHERE order_id = :id;
SELECT move(:f2, 'restock');
SELECT version, state, fulfillment_status, delivered FROM status WHERE order_id = :id;
SELECT event FROM event WHERE order_id = :id ORDER BY seq DESC LIMIT 2;
SELECT * FROM order_engine.verify_stock();
-- and one that is paid on the door, when its money is there
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 2}]', 'EUR', terms => 'cash_on_delivery') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT move(:f, 'ready', 'ship');
SELECT move(:f, 'deliver');
SELECT version, state, fulfillment_status, delivered FROM status WHERE order_id = :id;
SELECT order_engine.record_payment(order_engine.request_payment(:id, 'capture', method => 'cash'), 'success');
SELECT version, state, fulfillment_status, delivered FROM status WHERE order_id = :id;

-- the machine "simple": its own ladder, and fulfillments below it
SET order_engine.order_machine = 'simple';
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 2}]', 'EUR') AS id \gset
SELECT order_engine.transition('order', :id, 'pay');
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 1}]') AS f1 \gset
SELECT order_engine.create_fulfillment(:id) AS f2 \gset
SELECT move(:f1, 'ready', 'ship');
SELECT version, state, fulfillment_status, shipped, delivered FROM status WHERE order_id = :id;
SELECT order_engine.transition('order', :id, 'ship');
SELECT version, state, fulfillment_status, shipped, delivered FROM status WHERE order_id = :id;
SELECT move(:f2, 'ready');
SELECT try(format($$SELECT order_engine.transition('fulfillment', %s, 'ship')$$, :f2));
SELECT order_engine.transition('order', :id, 'deliver');
SELECT try(format($$SELECT order_engine.transition('fulfillment', %s, 'deliver')$$, :f1));
SELECT line_no, shipped, delivered FROM line WHERE order_id = :id;
SELECT * FROM order_engine.verify_stock();
-- what is shipped after all that was shipped came back makes that a part
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 2}]', 'EUR') AS id \gset
SELECT order_engine.transition('order', :id, 'pay');
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 1}]') AS f1 \gset
SELECT move(:f1, 'ready', 'ship', 'deliver');
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 1}]', 'late') AS r \gset
SELECT order_engine.transition('return', :r, 'approve');
SELECT order_engine.receive_return(:r, '[{"line_no": 1, "quantity": 1, "disposition": "restock"}]');
SELECT fulfillment_status, return_status FROM order_engine.orders WHERE order_id = :id;
SELECT order_engine.transition('order', :id, 'ship');
SELECT fulfillment_status, return_status FROM order_engine.orders WHERE order_id = :id;
SELECT order_engine.transition('order', :id, 'deliver');
SELECT fulfillment_status, return_status FROM order_engine.orders WHERE order_id = :id;
-- what nobody received is not delivered
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 1}]', 'EUR') AS id \gset
SELECT order_engine.transition('order', :id, 'pay');
SELECT order_engine.create_fulfillment(:id) AS f1 \gset
SELECT move(:f1, 'ready', 'ship', 'fail', 'restock');
SELECT order_engine.transition('order', :id, 'ship'), order_engine.transition('order', :id, 'deliver');
SELECT fulfillment_status, return_status FROM order_engine.orders WHERE order_id = :id;
SELECT * FROM order_engine.verify_orders();
-- when the rest of an order is cancelled with it, what was shipped is all
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 2}]', 'EUR') AS id \gset
SELECT order_engine.transition('order', :id, 'pay');
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 1}]') AS f1 \gset
SELECT order_engine.create_fulfillment(:id) AS f2 \gset
SELECT move(:f1, 'ready', 'ship');
SELECT order_engine.transition('order', :id, 'refund');
SELECT version, state, fulfillment_status FROM status WHERE order_id = :id;
SELECT state, quantity, open, shipped FROM part WHERE order_id = :id;
SELECT line_no, quantity, cancelled, shipped FROM line WHERE order_id = :id;
SELECT * FROM order_engine.verify_stock();
RESET order_engine.order_machine;

-- parcels
SELECT version FROM status WHERE order_id = (SELECT order_id FROM order_engine.fulfillment WHERE fulfillment_id = :f) \gset
SELECT order_engine.set_tracking(:f, '[{"carrier": "UPS", "number": "1Z"}, {"number": "2Z", "url": "http://x.example/a?b=1"}]');
SELECT tracking FROM order_engine.fulfillment WHERE fulfillment_id = :f;
SELECT order_engine.set_tracking(:f, '[{"number": "1Z", "carrier": "UPS"}, {"number": "2Z", "url": "http://x.example/a?b=1"}]');
SELECT order_engine.set_tracking(:f, '[]', expected_version => :version + 1);
SELECT try(format($$SELECT order_engine.set_tracking(%s, '[{}]', %s)$$, :f, :version));
SELECT seq - :version AS seq, entity, event, from_state, to_state FROM event WHERE event = 'set_tracking' ORDER BY seq;
SELECT aggregate_seq - :version AS seq, type, payload -> 'tracking' AS tracking, payload -> 'lines' AS lines FROM order_engine.outbox WHERE type = 'fulfillment.tracking_changed' ORDER BY 1;
SELECT input, attempt(format('SELECT order_engine.set_tracking(%s, %L)', :f, input)) FROM unnest('{
	"{}", "1", "null", "[1]", "[null]", "[[]]", "[{\"weight\": 1}]", "[{\"carrier\": 1}]", "[{\"carrier\": \"\"}]", "[{}, {\"number\": \"a\\nb\"}]",
	"[{\"url\": \"javascript:alert(1)\"}]", "[{\"url\": \"https://\"}]", "[{\"url\": \"https://a b\"}]", "[{\"carrier\": null}]"}'::text[]) AS input;
SELECT attempt(format('SELECT order_engine.set_tracking(%s, %L)', :f, (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 101))));
SELECT attempt(format('SELECT order_engine.set_tracking(%s, NULL)', :f));
SELECT attempt('SELECT order_engine.set_tracking(NULL, NULL)');
SELECT attempt($$SELECT order_engine.set_tracking(987654321, '[]')$$);

-- arguments
SELECT attempt('SELECT order_engine.create_fulfillment(NULL)');
SELECT try('SELECT order_engine.create_fulfillment(987654321)');
SELECT order_engine.place_order('c', '[{"sku": "S", "quantity": 5}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT items, attempt(format('SELECT order_engine.create_fulfillment(%s, %L)', :id, items)) FROM unnest('{
	"[]", "{}", "[{\"line_no\": 1}]", "[{\"line_no\": 1, \"quantity\": 0}]", "[{\"line_no\": 1, \"quantity\": 1, \"sku\": \"S\"}]"}'::text[]) AS items;
SELECT attempt(format($$SELECT order_engine.create_fulfillment(%s, metadata => '1')$$, :id));
SELECT attempt(format($$SELECT order_engine.create_fulfillment(%s, location => '')$$, :id));
SELECT try(format($$SELECT order_engine.create_fulfillment(%s, expected_version => 7)$$, :id));
-- duplicates
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 2}]', idempotency_key => 'k', expected_version => 2) AS f \gset
SELECT order_engine.create_fulfillment(:id, '[{"quantity": 2, "line_no": 1}]', idempotency_key => 'k', expected_version => 2) = :f AS same, order_engine.was_replayed();
SELECT attempt(format($$SELECT order_engine.create_fulfillment(%s, idempotency_key => 'k')$$, :id));
SELECT order_engine.set_tracking(:f, '[{"number": "1"}]', idempotency_key => 't'), order_engine.set_tracking(:f, '[{"number": "1"}]', idempotency_key => 't'), order_engine.was_replayed();
SELECT version FROM status WHERE order_id = :id;

-- a machine of other states: guards and effects hang on events; nothing leaves twice
SELECT order_engine.publish_machine(order_engine.define_machine('fulfillment', 'default', '{"initial": "picked", "states": {"picked": {}, "gone": {}, "there": {"terminal": true}},
	"transitions": [{"event": "leave", "from": "picked", "to": "gone", "guards": ["order_confirmed"], "effects": ["ship_units"], "milestone": "shipped_at"},
		{"event": "turn_back", "from": "gone", "to": "picked"}, {"event": "arrive", "from": "gone", "to": "there", "effects": ["deliver_units"]}]}'));
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 2}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 1}]') AS f \gset
SELECT move(:f, 'leave', 'turn_back');
SELECT try(format($$SELECT order_engine.transition('fulfillment', %s, 'leave')$$, :f));
SELECT state, quantity, open, shipped FROM part WHERE fulfillment_id = :f;
SELECT fulfillment_status FROM status WHERE order_id = :id;
-- a fulfillment that its machine cannot cancel stays, and cannot be shipped for nothing
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 1}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT order_engine.cancel_order(:id, 'r');
SELECT try(format($$SELECT order_engine.transition('fulfillment', %s, 'leave')$$, :f));

-- no gap in the sequence of any order
SELECT aggregateid FROM order_engine.outbox GROUP BY 1 HAVING count(*) <> max(aggregate_seq) OR min(aggregate_seq) <> 1;
SELECT * FROM order_engine.verify_stock();
