
=head1 NAME

OrderEngine::KillPoint - kills processes of the server at a chosen moment

=head1 SYNOPSIS

  my $point = OrderEngine::KillPoint->new($node, $receiver, ['ord', 'none']);

  foreach my $name (OrderEngine::KillPoint::names())
  {
      my $at = $point->hit($name);
      my $back = $point->wait_until_back;
  }

A moment is not hoped for: the process is stopped (SIGSTOP) or made to wait, then
it is looked whether it is there, and only then it is killed.

=cut

package OrderEngine::KillPoint;

use strict;
use warnings FATAL => 'all';

use Carp qw(croak);
use JSON::PP ();
use OrderEngine qw(poll_until);
use PostgreSQL::Test::Utils ();
use Time::HiRes qw(time usleep);

my %points = (
	'worker, before it reads' => \&before_reading,
	'worker, reading' => \&reading,
	'worker, before the answer' => \&before_answer,
	'worker, after the answer' => \&after_answer,
	'worker, acknowledging' => \&acknowledging,
	'worker, before that is on disk' => \&before_durable,
	'worker, at random' => \&worker_at_random,
	'launcher' => \&launcher,
	'writer, at work' => \&writer_at_work,
	'writer, committing' => \&writer_committing,
	'postmaster' => \&postmaster,
	'immediate shutdown' => \&immediate,
);

=head1 FUNCTIONS AND METHODS

=head2 names()

=cut

sub names
{
	return sort keys %points;
}

sub new
{
	my ($class, $node, $receiver, $paths) = @_;

	return bless { node => $node, receiver => $receiver, paths => $paths }, $class;
}

=head2 $point->hit($name [, @pids])

Kills what that names, there, and with it the further processes; returns when that
was. Writers must be at work.

=cut

sub hit
{
	my ($self, $name, @also) = @_;

	@$self{qw(worker undo watch down)} = ($self->{node}->wait_for_worker, [], $self->{node}->session, 0);
	$self->{also} = \@also;
	my $at = $points{$name}->($self);
	kill('KILL', @also);
	return $at;
}

=head2 $point->wait_until_back

Starts the server again if it does not do so itself, and undoes what was done to
hit the point; returns when the new worker was started. An event is emitted as
soon as that is possible, so that there is something to deliver.

=cut

sub wait_until_back
{
	my ($self) = @_;
	my $node = $self->{node};
	my $since;

	$self->{watch}->quit;
	$node->start if $self->{down};
	poll_until('a new worker', sub {
		my ($status, $out) = eval { $node->psql('postgres', qq{
			SELECT extract(epoch FROM backend_start) FROM pg_stat_activity
			WHERE backend_type = 'order_engine worker' AND datname = 'postgres' AND pid <> $self->{worker}}) };

		return 0 if !defined $status || $status != 0 || $out eq '';
		$since = $out;
		return 1;
	});
	$node->emit('sentinel', type => 'note.sentinel');
	$_->() foreach @{ $self->{undo} };
	return $since;
}

sub _kill
{
	my ($pid) = @_;
	my $at = time();

	# 0, which stands for none, would be this test and all that runs beside it
	croak 'there is no process to kill' if !$pid;
	kill('KILL', $pid) == 1 or croak "could not kill $pid: $!";
	return $at;
}

