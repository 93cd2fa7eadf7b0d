
# The ring of the outbox: turned and truncated under load, with everything in the
# way that can be.  Nothing is lost, and no writer waits.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until webhook_id);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $writers = 3;
my $node = OrderEngine->start_new(
	'main',
	conf => q{
		order_engine.retention = '6s'
		order_engine.max_retention = '1h'
		order_engine.poll_interval = '200ms'
		wal_init_zero = off		# else a new segment holds all writers up for 100 ms
	});
my $receiver = OrderEngine::Receiver->new;

# Emits until there is a row in "stop"; remembers each event, and how long the
# transactions took, from the call of emit() to the end of COMMIT.
my $load = q{
	DO $$
	DECLARE
		i int := 0;
		began timestamptz;
		took interval;
		worst interval := '0';
	BEGIN
		WHILE NOT EXISTS (SELECT FROM stop) LOOP
			i := i + 1;
			began := clock_timestamp();
			INSERT INTO emitted SELECT order_engine.emit('test', '%d ' || i %% 20, 'test.load', '{}'), pg_backend_pid();
			COMMIT;
			took := clock_timestamp() - began;
			worst := greatest(worst, took);
			IF took > interval '2 ms' THEN
				INSERT INTO slow VALUES (began, took);
			END IF;
			PERFORM pg_sleep(0.004);
		END LOOP;
		INSERT INTO stall VALUES (extract(epoch FROM worst) * 1000, i);
	END $$};

# Waits for so many further turns of the ring.
sub wait_for_turns
{
	my ($turns) = @_;
	my $last = $node->value('SELECT switched_at FROM order_engine.outbox_ring');

	poll_until(
		"$turns turns of the ring",
		sub {
			my $now = $node->value('SELECT switched_at FROM order_engine.outbox_ring');

			$turns-- if $now ne $last;
			$last = $now;
			return $turns <= 0;
		});
	return;
}

sub current_leaf
{
	return $node->value('SELECT current_leaf FROM order_engine.outbox_ring');
}

sub wait_for_holder
{
	my ($leaf, $state, $holder) = @_;

	$node->wait_for_value(
		"SELECT state || ': ' || held_by FROM order_engine.outbox_ring_status WHERE leaf = $leaf",
		"$state: $holder");
	pass("leaf is $state, held by $holder");
	return;
}

sub wait_for_standstill
{
	$node->wait_for_value(
		q{SELECT held_by IS NOT NULL FROM order_engine.outbox_ring_status WHERE state = 'current'}, 't');
	pass('the ring stands still and says so');
	return;
}

sub missing_at
{
	my ($path, $condition) = @_;
	my %received = map { $_ => 1 } $receiver->ids($path);

	return grep { !$received{$_} } map { webhook_id($_) }
	  split(/\n/, $node->value("SELECT id FROM emitted WHERE $condition"));
}

# ---------- under load, with a reader and a prepared transaction in the way

