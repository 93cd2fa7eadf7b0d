\set n random(1, 2000)
SELECT place_once('customer', ARRAY['SKU-1001', 'SKU-4000', 'SKU-7000'], ARRAY[1, 2, 1], 'EUR', 'first-' || :n::int);
