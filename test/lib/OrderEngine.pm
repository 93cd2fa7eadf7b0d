
=head1 NAME

OrderEngine - a PostgreSQL::Test::Cluster with order_engine in it

=head1 SYNOPSIS

  use OrderEngine;
  use OrderEngine::Receiver;
  use Test::More;

  my $node = OrderEngine->start_new('main');
  my $receiver = OrderEngine::Receiver->new;
  $node->create_endpoint($receiver, 'shop', event_types => ['order.*']);

  $node->safe_psql('postgres', 'SELECT order_engine.emit(...)');
  $receiver->wait_for('/shop', accepted => 1);
  is($receiver->stats('/shop')->{unverified}, 0, 'signed');

=cut

package OrderEngine;

use strict;
use warnings FATAL => 'all';

use parent 'PostgreSQL::Test::Cluster';

use Carp qw(croak);
use Exporter qw(import);
use JSON::PP ();
use OrderEngine::Session;
use PostgreSQL::Test::Utils ();
use Time::HiRes qw(time usleep);

our @EXPORT_OK = qw(poll_until emit_sql webhook_id percentile);

=head1 FUNCTIONS

=head2 poll_until($what, $condition [, $seconds])

Calls $condition until it returns something true, and returns that. Dies, naming
$what, when that takes longer than PG_TEST_TIMEOUT_DEFAULT (180 seconds).

=cut

