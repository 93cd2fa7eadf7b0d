
# What operators do at a bad moment: transactions that stay open, settings that
# change while events wait, restarts in between.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use Test::More;

my $node = OrderEngine->start_new('main', conf => q{
	order_engine.poll_interval = '100 ms'
});
my $receiver = OrderEngine::Receiver->new;
my @brief = ('0', '20 ms', '20 ms');
my $sent = 0;

sub dead_letters
{
	my ($name, $expected) = @_;

	$node->wait_for_value(
		"SELECT count(*) FROM order_engine.dead_letter WHERE endpoint = '$name'", $expected);
	return;
}

# The other endpoint gets new events, and they are acknowledged.
sub others_go_on
{
	my ($what) = @_;

	$node->emit_many("'other ' || i", 1, 20);
	$sent += 20;
	$receiver->wait_for('/other', accepted => $sent);
	$node->wait_for_value(
		q{SELECT lag IS NULL FROM order_engine.endpoint_status WHERE name = 'other'}, 't');
	is($node->value(q{SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'order_engine worker' AND wait_event_type = 'Lock'}),
		'0', "no worker waits while $what");
	return;
}

#
# Open transactions of operators
#
$node->create_endpoint($receiver, 'other', event_types => ['test.event']);
$node->create_endpoint($receiver, 'sick', event_types => [ 'test.p*', 'more.*' ],
	policy => { breaker_min_attempts => 10000 },
	retry_schedule => \@brief);
$receiver->rules({ path => '/sick', type => 'test.poison', status => 500 });
$node->emit("p$_", type => 'test.poison') foreach 1 .. 3;
$node->emit("g$_", type => 'more.good') foreach 1 .. 3;
dead_letters('sick', 3);

