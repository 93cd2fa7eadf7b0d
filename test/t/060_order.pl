
# The order within an aggregate while much goes on: many connections that write,
# many requests under way, a receiver whose answers take their time.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(poll_until);
use OrderEngine::Load qw($long start_writers);
use OrderEngine::Receiver;
use Test::More;
use Time::HiRes qw(time);

my $items = $long ? 500 : 100;
my $steps = 20;
my $writers = $long ? 32 : 8;
my $events = $items * $steps;

my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;

OrderEngine::Load::prepare($node);

sub check
{
	my ($stats, $what) = @_;

	is("$stats->{unique} $stats->{gaps} $stats->{duplicates} $stats->{unverified}",
		"$events 0 0 0", "$what: each event came once, and none was left out");
	is("$stats->{out_of_order} $stats->{overlaps}",
		'0 0', "$what: in the order of the item, never two of one at a time");
	is($stats->{max_in_flight}, 64, "$what: as many requests at a time as may be, and no more");
	return;
}

#
# All goes well.  Some of it waits at first, so that there is enough to send.
#
$receiver->rules({ path => '/shop', delay_ms => [ 0, 50 ] });
$node->create_endpoint($receiver, 'shop', max_in_flight => 64);
$node->call('pause_endpoint', { name => 'shop' });
$node->safe_psql('postgres', "INSERT INTO item SELECT generate_series(1, $items)");

my $begin = time;
my @writers = start_writers($node, $writers, "CALL walk($steps, 1, $items)");
poll_until('some events', sub { $node->value('SELECT sum(version) FROM item') >= $events / 4 });
$node->call('resume_endpoint', { name => 'shop' });
foreach my $writer (@writers)
{
	defined $writer->receive or die $writer->error;
	$writer->quit;
}
my $stats = $receiver->wait_for('/shop', accepted => $events);
check($stats, 'healthy');
diag(sprintf('%d events of %d items from %d connections in %.1f s, %.0f requests/s; %s of them with a transaction below their predecessor\'s',
	$events, $items, $writers, time - $begin, $events / ($stats->{last} - $stats->{first}),
	$node->value('SELECT count(after_txid) FROM order_engine.outbox')));

#
# One event each of some items is not taken, again and again
#
my $sick = $items / 10;

$node->create_endpoint($receiver, 'sick', max_in_flight => 64,
	retry_schedule => [ ('500 ms') x 60 ]);
$node->call('pause_endpoint', { name => $_ }) foreach qw(shop sick);
$node->safe_psql('postgres', "INSERT INTO item SELECT generate_series($items + 1, 2 * $items)");
@writers = start_writers($node, $writers, "CALL walk($steps, $items + 1, 2 * $items)");
foreach my $writer (@writers)
{
	defined $writer->receive or die $writer->error;
	$writer->quit;
}
my %sick = map { OrderEngine::webhook_id($_) => 1 } split(/\n/, $node->value(
	"SELECT id FROM order_engine.outbox WHERE aggregateid::int BETWEEN $items + 1 AND $items + $sick AND aggregate_seq = 10"));
is(scalar keys %sick, $sick, 'so many events will fail');
$receiver->rules({ path => '/sick', ids => [ keys %sick ], status => 500, delay_ms => [ 0, 50 ] },
	{ path => '/sick', delay_ms => [ 0, 50 ] });
$node->call('resume_endpoint', { name => 'sick' });

my $healthy = $events - $sick * ($steps - 9);
$receiver->wait_for('/sick', accepted => $healthy);
poll_until('two failures of each', sub {
	my %n;
	$n{$_}++ foreach grep { $sick{$_} } $receiver->ids('/sick');
	return $sick == grep { $_ >= 2 } values %n;
});
is($receiver->stats('/sick')->{unique}, $healthy + $sick, 'only those items wait');
$receiver->rules({ path => '/sick', delay_ms => [ 0, 50 ] });
$stats = $receiver->wait_for('/sick', accepted => $events);

my %attempts;
$attempts{$_}++ foreach $receiver->ids('/sick');
is(scalar(grep { $attempts{$_} > 1 && !$sick{$_} } keys %attempts), 0, 'no other event was sent twice');
$stats->{duplicates} = 0;
check($stats, 'with failures');
diag(sprintf('%d failures of %d events, each was tried %.1f times; %s rows were written for them and those behind them',
	$sick, $events, (eval { my $n = 0; $n += $attempts{$_} foreach keys %sick; $n }) / $sick,
	$node->value(q{SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'delivery_retry'})));
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');

#
# One request hangs: what comes behind it goes on, past the window that is kept in
# memory, and its event gets a row of its own
#
my $many = 5000;

$receiver->rules({ path => '/slow', aggregateid => 'hangs', action => 'hang' });
$node->create_endpoint($receiver, 'slow', timeout => '5 min', event_types => ['test.*']);
$node->emit('hangs');
$receiver->wait_for('/slow', in_flight => 1);
$node->safe_psql('postgres', qq{
	SELECT count(order_engine.emit('test', 'a' || i, 'test.event', '{}')) FROM generate_series(1, $many) i});
$receiver->wait_for('/slow', accepted => $many);
pass('what comes behind a request that hangs is delivered');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '1');
pass('only its event has a row');
$receiver->control({ release => JSON::PP::true });
$receiver->wait_for('/slow', accepted => $many + 1);
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
is($receiver->stats('/slow')->{duplicates}, 0, 'none came twice');
$node->stop;

done_testing();
