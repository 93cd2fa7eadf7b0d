
# pg_upgrade: the new server has another identity, so a database that came with it
# is a copy, as if it had come with a dump.  Nothing is sent while the servers are
# upgraded, nothing until the database is adopted, and then what is missing.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(dirname);
use OrderEngine;
use OrderEngine::Copy qw(contents sequences undelivered check_copy);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils qw(slurp_file system_or_bail);
use Test::More;

my $old_config = $ENV{OE_OLD_PG_CONFIG};

plan skip_all => 'OE_OLD_PG_CONFIG does not name the pg_config of an older server than PG_CONFIG does: '
  . '"test/lib/server_source.sh plain 15" builds one'
  if !$old_config;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $make = "make -s -C $directory/src PG_CONFIG='$old_config' with_llvm=no";

# Builds the extension for the older server into a copy of that, and returns where
# it is; this test runs in the tree that was built for the newer one.
sub install_old
{
	my %dir = map { chomp(my $dir = `'$old_config' --$_`); ($_ => $dir) } qw(bindir pkglibdir sharedir);

	foreach my $dir (values %dir)
	{
		system_or_bail('mkdir', '-p', "$directory/old$dir");
		system_or_bail('cp', '-a', '--no-preserve=ownership', "$dir/.", "$directory/old$dir");
	}
	system_or_bail("mkdir $directory/src && tar -cf - --exclude='*.o' --exclude='*.so' --exclude='*.bc' . | tar -C $directory/src -xf -");
	system_or_bail("$make -j 2 && $make install DESTDIR=$directory/old");
	return dirname("$directory/old$dir{bindir}");
}

my $install_path = install_old();
my $source = OrderEngine->start_new('old', databases => ['shop'], install_path => $install_path);
my $original = OrderEngine::Receiver->new;
my $node = OrderEngine->init_new('new', databases => ['shop'], conf => "order_engine.poll_interval = '200ms'\n");

note('from ', $source->pg_version, ' to ', $node->pg_version);
OrderEngine::Copy::burn_transactions($source, 20_000);
OrderEngine::Copy::prepare($source, $original, 'shop');

my $contents = contents($source, 'shop');
my $sequences = sequences($source, 'shop');
my %undelivered = undelivered($source, 'shop');
my $requests = $original->stats('/good')->{requests};

is(scalar keys %{ $undelivered{good} }, 30, 'there is something to send, which a worker would send');
$source->stop;
$source->adjust_conf('postgresql.auto.conf', 'order_engine.databases', "'shop'");

# it leaves a script where it runs
chdir $directory or die "could not enter $directory: $!";
$node->command_ok(
	[
		'pg_upgrade', '--no-sync', '--retain', '-d', $source->data_dir, '-D', $node->data_dir, '-b', "$install_path/bin",
		'-B', $node->config_data('--bindir'), '-s', $node->host, '-p', $source->port, '-P', $node->port
	],
	'pg_upgrade');
is($original->stats('/good')->{requests}, $requests, 'nothing was sent meanwhile');

my @logs = glob($node->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log');

ok(@logs > 0, 'the servers of the upgrade have a log');
unlike(slurp_file($_), qr/ERROR|FATAL|PANIC|was terminated/, 'without errors') foreach @logs;

$node->start;
check_copy($node, 'shop', $contents, $sequences, \%undelivered);
is($original->stats('/good')->{requests}, $requests, 'nothing was sent to where the old server sent');
$node->stop;

done_testing();
