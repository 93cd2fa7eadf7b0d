-- An order takes over what a cart holds.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE TEMP VIEW held AS
SELECT CASE WHEN ref IS NULL THEN 'order' ELSE ref END AS holder, sku, location, quantity, state
FROM order_engine.reservation ORDER BY reservation_id, sku, location;
CREATE TEMP VIEW level AS SELECT sku, location, on_hand, reserved FROM order_engine.stock ORDER BY sku, location;

SELECT order_engine.upsert_product(sku, sku, 1, 'EUR') FROM unnest('{A,B,C}'::text[]) AS sku;
SELECT order_engine.upsert_product('U', 'Untracked', 1, 'EUR', tracked => false);
SELECT order_engine.upsert_location('east', 'East', priority => 10), order_engine.upsert_location('west', 'West', priority => 20);
SELECT order_engine.adjust_stock('A', 'west', 5, 'r'), order_engine.adjust_stock('B', 'west', 5, 'r'), order_engine.adjust_stock('C', 'west', 5, 'r');

-- all of A, a part of B, nothing of C; more of A than the cart has
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 3}, {"sku": "B", "quantity": 4}, {"sku": "C", "quantity": 5}]', 'cart 1') AS cart \gset
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 1}, {"sku": "A", "quantity": 4}, {"sku": "U", "quantity": 1}]', 'EUR', reservation_id => :cart) AS id \gset
SELECT * FROM held;
SELECT * FROM level;
SELECT reference_id = :cart AS of_cart, sku, kind, reserved_delta FROM order_engine.stock_movement
WHERE created_at = (SELECT max(created_at) FROM order_engine.stock_movement) ORDER BY sku, kind, reserved_delta;
SELECT * FROM order_engine.verify_stock();
-- once: the next order gets nothing from it
SELECT attempt(format($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR', reservation_id => %s)$$, :cart));
SELECT order_engine.release_stock(:cart);
SELECT order_engine.cancel_order(:id, 'r');
SELECT * FROM level;

-- what others could not have, the cart's owner gets: all is promised to the cart
BEGIN;
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 5}]', 'cart 2') AS cart \gset
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR')$$);
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 5}]', 'EUR', reservation_id => :cart) IS NOT NULL AS placed;
SELECT * FROM held WHERE sku = 'A' AND state = 'held';
SELECT * FROM order_engine.verify_stock();
ROLLBACK;

-- a shortage leaves the cart as it was
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 2}]', 'cart 3') AS cart \gset
SELECT attempt(format($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 6}]', 'EUR', reservation_id => %s)$$, :cart));
SELECT * FROM held WHERE holder = 'cart 3';
SELECT order_engine.release_stock(:cart);

-- an item that names a location takes from the cart what is held there
SELECT order_engine.adjust_stock('A', 'east', 2, 'r');
BEGIN;
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 6}]', 'cart 4') AS cart \gset
SELECT * FROM held WHERE holder = 'cart 4';
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 5, "location": "west"}]', 'EUR', reservation_id => :cart) AS id \gset
SELECT location, quantity FROM order_engine.reservation WHERE reservation_id = :id;
SELECT * FROM level WHERE sku = 'A';
SELECT * FROM order_engine.verify_stock();
ROLLBACK;
-- and what lies outside the locations of the channel is not taken over
BEGIN;
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 6}]', 'cart 5') AS cart \gset
SELECT order_engine.set_channel_locations('web', '{west}');
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 5}]', 'EUR', channel => 'web', reservation_id => :cart) AS id \gset
SELECT location, quantity FROM order_engine.reservation WHERE reservation_id = :id;
SELECT * FROM order_engine.verify_stock();
ROLLBACK;

-- past its limit the cart still has what nobody needed; what is gone is reserved anew
SELECT order_engine.reserve_stock('[{"sku": "B", "quantity": 4}, {"sku": "C", "quantity": 3}]', 'cart 6', ttl => '1 millisecond') AS cart \gset
SELECT pg_sleep(0.01);
SELECT order_engine.reserve_stock('[{"sku": "B", "quantity": 3}]', 'other') AS other \gset
SELECT * FROM held WHERE holder = 'cart 6';
SELECT attempt(format($$SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 4}, {"sku": "C", "quantity": 3}]', 'EUR', reservation_id => %s)$$, :cart));
SELECT order_engine.place_order('c', '[{"sku": "B", "quantity": 2}, {"sku": "C", "quantity": 3}]', 'EUR', reservation_id => :cart) AS id \gset
SELECT sku, quantity, state FROM order_engine.reservation WHERE reservation_id = :id ORDER BY sku;
SELECT * FROM held WHERE holder = 'cart 6';
SELECT * FROM order_engine.verify_stock();

-- the reservation is part of the request
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', 'cart 7') AS cart \gset
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', reservation_id => :cart, idempotency_key => 'k') AS id \gset
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', reservation_id => :cart, idempotency_key => 'k') = :id AS replayed;
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => 'k')$$);

-- errors
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', reservation_id => 0)$$);
SELECT regexp_replace(line, 'reservation \d+', 'reservation ID') AS line
FROM attempt(format($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', reservation_id => %s)$$, :id)) AS line;

-- a cart that needs no stock is a cart, too
SELECT order_engine.reserve_stock('[{"sku": "U", "quantity": 2}]', 'cart 8') AS cart \gset
SELECT holder, sku, location, quantity, state FROM held WHERE holder = 'cart 8';
SELECT order_engine.place_order('c', '[{"sku": "U", "quantity": 2}]', 'EUR', reservation_id => :cart) IS NOT NULL AS placed;
SELECT order_engine.release_stock(:cart);
SELECT * FROM order_engine.verify_stock();
