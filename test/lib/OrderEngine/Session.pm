
=head1 NAME

OrderEngine::Session - a psql that stays connected, for TAP tests

=head1 SYNOPSIS

  my $session = $node->session;
  $session->query('BEGIN');
  my $xid = $session->query('SELECT pg_current_xact_id()');

  $session->send('SELECT slow()');    # does not wait
  my $result = $session->receive;     # undef if the connection was lost

It is our own because the one of PostgreSQL::Test::Cluster has a different face
in each version of PostgreSQL.

=cut

package OrderEngine::Session;

use strict;
use warnings FATAL => 'all';

use Carp qw(croak);
use IPC::Run ();
use PostgreSQL::Test::Utils ();

my $marker = '-- end of the answer --';

=head1 METHODS

=head2 OrderEngine::Session->new($node, $database)

$node->session([$database]) does the same.

=cut

sub new
{
	my ($class, $node, $database) = @_;
	my $self = bless { stdin => '', stdout => '', stderr => '' }, $class;

	$self->{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', '-', '-d',
			$node->connstr($database // 'postgres')
		],
		'<', \$self->{stdin}, '>', \$self->{stdout}, '2>', \$self->{stderr},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $self;
}

=head2 $session->send($sql)

Hands SQL to the server without waiting for the answer.

=cut

sub send
{
	my ($self, $sql) = @_;

	$self->{stdin} .= "$sql\n;\n\\echo $marker\n";
	local $SIG{PIPE} = 'IGNORE';
	eval { $self->{run}->pump_nb; };
	return;
}

=head2 $session->is_done

Whether the answer to what was sent is there, or the connection was lost.

=cut

sub is_done
{
	my ($self) = @_;

	return 1 if index($self->{stdout}, $marker) >= 0;
	local $SIG{PIPE} = 'IGNORE';
	return !eval { $self->{run}->pump_nb; $self->{run}->pumpable }
	  || index($self->{stdout}, $marker) >= 0;
}

=head2 $session->receive

Waits for the answer; returns it, or undef after an error (see error) or when the
connection was lost, which both end the session.

=cut

sub receive
{
	my ($self) = @_;
	my $end;

	local $SIG{PIPE} = 'IGNORE';
	while (($end = index($self->{stdout}, $marker)) < 0)
	{
		last if !eval { $self->{run}->pumpable && $self->{run}->pump };
	}
	$end = index($self->{stdout}, $marker);
	return undef if $end < 0;
	my $answer = substr($self->{stdout}, 0, $end);
	$self->{stdout} = substr($self->{stdout}, $end + length($marker) + 1);
	chomp $answer;
	return $answer;
}

=head2 $session->query($sql)

Both in one; dies when there is no answer.

=cut

sub query
{
	my ($self, $sql) = @_;

	$self->send($sql);
	return $self->receive // croak "no answer to $sql: $self->{stderr}";
}

=head2 $session->error

What psql wrote to its standard error.

=cut

sub error
{
	my ($self) = @_;

	return $self->{stderr};
}

=head2 $session->quit

Ends the session; an open transaction is rolled back.

=cut

sub quit
{
	my ($self) = @_;
	my $run = delete $self->{run} // return;

	local $SIG{PIPE} = 'IGNORE';
	local ($?, $@);
	eval { $run->finish; };
	$run->kill_kill if $@ =~ /timeout/;
	return;
}

sub DESTROY
{
	my ($self) = @_;

	$self->quit;
	return;
}

1;
