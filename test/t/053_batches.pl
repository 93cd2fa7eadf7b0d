
# Several events in one request.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use Test::More;

my $node = OrderEngine->start_new('main', conf => q{
order_engine.attempt_log = 'all'
});
my $receiver = OrderEngine::Receiver->new;
my @schedule = ('0', '20 ms', '20 ms', '20 ms');

# Emits events in one transaction, so that the worker reads them together.
sub emit_together
{
	my ($type, $aggregateid, $from, $to, $payload) = @_;

	$payload //= q{jsonb_build_object('sequence', i)};
	return $node->value(qq{
		SELECT count(order_engine.emit('test', ($aggregateid)::text, '$type', $payload))
		FROM generate_series($from, $to) AS i});
}

# The requests at a path, as how many events each had; and by their ids.
sub requests
{
	my ($path) = @_;
	my @requests;

	foreach my $line ($receiver->requests($path))
	{
		my $key = $line->{request} // $line->{id};

		# the events of a request come one after the other in the log
		push @requests, { id => $key, time => $line->{time}, events => [] }
		  if !@requests || $requests[-1]{id} ne $key || $requests[-1]{time} != $line->{time};
		push @{ $requests[-1]{events} }, $line;
	}
	return @requests;
}

sub sizes
{
	my ($path) = @_;

	return join(' ', map { scalar @{ $_->{events} } } requests($path));
}

#
# How many, and how long they wait for others
#
$node->create_endpoint($receiver, 'full', event_types => ['full.*'], max_batch => 10,
	max_batch_delay => '400 ms');
emit_together('full.event', "'f' || i", 1, 25);
my $stats = $receiver->wait_for('/full', accepted => 25);
is(sizes('/full'), '10 10 5', 'full requests, and a last one of the rest');
is($stats->{unverified} + $stats->{invalid}, 0, 'signed and well-formed');
my $waited = (requests('/full'))[2]->{time}
  - $node->value(q{SELECT extract(epoch FROM max(created_at)) FROM order_engine.outbox});
diag(sprintf('delay of 400 ms: the last one came after %.0f ms', 1000 * $waited));
cmp_ok($waited, '>=', 0.399, 'which waited for more as long as it may');
$node->wait_for_value(q{SELECT string_agg(events || ' ' || outcome, ', ') FROM (
		SELECT DISTINCT events, outcome FROM order_engine.delivery_attempt ORDER BY 1) AS x},
	'5 delivered, 10 delivered');