sub _stop
{
	my ($pid) = @_;

	kill('STOP', $pid) == 1 or croak "could not stop $pid: $!";
	poll_until("process $pid to be stopped", sub {
		return PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat") =~ /\) [Tt] /; });
	return;
}

sub _in_flight
{
	my ($self) = @_;
	my $n = 0;

	$n += $self->{receiver}->stats("/$_")->{in_flight} foreach @{ $self->{paths} };
	return $n;
}

# Waits in the server until a process is found, and returns its pid.
sub _watch
{
	my ($self, $condition) = @_;
	my $answer = $self->{watch}->query(qq{
		DO \$\$
		DECLARE
			process int;
		BEGIN
			FOR i IN 1..20000 LOOP
				PERFORM pg_stat_clear_snapshot();
				SELECT pid INTO process FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND $condition LIMIT 1;
				EXIT WHEN FOUND;
				PERFORM pg_sleep(0.001);
			END LOOP;
			PERFORM set_config('crash.found', coalesce(process, 0)::text, false);
		END \$\$;
		SELECT current_setting('crash.found')});

	return $answer;
}

# Stops a process of which the condition is true, and still is when it is stopped.
sub _stop_where
{
	my ($self, $condition) = @_;

	return poll_until("a process with $condition", sub {
		my $pid = $self->_watch($condition) or return 0;

		_stop($pid);
		$self->{watch}->send("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND $condition");

		# a process that holds what the question needs is certainly at work
		eval { poll_until('the answer', sub { $self->{watch}->is_done }, 2); 1 } or return $pid;
		return $pid if $self->{watch}->receive eq '1';
		kill('CONT', $pid);
		return 0;
	});
}

# Events are committed while the worker does not run; it is stopped between two
# transactions, or others would wait for it.
sub before_reading
{
	my ($self) = @_;

	$self->_stop_where(q{backend_type = 'order_engine worker' AND state = 'idle'});
	my $before = $self->{watch}->query('SELECT count(*) FROM order_engine.outbox');
	poll_until('events that the worker has not read', sub {
		return $self->{watch}->query('SELECT count(*) FROM order_engine.outbox') > $before + 100; });
	return _kill($self->{worker});
}

# In a transaction that reads the log, mostly the one that reads on; but it may as
# well be one that reads an event again, and then there is no other.
sub reading
{
	my ($self) = @_;
	my $holder = $self->{node}->session;

	$holder->query('BEGIN; LOCK TABLE ONLY order_engine.outbox IN ACCESS EXCLUSIVE MODE');
	my $at = _kill($self->_stop_where(
		q{backend_type = 'order_engine worker' AND wait_event_type = 'Lock'}));
	$holder->quit;
	return $at;
}

sub before_answer
{
	my ($self) = @_;

	$self->{receiver}->rules(map { { path => "/$_", action => 'hang' } } @{ $self->{paths} });
	push @{ $self->{undo} }, sub { $self->{rules}->() };
	poll_until('requests without an answer', sub { return $self->_in_flight >= 20; });
	my $at = _kill($self->{worker});
	$self->{rules}->();
	return $at;
}

# The receiver has answered, the worker has not taken that in.
sub after_answer
{
	my ($self) = @_;

	$self->{receiver}->rules(map { { path => "/$_", delay_ms => 150 } } @{ $self->{paths} });
	poll_until('answers that were not taken in', sub {
		poll_until('requests to answer', sub { return $self->_in_flight >= 20; });
		_stop($self->{worker});
		# on a busy machine all may have been answered, and taken in, before it stopped
		my $waiting = $self->_in_flight;

		poll_until('the answers', sub { return $self->_in_flight == 0; });
		kill('CONT', $self->{worker}) if $waiting == 0;
		return $waiting > 0;
	});
	my $at = _kill($self->{worker});
	$self->{rules}->();
	return $at;
}

# In the transaction that makes durable what was delivered.
sub acknowledging
{
	my ($self) = @_;
	my $holder = $self->{node}->session;

	$holder->query('BEGIN; LOCK TABLE order_engine.position_0, order_engine.position_1 IN EXCLUSIVE MODE');
	my $pid = $self->_stop_where(
		q{backend_type = 'order_engine worker' AND query = 'acknowledging deliveries' AND wait_event_type = 'Lock'});
	croak 'another worker' if $pid != $self->{worker};
	my $at = _kill($pid);
	$holder->quit;
	return $at;
}

# Makes every commit wait before it writes the log, so that a process can be
# found that has written its commit record and does not know it on disk.
sub _slow_commits
{
	my ($self) = @_;

	$self->{watch}->query('ALTER SYSTEM SET commit_delay = 50000');
	$self->{watch}->query('ALTER SYSTEM SET commit_siblings = 0');
	$self->{watch}->query('SELECT pg_reload_conf()');
	push @{ $self->{undo} }, sub {
		$self->{node}->safe_psql('postgres', "ALTER SYSTEM RESET $_") foreach qw(commit_delay commit_siblings);
		$self->{node}->reload;
	};
	return;
}

my $flushing = q{wait_event IN ('WALWrite', 'WALSync')};

# The worker does not wait for the disk; the launcher does, on its behalf.
sub before_durable
{
	my ($self) = @_;

	$self->_slow_commits;
	my $launcher = $self->_stop_where(qq{backend_type = 'order_engine launcher' AND $flushing});
	my $at = _kill($self->{worker});
	_kill($launcher);
	return $at;
}

sub writer_committing
{
	my ($self) = @_;

	$self->_slow_commits;
	return _kill($self->_stop_where(qq{backend_type = 'client backend' AND query = 'COMMIT;' AND state = 'active' AND $flushing}));
}

sub writer_at_work
{
	my ($self) = @_;

	return _kill($self->_stop_where(
		q{backend_type = 'client backend' AND query LIKE 'SELECT crash.act%' AND state <> 'idle' AND backend_xid IS NOT NULL}));
}

sub worker_at_random
{
	my ($self) = @_;

	usleep(rand(1_000_000));
	return _kill($self->{worker});
}

sub launcher
{
	my ($self) = @_;

	return _kill($self->_watch(q{backend_type = 'order_engine launcher'}));
}

sub postmaster
{
	my ($self) = @_;
	my $at = time();

	$self->{node}->kill_server(@{ $self->{also} });
	$self->{orphans} = time() - $at;
	$self->{down} = 1;
	return $at;
}

sub immediate
{
	my ($self) = @_;
	my $at = time();

	$self->{node}->stop('immediate');
	$self->{down} = 1;
	return $at;
}

1;
