-- Returns: what the customer sends back.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE TEMP VIEW level AS
SELECT sku, location, on_hand, reserved FROM order_engine.stock ORDER BY sku COLLATE "C", location COLLATE "C";
CREATE TEMP VIEW line AS
SELECT order_id, line_no, quantity, shipped, delivered, undelivered, returned FROM order_engine.order_line ORDER BY order_id, line_no;
CREATE TEMP VIEW status AS
SELECT order_id, version, state, fulfillment_status, return_status FROM order_engine.orders;
CREATE TEMP VIEW part AS
SELECT order_id, return_id, r.state, r.reason, line_no, quantity, open, restocked, damaged, discarded, location, l.reason AS line_reason
FROM order_engine.order_return r JOIN order_engine.return_line l USING (return_id) ORDER BY return_id, line_no;
CREATE TEMP VIEW event AS
SELECT order_id, seq, entity, event, from_state, to_state, reason FROM order_engine.history ORDER BY order_id, seq;
CREATE OR REPLACE FUNCTION move(entity text, id bigint, VARIADIC events text[]) RETURNS SETOF text LANGUAGE sql AS
$$SELECT order_engine.transition(entity, id, event) FROM unnest(events) WITH ORDINALITY AS e (event, n) ORDER BY n$$;
-- attempt() without ids
CREATE OR REPLACE FUNCTION try(command text) RETURNS SETOF text LANGUAGE sql AS
$$SELECT regexp_replace(a, '("id": |"hold_id": |order |return )\d+', '\1N', 'g') FROM attempt(command) WITH ORDINALITY AS t (a, n) ORDER BY n$$;

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR'), order_engine.upsert_product('B', 'B', 2.50, 'EUR'),
	order_engine.upsert_product('S', 'S', 1, 'EUR', tracked => false);
SELECT order_engine.upsert_location('near', 'Near', priority => 1), order_engine.upsert_location('far', 'Far', priority => 2), order_engine.upsert_location('mill', 'Mill', priority => 3);
SELECT order_engine.adjust_stock('A', 'near', 3, 'r'), order_engine.adjust_stock('A', 'far', 20, 'r'), order_engine.adjust_stock('B', 'far', 10, 'r');

-- nothing was shipped yet
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 5}, {"sku": "B", "quantity": 4}, {"sku": "S", "quantity": 2}]', 'EUR',
	terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT try(format($$SELECT order_engine.create_return(%s, '[{"line_no": 1, "quantity": 1}]', 'too_small')$$, :id));
SELECT order_engine.create_fulfillment(:id, '[{"line_no": 1, "quantity": 5}, {"line_no": 2, "quantity": 3}, {"line_no": 3, "quantity": 2}]') AS f \gset
SELECT move('fulfillment', :f, 'ready', 'ship', 'deliver');
SELECT version, state, fulfillment_status, return_status FROM status WHERE order_id = :id;

-- a request; the events tell what is in it
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 1, "reason": "torn"}, {"line_no": 2, "quantity": 2}, {"line_no": 1, "quantity": 2}]', 'too_small',
	metadata => '{"form": 7}') AS r1 \gset
SELECT state, reason, line_no, quantity, open, line_reason FROM part WHERE return_id = :r1;
SELECT machine_id, state, expires_at, received_at, refund_amount, reason, metadata FROM order_engine.order_return WHERE return_id = :r1;
SELECT aggregate_seq, type, payload - '{order_id,return_id,order_number}'::text[] AS payload FROM order_engine.outbox WHERE aggregateid = :'id' AND type LIKE 'return%';
SELECT seq, entity, event, from_state, to_state, reason FROM event WHERE order_id = :id ORDER BY seq DESC LIMIT 1;
SELECT version, state, fulfillment_status, return_status FROM status WHERE order_id = :id;
-- units are in one return only
SELECT try(format($$SELECT order_engine.create_return(%s, '[{"line_no": 3, "quantity": 1}, {"line_no": 1, "quantity": 3}]', 'r')$$, :id));
SELECT try(format($$SELECT order_engine.create_return(%s, '[{"line_no": 1, "quantity": 1}, {"line_no": 1, "quantity": 2}]', 'r')$$, :id));
SELECT try(format($$SELECT order_engine.create_return(%s, '[{"line_no": 4, "quantity": 1}]', 'r')$$, :id));
-- one that is declined, one that is withdrawn: their units are free again
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 2}]', 'r') AS r2 \gset
SELECT order_engine.transition('return', :r2, 'decline', 'too late');
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 2}]', 'r') AS r2 \gset
SELECT move('return', :r2, 'approve', 'cancel');
SELECT state, quantity, open FROM part WHERE order_id = :id AND line_no = 1;
SELECT version, return_status FROM status WHERE order_id = :id;

