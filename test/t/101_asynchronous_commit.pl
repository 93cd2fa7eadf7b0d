
# Writers with synchronous_commit = off, and a server that crashes: commits that
# were answered are undone, but no event was ever received whose order does not
# exist afterwards.
#
# OE_LONG=1 does 30 rounds instead of three.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use OrderEngine::Crash;
use OrderEngine::KillPoint;
use OrderEngine::Receiver;
use Test::More;

my $rounds = $ENV{OE_LONG} ? 30 : 3;
my $node = OrderEngine->start_new('main', conf => q{
	fsync = on
	max_connections = 60
	log_statement = none
	autovacuum = off	# who writes WAL to disk does so for everybody
	order_engine.maintenance_interval = '1s'
});
my $receiver = OrderEngine::Receiver->new;
my @paths = ('shop');

$node->create_endpoint($receiver, 'shop', timeout => '1 minute', max_in_flight => 64,
	policy => { breaker_min_attempts => 10000 });

my $crash = OrderEngine::Crash->new($node, $receiver, paths => \@paths, durable => 0, pause => 0.1,
	settings => 'SET synchronous_commit = off');
my $point = OrderEngine::KillPoint->new($node, $receiver, \@paths);
my @points = ('worker, before it reads', 'postmaster', 'worker, at random');
my ($undone, $answered) = (0, 0);

# Every event of an order that was received: is the order there, and that far?
sub received_without_order
{
	my %highest;

	foreach ($receiver->_log_lines('/shop'))
	{
		my ($order, $sequence) = /"aggregatetype":"order","aggregateid":"(\d+)","sequence":(\d+)/ or next;
		$highest{$order} = $sequence if $sequence > ($highest{$order} // 0);
	}
	my $values = join(',', map { "($_, $highest{$_})" } keys %highest);

	return $node->safe_psql('postgres', qq{
		SELECT r.* FROM (VALUES $values) AS r (order_id, sequence)
		LEFT JOIN order_engine.orders o ON o.order_id = r.order_id
		LEFT JOIN order_engine.history h ON h.order_id = r.order_id AND h.seq = r.sequence
		WHERE o.order_id IS NULL OR o.version < r.sequence OR h.order_id IS NULL LIMIT 5});
}

foreach my $round (1 .. $rounds)
{
	my $name = $points[ $round % @points ];
	my $known = $receiver->stats('/shop')->{accepted};

	$crash->start;
	$receiver->wait_for('/shop', accepted => $known + 200);

	# it would save what the crash shall undo; a process that is stopped can be killed
	my $walwriter = $node->stop_walwriter;
	$point->hit($name, $walwriter);
	$point->wait_until_back;
	$crash->collect;

	# what is gone comes again with another id, and is not expected any more
	my ($gone, $all) = $crash->forget_undone;
	$undone += $gone;
	$answered += $all;
	$crash->settle;
	$crash->wait_until_received;

	my @faults = $crash->faults(thorough => 1);
	is(join("\n", @faults), '', "round $round, $name: what was received exists, what exists was received");
	my $missing = received_without_order();
	is($missing, '', 'with its order as far as the event says');
}
my $stats = $receiver->stats('/shop');
is($stats->{out_of_order}, 0, 'first deliveries are in order');
is($stats->{gaps}, 0, 'and leave nothing out');
diag("of $answered transactions that were answered in $rounds rounds $undone were undone by the crash;"
	  . " $stats->{unique} events were received");
cmp_ok($undone, '>', 0, 'the crashes do undo what is not on disk');
$node->stop;

done_testing();
