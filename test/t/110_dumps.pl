
# Dumps, restored onto servers whose transaction ids are lower and higher: all
# that was in the database is there, nothing is sent until the copy is adopted, and
# then each endpoint gets what it was yet to get, once and in order, together with
# what was written in the copy before and is written after.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use OrderEngine::Copy qw(contents sequences undelivered check_copy);
use OrderEngine::Load qw($long);
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

sub check
{
	my ($node, $database) = @_;

	check_copy($node, $database, $contents, $sequences, \%undelivered);
	return;
}

sub new_node
{
	my ($name) = @_;

	return OrderEngine->start_new($name, databases => ['listed'], conf => q{
order_engine.poll_interval = '200ms'
order_engine.databases = 'listed, plain, custom, data, schema'
});
}

# ids of the dump are yet to come; the form of the everyday backup
my $node = new_node('lower');

$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(plain custom data);
restore($node, 'custom', 'custom');
check($node, 'custom');
if ($long)
{
	restore($node, 'plain', 'plain');
	check($node, 'plain');
	restore($node, 'data', 'schema');
	restore($node, 'data', 'data');
	check($node, 'data');
}
$node->stop;

# they are of long ago; a database whose worker runs already
$node = new_node('higher');
OrderEngine::Copy::burn_transactions($node, 60_000);
$node->wait_for_worker('listed');
$node->safe_psql('listed', 'DROP EXTENSION order_engine');
restore($node, 'listed', 'plain');
check($node, 'listed');
if ($long)
{
	$node->safe_psql('postgres', 'CREATE DATABASE schema');
	restore($node, 'schema', 'schema');
	OrderEngine::Copy::try_empty($node, 'schema');
}
$node->stop;

done_testing();
