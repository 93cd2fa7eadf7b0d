
# Commands on whole databases under load: the workers get out of the way at once,
# also while they are inside a transaction, and nothing is lost by that.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use OrderEngine::Shop;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = OrderEngine->start_new('main', databases => [ 'shop', 'second' ],
	conf => "order_engine.databases = 'shop, second, store'\norder_engine.poll_interval = '200 ms'\nallow_in_place_tablespaces = on\n");
my $receiver = OrderEngine::Receiver->new;
my @paths = qw(/fast /slow /hang);
my %longest;

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

# So many events, each in a transaction of its own.
sub emit
{
	my ($n, $database) = @_;

	$node->safe_psql($database, qq{
		DO \$\$ BEGIN
			FOR i IN 1..$n LOOP
				PERFORM order_engine.emit('test', 'busy ' || i % 50, 'test.event', '{}');
				COMMIT;
			END LOOP;
		END \$\$});
	return;
}

$node->create_endpoint($receiver, substr($_, 1), database => 'shop', max_in_flight => 64) foreach @paths;
$receiver->rules({ path => '/slow', delay_ms => 20 }, { path => '/hang', action => 'hang', type => 'order.cancelled' });
OrderEngine::Shop::prepare($node, $_) foreach qw(shop second);
$node->wait_for_worker($_) foreach qw(shop second);

my $offset = -s $node->logfile;
my $customers = OrderEngine::Shop->open($node, 3, 'shop');

$receiver->wait_for('/fast', unique => 50);

#
# Other databases come and go: workers take part in every barrier of the server
#
foreach my $i (1 .. 10)
{
	is(timed("CREATE DATABASE of others, $_", "CREATE DATABASE other STRATEGY $_"), '', "CREATE DATABASE, $_")
	  foreach $i % 2 ? 'wal_log' : 'file_copy';
	is(timed('DROP DATABASE of others', 'DROP DATABASE other'), '', 'DROP DATABASE');
}

#
# The database itself, in use by customers
#
# (the server waits 5 seconds for them)
my $worker = $node->worker_pid('shop');

like(timed('RENAME, in use', 'ALTER DATABASE shop RENAME TO store'), qr/is being accessed by other users/, 'RENAME is refused');
is($node->worker_pid('shop'), $worker, 'and the worker went on');
is($customers->trouble, '', 'customers did not notice');
$customers->close;

#
# In use by one who leaves while the server waits
#
my $visitor = $node->session('shop');
my $renamer = $node->session;

$renamer->send('ALTER DATABASE shop RENAME TO store');
$node->wait_for_value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass
	AND mode = 'AccessExclusiveLock' AND granted}, 1);
is($node->worker_pid('shop'), $worker, 'the worker is not in the way of more than one');
$visitor->quit;
$renamer->receive;
$renamer->quit;
$node->wait_for_worker('store', $worker);
is(timed('RENAME', 'ALTER DATABASE store RENAME TO shop'), '', 'RENAME when the last of the others has left');
$node->wait_for_worker('shop');

#
# In use by its worker only, with much to deliver
#
$node->safe_psql('postgres', q{CREATE TABLESPACE space LOCATION ''});
emit(3000, 'shop');
foreach my $i (1 .. 3)
{
	my $name = $i % 2 ? 'store' : 'shop';
	my $old = $i % 2 ? 'shop' : 'store';

	emit(300, $old);
	is(timed('RENAME', "ALTER DATABASE $old RENAME TO $name"), '', "ALTER DATABASE $old RENAME");
	$node->wait_for_worker($name);
}
is(timed('RENAME', 'ALTER DATABASE store RENAME TO shop'), '', '(back)');
$node->wait_for_worker('shop');
is(timed('SET TABLESPACE', 'ALTER DATABASE shop SET TABLESPACE space'), '', 'SET TABLESPACE');
$node->wait_for_worker('shop');
is(timed('CREATE DATABASE TEMPLATE', 'CREATE DATABASE store TEMPLATE shop'), '', 'CREATE DATABASE ... TEMPLATE');
$node->wait_for_worker('store');
is(timed('DROP DATABASE', 'DROP DATABASE store'), '', 'DROP DATABASE');

#
# A worker that is inside a transaction
#
foreach my $i (1 .. 3)
{
	my $worker = $node->wait_for_worker('shop');
	my $holder = $node->session('shop');

	$holder->query('BEGIN; LOCK TABLE order_engine.position_0, order_engine.position_1');
	$node->emit("waiting $i", database => 'shop');
	$node->wait_for_value("SELECT count(*) FROM pg_locks WHERE pid = $worker AND NOT granted", 1, 'shop');
	is($node->value("SELECT pg_terminate_backend($worker, 10000)"), 't', 'a worker that waits for a lock ends');
	$holder->query('COMMIT');
	$holder->quit;
	$node->wait_for_worker('shop', $worker);
}

#
# Nothing is lost
#
$receiver->control({ release => JSON::PP::true(), rules => [] });

my ($events, @stats) = OrderEngine::Shop::settle($node, $receiver, 'shop', @paths);

foreach my $i (0 .. $#paths)
{
	is("$stats[$i]{gaps} $stats[$i]{out_of_order} $stats[$i]{unverified}", '0 0 0', "$paths[$i] got everything in order");
	# results of one flush and what was under way, each time a worker ended inside a transaction
	cmp_ok($stats[$i]{duplicates}, '<=', 12 * 1256, 'duplicates within the bound');
	diag("$paths[$i]: $stats[$i]{duplicates} duplicates of $events");
}
is($node->value('SELECT count(*) FROM order_engine.verify_orders()', 'shop'), 0, 'orders agree');
is($node->value('SELECT count(*) FROM order_engine.verify_stock()', 'shop'), 0, 'stock agrees');

#
# DROP DATABASE ... WITH (FORCE), orders and customers and all
#
$customers = OrderEngine::Shop->open($node, 2, 'shop');
$receiver->wait_for('/fast', unique => $events + 30);
is(timed('DROP DATABASE WITH (FORCE)', 'DROP DATABASE shop WITH (FORCE)'), '', 'DROP DATABASE WITH (FORCE)');
$_->quit foreach @{ delete $customers->{sessions} };
$customers->{sessions} = [];
is($node->value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_engine worker'}), 1, 'its worker is gone');
$node->create_endpoint($receiver, 'second', database => 'second');
$receiver->wait_for_id('/second', $node->emit('on', database => 'second'));
pass('the other database is served');

my $log = substr(slurp_file($node->logfile), $offset);

unlike($log, qr/terminated by signal|PANIC/, 'no crash');
diag(sprintf('%-45s %.2f s at most', $_, $longest{$_})) foreach sort keys %longest;
cmp_ok((sort { $b <=> $a } values %longest)[0], '<', 60, 'nothing hangs');
$node->stop;

#
# Too few background workers for order_engine.workers
#
my $small = OrderEngine->start_new('small', databases => ['postgres'],
	conf => "order_engine.workers = 4\nmax_worker_processes = 4\norder_engine.poll_interval = '200 ms'\n");

poll_until('a word about it', sub {
	slurp_file($small->logfile) =~ /order_engine cannot start worker \d of 4 for database \d+: no background worker is free.*Raise max_worker_processes/s
});
$small->wait_for_value('SELECT count(pid), count(*) FROM order_engine.stat_worker', '2|4');
pass('the log says what to raise, and stat_worker which shards are not served');
$small->stop;

done_testing();