pass('the log of attempts tells how many were together');
my $id = $node->emit('single', type => 'full.event');
is($receiver->wait_for_id('/full', $id)->{batch} // 'none', 'none', 'one event is sent as ever');

#
# Without a delay a request takes what there is; the order is kept inside and between
#
$receiver->rules({ path => '/order', delay_ms => 30 });
$node->create_endpoint($receiver, 'order', event_types => ['order.*', 'test.*'], max_batch => 7,
	max_in_flight => 3);
$node->emit_many("'o' || i % 4", 1, 100);
emit_together('test.event', "'o' || i % 4", 101, 200);
$stats = $receiver->wait_for('/order', accepted => 200);
is($stats->{out_of_order}, 0, 'the order of aggregates is kept');
is($stats->{duplicates}, 0, 'each is sent once');
cmp_ok($stats->{requests}, '<', 100, "200 events took $stats->{requests} requests");
cmp_ok($stats->{max_in_flight}, '<=', 3, 'max_in_flight counts requests');
my $together = 0;
foreach my $request (requests('/order'))
{
	my %seen;
	$seen{ $_->{aggregateid} }++ foreach @{ $request->{events} };
	$together++ if grep { $_ > 1 } values %seen;
	fail('too many in a request') if @{ $request->{events} } > 7;
}
cmp_ok($together, '>', 0, 'events of one aggregate come together');
$node->call('drop_endpoint', { name => 'order' });

#
# A request that fails
#
$receiver->rules({ path => '/poison', aggregateid => 'p5', status => 422 });
$node->create_endpoint($receiver, 'poison', event_types => ['poison.*'], max_batch => 20,
	max_batch_delay => '1 s', retry_schedule => \@schedule);
emit_together('poison.event', "'p' || (i - 1) % 10 + 1", 1, 20);
$stats = $receiver->wait_for('/poison', accepted => 18);
$node->wait_for_value(q{SELECT string_agg(aggregateid || ' ' || attempts, ', ') FROM order_engine.dead_letter}, 'p5 4, p5 4');
my @sizes = split(/ /, sizes('/poison'));
is($sizes[0], 20, 'all were in one request');
is($receiver->stats('/poison')->{repeated}, 0, 'nothing that was taken is sent again');
my %first_alone;
foreach my $request (requests('/poison'))
{
	$first_alone{ $_->{id} } //= @{ $request->{events} } foreach grep { $_->{attempt} == 2 } @{ $request->{events} };
}
is(join(' ', sort { $a <=> $b } values %first_alone), join(' ', (1) x 20), 'after it failed each is tried alone');
is(join(' ', map { $_->{sequence} } grep { $_->{aggregateid} eq 'p3' && $_->{status} == 200 } $receiver->requests('/poison')),
	'3 13', 'in order');
is(join(' ', map { $_->{sequence} } grep { $_->{aggregateid} eq 'p5' && $_->{attempt} > 1 } $receiver->requests('/poison')),
	'5 5 5 15 15 15 15', 'also those that are poison');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
$receiver->rules;
emit_together('poison.event', "'q' || i", 1, 20);
$stats = $receiver->wait_for('/poison', accepted => 38);
is((split(/ /, sizes('/poison')))[-1], 20, 'later ones go together again');

#
# A request that is to come later
#
$receiver->rules({ path => '/later', attempts => 1, status => 429, retry_after => '1' });
$node->create_endpoint($receiver, 'later', event_types => ['later.*'], max_batch => 4);
emit_together('later.event', "'l' || i % 2", 1, 4);
$stats = $receiver->wait_for('/later', accepted => 4);
my @requests = requests('/later');
is(sizes('/later'), '4 4', 'after a pause they come together again');
is($requests[0]{id}, $requests[1]{id}, 'under the same id');
like($requests[0]{id}, qr/^bat_/, 'which is one of a batch');
is($stats->{out_of_order}, 0, 'in order');
$node->wait_for_value(q{SELECT count(*) FROM order_engine.delivery_attempt JOIN order_engine.endpoint USING (endpoint_id)
	WHERE name = 'later' AND delivery_attempt.attempt = 1 AND outcome IN ('paused', 'delivered')}, '8');
pass('which used up no attempt');

#
# Large events
#
$node->create_endpoint($receiver, 'large', event_types => ['large.*'], max_batch => 50,
	max_batch_delay => '100 ms');
emit_together('large.event', "'l' || i", 1, 12,
	q{jsonb_build_object('sequence', i, 'text', repeat('x', 200000))});
$stats = $receiver->wait_for('/large', accepted => 12);
is(join(' ', sort split(/ /, sizes('/large'))), '2 5 5', 'a request is no larger than 1 MiB');

#
# CloudEvents
#
$node->create_endpoint($receiver, 'cloud', event_types => ['cloud.*'], format => 'cloudevents_batch',
	max_batch => 10, max_batch_delay => '100 ms');
emit_together('cloud.event', "'c' || i % 3", 1, 12);
$stats = $receiver->wait_for('/cloud', accepted => 12);
is(sizes('/cloud'), '10 2', 'a batch of CloudEvents');
is($stats->{unverified} + $stats->{invalid} + $stats->{out_of_order}, 0, 'signed, well-formed and in order');
$id = $node->emit('single', type => 'cloud.event');
is($receiver->wait_for_id('/cloud', $id)->{batch}, 1, 'one event is a batch of one');

is($node->value(q{SELECT count(*) FROM order_engine.endpoint_status WHERE retrying + parked > 0 OR breaker <> 'closed'}),
	'0', 'all endpoints are well');
$node->stop;

done_testing();