-- what comes: less than announced, and not all of it good
SELECT try(format('SELECT order_engine.receive_return(%s)', :r1));
SELECT order_engine.transition('return', :r1, 'approve', 'label sent');
SELECT try(format($$SELECT order_engine.receive_return(%s, '[{"line_no": 3, "quantity": 1}]')$$, :r1));
SELECT try(format($$SELECT order_engine.receive_return(%s, '[{"line_no": 1, "quantity": 2}, {"line_no": 1, "quantity": 2, "disposition": "discard"}]')$$, :r1));
SELECT try(format($$SELECT order_engine.receive_return(%s, '[{"line_no": 1, "quantity": 1, "disposition": "burnt"}]')$$, :r1));
SELECT try(format($$SELECT order_engine.receive_return(%s, '[{"line_no": 1, "quantity": 1, "disposition": "damaged", "location": "far"}]')$$, :r1));
SELECT try(format($$SELECT order_engine.receive_return(%s, '[{"line_no": 1, "quantity": 1, "location": "far"}, {"line_no": 1, "quantity": 1, "location": "near"}]')$$, :r1));
SELECT try(format($$SELECT order_engine.receive_return(%s, '[{"line_no": 1, "quantity": 1, "location": "nowhere"}]')$$, :r1));
SELECT try(format($$SELECT order_engine.receive_return(%s, '[]')$$, :r1));
SELECT * FROM level;
SELECT sku, location, shipped FROM order_engine.reservation WHERE reservation_id = :id AND shipped > 0 ORDER BY sku, location;
SELECT order_engine.receive_return(:r1, '[{"line_no": 1, "quantity": 1}, {"line_no": 1, "quantity": 1, "disposition": "damaged"}, {"line_no": 2, "quantity": 1, "location": "mill"},
	{"line_no": 2, "quantity": 1, "disposition": "discard"}]', 'parcel 8');
SELECT state, line_no, quantity, open, restocked, damaged, discarded, location FROM part WHERE return_id = :r1;
SELECT line_no, quantity, shipped, delivered, returned FROM line WHERE order_id = :id;
SELECT version, state, fulfillment_status, return_status FROM status WHERE order_id = :id;
-- the first of the locations that it was shipped from; B where the caller says
SELECT * FROM level;
SELECT sku, location, kind, on_hand_delta, reserved_delta, reason FROM order_engine.stock_movement WHERE reference_id = :r1 ORDER BY sku, location;
SELECT aggregate_seq, payload -> 'lines' AS lines, payload -> 'reason' AS reason FROM order_engine.outbox WHERE type = 'return.received';
SELECT received_at = state_since AS stamped FROM order_engine.order_return WHERE return_id = :r1;
-- a second time: nothing, whatever is counted now
SELECT order_engine.receive_return(:r1, '[{"line_no": 1, "quantity": 3}]'), order_engine.transition('return', :r1, 'receive');
SELECT version FROM status WHERE order_id = :id;
SELECT * FROM order_engine.verify_stock();
-- the price of what came: 2 of A, 2 of B
SELECT order_engine.transition('return', :r1, 'close');
SELECT state, refund_amount FROM order_engine.order_return WHERE return_id = :r1;
SELECT type, payload -> 'refund_amount' AS refund_amount FROM order_engine.outbox WHERE type = 'return.closed';
-- what did not come can be announced once more
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 3}, {"line_no": 2, "quantity": 1}, {"line_no": 3, "quantity": 2}]', 'r', 20) AS r3 \gset
SELECT version, return_status FROM status WHERE order_id = :id;
-- by hand: everything comes back, into stock; lines without stock only count
UPDATE order_engine.order_return SET state = 'approved' WHERE return_id = :r3;
SELECT try(format('UPDATE order_engine.order_return SET refund_amount = 1000 WHERE return_id = %s', :r3));
SELECT try(format($$UPDATE order_engine.order_return SET state = 'closed' WHERE return_id = %s$$, :r3));
UPDATE order_engine.order_return SET state = 'received' WHERE return_id = :r3;
SELECT state, line_no, quantity, open, restocked, damaged, discarded, location FROM part WHERE return_id = :r3;
SELECT line_no, shipped, returned FROM line WHERE order_id = :id;
SELECT version, fulfillment_status, return_status FROM status WHERE order_id = :id;
SELECT * FROM level;
UPDATE order_engine.order_return SET state = 'closed' WHERE return_id = :r3;
SELECT type, payload -> 'refund_amount' AS refund_amount FROM order_engine.outbox WHERE type = 'return.closed' ORDER BY id;
-- all that was shipped came back; then the rest is shipped
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT move('fulfillment', :f, 'ready', 'ship');
SELECT version, fulfillment_status, return_status FROM status WHERE order_id = :id;
SELECT * FROM order_engine.verify_stock();

