
# Several workers for a database: the launcher runs as many as it is told, each
# serves its own shards, and together they serve all, once.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use Test::More;

my $node = OrderEngine->start_new(
	'main',
	databases => [ 'postgres', 'shop' ],
	conf => q{
		order_engine.workers = 3
		order_engine.poll_interval = '10 min'
		order_engine.maintenance_interval = 0
		max_worker_processes = 32
		max_prepared_transactions = 5
	});

# The workers that run, as "number:process".
sub running
{
	my ($database) = @_;

	return $node->value(q{
		SELECT coalesce(string_agg(worker || ':' || pid, ' ' ORDER BY worker), '')
		FROM order_engine.stat_worker WHERE pid IS NOT NULL}, $database);
}

# Their process ids.
sub pids { return map { s/.*://r } split(/ /, running(@_)); }

# Which worker holds the lock of which shard: "shard=number" for each lock.
sub locks
{
	my ($database) = @_;

	return $node->value(q{
		SELECT coalesce(string_agg(l.objsubid - 3 || '=' || w.worker, ' ' ORDER BY l.objsubid), '')
		FROM pg_locks l JOIN order_engine.stat_worker w USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted
			AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())},
		$database);
}

# Waits until the database has a complete set of so many workers.
sub wait_for_set
{
	my ($count, $database) = @_;
	my $expected = join(' ', map { "$_=" . $_ % $count } 0 .. 15);

	poll_until("$count workers", sub { locks($database) eq $expected && pids($database) == $count });
	return;
}

# Reads of each worker since it was started.
sub reads
{
	return split(/,/, $node->value(
		q{SELECT string_agg(reads::text, ',' ORDER BY worker) FROM order_engine.stat_worker}));
}

# Waits until all workers have come to rest, and returns their reads.
sub reads_at_rest
{
	my @reads = reads();

	poll_until(
		'the workers to rest',
		sub {
			my @before = @reads;

			$node->safe_psql('postgres', 'SELECT pg_sleep(0.3)');
			@reads = reads();
			return "@before" eq "@reads";
		});
	return @reads;
}

#
# As many as the setting says
#
wait_for_set(3);
wait_for_set(3, 'shop');
pass('three workers start, and each holds the locks of its shards');
is( $node->value(q{SELECT string_agg(worker || ':' || shards::text, ' ' ORDER BY worker)
		FROM order_engine.stat_worker}),
	'0:{0,3,6,9,12,15} 1:{1,4,7,10,13} 2:{2,5,8,11,14}', 'stat_worker shows the shards');
is($node->value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_engine worker'}),
	'6', 'there are no others');
is($node->error_of('SELECT order_engine.start_worker()')->{sqlstate},
	'55006', 'one more cannot be started by hand');

#
# Another number
#
my $offset = -s $node->logfile;
my %old = map { $_ => 1 } pids();

$node->configure('order_engine.workers' => 2);
wait_for_set(2);
wait_for_set(2, 'shop');
pass('two instead of three');
is(scalar(grep { $old{$_} } pids()), 0, 'none of the old set went on');
is($node->value('SELECT count(*) FROM order_engine.stat_worker'), '2', 'stat_worker has forgotten the third');

foreach my $count (8, 1, 5, 4, 7, 3, 1)
{
	$node->configure('order_engine.workers' => $count);
}
wait_for_set(1);
$node->configure('order_engine.workers' => 4);
wait_for_set(4);
wait_for_set(4, 'shop');
pass('changes in quick succession come to the right set');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile, $offset),
	qr/another worker serves/, 'no worker was started too early');

#
# One that ends
#
my @before = split(/ /, running());
my ($victim) = $before[1] =~ /:(.*)/;
$node->value("SELECT pg_terminate_backend($victim, 10000)");
wait_for_set(4);
my @after = split(/ /, running());
isnt($after[1], $before[1], 'a worker that ends is started again');
splice(@$_, 1, 1) foreach \@before, \@after;
is("@after", "@before", 'the others go on');

