
# What goes over the wire in each format of an endpoint: Standard Webhooks and
# CloudEvents, one event in a request or several. The receiver validates
# CloudEvents with the npm package of that name; here is what the values must be.

use strict;
use warnings FATAL => 'all';
use utf8;

use JSON::PP ();
use OrderEngine qw(poll_until webhook_id);
use OrderEngine::Receiver;
use Test::More;

# a database whose encoding is not that of requests, and whose name is no part of a URI
my $latin = 'order db%';
my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;
my $trace = '0af7651916cd43dd8448eb211c80319c';
my $span = "00-$trace-b7ad6b7169203331-01";
my @formats = qw(webhook cloudevents cloudevents_binary cloudevents_batch);
my %content_type = (
	webhook => 'application/json',
	cloudevents => 'application/cloudevents+json; charset=utf-8',
	cloudevents_binary => 'application/json',
	cloudevents_batch => 'application/cloudevents-batch+json');

sub json
{
	my ($text) = @_;

	return JSON::PP->new->allow_nonref->decode($text);
}

# SQL text of any characters: psql gets bytes
sub literal
{
	my ($text) = @_;

	return \('U&' . "'" . join('', map { sprintf('\\+%06x', ord) } split(//, $text)) . "'");
}

sub timestamp_of
{
	my ($id, $database) = @_;

	return $node->value(qq{
		SELECT (to_json(created_at AT TIME ZONE 'UTC') #>> '{}') || '+00:00' FROM order_engine.outbox
		WHERE 'evt_' || replace(id::text, '-', '') = '$id'}, $database);
}

# The data of a request that brought one event, as Perl has it.
sub data_of
{
	my ($request) = @_;
	my $body = json($request->{body});

	return $body if $request->{format} eq 'cloudevents_binary';
	return $body->[0]{data} if $request->{format} eq 'cloudevents_batch';
	return $body->{data};
}

sub check_valid
{
	my ($request, $format, $what) = @_;

	is($request->{invalid}, undef, "$what: valid");
	is($request->{format}, $format, "$what: in its format");
	ok($request->{verified}, "$what: standardwebhooks verifies the signature");
	is($request->{headers}{'content-type'}, $content_type{$format}, "$what: content-type");
	return;
}

$receiver->control({ detail => JSON::PP::true });
$node->create_endpoint($receiver, $_, format => $_) foreach @formats;

#
# One event, in each of them
#
my $aggregateid = qq{a "b" 100% \\ ~ ü \x{1f34f} é};
my $payload = { text => qq{" \\ \t}, number => 0.1, list => [ 1, undef, {} ] };
my $id = $node->emit(
	literal($aggregateid),
	type => 'stock.low',
	payload => { %$payload, sequence => 'mine' },
	headers => { traceparent => $span, tracestate => 'rojo=00f067aa0ba902b7,b="x y"' });
my %attributes = (
	specversion => '1.0',
	id => $id,
	source => '/order_engine/postgres',
	type => 'stock.low',
	time => timestamp_of($id),
	subject => "test/$aggregateid",
	datacontenttype => 'application/json',
	aggregatetype => 'test',
	aggregateid => $aggregateid,
	partitionkey => $aggregateid,
	traceparent => $span,
	tracestate => 'rojo=00f067aa0ba902b7,b="x y"');

foreach my $format (@formats)
{
	my $request = $receiver->wait_for_id("/$format", $id);
	my $headers = $request->{headers};

	check_valid($request, $format, $format);
	is($request->{aggregateid}, $aggregateid, "$format: aggregate");
	like($headers->{traceparent}, qr/^00-$trace-[0-9a-f]{16}-01$/, "$format: the trace goes on");
	isnt($headers->{traceparent}, $span, "$format: under a new span");
	if ($format eq 'webhook')
	{
		is($request->{attributes}, undef, "$format: no CloudEvent");
		is_deeply(
			data_of($request),
			{ %$payload, sequence => 'mine', aggregatetype => 'test', aggregateid => $aggregateid },
			"$format: the data is the payload and the aggregate");
		next;
	}
	is_deeply($request->{attributes}, \%attributes, "$format: attributes");
	is_deeply(
		data_of($request),
		{ %$payload, sequence => 'mine' },
		"$format: the data is the payload alone");
	is($request->{batch}, $format eq 'cloudevents_batch' ? 1 : undef, "$format: how many events");
}

my $headers = $receiver->wait_for_id('/cloudevents_binary', $id)->{headers};
is( $headers->{'ce-aggregateid'},
	'a%20%22b%22%20100%25%20\\~' =~ s/\\~/\\%20~%20%C3%BC%20%F0%9F%8D%8F%20%C3%A9/r,
	'percent-encoding as the HTTP binding has it');
is($headers->{'ce-source'}, '/order_engine/postgres', 'and nowhere else');
is($headers->{'ce-tracestate'}, 'rojo=00f067aa0ba902b7,b=%22x%20y%22', 'also of tracestate');

#
# Any payload; trace headers that are none
#
my %payloads = (
	'an array' => '[1, "two"]',
	'an empty array' => '[]',
	'an empty object' => '{}',
	'a string' => '"text"',
	'a number' => '12.50',
	'true' => 'true',
	'null' => 'null');
foreach my $what (sort keys %payloads)
{
	$id = $node->emit('payload', payload => \"'$payloads{$what}'");
	foreach my $format (@formats)
	{
		my $request = $receiver->wait_for_id("/$format", $id);
		my $data = data_of($request);

		is($request->{invalid}, undef, "$format: $what is valid");
		delete @$data{qw(aggregatetype aggregateid)} if $format eq 'webhook' && ref $data eq 'HASH';
		is_deeply($data, json($payloads{$what}), "$format: $what is the data");
	}
}

foreach my $header (
	{ traceparent => "00-$trace-xyz\nx: y" },
	{ traceparent => '00-' . ('0' x 32) . '-b7ad6b7169203331-01', tracestate => 'a=b' },
	{ traceparent => '00-' . $trace . '-' . ('0' x 16) . '-01', tracestate => 'a=b' },
	{ tracestate => 'a=b' })
{
	$id = $node->emit('trace', headers => $header);
	foreach my $format (@formats)
	{
		my $request = $receiver->wait_for_id("/$format", $id);

		is($request->{invalid}, undef, "$format: valid without a trace");
		ok( !grep({ exists $request->{headers}{$_} || exists $request->{attributes}{$_} }
				qw(traceparent tracestate)),
			"$format: a trace that is none is left out");
	}
}
$id = $node->emit('trace', headers => { traceparent => $span, tracestate => "a=b\r\nx: y" });
foreach my $format (@formats)
{
	my $request = $receiver->wait_for_id("/$format", $id);

	ok( !grep({ exists $request->{headers}{$_} || exists $request->{attributes}{$_} } qw(tracestate x)),
		"$format: a tracestate that is none is left out");
}

#
# Names that emit() would refuse, or that CloudEvents does not allow
#
$node->safe_psql('postgres', q{
	INSERT INTO order_engine.outbox (txid, created_at, leaf, shard, id, aggregatetype, aggregateid, type, payload)
	VALUES (pg_current_xact_id(), now(), 0, 3, '0195d1d6-0000-7000-8000-000000000001', 'test',
		E'b\r\nx-injected: 1\r\n\r\n\x01', 'test.event', '{}')});
$node->emit('wake');
$id = webhook_id('0195d1d6-0000-7000-8000-000000000001');
foreach my $format (@formats)
{
	my $request = $receiver->wait_for_id("/$format", $id);

	is($request->{invalid}, undef, "$format: control characters of a name do no harm");
	ok(!exists $request->{headers}{'x-injected'}, "$format: no header is injected");
	is( $request->{aggregateid},
		$format eq 'webhook'
		? "b\r\nx-injected: 1\r\n\r\n\x01"
		: 'b%0D%0Ax-injected: 1%0D%0A%0D%0A%01',
		"$format: they are escaped");
}
$id = $node->emit(literal("n \x{85} \x{fffe} \x{10ffff} \x{fdd0} \x{e000}"));
foreach my $format (@formats)
{
	my $request = $receiver->wait_for_id("/$format", $id);

	is($request->{invalid}, undef, "$format: neither do characters of C1 and none at all");
	is( $request->{aggregateid},
		$format eq 'webhook'
		? "n \x{85} \x{fffe} \x{10ffff} \x{fdd0} \x{e000}"
		: "n %C2%85 %EF%BF%BE %F4%8F%BF%BF %EF%B7%90 \x{e000}",
		"$format: they are escaped, too");
}

#
# The sequence of an order
#
$node->configure('order_engine.order_machine' => 'simple');
$node->safe_psql('postgres',
	q{SELECT order_engine.upsert_product('TEA', 'Green tea', 4.50, 'EUR', tracked => false)});
my $order = $node->value(
	q{SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 1}]', 'EUR', terms => 'invoice')});
$node->value("SELECT order_engine.transition('order', $order, '$_')") foreach qw(pay ship);
foreach my $format (@formats)
{
	my @events;

	poll_until(
		"events of the order at /$format",
		sub {
			@events = grep { ($_->{aggregatetype} // '') eq 'order' && $_->{aggregateid} eq $order }
			  $receiver->requests("/$format");
			return @events == 3;
		});
	is(join(' ', map { $_->{sequence} } @events), '1 2 3', "$format: sequence");
	is(scalar(grep { $_->{invalid} } @events), 0, "$format: valid");
	is(join(' ', map { $_->{attributes}{sequence} } @events),
		join(' ', map { sprintf('%019d', $_) } 1 .. 3),
		"$format: as text that sorts")
	  if $format ne 'webhook';
}

#
# An attempt that is repeated
#
$receiver->rules({ aggregateid => 'again', attempts => 1, status => 500 });
$id = $node->emit('again');
foreach my $format (@formats)
{
	my @attempts = @{ poll_until(
		"two attempts at /$format",
		sub {
			my @found = grep { $_->{id} eq $id } $receiver->requests("/$format");
			return @found == 2 ? \@found : undef;
		}) };

	is($attempts[0]{body}, $attempts[1]{body}, "$format: a second attempt has the same body");
	is($attempts[0]{headers}{'webhook-id'},
		$attempts[1]{headers}{'webhook-id'}, "$format: and the same webhook-id");
	is($attempts[1]{verified} ? 1 : 0, 1, "$format: signed anew");
}
$receiver->rules;

#
# The source
#
foreach my $case (
	[ 'https://shop.example/events?a=b%20c#d' => 'https://shop.example/events?a=b%20c#d' ],
	[ 'urn:shop one <2>' => 'urn:shop%20one%20%3C2%3E' ],
	[ '' => '/order_engine/postgres' ])
{
	my ($setting, $source) = @$case;

	$node->configure('order_engine.event_source' => $setting);
	foreach my $format (grep { /cloudevents/ } @formats)
	{
		# the worker takes the setting in at its next round
		my $request = poll_until(
			"source $source at /$format",
			sub {
				my $found = $receiver->wait_for_id("/$format", $node->emit('source'));
				return $found->{attributes}{source} eq $source ? $found : undef;
			});
		is($request->{invalid}, undef, "$format: source $source is valid");
	}
}

#
# A database in another encoding, with a name that is no part of a URI
#
$node->safe_psql('postgres',
	qq{CREATE DATABASE "$latin" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'});
$node->safe_psql($latin, 'CREATE EXTENSION order_engine');
$node->configure('order_engine.databases' => qq{postgres, "$latin"});
$node->wait_for_worker($latin);
foreach my $format (@formats)
{
	$node->create_endpoint($receiver, "latin_$format", format => $format, database => $latin);
}
$id = $node->emit(literal("grün \x{9f}"),
	payload => \q{'{"a": "\u00e9"}'}, database => $latin);
foreach my $format (@formats)
{
	my $request = $receiver->wait_for_id("/latin_$format", $id);

	check_valid($request, $format, "LATIN1, $format");
	is($request->{aggregateid},
		$format eq 'webhook' ? "grün \x{9f}" : 'grün %C2%9F',
		"LATIN1, $format: the aggregate in UTF-8");
	is(data_of($request)->{a}, 'é', "LATIN1, $format: the data in UTF-8");
	next if $format eq 'webhook';
	is($request->{attributes}{source}, '/order_engine/order%20db%25', "LATIN1, $format: source");
	is($request->{attributes}{subject}, 'test/grün %C2%9F', "LATIN1, $format: subject");
}

#
# Several events in one request
#
foreach my $format (qw(webhook cloudevents_batch))
{
	my $path = "/many_$format";
	my @ids;
	my (%requests, @sizes);

	$node->create_endpoint($receiver, "many_$format",
		format => $format, event_types => ['many.*'], max_batch => 10,
		retry_schedule => ['10 ms', '10 ms', '10 ms'], max_in_flight => 1);
	$node->call('pause_endpoint', { name => "many_$format" });
	@ids = map { $node->emit("many $_", type => 'many.event', payload => { n => $_ }) } 1 .. 25;
	$receiver->rules({ path => $path, times => 1, status => 500 });
	$node->call('resume_endpoint', { name => "many_$format" });
	$receiver->wait_for($path, accepted => 25);
	$receiver->rules;

	my @events = $receiver->requests($path);
	my $stats = $receiver->stats($path);

	is_deeply([ sort keys %{ { map { $_->{id} => 1 } @events } } ],
		[ sort @ids ], "$format: all events come");
	is($stats->{invalid}, 0, "$format: all requests are valid");
	is($stats->{unverified}, 0, "$format: and verified");
	is($stats->{repeated}, 0, "$format: nothing comes again that was taken");
	cmp_ok($stats->{requests}, '<', 25, "$format: in fewer requests than events");
	is(scalar(grep { ($_->{batch} // 1) > 10 } @events), 0, "$format: none has more than max_batch");
	is(scalar(grep { $_->{event_timestamp} ne timestamp_of($_->{id}) } @events[ 0 .. 2 ]),
		0, "$format: each event has its time");

	# the same events have the same webhook-id, others another
	foreach my $event (grep { defined $_->{request} && $_->{batch} > 1 } @events)
	{
		push @{ $requests{ $event->{request} }{ $event->{headers}{'webhook-timestamp'} . $event->{time} } },
		  $event->{id};
	}
	cmp_ok(scalar(keys %requests), '>=', 3, "$format: several batches");
	my %ids_of;
	foreach my $request (keys %requests)
	{
		my %lists = map { join(' ', @$_) => 1 } values %{ $requests{$request} };

		like($request, qr/^bat_[0-9a-f]{32}$/, "$format: webhook-id of a batch");
		is(scalar(keys %lists), 1, "$format: one webhook-id, the same events");
		$ids_of{ (keys %lists)[0] }++;
	}
	is(scalar(grep { $_ > 1 } values %ids_of), 0, "$format: other events, another webhook-id");

	# an event alone is not held up, and a webhook is then no batch
	$id = $node->emit('alone', type => 'many.event');
	my $alone = $receiver->wait_for_id($path, $id);
	is($alone->{invalid}, undef, "$format: one event is valid");
	is($alone->{batch}, $format eq 'webhook' ? undef : 1, "$format: one event, one event");
}
my ($batch) = grep { ($_->{batch} // 1) > 1 } $receiver->requests('/many_webhook');
my $body = json($batch->{body});
is_deeply([ sort keys %$body ], [qw(data timestamp type)], 'members of a batch of webhooks');
is($body->{type}, 'batch', 'its type');
is_deeply([ sort keys %{ $body->{data}[0] } ],
	[qw(data id timestamp type)], 'members of an event in it');

foreach my $path (sort map { ("/$_", "/latin_$_") } @formats)
{
	my $stats = $receiver->stats($path);

	is("$stats->{invalid} $stats->{unverified} $stats->{repeated}",
		'0 0 0', "$path: nothing else was wrong");
}
$node->stop;

done_testing();
