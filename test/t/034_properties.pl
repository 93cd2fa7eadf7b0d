
# Random verbs from many connections, with server crashes between them: whatever
# happened, stock, money, history and events agree, and no verb fails in a way
# that it does not announce.
#
# OE_LONG=1 walks for ten minutes instead of half a minute.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use OrderEngine qw(poll_until);
use PostgreSQL::Test::Utils ();
use Test::More;

my $rounds = $ENV{OE_LONG} ? 30 : 3;
my $seconds = $ENV{OE_LONG} ? 20 : 8;
my $clients = 12;

# what a client may be told, beside the codes of order_engine itself: a lock
# that the engine does not wait for, an argument that does not fit the order,
# and the change of mind of the walker
my $announced = q{(sqlstate LIKE 'OE%' OR sqlstate IN ('00000', '55P03', '22023', 'WALK0'))};

my $node = OrderEngine->start_new('main', conf => qq{
order_engine.maintenance_interval = '1s'
order_engine.authorization_lifetime = '3s'
order_engine.payment_retry_delay = '1s'
max_connections = 60
fsync = off
});
my $walker = abs_path(dirname(__FILE__) . '/../lib/walker.sql');
$node->safe_psql('postgres', PostgreSQL::Test::Utils::slurp_file($walker));
$node->safe_psql('postgres', q{
	SELECT order_engine.upsert_location('L1', 'Second', priority => 5);
	SELECT order_engine.upsert_product('S' || n, 'S', tracked => n < 7) FROM generate_series(0, 7) n;
	SELECT order_engine.adjust_stock('S' || n, l, 60, 'received')
	FROM generate_series(0, 7) n, unnest('{default,L1}'::text[]) l;
	SELECT order_engine.set_channel_locations('store', '{L1,default}')});

# Verbs with their weights; what is done by hand is apart, because it locks a part
# before its order and may so deadlock with a verb.
my %weights = (
	place => 20, transition => 40, cancel => 4, request_payment => 16, gateway => 8,
	report => 24, refund => 3, chargeback => 1, fulfill => 14, return => 5,
	receive => 4, hold => 3, cart => 3, take_over => 2, release => 1, adjust => 2, transfer => 1,
	slots => 1, force => 1, maintenance => 1);
my @verbs = map { ($_) x $weights{$_} } sort keys %weights;

sub walk
{
	my ($seconds, $clients, @verbs) = @_;
	my $script = $node->basedir . '/walk.sql';
	my $list = join(',', @verbs);

	open(my $file, '>', $script) or die "$script: $!";
	print $file "SELECT walk.step('{$list}');\n";
	close $file;
	return IPC::Run::start(
		[
			'pgbench', '-n', '-c', $clients, '-j', 2, '-T', $seconds, '-M', 'prepared',
			'-f', $script, $node->connstr('postgres')
		],
		'<', \undef, '>', \my $out, '2>', \my $err);
}

sub nothing
{
	my ($what, $query) = @_;

	is($node->safe_psql('postgres', $query), '', $what);
	return;
}

