
# What becomes of events that were given up, and how events are sent once more.

use strict;
use warnings FATAL => 'all';

use JSON::PP qw(decode_json);
use OrderEngine qw(emit_sql poll_until webhook_id);
use OrderEngine::Receiver;
use Test::More;

my $true = JSON::PP::true;
my $node = OrderEngine->start_new('main', conf => q{
order_engine.attempt_log = 'all'
});
my $receiver = OrderEngine::Receiver->new;
my @short = ('0', '20 ms');
my %patient = (retry_schedule => \@short, policy => { breaker_min_attempts => 10000, breaker_failures => 10000 });

sub sequences
{
	my ($path, $aggregateid) = @_;

	return join(' ',
		map { $_->{sequence} }
		grep { $_->{attempt} == 1 && $_->{aggregateid} eq $aggregateid }
		  $receiver->requests($path));
}

# ids as an array of uuid
sub uuids
{
	return [ map { s/^evt_//r } @_ ];
}

#
# A dead letter, and who is told of it
#
$receiver->control({ detail => $true });
$node->create_endpoint($receiver, 'ops', event_types => [ 'delivery.*', 'endpoint.*' ], %patient);
$node->create_endpoint($receiver, 'shop', event_types => [ 'shop.*', 'delivery.*' ], %patient);
$receiver->rules({ path => '/shop', aggregateid => 'a', status => 500 });
my $first = $node->emit('a', type => 'shop.event', payload => { sequence => 1, note => 'keep me' },
	headers => { custom => 'this too' });
my $second = $node->emit('a', type => 'shop.event', payload => { sequence => 2 });
$node->wait_for_status('shop', 'dead', '2');
is( $node->value(q{SELECT 'evt_' || replace(id::text, '-', ''), attempts, type, payload->>'note', headers->>'custom', last_error
		FROM order_engine.dead_letter ORDER BY created_at LIMIT 1}),
	"$first|2|shop.event|keep me|this too|HTTP status 500", 'a dead letter has the data of its event');
$receiver->wait_for('/ops', accepted => 2);
my ($news) = grep { $_->{body} =~ /$first/ } $receiver->requests('/ops');
is("$news->{type} $news->{aggregatetype} $news->{aggregateid}",
	'delivery.exhausted endpoint shop', 'others are told');
is_deeply(
	decode_json($news->{body})->{data},
	{ aggregatetype => 'endpoint', aggregateid => 'shop', endpoint => 'shop', attempts => 2,
		event_id => $first, event_type => 'shop.event', event_aggregatetype => 'test',
		event_aggregateid => 'a', last_error => 'HTTP status 500' },
	'with what they need to know, but not the data');
is(scalar(grep { $_->{type} ne 'shop.event' } $receiver->requests('/shop')), 0, 'the endpoint itself is not');
$receiver->control({ detail => JSON::PP::false });

# news that cannot be delivered make no news
$receiver->rules(
	{ path => '/shop', aggregateid => 'a', status => 500 },
	{ path => '/ops', status => 500 });
$node->emit('a', type => 'shop.event', payload => { sequence => 3 });
$node->wait_for_value(q{SELECT count(*) FROM order_engine.dead_letter WHERE endpoint = 'ops'}, '1');
$receiver->rules({ path => '/shop', aggregateid => 'a', status => 500 });
my $marker = $node->emit('x', type => 'delivery.marker');
$receiver->wait_for_id('/ops', $marker);
is($node->value(q{SELECT count(*) FROM order_engine.outbox WHERE type = 'delivery.exhausted' AND aggregateid = 'ops'}),
	'0', 'news that are given up make no news');

#
# Redrive
#
is($node->call('redrive', { name => 'shop', ids => uuids($second) }), '1', 'redrive of one');
$node->wait_for_value(q{SELECT string_agg(attempts::text, ' ' ORDER BY created_at) FROM order_engine.dead_letter
	WHERE endpoint = 'shop' AND NOT EXISTS (SELECT FROM order_engine.replay)}, '2 2 2');
$receiver->wait_for('/shop', requests => 2 * 3 + 2 + 1);
$node->wait_for_value(q{SELECT count(*) FROM order_engine.replay}, '0');
$node->wait_for_value(q{SELECT string_agg(attempts::text, ' ' ORDER BY created_at) FROM order_engine.dead_letter
	WHERE endpoint = 'shop'}, '2 2 2');
pass('one that fails again is a dead letter again');
is(scalar(grep { $_ eq $second } $receiver->ids('/shop')), 4, 'after as many attempts');
$receiver->rules;
is($node->call('redrive', { name => 'shop', ids => uuids($second) }), '1', 'redrive of one, once more');
$node->wait_for_status('shop', 'dead', '2');
$receiver->wait_for('/shop', accepted => 2);
is((grep { $_->{status} == 200 && $_->{aggregateid} eq 'a' } $receiver->requests('/shop'))[0]{id},
	$second, 'it is delivered under its own id, and no dead letter any more');

# the log does not have it any more
$node->call('pause_endpoint', { name => 'ops' });
$node->safe_psql('postgres', 'TRUNCATE order_engine.outbox');
$receiver->rules({ path => '/shop', aggregateid => 'a', status => 500, attempts => 3 });
is($node->call('redrive', { name => 'shop' }), '2', 'redrive of all, of which the outbox has none');
$node->wait_for_status('shop', 'dead', '0');
is(scalar(grep { $_->{status} == 200 && $_->{id} eq $first } $receiver->requests('/shop')),
	1, 'is delivered from the dead letter, also at the second attempt');
$node->wait_for_value('SELECT count(*) FROM order_engine.replay', '0');

# and fails for good although the outbox does not have it
$receiver->rules({ path => '/shop', aggregateid => 'a', status => 500 });
$node->emit('a', type => 'shop.event', payload => { sequence => 4 });
$node->wait_for_status('shop', 'dead', '1');
$node->safe_psql('postgres', 'TRUNCATE order_engine.outbox');
my $died = $node->value(q{SELECT died_at FROM order_engine.dead_letter WHERE endpoint = 'shop'});
$node->call('redrive', { name => 'shop' });
$node->wait_for_value(qq{SELECT count(*) FROM order_engine.dead_letter WHERE endpoint = 'shop' AND died_at > '$died' AND payload->>'sequence' = '4'}, '1');
pass('one that fails again stays a dead letter with its data');
is($node->call('discard_dead_letters', { name => 'shop' }), '1', 'discard_dead_letters');
$receiver->rules;
$node->call('drop_endpoint', { name => $_ }) foreach qw(ops shop);

#
# after_dead
#
$receiver->rules({ path => '/block', aggregateid => 'b', status => 500 });
$node->create_endpoint($receiver, 'block', event_types => ['test.*'], after_dead => 'block', %patient);
$node->emit_many("'b'", 1, 4);
$node->emit_many("'c'", 1, 2);
$node->wait_for_status('block', 'dead', '1');
$receiver->wait_for('/block', accepted => 2);
is(sequences('/block', 'b'), '1', 'block: what follows a dead letter waits');
is(sequences('/block', 'c'), '1 2', 'other aggregates go on');
my $pid = $node->wait_for_worker;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$node->wait_for_worker(undef, $pid);
$node->emit_many("'c'", 3, 3);
$receiver->wait_for('/block', accepted => 3);
is(sequences('/block', 'b'), '1', 'also after a restart');
$node->call('redrive', { name => 'block' });
$node->wait_for_value('SELECT count(*) FROM order_engine.replay', '0');
$receiver->wait_for('/block', requests => 3 + 2 + 2);
is(sequences('/block', 'b'), '1', 'also after a redrive that failed');
$receiver->rules;
$node->call('redrive', { name => 'block' });
my $stats = $receiver->wait_for('/block', accepted => 7);
is(sequences('/block', 'b'), '1 2 3 4', 'one that is delivered lets the others go');
$node->wait_for_status('block', 'dead', '0');

$receiver->rules({ path => '/block', aggregateid => 'd', times => 2, status => 500 });
$node->emit_many("'d'", 1, 3);
$node->wait_for_status('block', 'dead', '1');
$node->call('discard_dead_letters', { name => 'block' });
$receiver->wait_for('/block', accepted => 9);
is(sequences('/block', 'd'), '1 2 3', 'so does discard_dead_letters');

$receiver->rules({ path => '/block', aggregateid => 'e', times => 2, status => 500 });
$node->emit_many("'e'", 1, 3);
$node->wait_for_status('block', 'dead', '1');
$node->call('alter_endpoint', { name => 'block', after_dead => 'continue' });
$receiver->wait_for('/block', accepted => 11);
is(sequences('/block', 'e'), '1 2 3', 'so does after_dead continue');
is($node->status_of('block', 'dead'), '1', 'with which the dead letter stays');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_retry', '0');
$receiver->rules;
$node->call('drop_endpoint', { name => 'block' });

#
# Replay
#
$node->safe_psql('postgres', 'TRUNCATE order_engine.outbox');
$node->emit_many("'before'", 1, 3);
$node->create_endpoint($receiver, 'again', event_types => ['test.*'], %patient);
$receiver->rules({ path => '/again', aggregateid => 'bad', status => 500 });
$node->emit_many("'r' || i % 5", 1, 20);
my $bad = $node->emit('bad');
$receiver->wait_for('/again', accepted => 20);
$node->wait_for_status('again', 'dead', '1');
$receiver->rules;
my @ids = ($receiver->ids('/again'))[ 0 .. 2 ];
is($node->call('replay', { name => 'again', ids => uuids(@ids) }), '3', 'replay by ids');
$stats = $receiver->wait_for('/again', repeated => 3);
$node->wait_for_value('SELECT count(*) FROM order_engine.replay', '0');
is_deeply(
	[ sort map { $_->{id} } grep { $_->{attempt} > 1 && $_->{status} == 200 } $receiver->requests('/again') ],
	[ sort @ids ], 'those are sent once more, under their ids');
is($node->call('replay', { name => 'again', since => '-infinity', until => 'infinity', only_undelivered => 1 }),
	'4', 'replay of what it never got');
$stats = $receiver->wait_for('/again', accepted => 24);
is($stats->{repeated}, 3, 'is that and nothing else');
$node->wait_for_status('again', 'dead', '0');
is(scalar(grep { $_->{id} eq $bad && $_->{status} == 200 } $receiver->requests('/again')), 1, 'dead letters are among it');
is($node->call('replay', { name => 'again', since => '-infinity', until => 'infinity' }), '24', 'replay of a range');
$stats = $receiver->wait_for('/again', repeated => 3 + 24);
is($stats->{overlaps}, 0, 'one in flight for an aggregate');
$node->wait_for_value('SELECT count(*) FROM order_engine.replay', '0');
$node->create_endpoint($receiver, 'all', start_at => 'earliest', event_types => ['test.*'],
	secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
$stats = $receiver->wait_for('/all', accepted => 24);
is($stats->{requests}, 24, 'start_at earliest: each once');

# an endpoint that is paused gets its replay when it is resumed
$node->call('pause_endpoint', { name => 'all' });
$node->call('replay', { name => 'all', ids => uuids($bad) });
my $test = webhook_id($node->call('send_test_event', { name => 'all' }));
$node->emit('after');
$receiver->wait_for('/again', accepted => 25);
is($receiver->stats('/all')->{requests}, 24, 'a paused endpoint gets neither replay nor test event');
$node->call('resume_endpoint', { name => 'all' });
$stats = $receiver->wait_for('/all', requests => 27);
is(scalar(grep { $_ eq $test } $receiver->ids('/all')), 1, 'but when it is resumed');
is(scalar(grep { $_ eq $test } $receiver->ids('/again')), 0, 'the test event comes to nobody else');
is($stats->{unverified}, 0, 'all are signed');
$node->call('drop_endpoint', { name => 'all' });

#
# A replay beside live traffic, and a worker that is killed in its midst
#
my $count = $ENV{OE_LONG} ? 20000 : 3000;
$node->emit_many("'k' || i % 50", 1, $count);
$receiver->wait_for('/again', accepted => 25 + $count);
$node->create_endpoint($receiver, 'killed', event_types => ['test.*'], max_in_flight => 16, %patient);
is($node->value(q{SELECT order_engine.replay('killed', '-infinity', 'infinity')}), 25 + $count, 'a long replay');
my $writer = $node->session;
$writer->send(emit_sql("'k' || i % 50", $count + 1, $count + 500));
$receiver->wait_for('/killed', accepted => 500);
my $killed = $node->kill_worker;
eval { $writer->receive };
$node->wait_until_up;
$node->wait_for_worker(undef, $killed);
$node->emit_many("'k' || i % 50", $count + 501, $count + 600);
$node->wait_for_value('SELECT count(*) FROM order_engine.replay', '0');
my %got = map { $_ => 1 } $receiver->ids('/killed');
my @wanted = $node->emitted(q{type LIKE 'test.%'});
poll_until('all events', sub { %got = map { $_ => 1 } $receiver->ids('/killed'); return keys %got >= @wanted });
is(scalar(grep { !$got{$_} } @wanted), 0, 'nothing is lost');
$stats = $receiver->stats('/killed');
diag(sprintf('%d events, %d sent twice after the worker was killed', scalar @wanted, $stats->{duplicates}));
cmp_ok($stats->{duplicates}, '<=', 16 + 1000, 'duplicates are bounded');
is($stats->{overlaps}, 0, 'one in flight for an aggregate');
$node->call('drop_endpoint', { name => $_ }) foreach qw(killed again);

#
# A secret that is replaced
#
my $old = $node->create_endpoint($receiver, 'rotating', event_types => ['rotating.*']);
my $new = $node->call('rotate_secret', { name => 'rotating', overlap => '2 seconds' });
$receiver->control({ secrets => { '/knows_old' => $old, '/knows_new' => $new } });
my %verified;
foreach my $round ('during', 'after')
{
	if ($round eq 'after')
	{
		$node->wait_for_value(q{SELECT count(*) FROM order_engine.endpoint_secret WHERE expires_at > clock_timestamp()}, '0');
	}
	foreach my $path ('/knows_old', '/knows_new')
	{
		$node->call('alter_endpoint', { name => 'rotating', url => $receiver->url($path) });
		my $id = $node->emit('r', type => 'rotating.event');
		$verified{"$round $path"} = $receiver->wait_for_id($path, $id)->{verified} ? 1 : 0;
	}
}
is_deeply(\%verified,
	{ 'during /knows_old' => 1, 'during /knows_new' => 1, 'after /knows_old' => 0, 'after /knows_new' => 1 },
	'both secrets sign until the overlap is over, then only the new one');
$node->stop;

done_testing();
