
# The views of analysts run on a hot standby and show there what they show on
# the primary.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = OrderEngine->start_new('main', conf => "wal_level = replica\nmax_wal_senders = 5\n");

$node->safe_psql('postgres', q{
	SELECT order_engine.upsert_product('A', 'A', 1, 'EUR'), order_engine.adjust_stock('A', 'default', 10, 'test');
	SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR', terms => 'invoice') AS id \gset
	SELECT order_engine.transition('order', :id, 'confirm');
	SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 3}]', 'EUR');
	CREATE ROLE analyst LOGIN;
	SELECT order_engine.grant_access('analyst', 'viewer');
});
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);

my @views = split /\n/, $node->safe_psql('postgres',
	q{SELECT object FROM order_engine.access_rule WHERE level = 'viewer' AND kind = 'table' ORDER BY object COLLATE "C"});
cmp_ok(scalar @views, '>', 10, 'there are views');

# ages go on between two questions
my %age = (reservation_aging => "- 'oldest_age'", stuck_orders => "- 'age'", payment_reconciliation => "- 'age'");

for my $view (@views)
{
	my $age = $age{$view} // '';
	my $sql = "SET ROLE analyst; SELECT to_jsonb(v) $age FROM order_engine.$view v ORDER BY 1";

	is($standby->safe_psql('postgres', $sql), $node->safe_psql('postgres', $sql), $view);
}
is($standby->safe_psql('postgres', 'SELECT count(*) FROM order_engine.verify_orders()'), '0', 'verify_orders');
is($standby->safe_psql('postgres', 'SELECT sum(units) FROM order_engine.sales_daily'), '5', 'the orders are there');

done_testing();
