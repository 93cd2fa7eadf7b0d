
# Several workers under load: the order within an aggregate and the limits of an
# endpoint hold over all of them, also while their number changes.

use strict;
use warnings FATAL => 'all';

use List::Util qw(sum0);
use OrderEngine qw(poll_until);
use OrderEngine::Load qw($long cpu_seconds start_writers);
use OrderEngine::Receiver;
use Test::More;
use Time::HiRes qw(time);

my $items = $long ? 2000 : 400;
my $steps = 20;
my $writers = 8;
my $events = $items * $steps;

my $node = OrderEngine->start_new('main',
	conf => q{
		order_engine.workers = 4
		max_worker_processes = 32
	});
my $receiver = OrderEngine::Receiver->new;
my $last_item = 0;

OrderEngine::Load::prepare($node);

sub wait_for_set
{
	my ($count) = @_;

	$node->wait_for_value(
		q{SELECT count(*) = count(pid) AND count(*) = } . $count . q{ FROM order_engine.stat_worker}, 't');
	return;
}

# Has items moved by several connections; returns those.
sub begin_load
{
	my ($first, $last) = ($last_item + 1, $last_item + $items);

	$last_item = $last;
	$node->safe_psql('postgres', "INSERT INTO item SELECT generate_series($first, $last)");
	return start_writers($node, $writers, "CALL walk($steps, $first, $last)");
}

sub end_load
{
	foreach my $writer (@_)
	{
		defined $writer->receive or die $writer->error;
		$writer->quit;
	}
	return;
}

#
# Four of them
#
my %wide = (max_in_flight => 48);
wait_for_set(4);
$receiver->rules(map { { path => $_, delay_ms => [ 0, 20 ] } } qw(/ordered /few));
$node->create_endpoint($receiver, 'ordered', %wide);
$node->create_endpoint($receiver, 'few', max_in_flight => 6);
$node->create_endpoint($receiver, 'unordered', ordering => 'none');
$node->create_endpoint($receiver, 'limited', event_types => ['item.go'], max_in_flight => 16,
	rate => 200, burst => 10);

my $begin = time;
end_load(begin_load());
my %stats = map { $_ => $receiver->wait_for("/$_", accepted => $events) } qw(ordered few unordered);
foreach my $name (sort keys %stats)
{
	my $stats = $stats{$name};
	is("$stats->{unique} $stats->{duplicates}", "$events 0", "$name: each event came once");
	is("$stats->{out_of_order} $stats->{gaps} $stats->{overlaps}", '0 0 0', "$name: in order, one of an item at a time")
	  if $name ne 'unordered';
}
cmp_ok($stats{few}{max_in_flight}, '<=', 6, 'the limit of requests at a time holds over all workers');
diag(sprintf('%d events to 3 endpoints in %.1f s; at a time: %s',
	$events, time - $begin, join(', ', map { "$_ $stats{$_}{max_in_flight}" } sort keys %stats)));
my @delivered = split(/\n/, $node->value('SELECT delivered FROM order_engine.stat_worker ORDER BY worker'));
diag("requests of each worker: @delivered");
is(scalar(grep { $_ > 0 } @delivered), 4, 'all four took part');

my $limited = $receiver->wait_for('/limited', accepted => 1000);
my @seconds = @{ $limited->{per_second} };
shift @seconds;
pop @seconds;
diag("a rate of 200 over all workers, second by second: @seconds");
# what was sent before a second began may arrive in it, when the receiver had to wait for a processor
is(join(' ', grep { $_ > 1.05 * 200 + 10 + 16 } @seconds), '', 'the rate holds over all workers');
cmp_ok(sum0(@seconds) / @seconds, '<=', 1.05 * 200, 'and in the mean');
is("$limited->{overlaps} $limited->{out_of_order}", '0 0', 'limited: in order');
$node->call('drop_endpoint', { name => $_ }) foreach qw(limited few unordered);

