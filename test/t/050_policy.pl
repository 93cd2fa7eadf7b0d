
# What each answer of an endpoint leads to, and how much is sent to it at once.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use POSIX qw(strftime);
use Test::More;

my $true = JSON::PP::true;
my $node = OrderEngine->start_new('main', conf => q{
order_engine.attempt_log = 'all'
});
my $receiver = OrderEngine::Receiver->new;

# an endpoint that may fail as much as it likes without being left alone
my %patient = (policy => { breaker_min_attempts => 10000, breaker_failures => 10000 });

# The attempts of an event as "number outcome status, ...".
sub attempts
{
	my ($id) = @_;

	return $node->value(qq{
		SELECT string_agg(concat_ws(' ', attempt, outcome, status), ', ' ORDER BY attempted_at)
		FROM order_engine.delivery_attempt
		WHERE 'evt_' || replace(id::text, '-', '') = '$id'});
}

# waits until the log of attempts is as expected, and compares, for a good message
sub attempts_are
{
	my ($id, $expected, $what) = @_;

	eval { poll_until($what, sub { attempts($id) eq $expected }, 30) };
	is(attempts($id), $expected, $what);
	return;
}

#
# Retry-After: what is a pause and what is not
#
my $date = time() + 3;
my $http_date = strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime($date));
my %wait = (
	seconds429 => [ 429, '1', 1 ],
	zero429 => [ 429, '0', 1 ],
	date429 => [ 429, $http_date, undef ],
	garbage429 => [ 429, 'soon', 2 ],
	negative429 => [ 429, '-5', 2 ],
	absent429 => [ 429, undef, 2 ],
	seconds503 => [ 503, '1', 1 ],
	date503 => [ 503, $http_date, undef ],
	garbage503 => [ 503, 'soon', 0 ],
	absent503 => [ 503, undef, 0 ]);
my %first;
my %second;

$receiver->rules(
	map {
		my ($status, $retry_after) = @{ $wait{$_} };
		{ path => "/$_", aggregateid => 'first', attempts => 1, status => $status,
			defined $retry_after ? (retry_after => $retry_after) : () }
	} keys %wait);
