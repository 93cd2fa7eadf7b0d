
# What an owner does to the tables of the extension while customers order and
# endpoints are served: it is done, or refused with a reason; nothing is lost, no
# worker falls into a loop of crashes.  OE_LONG=1 does every command to every table,
# and to the whole database.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use OrderEngine::Shop;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = OrderEngine->start_new('main', conf => q{
order_engine.poll_interval = '200 ms'
order_engine.maintenance_interval = '300 ms'
order_engine.attempt_log = 'all'
order_engine.workers = 2
deadlock_timeout = '200 ms'
max_worker_processes = 20
});
my $receiver = OrderEngine::Receiver->new;
my @paths = qw(/fast /slow /hang);
my %longest;

$node->create_endpoint($receiver, substr($_, 1)) foreach @paths;
$receiver->rules({ path => '/slow', delay_ms => 20 },
	{ path => '/hang', action => 'hang', attempts => 1, type => 'order.cancelled' });
OrderEngine::Shop::prepare($node);

my $offset = -s $node->logfile;

sub workers
{
	return $node->value(q{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type = 'order_engine worker'});
}

# Runs it; remembers under $kind how long that took at most. Returns the error, '' if none.
sub timed
{
	my ($kind, $sql) = @_;
	my $start = time;
	my $stderr = '';
	my $status = $node->psql('postgres', $sql, stderr => \$stderr, on_error_stop => 1);
	my $seconds = time - $start;

	$longest{$kind} = $seconds if $seconds > ($longest{$kind} // 0);
	return $status == 0 ? '' : $stderr;
}

$node->wait_for_value(q{SELECT count(*) FROM order_engine.stat_worker WHERE pid IS NOT NULL}, 2);

my $first_workers = workers();
my $customers = OrderEngine::Shop->open($node, 3);

$receiver->wait_for('/fast', unique => 50);

#
# Every table, every command
#
my @members = split(/\n/, $node->value(q{
	SELECT c.relname || ' ' || c.relkind::text
	FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	WHERE e.extname = 'order_engine' AND d.deptype = 'e' AND c.relkind IN ('r', 'p') ORDER BY 1}));
my (@refused, @emptied);
my $unexpected = '';
my $deadlocks = 0;

# one of each kind, and those that are written most, get the slow commands, too
my %slow = map { $_ => 1 } qw(orders history stock reservation idempotency_key machine outbox outbox_0 outbox_ring
	endpoint position_0 delivery_retry delivery_attempt_0);

cmp_ok(scalar @members, '>', 40, 'tables to walk over');
is(scalar(grep { $slow{ (split)[0] } } @members), scalar keys %slow, 'tables that get the slow commands');
foreach my $member (@members)
{
	my ($table, $kind) = split(/ /, $member);
	my $name = "order_engine.$table";
	my $key = $node->value(qq{SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$name'::regclass AND indisunique LIMIT 1});
	my $column = $node->value(qq{SELECT attname FROM pg_attribute WHERE attrelid = '$name'::regclass AND attnum = 1});
	my %commands = (
		'ANALYZE' => "ANALYZE $name",
		'VACUUM' => "VACUUM $name",
		'VACUUM FULL' => "VACUUM FULL $name",
		'REINDEX TABLE' => "REINDEX TABLE $name",
		'REINDEX CONCURRENTLY' => "REINDEX TABLE CONCURRENTLY $name",
		# leaves of the outbox get theirs from their parent
		$table =~ /^outbox_\d/ ? () : (
			'ALTER TABLE ADD COLUMN' => "ALTER TABLE $name ADD COLUMN added integer DEFAULT 1",
			'ALTER TABLE DROP COLUMN' => "ALTER TABLE $name DROP COLUMN added"),
		$kind eq 'p' ? () : (
			'CREATE INDEX CONCURRENTLY' => "CREATE INDEX CONCURRENTLY by_hand ON $name ($column)",
			'DROP INDEX CONCURRENTLY' => 'DROP INDEX CONCURRENTLY order_engine.by_hand',
			$key eq '' ? () : ('CLUSTER' => "CLUSTER $name USING " . $key =~ s/.*\.//r),
			'ALTER TABLE SET STATISTICS' => "ALTER TABLE $name ALTER $column SET STATISTICS 200",
			'ALTER TABLE SET (fillfactor)' => "ALTER TABLE $name SET (fillfactor = 70)"));

	my @slow = ('VACUUM FULL', 'CREATE INDEX CONCURRENTLY', 'CLUSTER', 'REINDEX TABLE', 'REINDEX CONCURRENTLY',
		'DROP INDEX CONCURRENTLY');
	my @script = map { $commands{$_} // () } ('ANALYZE', 'VACUUM', 'ALTER TABLE ADD COLUMN',
		$slow{$table} || $ENV{OE_LONG} ? @slow : (),
		'ALTER TABLE DROP COLUMN', 'ALTER TABLE SET STATISTICS', 'ALTER TABLE SET (fillfactor)');
	my ($stdout, $stderr) = ('', '');

	$node->psql('postgres', join('', "\\timing on\n", map { "$_;\n" } @script),
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	# who waits for another lock while holding one may be the one that is cancelled
	$deadlocks += () = $stderr =~ /ERROR:  deadlock detected/g;
	$unexpected .= "$table: $_\n" foreach grep { !/deadlock detected/ } $stderr =~ /ERROR: .*/g;

	my @times = $stdout =~ /^Time: ([\d.]+) ms/mg;

	foreach my $i (0 .. $#script)
	{
		my $command = (grep { ($commands{$_} // '') eq $script[$i] } keys %commands)[0];
		my $seconds = ($times[$i] // 0) / 1000;

		$longest{$command} = $seconds if $seconds > ($longest{$command} // 0);
	}
}
diag("$deadlocks commands lost a deadlock") if $deadlocks > 0;
is($unexpected, '', 'each table takes every command');

foreach my $sql ('REINDEX SCHEMA order_engine',
	$ENV{OE_LONG} ? ('REINDEX SYSTEM postgres', 'REINDEX DATABASE postgres', 'VACUUM FULL', 'ANALYZE') : ())
{
	my $error = timed($sql, $sql);

	$error = timed($sql, $sql) if $error =~ /deadlock detected/;
	is($error, '', $sql);
}

#
# TRUNCATE
#
foreach my $table (map { (split)[0] } @members)
{
	next if $table =~ /^(outbox|position|delivery|endpoint|replay|idempotency_key|access_rule|product|currency|location|channel_location)/;
	my $has_rows = $node->value("SELECT EXISTS (SELECT FROM order_engine.$table)") eq 't';
	my $error = timed('TRUNCATE, refused', "TRUNCATE order_engine.$table");

	push @emptied, $table if $has_rows && $error eq '';
	push @refused, $table if $error =~ /would leave orders, stock and history contradicting/ && $error =~ /HINT:.*order_engine.allow_drop/;
}
ok((grep { $_ eq 'orders' } @refused) && (grep { $_ eq 'stock' } @refused) && (grep { $_ eq 'history' } @refused),
	"TRUNCATE is refused: @refused");
is("@emptied", '', 'and none that has rows is emptied');
like(timed('TRUNCATE, refused', 'TRUNCATE order_engine.endpoint'), qr/referenced in a foreign key/, 'and of endpoint');
is(timed('TRUNCATE idempotency_key', 'TRUNCATE order_engine.idempotency_key'), '', 'what stands alone may be truncated');
$customers->close;
is($customers->trouble =~ s/^40P01.*\n?//mr, '', 'calls of customers did not fail, but for deadlocks');
$customers = OrderEngine::Shop->open($node, 3);

#
# Locks that somebody holds for seconds
#
foreach my $table (qw(outbox endpoint position_0),
	$ENV{OE_LONG} ? qw(outbox_ring position_1 delivery_retry delivery_attempt_0 orders) : ())
{
	my $session = $node->session;

	$session->query("BEGIN; LOCK TABLE order_engine.$table; SELECT pg_sleep(0.7)");
	timed('CREATE DATABASE while workers wait for a lock', 'CREATE DATABASE other STRATEGY file_copy');
	timed('DROP DATABASE while workers wait for a lock', 'DROP DATABASE other');
	$session->query('COMMIT');
	$session->quit;
}
pass('tables were locked for a while');

#
# Signals and settings
#
# (a lost lock of a command above may have cost a worker's transaction, never a crash)
my $before = workers();

foreach my $i (1 .. 10)
{
	$node->value(q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE backend_type LIKE 'order_engine%'});
	usleep(20_000);
}
is(workers(), $before, 'pg_cancel_backend() does not hurt workers and launcher');

$node->safe_psql('postgres', q{
	ALTER DATABASE postgres SET search_path = public;
	CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
	ALTER DATABASE postgres SET session_replication_role = replica;
	ALTER DATABASE postgres SET exit_on_error = on;
	ALTER DATABASE postgres SET default_transaction_read_only = on;
	ALTER DATABASE postgres SET default_transaction_isolation = serializable;
	ALTER DATABASE postgres SET lock_timeout = 1;
	ALTER DATABASE postgres SET statement_timeout = 1});
$node->value(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'order_engine worker'}, 'template1');
poll_until('new workers', sub {
	my $now = $node->value(q{SELECT count(*), string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type = 'order_engine worker'}, 'template1');
	return $now =~ /^2\|/ && $now !~ /\|\Q$before\E$/;
});
$node->safe_psql('template1', 'ALTER DATABASE postgres RESET ALL');
$node->safe_psql('postgres', 'DROP FUNCTION public.now()');

my $start = time;

foreach my $i (1 .. 12)
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET order_engine.max_in_flight = " . (50 + $i));
	$node->safe_psql('postgres', 'ALTER SYSTEM SET order_engine.workers = ' . (1 + $i % 3)) if $i % 4 == 0;
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
}
$node->configure('order_engine.workers' => 2);
diag(sprintf('a storm of reloads: %.2f s', time - $start));
$node->wait_for_value(q{SELECT count(*) FROM order_engine.stat_worker WHERE pid IS NOT NULL}, 2);
pass('a storm of reloads leaves two workers');

foreach my $i (1 .. 2)
{
	my $launcher = $node->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_engine launcher'});

	$before = workers();
	$node->value("SELECT pg_terminate_backend($launcher)");
	poll_until('another launcher', sub {
		my $now = $node->value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_engine launcher'});
		return $now ne '' && $now != $launcher;
	});
	is(workers(), $before, 'workers go on without their launcher');
}

#
# What came of it
#
$customers->close;
is($customers->trouble =~ s/^40P01.*\n?//mr, '', 'calls of customers did not fail, but for deadlocks');
$receiver->control({ release => JSON::PP::true(), rules => [] });
# hanging requests have opened its circuit breaker
$node->call('resume_endpoint', { name => 'hang' });

my ($events, @stats) = OrderEngine::Shop::settle($node, $receiver, 'postgres', @paths);

foreach my $i (0 .. $#paths)
{
	is("$stats[$i]{gaps} $stats[$i]{out_of_order} $stats[$i]{unverified}", '0 0 0', "$paths[$i] got everything in order");
	cmp_ok($stats[$i]{duplicates}, '<=', 1256 * 4, 'duplicates within the bound');
	diag("$paths[$i]: $stats[$i]{duplicates} duplicates of $events");
}
is($node->value('SELECT count(*) FROM order_engine.verify_orders()'), 0, 'orders agree');
is($node->value('SELECT count(*) FROM order_engine.verify_stock()'), 0, 'stock agrees');

my $log = substr(slurp_file($node->logfile), $offset);
my @ends = $log =~ /background worker "order_engine worker[^"]*" \(PID \d+\) exited with exit code 1/g;
my @told = $log =~ /FATAL:  terminating background worker "order_engine worker/g;

unlike($log, qr/terminated by signal|server process.*was terminated|PANIC/, 'no crash');
# one that loses a deadlock with a command
cmp_ok(@ends - @told, '<=', 2, 'hardly any worker ended because of an error: ' . (@ends - @told));
diag(sprintf('%-45s %.2f s at most', $_, $longest{$_})) foreach sort keys %longest;
cmp_ok((sort { $b <=> $a } values %longest)[0], '<', 60, 'nothing hangs');
$node->stop;

done_testing();
