-- Stock: slots, limits, safety stock, transfers, the sweep.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE TEMP VIEW level AS
SELECT sku, location, slot, on_hand, reserved, backorder_limit AS beyond, safety_stock AS safety FROM order_engine.stock ORDER BY sku, location, slot;
CREATE TEMP VIEW held AS SELECT ref, sku, location, slot, quantity, shipped, state FROM order_engine.reservation ORDER BY ref, sku, location, slot;

SELECT order_engine.upsert_product(sku, sku, 1, 'EUR') FROM unnest('{A,B,C,D,E}'::text[]) AS sku;
SELECT order_engine.upsert_location('east', 'East', priority => 10), order_engine.upsert_location('west', 'West', priority => 20);

-- split: what lies there is spread evenly, what is reserved stays where it is
SELECT order_engine.adjust_stock('A', 'east', 10, 'r');
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 2}]', 'a') AS a \gset
SELECT order_engine.set_slots('A', 'east', 4);
SELECT * FROM level;
SELECT * FROM held;
SELECT * FROM order_engine.verify_stock();
-- a need that no slot has enough for takes from several; all of it can be sold
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 5}]', 'b') AS b \gset
SELECT sum(quantity) FROM held WHERE ref = 'b';
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 4}]')$$);
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 3}]', 'c') AS c \gset
SELECT sum(on_hand) AS on_hand, sum(reserved) AS reserved FROM level;
-- merge: reservations move along
SELECT order_engine.set_slots('A', 'east', 2);
SELECT sum(on_hand) AS on_hand, sum(reserved) AS reserved, max(slot) FROM level;
SELECT ref, sum(quantity) FROM held GROUP BY ref ORDER BY ref;
SELECT * FROM order_engine.verify_stock();
SELECT order_engine.set_slots('A', 'east', 1);
SELECT * FROM level;
SELECT * FROM held;
SELECT * FROM order_engine.verify_stock();
SELECT kind, sum(on_hand_delta) AS on_hand, sum(reserved_delta) AS reserved FROM order_engine.stock_movement WHERE kind = 'move' GROUP BY kind;
-- and can be released and shipped from where they are now
SELECT order_engine.release_stock(:b), order_engine.release_stock(:c);
SELECT * FROM level;
-- what was lost in the slots that stay cannot be joined with what is still held
SELECT order_engine.set_slots('A', 'east', 2);
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 8}]', 'd') AS d \gset
SELECT * FROM held WHERE ref = 'd';
UPDATE order_engine.reservation SET state = 'released' WHERE ref = 'd' AND slot = 0;
SELECT regexp_replace(line, 'reservation \d+', 'reservation ID') AS line FROM attempt($$SELECT order_engine.set_slots('A', 'east', 1)$$) AS line;
SELECT order_engine.release_stock(:d);
SELECT order_engine.set_slots('A', 'east', 1);
-- an order whose reservation was moved is shipped
BEGIN;
SET LOCAL order_engine.order_machine = 'simple';
SELECT order_engine.set_slots('A', 'east', 8);
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 6}]', 'EUR', terms => 'invoice') AS id \gset
SELECT order_engine.transition('order', :id, 'pay');
SELECT order_engine.set_slots('A', 'east', 2);
SELECT order_engine.transition('order', :id, 'ship');
SELECT sum(quantity) AS quantity, sum(shipped) AS shipped, min(state) AS state FROM order_engine.reservation WHERE reservation_id = :id;
SELECT sum(on_hand) AS on_hand, sum(reserved) AS reserved FROM level;
SELECT order_engine.set_slots('A', 'east', 1);
SELECT * FROM order_engine.verify_stock();
COMMIT;
-- a stock row that does not exist is made, in slots; the most there are
SELECT order_engine.set_slots('B', 'default', 3), order_engine.set_slots('C', 'default', 1024);
SELECT * FROM level WHERE sku = 'B';
SELECT slots FROM order_engine.stock_level WHERE sku = 'C';
-- a delivery goes where the fewest are free
SELECT order_engine.adjust_stock('B', 'default', 7, 'r');
SELECT order_engine.reserve_stock('[{"sku": "B", "quantity": 3}]', 'e') AS e \gset
SELECT order_engine.adjust_stock('B', 'default', 4, 'r');
SELECT slot, on_hand - reserved AS free FROM level WHERE sku = 'B';
-- slots that were made by hand
INSERT INTO order_engine.stock (sku, location, slot) VALUES ('B', 'default', 7);
SELECT attempt($$SELECT order_engine.set_slots('B', 'default', 4)$$);
DELETE FROM order_engine.stock WHERE sku = 'B' AND slot = 7;

