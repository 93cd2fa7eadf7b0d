-- Stock: adjustments, reservations, locations, slots, expiry.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE TEMP VIEW level AS
SELECT sku, location, slot, on_hand, reserved, backorder_limit FROM order_engine.stock ORDER BY sku COLLATE "C", location COLLATE "C", slot;

SELECT order_engine.upsert_product(sku, sku, 1, 'EUR') FROM unnest('{A,B,C,D,E}'::text[]) AS sku;
SELECT order_engine.upsert_location('east', 'East', 'north', 10), order_engine.upsert_location('west', 'West', priority => 20),
	order_engine.upsert_location('south', 'South', priority => 20);
SELECT order_engine.upsert_location('east', 'The East', priority => 10);
SELECT location, name, region, priority FROM order_engine.location ORDER BY priority, location;

-- adjustments
SELECT order_engine.adjust_stock('A', 'default', 10, 'delivery');
SELECT order_engine.adjust_stock('A', 'default', -4, 'broken', expected_on_hand => 10);
SELECT order_engine.adjust_stock('A', 'default', 0, 'counted', expected_on_hand => 6);
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', 1, 'r', expected_on_hand => 10)$$);
-- the location "default" is made on first use, and is the user's from then on
SELECT location, name, region, priority FROM order_engine.location WHERE location = 'default';
BEGIN;
SELECT order_engine.upsert_location('default', 'Warehouse', 'south', 7);
SELECT order_engine.adjust_stock('A', 'default', 0, 'counted');
SELECT location, name, region, priority FROM order_engine.location WHERE location = 'default';
ROLLBACK;
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', -7, 'r')$$);
SELECT attempt($$SELECT order_engine.adjust_stock('B', 'default', -1, 'r')$$);
SELECT on_hand_delta, reserved_delta, kind, reason, reference_id FROM order_engine.stock_movement ORDER BY created_at;

-- what is reserved cannot be taken away
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 4}]', 'cart 1') AS cart1 \gset
SELECT attempt($$SELECT order_engine.adjust_stock('A', 'default', -3, 'r')$$);
SELECT order_engine.adjust_stock('A', 'default', -2, 'r');
SELECT sku, quantity, state, ref FROM order_engine.reservation WHERE reservation_id = :cart1;
-- a reservation is given back once
SELECT order_engine.release_stock(:cart1, 'left'), order_engine.release_stock(:cart1, 'left');
SELECT * FROM level;
SELECT reserved_delta, kind, reason FROM order_engine.stock_movement WHERE reference_id = :cart1 ORDER BY created_at, reserved_delta DESC;

-- every short line in one error; lines of one SKU count together
SELECT order_engine.adjust_stock('B', 'default', 5, 'delivery');
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 3}, {"sku": "A", "quantity": 5}, {"sku": "B", "quantity": 3}, {"sku": "C", "quantity": 1}]', 'EUR')$$);
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 3}, {"sku": "A", "quantity": 4}, {"sku": "B", "quantity": 2}]', 'EUR') AS id1 \gset
SELECT * FROM level;
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 1}]', 'EUR')$$);
SELECT order_engine.cancel_order(:id1, 'test');

-- locations: the one that is named, else by priority, then the fullest; split where one is not enough
SELECT order_engine.adjust_stock('C', 'east', 2, 'r'), order_engine.adjust_stock('C', 'south', 4, 'r'), order_engine.adjust_stock('C', 'west', 6, 'r');
BEGIN;
SELECT order_engine.reserve_stock('[{"sku": "C", "quantity": 2}]') AS r \gset
SELECT location, quantity FROM order_engine.reservation WHERE reservation_id = :r ORDER BY 1;
SELECT order_engine.reserve_stock('[{"sku": "C", "quantity": 3}]') AS r \gset
SELECT location, quantity FROM order_engine.reservation WHERE reservation_id = :r ORDER BY 1;
SELECT order_engine.reserve_stock('[{"sku": "C", "quantity": 6}]') AS r \gset
SELECT location, quantity FROM order_engine.reservation WHERE reservation_id = :r ORDER BY 1;
SELECT * FROM level WHERE sku = 'C';
ROLLBACK;
-- named and not named in one call: the named ones first
BEGIN;
SELECT order_engine.reserve_stock('[{"sku": "C", "quantity": 9}, {"sku": "C", "quantity": 2, "location": "west"}, {"sku": "C", "quantity": 1, "location": "east"}]') AS r \gset
SELECT location, quantity FROM order_engine.reservation WHERE reservation_id = :r ORDER BY 1;
ROLLBACK;
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "C", "quantity": 9}, {"sku": "C", "quantity": 3, "location": "east"}, {"sku": "C", "quantity": 3, "location": "west"}]')$$);
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "C", "quantity": 3, "location": "east"}]')$$);

-- backorders: what lies there goes first, in all locations, then what may be promised
SELECT order_engine.set_backorder_limit('C', 'east', 5);
BEGIN;
SELECT order_engine.reserve_stock('[{"sku": "C", "quantity": 13}]') AS r \gset
SELECT location, quantity FROM order_engine.reservation WHERE reservation_id = :r ORDER BY 1;
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "C", "quantity": 5}]')$$);
SELECT sku, location, on_hand, reserved, backorder_limit, available FROM order_engine.stock_level WHERE sku = 'C' ORDER BY location;
-- delivered goods fill the promise; what is promised cannot be taken away
SELECT attempt($$SELECT order_engine.adjust_stock('C', 'east', -3, 'r')$$);
SELECT order_engine.adjust_stock('C', 'east', -2, 'r');
SELECT attempt($$SELECT order_engine.adjust_stock('C', 'east', -1, 'r')$$);
SELECT * FROM order_engine.verify_stock();
ROLLBACK;

