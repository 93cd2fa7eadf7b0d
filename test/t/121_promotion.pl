
# Promotion under load. With synchronous replication nothing that was
# acknowledged to a writer is lost: each such event reaches the receiver, in
# order, without a gap, and few of them twice. With asynchronous replication what
# the new primary has is delivered completely. The old primary comes back as a
# standby by pg_rewind and can be promoted in turn.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $writers = 4;
my $aggregates = 10;    # of each writer
my $seconds = $ENV{OE_LONG} ? 20 : 2;
my $max_in_flight = 16;

# what one flush of the worker held, what was under way, and the records of
# positions that had not reached the standby: they are not waited for
my $most_duplicates = 2 * (1000 + $max_in_flight);
my $receiver = OrderEngine::Receiver->new;

my $node = OrderEngine->start_new('one', conf => q{
wal_level = replica
max_wal_senders = 5
wal_log_hints = on
wal_keep_size = 256MB
hot_standby = on
});

$node->safe_psql('postgres', q{
	CREATE FUNCTION write_event(aggregate text, i int) RETURNS uuid LANGUAGE sql AS $$
		SELECT order_engine.emit('test', aggregate, 'test.event', jsonb_build_object('sequence', i)) $$});
$node->create_endpoint($receiver, 'hook', max_in_flight => $max_in_flight);

# A psql that writes until its server is gone, a transaction at a time, and says
# after each that it was acknowledged. (A loop inside the server would go on for
# a while when the postmaster is killed.)
my $file_number = 0;

sub start_writers
{
	my ($server, $round) = @_;
	my @writers;

	foreach my $w (1 .. $writers)
	{
		my $file = PostgreSQL::Test::Utils::tempdir() . '/writer' . $file_number++;
		my $script = '';

		foreach my $i (1 .. 2000 * $seconds)
		{
			$script .= "SELECT write_event('$round.$w/$_', $i);\n\\echo acknowledged $round.$w/$_ $i\n"
			  foreach 1 .. $aggregates;
		}
		append_to_file("$file.sql", $script);
		push @writers, {
			run => IPC::Run::start(
				[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $server->connstr('postgres'), '-f', "$file.sql" ],
				'<', \undef, '>', $file, '2>', '/dev/null'),
			file => $file
		};
	}
	return @writers;
}

sub end_writers
{
	my @acknowledged;

	foreach my $writer (@_)
	{
		$writer->{run}->finish;
		push @acknowledged, slurp_file($writer->{file}) =~ /acknowledged (\S+ \d+)\n/g;
	}
	return @acknowledged;
}

sub standby_of
{
	my ($server, $name) = @_;
	my $standby = OrderEngine->new($name);

	$server->backup($name);
	$standby->init_from_backup($server, $name, has_streaming => 1);
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$standby->start;
	return $standby;
}