my $operator = $node->session;
foreach my $statement (
	q{SELECT order_engine.discard_dead_letters('sick')},
	q{SELECT order_engine.drop_endpoint('sick')},
	q{SELECT count(*) FROM (SELECT FROM order_engine.replay FOR UPDATE) AS r},
	q{SELECT order_engine.alter_endpoint('sick', timeout => '9 s')})
{
	my ($what) = $statement =~ /(\w+)\('sick/;
	my $before = $receiver->stats('/sick')->{accepted};

	$what //= 'a replay is locked';
	$receiver->rules({ path => '/sick', type => 'test.poison', status => 500 });
	$node->call('pause_endpoint', { name => 'sick' });
	$node->call('redrive', { name => 'sick' });
	$operator->query('BEGIN');
	if ($what eq 'a replay is locked')
	{
		$operator->query($statement);
		$node->call('resume_endpoint', { name => 'sick' });
	}
	else
	{
		$node->call('resume_endpoint', { name => 'sick' });
		$operator->query($statement);
	}

	# the letters fail again, or are delivered
	my $requests = $receiver->stats('/sick')->{requests};
	$receiver->rules if $what =~ /discard|locked/;
	$node->emit('fresh', type => 'more.good');
	$receiver->wait_for('/sick', requests => $requests + 1);
	others_go_on("an operator's transaction is open: $what");
	$operator->query('ROLLBACK');
	$receiver->rules;
	poll_until('what was put off', sub {
		$node->call('redrive', { name => 'sick' });
		return $node->value(q{SELECT (SELECT count(*) FROM order_engine.delivery_dead)
			+ (SELECT count(*) FROM order_engine.delivery_retry)
			+ (SELECT count(*) FROM order_engine.replay)}) eq '0';
	});
	pass("$what: what was put off is done in the end");

	$receiver->rules({ path => '/sick', type => 'test.poison', status => 500 });
	$node->emit("p$_", type => 'test.poison') foreach 1 .. 3;
	$node->emit("g$_", type => 'more.good') foreach 1 .. 3;
	dead_letters('sick', 3);
}

# an endpoint that is to be disabled while an operator alters it
$operator->query('BEGIN');
$operator->query(q{SELECT order_engine.alter_endpoint('sick', timeout => '8 s')});
$receiver->rules({ path => '/sick', status => 410 });
my $requests = $receiver->stats('/sick')->{requests};
$node->emit('gone', type => 'more.good');
$receiver->wait_for('/sick', requests => $requests + 1);
others_go_on('an endpoint cannot be disabled');
is($node->value(q{SELECT status FROM order_engine.endpoint WHERE name = 'sick'}), 'active',
	'it is not disabled as long as it is locked');
$operator->query('COMMIT');
$node->wait_for_value(q{SELECT status FROM order_engine.endpoint WHERE name = 'sick'}, 'disabled');
pass('but then');
$node->call('drop_endpoint', { name => 'sick' });
$operator->quit;

#
# A dead letter blocks as long as the endpoint wants that
#
$node->create_endpoint($receiver, 'block', after_dead => 'block', retry_schedule => \@brief,
	event_types => ['test.*']);
$receiver->rules({ path => '/block', type => 'test.poison', status => 500 });
$node->emit('b', type => 'test.poison');
$node->emit('b', type => 'test.next');
$node->emit('c', type => 'test.next');
dead_letters('block', 1);
$receiver->wait_for('/block', accepted => 1);
$node->restart;
$node->emit('d', type => 'test.next');
$receiver->wait_for('/block', accepted => 2);
$node->call('alter_endpoint', { name => 'block', after_dead => 'continue' });
$receiver->wait_for('/block', accepted => 3);
pass('what waited goes on when dead letters do not block any more');
$node->call('drop_endpoint', { name => 'block' });

#
# The order is altered while new events overtake a backlog
#
$receiver->rules({ path => '/turn', delay_ms => 3 });
$node->safe_psql('postgres', q{
	CREATE FUNCTION emit_bulk(name text, n int) RETURNS void LANGUAGE sql AS $$
		SELECT order_engine.emit('test', name || i % 200, 'bulk.event', '{}') FROM generate_series(1, n) i $$});
foreach my $ordering ('none', 'aggregate')
{
	my $other = $ordering eq 'none' ? 'aggregate' : 'none';
	my $path = "turn_$ordering";

	$receiver->rules({ path => "/$path", delay_ms => 2 });
	$node->create_endpoint($receiver, $path, event_types => ['bulk.*'], ordering => $other);
	$node->safe_psql('postgres', q{SELECT emit_bulk('first', 5000)});
	$node->wait_for_value(qq{
		SELECT count(*) > 0 FROM (TABLE order_engine.position_0 UNION ALL TABLE order_engine.position_1) p
		JOIN order_engine.endpoint e USING (endpoint_id) WHERE e.name = '$path' AND p.split IS NOT NULL}, 't');
	$node->safe_psql('postgres', q{SELECT emit_bulk('second', 500)}) foreach 1 .. 4;
	wait_until_read($path);
	$node->call('alter_endpoint', { name => $path, ordering => $ordering });
	$node->safe_psql('postgres', q{SELECT emit_bulk('third', 500)});
	$node->kill_worker;
	$node->wait_until_up;
	$node->safe_psql('postgres', q{SELECT emit_bulk('fourth', 500)});
	$receiver->rules;
	my $stats = $receiver->wait_for("/$path", accepted => 8000);
	is($stats->{unique}, 8000, "nothing is lost when the order becomes $ordering during a backlog");
	cmp_ok($stats->{repeated}, '<=', 1000 + 16, 'and little is repeated');
	$node->call('drop_endpoint', { name => $path });
}

# The express lane has looked at what came last.
sub wait_until_read
{
	my ($path) = @_;
	my $now = $node->value('SELECT pg_snapshot_xmax(pg_current_snapshot())');

	$node->wait_for_value(qq{
		SELECT count(*) > 0 FROM (TABLE order_engine.position_0 UNION ALL TABLE order_engine.position_1) p
		JOIN order_engine.endpoint e USING (endpoint_id)
		WHERE e.name = '$path' AND pg_snapshot_xmax(coalesce(p.upto, p.seen)) >= '$now'}, 't');
	return;
}

#
# An event is given up while somebody has locked its retry
#
$receiver->rules({ path => '/locked', type => 'test.poison', status => 500 });
$node->create_endpoint($receiver, 'locked', event_types => [ 'test.poison', 'more.*' ],
	policy => { breaker_min_attempts => 10000 }, retry_schedule => [ '0', '2 s' ]);
$node->emit('bad', type => 'test.poison');
$receiver->wait_for('/locked', requests => 1);
$node->emit('good', type => 'more.good');
my $retry = q{FROM order_engine.delivery_retry JOIN order_engine.endpoint e USING (endpoint_id) WHERE e.name = 'locked'};
$node->wait_for_value("SELECT count(*) $retry", '1');
my $holder = $node->session;
$holder->query('BEGIN');
$holder->query("SELECT 1 $retry FOR UPDATE OF delivery_retry");
dead_letters('locked', 1);
is($node->value("SELECT count(*) $retry"), '1', 'the retry is locked while its event is given up');
$node->emit('better', type => 'more.good');
$receiver->wait_for('/locked', accepted => 2);
$node->wait_for_value(q{SELECT lag IS NULL FROM order_engine.endpoint_status WHERE name = 'locked'}, 't');
$holder->query('ROLLBACK');
$holder->quit;
$node->wait_for_value("SELECT count(*) $retry", '0');
is($node->value(q{SELECT count(*) FROM order_engine.dead_letter WHERE endpoint = 'locked'}),
	'1', 'the retry goes as soon as it can be, the dead letter stays');

$node->stop;
done_testing();
