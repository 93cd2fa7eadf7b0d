
=head1 NAME

OrderEngine::Receiver - the webhook receiver (receiver.js) for TAP tests

=head1 SYNOPSIS

  my $receiver = OrderEngine::Receiver->new;
  $receiver->rules({ path => '/shop', status => 503, attempts => 2 });
  $receiver->wait_for('/shop', accepted => 100);
  my @requests = $receiver->requests('/shop');

The receiver ends with its object, and in any case with the test.

=cut

package OrderEngine::Receiver;

use strict;
use warnings FATAL => 'all';

use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use HTTP::Tiny;
use JSON::PP qw(decode_json encode_json);
use OrderEngine qw(poll_until);
use POSIX ();
use PostgreSQL::Test::Utils ();
use Scalar::Util qw(weaken);

my $program = abs_path(dirname(__FILE__) . '/../receiver.js');
my @receivers;

=head1 METHODS

=head2 OrderEngine::Receiver->new(%options)

Starts a receiver. Options: host (127.0.0.1), tls_cert and tls_key (files; makes
it speak https), tls_client_ca (file; asks senders for a certificate of that
authority), stopped (1: takes a port but does not run until start).

=cut

sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		host => '127.0.0.1',
		port => 0,
		directory => PostgreSQL::Test::Utils::tempdir(),
		%options
	}, $class;

	push @receivers, $self;
	weaken($receivers[-1]);
	$self->start;
	$self->stop if $options{stopped};
	return $self;
}

=head2 $receiver->start

Starts it again after stop, on the same port, with the log it had. What it had
been told by control is forgotten, but not the secrets.

=cut

sub start
{
	my ($self) = @_;
	my $directory = $self->{directory};
	my @command = (
		$ENV{OE_NODE} || 'node', $program,
		'--host', $self->{host}, '--port', $self->{port},
		'--log', "$directory/log", '--port-file', "$directory/port",
		'--secrets', "$directory/secrets", '--until-eof');

	push @command, '--tls-cert', $self->{tls_cert}, '--tls-key', $self->{tls_key}
	  if $self->{tls_cert};
	push @command, '--tls-client-ca', $self->{tls_client_ca}
	  if $self->{tls_client_ca};
	unlink "$directory/port";

	# Its standard input is a pipe that nobody else holds (perl closes it in
	# every other child), so it ends with this process even if that is killed.
	my $pid = open(my $stdin, '|-') // croak "could not fork: $!";
	if ($pid == 0)
	{
		open(STDOUT, '>>', "$directory/output") or POSIX::_exit(126);
		open(STDERR, '>&', \*STDOUT) or POSIX::_exit(126);
		{ no warnings 'exec'; exec @command; }
		POSIX::_exit(127);
	}
	@$self{qw(pid stdin)} = ($pid, $stdin);

	poll_until(
		'the receiver to start',
		sub {
			return 1 if -s "$directory/port";
			if (waitpid($pid, POSIX::WNOHANG()) == $pid)
			{
				delete @$self{qw(pid stdin)};
				croak 'the receiver did not start: '
				  . PostgreSQL::Test::Utils::slurp_file("$directory/output");
			}
			return 0;
		});
	chomp($self->{port} = PostgreSQL::Test::Utils::slurp_file("$directory/port"));
	return;
}

=head2 $receiver->stop

Ends it; its port then refuses connections.

=cut

sub stop
{
	my ($self) = @_;
	my $stdin = delete $self->{stdin};

	return if !defined $stdin;
	local ($?, $!);
	kill('TERM', delete $self->{pid});
	close($stdin);    # waits for it
	return;
}

sub DESTROY
{
	my ($self) = @_;

	$self->stop;
	return;
}

END
{
	$_->stop foreach grep { defined } @receivers;
}

=head2 $receiver->port, $receiver->url($path [, $query])

=cut

sub port
{
	my ($self) = @_;

	return $self->{port};
}

