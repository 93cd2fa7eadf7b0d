
# Many events at once: in one transaction, left over from a time without a
# worker, and piled up before an endpoint that is down.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Load qw($long rss watch_rss each_line latencies show_latencies start_writers);
use OrderEngine::Receiver;
use Test::More;
use Time::HiRes qw(time);

my $events = $long ? 1_000_000 : 50_000;
my $steps = 10;
my $items = $events / $steps;
my $batch = $long ? 100 : 1;
my $in_flight = 16;

my $node = OrderEngine->start_new('main',
	conf => q{
		shared_buffers = '512MB'
		max_wal_size = '8GB'
	});
my $receiver = OrderEngine::Receiver->new;

OrderEngine::Load::prepare($node);

my $next_item = 1;
my $most;

# Takes so many numbers for items; returns the first and the last of them.
sub take_items
{
	my ($n) = @_;
	my $first = $next_item;

	$next_item += $n;
	return ($first, $next_item - 1);
}

# New items while there is a backlog: the numbers of the first and the last.
sub new_items
{
	my @range = take_items(100);

	$node->safe_psql('postgres', "INSERT INTO item SELECT generate_series($range[0], $range[1])");
	$node->safe_psql('postgres', "CALL walk(5, $range[0], $range[1])");
	return @range;
}

# Waits until all is there, looking at the worker's memory.
sub wait_for_all
{
	my ($path, $count) = @_;
	my $worker = $node->wait_for_worker;
	my $stats;

	poll_until("$count events at $path", sub {
		watch_rss(\$most, $worker);
		$stats = $receiver->stats($path);
		return $stats->{accepted} >= $count;
	});
	is("$stats->{unique} $stats->{gaps} $stats->{out_of_order} $stats->{overlaps} $stats->{unverified}",
		"$count 0 0 0 0", "$path: every event came, in order, one of an item at a time");
	return $stats;
}

# How much of the backlog was still to come when the last new event came.
sub left_behind
{
	my ($path, $first, $last) = @_;
	my ($n, $new, $at, %seen) = (0, 0, 0);

	each_line($receiver, $path, sub {
		$_[0] =~ /"aggregateid":"(\d+)"/ or return;
		$n++;
		return if $1 < $first || $1 > $last || $seen{$_[0] =~ /"id":"([^"]*)"/ ? $1 : ''}++;
		($new, $at) = ($new + 1, $n);
	});
	is($new, 500, 'all new events are there') or return 0;
	return 1 - $at / $n;
}

#
# One transaction
#
$node->create_endpoint($receiver, 'one', max_in_flight => $in_flight, max_batch => $batch);
my $worker = $node->wait_for_worker;
my $before = rss($worker);
my $session = $node->session;
my @range = take_items($items);

$session->query('BEGIN');
$session->query("CALL fill($range[0], $range[1], $steps)");
my $begin = time;
$session->query('COMMIT');
$session->quit;
$receiver->wait_for('/one', accepted => 500);
my @new = new_items();
my $stats = wait_for_all('/one', $events + 500);
my $left = left_behind('/one', @new);
is($stats->{duplicates}, 0, 'none came twice');
diag(sprintf('one transaction of %d events: the first after %.0f ms, all at %.0f/s; new items through with %.0f %% of it to come; worker from %.1f to %.1f MB',
	$events, 1000 * ($stats->{first} - $begin), $events / ($stats->{last} - $stats->{first}),
	100 * $left, $before, $most));
cmp_ok($left, '>', 0.25, 'new items are not starved');
cmp_ok($most, '<', 200, 'memory of the worker is bounded');
$node->call('drop_endpoint', { name => 'one' });

