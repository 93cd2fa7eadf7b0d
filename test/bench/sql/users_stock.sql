-- How many there are.
\set a random(1001, 9999)
SELECT on_hand, reserved, available FROM order_engine.stock_level WHERE sku = 'SKU-' || :a::int;