sub url
{
	my ($self, $path, $query) = @_;

	return sprintf('%s://%s:%d%s%s',
		$self->{tls_cert} ? 'https' : 'http',
		$self->{host}, $self->{port}, $path, defined $query ? "?$query" : '');
}

sub _request
{
	my ($self, $method, $path, $value) = @_;
	my $response =
	  HTTP::Tiny->new(keep_alive => 0, verify_SSL => 0, timeout => 60)
	  ->request($method, $self->url($path),
		{ defined $value ? (content => encode_json($value)) : () });

	croak "$method $path: $response->{status} $response->{content}"
	  if !$response->{success};
	return decode_json($response->{content});
}

=head2 $receiver->control($command)

Sends a command, see receiver.js. Secrets are kept for a restart.

=cut

sub control
{
	my ($self, $command) = @_;

	if ($command->{secrets})
	{
		my %secrets = %{ $command->{secrets} };
		my @lines;

		foreach my $path (sort keys %secrets)
		{
			my $list = ref $secrets{$path} ? $secrets{$path} : [ $secrets{$path} ];
			push @lines, map { "$path $_\n" } @$list;
		}
		PostgreSQL::Test::Utils::append_to_file("$self->{directory}/secrets",
			join('', @lines));
	}
	$self->_request('POST', '/_control', $command);
	return;
}

=head2 $receiver->rules(@rules)

Replaces the rules by which it misbehaves, see receiver.js.

=cut

sub rules
{
	my ($self, @rules) = @_;

	return $self->control({ rules => \@rules });
}

=head2 $receiver->stats($path)

What it counted for a path, as a hash; see stats() in receiver.js.

=cut

sub stats
{
	my ($self, $path) = @_;

	return $self->_request('GET', '/_stats')->{$path}
	  // {
		(map { $_ => 0 }
			  qw(requests events unique duplicates accepted repeated unverified invalid
			  answered in_flight max_in_flight out_of_order gaps overlaps sent)),
		first => undef,
		last => undef,
		per_second => []
	  };
}

=head2 $receiver->wait_for($path, $counter => $least, ...)

Waits until the counters of a path have reached these values; returns the stats.

=cut

sub wait_for
{
	my ($self, $path, %least) = @_;
	my $stats;

	eval {
		poll_until(
			'requests',
			sub {
				$stats = $self->stats($path);
				return !grep { $stats->{$_} < $least{$_} } keys %least;
			});
	}
	  or croak sprintf('timed out waiting for %s at %s, it has %s',
		encode_json(\%least), $path, encode_json($stats // {}));
	return $stats;
}

=head2 $receiver->wait_for_id($path, $id)

Waits until an event with this webhook-id was received there; returns the first
such request.

=cut

sub wait_for_id
{
	my ($self, $path, $id) = @_;

	return poll_until(
		"$id at $path",
		sub {
			my ($line) = grep { index($_, "\"$id\"") >= 0 } $self->_log_lines($path);
			return $line && decode_json($line);
		});
}

=head2 $receiver->requests([$path])

The requests of its log, oldest first, as hashes; see logRequest() in
receiver.js.

=cut

sub _log_lines
{
	my ($self, $path) = @_;

	$self->_request('POST', '/_flush') if $self->{pid};
	my @lines =
	  split(/\n/, PostgreSQL::Test::Utils::slurp_file("$self->{directory}/log"));
	my $pattern = defined $path ? '"path":' . JSON::PP->new->allow_nonref->encode($path) . ',' : '';

	return grep { index($_, $pattern) >= 0 } @lines;
}

sub requests
{
	my ($self, $path) = @_;

	return map { decode_json($_) } $self->_log_lines($path);
}

=head2 $receiver->ids([$path])

Only their webhook-ids, which is much faster.

=cut

sub ids
{
	my ($self, $path) = @_;

	return map { /"id":"([^"]*)"/ } $self->_log_lines($path);
}

1;
