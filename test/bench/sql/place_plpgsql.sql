SELECT place('customer-' || :c::int, ARRAY['SKU-' || :a::int, 'SKU-' || :b::int, 'SKU-' || :d::int], ARRAY[1, 2, 1], 'EUR', :k::text);
