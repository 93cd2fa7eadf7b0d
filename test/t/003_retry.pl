
# Receivers that misbehave: what is tried again, in which order, until when, and
# what becomes of the rest.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(emit_sql poll_until);
use OrderEngine::Receiver;
use Test::More;

my $true = JSON::PP::true;
my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;

sub retries
{
	return $node->value('SELECT count(*) FROM order_engine.delivery_retry');
}

# The sequence numbers in the order of their first attempts.
sub sequences
{
	my ($from, $path, $aggregateid) = @_;

	return join(' ',
		map { $_->{sequence} }
		grep { $_->{attempt} == 1 && $_->{aggregateid} eq $aggregateid }
		  $from->requests($path));
}

#
# The schedule, and the order within an aggregate
#
$node->create_endpoint($receiver, 'shop',
	retry_schedule => [ '0', '200 ms', '400 ms', '100 ms' ]);
# one that has no second attempt while anybody looks
$node->create_endpoint($receiver, 'later', retry_schedule => [ '0', '1 hour' ]);
$receiver->rules(
	{ path => '/shop', aggregateid => 'bad', times => 2, status => 500 },
	{ path => '/later', aggregateid => 'bad', status => 500 });
$node->emit_many("CASE WHEN i <= 5 THEN 'bad' ELSE 'good' || i END", 1, 50);
$receiver->wait_for('/later', accepted => 45);
$node->wait_for_value(
	"SELECT retrying || last_error FROM order_engine.endpoint_status WHERE name = 'later'",
	'1HTTP status 500');
pass('endpoint_status tells of the event that is tried again');
is(sequences($receiver, '/later', 'bad'), '1', 'what follows a failed event waits');
$node->call('drop_endpoint', { name => 'later' });
my $stats = $receiver->wait_for('/shop', accepted => 50);
is($stats->{requests}, 52, 'two attempts more than events');
is( join(' ', map { $_->{sequence} } grep { $_->{aggregateid} eq 'bad' } $receiver->requests('/shop')),
	'1 1 1 2 3 4 5', 'the order is kept');
is($stats->{overlaps}, 0, 'one request at a time in an aggregate');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
pass('the rows of retries are gone');

my @times = map { $_->{time} }
  grep { $_->{aggregateid} eq 'bad' && $_->{sequence} == 1 } $receiver->requests('/shop');
my @waits = map { ($times[$_] - $times[ $_ - 1 ]) * 1000 } 1 .. $#times;
diag(sprintf('waits of 200 and 400 ms, each x [0.8, 1.2]: %.0f and %.0f ms', @waits));
# the receiver's clock starts when the request has arrived, so allow a little
cmp_ok($waits[0], '>=', 160 - 20, 'the first wait is not too short');
cmp_ok($waits[1], '>=', 320 - 20, 'the second wait is not too short');

#
# Attempts that are used up
#
sub dead_letter
{
	my ($aggregateid, $columns) = @_;
	my $from = "FROM order_engine.dead_letter WHERE aggregateid = '$aggregateid'";

	$node->wait_for_value("SELECT count(*) > 0 $from", 't');
	return $node->value("SELECT $columns $from");
}

$receiver->rules(
	{ path => '/shop', type => 'test.poison', status => 500 },
	{ path => '/shop', type => 'test.teapot', status => 418 },
	{ path => '/shop', type => 'test.moved', action => 'redirect',
		location => $receiver->url('/elsewhere') });
$node->call('alter_endpoint',
	{ name => 'shop', retry_schedule => [ '0', '50 ms', '50 ms' ] });
my $id = $node->emit('sick', type => 'test.poison',
	payload => { sequence => 1, note => 'keep me' }, headers => { custom => 'this too' });
$node->emit('sick', payload => { sequence => 2 });
$node->emit('tea', type => 'test.teapot');
$node->emit('moved', type => 'test.moved');

is( dead_letter('sick',
		q{'evt_' || replace(id::text, '-', ''), attempts, type, payload->>'note',
		  headers->>'custom', last_error, created_at < died_at}),
	"$id|3|test.poison|keep me|this too|HTTP status 500|t",
	'an event that uses up its attempts becomes a dead letter, with its data');
is(dead_letter('tea', 'attempts, last_error'),
	'3|HTTP status 418', 'other statuses than 5xx are tried again as well');
is(dead_letter('moved', 'attempts, last_error'),
	'3|HTTP status 307', 'so are redirects');
is($receiver->stats('/elsewhere')->{requests}, 0, 'which nobody follows');
$receiver->wait_for('/shop', accepted => 51);
is(sequences($receiver, '/shop', 'sick'), '1 2', 'the next event of the aggregate goes on');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
is($node->status_of('shop', 'dead, retrying, parked'), '3|0|0', 'endpoint_status counts them');

