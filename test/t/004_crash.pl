
# Processes that are killed at random: no event is lost, few are sent twice, and
# the order within an aggregate stays.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use Test::More;

my $events = 20_000;
my $writers = 4;
my $aggregates = 25;    # of each writer
my $each = $events / $writers / $aggregates;

# results of one flush and what was under way, see FLUSH_RESULTS in worker.c
my $max_in_flight = 64;
my $duplicates_of_a_crash = 1000 + $max_in_flight;

my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;

$node->safe_psql('postgres', q{
	CREATE TABLE counter (writer int, aggregate int, n int NOT NULL DEFAULT 0,
		PRIMARY KEY (writer, aggregate)) WITH (fillfactor = 10);
	CREATE PROCEDURE write_events(w int, upto int) LANGUAGE plpgsql AS $$
	DECLARE
		next record;
	BEGIN
		LOOP
			UPDATE counter SET n = n + 1
			WHERE writer = w AND aggregate = (
				SELECT aggregate FROM counter WHERE writer = w AND n < upto ORDER BY n LIMIT 1)
			RETURNING * INTO next;
			EXIT WHEN NOT FOUND;
			PERFORM order_engine.emit('test', next.writer || '/' || next.aggregate,
				'test.event', jsonb_build_object('sequence', next.n));
			COMMIT;
			PERFORM pg_sleep(0.0005);	-- so that it takes some seconds
		END LOOP;
	END $$});
$node->safe_psql('postgres',
	"INSERT INTO counter SELECT w, a FROM generate_series(1, $writers) w, generate_series(1, $aggregates) a"
);

# Ends when all that the outbox has was accepted, and checks what came.
sub check_path
{
	my ($path, $crashes) = @_;
	my %emitted = map { $_ => 1 } $node->emitted;
	my $stats = $receiver->wait_for($path, accepted => scalar keys %emitted);
	my @unknown = grep { !$emitted{$_} } $receiver->ids($path);

	is(scalar @unknown, 0, 'every request is of an event that is in the outbox');
	is($stats->{unique}, scalar keys %emitted, 'no event is missing');
	is($stats->{unverified}, 0, 'all are signed');
	is($stats->{out_of_order}, 0, 'first deliveries are in order');
	is($stats->{gaps}, 0, 'and leave nothing out');
	diag(sprintf('%s: %d events, %d crashes, %d duplicates, at most %d are allowed',
		$path, $stats->{unique}, $crashes, $stats->{duplicates},
		$crashes * $duplicates_of_a_crash));
	cmp_ok($stats->{duplicates}, '<=', $crashes * $duplicates_of_a_crash,
		'duplicates are bounded');
	return;
}

#
# The worker, ten times, and a writer, while there is much to do
#
$node->create_endpoint($receiver, 'shop', max_in_flight => $max_in_flight);

my %sessions;
my %done;
my $reconnects = 0;

# Connects the writers that are not at work and not done.
sub keep_writing
{
	foreach my $w (grep { !$done{$_} } 1 .. $writers)
	{
		if ($sessions{$w})
		{
			next if !$sessions{$w}->is_done;
			$done{$w} = defined $sessions{$w}->receive;
			$reconnects++ if !$done{$w};
			delete $sessions{$w};
		}
		next if $done{$w};
		$sessions{$w} = $node->session;
		$sessions{$w}->send("CALL write_events($w, $each)");
	}
	return scalar grep { $_ } values %done;
}

my $crashes = 11;
foreach my $round (1 .. $crashes)
{
	my $when = $receiver->stats('/shop')->{unique} + int(rand(1500));

	poll_until("events before crash $round", sub {
		keep_writing();
		return $receiver->stats('/shop')->{unique} >= $when;
	});
	if ($round == 2)	# as long as there are some
	{
		my $pid = poll_until('a writer', sub {
			keep_writing();
			return $node->value(
				q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL write_events%' LIMIT 1});
		});
		kill('KILL', $pid) == 1 or die "could not kill the backend $pid: $!";
	}
	else
	{
		$node->kill_worker;
	}
	$node->wait_until_up;
}
poll_until('the writers', sub { keep_writing() == $writers });
diag("$crashes crashes, after which the writers connected again $reconnects times");
is($node->value('SELECT count(*) FROM order_engine.outbox'),
	$events, 'each transaction wrote its event once');
check_path('/shop', $crashes);

#
# The whole server at once, again and again
#
$node->create_endpoint($receiver, 'immediate', start_at => 'earliest',
	max_in_flight => $max_in_flight,
	secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
foreach my $round (1 .. 3)
{
	$receiver->wait_for('/immediate', accepted => $round * 4000);
	$node->stop('immediate');
	$node->start;
}
check_path('/immediate', 3);

#
# With events that are tried again, and others that wait behind them
#
$node->create_endpoint($receiver, 'sick', retry_schedule => [ '0', ('2 s') x 60 ]);
$receiver->rules({ path => '/sick', aggregateid => 'a1', status => 500 },
	{ path => '/sick', aggregateid => 'a2', status => 500 });
$node->emit_many("'a' || i % 4", 1, 40);
$receiver->wait_for('/sick', accepted => 20);
$node->wait_for_value(
	q{SELECT retrying, parked FROM order_engine.endpoint_status WHERE name = 'sick'}, '2|18');
$node->kill_worker;
$node->wait_until_up;
$node->emit_many("'a' || i % 4", 41, 80);
$receiver->wait_for('/sick', accepted => 40);
$node->stop('immediate');
$node->start;
$node->emit_many("'a' || i % 4", 81, 120);
$receiver->wait_for('/sick', accepted => 60);
$node->restart;
# the last events for these may have to be read, still
$node->wait_for_value(
	q{SELECT retrying, parked, dead FROM order_engine.endpoint_status WHERE name = 'sick'}, '2|58|0');
pass('retries and what waits behind them outlive crashes');
$receiver->rules;
my $stats = $receiver->wait_for('/sick', accepted => 120);
foreach my $i (0 .. 3)
{
	my %first;
	my @got = grep { !$first{$_}++ } map { $_->{sequence} }
	  grep { $_->{aggregateid} eq "a$i" } $receiver->requests('/sick');
	is( join(' ', @got),
		join(' ', map { $_ * 4 + $i } ($i ? 0 : 1) .. ($i ? 29 : 30)),
		"the order of aggregate $i is kept");
}
is($stats->{overlaps}, 0, 'one request at a time in an aggregate');
diag("repeated after it was accepted: $stats->{repeated}");
cmp_ok($stats->{repeated}, '<=', 3 * 16, 'few are repeated');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
pass('no retry is left');
is($node->value('SELECT count(*) FROM order_engine.dead_letter'), '0', 'nothing is dead');
$node->stop;

done_testing();
