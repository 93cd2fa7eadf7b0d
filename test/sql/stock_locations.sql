-- Stock: the locations of a channel.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE FUNCTION taken(id bigint) RETURNS text LANGUAGE sql AS
$$SELECT string_agg(location || ' ' || quantity, ', ' ORDER BY location) FROM order_engine.reservation WHERE reservation_id = id$$;

SELECT order_engine.upsert_product('A', 'A', 1, 'EUR');
SELECT order_engine.upsert_location('east', 'East', priority => 10), order_engine.upsert_location('west', 'West', priority => 20),
	order_engine.upsert_location('north', 'North', priority => 30);
SELECT order_engine.adjust_stock('A', 'east', 4, 'r'), order_engine.adjust_stock('A', 'west', 4, 'r'), order_engine.adjust_stock('A', 'north', 4, 'r');

-- without rows all locations serve, by their own priority
SELECT taken(order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', channel => 'web'));
-- with rows only those, in their order; it splits, too
SELECT order_engine.set_channel_locations('web', '{north,east}');
SELECT * FROM order_engine.channel_location ORDER BY channel, priority;
BEGIN;
SELECT taken(order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', channel => 'web'));
SELECT taken(order_engine.place_order('c', '[{"sku": "A", "quantity": 5}]', 'EUR', channel => 'web'));
-- sold out for this channel, not for others; the error names no location
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR', channel => 'web')$$);
SELECT taken(order_engine.place_order('c', '[{"sku": "A", "quantity": 5}]', 'EUR', channel => 'store'));
ROLLBACK;
-- an item that names a location is served from there in any case; its neighbour is not
SELECT taken(order_engine.place_order('c', '[{"sku": "A", "quantity": 1, "location": "west"}, {"sku": "A", "quantity": 2}]', 'EUR', channel => 'web'));
-- the location of the order counts as that of its items
SELECT taken(order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', channel => 'web', location => 'west'));
-- reserve_stock knows channels, too
SELECT taken(order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', channel => 'web')),
	taken(order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', channel => 'store')),
	taken(order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]'));
-- the channel is part of the request
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', idempotency_key => 'k', channel => 'web') IS NOT NULL AS reserved;
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', idempotency_key => 'k')$$);
SELECT * FROM order_engine.verify_stock();

-- a new list takes the place of the old one; an empty one, or null, takes it away
SELECT order_engine.set_channel_locations('web', '{west}'), order_engine.set_channel_locations('store', '{east,west}');
SELECT * FROM order_engine.channel_location ORDER BY channel, priority;
SELECT order_engine.set_channel_locations('web', '{}'), order_engine.set_channel_locations('store', NULL);
SELECT * FROM order_engine.channel_location ORDER BY channel, priority;

-- arguments
SELECT attempt($$SELECT order_engine.set_channel_locations(NULL, '{east}')$$);
SELECT attempt($$SELECT order_engine.set_channel_locations('', '{east}')$$);
SELECT attempt($$SELECT order_engine.set_channel_locations('web', '{east,NULL}')$$);
SELECT attempt($$SELECT order_engine.set_channel_locations('web', '{east,east}')$$);
SELECT attempt($$SELECT order_engine.set_channel_locations('web', '{east,mars}')$$);
SELECT attempt($$SELECT order_engine.set_channel_locations('web', '{{east},{west}}')$$);
SELECT attempt($$SELECT order_engine.set_channel_locations('web', ARRAY[''])$$);
SELECT attempt($$SELECT order_engine.set_channel_locations('web', array_agg('l' || n)) FROM generate_series(1, 101) n$$);
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]', channel => '')$$);
SELECT count(*) FROM order_engine.channel_location;
DROP FUNCTION taken(bigint);
