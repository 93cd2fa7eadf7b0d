
# What is done to databases, extension and server while the worker runs: it is
# never in the way.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $true = JSON::PP::true;
my $conf = q{order_engine.poll_interval = '200 ms'};
my $node = OrderEngine->start_new('main', databases => [ 'postgres', 'two' ], conf => $conf);
my $receiver = OrderEngine::Receiver->new;

# Seconds that something takes.
sub seconds
{
	my ($what, $action) = @_;
	my $start = time;

	$action->();
	my $seconds = time - $start;
	diag(sprintf('%s: %.2f s', $what, $seconds));
	return $seconds;
}

sub wait_until_gone
{
	my ($database) = @_;

	return poll_until("the worker of $database to end",
		sub { !defined $node->worker_pid($database) });
}

#
# DROP EXTENSION and CREATE EXTENSION, with requests under way
#
foreach my $round (1 .. 3)
{
	my $pid = $node->wait_for_worker;
	my $name = "round$round";

	$node->create_endpoint($receiver, $name);
	$receiver->rules({ path => "/$name", type => 'test.hang', action => 'hang' },
		{ path => "/$name", delay_ms => 5 });
	$node->emit('hang', type => 'test.hang');
	$node->emit_many("'busy ' || i", 1, 500);
	$receiver->wait_for("/$name", requests => 10);
	cmp_ok(
		seconds(
			'DROP EXTENSION', sub { $node->safe_psql('postgres', 'DROP EXTENSION order_engine') }),
		'<', 5, 'DROP EXTENSION does not wait for requests');
	if ($round < 3)
	{
		wait_until_gone('postgres');
		pass('the worker ends');
	}
	# the third time there is a new one before the worker has seen the old one go
	$node->safe_psql('postgres', 'CREATE EXTENSION order_engine');
	$node->wait_for_worker('postgres', $pid);
	$receiver->control({ release => $true, rules => [] });

	$node->create_endpoint($receiver, "again$round");
	my $id = $node->emit('again');
	$receiver->wait_for_id("/again$round", $id);
	pass('a new extension gets a worker that delivers');
}
isnt($node->worker_pid('two'), undef, 'the worker of the other database went on');

#
# A database that is dropped
#
my $secret = $node->create_endpoint($receiver, 'two', database => 'two');
$receiver->rules({ path => '/two', action => 'hang' });
$node->emit('hang', database => 'two');
$receiver->wait_for('/two', requests => 1);
cmp_ok(
	seconds(
		'DROP DATABASE WITH (FORCE)',
		sub { $node->safe_psql('postgres', 'DROP DATABASE two WITH (FORCE)') }),
	'<', 5, 'DROP DATABASE WITH (FORCE) does not wait for requests');
