
# Events about the delivery itself: who gets them, and what they say.

use strict;
use warnings FATAL => 'all';

use JSON::PP qw(decode_json);
use OrderEngine qw(webhook_id);
use OrderEngine::Receiver;
use Test::More;

my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;
my $quick = { retry_schedule => [ '0', '10 ms' ], policy => { breaker_open => '50 ms', breaker_open_max => '50 ms' } };

# The payload of the one event of a type about an endpoint.
sub payload
{
	my ($type, $endpoint) = @_;
	my $where = "aggregatetype = 'endpoint' AND type = '$type' AND aggregateid = '$endpoint'";

	$node->wait_for_value("SELECT count(*) FROM order_engine.outbox WHERE $where", '1');
	return decode_json($node->value("SELECT payload FROM order_engine.outbox WHERE $where"));
}

$receiver->control({ detail => JSON::PP::true });
$node->create_endpoint($receiver, 'watch', event_types => [ 'endpoint.*', 'delivery.*' ]);

# an event that is given up
$node->create_endpoint($receiver, 'picky', %$quick, event_types => [ 'test.*', 'delivery.*' ]);
$receiver->rules({ path => '/picky', type => 'test.bad', status => 400 });
my $bad = $node->emit('a', type => 'test.bad');
is_deeply(
	payload('delivery.exhausted', 'picky'),
	{
		endpoint => 'picky', event_id => $bad, event_type => 'test.bad', event_aggregatetype => 'test',
		event_aggregateid => 'a', attempts => 2, last_error => $node->last_error('picky')
	},
	'delivery.exhausted tells which event, and why');

# an endpoint that is gone
$node->create_endpoint($receiver, 'gone', %$quick, event_types => [ 'test.*', 'endpoint.*' ]);
$receiver->rules({ path => '/gone', status => 410 });
$node->emit('b');
is_deeply(payload('endpoint.disabled', 'gone'), { endpoint => 'gone', reason => 'the endpoint answered 410 Gone' },
	'endpoint.disabled tells why');
is($node->value(q{SELECT status, state, advice ~ '410' FROM order_engine.endpoint_status WHERE name = 'gone'}),
	'disabled|disabled|t', 'it is disabled');

# an outage that is over
$node->create_endpoint($receiver, 'weak', %$quick, event_types => ['test.*'],
	retry_schedule => [ '0', ('50 ms') x 60 ]);
$receiver->rules({ path => '/weak', status => 500, times => 12 });
$node->safe_psql('postgres', q{SELECT order_engine.emit('test', i::text, 'test.event', '{}') FROM generate_series(1, 20) i});
like(payload('delivery.recovered', 'weak')->{failing_since}, qr/^\d{4}-\d\d-\d\dT/, 'delivery.recovered tells since when it failed');

# a test
my $test = webhook_id($node->call('send_test_event', { name => 'picky' }));
$receiver->wait_for_id('/picky', $test);
is($node->value(q{SELECT payload ->> 'endpoint' FROM order_engine.outbox WHERE type = 'endpoint.test'}), 'picky',
	'endpoint.test names its endpoint');

# who got what: none is told of itself, but for a test, which is for nobody else
$receiver->wait_for('/watch', accepted => 3);
$node->wait_for_value(q{SELECT lag_events FROM order_engine.endpoint_status WHERE name = 'watch'}, '0');
is(join(' ', sort map { "$_->{type}($_->{aggregateid})" } $receiver->requests('/watch')),
	'delivery.exhausted(picky) delivery.recovered(weak) endpoint.disabled(gone)', 'an endpoint that asks for them gets them');
is(join(' ', sort map { $_->{type} . "($_->{aggregateid})" } grep { $_->{aggregatetype} eq 'endpoint' } $receiver->requests('/picky')),
	'delivery.recovered(weak) endpoint.test(picky)', 'but not those about itself');

$receiver->stop;
$node->stop;

done_testing();
