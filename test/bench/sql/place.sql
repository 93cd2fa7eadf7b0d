SELECT order_engine.place_order('customer-' || :c::int, jsonb_build_array(
	jsonb_build_object('sku', 'SKU-' || :a::int, 'quantity', 1),
	jsonb_build_object('sku', 'SKU-' || :b::int, 'quantity', 2),
	jsonb_build_object('sku', 'SKU-' || :d::int, 'quantity', 1)), 'EUR', idempotency_key => :k::text);