-- a parcel that nobody accepts is not a return: what came back that way is not returned, and vice versa
SELECT order_engine.create_return(:id, '[{"line_no": 2, "quantity": 1}]', 'r') AS r \gset
SELECT move('fulfillment', :f, 'fail', 'restock');
SELECT version, fulfillment_status, return_status FROM status WHERE order_id = :id;
SELECT move('return', :r, 'approve');
SELECT try(format($$SELECT order_engine.transition('return', %s, 'receive')$$, :r));
SELECT event, allowed, reason FROM order_engine.allowed_events('return', :r) ORDER BY event;
SELECT move('return', :r, 'cancel');
SELECT try(format($$SELECT order_engine.create_return(%s, '[{"line_no": 2, "quantity": 1}]', 'r')$$, :id));
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT move('fulfillment', :f, 'ready', 'ship', 'fail');
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 1}]', 'r') AS r \gset
SELECT move('return', :r, 'approve', 'receive');
SELECT try(format($$SELECT order_engine.transition('fulfillment', %s, 'restock')$$, :f));
SELECT line_no, quantity, shipped, undelivered, returned FROM line WHERE order_id = :id;
SELECT * FROM order_engine.verify_stock();

-- of an order that is completed; its state stays, its version rises
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2, "unit_price": 0}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT move('fulfillment', :f, 'ready', 'ship', 'deliver');
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 2}]', 'r') AS r \gset
SELECT move('return', :r, 'approve'), order_engine.receive_return(:r, '[{"line_no": 1, "quantity": 2, "disposition": "discard"}]');
SELECT move('return', :r, 'close');
SELECT version, state, fulfillment_status, return_status FROM status WHERE order_id = :id;
SELECT seq, entity, event, from_state, to_state FROM event WHERE order_id = :id;

