
# The events of an order arrive in the order of its versions, whatever the order
# in which transactions began, and whoever is killed.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use OrderEngine::Receiver;
use Test::More;

my $node = OrderEngine->start_new('main',
	conf => "order_engine.order_machine = 'simple'");
my $receiver = OrderEngine::Receiver->new;
my $place = q{SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 1}]', 'EUR', terms => 'invoice')};
my @events = qw(pay ship deliver);

$node->safe_psql('postgres',
	q{SELECT order_engine.upsert_product('TEA', 'Green tea', 4.50, 'EUR', tracked => false)});
$node->create_endpoint($receiver, 'shop', event_types => ['order.*']);
$node->create_endpoint($receiver, 'some', event_types => [ 'order.placed', 'order.delivered' ]);

sub check_path
{
	my ($path, $what) = @_;
	my $stats = $receiver->stats($path);

	is("$stats->{out_of_order} $stats->{overlaps}",
		'0 0', "$what: in order and one at a time");
	return $stats;
}

#
# The transactions began in another order than that in which they took their turn
#
my $accepted = 0;
my $orders = 0;

foreach my $together (0, 1)
{
	my $what = $together ? 'all in one read' : 'in many reads';

	$node->call('pause_endpoint', { name => $_ }) foreach $together ? qw(shop some) : ();
	foreach my $order ([ 0, 1, 2 ], [ 2, 1, 0 ], [ 1, 2, 0 ], [ 1, 0, 2 ], [ 0, 2, 1 ], [ 2, 0, 1 ])
	{
		my @sessions = map { $node->session } @events;
		my $id;

		# each has its transaction id before there is an order
		$sessions[$_]->query('BEGIN; SELECT pg_current_xact_id()') foreach @$order;
		$id = $node->value($place);
		foreach my $i (0 .. $#events)
		{
			$sessions[$i]->query("SELECT order_engine.transition('order', $id, '$events[$i]')");
			$sessions[$i]->query('COMMIT');
			$sessions[$i]->quit;
		}
		$accepted += 4;
		$orders++;
	}
	$node->call('resume_endpoint', { name => $_ }) foreach $together ? qw(shop some) : ();
	is($receiver->wait_for('/shop', accepted => $accepted)->{gaps}, 0, "$what: no gap");
	check_path('/shop', $what);
	$receiver->wait_for('/some', accepted => 2 * $orders);
	check_path('/some', "$what, an endpoint that wants some of them");
}
cmp_ok($node->value('SELECT count(after_txid) FROM order_engine.outbox'),
	'>', 0, 'later events had lower transaction ids');

#
# Sessions that fight for the same orders, with a crash in between
#
my $many = 200;
my @writers = map { $node->session } 1 .. 4;
$node->safe_psql('postgres', qq{
	CREATE TABLE mine AS SELECT i, (
		SELECT order_engine.place_order('c' || i, '[{"sku": "TEA", "quantity": 1}]', 'EUR', terms => 'invoice')) AS id
	FROM generate_series(1, $many) i;
	CREATE PROCEDURE fight() LANGUAGE plpgsql AS \$\$
	DECLARE
		mine record;
	BEGIN
		WHILE EXISTS (SELECT FROM order_engine.orders WHERE state <> 'delivered') LOOP
			FOR mine IN SELECT id FROM mine ORDER BY random() LIMIT 20 LOOP
				PERFORM pg_current_xact_id();
				BEGIN
					PERFORM order_engine.transition('order', mine.id,
						CASE state WHEN 'pending' THEN 'pay' WHEN 'paid' THEN 'ship' ELSE 'deliver' END)
					FROM order_engine.orders WHERE order_id = mine.id AND state <> 'delivered';
				EXCEPTION WHEN SQLSTATE 'OE001' THEN NULL;	-- another one was faster
				END;
				COMMIT;
			END LOOP;
		END LOOP;
	END \$\$});
$_->send('CALL fight()') foreach @writers;
$accepted += 4 * $many;
$receiver->wait_for('/shop', accepted => $accepted - 3 * $many);
$node->kill_worker;
$node->wait_until_up;
$_->quit foreach @writers;
@writers = map { $node->session } 1 .. 4;
$_->send('CALL fight()') foreach @writers;
foreach my $writer (@writers)
{
	is($writer->receive, '', 'a writer is done') or diag($writer->error);
	$writer->quit;
}
my $stats = $receiver->wait_for('/shop', accepted => $accepted);
check_path('/shop', 'many sessions');
is($stats->{gaps}, 0, 'many sessions: no gap');
is($stats->{unverified}, 0, 'all are signed');
diag(sprintf('%d events, %d with a transaction id below that of their predecessor, %d duplicates',
	$stats->{unique}, $node->value('SELECT count(after_txid) FROM order_engine.outbox'),
	$stats->{duplicates}));
$orders += $many;
$receiver->wait_for('/some', accepted => 2 * $orders);
check_path('/some', 'many sessions, an endpoint that wants some of them');
is( join(' ', sort { $a cmp $b } $node->emitted),
	join(' ', sort { $a cmp $b } keys %{ { map { $_ => 1 } $receiver->ids('/shop') } }),
	'each event of the outbox was received, and no other');
$node->stop;

done_testing();
