\set n random(1, 2000)
SELECT order_engine.place_order('customer', '[{"sku": "SKU-1001", "quantity": 1}, {"sku": "SKU-4000", "quantity": 2}, {"sku": "SKU-7000", "quantity": 1}]',
	'EUR', idempotency_key => 'first-' || :n::int);
