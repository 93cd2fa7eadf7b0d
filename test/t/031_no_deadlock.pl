
# Baskets of three SKUs out of twenty, in any order, from 32 connections, with the
# administrator and maintenance at work on the same stock: nobody deadlocks, nothing
# gets lost. A deadlock is looked for early, so that not even a short one is missed.
# OE_LONG=1 in the environment makes it a minute.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use PostgreSQL::Test::Utils;
use Test::More;

my $clients = 32;
my $seconds = $ENV{OE_LONG} ? 60 : 10;
my $node = OrderEngine->start_new('main', worker => 0, conf => "deadlock_timeout = '10 ms'\n");
my $dir = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('postgres', q{
	SELECT count(order_engine.upsert_product('sku-' || n, 'Product', 1, 'EUR')) FROM generate_series(1, 20) n;
	SELECT count(order_engine.adjust_stock('sku-' || n, 'default', 100000, 'start')) FROM generate_series(1, 20) n;
	CREATE UNLOGGED TABLE failure (verb text, sqlstate text, message text);
	-- three SKUs in the order in which they were drawn
	CREATE FUNCTION basket() RETURNS jsonb LANGUAGE sql VOLATILE AS
	$$SELECT jsonb_agg(jsonb_build_object('sku', 'sku-' || n, 'quantity', 1)) FROM
		(SELECT n FROM generate_series(1, 20) n ORDER BY random() LIMIT 3) drawn$$;
	CREATE FUNCTION shop(verb text, id bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
	BEGIN
		CASE verb
			WHEN 'cart' THEN RETURN order_engine.reserve_stock(basket(), 'cart', ttl => '1 second');
			WHEN 'place' THEN RETURN order_engine.place_order('c', basket(), 'EUR', hold_for => '1 second', reservation_id => id);
			WHEN 'cancel' THEN PERFORM order_engine.cancel_order(id, 'changed my mind');
		END CASE;
		RETURN 0;
	EXCEPTION
		WHEN SQLSTATE 'OE001' THEN
			RETURN 0;		-- maintenance was faster: it has expired
		WHEN OTHERS THEN
			INSERT INTO failure VALUES (verb, SQLSTATE, SQLERRM);
			RETURN 0;
	END$$;
	CREATE FUNCTION administer() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		sku text := 'sku-' || 1 + floor(random() * 20);
		verb text := (ARRAY['adjust', 'slots', 'safety', 'sweep'])[1 + floor(random() * 4)];
	BEGIN
		CASE verb
			WHEN 'adjust' THEN PERFORM order_engine.adjust_stock(sku, 'default', 1, 'found');
			WHEN 'slots' THEN PERFORM order_engine.set_slots(sku, 'default', 1 + floor(random() * 6)::integer);
			WHEN 'safety' THEN PERFORM order_engine.set_safety_stock(sku, 'default', floor(random() * 10)::integer);
			WHEN 'sweep' THEN PERFORM order_engine.expire_reservations(100);
		END CASE;
	EXCEPTION WHEN OTHERS THEN
		INSERT INTO failure VALUES (verb, SQLSTATE, SQLERRM);
	END$$;
});

# Each verb in a transaction of its own: who locks the rows of two baskets one after
# the other cannot have them in order.
append_to_file("$dir/place.sql", "SELECT shop('place');\n");
append_to_file("$dir/cart.sql", "SELECT shop('cart') AS id \\gset\nSELECT shop('place', :id);\n");
append_to_file("$dir/cancel.sql", "SELECT shop('place') AS id \\gset\nSELECT shop('cancel', :id);\n");
append_to_file("$dir/administer.sql", "SELECT administer();\n");
append_to_file("$dir/maintain.sql", "SELECT order_engine.run_maintenance(60, '20 milliseconds');\n");
$node->command_ok(
	[ 'pgbench', '-n', '-M', 'prepared', '-c', $clients, '-j', 2, '-T', $seconds,
	  '-f', "$dir/place.sql\@60", '-f', "$dir/cart.sql\@20", '-f', "$dir/cancel.sql\@20",
	  '-f', "$dir/administer.sql\@2", '-f', "$dir/maintain.sql\@2",
	  '-h', $node->host, '-p', $node->port, 'postgres' ],
	"$clients connections shop for $seconds seconds");

diag($node->safe_psql('postgres', q{
	SELECT (SELECT count(*) FROM order_engine.orders) || ' orders, ' || count(*) || ' movements' FROM order_engine.stock_movement}));
is($node->safe_psql('postgres', q{
	SELECT verb, sqlstate, message, count(*) FROM failure GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 10}), '', 'no call failed');
is($node->safe_psql('postgres', q{SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()}), 0,
	'the server saw no deadlock');
is($node->safe_psql('postgres', 'SELECT count(*) FROM order_engine.verify_stock()'), 0,
	'stock, reservations and ledger agree');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM (SELECT sku, min(slot), max(slot) + 1 - count(*) FROM order_engine.stock GROUP BY sku) s (sku, first, gap)
	WHERE first <> 0 OR gap <> 0}), 0, 'slots are numbered without a gap');
$node->stop;

done_testing();
