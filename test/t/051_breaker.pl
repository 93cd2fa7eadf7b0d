
# The circuit breaker as it is seen from outside: an endpoint that fails is left
# alone and approached again, and an event that fails is told from that.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(emit_sql poll_until);
use OrderEngine::Receiver;
use Test::More;

my $true = JSON::PP::true;
my $node = OrderEngine->start_new('main', conf => q{
order_engine.attempt_log = 'all'
});
my $receiver = OrderEngine::Receiver->new;

sub rows
{
	my ($table) = @_;

	return $node->value("SELECT count(*) FROM order_engine.$table");
}

#
# Unreachable: one failure after the other opens it, one probe at a time finds
# out, successes close it
#
my $fragile = OrderEngine::Receiver->new;
$node->create_endpoint($receiver, 'ops', event_types => ['delivery.*']);
$node->create_endpoint($fragile, 'down', event_types => [ 'test.*', 'delivery.*' ],
	policy => { breaker_open => '700 ms', breaker_open_max => '700 ms' });
$node->emit_many("'d' || i", 1, 10);
$fragile->wait_for('/down', accepted => 10);
is($node->status_of('down', 'breaker, failures'), 'closed|0', 'all is well');
$fragile->rules({ path => '/down', action => 'reset' });
$node->emit_many("'d' || i % 50", 11, 1200);
$node->wait_for_status('down', 'breaker', 'open');
is( $node->status_of('down', q{state, failing_since IS NOT NULL, next_attempt_at > failing_since, advice ~ 'no attempt is used up'}),
	'waiting|t|t|t', 'endpoint_status tells');

# what was under way when it opened comes to its end; after that only probes
$node->wait_for_status('down', 'in_flight', '0');
my $before = $fragile->stats('/down');
# (libcurl repeats by itself what fails on a connection that was used before)
cmp_ok($before->{requests} - 10, '<=', 2 * (5 + 16), 'it opens after five failures, with what was in flight');
my $probes = $fragile->wait_for('/down', requests => $before->{requests} + 3);
my @times = map { $_->{time} } $fragile->requests('/down');
my @gaps = map { $times[$_] - $times[ $_ - 1 ] } $before->{requests} + 1 .. $#times;
diag('seconds between probes: ' . join(' ', map { sprintf('%.2f', $_) } @gaps));
is(scalar(grep { $_ < 0.7 * 0.8 - 0.05 } @gaps), 0, 'one probe each time it may');
is(rows('delivery_retry'), '0', 'an endpoint that is down has no rows for 1,190 events');
cmp_ok($node->status_of('down', 'lag_events'), '>=', 1190 - 60, 'they wait in the log');
is(rows('dead_letter'), '0', 'and none is given up');

# it comes back: slowly at first
$fragile->rules({ path => '/down', delay_ms => 20 });
my $stats = $fragile->wait_for('/down', accepted => 1200);
is($stats->{out_of_order}, 0, 'in order');
is($stats->{repeated}, 0, 'nothing twice');
$node->wait_for_status('down', 'breaker', 'closed');
$node->wait_for_status('down', 'failures', '0');
my @requests = grep { $_->{status} == 200 } $fragile->requests('/down');
splice(@requests, 0, 10);

