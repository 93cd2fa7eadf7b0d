
# Events on their way: what a receiver gets, which endpoint gets what, and what
# the functions that manage endpoints do to it.

use strict;
use warnings FATAL => 'all';

use Encode ();
use JSON::PP qw(decode_json);
use OrderEngine qw(percentile poll_until webhook_id);
use OrderEngine::Receiver;
use Test::More;

my $node = OrderEngine->start_new('main', conf => 'track_commit_timestamp = on');
my $receiver = OrderEngine::Receiver->new;

#
# What goes over the wire
#
my $trace = '0af7651916cd43dd8448eb211c80319c';

$receiver->control({ detail => JSON::PP::true });
$node->create_endpoint($receiver, 'wire',
	headers => { 'x-shop' => 'one', Authorization => 'Bearer abc' });

my $payload = {
	text => qq{quote " backslash \\ slash / tab \t newline \n},
	unicode => "gr\x{fc}n \x{1f34f}",
	number => 0.1,
	list => [ 1, undef, JSON::PP::true, {} ]
};
my $id = $node->emit(
	'a 1',
	type => 'stock.low',
	payload => $payload,
	headers => {
		traceparent => "00-$trace-b7ad6b7169203331-01",
		tracestate => 'rojo=00f067aa0ba902b7'
	});
my $request = $receiver->wait_for_id('/wire', $id);
my $headers = $request->{headers};
my $body = decode_json(Encode::encode_utf8($request->{body}));
my $version =
  $node->value("SELECT extversion FROM pg_extension WHERE extname = 'order_engine'");

ok($request->{verified}, 'standardwebhooks verifies the signature');
like($id, qr/^evt_[0-9a-f]{12}7[0-9a-f]{19}$/, 'the id is a version 7 uuid');
is($headers->{'content-type'}, 'application/json', 'content-type');
is($headers->{'user-agent'}, "order_engine/$version", 'user-agent');
like($headers->{'webhook-signature'}, qr{^v1,[A-Za-z0-9+/]{43}=$}, 'one signature');
cmp_ok(abs($headers->{'webhook-timestamp'} - $request->{time}),
	'<', 60, 'webhook-timestamp is the time of the attempt');
is($headers->{'x-shop'}, 'one', 'header of the endpoint');
is($headers->{authorization}, 'Bearer abc', 'another header of the endpoint');
ok(!exists $headers->{expect} && !exists $headers->{accept}, 'no header of libcurl');
like($headers->{traceparent}, qr/^00-$trace-[0-9a-f]{16}-01$/, 'the trace goes on');
unlike($headers->{traceparent}, qr/b7ad6b7169203331/, 'under a new span');
is($headers->{tracestate}, 'rojo=00f067aa0ba902b7', 'tracestate');
is_deeply(
	[ sort keys %$body ], [qw(data timestamp type)],
	'members of the body');
is($body->{type}, 'stock.low', 'type');
is_deeply(
	$body->{data},
	{ %$payload, aggregatetype => 'test', aggregateid => 'a 1' },
	'data is the payload and the aggregate');
is( $node->value(
		"SELECT created_at = '$body->{timestamp}' FROM order_engine.outbox WHERE type = 'stock.low'"
	),
	't',
	'timestamp is the time of the event');
like($body->{timestamp}, qr/T.*[+-]\d\d:\d\d$|T.*Z$/, 'timestamp has a time zone');

$id = $node->emit('a 2', payload => \q{'[1, "two"]'});
$request = $receiver->wait_for_id('/wire', $id);
is_deeply(decode_json($request->{body})->{data},
	[ 1, 'two' ], 'a payload that is no object');
ok(!exists $request->{headers}{traceparent}, 'no trace where there is none');

$id = $node->emit('a 3', headers => { traceparent => "00-$trace-xyz\nx: y" });
ok(!exists $receiver->wait_for_id('/wire', $id)->{headers}{traceparent},
	'a traceparent that is none is not sent');

$receiver->rules({ path => '/wire', attempts => 1, status => 500 });
$node->call('alter_endpoint',
	{ name => 'wire', retry_schedule => [ '0', '50 ms', '50 ms' ] });
$id = $node->emit('a 4', headers => { traceparent => "00-$trace-b7ad6b7169203331-01" });
$receiver->wait_for('/wire', requests => 5);
my @attempts = grep { $_->{id} eq $id } $receiver->requests('/wire');
is(scalar(@attempts), 2, 'an attempt that failed is repeated under the same id');
isnt($attempts[0]{headers}{traceparent},
	$attempts[1]{headers}{traceparent}, 'each attempt has a span of its own');
ok($attempts[1]{verified}, 'the second attempt is signed anew');
$receiver->rules;
$receiver->control({ detail => JSON::PP::false });

#
# Each event goes to those whose patterns it matches
#
$node->create_endpoint($receiver, 'all');
$node->create_endpoint($receiver, 'stock', event_types => ['stock.*']);
$node->create_endpoint($receiver, 'ends', event_types => [ '*.low', '*.end' ]);
$node->create_endpoint($receiver, 'exact', event_types => [ 'stock.low', 'stock.end' ]);
foreach my $type (qw(stock.low stock.high stock.low.er other.low stockx stock.end))
{
	$node->emit('globs', type => $type);
}
my %expected = (
	'/all' => 'stock.low stock.high stock.low.er other.low stockx stock.end',
	'/stock' => 'stock.low stock.high stock.low.er stock.end',
	'/ends' => 'stock.low other.low stock.end',
	'/exact' => 'stock.low stock.end');
foreach my $path (sort keys %expected)
{
	# they are of one aggregate, so the last one comes last
	poll_until("the last event at $path",
		sub { grep { $_->{type} eq 'stock.end' } $receiver->requests($path) });
	is(join(' ', map { $_->{type} } $receiver->requests($path)),
		$expected{$path}, "events at $path");
}

#
# Pause and resume
#
my $before = $receiver->stats('/stock')->{accepted};
foreach my $round (1 .. 5)
{
	my @sequence = (2 * $round - 1, 2 * $round);

	# without a pause in between: what was committed before the event counts
	my $uuid = $node->value(qq{
		SELECT order_engine.pause_endpoint('stock') \\g /dev/null
		SELECT order_engine.emit('test', 'pause', 'stock.pause', '{"sequence": $sequence[0]}')});
	$receiver->wait_for_id('/all', webhook_id($uuid));
	$node->emit('pause', type => 'stock.pause', payload => { sequence => $sequence[1] });
	$receiver->wait_for('/all', accepted => 6 + $sequence[1]);
	is($receiver->stats('/stock')->{requests},
		$before + 2 * $round - 2, "an endpoint that is paused gets nothing ($round)");
	$node->call('resume_endpoint', { name => 'stock' });
	$receiver->wait_for('/stock', accepted => $before + 2 * $round);
}
my $stats = $receiver->stats('/stock');
is($stats->{out_of_order}, 0, 'events that waited come in order');
is($stats->{gaps}, 0, 'and all of them');
is($stats->{duplicates}, 0, 'and once');
is($node->value(q{SELECT status FROM order_engine.endpoint_status WHERE name = 'stock'}),
	'active', 'status');

#
# Another URL, another filter
#
my $secret = $node->create_endpoint($receiver, 'moved');
$receiver->control({ secrets => { '/moved2' => $secret } });
my $first = $node->emit('m');
$receiver->wait_for_id('/moved', $first);
$node->call('alter_endpoint',
	{ name => 'moved', url => $receiver->url('/moved2'), event_types => ['test.*'] });
$node->emit('m', type => 'other.event');
my $second = $node->emit('m');
$receiver->wait_for_id('/moved2', $second);
is_deeply([ $receiver->ids('/moved') ], [$first], 'the old URL gets no more');
is_deeply([ $receiver->ids('/moved2') ],
	[$second], 'the new URL gets what the new filter lets through');

#
# Drop, with a request under way
#
my $worker = $node->worker_pid;
$receiver->rules({ path => '/moved2', action => 'hang' });
$node->emit('m');
$receiver->wait_for('/moved2', requests => 2);
$node->call('drop_endpoint', { name => 'moved' });
$id = $node->emit('m');
$receiver->wait_for_id('/all', $id);
$receiver->control({ release => JSON::PP::true, rules => [] });
$node->create_endpoint($receiver, 'moved');
$second = $node->emit('m');
$receiver->wait_for_id('/moved', $second);
is_deeply([ $receiver->ids('/moved') ],
	[ $first, $second ], 'a new endpoint of the same name starts afresh');
is($receiver->stats('/moved')->{unverified}, 0, 'with its own secret');
is($receiver->stats('/moved2')->{requests}, 2, 'nothing went to the one that was dropped');
is($node->worker_pid, $worker, 'the worker goes on');

#
# Two secrets while one replaces the other
#
my $old = $node->create_endpoint($receiver, 'rotating');
my $new = $node->call('rotate_secret', { name => 'rotating', overlap => '1 hour' });
like($new, qr/^whsec_[A-Za-z0-9+\/]{32,}=*$/, 'a new secret');
isnt($new, $old, 'another one');
my $newest;
foreach my $case (
	[ 'the old secret, which still signs', $old, 1 ],
	[ 'the new secret', $new, 1 ],
	[ 'a secret replaced without overlap', $new, 0 ],
	[ 'the newest secret', undef, 1 ])
{
	my ($what, $known, $verifies) = @$case;
	my $path = '/rotated' . ($what =~ s/\W//gr);

	$newest = $node->call('rotate_secret', { name => 'rotating', overlap => '0' })
	  if !$verifies;
	$receiver->control({ secrets => { $path => $known // $newest } });
	$node->call('alter_endpoint', { name => 'rotating', url => $receiver->url($path) });
	$id = $node->emit('r');
	is($receiver->wait_for_id($path, $id)->{verified} ? 1 : 0,
		$verifies, "a receiver that knows only $what");
}

#
# An event is sent if and only if its transaction committed
#
$node->create_endpoint($receiver, 'committed', event_types => ['tx.*']);
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT order_engine.emit('test', 'tx', 'tx.rolled_back', '{}');
	ROLLBACK;
	BEGIN;
	SELECT order_engine.emit('test', 'tx', 'tx.before', '{}');
	SAVEPOINT s;
	SELECT order_engine.emit('test', 'tx', 'tx.inside', '{}');
	ROLLBACK TO SAVEPOINT s;
	SELECT order_engine.emit('test', 'tx', 'tx.after', '{}');
	SAVEPOINT s2;
	SELECT order_engine.emit('test', 'tx', 'tx.released', '{}');
	RELEASE SAVEPOINT s2;
	COMMIT;
	DO $$ BEGIN
		BEGIN
			PERFORM order_engine.emit('test', 'tx', 'tx.caught', '{}');
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
		PERFORM order_engine.emit('test', 'tx', 'tx.end', '{}');
	END $$});
poll_until('the last event',
	sub { grep { $_->{type} eq 'tx.end' } $receiver->requests('/committed') });
is(join(' ', map { $_->{type} } $receiver->requests('/committed')),
	'tx.before tx.after tx.released tx.end', 'only what was committed is sent');

#
# Where a new endpoint starts
#
$node->create_endpoint($receiver, 'earliest', start_at => 'earliest',
	secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
$node->create_endpoint($receiver, 'now');
my $last = $node->emit('last');
$receiver->wait_for_id('/now', $last);
is_deeply([ $receiver->ids('/now') ], [$last], 'start_at now');
my @emitted = $node->emitted;
$receiver->wait_for('/earliest', accepted => scalar @emitted);
is_deeply([ sort($receiver->ids('/earliest')) ],
	[ sort @emitted ], 'start_at earliest: all that there is, once');

# and one that is made in the transaction that emits
$secret = $node->value(sprintf(q{
	BEGIN;
	SELECT order_engine.create_endpoint('same', '%s');
	SELECT order_engine.emit('test', 'same', 'test.event', '{}') \g /dev/null
	COMMIT}, $receiver->url('/same')));
$receiver->control({ secrets => { '/same' => $secret } });
$receiver->wait_for('/same', accepted => 1);
pass('an endpoint gets the events of the transaction that made it');

#
# From commit to request
#
my @ids = map { $node->emit("latency $_") } 1 .. 20;
$receiver->wait_for_id('/wire', $_) foreach @ids;
my %committed = map { split /\|/ } split /\n/, $node->value(q{
	SELECT 'evt_' || replace(id::text, '-', ''),
		extract(epoch FROM pg_xact_commit_timestamp(txid::xid))
	FROM order_engine.outbox WHERE aggregateid LIKE 'latency %'});
my %received = map { $_->{id} => $_->{time} } $receiver->requests('/wire');
my @latency = map { ($received{$_} - $committed{$_}) * 1000 } @ids;
diag(sprintf('from commit to request: median %.1f ms, worst %.1f ms of %d, with %d endpoints',
	percentile(0.5, @latency), percentile(1, @latency), scalar @latency,
	$node->value('SELECT count(*) FROM order_engine.endpoint')));
cmp_ok(percentile(0.5, @latency), '<', 1000, 'latency is far below the polling interval');

$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
is($node->value('SELECT count(*) FROM order_engine.dead_letter'), '0', 'nothing is dead');
$node->stop;

done_testing();