-- slots: one is enough for a small need, a large one takes from several
INSERT INTO order_engine.stock (sku, location, slot) SELECT 'D', 'default', n FROM generate_series(0, 3) n;
SELECT order_engine.adjust_stock('D', 'default', 2, 'r') FROM generate_series(1, 8);
SELECT * FROM level WHERE sku = 'D';
BEGIN;
SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 3}]') AS r \gset
SELECT count(*), sum(quantity) FROM order_engine.reservation WHERE reservation_id = :r;
SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 10}]') AS r \gset
SELECT sum(quantity) FROM order_engine.reservation WHERE reservation_id = :r;
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 4}]')$$);
SELECT order_engine.reserve_stock('[{"sku": "D", "quantity": 3}]') IS NOT NULL AS reserved;
SELECT * FROM level WHERE sku = 'D';
SELECT on_hand, reserved, available FROM order_engine.stock_level WHERE sku = 'D';
SELECT order_engine.release_stock(:r);
SELECT order_engine.adjust_stock('D', 'default', -10, 'r', expected_on_hand => 16);
SELECT * FROM order_engine.verify_stock();
ROLLBACK;

-- expired reservations are taken back when their units are needed, not before
SELECT order_engine.adjust_stock('E', 'default', 3, 'r'), order_engine.adjust_stock('E', 'west', 1, 'r');
SELECT order_engine.reserve_stock('[{"sku": "E", "quantity": 2, "location": "default"}]', ttl => '1 millisecond') AS expired \gset
SELECT order_engine.reserve_stock('[{"sku": "E", "quantity": 1, "location": "west"}]', ttl => '1 millisecond') AS expired_west \gset
SELECT order_engine.place_order('c', '[{"sku": "E", "quantity": 1}]', 'EUR', terms => 'invoice', hold_for => '1 hour') AS holding \gset
SELECT pg_sleep(0.01);
SELECT state FROM order_engine.reservation WHERE reservation_id = :expired;
SELECT order_engine.reserve_stock('[{"sku": "E", "quantity": 2, "location": "default"}]') AS taker \gset
SELECT reservation_id = :expired AS expired_one, state FROM order_engine.reservation WHERE sku = 'E' AND location = 'default' ORDER BY state, 1;
SELECT state AS in_the_west FROM order_engine.reservation WHERE reservation_id = :expired_west;
SELECT * FROM level WHERE sku = 'E';
SELECT kind, on_hand_delta, reserved_delta FROM order_engine.stock_movement WHERE reference_id = :expired ORDER BY created_at, kind;
SELECT order_engine.release_stock(:expired);
-- still too little: the error says what there is, and undoes the taking back
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "E", "quantity": 2}]')$$);
SELECT state AS in_the_west FROM order_engine.reservation WHERE reservation_id = :expired_west;
SELECT * FROM order_engine.verify_stock();

-- an order that lost its stock can be cancelled but not confirmed
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 4}]', 'EUR', terms => 'invoice', hold_for => '1 millisecond') AS late \gset
SELECT pg_sleep(0.01);
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 4}]', 'EUR', terms => 'invoice') AS early \gset
\set VERBOSITY sqlstate
SELECT order_engine.transition('order', :late, 'confirm');
\set VERBOSITY terse
SELECT order_engine.transition('order', :early, 'confirm');
SELECT state, expires_at FROM order_engine.reservation WHERE reservation_id = :early;
SELECT order_engine.cancel_order(:late, 'too late');
SELECT * FROM level WHERE sku = 'A';
SELECT * FROM order_engine.verify_stock();

-- reservations of orders are not released by hand
SELECT regexp_replace(line, 'reservation \d+', 'reservation ID') AS line
FROM attempt(format('SELECT order_engine.release_stock(%s)', :early)) AS line;

-- shipping takes the units out of the house
BEGIN;
SET LOCAL order_engine.order_machine = 'simple';
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 2}]', 'EUR', terms => 'invoice') AS shipped \gset
COMMIT;
SELECT order_engine.transition('order', :shipped, 'pay'), order_engine.transition('order', :shipped, 'ship');
SELECT state, quantity FROM order_engine.reservation WHERE reservation_id = :shipped;
SELECT kind, on_hand_delta, reserved_delta FROM order_engine.stock_movement WHERE reference_id = :shipped ORDER BY created_at;
SELECT * FROM level WHERE sku = 'B';
SELECT * FROM order_engine.verify_stock();

-- what the verification finds when somebody goes behind the triggers
BEGIN;
ALTER TABLE order_engine.stock DISABLE TRIGGER USER;
ALTER TABLE order_engine.reservation DISABLE TRIGGER USER;
UPDATE order_engine.stock SET on_hand = on_hand + 1, reserved = reserved + 1 WHERE sku = 'A';
UPDATE order_engine.reservation SET state = 'released' WHERE reservation_id = :early;
UPDATE order_engine.reservation SET shipped = 5 WHERE reservation_id = :shipped;
DELETE FROM order_engine.stock WHERE sku = 'B';
SELECT * FROM order_engine.verify_stock();
-- and what a verb says that runs into it
UPDATE order_engine.stock SET reserved = 0 WHERE sku = 'E' AND location = 'default';
SELECT attempt(format('SELECT order_engine.release_stock(%s)', :taker));
ROLLBACK;