#
# Their number changes
#
sub check
{
	my ($what, $count, $allowed) = @_;
	my $stats = $receiver->wait_for('/ordered', accepted => $count);

	is($stats->{unique}, $count, "$what: nothing is lost");
	is("$stats->{out_of_order} $stats->{gaps}", '0 0', "$what: in order");
	diag("$what: $stats->{duplicates} duplicates, $stats->{overlaps} overlaps");
	cmp_ok($stats->{duplicates}, '<=', $allowed, "$what: duplicates are bounded");
	return $stats;
}

my $count = $events;
foreach my $number (1, 4, 2, 8, 1)
{
	my @load = begin_load();
	my $half = $count + $events / 4;

	$receiver->wait_for('/ordered', accepted => $half);
	$begin = time;
	$node->configure('order_engine.workers' => $number);
	wait_for_set($number);
	diag(sprintf('%d workers after %.0f ms', $number, 1000 * (time - $begin)));
	$count += $events;
	end_load(@load);
	is(check("with $number", $count, 0)->{overlaps}, 0, "with $number: one of an item at a time");
}

# while a request hangs: it is not waited for long, nor by looking all the time
$receiver->rules({ path => '/stuck', action => 'hang' }, { path => '/ordered', delay_ms => [ 0, 20 ] });
$node->create_endpoint($receiver, 'stuck', event_types => ['stuck.*'], timeout => '2 min');
my $stuck = $node->emit('stuck', type => 'stuck.event');
$count++;
$receiver->wait_for('/stuck', requests => 1);
my $ending = $node->worker_pid;
my $cpu_before = cpu_seconds($ending);
my $cpu = $cpu_before;
$begin = time;
$node->configure('order_engine.workers' => 4);
poll_until(
	'the worker to end',
	sub {
		kill(0, $ending) or return 1;
		$cpu = eval { cpu_seconds($ending) } // $cpu;
		return 0;
	});
diag(sprintf('a request hangs: the worker ends after %.1f s, of which it runs %.2f s', time - $begin, $cpu - $cpu_before));
cmp_ok($cpu - $cpu_before, '<', 1, 'a worker that ends sleeps until its requests end');
wait_for_set(4);
$receiver->control({ release => 1, rules => [ { path => '/ordered', delay_ms => [ 0, 20 ] } ] });
$receiver->wait_for_id('/stuck', $stuck);
pass('an event that was under way is sent again by the new set');
$node->call('drop_endpoint', { name => 'stuck' });

# in quick succession, while much waits
$node->call('pause_endpoint', { name => 'ordered' });
end_load(begin_load());
$count += $events;
$node->call('resume_endpoint', { name => 'ordered' });
foreach my $number (4, 2, 8, 1, 4)
{
	$receiver->wait_for('/ordered', accepted => $receiver->stats('/ordered')->{accepted} + $events / 20);
	$node->configure('order_engine.workers' => $number);
}
wait_for_set(4);
is(check('a backlog', $count, 0)->{overlaps}, 0, 'a backlog: one of an item at a time');

#
# One is killed, and with it all
#
$node->call('pause_endpoint', { name => 'ordered' });
end_load(begin_load());
$count += $events;
$node->call('resume_endpoint', { name => 'ordered' });
$receiver->wait_for('/ordered', accepted => $count - $events * 0.8);
my $victim = $node->value('SELECT pid FROM order_engine.stat_worker WHERE worker = 2');
kill('KILL', $victim) == 1 or die "could not kill $victim: $!";
poll_until('the server to notice', sub { !kill(0, $victim) });
$node->wait_until_up;
# results of one flush and what was under way, of each worker
check('a crash', $count, 4 * 1000 + $wide{max_in_flight});
wait_for_set(4);
is($node->value('SELECT count(*) FROM order_engine.delivery_retry'), '0', 'no retry is left');
$node->stop;

done_testing();
