-- An order, which the scripts that follow then pay, look at and ship.
\set c random(1, 100000)
\set a random(1001, 3999)
\set b random(4000, 6999)
\set d random(7000, 9999)
\set k random(1, 9000000000000000000)
SELECT order_engine.place_order('customer-' || :c::int, jsonb_build_array(
	jsonb_build_object('sku', 'SKU-' || :a::int, 'quantity', 1),
	jsonb_build_object('sku', 'SKU-' || :b::int, 'quantity', 2),
	jsonb_build_object('sku', 'SKU-' || :d::int, 'quantity', 1)), 'EUR',
	terms => 'invoice', idempotency_key => :k::text) AS mine \gset
\set stage 0
