
# The examples for authors of receivers, doc/examples: they take what a worker
# sends, and nothing else; and doc/receiving.md shows them as they are.

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(hmac_sha256_base64);
use File::Basename qw(dirname);
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use OrderEngine qw(poll_until webhook_id);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $doc = dirname(__FILE__) . '/../../doc';
my $chapter = slurp_file("$doc/receiving.md");

foreach my $file (qw(receiver.js receiver.sql))
{
	ok(index($chapter, slurp_file("$doc/examples/$file")) >= 0, "receiving.md shows examples/$file as it is");
}

my $node = OrderEngine->start_new('main');

# Signs as a sender would.
sub sign
{
	my ($secret, $id, $timestamp, $body) = @_;
	my $mac = hmac_sha256_base64("$id.$timestamp.$body", decode_base64($secret =~ s/^whsec_//r));

	return 'v1,' . $mac . '=' x (-length($mac) % 4);
}

###########################################################################
# receiver.js

my %example;

# Starts the example with these secrets, on the port that it had.
sub start_example
{
	my (@secrets) = @_;
	my ($in, $out, $err) = ('', '', '');

	%example = (port => $example{port} // 0, out => \$out);
	local $ENV{SECRETS} = join(' ', @secrets);
	local $ENV{PORT} = $example{port};
	$example{run} = IPC::Run::start([ $ENV{OE_NODE} || 'node', "$doc/examples/receiver.js" ],
		'<', \$in, '>', \$out, '2>', \$err);
	poll_until('the example to listen', sub {
		$example{run}->pump_nb;
		die "the example did not start: $err" if !$example{run}->pumpable;
		return $out =~ /^listening on port (\d+)\n/;
	});
	($example{port}) = $out =~ /(\d+)/;
	return;
}

sub stop_example
{
	$example{run}->signal('TERM');
	$example{run}->finish;
	return;
}

# Lines that the example has printed about an event.
sub printed
{
	my ($id) = @_;

	$example{run}->pump_nb;
	return grep { / $id\b/ } split /\n/, ${ $example{out} };
}

sub wait_for_line
{
	my ($kind, $id) = @_;

	poll_until("the line \"$kind $id\"", sub { return grep { /^$kind / } printed($id) });
	return;
}

sub post
{
	my ($id, $timestamp, $signature, $body) = @_;

	return HTTP::Tiny->new->post("http://127.0.0.1:$example{port}/",
		{
			headers => {
				'webhook-id' => $id,
				'webhook-timestamp' => $timestamp,
				'webhook-signature' => $signature
			},
			content => $body
		})->{status};
}

my $secret = 'whsec_' . 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
my $body = '{"type":"test.event","timestamp":"2026-01-01T00:00:00Z","data":{"aggregatetype":"test","aggregateid":"x"}}';

start_example($secret);
$node->call('create_endpoint', {
	name => 'js',
	url => "http://127.0.0.1:$example{port}/hook",
	event_types => ['order.*', 'test.*'],
	secret => $secret,
	max_batch => 10,
	retry_schedule => [ '0', ('100 ms') x 50 ],
	policy => { breaker_open => '100 ms', breaker_open_max => '100 ms' } });

my $id = $node->emit('a');
wait_for_line('new', $id);
is(join(', ', printed($id)), "new $id test.event test/a 0", 'a signed event is taken');

# an order counts its events
$node->safe_psql('postgres', q{
	SELECT order_engine.upsert_product('TEA', 'Green tea', 4.50, 'EUR');
	SELECT order_engine.adjust_stock('TEA', 'default', 100, 'delivery');
	SELECT order_engine.place_order('customer', '[{"sku": "TEA", "quantity": 2}]', 'EUR', terms => 'invoice')});
my ($placed) = $node->emitted("type = 'order.placed'");
wait_for_line('new', $placed);
$node->safe_psql('postgres', q{SELECT order_engine.transition('order', order_id, 'confirm') FROM order_engine.orders});
my ($confirmed) = $node->emitted("type = 'order.confirmed'");
wait_for_line('new', $confirmed);
like((printed($confirmed))[0], qr{order\.confirmed order/\d+ 2$}, 'with its place in the sequence');

# signatures
my $now = time();
is(post('evt_1', $now, sign($secret, 'evt_1', $now, $body), $body), 204, 'what is signed as it should be is taken');
is(post('evt_2', $now, sign($secret, 'evt_3', $now, $body), $body), 401, 'not with the signature of another id');
is(post('evt_2', $now, sign($secret, 'evt_2', $now, $body), "$body "), 401, 'not with another body');
is(post('evt_2', $now, sign('whsec_' . 'A' x 32, 'evt_2', $now, $body), $body), 401, 'not with a forged signature');
is(post('evt_2', $now, '', $body), 401, 'not without one');
is(post('evt_2', $now - 3600, sign($secret, 'evt_2', $now - 3600, $body), $body), 401, 'not with an old timestamp');
is(post('evt_2', $now + 3600, sign($secret, 'evt_2', $now + 3600, $body), $body), 401, 'nor with one of the future');
is(post('evt_2', $now, 'v1a,x v1,AAAA ' . sign($secret, 'evt_2', $now, $body), $body), 204, 'one signature of several will do');

# order
foreach my $sequence (2, 1, 3)
{
	my $numbered = $body =~ s/"x"/"numbered","sequence":$sequence/r;

	post("evt_n$sequence", $now, sign($secret, "evt_n$sequence", $now, $numbered), $numbered);
}
wait_for_line('new', 'evt_n3');
is((printed('evt_n2'))[0] . ', ' . (printed('evt_n1'))[0],
	'new evt_n2 test.event test/numbered 2, late evt_n1 test.event test/numbered 1', 'what comes after its successor is known as late');
is(post('evt_null', $now, sign($secret, 'evt_null', $now, '{"data":null}'), '{"data":null}'), 204, 'any data will do');
wait_for_line('new', 'evt_null');

# duplicates
my $uuid = $node->value(q{SELECT id FROM order_engine.outbox WHERE aggregateid = 'a'});
is($node->value("SELECT order_engine.replay('js', '{$uuid}'::uuid[])"), '1', 'an event is sent once more');
wait_for_line('duplicate', $id);
is(scalar(grep { /^new/ } printed($id)), 1, 'it is stored once');
$node->wait_for_value(q{SELECT replaying FROM order_engine.endpoint_status WHERE name = 'js'}, '0');
is($node->value(q{SELECT failures FROM order_engine.endpoint_status WHERE name = 'js'}), '0', 'a duplicate is answered with 2xx');

# several events in one request
$node->call('pause_endpoint', { name => 'js' });
$node->emit_many(q{'b'}, 1, 10);
$node->call('resume_endpoint', { name => 'js' });
my @batch = $node->emitted(q{aggregateid = 'b'});
wait_for_line('new', $_) foreach @batch;
is($node->value(q{SELECT count(*) FROM order_engine.delivery_attempt}), '0', 'batches are taken at the first attempt');

# rotation: the receiver has the old secret, then both, then the new one
my $new = $node->call('rotate_secret', { name => 'js' });
wait_for_line('new', $node->emit('c'));
stop_example();
start_example($secret, $new);
wait_for_line('new', $node->emit('c'));
stop_example();
start_example($new);
wait_for_line('new', $node->emit('c'));

# without an overlap a receiver that comes late refuses events, and loses none
my $newest = $node->call('rotate_secret', { name => 'js', overlap => '0' });
$node->wait_for_value(q{SELECT count(*) FROM order_engine.endpoint_secret WHERE expires_at <= now()}, '1');
$id = $node->emit('d');
stop_example();
start_example('whsec_' . 'A' x 32);
$node->wait_for_value(q{SELECT last_error LIKE '%401%' FROM order_engine.endpoint_status WHERE name = 'js'}, 't');
stop_example();
start_example($newest);
wait_for_line('new', $id);
stop_example();

###########################################################################
# receiver.sql: requests of a worker, taken down on their way

SKIP:
{
	skip 'this server has no pgcrypto', 1
	  if $node->value(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pgcrypto'}) eq '0';

	my $receiver = OrderEngine::Receiver->new;

	$receiver->control({ detail => JSON::PP::true });
	$node->safe_psql('postgres', 'CREATE DATABASE receiver');
	$node->safe_psql('receiver', slurp_file("$doc/examples/receiver.sql"));

	my $sql_secret = $node->create_endpoint($receiver, 'sql', event_types => ['test.*'], max_batch => 10);
	$node->safe_psql('receiver', "INSERT INTO webhook.secret VALUES ('$sql_secret')");

	my $receive = sub {
		my ($request_id, $timestamp, $signature, $content) = @_;

		return sprintf("SELECT webhook.receive('%s', '%s', '%s', '\\x%s')",
			$request_id, $timestamp, $signature, unpack('H*', $content));
	};
	my $take = sub {
		my ($request) = @_;
		my $headers = $request->{headers};

		return $receive->(@$headers{qw(webhook-id webhook-timestamp webhook-signature)}, $request->{body});
	};

	$node->emit('first');
	$receiver->wait_for('/sql', accepted => 1);
	my ($request) = $receiver->requests('/sql');
	is($node->value($take->($request), 'receiver'), '1', 'SQL: a signed event is new');
	is($node->value($take->($request), 'receiver'), '0', 'SQL: once');
	is($node->value('SELECT count(*) FROM webhook.event', 'receiver'), '1', 'SQL: it is stored once');
	is($node->value(q{SELECT type, aggregatetype, aggregateid, id FROM webhook.event}, 'receiver'),
		"test.event|test|first|$request->{id}", 'SQL: as what it is');
	is($node->value(q{SELECT occurred_at FROM webhook.event}, 'receiver'),
		$node->value(q{SELECT created_at FROM order_engine.outbox WHERE aggregateid = 'first'}),
		'SQL: with its time');

	# a batch
	$node->call('pause_endpoint', { name => 'sql' });
	$node->emit_many(q{'second'}, 1, 5);
	$node->call('resume_endpoint', { name => 'sql' });
	$receiver->wait_for('/sql', accepted => 6);
	my %batches = map { $_->{request} => $_ } grep { $_->{batch} } $receiver->requests('/sql');
	is($node->value($take->($_), 'receiver'), $_->{batch}, 'SQL: all events of a batch are new') foreach values %batches;
	is($node->value(q{SELECT string_agg(sequence::text, ' ' ORDER BY received_no) FROM webhook.event WHERE aggregateid = 'second'}, 'receiver'),
		'1 2 3 4 5', 'SQL: in their order');

	# signatures
	my %forged = (
		'a forged one' => [ 'evt_1', $now, sign('whsec_' . 'A' x 32, 'evt_1', $now, $body), $body ],
		'that of another id' => [ 'evt_1', $now, sign($sql_secret, 'evt_2', $now, $body), $body ],
		'that of another body' => [ 'evt_1', $now, sign($sql_secret, 'evt_1', $now, $body), "$body " ],
		'an old one' => [ 'evt_1', $now - 3600, sign($sql_secret, 'evt_1', $now - 3600, $body), $body ],
		'none' => [ 'evt_1', $now, '', $body ]);
	foreach my $what (sort keys %forged)
	{
		is($node->error_of($receive->(@{ $forged{$what} }), 'receiver')->{sqlstate}, '28000', "SQL: not with a signature that is $what");
	}

	# rotation
	my $rotated = $node->call('rotate_secret', { name => 'sql' });
	$receiver->control({ secrets => { '/sql' => [ $sql_secret, $rotated ] } });
	$node->emit('third');
	$receiver->wait_for('/sql', accepted => 7);
	($request) = grep { $_->{aggregateid} eq 'third' } $receiver->requests('/sql');
	like($request->{headers}{'webhook-signature'}, qr/^v1,\S+ v1,\S+$/, 'while a secret is rotated there are two signatures');
	$node->safe_psql('receiver', "UPDATE webhook.secret SET secret = '$rotated'");
	is($node->value($take->($request), 'receiver'), '1', 'SQL: with the new secret');
	$node->safe_psql('receiver', "DELETE FROM webhook.event; UPDATE webhook.secret SET secret = '$sql_secret'");
	is($node->value($take->($request), 'receiver'), '1', 'SQL: or the old one');
	$node->safe_psql('receiver', "DELETE FROM webhook.event; INSERT INTO webhook.secret VALUES ('$rotated')");
	is($node->value($take->($request), 'receiver'), '1', 'SQL: or with both');
	$receiver->stop;
}

$node->stop;

done_testing();
