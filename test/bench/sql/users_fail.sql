-- Two lines that could be had and one that is sold out: none of it may stay.
\set a random(1001, 3999)
\set d random(7000, 9999)
\set k random(1, 9000000000000000000)
SELECT must_fail('SKU-' || :a::int, 'SKU-' || :d::int, 'fail-' || :k::text);
