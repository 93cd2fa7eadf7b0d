
# Mixed load for a long time, with endpoints that come and go, replays, a ring that
# turns each second, and processes that are ended: nothing grows that should not,
# and nothing is lost.
#
# OE_SOAK_MINUTES is how long (test/soak sets it); without it a third of a minute.
#
# Writers are mostly ended by pg_terminate_backend(), and workers and launcher by
# SIGTERM, which leaves the other processes alone, so that the memory of each can be
# watched for long. Now and then a process is killed, which renews them all.

use strict;
use warnings FATAL => 'all';

use List::Util qw(max sum0);
use OrderEngine qw(percentile poll_until);
use OrderEngine::Crash;
use OrderEngine::Load qw(rss);
use OrderEngine::Receiver;
use Test::More;
use Time::HiRes qw(time usleep);

my $minutes = $ENV{OE_SOAK_MINUTES} // 1 / 3;
my $seconds = 60 * $minutes;
my $seed = $ENV{OE_SEED} // int(rand(1_000_000));

srand($seed);
diag("seed $seed");

# What is kept for a time is kept for six seconds, the least there is.
my $node = OrderEngine->start_new('main', conf => q{
	max_connections = 60
	log_statement = none
	autovacuum_naptime = 1s
	autovacuum_vacuum_threshold = 200
	autovacuum_vacuum_cost_delay = 0
	order_engine.retention = '6s'
	order_engine.max_retention = '1h'
	order_engine.attempt_log = all
	order_engine.attempt_retention = '6s'
	order_engine.idempotency_retention = '6s'
	order_engine.maintenance_interval = '1s'
	order_engine.poll_interval = '500ms'
});
my $receiver = OrderEngine::Receiver->new;

my %patient = (policy => { breaker_open => '200 ms', breaker_open_max => '1 s', pause => '1 s', disable_after => '0' },
	retry_schedule => [ '0', ('1 s') x 63 ], timeout => '2 s');
my @paths = ('flapping', 'paused', 'steady');

$node->create_endpoint($receiver, $_, %patient) foreach @paths;
my $crash = OrderEngine::Crash->new($node, $receiver, paths => \@paths, writers => 8, pause => 0.12);

#
# Samples
#
my (@samples, %lives);
my $least = 12;    # of a process that is judged
my $watch;

# What is removed in the course of time. The rest is orders and what belongs to them.
my $passing = q{c.relname ~ '^(outbox|position|delivery|replay|idempotency|endpoint)'};

sub descriptors
{
	my ($pid) = @_;
	my @open = glob("/proc/$pid/fd/*");

	return scalar @open;
}

sub sample
{
	my $now = time();

	$watch //= $node->session;
	$watch->send(qq{
		SELECT 'process', pid, CASE backend_type WHEN 'order_engine worker' THEN 'worker' ELSE 'launcher' END FROM pg_stat_activity
		WHERE backend_type ~ 'order_engine (worker|launcher)';
		SELECT 'tables',
			sum(pg_total_relation_size(c.oid)) FILTER (WHERE $passing),
			sum(pg_stat_get_dead_tuples(c.oid)) FILTER (WHERE $passing),
			sum(pg_total_relation_size(c.oid)) FILTER (WHERE NOT $passing),
			(SELECT count(*) FROM order_engine.history)
		FROM pg_class c WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind = 'r'});
	my $answer = $watch->receive;
	if (!defined $answer)
	{
		undef $watch;    # the server was restarted
		return;
	}
	foreach (map { [ split /\|/ ] } split(/\n/, $answer))
	{
		my ($what, @values) = @$_;

		if ($what eq 'tables')
		{
			push @samples, { at => $now, passing => $values[0] / 1024, dead => $values[1],
				lasting => $values[2] / 1024, rows => $values[3] };
			next;
		}
		my ($pid, $type) = @values;
		my $rss = rss($pid) * 1024;

		push @{ $lives{"$type $pid"} }, { at => $now, rss => $rss, descriptors => descriptors($pid) } if $rss;
	}
	return;
}

sub longest_life
{
	return max(0, map { scalar @{ $lives{$_} } } grep { /worker/ } keys %lives);
}

#
# What happens
#
my %count;

sub pick
{
	return $_[ int(rand(@_)) ];
}

