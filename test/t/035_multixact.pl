
# Two transactions have a row of stock: it names a MultiXactId then, which is a number
# of its own.  An order that waits for the row must not take it for the number of a
# transaction, here of one that has nothing to do with it and does not end.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use Test::More;

my $number = 1500;
my $node = OrderEngine->start_new('main', worker => 0, conf => "autovacuum = off\n");

$node->safe_psql('postgres', q{
	SELECT order_engine.upsert_product('A', 'A', 1, 'EUR');
	SELECT order_engine.adjust_stock('A', 'default', 5, 'delivery')});
$node->stop;
$node->command_ok([ 'pg_resetwal', '-m', "$number,1", '-D', $node->data_dir ], 'the next MultiXactId is set');
$node->start;
$node->safe_psql('postgres', qq{
	DO \$\$
	BEGIN
		WHILE pg_current_xact_id()::text::bigint < $number - 1 LOOP
			COMMIT;
		END LOOP;
	END\$\$});

my %session = map { $_ => $node->session } qw(stranger reader clerk);
$session{stranger}->query('BEGIN');
is($session{stranger}->query('SELECT pg_current_xact_id()'), $number, 'a transaction has the number');
$session{reader}->query('BEGIN; SELECT 1 FROM order_engine.stock FOR KEY SHARE');
$session{clerk}->query('BEGIN; SELECT 1 FROM order_engine.stock FOR NO KEY UPDATE');
is($node->value('SELECT xmax FROM order_engine.stock'), $number, 'the row of stock has it, too');

my $shop = IPC::Run::start(
	[
		'psql', '-X', '-q', '-d', $node->connstr('postgres'),
		'-c', q{SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR')}
	],
	'<', \undef, '>', \my $out, '2>', \my $err);
$node->wait_for_value('SELECT count(*) > 0 FROM pg_locks WHERE NOT granted', 't');
$session{clerk}->query('ROLLBACK');
$node->wait_for_value('SELECT count(*) FROM order_engine.orders', 1);
ok($shop->finish, 'the order waited for the row, not for the stranger');
$session{stranger}->query('ROLLBACK');
$session{reader}->query('ROLLBACK');
$node->stop;

done_testing();