-- backorders over slots: spread; never below what is promised already
SELECT order_engine.set_backorder_limit('B', 'default', 8);
SELECT * FROM level WHERE sku = 'B';
SELECT order_engine.reserve_stock('[{"sku": "B", "quantity": 14}]', 'f') AS f \gset
SELECT sum(on_hand) AS on_hand, sum(reserved) AS reserved FROM level WHERE sku = 'B';
SELECT attempt($$SELECT order_engine.set_backorder_limit('B', 'default', 5)$$);
SELECT order_engine.set_backorder_limit('B', 'default', 6);
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "B", "quantity": 1}]')$$);
SELECT order_engine.set_slots('B', 'default', 1);
SELECT * FROM level WHERE sku = 'B';
SELECT order_engine.set_slots('B', 'default', 4);
SELECT sum(on_hand) AS on_hand, sum(reserved) AS reserved, sum(beyond) AS beyond FROM level WHERE sku = 'B';
SELECT * FROM order_engine.verify_stock();

-- safety stock is not promised, over all slots; more than there is only stops what is new
SELECT order_engine.adjust_stock('D', 'east', 10, 'r');
SELECT order_engine.set_safety_stock('D', 'east', 4);
SELECT on_hand, reserved, safety_stock, available FROM order_engine.stock_level WHERE sku = 'D';
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 7}]')$$);
SELECT order_engine.set_slots('D', 'east', 3);
SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 6}]', 'g') AS g \gset
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 1}]')$$);
SELECT order_engine.set_safety_stock('D', 'east', 100);
SELECT on_hand, reserved, safety_stock, available FROM order_engine.stock_level WHERE sku = 'D';
SELECT order_engine.release_stock(:g);
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 1}]')$$);
-- one slot may lack what another has too much of: the sum counts
SELECT order_engine.set_safety_stock('D', 'east', 6);
SELECT order_engine.adjust_stock('D', 'east', -3, 'r');
SELECT * FROM level WHERE sku = 'D';
SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 1}]', 'h') IS NOT NULL AS reserved;
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 1}]')$$);
-- safety stock reduces what may be promised beyond, too
SELECT order_engine.set_backorder_limit('D', 'east', 2);
SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 2}]', 'i') IS NOT NULL AS reserved;
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 1}]')$$);
SELECT on_hand, reserved, backorder_limit, safety_stock, available FROM order_engine.stock_level WHERE sku = 'D';

-- transfers: only what is not reserved
SELECT order_engine.adjust_stock('E', 'west', 10, 'r');
SELECT order_engine.reserve_stock('[{"sku": "E", "quantity": 4}]', 'j') IS NOT NULL AS reserved;
SELECT order_engine.transfer_stock('E', 'west', 'east', 6, 'nearer', 'k');
SELECT order_engine.transfer_stock('E', 'west', 'east', 6, 'nearer', 'k'), order_engine.was_replayed();
SELECT attempt($$SELECT order_engine.transfer_stock('E', 'west', 'east', 1, 'nearer')$$);
SELECT attempt($$SELECT order_engine.transfer_stock('E', 'default', 'east', 1, 'nearer')$$);
SELECT order_engine.transfer_stock('E', 'east', 'west', 1, 'back');
SELECT * FROM level WHERE sku = 'E';
SELECT location, kind, on_hand_delta, reason FROM order_engine.stock_movement WHERE sku = 'E' AND kind = 'move' ORDER BY created_at, location;

-- the sweep takes carts, not orders
SELECT order_engine.reserve_stock('[{"sku": "E", "quantity": 1}]', 'old ' || n, ttl => '1 millisecond') IS NOT NULL AS reserved FROM generate_series(1, 3) n;
SELECT order_engine.place_order('c', '[{"sku": "E", "quantity": 1}]', 'EUR', hold_for => '1 millisecond') AS id \gset
SELECT pg_sleep(0.01);
SELECT order_engine.expire_reservations(2), order_engine.expire_reservations(2), order_engine.expire_reservations(2);
SELECT ref, state FROM held WHERE ref LIKE 'old%';
SELECT state FROM order_engine.reservation WHERE reservation_id = :id;
SELECT * FROM order_engine.verify_stock();

