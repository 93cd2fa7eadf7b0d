
# Duplicate calls from many connections: as many orders as keys.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = OrderEngine->start_new('main', worker => 0, conf => "max_connections = 100\n");

$node->safe_psql('postgres', q{
	SELECT order_engine.upsert_product('A', 'A', 1, 'EUR');
	SELECT order_engine.adjust_stock('A', 'default', 1000000, 'test');
	CREATE TABLE result (key text, order_id bigint, replayed boolean);
});

# Runs a script of pgbench with so many clients and transactions each.
sub pgbench
{
	my ($clients, $each, $text, $what) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir() . "/$what.sql";

	append_to_file($script, $text);
	$node->command_ok([ 'pgbench', '-n', '-c', $clients, '-j', 2, '-t', $each, '-f', $script,
		'-h', $node->host, '-p', $node->port, 'postgres' ], $what);
}

sub place
{
	my ($key) = @_;

	return qq{BEGIN;
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', idempotency_key => $key) AS id \\gset
INSERT INTO result VALUES ($key, :id, order_engine.was_replayed());
COMMIT;
};
}

# ---------- forty calls with one key

pgbench(40, 1, place(q{'one'}), 'forty calls at once with one key');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT order_id), count(*) FILTER (WHERE NOT replayed) FROM result}),
	'40|1|1', 'forty calls return one id, and one of them did the work');
is($node->safe_psql('postgres', q{SELECT
	(SELECT count(*) FROM order_engine.orders), (SELECT count(*) FROM order_engine.outbox),
	(SELECT count(*) FROM order_engine.history), (SELECT reserved FROM order_engine.stock)}),
	'1|1|1|1', 'one order, one event, one unit reserved');

# ---------- ten thousand calls with 500 keys

$node->safe_psql('postgres', 'TRUNCATE result');
pgbench(32, 313, "\\set k random(1, 500)\n" . place(q{'key-' || :k}), 'ten thousand calls over 32 connections');
is($node->safe_psql('postgres', q{SELECT count(*) FROM result}), 32 * 313, 'every call was answered');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM (SELECT key FROM result GROUP BY key HAVING count(DISTINCT order_id) <> 1) AS differing}),
	0, 'calls with one key got one id');
is($node->safe_psql('postgres', q{SELECT
	(SELECT count(DISTINCT key) FROM result) =
		(SELECT count(*) - 1 FROM order_engine.orders),
	(SELECT count(DISTINCT order_id) FROM result) = (SELECT count(*) - 1 FROM order_engine.orders),
	(SELECT count(*) FROM order_engine.outbox) = (SELECT count(*) FROM order_engine.orders),
	(SELECT reserved FROM order_engine.stock) = (SELECT count(*) FROM order_engine.orders)}),
	't|t|t|t', 'as many orders, events and reserved units as keys');
diag($node->safe_psql('postgres', q{SELECT count(DISTINCT key) || ' keys, ' || count(*) FILTER (WHERE replayed) || ' replays' FROM result}));
$node->stop;

done_testing();
