
# A transaction that is held open, in this database and in another: events go on
# as before, nothing swells, and the worker itself holds nothing while it sends.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until percentile);
use OrderEngine::Load qw($long each_line latencies show_latencies start_writers);
use OrderEngine::Receiver;
use Test::More;
use Time::HiRes qw(time);

my $rate = $long ? 1000 : 500;
my $seconds = $long ? 600 : 20;
my $before_seconds = $long ? 60 : 10;

my $node = OrderEngine->start_new('main',
	conf => q{
		autovacuum_naptime = '5 s'
		max_wal_size = '8GB'
	});
my $receiver = OrderEngine::Receiver->new;

OrderEngine::Load::prepare($node);
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$node->create_endpoint($receiver, 'shop', max_in_flight => 64, timeout => '3 min');
my $accepted = 0;

# Emits for so long; gives rate and latencies.
sub measure
{
	my ($for) = @_;
	my $count = $rate * $for;
	my $mark = $node->value('SELECT clock_timestamp()');

	my ($writer) = start_writers($node, 1, "CALL trickle($rate, $count)");
	poll_until('the events to be written', sub { $writer->is_done }, $for * 3 + 60);
	$writer->quit;
	$accepted += $count;
	$receiver->wait_for('/shop', accepted => $accepted);
	my @arrival;

	each_line($receiver, '/shop', sub { push @arrival, $1 if $_[0] =~ /"time":([\d.]+),/ });
	splice(@arrival, 0, -$count);
	return ($count / ($arrival[-1] - $arrival[0]),
		latencies($node, $receiver, '/shop', "created_at > '$mark'"));
}

# Rows of the position tables and pages of both.
sub positions
{
	return $node->value(q{
		SELECT (SELECT count(*) FROM order_engine.position_0) + (SELECT count(*) FROM order_engine.position_1)});
}

measure(1);    # connections are made, plans are kept
my ($rate_before, @before) = measure($before_seconds);

my @held = ($node->session, $node->session('elsewhere'));
foreach my $session (@held)
{
	$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$session->query('CREATE TABLE held ()');    # a transaction id, too
	$session->query('SELECT pg_current_xact_id()');
}
my ($rate_during, @during) = measure($seconds);

diag('before: ' . sprintf('%.1f/s, ', $rate_before) . show_latencies(@before));
diag("a transaction held for $seconds s: " . sprintf('%.1f/s, ', $rate_during) . show_latencies(@during));
diag(sprintf('ratios: rate %.3f, p50 %.2f, p99 %.2f', $rate_during / $rate_before,
	percentile(0.5, @during) / percentile(0.5, @before),
	percentile(0.99, @during) / percentile(0.99, @before)));
my $second_half = int(@during / 2);
diag('its first half:  ' . show_latencies(@during[ 0 .. $second_half - 1 ]));
diag('its second half: ' . show_latencies(@during[ $second_half .. $#during ]));
is(scalar @during, $rate * $seconds, 'every event came');

$node->safe_psql('postgres', 'SELECT pg_stat_force_next_flush()');
is( $node->value(q{
		SELECT string_agg(format('%s: %s updated, %s deleted, %s dead', relname, n_tup_upd, n_tup_del, n_dead_tup), '; ')
		FROM pg_stat_user_tables
		WHERE schemaname = 'order_engine' AND relname ~ '^(outbox_[0-9]|position_|delivery_)' AND relname <> 'delivery_retry'
			AND n_tup_upd + n_tup_del + n_dead_tup > 0}),
	'', 'no dead tuple in outbox and positions');

# an attempt that takes half a second while others pass gets a row (HANGS_MS in lane.c):
# on a busy machine there may be some
my $slow = grep { $_ >= 500 } @before, @during;

cmp_ok($node->value(q{SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'delivery_retry'}), '<=', $slow,
	"nor a row for what was to be tried again ($slow took long)");
my $positions = positions();
diag("$positions records of positions");
cmp_ok($positions, '<=', 20_000 + 1000, 'positions are bounded');
is($node->value('SELECT count(*) FROM order_engine.delivery_retry'), '0', 'no retry');
$_->query('ROLLBACK') foreach @held;
$_->quit foreach @held;

#
# While requests are under way the worker has no snapshot and no transaction
#
my $worker = $node->worker_pid;
my (%seen, $sending);

$receiver->rules({ path => '/shop', action => 'hang' });
$node->safe_psql('postgres', 'CALL trickle(1000, 200)');
poll_until('requests that hang', sub { $receiver->stats('/shop')->{in_flight} == 64 });
my $samples = 0;
my $look = $node->session;
# what came is flushed and the reader is at rest: then only it hangs
poll_until(
	'samples',
	sub {
		my $state = $look->query(qq{
			SELECT state, backend_xid IS NULL, backend_xmin IS NULL, xact_start IS NULL
			FROM pg_stat_activity WHERE pid = $worker});
		$seen{$state}++;
		$sending = $look->query('SELECT in_flight FROM order_engine.stat_worker');
		return ++$samples >= 200;
	});
is($sending, '64', 'all the time requests are under way');
diag('while requests hang (state, no xid, no xmin, no transaction): '
	  . join(', ', map { "$_: $seen{$_}" } sort keys %seen));
# it looks at the log every poll_interval, and that takes a transaction
cmp_ok($seen{'idle|t|t|t'} // 0, '>=', 0.95 * $samples, 'the worker holds nothing while it sends');
is($look->query(qq{
		SELECT count(*) FROM pg_locks WHERE pid = $worker AND locktype NOT IN ('advisory', 'virtualxid')}),
	'0', 'nor a lock but those of its shards');
$look->quit;
$receiver->rules;
$receiver->control({ release => JSON::PP::true });
$accepted += 200;
is($receiver->wait_for('/shop', accepted => $accepted)->{duplicates}, 0, 'none came twice');
$node->stop;

done_testing();