-- money: of a completed order, the price of what came, requested when it is closed
CREATE TEMP VIEW money AS
SELECT order_id, version, state, payment_status, return_status, total, captured_total, refunded_total, credited_total FROM order_engine.orders;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 3}, {"sku": "S", "quantity": 1}]', 'EUR', shipping => 4) AS id \gset
SELECT order_engine.record_payment(order_engine.request_payment(:id, 'capture'), 'success');
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT move('fulfillment', :f, 'ready', 'ship', 'deliver');
SELECT version, state, payment_status, captured_total FROM money WHERE order_id = :id;
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 2}]', 'r') AS r \gset
SELECT move('return', :r, 'approve'), order_engine.receive_return(:r, '[{"line_no": 1, "quantity": 1}, {"line_no": 1, "quantity": 1, "disposition": "discard"}]');
SELECT version, payment_status, refunded_total, credited_total FROM money WHERE order_id = :id;
SELECT order_engine.transition('return', :r, 'close', 'as agreed');
SELECT seq, entity, event, from_state, to_state, reason FROM event WHERE order_id = :id ORDER BY seq DESC LIMIT 2;
SELECT kind, state, amount, return_id = :r AS of_return, reason FROM order_engine.payment_transaction WHERE order_id = :id ORDER BY transaction_id;
SELECT order_engine.record_payment(transaction_id, 'success') FROM order_engine.payment_transaction WHERE order_id = :id AND kind = 'refund';
SELECT version, state, payment_status, return_status, total, captured_total, refunded_total, credited_total FROM money WHERE order_id = :id;
-- more than was paid: what was paid
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 1}]', 'r', 500) AS r \gset
SELECT move('return', :r, 'approve', 'receive', 'close');
SELECT refund_amount FROM order_engine.order_return WHERE return_id = :r;
SELECT kind, state, amount FROM order_engine.payment_transaction WHERE order_id = :id AND return_id = :r;
-- nothing at all
SELECT order_engine.create_return(:id, '[{"line_no": 2, "quantity": 1}]', 'r', 0) AS r \gset
SELECT move('return', :r, 'approve', 'receive', 'close');
SELECT count(*) FROM order_engine.payment_transaction WHERE order_id = :id AND return_id = :r;
-- on an invoice that was not paid: what came back need not be paid, and with the rest the order is complete
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 3}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT move('fulfillment', :f, 'ready', 'ship', 'deliver');
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 1}]', 'r') AS r \gset
SELECT move('return', :r, 'approve', 'receive', 'close');
SELECT version, state, payment_status, return_status, total, captured_total, refunded_total, credited_total FROM money WHERE order_id = :id;
SELECT order_engine.record_payment(order_engine.request_payment(:id, 'capture'), 'success');
SELECT version, state, payment_status, return_status, total, captured_total, refunded_total, credited_total FROM money WHERE order_id = :id;
SELECT * FROM order_engine.verify_stock();

-- arguments
SELECT try('SELECT order_engine.create_return(NULL, NULL, NULL)');
SELECT try('SELECT order_engine.create_return(1, NULL, NULL)');
SELECT try($$SELECT order_engine.create_return(1, NULL, 'r')$$);
SELECT try($$SELECT order_engine.create_return(987654321, '[{"line_no": 1, "quantity": 1}]', 'r')$$);
SELECT try('SELECT order_engine.receive_return(NULL)');
SELECT try('SELECT order_engine.receive_return(987654321)');
SELECT order_engine.place_order('c', '[{"sku": "S", "quantity": 5}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.create_fulfillment(:id) AS f \gset
SELECT move('fulfillment', :f, 'ready', 'ship');
SELECT items, try(format('SELECT order_engine.create_return(%s, %L, %L)', :id, items, 'r')) FROM unnest('{
	"[]", "{}", "[{\"line_no\": 1}]", "[{\"line_no\": 1, \"quantity\": -1}]", "[{\"line_no\": 1, \"quantity\": 1, \"disposition\": \"restock\"}]",
	"[{\"line_no\": 1, \"quantity\": 1, \"reason\": \"a\"}, {\"line_no\": 1, \"quantity\": 1, \"reason\": \"b\"}]"}'::text[]) AS items;
SELECT amount, try(format($$SELECT order_engine.create_return(%s, '[{"line_no": 1, "quantity": 1}]', 'r', %L)$$, :id, amount))
FROM unnest('{-1,1.001,NaN,Infinity}'::text[]) AS amount;
SELECT try(format($$SELECT order_engine.create_return(%s, '[{"line_no": 1, "quantity": 1}]', 'r', expected_version => 7)$$, :id));
-- duplicates
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 1}]', 'r', 1.0, idempotency_key => 'k') AS r \gset
SELECT order_engine.create_return(:id, '[{"line_no": 1, "quantity": 1}]', 'r', 1.00, idempotency_key => 'k') = :r AS same, order_engine.was_replayed();
SELECT try(format($$SELECT order_engine.create_return(%s, '[{"line_no": 1, "quantity": 2}]', 'r', 1, idempotency_key => 'k')$$, :id));
SELECT move('return', :r, 'approve');
SELECT order_engine.receive_return(:r, idempotency_key => 'v'), order_engine.receive_return(:r, idempotency_key => 'v'), order_engine.was_replayed();
SELECT version, return_status FROM status WHERE order_id = :id;

-- no gap in the sequence of any order
SELECT aggregateid FROM order_engine.outbox GROUP BY 1 HAVING count(*) <> max(aggregate_seq) OR min(aggregate_seq) <> 1;
SELECT * FROM order_engine.verify_stock();