#
# A cold start, and a crash while new items are overtaking
#
$node->create_endpoint($receiver, 'cold', max_in_flight => $in_flight, max_batch => $batch);
$node->configure('order_engine.databases' => '');
poll_until('the worker to end', sub { !defined $node->worker_pid });
foreach my $part (1 .. 50)
{
	@range = take_items($items / 50);
	$node->safe_psql('postgres', "CALL fill($range[0], $range[1], $steps)");
}
$most = 0;
$begin = time;
$node->configure('order_engine.databases' => 'postgres');
$receiver->wait_for('/cold', accepted => 500);
my $started = $node->value('SELECT extract(epoch FROM started_at) FROM order_engine.stat_worker');
my @first_new = new_items();
poll_until('an express lane', sub {
	$node->value('SELECT count(before) FROM order_engine.endpoint_position') ne '0'
});
$node->kill_worker;
my $crash = $receiver->stats('/cold')->{unique};
$node->wait_until_up;
my $again = time;
poll_until('events after the crash', sub { $receiver->stats('/cold')->{unique} > $crash });
$again = time - $again;
my @more_new = new_items();
$stats = wait_for_all('/cold', $events + 1000);
$left = left_behind('/cold', @more_new);
diag(sprintf('cold start with %d events: the first %.0f ms after it was told to start, %.0f ms after the start of the worker; a crash after %d events, the next %.0f ms after the server was up; %d duplicates; new items through with %.0f %% to come; worker %.1f MB',
	$events, 1000 * ($stats->{first} - $begin), 1000 * ($stats->{first} - $started), $crash, 1000 * $again,
	$stats->{duplicates}, 100 * $left, $most));
cmp_ok($left, '>', 0.25, 'new items are not starved, before and after a crash');
# results of one flush and what was under way, see FLUSH_RESULTS in worker.c
cmp_ok($stats->{duplicates}, '<=', 1000 + 2 * $in_flight * $batch, 'duplicates are bounded');
cmp_ok($most, '<', 200, 'memory of the worker is bounded');
$node->call('drop_endpoint', { name => 'cold' });

#
# Crash after crash, with workers whose number changes, and an endpoint that wants
# no order
#
my $crashes = $long ? 20 : 4;
my $few = 20_000;

$node->create_endpoint($receiver, 'again', max_in_flight => $in_flight);
$node->create_endpoint($receiver, 'free', max_in_flight => $in_flight, ordering => 'none');
$node->configure('order_engine.databases' => '', 'order_engine.workers' => 2);
poll_until('the worker to end', sub { !defined $node->worker_pid });
foreach my $part (1 .. 20)
{
	@range = take_items($few / $steps / 20);
	$node->safe_psql('postgres', "CALL fill($range[0], $range[1], $steps)");
}
$node->configure('order_engine.databases' => 'postgres');
my $lanes = 0;
foreach my $round (1 .. $crashes)
{
	my $unique = $receiver->stats('/again')->{unique};

	$receiver->wait_for('/again', unique => $unique + 1 + int(rand(0.5 * $few / $crashes)));
	new_items();
	$lanes++ if $node->value('SELECT count(before) FROM order_engine.endpoint_position') ne '0';
	$node->configure('order_engine.workers' => 1 + $round % 3) if $round % 2 == 0;
	my $pid = poll_until('a worker', sub {
		$node->value('SELECT pid FROM order_engine.stat_worker WHERE pid IS NOT NULL ORDER BY random() LIMIT 1')
	});
	kill('KILL', $pid);    # it may be one that ends anyway
	poll_until('the server to notice', sub { !kill(0, $pid) });
	$node->wait_until_up;
}
my $all = $few + 500 * $crashes;
$stats = $receiver->wait_for('/again', accepted => $all);
is("$stats->{unique} $stats->{gaps} $stats->{out_of_order}", "$all 0 0",
	"after $crashes crashes every event has come, in order");
my $free = $receiver->wait_for('/free', accepted => $all);
is($free->{unique}, $all, 'without order, too');
diag(sprintf('%d crashes, %d of them with an express lane: %d and %d duplicates', $crashes, $lanes,
	$stats->{duplicates}, $free->{duplicates}));
cmp_ok($_->{duplicates}, '<=', $crashes * (3 * 1000 + $in_flight), 'duplicates are bounded')
  foreach $stats, $free;