#
# What cannot get better is not tried again
#
$node->configure('order_engine.allow_cidrs' => '');
$node->emit('blocked');
is(dead_letter('blocked', 'attempts'), '1', 'a blocked address is tried once');
like(dead_letter('blocked', 'last_error'),
	qr/order_engine\.allow_cidrs.*127\.0\.0\.1/, 'the error names setting and address');
$node->configure('order_engine.allow_cidrs' => '127.0.0.0/8');
$node->configure('order_engine.allow_http' => 'off');
$node->emit('plain');
is(dead_letter('plain', 'attempts'), '1', 'so is a forbidden protocol');
diag('error of a forbidden protocol: ' . dead_letter('plain', 'last_error'));
like(dead_letter('plain', 'last_error'),
	qr/order_engine\.allow_http/, 'the error names the setting');
$node->configure('order_engine.allow_http' => 'on');
$receiver->rules;
$node->emit('allowed again');
$receiver->wait_for('/shop', accepted => 52);
$node->call('drop_endpoint', { name => 'shop' });
is($node->value('SELECT count(*) FROM order_engine.dead_letter'),
	'0', 'dead letters go with their endpoint');

#
# Answers that are no better than they must be
#
$node->create_endpoint($receiver, 'slow', timeout => '1 second',
	retry_schedule => [ '0', '10 ms' ]);
foreach my $action (qw(big cut drip))
{
	my $before = $receiver->stats('/slow');

	$receiver->rules({ path => '/slow', action => $action });
	$node->emit($action);
	$receiver->wait_for('/slow', requests => $before->{requests} + 1);
	$node->wait_for_value('SELECT in_flight FROM order_engine.stat_worker', '0');
	$receiver->rules;
	$node->emit($action);
	$stats = $receiver->wait_for('/slow', requests => $before->{requests} + 2);
	is($stats->{duplicates}, 0, "a 2xx whose body is $action is a success");
}
$receiver->rules({ path => '/slow', action => 'reset', times => 1 });
$node->emit('reset');
$stats = $receiver->wait_for('/slow', accepted => 7);
is($stats->{duplicates}, 1, 'a connection that is reset is tried again');

$node->call('alter_endpoint', { name => 'slow', timeout => '300 ms' });
$receiver->rules({ path => '/slow', action => 'hang' });
$id = $node->emit('hang');
$node->emit('beside');
like(dead_letter('hang', 'last_error'), qr/timed out|timeout/i, 'no answer in time');
is(dead_letter('hang', 'attempts'), '2', 'is tried again, too');
@times = map { $_->{time} } grep { $_->{id} eq $id } $receiver->requests('/slow');
diag(sprintf('timeout of 300 ms and a wait of 10 ms: second attempt after %.0f ms',
	($times[1] - $times[0]) * 1000));
cmp_ok($times[1] - $times[0], '>', 0.25, 'the second attempt comes after the timeout');
$receiver->control({ release => $true, rules => [] });
$node->call('drop_endpoint', { name => 'slow' });

#
# A receiver that is down: the circuit breaker opens, and nothing is written
# about single events
#
my %breaker = (breaker_open => '50 ms', breaker_open_max => '200 ms');

# Each row of an event that failed, however soon it goes; an event that is merely
# slow while hundreds behind it are done has one, too, with no attempts.
$node->safe_psql('postgres', q{
	CREATE TABLE failed_event (id uuid);
	CREATE FUNCTION note_failed_event() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.failed_event VALUES (NEW.id);
		RETURN NULL;
	END $$;
	CREATE TRIGGER note_failed_event AFTER INSERT OR UPDATE ON order_engine.delivery_retry
		FOR EACH ROW WHEN (NEW.attempts > 0) EXECUTE FUNCTION note_failed_event()});

sub retries_written
{
	return $node->value('SELECT count(*) FROM failed_event');
}

my $fragile = OrderEngine::Receiver->new;
$node->create_endpoint($fragile, 'down',
	retry_schedule => [ '0', ('100 ms') x 5 ], policy => \%breaker);
$node->emit_many("'d' || i % 10", 1, 50);
$fragile->wait_for('/down', accepted => 50);
$node->wait_for_value("SELECT order_engine.undelivered('down')", '0');
my $written = retries_written();
$fragile->stop;
$node->emit_many("'d' || i % 10", 51, 100);
$node->wait_for_value(q{
	SELECT breaker <> 'closed' FROM order_engine.endpoint_status WHERE name = 'down'}, 't');