$node->safe_psql('postgres', q{
	CREATE TABLE emitted (id uuid, pid int, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE stop (x int);
	CREATE TABLE stall (ms float, events int);
	CREATE TABLE slow (began timestamptz, took interval);
	-- when the ring was turned, and leaves were closed and truncated
	CREATE TABLE step (what text, at timestamptz);
	CREATE FUNCTION note_step() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.step VALUES (tg_table_name || ' ' || tg_op, clock_timestamp());
		RETURN NULL;
	END $$;
	CREATE TRIGGER note_step AFTER UPDATE ON order_engine.outbox_ring FOR EACH ROW EXECUTE FUNCTION note_step();
	CREATE TRIGGER note_step AFTER INSERT OR DELETE ON order_engine.outbox_leaf FOR EACH ROW EXECUTE FUNCTION note_step()});
$node->create_endpoint($receiver, 'shop');
$node->create_endpoint($receiver, 'slow', event_types => ['test.*']);

my @load = map { $node->session } 1 .. $writers;
$load[ $_ - 1 ]->send(sprintf($load, $_)) foreach 1 .. $writers;
wait_for_turns(1);

my $reader = $node->session;
my $read_leaf = current_leaf();
$reader->query("BEGIN; LOCK TABLE order_engine.outbox_$read_leaf IN ACCESS SHARE MODE");
wait_for_turns(1);
my $prepared = $node->value(q{
	BEGIN;
	INSERT INTO emitted SELECT order_engine.emit('test', 'prepared', 'test.load', '{}') RETURNING id;
	PREPARE TRANSACTION 'late'});
my $prepared_leaf = $node->value(q{
	SELECT right(relation::regclass::text, 1) FROM pg_locks
	WHERE pid IS NULL AND mode = 'RowExclusiveLock' AND relation::regclass::text ~ 'outbox_\d$'});
isnt($prepared_leaf, $read_leaf, 'they are in different leaves');

my $offset = -s $node->logfile;
wait_for_holder($prepared_leaf, 'closing', 'a writer');
wait_for_holder($read_leaf, 'kept', 'lock');
wait_for_standstill();
poll_until('the log', sub {
	return substr(slurp_file($node->logfile), $offset) =~ /is due to be left, but leaf $read_leaf is held by lock/ });
is(($node->value('SELECT current_leaf FROM order_engine.outbox_ring') + 1) % 8, $read_leaf, 'just before the leaf that is read');
$reader->query('COMMIT');
$reader->quit;
wait_for_turns(1);
is(current_leaf(), $read_leaf, 'it turns on when the reader ends');
wait_for_standstill();
wait_for_holder($prepared_leaf, 'closing', 'a writer');
$node->safe_psql('postgres', "COMMIT PREPARED 'late'");
$receiver->wait_for_id('/shop', webhook_id($prepared));
pass('what was prepared is sent');
wait_for_turns(9);
pass('and the ring goes round again');

# ---------- an endpoint is paused

$offset = -s $node->logfile;
$node->call('pause_endpoint', { name => 'slow' });
$node->wait_for_value(
	q{SELECT count(*) > 0 FROM order_engine.outbox_ring_status WHERE held_by = 'endpoint slow'}, 't');
wait_for_standstill();
poll_until('the log', sub { return substr(slurp_file($node->logfile), $offset) =~ /is held by endpoint slow/ });
$offset = -s $node->logfile;
my $sent = $node->value('SELECT count(*) FROM emitted');
poll_until('events that pile up', sub { return $node->value('SELECT count(*) FROM emitted') > $sent + 500 });
unlike(substr(slurp_file($node->logfile), $offset), qr/due to be left/, 'that is logged once');
$node->call('resume_endpoint', { name => 'slow' });
wait_for_turns(9);
pass('it turns on when the endpoint is resumed');

# ---------- the end of the load

$node->safe_psql('postgres', 'INSERT INTO stop VALUES (1)');
foreach my $session (@load)
{
	$session->receive // die $session->error;
	$session->quit;
}
my $total = $node->value('SELECT count(*) FROM emitted');
$receiver->wait_for('/shop', unique => $total);
$receiver->wait_for('/slow', unique => $total);
is(scalar(missing_at('/shop', 'true')), 0, "the active endpoint has got each of $total events");
is(scalar(missing_at('/slow', 'true')), 0, 'so has the one that was paused');
is($receiver->stats('/shop')->{duplicates}, 0, 'and none twice');
is($receiver->stats('/shop')->{out_of_order}, 0, 'in order');
cmp_ok($node->value('SELECT count(*) FROM order_engine.outbox'), '<', $total, 'leaves were used again');
diag(sprintf('longest transaction of %d writers around emit(): %s ms, of %s events, beside %s steps of the ring',
		$writers, $node->value('SELECT round(max(ms)::numeric, 1) FROM stall'), $total,
		$node->value('SELECT count(*) FROM step')));
diag("longest within 50 ms of $_") foreach split(/\n/, $node->value(q{
	SELECT what || ' (' || count(DISTINCT at) || '): ' || coalesce(round(extract(epoch FROM max(took)) * 1000, 1) || ' ms', 'below 2 ms')
	FROM step LEFT JOIN slow ON at BETWEEN began - interval '50 ms' AND began + took + interval '50 ms'
	GROUP BY what ORDER BY what}));
diag('longest elsewhere: ' . $node->value(q{
	SELECT coalesce(round(extract(epoch FROM max(took)) * 1000, 1) || ' ms', 'below 2 ms') FROM slow
	WHERE NOT EXISTS (SELECT FROM step WHERE at BETWEEN began - interval '50 ms' AND began + took + interval '50 ms')}));

$node->wait_for_value(q{SELECT count(*) FROM order_engine.outbox}, '0');
pass('in the end the outbox is empty');

# ---------- beyond max_retention

my $received = $receiver->stats('/slow')->{unique};
$node->call('pause_endpoint', { name => 'slow' });
$node->emit_many("'gap ' || i", 1, 100);
$node->safe_psql('postgres', q{SELECT order_engine.emit('test', 'x', 'other.event', '{}') FROM generate_series(1, 20)});
$receiver->wait_for('/shop', unique => $total + 120);
$node->wait_for_value(
	q{SELECT count(*) FROM order_engine.outbox_ring_status WHERE held_by = 'endpoint slow'}, '1');

# as in a restored dump; until somebody says that it shall send, its endpoints are not given up
$node->safe_psql('postgres', q{UPDATE order_engine.endpoint SET owner = 'another' WHERE name = 'slow'});
$node->configure('order_engine.max_retention' => '6');
$node->wait_for_value(q{
	SELECT count(*) FROM order_engine.outbox_ring_status
	WHERE held_by = 'endpoint slow' AND closed_at < clock_timestamp() - interval '10 s'}, '1');
is($node->value(q{SELECT status, (SELECT count(*) FROM order_engine.delivery_gap) FROM order_engine.endpoint WHERE name = 'slow'}),
	'paused|0', 'an endpoint of another database is not given up');
is($node->value('SELECT order_engine.adopt_database()'), 't', 'it is adopted');
is($node->value(q{SELECT count(*) FROM order_engine.outbox WHERE aggregateid LIKE 'gap %'}), '100', 'with its events');
$node->wait_for_value(q{SELECT status FROM order_engine.endpoint WHERE name = 'slow'}, 'disabled');
is($node->value(q{SELECT status_reason FROM order_engine.endpoint WHERE name = 'slow'}),
	'held the outbox longer than order_engine.max_retention', 'the endpoint that held the ring is disabled');
is($node->value(q{
		SELECT g.events, g.last_created_at >= g.first_created_at
		FROM order_engine.delivery_gap g JOIN order_engine.endpoint e USING (endpoint_id) WHERE e.name = 'slow'}),
	'100|t', 'its gap is recorded: what it wanted, and nothing else');
$receiver->wait_for('/shop', unique => $total + 121);
is($node->value(q{SELECT count(*) FROM order_engine.outbox WHERE aggregatetype = 'test'}), '0', 'the leaf is truncated');
$node->configure('order_engine.max_retention' => '3600');
$node->call('resume_endpoint', { name => 'slow' });
my $after = $node->emit('after', type => 'test.after');
$receiver->wait_for_id('/slow', $after);
is($receiver->stats('/slow')->{unique}, $received + 1, 'resumed, it gets what comes then');
is_deeply([ map { $_->{aggregateid} } grep { $_->{type} eq 'endpoint.disabled' } $receiver->requests('/shop') ],
	['slow'], 'the other endpoint has got the news');
$node->stop;

done_testing();