$node->configure('order_engine.workers' => 1);
$node->wait_for_value('SELECT count(pid) = 1 AND count(*) = 1 FROM order_engine.stat_worker', 't');
$node->call('drop_endpoint', { name => $_ }) foreach qw(again free);

#
# An endpoint that is down, beside a healthy one
#
my $down = OrderEngine::Receiver->new;
my $policy = { breaker_open => '200 ms', breaker_open_max => '2 s' };
my $rows = q{SELECT coalesce(sum(n_tup_ins), 0) FROM pg_stat_user_tables WHERE relname = 'delivery_retry'};

$node->create_endpoint($receiver, 'healthy', event_types => ['trickle.*'],
	max_in_flight => $in_flight);
$node->create_endpoint($down, 'down', max_in_flight => $in_flight, max_batch => $batch,
	policy => $policy, event_types => [ 'item.*', 'trickle.*' ]);
my $seconds = $long ? 30 : 4;
my $idle = $seconds * 200;
$node->safe_psql('postgres', "CALL trickle(200, $idle)");
$receiver->wait_for('/healthy', accepted => $idle);
my @idle = latencies($node, $receiver, '/healthy', "type = 'trickle.event'");
my $mark = $node->value('SELECT clock_timestamp()');

# what is written costs something by itself
@range = take_items($items / 10);
my ($filler) = start_writers($node, 1, "CALL fill_in_parts($range[0], $range[1], $steps, 10)");
$node->safe_psql('postgres', "CALL trickle(200, $idle)");
defined $filler->receive or die $filler->error;
$filler->quit;
$receiver->wait_for('/healthy', accepted => 2 * $idle);
my @busy = latencies($node, $receiver, '/healthy', "type = 'trickle.event' AND created_at > '$mark'");
$mark = $node->value('SELECT clock_timestamp()');
$down->wait_for('/down', accepted => 2 * $idle + $events / 10);

$down->stop;
$most = 0;
my ($row_count) = $node->value($rows);
@range = take_items($items);
($filler) = start_writers($node, 1, "CALL fill_in_parts($range[0], $range[1], $steps, 10)");
my $during = $idle;
my ($trickler) = start_writers($node, 1, "CALL trickle(200, $during)");
poll_until('all to be written', sub {
	watch_rss(\$most, $node->worker_pid);
	return $filler->is_done && $trickler->is_done;
});
$_->quit foreach $filler, $trickler;
$receiver->wait_for('/healthy', accepted => 2 * $idle + $during);
my @during = latencies($node, $receiver, '/healthy', "type = 'trickle.event' AND created_at > '$mark'");
diag('a healthy endpoint idle:          ' . show_latencies(@idle));
diag('while much is written:            ' . show_latencies(@busy));
diag('the same, beside one that is down: ' . show_latencies(@during));
is($node->value(q{SELECT breaker <> 'closed' FROM order_engine.endpoint_status WHERE name = 'down'}),
	't', 'the status view shows that it is down');
$down->start;
$begin = time;
poll_until('all to be delivered', sub {
	watch_rss(\$most, $node->worker_pid);
	return $down->stats('/down')->{accepted} >= $events + $during;
});
$stats = $down->stats('/down');
is("$stats->{gaps} $stats->{out_of_order} $stats->{overlaps}", '0 0 0', 'in order after the recovery');
$node->safe_psql('postgres', 'SELECT pg_stat_force_next_flush()');
$row_count = $node->value($rows) - $row_count;
diag(sprintf('%d events for one that was down: %d rows written; first after %.0f ms, all in %.1f s; worker %.1f MB; %d duplicates',
	$events, $row_count, 1000 * ($stats->{first} - $begin), time - $begin, $most, $stats->{duplicates}));
cmp_ok($row_count, '<', 1000, 'hardly a row was written');
cmp_ok($most, '<', 200, 'memory of the worker is bounded');
is($node->value('SELECT count(*) FROM order_engine.dead_letter'), '0', 'nothing is dead');
$node->stop;

done_testing();
