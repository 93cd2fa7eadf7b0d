
# Copies of the data directory: a clone, one that was restored to a point in
# time, and what becomes of the files by which they are told apart.  A copy sends
# nothing until it is adopted; then nothing is lost, and nothing that was
# acknowledged is sent again.  The original goes on undisturbed.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $token = 'global/pgsql_tmp_order_engine';
my $identity = 'SELECT order_engine.database_identity()';
my $foreign = q{SELECT state FROM order_engine.endpoint_status WHERE name = 'hook'};

my $node = OrderEngine->start_new('main', conf => "wal_level = replica\nmax_wal_senders = 5\n");
my $receiver = OrderEngine::Receiver->new;

sub wait_for_log
{
	my ($server, $pattern, $offset) = @_;

	return poll_until("\"$pattern\" in the log",
		sub { return substr(slurp_file($server->logfile), $offset // 0) =~ /$pattern/ });
}

# A worker that is there, has read the endpoints, and looks for events.
sub is_quiet
{
	my ($server, $name, $requests) = @_;

	$server->wait_for_worker;
	is($server->value($foreign), 'foreign', "$name: its endpoint is that of another server");

	my $reads = $server->value('SELECT reads FROM order_engine.stat_worker');

	$server->emit_many("'new'", 1, 1) if defined $requests;
	$server->wait_for_value("SELECT reads > $reads FROM order_engine.stat_worker", 't') if defined $requests;
	is($receiver->stats('/hook')->{requests}, $requests, "$name: it sends nothing") if defined $requests;
	return;
}

sub clone_of
{
	my ($name, %options) = @_;
	my $clone = OrderEngine->new($name);

	$clone->init_from_backup($node, 'copy', %options);
	$clone->append_conf('postgresql.conf', "archive_mode = off\norder_engine.poll_interval = 100ms");
	return $clone;
}

$node->create_endpoint($receiver, 'hook', retry_schedule => ['10 ms']);
like($node->value($identity), qr{^\d+/\d+/[0-9a-f]{32}$}, 'an identity');
$receiver->rules({ path => '/hook', aggregateid => 'poison', status => 500 });
$node->emit('poison');
$node->emit_many("'a'", 1, 20);
$receiver->wait_for('/hook', accepted => 20);
$node->wait_for_value('SELECT count(*) FROM order_engine.dead_letter', '1');
# what is acknowledged is to be in the copy
$node->wait_for_value(q{SELECT order_engine.undelivered('hook')}, '0');
$node->call('pause_endpoint', { name => 'hook' });
$node->emit_many("'a'", 21, 30);
$node->backup('copy');
$node->call('resume_endpoint', { name => 'hook' });
ok(!-e $node->backup_dir . "/copy/$token", 'a backup does not have the file');
$receiver->wait_for('/hook', accepted => 30);

my $requests = $receiver->stats('/hook')->{requests};

#
# A clone without any signal file
#
my $clone = clone_of('clone');

$clone->start;
isnt($clone->value($identity), $node->value($identity), 'a clone has another identity');
is($clone->value($identity) =~ s{/[^/]*$}{}r, $node->value($identity) =~ s{/[^/]*$}{}r, 'on the same server, as it believes');
$clone->call('resume_endpoint', { name => 'hook' });
wait_for_log($clone, 'as a copy of another database');
is_quiet($clone, 'clone', $requests);
$clone->restart;
is_quiet($clone, 'clone, restarted', $requests);
$clone->kill_worker;
$clone->wait_until_up;
is_quiet($clone, 'clone, after a crash', $requests);
$node->emit_many("'b'", 1, 5);
$receiver->wait_for('/hook', accepted => 35);
is($receiver->stats('/hook')->{requests}, $requests + 5, 'the original goes on, and nobody sends anything twice');

# the clone's own standby is not the standby of the one that sent
$clone->backup('copy');

my $second = OrderEngine->new('second');

$second->init_from_backup($clone, 'copy', has_streaming => 1);
$second->start;
$second->promote;
is_quiet($second, 'the promoted standby of a clone');
$second->stop;

# adopted: to a path of its own, so that the receiver tells the two apart
$receiver->rules;
$clone->safe_psql('postgres', q{SELECT order_engine.pause_endpoint('hook')});
$receiver->control({ secrets => { '/adopted' => $clone->call('rotate_secret', { name => 'hook' }) } });
$clone->call('alter_endpoint', { name => 'hook', url => $receiver->url('/adopted') });
$clone->call('resume_endpoint', { name => 'hook' });
is($clone->value('SELECT order_engine.adopt_database()'), 't', 'the clone is adopted');
$clone->value(q{SELECT order_engine.redrive('hook')});
# ten that were waiting, the dead letter, and one of each time that it was looked at
$receiver->wait_for('/adopted', accepted => 14);

my %sent = map { ($_->{aggregateid} . '/' . ($_->{sequence} // '')) => 1 } $receiver->requests('/adopted');

is(join(' ', sort keys %sent), join(' ', sort('new/1', 'poison/', map { "a/$_" } 21 .. 30)),
	'nothing is lost, nothing that was acknowledged is sent again');
is($receiver->stats('/adopted')->{duplicates}, 0, 'nothing is sent twice');
$clone->restart;
$clone->emit_many("'c'", 1, 1);
$receiver->wait_for('/adopted', accepted => 15);
pass('it stays adopted');
$clone->stop;

#
# One that was restored by recovery from an archive, though it was a standby before
#
my $restored = clone_of('restored');
my $segment = $node->data_dir . '/pg_wal';

$restored->append_conf('postgresql.conf', "restore_command = 'cp \"$segment/%f\" \"%p\"'\nrecovery_target_action = promote");
append_to_file($restored->data_dir . '/recovery.signal', '');
append_to_file($restored->data_dir . "/${token}_standby", "order_engine standby 1\n");
append_to_file($restored->data_dir . "/$token", slurp_file($node->data_dir . "/$token"));
$restored->start;
$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
isnt($restored->value($identity), $node->value($identity), 'a restored server has another identity, though it brought the file');
is_quiet($restored, 'restored');
ok(!-e $restored->data_dir . "/${token}_standby", 'and is no standby any more');

#
# Files that are not as they were
#
my $path = $restored->data_dir . "/$token";
my $own = slurp_file($path);

foreach my $case (
	[ 'empty', sub { append_to_file($path, '') } ],
	[ 'truncated', sub { append_to_file($path, substr($own, 0, 40)) } ],
	[ 'foreign', sub { append_to_file($path, 'x' x length($own)) } ],
	[ 'large', sub { append_to_file($path, $own . ('x' x 1_000_000)) } ],
	[ 'a link', sub { symlink('/etc/passwd', $path) or die } ],
	[ 'a folder', sub { mkdir($path) or die } ],
	[ 'a pipe', sub { system('mkfifo', $path) == 0 or die } ])
{
	my ($name, $make) = @$case;

	$restored->stop;
	unlink $path;
	rmdir $path;
	$make->();
	$restored->start;

	my $error = $restored->error_of($identity);

	is($error->{sqlstate}, 'F0000', "$name: refused");
	like($error->{hint}, qr/adopt_database/, "$name: with a hint");
	is($restored->safe_psql('postgres', 'SELECT count(*) > 0 FROM order_engine.orders FULL JOIN order_engine.outbox ON true'),
		't', "$name: the rest goes on");
}
$restored->stop;
rmdir $path;
unlink $path;
append_to_file($path, $own);

# a folder that cannot be written to
unlink $path;
chmod(0500, $restored->data_dir . '/global') or die;
SKIP:
{
	skip 'who may write anywhere', 2 if -w $restored->data_dir . '/global';
	$restored->start;
	my $error = $restored->error_of($identity);
	is($error->{sqlstate}, '42501', 'a folder that cannot be written to');
	like($error->{hint}, qr/write to the folder/, 'with a hint');
	chmod(0700, $restored->data_dir . '/global') or die;
	like($restored->value($identity), qr{/[0-9a-f]{32}$}, 'as soon as it can, there is an identity');
	$restored->stop;
}
chmod(0700, $restored->data_dir . '/global') or die;

# made by many at once, without the library having been preloaded
unlink $path;
$restored->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$restored->start;

my @sessions = map { $restored->session } 1 .. 8;

$_->send($identity) foreach @sessions;

my %seen = map { $_->receive => 1 } @sessions;

is(scalar keys %seen, 1, 'many that make it at once agree');
is_deeply([ map { s{.*/}{}r } glob($restored->data_dir . '/global/pgsql_tmp*') ], ['pgsql_tmp_order_engine'],
	'and leave nothing behind');
$_->quit foreach @sessions;
$restored->stop;
$node->stop;

done_testing();