foreach my $name (sort keys %wait)
{
	$node->create_endpoint($receiver, $name, event_types => ["$name.*"],
		retry_schedule => [ '0', '10 ms' ], policy => { pause => '2 s' });
	$first{$name} = $node->emit('first', type => "$name.event");
}
foreach my $name (sort keys %wait)
{
	next if defined $wait{$name}[2] && $wait{$name}[2] == 0;
	$receiver->wait_for("/$name", answered => 1);
	$second{$name} = $node->emit('second', type => "$name.event");
}
foreach my $name (sort keys %wait)
{
	my ($status, $retry_after, $seconds) = @{ $wait{$name} };
	my @requests;

	if (defined $seconds && $seconds == 0)
	{
		$receiver->wait_for("/$name", accepted => 1);
		attempts_are($first{$name}, "1 failed $status, 2 delivered 200",
			"$name is a failed attempt");
		next;
	}
	$receiver->wait_for("/$name", accepted => 2);
	attempts_are($first{$name}, "1 paused $status, 1 delivered 200",
		"$name uses up no attempt");
	@requests = $receiver->requests("/$name");

	# from when the answer was given, so these are bounds and no measurements
	my $until = defined $seconds ? $requests[0]{time} + $seconds : $date;
	diag(sprintf('%s: pause of %.3f s', $name, $requests[1]{time} - $requests[0]{time}));
	is(scalar(grep { $_->{time} < $until } @requests[ 1 .. $#requests ]),
		0, "$name: nothing is sent before the pause ends");
}

# a pause beyond reason, and an operator who knows better
$receiver->rules({ path => '/absent503', attempts => 1, status => 429, retry_after => '99999999' });
my $id = $node->emit('long', type => 'absent503.event');
$node->wait_for_status('absent503', 'state', 'paused_by_endpoint');
is($node->status_of('absent503', q{next_attempt_at - now() BETWEEN '23 h' AND '24 h'}),
	't', 'a pause is 24 hours at most, and endpoint_status tells of it');
$node->call('pause_endpoint', { name => 'absent503' });
$node->call('resume_endpoint', { name => 'absent503' });
$receiver->wait_for('/absent503', accepted => 2);
attempts_are($id, '1 paused 429, 1 delivered 200', 'resume_endpoint ends it');

#
# One event for which an endpoint always asks for a pause, while it takes others
#
$receiver->rules({ path => '/always', aggregateid => 'always', status => 429, retry_after => '1' });
$node->create_endpoint($receiver, 'always', event_types => ['always.*'],
	retry_schedule => [ '0', '10 ms' ]);
$id = $node->emit('always', type => 'always.event');
my $others = 0;
poll_until('the dead letter', sub {
	$node->emit('other ' . ++$others, type => 'always.event');
	return $node->value('SELECT count(*) FROM order_engine.dead_letter') eq '1';
});
attempts_are($id,
	'1 paused 429, 1 paused 429, 1 paused 429, 1 failed 429, 2 gave_up 429',
	'an event that always asks for a pause is given up');
$receiver->wait_for('/always', accepted => $others);
pass('all others are delivered');
$node->call('drop_endpoint', { name => 'always' });

#
# 410
#
$node->create_endpoint($receiver, 'ops', event_types => ['endpoint.*']);
$receiver->rules({ path => '/gone', times => 1, status => 410 });
$node->create_endpoint($receiver, 'gone', event_types => [ 'gone.*', 'endpoint.*', 'delivery.*' ]);
$receiver->control({ detail => $true });
$node->emit_many("'x'", 1, 1);    # for nobody
$id = $node->emit('gone', type => 'gone.event');
$node->wait_for_status('gone', 'status', 'disabled');
is($node->status_of('gone', 'status_reason'), 'the endpoint answered 410 Gone', 'with the reason');
$node->emit('gone', type => 'gone.event');
$receiver->wait_for('/ops', accepted => 1);
my ($news) = $receiver->requests('/ops');
is("$news->{type} $news->{aggregatetype} $news->{aggregateid}",
	'endpoint.disabled endpoint gone', 'others are told');
is_deeply(
	JSON::PP::decode_json($news->{body})->{data},
	{ aggregatetype => 'endpoint', aggregateid => 'gone', endpoint => 'gone',
		reason => 'the endpoint answered 410 Gone' },
	'what they are told');
$receiver->control({ detail => JSON::PP::false });
is($receiver->stats('/gone')->{requests}, 1, 'nothing more is sent to it');
is($node->value(q{SELECT order_engine.undelivered('gone')}), '2', 'its events are kept');
$node->call('resume_endpoint', { name => 'gone' });
my $stats = $receiver->wait_for('/gone', accepted => 2);
is($stats->{requests}, 3, 'after resume_endpoint they are sent');
is_deeply([ map { $_->{type} } $receiver->requests('/gone') ],
	[ ('gone.event') x 3 ], 'without the news about itself');
attempts_are($id, '1 failed 410, 1 delivered 200', '410 uses up no attempt');

#
# Everything else that is no 2xx
#
my @statuses = (300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409, 418, 422, 451, 499,
	500, 501, 502, 503, 504, 599);
$receiver->rules(
	map { { path => '/status', aggregateid => "s$_", status => $_,
			$_ < 400 ? (action => 'redirect', location => $receiver->url('/elsewhere')) : () } }
	  @statuses);
$node->create_endpoint($receiver, 'status', event_types => ['status.*'],
	retry_schedule => [ '0', '10 ms' ], %patient);
my %ids = map { $_ => $node->emit("s$_", type => 'status.event') } @statuses;
$node->wait_for_value(
	q{SELECT count(*) FROM order_engine.dead_letter WHERE endpoint = 'status'}, scalar @statuses);
is( $node->value(q{SELECT string_agg(last_error || ' ' || attempts, ', ' ORDER BY last_error)
		FROM order_engine.dead_letter WHERE endpoint = 'status'}),
	join(', ', map { "HTTP status $_ 2" } @statuses),
	'every other status is tried again and given up in the end');
is($receiver->stats('/elsewhere')->{requests}, 0, 'redirects are not followed');
foreach my $status (200, 201, 202, 204, 226, 299)
{
	$receiver->rules({ path => '/status', status => $status });
	$id = $node->emit('good', type => 'status.event');
	attempts_are($id, "1 delivered $status", "$status is a success");
}

#
# What cannot get better
#
$node->create_endpoint($receiver, 'permanent', event_types => ['permanent.*']);
my $url = $node->value(q{SELECT url FROM order_engine.endpoint WHERE name = 'permanent'});
foreach my $case (
	[ q{url = 'ftp://127.0.0.1/'}, qr/url|protocol|https/i ],
	[ q{url = 'http://10.0.0.1/'}, qr/order_engine\.allow_cidrs/ ],
	[ q{headers = '{"bad name": "x"}'}, qr/header/i ],
	[ q{headers = '{"x-a": "1\r\nx-b: 2"}'}, qr/header/i ])
{
	my ($change, $error) = @$case;

	# what no function lets pass: somebody edited the table
	$node->safe_psql('postgres', qq{
		UPDATE order_engine.endpoint SET url = '$url', headers = NULL WHERE name = 'permanent';
		UPDATE order_engine.endpoint SET $change WHERE name = 'permanent'});
	$id = $node->emit('permanent', type => 'permanent.event');
	attempts_are($id, '1 gave_up', "$change: given up at once");
	like($node->last_error('permanent'), $error, 'with an error that tells why');
	$node->call('discard_dead_letters', { name => 'permanent' });
}
is($receiver->stats('/permanent')->{requests}, 0, 'nothing was sent');

#
# Best effort
#
$receiver->rules({ path => '/notes', attempts => 1, status => 500, delay_ms => 100 });
$node->create_endpoint($receiver, 'notes', event_types => ['test.*'], guarantee => 'best_effort',
	max_in_flight => 8, %patient);
$node->emit_many("'one'", 1, 40);
$stats = $receiver->wait_for('/notes', answered => 40);
is($stats->{unique}, 40, 'best effort: every event is sent');
is($stats->{requests}, 40, 'once');
is($stats->{max_in_flight}, 8, 'without an order');
$node->wait_for_status('notes', 'lag_events', '0');
is($node->status_of('notes', 'retrying, parked, dead'), '0|0|0', 'and what fails is forgotten');
$receiver->rules;
$node->emit_many("'one'", 41, 42);
$receiver->wait_for('/notes', accepted => 2);
$node->call('drop_endpoint', { name => 'notes' });

#
# An endpoint that takes nothing for too long
#
$receiver->rules({ path => '/lost', status => 500 });
$node->create_endpoint($receiver, 'lost', event_types => ['test.*'], retry_schedule => [ '0', ('20 ms') x 5 ],
	policy => {
		breaker_open => '20 ms', breaker_open_max => '40 ms', breaker_min_attempts => 2,
		disable_after => '1 s', disable_attempts => 12, disable_spread => '500 ms' });
$node->emit_many("'lost'", 1, 3);
$node->wait_for_status('lost', 'status', 'disabled');
is($node->status_of('lost', 'status_reason'), 'it took no event for too long', 'is disabled');
$stats = $receiver->stats('/lost');
cmp_ok($stats->{requests}, '>=', 12, 'after so many attempts');
cmp_ok($stats->{last} - $stats->{first}, '>=', 0.9, 'over so long a time');
is($node->value(q{SELECT order_engine.undelivered('lost')}), '3', 'and keeps its events');
$receiver->rules;
$node->call('resume_endpoint', { name => 'lost' });
$stats = $receiver->wait_for('/lost', accepted => 3);
is($stats->{out_of_order}, 0, 'which come when it is resumed');
$node->wait_for_status('lost', 'breaker', 'closed');
$node->call('drop_endpoint', { name => 'lost' });

#
# In flight
#
$receiver->rules({ path => '/flight', delay_ms => 50 });
$node->create_endpoint($receiver, 'flight', event_types => ['test.*'], max_in_flight => 4);
$node->emit_many("'f' || i", 1, 40);
$stats = $receiver->wait_for('/flight', accepted => 40);
is($stats->{max_in_flight}, 4, 'max_in_flight is reached and never exceeded');
$node->call('alter_endpoint', { name => 'flight', max_in_flight => 7 });
$node->emit_many("'f' || i", 1, 40);
$stats = $receiver->wait_for('/flight', accepted => 80);
is($stats->{max_in_flight}, 7, 'also after it was altered');
is($stats->{overlaps}, 0, 'one at a time for an aggregate');
$node->call('alter_endpoint', { name => 'flight', ordering => 'none' });
$node->emit_many("'f'", 41, 80);
$stats = $receiver->wait_for('/flight', accepted => 120);
cmp_ok($stats->{overlaps}, '>', 0, 'unless ordering is none');
is($stats->{max_in_flight}, 7, 'max_in_flight holds then as well');

$receiver->rules(map { { path => "/all$_", action => 'hang' } } 1 .. 3);
$node->configure('order_engine.max_in_flight' => 8);
$node->call('drop_endpoint', { name => 'flight' });
$node->create_endpoint($receiver, "all$_", event_types => ['test.*'], max_in_flight => 8) foreach 1 .. 3;
$node->emit_many("'all' || i", 1, 20);
$receiver->wait_for("/all$_", requests => 1) foreach 1 .. 3;
$node->wait_for_value('SELECT in_flight >= 7 FROM order_engine.stat_worker', 't');
my @in_flight = map { $receiver->stats("/all$_")->{in_flight} } 1 .. 3;
diag("8 in flight in all, of three endpoints: @in_flight");
cmp_ok($in_flight[0] + $in_flight[1] + $in_flight[2], '<=', 8, 'order_engine.max_in_flight holds over all');
$receiver->control({ release => $true, rules => [] });
$receiver->wait_for("/all$_", accepted => 20) foreach 1 .. 3;
cmp_ok($receiver->stats("/all$_")->{max_in_flight}, '<', 8, "endpoint $_ left some to the others") foreach 1 .. 3;
$node->call('drop_endpoint', { name => "all$_" }) foreach 1 .. 3;
$node->safe_psql('postgres', 'ALTER SYSTEM RESET order_engine.max_in_flight');
$node->reload;

#
# Rate
#
my ($rate, $burst, $count) = (50, 10, 210);
$node->create_endpoint($receiver, 'rated', event_types => ['test.*'], rate => $rate, burst => $burst);
$node->emit_many("'r' || i", 1, $count);
$stats = $receiver->wait_for('/rated', accepted => $count);
my @times = sort { $a <=> $b } map { $_->{time} } $receiver->requests('/rated');
my $too_many = 0;
foreach my $i (1 .. $#times)
{
	# what may have come since the first; the first came a little after it was let go
	my $may = $burst + $rate * 1.05 * ($times[$i] - $times[0]) + 5;
	$too_many++ if $i + 1 > $may;
}
is($too_many, 0, 'never more than burst and rate allow');
diag(sprintf('rate of %d/s, burst of %d: %.2f/s after the burst, %d at once at first',
	$rate, $burst, ($count - $burst) / ($times[-1] - $times[ $burst - 1 ]),
	scalar(grep { $_ < $times[0] + 0.018 } @times)));
is($node->status_of('rated', 'retrying, failures'), '0|0', 'waiting for the rate uses up no attempt');

$node->stop;
done_testing();