$receiver->control({ release => $true, rules => [] });
is( $node->value(
		q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_engine worker'}),
	'1', 'its worker is gone');
my $id = $node->emit('after');
$receiver->wait_for_id('/again3', $id);
pass('the other worker delivers');

# and made again
$node->safe_psql('postgres', 'CREATE DATABASE two');
$node->safe_psql('two', 'CREATE EXTENSION order_engine');
$node->wait_for_worker('two');
$node->create_endpoint($receiver, 'two', database => 'two');
$id = $node->emit('new', database => 'two');
$receiver->wait_for_id('/two', $id);
pass('a new database of that name gets a worker');

#
# The list of databases
#
$node->safe_psql('postgres', 'CREATE DATABASE three');
$node->safe_psql('three', 'CREATE EXTENSION order_engine');
$node->create_endpoint($receiver, 'three', database => 'three');
my $early = $node->emit('early', database => 'three');
$node->safe_psql('postgres', 'CREATE DATABASE four');
is($node->worker_pid('three'), undef, 'a database that is not listed has no worker');

$node->configure('order_engine.databases' => 'postgres, two, three, four, missing');
my $three = $node->wait_for_worker('three');
$receiver->wait_for_id('/three', $early);
pass('listed, it gets one, which sends what has been waiting');
$node->safe_psql('four', 'CREATE EXTENSION order_engine');
$node->wait_for_worker('four');
pass('a listed database gets one when it gets the extension');

my $others = join(' ', map { $node->worker_pid($_) } qw(postgres two));
$receiver->rules({ path => '/three', action => 'hang' });
$node->emit('hang', database => 'three');
$receiver->wait_for('/three', requests => 2);
$node->configure('order_engine.databases' => 'postgres, two');
wait_until_gone('three');
wait_until_gone('four');
pass('off the list, workers end, even with a request under way');
is(join(' ', map { $node->worker_pid($_) } qw(postgres two)), $others, 'the others stay');
$receiver->control({ release => $true, rules => [] });
my $later = $node->emit('later', database => 'three');
$node->configure('order_engine.databases' => 'postgres, two, three');
$receiver->wait_for_id('/three', $later);
isnt($node->worker_pid('three'), $three, 'on the list again, it goes on');

# one by one, faster than workers start and end
foreach my $i (1 .. 5)
{
	$node->configure('order_engine.databases' => 'two, three');
	$node->configure('order_engine.databases' => 'postgres, two, three');
}
$id = $node->emit('quick');
$receiver->wait_for_id('/again3', $id);
pass('changes in quick succession leave it running');

#
# Shutdown
#
$node->create_endpoint($receiver, 'hanging', timeout => '5 minutes');
$receiver->rules({ path => '/hanging', action => 'hang' });
$node->emit("hanging $_") foreach 1 .. 3;
$receiver->wait_for('/hanging', requests => 3);
cmp_ok(seconds('fast shutdown with requests that hang', sub { $node->stop('fast') }),
	'<', 10, 'a shutdown does not wait for requests');
$receiver->control({ release => $true, rules => [] });
$node->start;
$receiver->wait_for('/hanging', accepted => 3);
pass('they are sent again');
$node->stop;

#
# A server that did not preload the library
#
my $bare = OrderEngine->start_new('bare', worker => 0,
	conf => "shared_preload_libraries = ''\n$conf");
$bare->create_endpoint($receiver, 'bare');
$id = $bare->emit('waiting');
is($bare->value('SELECT count(*) FROM order_engine.stat_worker'), '0', 'no counters');
my $pid = $bare->call('start_worker', {});
is($bare->worker_pid, $pid, 'start_worker starts a worker');
$receiver->wait_for_id('/bare', $id);
$id = $bare->emit('polled');
$receiver->wait_for_id('/bare', $id);
pass('which polls');
is($bare->error_of('SELECT order_engine.start_worker()')->{sqlstate},
	'55006', 'there is one at most');
is($bare->worker_pid, $pid, 'the first one stays');
$bare->value("SELECT pg_terminate_backend($pid, 10000)");
$bare->call('start_worker', {});
$bare->emit_many("'bare'", 1, 100);
my $stats = $receiver->wait_for('/bare', accepted => 102);
is($stats->{duplicates}, 0, 'another goes on where it stopped');

# in a copy; there is nobody who would start another worker
$bare->safe_psql('postgres', q{UPDATE order_engine.endpoint SET owner = owner || '/copy'});
poll_until('the worker to end', sub { !defined $bare->worker_pid });
$pid = $bare->call('start_worker', {});
poll_until('word that it is a copy', sub { slurp_file($bare->logfile) =~ /that it has as a copy of another database/ });
is($bare->value('SELECT order_engine.adopt_database()'), 't', 'the copy is adopted');
$id = $bare->emit('adopted');
$receiver->wait_for_id('/bare', $id);
is($bare->worker_pid, $pid, 'the worker goes on in what was a copy');
$bare->safe_psql('postgres', 'DROP EXTENSION order_engine');
poll_until('the worker to end', sub { !defined $bare->worker_pid });
pass('it ends with the extension');
$bare->stop;

done_testing();