sub poll_until
{
	my ($what, $condition, $seconds) = @_;
	my $deadline =
	  time() + ($seconds // $PostgreSQL::Test::Utils::timeout_default);

	while (1)
	{
		my $result = $condition->();
		return $result if $result;
		croak "timed out waiting for $what" if time() > $deadline;
		usleep(10_000);
	}
}

=head2 percentile($fraction, @values)

percentile(0.5, ...) is the median.

=cut

sub percentile
{
	my ($fraction, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;

	return $sorted[ int($fraction * $#sorted + 0.5) ];
}

# The value as an SQL literal whose type the parameter it is for decides. A
# reference to a scalar is SQL as it stands.
sub _literal
{
	my ($value) = @_;

	return 'NULL' if !defined $value;
	return $$value if ref $value eq 'SCALAR';
	if (ref $value eq 'ARRAY')
	{
		my @elements = map { s/(["\\])/\\$1/gr } @$value;
		$value = '{' . join(',', map { qq{"$_"} } @elements) . '}';
	}
	$value = JSON::PP->new->canonical->encode($value) if ref $value eq 'HASH';
	$value =~ s/'/''/g;
	$value = ($value =~ s/\\/\\\\/g ? ' E' : '') . "'$value'";
	return $value;
}

=head1 METHODS

=head2 OrderEngine->init_new($name, %options)

A new server, not started, with order_engine preloaded. Options:

  databases => ['postgres']   databases with a worker
  worker => 1                 0: no database is listed in order_engine.databases
  conf => ''                  further lines of postgresql.conf
  install_path => undef       where another server is installed

=cut

sub init_new
{
	my ($class, $name, %options) = @_;
	my $databases = $options{databases} // ['postgres'];
	my $listed = ($options{worker} // 1) ? join(', ', @$databases) : '';
	my $node = $class->new($name, install_path => $options{install_path});

	$node->init;
	$node->append_conf(
		'postgresql.conf', qq{
shared_preload_libraries = 'order_engine'
order_engine.databases = '$listed'
order_engine.allow_http = on
order_engine.allow_cidrs = '127.0.0.0/8'
max_prepared_transactions = 10
restart_after_crash = on
} . ($options{conf} // ''));
	return $node;
}

=head2 OrderEngine->start_new($name, %options)

The same, started, and with the extension in the databases, of which those that
do not exist are created.

=cut

sub start_new
{
	my ($class, $name, %options) = @_;
	my $databases = $options{databases} // ['postgres'];
	my $node = $class->init_new($name, %options);

	$node->start;
	foreach my $database (@$databases)
	{
		$node->safe_psql('postgres', qq{CREATE DATABASE "$database"})
		  if $database ne 'postgres';
		$node->safe_psql($database, 'CREATE EXTENSION order_engine');
	}
	return $node;
}

=head2 $node->teardown_node

What the end of a test does to each server: an immediate stop, as for all of
PostgreSQL's tests. With OE_STOP=fast in the environment the processes end by
themselves instead, so that they can write down which code they ran.

=cut

sub teardown_node
{
	my ($self) = @_;

	$self->stop($ENV{OE_STOP}, fail_ok => 1) if $ENV{OE_STOP};
	return $self->SUPER::teardown_node;
}

=head2 $node->call($function, $arguments [, $database])

Calls order_engine.$function with named arguments and returns its result.

=cut

sub call
{
	my ($self, $function, $arguments, $database) = @_;
	my $list = join(', ',
		map { "$_ => " . _literal($arguments->{$_}) } sort keys %$arguments);

	return $self->safe_psql($database // 'postgres',
		"SELECT order_engine.$function($list)");
}

=head2 $node->create_endpoint($receiver, $name, %arguments)

Creates an endpoint that delivers to $receiver at the path "/$name", tells the
receiver its secret and returns the secret. Besides the arguments of
order_engine.create_endpoint:

  path => '/other'     another path
  query => 'status=503&attempts=2'    misbehaviour, see receiver.js
  database => 'postgres'

An endpoint that has something to send at once (start_at) should be given a
secret, so that the receiver knows it before.

=cut

sub create_endpoint
{
	my ($self, $receiver, $name, %arguments) = @_;
	my $path = delete $arguments{path} // "/$name";
	my $query = delete $arguments{query};
	my $database = delete $arguments{database};

	$receiver->control({ secrets => { $path => $arguments{secret} } })
	  if defined $arguments{secret};
	my $secret = $self->call(
		'create_endpoint',
		{
			name => $name,
			url => $receiver->url($path, $query),
			%arguments
		},
		$database);

	$receiver->control({ secrets => { $path => $secret } });
	return $secret;
}

=head2 $node->error_of($query [, $database])

Runs a query that must fail; returns its error as a hash: sqlstate, message,
detail and hint as text, and json, the decoded detail if that is JSON.

=cut

sub error_of
{
	my ($self, $query, $database) = @_;
	my ($status, $stdout, $stderr) = $self->psql($database // 'postgres',
		"\\set VERBOSITY verbose\n$query");
	my %error;

	croak "no error from: $query" if $status == 0;
	@error{qw(sqlstate message)} =
	  $stderr =~ /^(?:psql:\S*\s+)?(?:ERROR|FATAL):\s+([0-9A-Z]{5}): (.*)$/m;
	croak "not an error with an SQLSTATE: $stderr" if !defined $error{sqlstate};
	($error{detail}) = $stderr =~ /^DETAIL:\s+(.*)$/m;
	($error{hint}) = $stderr =~ /^HINT:\s+(.*)$/m;
	$error{json} = eval { JSON::PP::decode_json($error{detail}) }
	  if defined $error{detail};
	return \%error;
}

=head2 $node->emit($aggregateid, %arguments)

Emits an event in a transaction of its own and returns its webhook-id. Arguments:
aggregatetype (test), type (test.event), payload ({}), headers, database.

=cut

sub emit
{
	my ($self, $aggregateid, %arguments) = @_;
	my $database = delete $arguments{database};

	return webhook_id(
		$self->call(
			'emit',
			{
				aggregatetype => 'test',
				aggregateid => $aggregateid,
				type => 'test.event',
				payload => {},
				%arguments
			},
			$database));
}

=head2 webhook_id($uuid)

What receivers see of an event's id.

=cut

sub webhook_id
{
	my ($uuid) = @_;

	return 'evt_' . ($uuid =~ s/-//gr);
}

=head2 emit_sql($aggregateid, $from, $to [, $type])

SQL that emits events with the sequence numbers $from to $to, each in a
transaction of its own. The aggregate is an SQL expression that may use i, the
number, and so is the type ('test.event'). The receiver checks the sequence as it
does that of an order, because the payload has it.

=cut

sub emit_sql
{
	my ($aggregateid, $from, $to, $type) = @_;

	return sprintf(q{
		DO $$ BEGIN
			FOR i IN %d..%d LOOP
				PERFORM order_engine.emit('test', (%s)::text, %s,
					jsonb_build_object('sequence', i));
				COMMIT;
			END LOOP;
		END $$}, $from, $to, $aggregateid, $type // "'test.event'");
}

=head2 $node->emit_many($aggregateid, $from, $to [, $database])

Runs it.

=cut

sub emit_many
{
	my ($self, $aggregateid, $from, $to, $database) = @_;

	$self->safe_psql($database // 'postgres', emit_sql($aggregateid, $from, $to));
	return;
}

=head2 $node->emitted([$condition [, $database]])

The webhook-ids of the events in the outbox, as a list; $condition is SQL.

=cut

sub emitted
{
	my ($self, $condition, $database) = @_;
	my $ids = $self->safe_psql($database // 'postgres',
		'SELECT id FROM order_engine.outbox WHERE ' . ($condition // 'true'));

	return map { webhook_id($_) } split(/\n/, $ids);
}

=head2 $node->session([$database])

A connection that stays open, see OrderEngine::Session.

=cut

sub session
{
	my ($self, $database) = @_;

	return OrderEngine::Session->new($self, $database);
}

=head2 $node->value($query [, $database])

The result of a query on one line.

=cut

sub value
{
	my ($self, $query, $database) = @_;

	return $self->safe_psql($database // 'postgres', $query);
}

=head2 $node->wait_for_value($query, $expected [, $database])

Waits until a query gives this result.

=cut

sub wait_for_value
{
	my ($self, $query, $expected, $database) = @_;
	my $value;

	eval {
		poll_until(
			$query,
			sub {
				$value = $self->value($query, $database);
				return $value eq $expected;
			});
	} or croak "timed out waiting for $expected from $query, it gives $value";
	return;
}

=head2 $node->status_of($endpoint, $columns), $node->wait_for_status($endpoint, $column, $expected)

What endpoint_status says of an endpoint.

=cut

sub status_of
{
	my ($self, $endpoint, $columns) = @_;

	return $self->value(
		"SELECT $columns FROM order_engine.endpoint_status WHERE name = '$endpoint'");
}

sub wait_for_status
{
	my ($self, $endpoint, $column, $expected) = @_;

	$self->wait_for_value(
		"SELECT $column FROM order_engine.endpoint_status WHERE name = '$endpoint'", $expected);
	return;
}

=head2 $node->last_error($endpoint [, $database])

What went wrong last at an endpoint, wherever that is told; empty if nothing did.

=cut

sub last_error
{
	my ($self, $endpoint, $database) = @_;

	return $self->value(sprintf(q{
		SELECT coalesce(
			(SELECT last_error FROM order_engine.endpoint_status WHERE name = e.name),
			(SELECT last_error FROM order_engine.delivery_retry AS r
			 WHERE r.endpoint_id = e.endpoint_id ORDER BY next_attempt_at DESC NULLS LAST LIMIT 1),
			(SELECT last_error FROM order_engine.delivery_dead AS d
			 WHERE d.endpoint_id = e.endpoint_id ORDER BY died_at DESC LIMIT 1))
		FROM order_engine.endpoint AS e WHERE name = %s}, _literal($endpoint)), $database);
}

=head2 $node->configure(%settings)

Sets settings in the configuration file and reloads it; returns when a new
connection has them. (The worker takes them in at its next round.)

=cut

sub configure
{
	my ($self, %settings) = @_;

	foreach my $name (sort keys %settings)
	{
		$self->safe_psql('postgres',
			"ALTER SYSTEM SET $name = " . _literal($settings{$name}));
	}
	$self->reload;
	foreach my $name (sort keys %settings)
	{
		$self->wait_for_value(
			"SELECT setting = " . _literal($settings{$name})
			  . " FROM pg_settings WHERE name = " . _literal($name), 't');
	}
	return;
}

=head2 $node->worker_pid([$database])

The process id of a database's worker, or undef when it has none.

=cut

sub worker_pid
{
	my ($self, $database) = @_;
	my $pid = $self->safe_psql('postgres', sprintf(q{
		SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'order_engine worker' AND datname = %s},
		_literal($database // 'postgres')));

	return $pid eq '' ? undef : $pid;
}

=head2 $node->wait_for_worker([$database [, $not]])

Waits until the database has a worker (one other than the process $not) and
returns its process id.

=cut

sub wait_for_worker
{
	my ($self, $database, $not) = @_;

	return poll_until(
		'a worker',
		sub {
			my $pid = $self->worker_pid($database);
			return defined $pid && $pid != ($not // 0) ? $pid : undef;
		});
}

=head2 $node->kill_worker([$database])

Kills a database's worker with signal 9 and returns the process id it had. The
postmaster then restarts every process of the server; it has begun with that when
this returns, so that wait_until_up waits for the server of after the crash.

=cut

sub kill_worker
{
	my ($self, $database) = @_;
	my $pid = $self->wait_for_worker($database);
	my $witness = $self->session;

	$witness->query('SELECT 1');
	$witness->send('SELECT pg_sleep(3600)');
	kill('KILL', $pid) == 1 or croak "could not kill worker $pid: $!";
	$witness->receive;    # nothing: the connection ends
	return $pid;
}

=head2 $node->kill_server([@stopped])

Kills the postmaster with signal 9, then the processes of the server that are
stopped, and waits until every other has seen that and ended, and until init has
collected them all, which takes some a second or two: as long as the postmaster's
process id is there, the server cannot be started again.

=cut

sub kill_server
{
	my ($self, @stopped) = @_;
	my ($postmaster) = PostgreSQL::Test::Utils::slurp_file($self->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @children = map { m{^/proc/(\d+)/} } grep {
		(eval { PostgreSQL::Test::Utils::slurp_file($_) } // '') =~ /\) \S $postmaster /
	} glob('/proc/[0-9]*/stat');

	$self->kill9;
	kill('KILL', @stopped);
	poll_until('the server\'s processes to end', sub { return !grep { -e "/proc/$_" } $postmaster, @children; });
	return;
}

=head2 $node->stop_walwriter

Stops the WAL writer with SIGSTOP, so that only who commits writes to disk, and
returns its process id. It is stopped where it rests: while it writes it holds a
lock, and everybody would wait for it.

=cut

sub stop_walwriter
{
	my ($self) = @_;
	my $walwriter = sub {
		my ($column) = @_;
		return $self->value(qq{SELECT $column FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	};

	return poll_until('the WAL writer to rest', sub {
		my $pid = $walwriter->('pid');

		return 0 if $pid eq '';    # not after a start that was just now
		kill('STOP', $pid) == 1 or croak "could not stop the WAL writer: $!";
		return $pid if $walwriter->('wait_event') eq 'WalWriterMain';
		kill('CONT', $pid);
		return 0;
	});
}

=head2 $node->start(%options)

As PostgreSQL::Test::Cluster has it; tells at once why a server does not start.

=cut

sub start
{
	my ($self, %options) = @_;
	my $offset = -s $self->logfile // 0;
	my $started = $self->SUPER::start(%options, fail_ok => 1);

	if (!$started && !$options{fail_ok})
	{
		Test::More::diag(substr(PostgreSQL::Test::Utils::slurp_file($self->logfile), $offset));
		Test::More::BAIL_OUT('the server does not start');
	}
	return $started;
}

=head2 $node->wait_until_up([$database])

Waits until the server takes connections, for instance after a crash.

=cut

sub wait_until_up
{
	my ($self, $database) = @_;

	poll_until(
		'the server to take connections',
		sub {
			# a psql that gives up early makes IPC::Run die of a broken pipe
			my ($status) = eval { $self->psql($database // 'postgres', 'SELECT 1') };
			return defined $status && $status == 0;
		});
	return;
}

1;
