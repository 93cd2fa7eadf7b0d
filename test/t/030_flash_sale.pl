
# A flash sale: 3,000 units of one SKU, 200 connections that want them all at once.
# Exactly 3,000 are sold, in one slot as in sixteen, and whoever gets nothing is
# told which line was short.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use PostgreSQL::Test::Utils;
use Test::More;

my $clients = 200;
my $units = 3000;
my $node = OrderEngine->start_new('main', worker => 0, conf => "max_connections = 250\n");

# The call of a shop that keeps what it was refused for.
$node->safe_psql('postgres', q{
	CREATE UNLOGGED TABLE refusal (sku text, sqlstate text, detail text);
	CREATE FUNCTION buy(sku text, quantity integer) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		detail text;
	BEGIN
		PERFORM order_engine.place_order('c', jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', quantity)), 'EUR');
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		INSERT INTO refusal VALUES (sku, SQLSTATE, detail);
	END$$;
});

sub deadlocks
{
	return $node->safe_psql('postgres', q{SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()});
}

foreach my $slots (1, 16)
{
	foreach my $quantity (1, 3)
	{
		my $what = "$slots slots, baskets of $quantity";
		my $sku = "ticket-$slots-$quantity";
		my $script = PostgreSQL::Test::Utils::tempdir() . '/buy.sql';
		# half as many again as there are baskets to be had
		my $each = $units * 3 / 2 / $quantity / $clients;

		$each = int($each) + 1 if $each != int($each);
		$node->safe_psql('postgres', qq{
			SELECT order_engine.upsert_product('$sku', 'Ticket', 1, 'EUR');
			SELECT order_engine.adjust_stock('$sku', 'default', $units, 'sale');
			SELECT order_engine.set_slots('$sku', 'default', $slots);
		});
		append_to_file($script, "SELECT buy('$sku', $quantity);\n");
		$node->command_ok(
			[ 'pgbench', '-n', '-M', 'prepared', '-c', $clients, '-j', 2, '-t', $each, '-f', $script,
			  '-h', $node->host, '-p', $node->port, 'postgres' ],
			"$what: " . $clients * $each . " calls from $clients connections");

		is($node->safe_psql('postgres', qq{
			SELECT sum(on_hand), sum(reserved), count(*) FROM order_engine.stock WHERE sku = '$sku'}),
			"$units|$units|$slots", "$what: every unit was sold, and none twice");
		is($node->safe_psql('postgres', qq{
			SELECT count(*), sum(quantity) FROM order_engine.order_line WHERE sku = '$sku'}),
			$units / $quantity . "|$units", "$what: the orders have them");
		is($node->safe_psql('postgres', qq{
			SELECT count(*), string_agg(DISTINCT sqlstate, ' ') FROM refusal WHERE sku = '$sku'}),
			$clients * $each - $units / $quantity . '|OE201', "$what: the others were told that it is sold out");
		is($node->safe_psql('postgres', qq{
			SELECT count(*) FROM refusal WHERE sku = '$sku'
			AND (detail::jsonb #- '{0,available}' <> '[{"sku": "$sku", "location": null, "requested": $quantity}]'
				OR NOT (detail::jsonb #>> '{0,available}')::int BETWEEN 0 AND $quantity - 1)}),
			0, "$what: each refusal names the line that was short");
		unlink $script;
	}
}

is($node->safe_psql('postgres', 'SELECT count(*) FROM order_engine.verify_stock()'), 0,
	'stock, reservations and ledger agree');
is(deadlocks(), 0, 'no deadlock');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|deadlock detected/, 'nothing bad in the log');
$node->stop;

done_testing();