-- repeated calls
SELECT order_engine.set_slots('E', 'east', 2, 'k1'), order_engine.set_slots('E', 'east', 2, 'k1'), order_engine.was_replayed();
SELECT attempt($$SELECT order_engine.set_slots('E', 'east', 3, 'k1')$$);
SELECT order_engine.set_safety_stock('E', 'east', 2, 'k2'), order_engine.set_safety_stock('E', 'east', 2, 'k2'), order_engine.was_replayed();
SELECT attempt($$SELECT order_engine.set_backorder_limit('E', 'east', 2, 'k2')$$);
SELECT order_engine.adjust_stock('E', 'east', 1, 'r', NULL, 'k3'), order_engine.adjust_stock('E', 'east', 1, 'r', NULL, 'k3'), order_engine.was_replayed();

-- arguments
SELECT attempt($$SELECT order_engine.set_slots('A', 'east', 0)$$);
SELECT attempt($$SELECT order_engine.set_slots('A', 'east', 1025)$$);
SELECT attempt($$SELECT order_engine.set_slots('A', 'east', NULL)$$);
SELECT attempt($$SELECT order_engine.set_slots('X', 'east', 1)$$);
SELECT attempt($$SELECT order_engine.set_slots('A', 'mars', 1)$$);
SELECT attempt($$SELECT order_engine.set_backorder_limit('A', 'east', -1)$$);
SELECT attempt($$SELECT order_engine.set_safety_stock('A', 'east', 1000000001)$$);
SELECT attempt($$SELECT order_engine.set_safety_stock('A', 'mars', 1)$$);
SELECT attempt($$SELECT order_engine.transfer_stock('A', 'east', 'east', 1, 'r')$$);
SELECT attempt($$SELECT order_engine.transfer_stock('A', 'east', 'west', 0, 'r')$$);
SELECT attempt($$SELECT order_engine.transfer_stock('A', 'east', 'mars', 1, 'r')$$);
SELECT attempt($$SELECT order_engine.transfer_stock('X', 'east', 'west', 1, 'r')$$);
SELECT attempt($$SELECT order_engine.transfer_stock('A', 'east', 'west', 1, NULL)$$);
SELECT attempt($$SELECT order_engine.expire_reservations(0)$$);
SELECT attempt($$SELECT order_engine.expire_reservations(NULL)$$);

-- what a slot has promised beyond what lies in it may lie in another one: it cannot be moved away
SELECT order_engine.upsert_product(sku, sku, 1, 'EUR') FROM unnest('{F,G}'::text[]) AS sku;
SELECT order_engine.adjust_stock('F', 'east', 10, 'r'), order_engine.set_slots('F', 'east', 2), order_engine.set_backorder_limit('F', 'east', 8);
SELECT order_engine.reserve_stock(jsonb_build_array(jsonb_build_object('sku', 'F', 'quantity', n))) IS NOT NULL AS held FROM unnest('{5,5,4}'::integer[]) n;
SELECT order_engine.release_stock(reservation_id) FROM order_engine.reservation WHERE sku = 'F' AND slot = 1;
SELECT * FROM level WHERE sku = 'F';
SELECT attempt($$SELECT order_engine.transfer_stock('F', 'east', 'west', 2, 'r')$$);
SELECT order_engine.transfer_stock('F', 'east', 'west', 1, 'r');
SELECT * FROM level WHERE sku = 'F';
-- how much can be taken away does not depend on the slots
SELECT order_engine.adjust_stock('G', 'east', 10, 'r'), order_engine.set_slots('G', 'east', 2), order_engine.set_backorder_limit('G', 'east', 10);
SELECT order_engine.reserve_stock('[{"sku": "G", "quantity": 5}]') AS g1, order_engine.reserve_stock('[{"sku": "G", "quantity": 10}]') AS g2 \gset
SELECT order_engine.release_stock(:g1);
SELECT on_hand, reserved, beyond FROM level WHERE sku = 'G' ORDER BY reserved;
SELECT attempt($$SELECT order_engine.adjust_stock('G', 'east', -11, 'r')$$);
SELECT order_engine.adjust_stock('G', 'east', -10, 'burnt');
SELECT on_hand, reserved, beyond FROM level WHERE sku = 'G' ORDER BY reserved;
SELECT kind, reason, sum(on_hand_delta) FROM order_engine.stock_movement WHERE sku = 'G' AND on_hand_delta <> 0 GROUP BY kind, reason ORDER BY kind, reason;
SELECT * FROM order_engine.verify_stock();