# how many came within 15 ms of each request; each took 20, or a little less
sub most_at_once
{
	my @starts = sort { $a <=> $b } map { $_->{time} } @_;
	my $most = 0;

	foreach my $i (0 .. $#starts)
	{
		my $n = grep { $_ >= $starts[$i] && $_ < $starts[$i] + 0.015 } @starts;
		$most = $n if $n > $most;
	}
	return $most;
}
my @at_once = map { most_at_once(@requests[@$_]) } [ 0 .. 2 ], [ 3 .. 8 ], [ 100 .. 1100 ];
diag("at once: probes $at_once[0], first after them $at_once[1], later $at_once[2]");
is($at_once[0], 1, 'three probes, one after the other');
cmp_ok($at_once[1], '<=', 2 + 6, 'then few at once');
cmp_ok($at_once[2], '>', 8, 'then as many as it may have');
cmp_ok($stats->{max_in_flight}, '<=', 16, 'and no more');
is($node->value(q{SELECT count(*) FROM order_engine.delivery_attempt WHERE outcome = 'delivered' AND attempt > 1}),
	'0', 'failures of the endpoint used up no attempt of an event');

# the news
my $news = $receiver->wait_for('/ops', accepted => 1);
is(join(' ', map { "$_->{type} $_->{aggregateid}" } $receiver->requests('/ops')),
	'delivery.recovered down', 'others are told that it works again, once');
is(scalar(grep { $_->{type} ne 'test.event' } $fragile->requests('/down')),
	0, 'and it is not told itself');
$node->call('drop_endpoint', { name => 'down' });
$fragile->stop;

#
# Too many of its answers are failures
#
$receiver->rules({ path => '/busy', status => 500 });
$node->create_endpoint($receiver, 'busy', event_types => ['busy.*'], max_in_flight => 1,
	policy => { breaker_open => '1 h' });
$node->emit("b$_", type => 'busy.event') foreach 1 .. 15;
$node->wait_for_status('busy', 'breaker', 'open');
is($receiver->stats('/busy')->{requests}, 10, 'ten answers of 5xx open it as well');
is(rows('delivery_retry'), '0', 'without rows');
$node->wait_for_value(
	q{SELECT query LIKE 'waiting: 0 requests in flight, 1 endpoints%' FROM pg_stat_activity
		WHERE backend_type = 'order_engine worker'}, 't');
pass('pg_stat_activity says that the worker waits');
$receiver->rules;
$node->call('pause_endpoint', { name => 'busy' });
$node->call('resume_endpoint', { name => 'busy' });
$stats = $receiver->wait_for('/busy', accepted => 15);
$node->wait_for_status('busy', 'breaker', 'closed');
pass('an operator who resumes it closes it at once');
$node->call('drop_endpoint', { name => 'busy' });

#
# Events that are poison, in a healthy stream
#
my @schedule = ('0', '50 ms', '50 ms', '50 ms');
my %poisons = ('always 422' => { status => 422 }, 'always 500' => { status => 500 },
	'always reset' => { action => 'reset' });
my $round = 0;
foreach my $kind (sort keys %poisons)
{
	my $name = 'stream' . ++$round;

	$receiver->rules({ path => "/$name", aggregateid => 'poison', %{ $poisons{$kind} } });
	$node->create_endpoint($receiver, $name, event_types => ["$name.*"],
		retry_schedule => \@schedule,
		policy => { breaker_open => '100 ms', breaker_open_max => '200 ms' });
	my $healthy = 0;
	my $id = $node->emit('poison', type => "$name.event");
	my @opened;
	poll_until('the dead letter', sub {
		$node->emit('healthy ' . ++$healthy, type => "$name.event");
		return $node->value(qq{SELECT count(*) FROM order_engine.dead_letter WHERE endpoint = '$name'}) eq '1';
	});
	$receiver->wait_for("/$name", accepted => $healthy);
	is( $node->value(qq{SELECT attempts, 'evt_' || replace(id::text, '-', '') FROM order_engine.dead_letter WHERE endpoint = '$name'}),
		"4|$id", "$kind: one event is given up on its schedule");
	is($node->status_of($name, 'breaker, retrying'), 'closed|0', "$kind: the endpoint is well, $healthy others were delivered");
	is($receiver->stats("/$name")->{repeated}, 0, "$kind: and sent once each");
	$node->call('drop_endpoint', { name => $name });
}

#
# A poison event at the head, when the endpoint comes back from an outage
#
$fragile->start;
$fragile->rules({ path => '/both', status => 503 });
$node->create_endpoint($fragile, 'both', event_types => ['both.*'], max_in_flight => 2,
	retry_schedule => \@schedule,
	policy => { breaker_open => '50 ms', breaker_open_max => '100 ms', breaker_min_attempts => 4 });
my $poison = $node->emit('poison', type => 'both.event');
$node->emit("h$_", type => 'both.event') foreach 1 .. 20;
$node->wait_for_status('both', 'breaker', 'open');
my $open = $fragile->stats('/both')->{requests};
$fragile->wait_for('/both', requests => $open + 3);
is(rows('delivery_retry'), '0', 'no rows while the endpoint fails');
$fragile->rules({ path => '/both', aggregateid => 'poison', status => 500 });
$fragile->wait_for('/both', accepted => 20);
$node->wait_for_value(q{SELECT string_agg(attempts || ' ' || aggregateid, ', ') FROM order_engine.dead_letter WHERE endpoint = 'both'},
	'4 poison');
pass('a poison event does not keep the breaker open: it is given up, the others are delivered');
$node->emit("h$_", type => 'both.event') foreach 21 .. 25;
$fragile->wait_for('/both', accepted => 25);
$node->wait_for_status('both', 'breaker', 'closed');
is(rows('delivery_retry'), '0', 'nothing is left');

#
# The breaker outlives the worker
#
$fragile->rules({ path => '/both', status => 500 });
$node->call('alter_endpoint', { name => 'both', policy => { breaker_open => '1 h', breaker_min_attempts => 4 } });
$node->emit("k$_", type => 'both.event') foreach 1 .. 20;
$node->wait_for_status('both', 'breaker', 'open');
$node->wait_for_status('both', 'in_flight', '0');
$before = $fragile->stats('/both')->{requests};
my $pid = $node->wait_for_worker;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$node->wait_for_worker(undef, $pid);
$node->emit('k', type => 'both.event');
$node->create_endpoint($receiver, 'beside', event_types => ['both.*']);
my $id = $node->emit('k2', type => 'both.event');
$receiver->wait_for_id('/beside', $id);
is($node->status_of('both', 'breaker'), 'open', 'after a restart it is still open');
is($fragile->stats('/both')->{requests}, $before, 'and nothing is sent');
$node->stop;

done_testing();