pass('the circuit breaker opens');
my $error = $node->status_of('down', 'last_error');
diag("error of a receiver that is down: $error");
like($error, qr/connect/i, 'the error says so');
$node->emit_many("'d' || i % 10", 101, 150);
# more attempts than the schedule has for each of the ten that are first
$node->wait_for_value(q{
	SELECT failures > 10 * 6 FROM order_engine.endpoint_status WHERE name = 'down'}, 't');
is($node->status_of('down', 'failing_since IS NOT NULL, retrying, parked, dead, order_engine.undelivered(name)'),
	't|0|0|0|100', 'endpoint_status tells of the endpoint, not of events');
$fragile->start;
poll_until('all events', sub {
	my %got = map { $_->{id} => 1 } $fragile->requests('/down');
	return keys %got == 150;
});
foreach my $i (0 .. 9)
{
	is( sequences($fragile, '/down', "d$i"),
		join(' ', map { $_ * 10 + $i } ($i ? 0 : 1) .. ($i ? 14 : 15)),
		"order of aggregate $i");
}
$node->wait_for_value("SELECT order_engine.undelivered('down')", '0');
$node->wait_for_value(q{
	SELECT breaker FROM order_engine.endpoint_status WHERE name = 'down'}, 'closed');
is($node->status_of('down', 'dead, failures'), '0|0', 'no attempt was used up');
is(retries_written(), $written, 'no row was written for any of the events');
$node->call('drop_endpoint', { name => 'down' });
$fragile->stop;

#
# One that answers, but fails whatever it gets, is no better
#
my $count = 4000;
$receiver->rules({ path => '/wide', status => 500 });
$node->create_endpoint($receiver, 'wide', retry_schedule => [ '0', '1 s' ],
	max_in_flight => 64, policy => \%breaker);
$node->create_endpoint($receiver, 'healthy');
my $before = $receiver->stats('/healthy')->{accepted};
my $writer = $node->session;
$writer->send(emit_sql("'w' || i", 1, $count));
poll_until('the healthy endpoint',
	sub { $receiver->stats('/healthy')->{accepted} == $before + $count });
ok(defined $writer->receive, 'the writer is done');
$writer->quit;
pass('an endpoint that fails does not keep another from its events');
cmp_ok($receiver->stats('/wide')->{unique}, '<', 3000,
	'the one that fails stops reading');
is($node->status_of('wide', 'lag IS NOT NULL'), 't', 'and is seen to be behind');
$receiver->rules;
poll_until('the recovered endpoint',
	sub { $receiver->stats('/wide')->{accepted} == $count });
$node->wait_for_value("SELECT order_engine.undelivered('wide')", '0');
is(retries_written(), $written, 'no row was written for any of the events');
$stats = $receiver->stats('/wide');
is($stats->{repeated}, 0, 'nothing is sent again once it was accepted');
is($node->value('SELECT count(*) FROM order_engine.dead_letter'), '0', 'nothing is dead');
$node->call('drop_endpoint', { name => 'wide' });

#
# More events that fail, of an endpoint that takes others, than the worker cares
# to remember
#
$receiver->rules({ path => '/picky', type => 'test.poison', status => 500 });
$node->create_endpoint($receiver, 'picky', retry_schedule => [ '0', ('1 s') x 60 ],
	max_in_flight => 64);
$before = $receiver->stats('/healthy')->{accepted};
$writer = $node->session;
my $most = 0;
$writer->send(emit_sql("'p' || i", 1, $count,
	"CASE WHEN i % 2 = 0 THEN 'test.poison' ELSE 'test.event' END"));
poll_until('the healthy endpoint', sub {
	my $now = retries();
	$most = $now if $now > $most;
	return $receiver->stats('/healthy')->{accepted} == $before + $count;
});
ok(defined $writer->receive, 'the writer is done');
$writer->quit;
$node->wait_for_value('SELECT count(*) >= 1000 FROM order_engine.delivery_retry', 't');
cmp_ok(retries_written(), '>=', 1000, 'rows are written for events that fail while others are taken');
is($node->status_of('picky', 'lag IS NOT NULL'), 't', 'with so many retries it stops reading');
$receiver->rules;
poll_until('the recovered endpoint', sub {
	my $now = retries();
	$most = $now if $now > $most;
	return $receiver->stats('/picky')->{accepted} == $count;
});
diag("at most $most rows in delivery_retry for @{[ $count / 2 ]} events that fail");
cmp_ok($most, '<=', 1000 + 1024, 'what the worker keeps in mind is bounded');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
$stats = $receiver->stats('/picky');
is($stats->{repeated}, 0, 'nothing is sent again once it was accepted');
is($node->value('SELECT count(*) FROM order_engine.dead_letter'), '0', 'nothing is dead');
$node->stop;

done_testing();
