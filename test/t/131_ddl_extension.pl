
# The extension itself under load: it is not dropped by accident, it is updated
# while its worker runs, and an update that fails leaves everything as it was.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use OrderEngine::Shop;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = OrderEngine->start_new('main', conf => "order_engine.poll_interval = '200 ms'\ndeadlock_timeout = '200 ms'\n");
my $receiver = OrderEngine::Receiver->new;
my @paths = qw(/fast /slow);

sub timed
{
	my ($sql, $session) = @_;
	my $start = time;
	my $stderr = '';
	my $status = $node->psql('postgres', $sql, stderr => \$stderr, on_error_stop => 1);
	my $seconds = time - $start;

	diag(sprintf('%s: %.2f s%s', $sql =~ s/.*;\s*//sr, $seconds, $status == 0 ? '' : ', refused'));
	cmp_ok($seconds, '<', 30, 'it does not hang');
	return $status == 0 ? '' : $stderr;
}

$node->create_endpoint($receiver, substr($_, 1)) foreach @paths;
$receiver->rules({ path => '/slow', delay_ms => 20 });
OrderEngine::Shop::prepare($node);
$node->wait_for_worker;

my $customers = OrderEngine::Shop->open($node, 3);

$receiver->wait_for('/slow', unique => 50);

#
# DROP EXTENSION
#
foreach my $sql ('DROP EXTENSION order_engine', 'DROP EXTENSION order_engine CASCADE',
	'DO $$ BEGIN DROP EXTENSION order_engine; END $$')
{
	like(timed($sql), qr/would delete all orders.*HINT:.*order_engine.allow_drop/s, 'orders are not deleted by accident');
}
is($customers->trouble, '', 'customers did not notice');

#
# ALTER EXTENSION UPDATE
#
my ($share) = `pg_config --sharedir` =~ /(.*)/;
my $prefix = "$share/extension/order_engine--";

END
{
	local ($?, $!);
	unlink(glob("${prefix}1.0--*.sql")) if defined $prefix;
}
unlink(glob("${prefix}1.0--*.sql"));
append_to_file("${prefix}1.0--1.1.sql", q{
\echo Use "ALTER EXTENSION order_engine UPDATE" to load this file. \quit
	ALTER TABLE order_engine.orders ADD COLUMN from_the_future integer NOT NULL DEFAULT 42;
	ALTER TABLE order_engine.history ADD COLUMN from_the_future integer NOT NULL DEFAULT 42;
	ALTER TABLE order_engine.outbox ADD COLUMN from_the_future integer NOT NULL DEFAULT 42;
	ALTER TABLE order_engine.endpoint ADD COLUMN from_the_future integer DEFAULT 42;
	ALTER TABLE order_engine.position_0 ADD COLUMN from_the_future integer NOT NULL DEFAULT 42;
	ALTER TABLE order_engine.position_1 ADD COLUMN from_the_future integer NOT NULL DEFAULT 42;
	ALTER TABLE order_engine.delivery_retry ADD COLUMN from_the_future integer DEFAULT 42;
	CREATE FUNCTION order_engine.from_the_future() RETURNS integer LANGUAGE sql AS 'SELECT 42';
	CREATE OR REPLACE FUNCTION order_engine.next_id() RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'oe_next_id';
	ALTER EXTENSION order_engine DROP FUNCTION order_engine.has_worker();
	ALTER EXTENSION order_engine ADD FUNCTION order_engine.has_worker();
});
append_to_file("${prefix}1.0--1.2.sql", q{
	ALTER TABLE order_engine.orders ADD COLUMN half_done integer;
	SELECT pg_sleep(0.3);
	SELECT 1 / 0;
});

my $worker = $node->worker_pid;
my $offset = -s $node->logfile;

sub update
{
	my ($version, $expected) = @_;
	my $error;

	# who holds locks and waits for others may be the one that is cancelled
	foreach my $try (1 .. 10)
	{
		$error = timed("ALTER EXTENSION order_engine UPDATE TO '$version'");
		last if $error !~ /deadlock detected/;
	}
	like($error, $expected, "to $version");
	return;
}

update('7.0', qr/no update path/);
update('1.2', qr/division by zero/);
is($node->value(q{SELECT extversion FROM pg_extension WHERE extname = 'order_engine'}), '1.0', 'nothing was changed');
is($node->worker_pid, $worker, 'the worker went on');
update('1.1', qr/^$/);
is($node->value(q{SELECT extversion, order_engine.from_the_future() FROM pg_extension WHERE extname = 'order_engine'}),
	'1.1|42', 'the new version is there');

my $id = $node->emit('after the update');

$receiver->wait_for_id('/fast', $id);
is($node->value(q{SELECT count(*) > 0, bool_and(from_the_future = 42) FROM order_engine.outbox}), 't|t',
	'rows that were there have the new column, and so have those of a library that does not know it');
is($node->worker_pid, $worker, 'the same worker goes on');
is($customers->trouble =~ s/^40P01.*\n?//mr, '', 'calls of customers did not fail, but for deadlocks');
is(timed('UPDATE pg_extension SET extversion = \'1.0\' WHERE extname = \'order_engine\''), '', '(back)');

#
# All is there
#
$customers->close;
my ($events, @stats) = OrderEngine::Shop::settle($node, $receiver, 'postgres', @paths);

foreach my $i (0 .. $#paths)
{
	is("$stats[$i]{gaps} $stats[$i]{out_of_order} $stats[$i]{duplicates}", '0 0 0', "$paths[$i] got everything in order and once");
}
is($node->value('SELECT count(*) FROM order_engine.verify_orders()'), 0, 'orders agree');
is($node->value('SELECT count(*) FROM order_engine.verify_stock()'), 0, 'stock agrees');

#
# DROP EXTENSION for good, with customers at work, and a new one
#
$customers = OrderEngine::Shop->open($node, 3);
$receiver->wait_for('/fast', unique => $events + 30);

my $error;

foreach my $try (1 .. 10)
{
	$error = timed('SET order_engine.allow_drop = on; DROP EXTENSION order_engine');
	last if $error !~ /deadlock detected/;
}
is($error, '', 'allow_drop');
poll_until('the worker to end', sub { !defined $node->worker_pid });
$node->safe_psql('postgres', 'CREATE EXTENSION order_engine');
OrderEngine::Shop::stock($node);
$node->wait_for_worker;
$node->create_endpoint($receiver, 'new');
$receiver->wait_for('/new', unique => 30);
$customers->trouble;
$receiver->wait_for('/new', unique => $receiver->stats('/new')->{unique} + 30);
is($customers->trouble =~ s/^40P01.*\n?//mr, '', 'customers order from the new one');
$customers->close;

# the endpoint came when there had been events already
$receiver->wait_for_id('/new', $node->emit('the last'));
$node->wait_for_value(q{SELECT order_engine.undelivered('new')}, 0);
pass('and everything is sent');
is($node->value('SELECT count(*) FROM order_engine.verify_orders()'), 0, 'orders agree');

# others wait for locks: it is refused before it asks for any
my $holder = $node->session;

$holder->query(q{BEGIN; SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR')});
like(timed(q{SET lock_timeout = '10 s'; DROP EXTENSION order_engine}), qr/would delete all orders/, 'a doomed command does not wait');
$holder->query('COMMIT');
$holder->quit;

my $log = substr(slurp_file($node->logfile), $offset);

unlike($log, qr/terminated by signal|exited with exit code 1|PANIC/, 'no worker failed');
$node->stop;

#
# A session that has not loaded the library
#
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
like(timed('DROP EXTENSION order_engine'), qr/delete all orders/, 'not preloaded');
like(timed('DROP EXTENSION plpgsql CASCADE'), qr/delete all orders/, 'through a CASCADE');
like(timed('TRUNCATE order_engine.orders'), qr/contradicting/, 'TRUNCATE');
like(timed(q{SET session_replication_role = replica; DROP EXTENSION order_engine}), qr/delete all orders/, 'as a replica');
like(timed('ALTER EXTENSION order_engine DROP TABLE order_engine.orders'), qr/would leave orders unprotected/, 'ALTER EXTENSION');
like(timed('ALTER TABLE order_engine.history ALTER metadata TYPE text'), qr/cannot change their type/, 'ALTER TABLE');

#
# The library is gone, its package removed for instance
#
my ($library) = `pg_config --pkglibdir` =~ /(.*)/;

$library .= '/order_engine.so';
rename($library, "$library.away") or die "could not rename $library: $!";

END
{
	local ($?, $!);
	rename("$library.away", $library) if defined $library && -e "$library.away";
}
$node->safe_psql('postgres', 'CREATE TABLE bystander (a integer)');
my $warning = '';

is($node->psql('postgres', 'ALTER TABLE bystander ADD b integer, ALTER a TYPE bigint', stderr => \$warning), 0,
	'tables of others can be altered');
like($warning, qr/WARNING:  order_engine does not guard its tables: could not access file/, 'with a warning');
like(timed('DROP EXTENSION order_engine'), qr/would delete all orders/, 'DROP EXTENSION is refused all the same');
is(timed('SET order_engine.allow_drop = on; DROP EXTENSION order_engine'), '', 'allow_drop');
is($node->value(q{SELECT count(*) FROM pg_extension WHERE extname = 'order_engine'}), 0, 'it is gone');
$node->stop;

done_testing();