sub check
{
	my ($when, $by_hand) = @_;
	my $known = $announced;

	$known .= q{ OR sqlstate = '40P01'} if $by_hand;
	nothing("$when: every error is one that the verbs announce", qq{
		SELECT verb, sqlstate, message, count(*), min(detail), min(context) FROM walk.outcome
		WHERE NOT ($known) AND round = (SELECT max(round) FROM walk.outcome)
		GROUP BY 1, 2, 3 ORDER BY 1, 2, 3});
	nothing("$when: verify_stock()", 'SELECT * FROM order_engine.verify_stock()');
	nothing("$when: verify_orders()", 'SELECT * FROM order_engine.verify_orders()');
	nothing("$when: what lies there, plus shipped, minus restocked, is what was received", q{
		SELECT sku, on_hand, shipped, restocked, received FROM
			(SELECT sku, sum(on_hand) AS on_hand FROM order_engine.stock GROUP BY sku) s
			LEFT JOIN (SELECT sku, sum(shipped) AS shipped, sum(undelivered) AS undelivered
				FROM order_engine.order_line WHERE tracked GROUP BY sku) l USING (sku)
			LEFT JOIN (SELECT l.sku, sum(r.restocked) AS restocked
				FROM order_engine.return_line r JOIN order_engine.order_return o USING (return_id)
				JOIN order_engine.order_line l USING (order_id, line_no) WHERE l.tracked GROUP BY l.sku) r USING (sku)
			LEFT JOIN (SELECT sku, sum(on_hand_delta) AS received FROM order_engine.stock_movement
				WHERE kind = 'adjust' GROUP BY sku) a USING (sku)
		WHERE on_hand + coalesce(shipped, 0) - coalesce(restocked, 0) - coalesce(undelivered, 0) <> received});
	nothing("$when: what is recorded is what the gateway decided", q{
		SELECT t.transaction_id, t.state, t.amount, g.outcome, g.amount
		FROM order_engine.payment_transaction t LEFT JOIN walk.gateway g USING (transaction_id)
		WHERE NOT (t.kind = 'chargeback' OR t.kind = 'void' AND t.reason = 'expired')
			AND (t.state IN ('success', 'failure') AND (t.state, t.provider_ref) IS DISTINCT FROM (g.outcome, g.ref)
				OR t.state = 'success' AND t.amount <> g.amount)});
	nothing("$when: the history of every order and part is a path of its machine", q{
		SELECT * FROM (
			SELECT order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, forced,
				lag(to_state) OVER w AS before, row_number() OVER w AS n
			FROM order_engine.history WHERE order_id IS NOT NULL
			WINDOW w AS (PARTITION BY order_id, entity, entity_id ORDER BY seq)) h
		WHERE from_state <> coalesce(before, (SELECT definition ->> 'initial' FROM order_engine.machine m WHERE m.machine_id = h.machine_id))
			OR from_state <> to_state AND NOT EXISTS (
				SELECT FROM order_engine.machine m, jsonb_array_elements(m.definition -> 'transitions') t
				WHERE m.machine_id = h.machine_id AND t ->> 'event' = h.event AND t ->> 'to' = h.to_state
					AND (t -> 'from' ? h.from_state OR t ->> 'from' = h.from_state))
		ORDER BY order_id, seq LIMIT 10});
	nothing("$when: every order is where its history ended", q{
		SELECT o.order_id, o.state, h.to_state, o.version, h.seq FROM order_engine.orders o,
			LATERAL (SELECT max(seq) AS seq, count(*) AS n FROM order_engine.history WHERE order_id = o.order_id) h1,
			LATERAL (SELECT to_state, seq FROM order_engine.history WHERE order_id = o.order_id AND entity = 'order' ORDER BY seq DESC LIMIT 1) h
		WHERE o.state <> h.to_state OR o.version <> h1.seq OR o.version <> h1.n});
	nothing("$when: every order's events are its history", q{
		SELECT h.order_id, h.seq, h.event, e.aggregateid, e.aggregate_seq, e.type
		FROM (SELECT * FROM order_engine.history WHERE order_id IS NOT NULL) h
		FULL JOIN (SELECT * FROM order_engine.outbox WHERE aggregatetype = 'order') e
			ON e.aggregateid = h.order_id::text AND e.aggregate_seq = h.seq
		WHERE h.order_id IS NULL OR e.id IS NULL
			OR e.payload ->> 'event' <> h.event OR e.payload ->> 'to' <> h.to_state OR e.payload ->> 'from' <> h.from_state
		LIMIT 10});
	return;
}