sub try_sql
{
	my ($sql) = @_;
	my ($status) = eval { $node->psql('postgres', "SET lock_timeout = '500 ms'; $sql") };

	return defined $status && $status == 0;
}

sub process
{
	my ($what) = @_;

	return $node->value(qq{SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'order_engine $what' OR application_name = '$what' ORDER BY random() LIMIT 1});
}

# The writers end with the server, or they are started anew while it goes on.
sub restart_writers
{
	$node->wait_until_up;
	$node->wait_for_worker;
	$crash->end_writers;
	$crash->settle;
	$crash->start;
	return;
}

my %actions = (
	flap => [ 8, sub {
		my %where = (path => '/flapping');

		$receiver->rules(pick(
			[], [], [ { %where, status => 503 } ], [ { %where, action => 'reset' } ],
			[ { %where, status => 500, type => 'order.confirmed' } ],
			[ { %where, action => 'hang', times => 20 } ],
			[ { %where, status => 429, headers => { 'retry-after' => '1' }, times => 2 } ],
			[ { %where, action => 'big', bytes => 100_000 } ],
			[ { %where, delay_ms => [ 0, 50 ] } ])->@*);
	} ],
	pause => [ 2, sub {
		try_sql(q{SELECT order_engine.pause_endpoint('paused')});
		usleep(1_000_000 + rand(2_000_000));
		poll_until('the endpoint to be resumed', sub { try_sql(q{SELECT order_engine.resume_endpoint('paused')}) });
	} ],
	come_and_go => [ 2, sub {
		try_sql(q{SELECT order_engine.drop_endpoint('fleeting')});
		eval { $node->create_endpoint($receiver, 'fleeting', %patient, start_at => pick('now', 'earliest')); };
	} ],
	alter => [ 2, sub { try_sql(sprintf(q{SELECT order_engine.alter_endpoint('flapping', max_in_flight => %d)}, 2 + rand(30))) } ],
	replay => [ 3, sub { try_sql(q{SELECT order_engine.replay('steady', now() - interval '2 s', now())}) } ],
	reload => [ 2, sub { $node->reload } ],
	writer => [ 4, sub { try_sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE application_name = 'writer' ORDER BY random() LIMIT 1}) } ],
);
my @choices = map { my $name = $_; ($name) x $actions{$name}[0] } sort keys %actions;

# Ends of processes, and at which share of the time. In between, and for the longer
# part at the end, they live long enough to be watched.
my @ends = $minutes < 1 ? ([ 0.05, 'writer', 'KILL' ], [ 0.15, 'launcher', 'TERM' ], [ 0.2, 'worker', 'TERM' ]) : (
	[ 0.10, 'worker', 'KILL' ], [ 0.15, 'launcher', 'TERM' ], [ 0.20, 'worker', 'TERM' ],
	[ 0.45, 'writer', 'KILL' ], [ 0.50, 'launcher', 'KILL' ], [ 0.55, 'worker', 'KILL' ]);

my $start = time();
my $next = { sample => 0, act => 0, writers => 0 };

$crash->start;
while (1)
{
	my $passed = time() - $start;

	# a machine that is busy gets more time, to end all that and to see what follows
	last if $passed >= $seconds && (!@ends && longest_life() >= $least || $passed >= 3 * $seconds);
	if (@ends && $passed > $ends[0][0] * $seconds)
	{
		my (undef, $what, $signal) = @{ shift @ends };
		my $pid = process($what);

		if ($pid ne '' && kill($signal, $pid))
		{
			$count{"$what $signal"}++;
			usleep(200_000);
			restart_writers() if $signal eq 'KILL';
		}
	}
	if ($passed >= $next->{act})
	{
		my $choice = pick(@choices);

		$count{$choice}++;
		$actions{$choice}[1]->();
		$next->{act} = $passed + rand(2);
	}
	if ($passed >= $next->{sample})
	{
		sample();
		$next->{sample} = $passed + max(0.5, $seconds / 1000);
	}
	if ($passed >= $next->{writers} + 60)
	{
		restart_writers();    # those that were ended, or came to the end of their script
		$next->{writers} = $passed;
	}
	usleep(50_000);
}