sub replicate_synchronously
{
	my ($server, $standby, $commit) = @_;

	$server->append_conf('postgresql.conf',
		"synchronous_standby_names = '\"" . $standby->name . "\"'\nsynchronous_commit = $commit");
	$server->reload;
	$server->wait_for_value(q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'}, '1');
	return;
}

# Promotes; returns how long it took from there to a worker, and to a delivery.
sub promote
{
	my ($standby, $marker) = @_;
	my $start = time;
	my $offset = -s $standby->logfile;

	$standby->safe_psql('postgres', 'SELECT pg_promote()');
	my $promoted = time;
	$standby->wait_for_worker;
	my $running = time;
	my $id = $standby->emit($marker);
	$receiver->wait_for_id('/hook', $id);
	my $delivered = time;

	diag(sprintf('%s: pg_promote took %.2f s, a worker was seen %.2f s later, the first new event was received %.2f s after it was called',
		$marker, $promoted - $start, $running - $promoted, $delivered - $start));
	my $log = poll_until('the worker to say so', sub {
		my $text = substr(slurp_file($standby->logfile), $offset);
		return $text =~ /takes over database/ ? $text : undef;
	});
	is($standby->value(q{SELECT state IN ('idle', 'delivering', 'behind') FROM order_engine.endpoint_status}), 't',
		"$marker: the endpoint is its own");
	return;
}

# Checks what came of the events of a round.
sub check
{
	my ($server, $round, $acknowledged) = @_;
	my %acknowledged = map { $_ => 1 } @$acknowledged;
	my %emitted = map { $_ => 1 } $server->emitted("aggregateid LIKE '$round.%'");

	poll_until('everything to be delivered', sub { $server->value(q{SELECT order_engine.undelivered('hook')}) eq '0' });

	my %times;
	my %last;
	my ($out_of_order, $gaps) = (0, 0);
	foreach my $request (grep { $_->{aggregateid} =~ /^$round\./ && $_->{status} == 200 } $receiver->requests('/hook'))
	{
		my ($a, $n) = @$request{qw(aggregateid sequence)};

		next if $times{"$a $n"}++;
		$out_of_order++ if $n < ($last{$a} // 0);
		$gaps++ if $n > ($last{$a} // 0) + 1;
		$last{$a} = $n;
		delete $acknowledged{"$a $n"};
		delete $emitted{ $request->{id} };
	}
	my $duplicates = 0;

	$duplicates += $_ - 1 foreach values %times;
	diag(sprintf('%s: %d events acknowledged to writers, %d received, %d more than once (at most %d), %d acknowledged ones lost',
		$round, scalar @$acknowledged, scalar keys %times, $duplicates, $most_duplicates, scalar keys %acknowledged));
	cmp_ok(scalar @$acknowledged, '>', 100, "$round: there was a load");
	is(scalar keys %emitted, 0, "$round: all that the server has was delivered");
	is($out_of_order, 0, "$round: in order");
	is($gaps, 0, "$round: without a gap");
	cmp_ok($duplicates, '<=', $most_duplicates, "$round: duplicates are bounded");
	return scalar keys %acknowledged;
}

sub under_load
{
	my ($server, $standby, $round, $how) = @_;
	my $before = $receiver->stats('/hook')->{unique};
	my @writers = start_writers($server, $round);
	my $until = time + $seconds;

	poll_until('a load', sub { time > $until && $receiver->stats('/hook')->{unique} > $before + 500 });
	if ($how eq 'kill')
	{
		$server->kill_server;
	}
	else
	{
		$server->stop('immediate');
	}
	my @acknowledged = end_writers(@writers);

	promote($standby, "promoted-$round");
	return \@acknowledged;
}

# The former primary becomes the standby of its successor.
sub rewind
{
	my ($old, $new) = @_;

	# before 16 pg_rewind sees the new timeline only after a checkpoint
	$new->safe_psql('postgres', 'CHECKPOINT');
	my $said;
	ok(IPC::Run::run([ 'pg_rewind', '--target-pgdata', $old->data_dir, '--source-server', $new->connstr('postgres') ],
		'>&', \$said), 'pg_rewind')
	  or diag($said);
	my $port = $old->port;
	my $conf = $old->data_dir . '/postgresql.conf';

	$old->append_conf('postgresql.conf', "port = $port\nsynchronous_standby_names = ''\nprimary_conninfo = '"
		. ($new->connstr =~ s/'/''/gr) . " application_name=" . $old->name . "'");
	append_to_file($old->data_dir . '/standby.signal', '');
	$old->start;
	$old->poll_query_until('postgres', 'SELECT pg_is_in_recovery()');
	return;
}

#
# Synchronous, the postmaster killed
#
my $two = standby_of($node, 'two');

replicate_synchronously($node, $two, 'remote_apply');
my $acknowledged = under_load($node, $two, 'sync', 'kill');

is(check($two, 'sync', $acknowledged), 0, 'sync: nothing acknowledged is lost');

#
# The old one comes back, and takes over in turn; this time it is shut down
#
rewind($node, $two);
isnt($node->value('SELECT order_engine.database_identity()'), $two->value('SELECT order_engine.database_identity()'),
	'the former primary has another identity than its successor');
is($node->value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'order_engine%'}), '0', 'and no worker');
replicate_synchronously($two, $node, 'on');
$acknowledged = under_load($two, $node, 'back', 'immediate');
is(check($node, 'back', $acknowledged), 0, 'back: nothing acknowledged is lost');

#
# Crashes of the promoted server, before and after it has taken over
#
my $three = standby_of($node, 'three');

$three->append_conf('postgresql.conf', "order_engine.databases = ''");
$three->reload;
$node->emit_many("'late'", 1, 5);
$node->wait_for_catchup($three);
$node->stop('immediate');
$three->promote;
$three->emit_many("'late'", 6, 10);
$three->stop('immediate');
$three->start;
$three->restart;
is($three->value('SELECT state FROM order_engine.endpoint_status'), 'foreign', 'without a worker it is not taken over');
$three->append_conf('postgresql.conf', "order_engine.databases = 'postgres'");
$three->reload;
poll_until('all of it', sub { 10 == grep { $_->{aggregateid} eq 'late' } $receiver->requests('/hook') });
pass('after crashes it is taken over when there is a worker');
$three->restart;

# an old dump in the same database is a copy all the same
$three->safe_psql('postgres', q{UPDATE order_engine.endpoint SET owner = regexp_replace(owner, '[^/]*$', repeat('0', 32))});
$three->restart;
$three->wait_for_worker;
$three->wait_for_value('SELECT owner ~ $$/copy$$ FROM order_engine.endpoint', 't');
is($three->value('SELECT state FROM order_engine.endpoint_status'), 'foreign', 'a database is taken over once');
is($three->value('SELECT order_engine.adopt_database()'), 't', 'then it takes a person');

#
# Asynchronous: what the standby had is delivered
#
my $four = standby_of($three, 'four');

$acknowledged = under_load($three, $four, 'async', 'immediate');
diag('async: ' . check($four, 'async', $acknowledged) . ' acknowledged ones that the standby did not have and nobody got');
$four->stop;

done_testing();
