
# Dumps, restored onto servers whose transaction ids are lower and higher: all
# that was in the database is there, nothing is sent until the copy is adopted, and
# then each endpoint gets what it was yet to get, once and in order, together with
# what was written in the copy before and is written after.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until webhook_id emit_sql);
use OrderEngine::Copy qw(contents sequences undelivered expect_delivery);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $source = OrderEngine->start_new('source', databases => ['shop']);
my $original = OrderEngine::Receiver->new;

OrderEngine::Copy::burn_transactions($source, 20_000);
OrderEngine::Copy::prepare($source, $original, 'shop');

my $contents = contents($source, 'shop');
my $sequences = sequences($source, 'shop');
my %undelivered = undelivered($source, 'shop');

cmp_ok(scalar keys %{ $undelivered{late} }, '>', 1000, 'there is a backlog');
is(scalar keys %{ $undelivered{good} }, 30, 'and an endpoint that lacks what was written when no worker ran');

$source->command_ok([ 'pg_dump', '-f', "$directory/plain", $source->connstr('shop') ], 'plain dump');
$source->command_ok([ 'pg_dump', '-Fc', '-f', "$directory/custom", $source->connstr('shop') ], 'custom dump');
$source->command_ok([ 'pg_dump', '-s', '-f', "$directory/schema", $source->connstr('shop') ], 'schema');
# all of it: with -t and tables of an extension pg_dump 15 crashes
$source->command_ok([ 'pg_dump', '-a', '--disable-triggers', '-f', "$directory/data", $source->connstr('shop') ], 'data');
$source->stop;

sub restore
{
	my ($node, $database, $form) = @_;

	if ($form eq 'custom')
	{
		$node->command_ok([ 'pg_restore', '-j', '2', '-d', $node->connstr($database), "$directory/custom" ],
			"$database: pg_restore -j 2");
	}
	else
	{
		$node->command_ok([ 'psql', '-XAqt', '-o', "$directory/out", '-v', 'ON_ERROR_STOP=1', '-f', "$directory/$form",
				$node->connstr($database) ], "$database: psql");
	}
	return;
}

# Adopts a restored database and looks at what comes of it.
sub check_copy
{
	my ($node, $database) = @_;
	my $receiver = OrderEngine::Receiver->new;
	my %expected;

	is_deeply(contents($node, $database), $contents, "$database: everything is there");
	is_deeply(sequences($node, $database), $sequences, "$database: and the sequences");
	$node->wait_for_worker($database);
	is($node->value("SELECT string_agg(DISTINCT state, ' ') FROM order_engine.endpoint_status", $database), 'foreign',
		"$database: the endpoints are foreign");
	is($node->error_of("SELECT order_engine.create_endpoint('new', 'http://127.0.0.1/')", $database)->{sqlstate}, '55000',
		"$database: no endpoint can be made");

	# the state machine goes on, and the application
	OrderEngine::Copy::write_more($node, $database, 'copy');
	OrderEngine::Copy::redirect($node, $receiver, $database);

	my %copy = undelivered($node, $database);

	# a positive control: the worker has looked
	my $reads = $node->value('SELECT sum(reads) FROM order_engine.stat_worker', $database);
	$node->wait_for_value("SELECT sum(reads) > $reads FROM order_engine.stat_worker", 't', $database);
	is_deeply([ map { $receiver->stats("/$_")->{requests} } sort keys %copy ], [ (0) x keys %copy ], "$database: nothing is sent");

	# one transaction is under way, one began and writes afterwards
	my $old = $node->session($database);
	my $xid = $old->query('BEGIN; SELECT pg_current_xact_id()');
	is($node->safe_psql($database, 'SELECT order_engine.adopt_database()'), 't', "$database: it is adopted");
	OrderEngine::Copy::write_more($node, $database, 'after');
	$old->query(q{UPDATE item SET state = other(state) WHERE id <= 3; SELECT order_engine.emit('test', 'old', 'test.old', '{}'); COMMIT});
	is($node->safe_psql($database, 'SELECT order_engine.adopt_database()'), 'f', "$database: once");

	my @new = $node->emitted("txid > (SELECT min(txid) FROM order_engine.outbox WHERE aggregateid = 'copy')"
		. " OR txid = '$xid'", $database);
	%expected = map { my %e = (%{ $copy{$_} }, map { $_ => 1 } @new); ($_ => \%e) } keys %copy;
	ok(!(grep { my $e = $_; grep { !$copy{$e}->{$_} } keys %{ $undelivered{$e} } } keys %copy), "$database: nothing was lost with the copy");
	expect_delivery($node, $receiver, $database, \%expected);
	return;
}

foreach my $transactions (0, 60_000)
{
	my $name = $transactions ? 'higher' : 'lower';
	my $node = OrderEngine->start_new($name, databases => ['listed'], conf => q{
order_engine.poll_interval = '200ms'
order_engine.databases = 'listed, plain, custom, data, schema'
});

	OrderEngine::Copy::burn_transactions($node, $transactions) if $transactions;
	$node->wait_for_worker('listed');
	$node->safe_psql('listed', 'DROP EXTENSION order_engine') if $transactions;

	# into a database whose workers run already
	if ($transactions)
	{
		restore($node, 'listed', 'custom');
		check_copy($node, 'listed');
		$node->safe_psql('postgres', 'CREATE DATABASE schema');
		restore($node, 'schema', 'schema');
		OrderEngine::Copy::try_empty($node, 'schema');
	}
	else
	{
		$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(plain custom data);
		restore($node, 'plain', 'plain');
		check_copy($node, 'plain');
		restore($node, 'custom', 'custom');
		check_copy($node, 'custom');
		restore($node, 'data', 'schema');
		restore($node, 'data', 'data');
		check_copy($node, 'data');
	}
	$node->stop;
}

done_testing();