#
# Quiet again: everything arrives
#
$receiver->rules;
$node->wait_until_up;
restart_writers();
try_sql(q{SELECT order_engine.resume_endpoint('paused')});
usleep(500_000);
$crash->end_writers;
$crash->settle;
my @faults;
poll_until('everything to be received', sub {
	@faults = $crash->faults;
	# what is wrong beside that does not become right by waiting
	return !(grep { /were not received/ } @faults) || (grep { !/were not received/ } @faults);
});
is(join("\n", @faults), '', 'nothing is lost, undone or at odds');
foreach my $path (@paths)
{
	my $stats = $receiver->stats("/$path");

	is($stats->{out_of_order}, 0, "$path: first deliveries are in order");
	is($stats->{gaps}, 0, "$path: and leave nothing out");
}
is($node->value(q{SELECT count(*) FROM order_engine.dead_letter WHERE endpoint <> 'fleeting'}), '0', 'nothing is dead');

#
# Nothing grew
#
sub median_of
{
	my ($key, @list) = @_;

	return percentile(0.5, map { $_->{$key} } @list);
}

# Of a list that is in order of time, the part between two shares of it.
sub part
{
	my ($from, $to, @list) = @_;

	return @list[ int($from * $#list) .. int($to * $#list) ];
}

# A process has what it needs after a quarter of its life: it has seen each verb,
# each answer and a full window by then, and malloc keeps what was once used. From
# there to the end it may get a quarter more, or 2 MB, for windows that are fuller
# than those before, of an endpoint that falls behind; what leaks a little with every
# event is more than that, for there are some thousand events a minute. Of
# descriptors, connections come and go with what endpoints do. Short lives say
# nothing, and of those of the short form most is the beginning.
my $spare = $ENV{OE_LONG} ? 2048 : 8192;
my $judged = 0;
foreach my $life (sort keys %lives)
{
	my @list = @{ $lives{$life} };

	next if @list < max($least, @samples / 6);
	$judged++ if $life =~ /worker/;
	foreach my $what ('rss', 'descriptors')
	{
		my $early = median_of($what, part(0.25, 0.5, @list));
		my $late = median_of($what, part(0.75, 1, @list));
		my $bound = $early + max($what eq 'rss' ? $spare : 32, $early / 4);

		cmp_ok($late, '<=', $bound, "$life: no growth of $what");
		diag(sprintf('%s, %d samples in %d s: %s %d at first, %d late, most %d%s', $life, scalar @list,
			$list[-1]{at} - $list[0]{at}, $what, $early, $late, max(map { $_->{$what} } @list), $what eq 'rss' ? ' kB' : ''));
	}
}

cmp_ok($judged, '>', 0, 'a worker lived long enough to be judged');

# What passes is as much at the end as in the second quarter of the time, give or
# take a half: a leaf or a log that is just about to be emptied, and 2 MB for the
# pages that indexes keep. What lasts grows with the orders, not per order: a third
# more for each is allowed, for indexes that are split at random.
my @early = part(0.25, 0.5, @samples);
my @late = part(0.75, 1, @samples);
my %early = map { $_ => median_of($_, @early) } qw(passing dead lasting rows);
my %late = map { $_ => median_of($_, @late) } qw(passing dead lasting rows);

cmp_ok($late{passing}, '<=', 1.5 * $early{passing} + 2048, 'no growth of the tables that are emptied in time');
cmp_ok($late{dead}, '<=', 2 * $early{dead} + 1000, 'nor of dead rows in them');
cmp_ok($late{lasting} / $late{rows}, '<=', 1.33 * $early{lasting} / $early{rows}, 'orders take no more space each')
  if $early{rows} > 1000;
diag(sprintf('tables that are emptied: %d kB, late %d kB, most %d kB; dead rows: %d, late %d; others: %.0f bytes an entry of history, late %.0f of %d',
	$early{passing}, $late{passing}, max(map { $_->{passing} } @samples), $early{dead}, $late{dead},
	1024 * $early{lasting} / $early{rows}, 1024 * $late{lasting} / $late{rows}, $late{rows}));
diag(join(', ', map { "$_ $count{$_}" } sort keys %count));
diag(sprintf('%d events committed, %d received by steady, %d turns of the ring kept', scalar keys %{ $crash->{committed} },
	$receiver->stats('/steady')->{unique}, $node->value('SELECT count(*) FROM order_engine.outbox_leaf')));
$node->stop;

done_testing();
