
# The ring turns under load, beside an endpoint that is paused and a transaction
# that reads a leaf: nothing is lost, and no writer waits for it.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Load qw($long start_writers);
use OrderEngine::Receiver;
use Test::More;

my $turn = $long ? 5 : 1;
my $rate = $long ? 5000 : 1500;
my $seconds = $long ? 120 : 12;
my $writers = 4;

my $node = OrderEngine->start_new('main',
	conf => "
		order_engine.retention = '@{[ 6 * $turn ]}s'
		order_engine.max_retention = '1h'
		max_wal_size = '8GB'
		wal_init_zero = off		# else a new segment holds all writers up for 100 ms
	");
my $receiver = OrderEngine::Receiver->new;

OrderEngine::Load::prepare($node);
$node->safe_psql('postgres', q{
	CREATE TABLE step (what text, at timestamptz);
	CREATE TABLE slow (began timestamptz, took interval);
	CREATE FUNCTION note_step() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.step VALUES (tg_table_name || ' ' || tg_op, clock_timestamp());
		RETURN NULL;
	END $$;
	CREATE TRIGGER note_step AFTER UPDATE ON order_engine.outbox_ring FOR EACH ROW EXECUTE FUNCTION note_step();
	CREATE TRIGGER note_step AFTER INSERT OR DELETE ON order_engine.outbox_leaf FOR EACH ROW EXECUTE FUNCTION note_step();

	-- as trickle(), and remembers what took long
	CREATE PROCEDURE pour(rate float8, count int) LANGUAGE plpgsql AS $$
	DECLARE
		start timestamptz := clock_timestamp();
		began timestamptz;
		ahead float8;
	BEGIN
		FOR i IN 1..count LOOP
			began := clock_timestamp();
			PERFORM order_engine.emit('trickle', gen_random_uuid()::text, 'trickle.event', '{}');
			COMMIT;
			IF clock_timestamp() - began > interval '5 ms' THEN
				INSERT INTO slow VALUES (began, clock_timestamp() - began);
			END IF;
			ahead := i / rate - extract(epoch FROM clock_timestamp() - start);
			IF ahead > 0.002 THEN
				PERFORM pg_sleep(ahead);
			END IF;
		END LOOP;
	END $$});

# requests with many events each, so that the receiver keeps up
my %many = (max_batch => 100, max_batch_delay => '20 ms', max_in_flight => 16, ordering => 'none');
$node->create_endpoint($receiver, 'shop', %many);
$node->create_endpoint($receiver, 'paused', %many);
$node->call('pause_endpoint', { name => 'paused' });

my $reader = $node->session;
$reader->query('BEGIN');
$reader->query('SELECT count(*) FROM order_engine.outbox_0');

my $each = $rate * $seconds / $writers;
my @writers = start_writers($node, $writers, "CALL pour(${rate}::float8 / $writers, $each)");
foreach my $writer (@writers)
{
	poll_until('the events to be written', sub { $writer->is_done }, $seconds * 4 + 60);
	$writer->receive;
	$writer->quit;
}
my $events = $each * $writers;
my ($took, $leaves, $turns) = split(/\|/, $node->value(q{
	SELECT round(extract(epoch FROM max(created_at) - min(created_at)), 1), count(DISTINCT leaf),
		(SELECT count(*) FROM step WHERE what = 'outbox_ring UPDATE')
	FROM order_engine.outbox}));

$receiver->wait_for('/shop', events => $events);
my $stats = $receiver->stats('/shop');
is("$stats->{unique} $stats->{duplicates}", "$events 0", 'every event arrived, and once');
$reader->query('COMMIT');
$reader->quit;
$node->call('resume_endpoint', { name => 'paused' });
$receiver->wait_for('/paused', events => $events);
$stats = $receiver->stats('/paused');
is("$stats->{unique} $stats->{duplicates}", "$events 0", 'so they do for the endpoint that was paused');
$node->wait_for_value(q{SELECT count(*) FROM order_engine.outbox_leaf}, '0');
pass('then the ring is emptied');

diag(sprintf('%d events in %s s (%.0f/s), %d turns over %d leaves', $events, $took, $events / $took, $turns, $leaves));
my $stalls = q{SELECT coalesce(round(1000 * extract(epoch FROM max(took)), 1), 0)::text || ' ms of ' || count(*)
	FROM slow WHERE };
my $near = q{EXISTS (SELECT FROM step WHERE at BETWEEN began - interval '50 ms' AND began + took + interval '50 ms')};
diag('transactions of more than 5 ms: the longest near a step of the ring ' . $node->value($stalls . $near) .
	', elsewhere ' . $node->value("$stalls NOT $near"));
cmp_ok($turns, '>', 2, 'the ring was turned meanwhile');

$node->stop;
done_testing();
