
# What the worker costs when there is nothing to do, and that the record of its
# progress stays small.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;
use Time::HiRes qw(time);

my $node = OrderEngine->start_new(
	'main',
	conf => q{
		autovacuum = off
		order_engine.poll_interval = '1 s'
	});
my $receiver = OrderEngine::Receiver->new;

sub reads { return $node->value('SELECT reads FROM order_engine.stat_worker'); }

# How often the worker was woken, as the kernel counts it.
sub wakeups
{
	my ($pid) = @_;
	my ($switches) =
	  slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;

	return $switches;
}

#
# Idle
#
$node->create_endpoint($receiver, 'shop');
$node->emit_many("'busy ' || i", 1, 200);
$receiver->wait_for('/shop', accepted => 200);
my $worker = $node->worker_pid;

# what is left over from that is written within a poll or two
my $before = reads();
poll_until('two polls', sub { reads() >= $before + 2 });

my ($reads, $start, $wakeups) = (reads(), time, wakeups($worker));
my $flushes = $node->value('SELECT flushes FROM order_engine.stat_worker');
my %states;
my $samples = 0;
poll_until(
	'three polls',
	sub {
		$samples++;
		$states{
			$node->value(qq{
			SELECT state, backend_xid IS NULL, backend_xmin IS NULL, xact_start IS NULL
			FROM pg_stat_activity WHERE pid = $worker})
		}++;
		return reads() >= $reads + 3;
	});
my $seconds = time - $start;
$wakeups = wakeups($worker) - $wakeups;
diag(sprintf('in %.1f s of idleness: %d reads, %d wake-ups, seen %s',
	$seconds, reads() - $reads, $wakeups,
	join(', ', map { "$_: $states{$_}" } sort keys %states)));
cmp_ok($seconds, '>', 1.5, 'it reads no more often than it polls');
cmp_ok($states{'idle|t|t|t'} // 0, '>=', 0.8 * $samples,
	'in between it has no transaction and no snapshot');
cmp_ok($wakeups, '<=', 30, 'and is hardly ever woken');
is($node->value('SELECT flushes FROM order_engine.stat_worker'),
	$flushes, 'it writes nothing');

# what others do does not matter
$node->configure('order_engine.poll_interval' => '600000');
$node->emit('last one');
$receiver->wait_for('/shop', accepted => 201);
$node->wait_for_value('SELECT flushes > ' . $flushes . ' FROM order_engine.stat_worker', 't');
($reads, $wakeups) = (reads(), wakeups($worker));
$node->safe_psql('postgres', q{
	CREATE TABLE application (n int);
	DO $$ BEGIN
		FOR i IN 1..2000 LOOP
			INSERT INTO application VALUES (i);
			COMMIT;
		END LOOP;
	END $$});
$wakeups = wakeups($worker) - $wakeups;
diag("2000 commits without events: $wakeups wake-ups");
is(reads(), $reads, 'commits without events have it read nothing');
cmp_ok($wakeups, '<=', 20, 'nor wake up');

#
# Positions: a flush writes one for each endpoint that was sent something
#
my $endpoints = 250;
my $turn = 10_000;    # RECORDS_PER_TURN in position.c

$node->safe_psql('postgres', sprintf(q{
	SELECT count(order_engine.create_endpoint('many' || i, '%s', event_types => '{many.*}'))
	FROM generate_series(1, %d) i}, $receiver->url('/many'), $endpoints));
$node->create_endpoint($receiver, 'other', event_types => '{other.*}');

sub positions
{
	return split(/\|/, $node->value(q{
		SELECT (SELECT count(*) FROM order_engine.position_0),
			(SELECT count(*) FROM order_engine.position_1),
			greatest((SELECT max(n) FROM order_engine.position_0),
				(SELECT max(n) FROM order_engine.position_1))}));
}

# Emits one at a time, until positions have been written so many times.
my $accepted = 0;
my @most = (0, 0);
my @emptied = (0, 0);
my @last = (0, 0);
my $n = 0;

sub write_positions
{
	my ($upto) = @_;

	while ($n < $upto)
	{
		$node->emit('one', type => 'many.one');
		$receiver->wait_for('/many', requests => $accepted += $endpoints);
		my @now = positions();
		$n = pop @now;
		foreach my $table (0, 1)
		{
			$most[$table] = $now[$table] if $now[$table] > $most[$table];
			$emptied[$table]++ if $now[$table] < $last[$table];
			$last[$table] = $now[$table];
		}
	}
	return;
}

write_positions(2.2 * $turn);
# a table that was just being read is emptied a second later
write_positions($n + 1000) while $emptied[1] == 0 && $n < 4 * $turn;
diag("$n positions written, at most $most[0] and $most[1] in the tables, which were emptied $emptied[0] and $emptied[1] times");
foreach my $table (0, 1)
{
	cmp_ok($emptied[$table], '>=', 1, "table $table was emptied");
	# a set more than it may have when it is full, and what comes until it is emptied
	cmp_ok($most[$table], '<=', 2 * $turn, "table $table is bounded");
}

# while something holds a lock on them, as a dump does, nothing waits
my $dump = $node->session;
$dump->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
$dump->query('LOCK TABLE order_engine.position_0, order_engine.position_1 IN ACCESS SHARE MODE');
@last = positions();
my $upto = pop(@last) + 1.2 * $turn;
@emptied = (0, 0);
write_positions($upto);
is("@emptied", '0 0', 'no table is emptied while it is locked');
$dump->query('COMMIT');
$dump->quit;
poll_until('the old table to be emptied',
	sub { write_positions($n + 1); $emptied[0] + $emptied[1] > 0 });
pass('one is as soon as it is free');

is( $node->value(q{
		SELECT coalesce(sum(n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables
		WHERE relname ~ '^(outbox_[0-9]|position_)'}),
	'0', 'no row of outbox or positions is ever updated or deleted');
cmp_ok(
	$node->value(q{
		SELECT sum(n_tup_ins) FROM pg_stat_user_tables WHERE relname ~ '^outbox_[0-9]'}),
	'>', 0, 'as the statistics say, which count');

$node->restart;
my $id = $node->emit('after');
$receiver->wait_for_id('/shop', $id);
is($receiver->stats('/shop')->{duplicates}, 0, 'a restart goes on from the last position');
is($receiver->stats('/other')->{requests}, 0, 'endpoints that want nothing got nothing');
$node->stop;

done_testing();