my $before = running();
kill('KILL', (pids())[2]) == 1 or die "could not kill a worker: $!";
poll_until(
	'all processes to be started again',
	sub {
		my $now = eval { running() } // '';
		return $now ne '' && $now ne $before;
	});
wait_for_set(4);
wait_for_set(4, 'shop');
pass('so are all after a crash');

#
# The launcher ends: those that run do not care, and the next one finds them
#
my $launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_engine launcher'};
my $first = $node->value($launcher);
my $set = running();
$node->value("SELECT pg_terminate_backend($first, 10000)");
poll_until('another launcher', sub { $node->value($launcher) !~ /^($first)?$/ });
is(running(), $set, 'without the launcher workers go on');
$node->configure('order_engine.workers' => 3);
wait_for_set(3);
pass('the next launcher changes their number');

#
# A commit wakes those whose shards it wrote to
#
my @rest = reads_at_rest();
foreach my $round (1 .. 6)
{
	$node->emit("wake $round");
	my $worker = $node->value(qq{
		SELECT shard % 3 FROM order_engine.outbox WHERE aggregateid = 'wake $round'});
	poll_until("worker $worker to read", sub { (reads())[$worker] > $rest[$worker] });
	my @now = reads_at_rest();
	$rest[$worker] = $now[$worker];
	is("@now", "@rest", "the event for worker $worker wakes it and no other");
	@rest = @now;
}
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT order_engine.emit('test', 'many ' || i, 'test.event', '{}') FROM generate_series(1, 200) i;
	COMMIT});
poll_until('all workers to read',
	sub { my @now = reads(); !grep { $now[$_] <= $rest[$_] } 0 .. 2 });
pass('a transaction with events for all wakes all');

# a prepared one has its workers poll, because nobody tells when it commits
@rest = reads_at_rest();
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT order_engine.emit('test', 'prepared', 'test.event', '{}');
	PREPARE TRANSACTION 'p'});
poll_until('polling', sub {
	my @now = reads();
	return (grep { $now[$_] >= $rest[$_] + 3 } 0 .. 2) == 1;
});
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
my @polled = reads_at_rest();
is(scalar(grep { $polled[$_] == $rest[$_] } 0 .. 2), 2, 'a prepared transaction wakes its worker only');

#
# Commands on whole databases and on the extension
#
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE shop');
wait_for_set(3, 'shop');
pass('CREATE DATABASE ... TEMPLATE finds nobody, and the workers come back');
$node->safe_psql('postgres', 'ALTER DATABASE shop RENAME TO other');
$node->safe_psql('postgres', 'ALTER DATABASE other RENAME TO shop');
wait_for_set(3, 'shop');
$node->configure('order_engine.poll_interval' => '200');    # how it is noticed
$node->safe_psql('shop', 'DROP EXTENSION order_engine');
poll_until('all workers to end', sub { !defined $node->worker_pid('shop') });
$node->safe_psql('shop', 'CREATE EXTENSION order_engine');
wait_for_set(3, 'shop');
pass('all end with the extension, and come with it');
$node->safe_psql('postgres', 'DROP DATABASE shop');
pass('DROP DATABASE finds nobody');

#
# By hand: one with all shards, which the launcher leaves alone
#
$node->configure('order_engine.databases' => 'postgres');
$node->call('start_worker', {}, 'copy');
wait_for_set(1, 'copy');
my $by_hand = running('copy');
$node->configure('order_engine.databases' => 'postgres, copy');
$node->configure('order_engine.workers' => 2);
wait_for_set(2);
is(running('copy'), $by_hand, 'one that was started by hand stays');
$node->value('SELECT pg_terminate_backend(' . $by_hand =~ s/.*://r . ', 10000)');
wait_for_set(2, 'copy');
pass('when it has ended, the set is started');

$node->configure('order_engine.databases' => '');
poll_until('all workers to end', sub { running() eq '' && running('copy') eq '' });
pass('off the list, all end');
$node->stop;

done_testing();
