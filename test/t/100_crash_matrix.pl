
# Every process of the server is killed, at every moment that matters, while 32
# writers do what applications do. Whatever is killed: what was committed is
# received, in order, what was rolled back never is, few events come twice, and
# orders, stock, history and events agree.
#
# OE_LONG=1 does 100 rounds instead of one for each moment; OE_ROUNDS is another
# number, OE_POINT a pattern that chooses moments, OE_SEED repeats the order.

use strict;
use warnings FATAL => 'all';

use List::Util qw(max shuffle sum0);
use OrderEngine qw(percentile poll_until);
use OrderEngine::Crash;
use OrderEngine::KillPoint;
use OrderEngine::Receiver;
use Test::More;

my $chosen = $ENV{OE_POINT} // '';
my @points = grep { /$chosen/ } OrderEngine::KillPoint::names();
my $rounds = $ENV{OE_ROUNDS} // ($ENV{OE_LONG} ? 100 : scalar @points);
my $seed = $ENV{OE_SEED} // int(rand(1_000_000));

srand($seed);
diag("seed $seed");

my $node = OrderEngine->start_new('main', conf => q{
	fsync = on
	max_connections = 60
	log_statement = none
	order_engine.maintenance_interval = '1s'
	order_engine.poll_interval = '1s'
});
my $receiver = OrderEngine::Receiver->new;

#
# Endpoints: all get everything
#
my %patient = (policy => { breaker_min_attempts => 10000 },
	retry_schedule => [ '0', ('200 ms') x 60 ], timeout => '1 minute');
my %endpoints = (
	ordered => {},
	free => { ordering => 'none', max_in_flight => 32 },
	fickle => {},
	batch => { max_batch => 8, max_batch_delay => '10 ms', max_in_flight => 8 },
);
my @paths = sort keys %endpoints;

# of all endpoints together: what was under way, and the results that one
# acknowledgement would have made durable
my $bound = $OrderEngine::Crash::flush_results;
$bound += ($_->{max_in_flight} // 16) * ($_->{max_batch} // 1) foreach values %endpoints;

$node->create_endpoint($receiver, $_, %patient, %{ $endpoints{$_} }) foreach @paths;

sub usual_rules
{
	$receiver->rules(
		{ path => '/fickle', type => 'order.cancelled', status => 500, attempts => 2 },
		{ path => '/fickle', type => 'note.placed', status => 500, attempts => 1 },
		map { { path => "/$_", delay_ms => [ 0, 20 ] } } @paths);
	return;
}

my $crash = OrderEngine::Crash->new($node, $receiver, paths => \@paths);
my $point = OrderEngine::KillPoint->new($node, $receiver, \@paths);

$point->{rules} = \&usual_rules;
usual_rules();

sub repeated
{
	return { map { $_ => $receiver->stats("/$_")->{repeated} } @paths };
}

#
# Rounds
#
my (%table, @order);
my $orphans = 0;

push @order, shuffle(@points) while @order < $rounds;
foreach my $round (1 .. $rounds)
{
	my $name = $order[ $round - 1 ];
	my $row = $table{$name} //= { rounds => 0, committed => 0, received => 0, lost => 0, recovery => [], own => [] };
	my $start = $receiver->stats('/ordered')->{accepted};
	my $known = keys %{ $crash->{committed} };

	$crash->start;
	$receiver->wait_for('/ordered', accepted => $start + 100 + int(rand(200)));
	$crash->read_log;
	my $before = repeated();
	my $seen = keys %{ $crash->{seen}{ordered} };
	my $at = $point->hit($name);
	my $back = $point->wait_until_back;

	$orphans = max($orphans, delete $point->{orphans} // 0);
	$crash->collect;
	my ($doubtful, $committed) = $crash->settle;
	$crash->wait_until_received;

	my ($first) = sort { $a <=> $b } map { $_->[0] } grep { $_->[0] >= $back } $crash->read_log;
	my $after = repeated();
	my @faults = $crash->faults(thorough => $round == $rounds || $round % 20 == 0);
	my %repeated = map { $_ => $after->{$_} - $before->{$_} } @paths;
	my $repeated = sum0(values %repeated);

	note(sprintf('round %d, %s: %d in doubt, %d of them committed; back after %.2f s; again: %s', $round, $name,
		$doubtful, $committed, $first - $at, join(', ', map { "$_ $repeated{$_}" } @paths)));
	is(join("\n", @faults), '', "round $round, $name: nothing is lost, undone or at odds");
	cmp_ok($repeated, '<=', $bound, 'duplicates are bounded');
	cmp_ok($repeated, '>', 0, 'what was answered is sent again') if $name eq 'worker, after the answer';

	$row->{rounds}++;
	$row->{committed} += keys(%{ $crash->{committed} }) - $known;
	$row->{received} += $receiver->stats('/ordered')->{accepted} - $start;
	$row->{lost} += $crash->{lost}{$_} foreach @paths;
	$row->{most} = max($row->{most} // 0, $repeated);
	push @{ $row->{recovery} }, $first - $at;
	push @{ $row->{own} }, $first - $back;
}

#
# In all
#
foreach my $path (@paths)
{
	my $stats = $receiver->stats("/$path");

	is($stats->{unverified}, 0, "$path: all is signed");
	is($stats->{invalid}, 0, "$path: and well-formed");
	next if $path eq 'free';
	is($stats->{out_of_order}, 0, "$path: first deliveries are in order");
	is($stats->{gaps}, 0, "$path: and leave nothing out");
}
is($node->value('SELECT count(*) FROM order_engine.dead_letter'), '0', 'nothing is dead');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
pass('and nothing left to be tried');

diag(sprintf('%-27s %6s %9s %9s %5s  %-9s  %-18s %s', 'killed', 'rounds', 'committed', 'received', 'lost',
	'repeated', 'recovery p50, max', 'of the worker'));
foreach my $name (@points)
{
	my $row = $table{$name} or next;

	diag(sprintf('%-27s %6d %9d %9d %5d  %9d  %6.2f s, %6.2f s  %.2f s, %.2f s', $name, @$row{qw(rounds committed received lost)},
		$row->{most},
		map { (percentile(0.5, @$_), percentile(1, @$_)) } @$row{qw(recovery own)}));
}
diag("repeated: the most in a round, of all endpoints; at most $bound are allowed");
diag(sprintf('the last process was ended, and collected by init, %.2f s after the postmaster', $orphans)) if $orphans;
$node->stop;

done_testing();