foreach my $round (1 .. $rounds)
{
	my $crash = $round % 3;
	my $by_hand = $round % 2 == 0;
	my $run;

	$node->safe_psql('postgres', "ALTER TABLE walk.outcome ALTER round SET DEFAULT $round");
	$run = walk($seconds, $clients, @verbs, $by_hand ? ('by_hand') x 8 : ());

	if ($crash == 1)
	{
		# a backend dies at work: the server throws everybody out and recovers
		my $victim = poll_until('a walker at work', sub {
			$node->safe_psql('postgres', q{
				SELECT pid FROM pg_stat_activity
				WHERE backend_type = 'client backend' AND query LIKE 'SELECT walk.step%'
					AND state = 'active' AND (SELECT count(*) FROM walk.outcome) > 500 LIMIT 1})});
		kill 'KILL', $victim;
		$run->finish;
		poll_until('the server is back', sub {
			$node->psql('postgres', 'SELECT 1', on_error_die => 0) == 0 });
		walk($seconds / 2, $clients, @verbs)->finish;
	}
	elsif ($crash == 2)
	{
		my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM walk.outcome');
		poll_until('some steps', sub {
			$node->safe_psql('postgres', 'SELECT count(*) FROM walk.outcome') > $before + 500 });
		$node->stop('immediate');
		$run->finish;
		$node->start;
		walk($seconds / 2, $clients, @verbs)->finish;
	}
	else
	{
		$run->finish;
		is($run->result(0), 0, "round $round: pgbench went through");
	}
	check("round $round", $by_hand);
}

# Whatever is open at the gateway is decided and reported, then nothing is owed.
my $undecided = 1;
for (my $n = 0; $undecided && $n < 50; $n++)
{
	$node->safe_psql('postgres', q{
		INSERT INTO walk.gateway
		SELECT transaction_id, kind, 'success', requested, 'ref-' || transaction_id FROM order_engine.payment_transaction
		WHERE state IN ('initial', 'pending') ON CONFLICT DO NOTHING;
		DO $$
		DECLARE
			g record;
		BEGIN
			FOR g IN SELECT w.* FROM walk.gateway w JOIN order_engine.payment_transaction t USING (transaction_id)
				WHERE t.state IN ('initial', 'pending') ORDER BY transaction_id LOOP
				PERFORM order_engine.record_payment(g.transaction_id, g.outcome, g.ref,
					CASE WHEN g.outcome = 'success' THEN g.amount END);
			END LOOP;
		END $$});
	$undecided = $node->safe_psql('postgres',
		q{SELECT count(*) FROM order_engine.payment_transaction WHERE state IN ('initial', 'pending')});
}
is($undecided, 0, 'everything at the gateway is reported');
check('at the end');
is( $node->safe_psql('postgres', q{
	SELECT (SELECT coalesce(sum(CASE kind WHEN 'capture' THEN amount WHEN 'refund' THEN -amount ELSE 0 END), 0)
		FROM walk.gateway WHERE outcome = 'success')
		= (SELECT sum(captured_total - refunded_total) FROM order_engine.orders)}),
	't', 'money at the gateway is money recorded');
is( $node->safe_psql('postgres', q{
	SELECT p.*, o.state FROM order_engine.payment p JOIN order_engine.orders o USING (order_id)
	WHERE o.state IN ('cancelled', 'expired') AND
		(p.authorized > p.captured + p.voided AND p.state IN ('authorized', 'captured') OR p.captured > p.refunded + p.charged_back)
		AND NOT EXISTS (SELECT FROM order_engine.payment_transaction t WHERE t.payment_id = p.payment_id
			AND t.kind IN ('void', 'refund') AND t.state <> 'success')}),
	'', 'no dead order keeps money, unless the gateway refused to give it back or has yet to');

note $node->safe_psql('postgres', q{
	SELECT verb, count(*) FILTER (WHERE sqlstate = '00000') AS done, count(*) FILTER (WHERE sqlstate <> '00000') AS refused,
		string_agg(DISTINCT sqlstate, ' ' ORDER BY sqlstate) FROM walk.outcome GROUP BY verb ORDER BY verb});
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM order_engine.history}),
	'>', 1000, 'something happened');

$node->stop;
done_testing();
