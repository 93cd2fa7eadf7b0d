
# Random verbs from many sessions, while another session cancels and terminates them
# at random moments, and the workers too: nothing is half done, what was answered was
# done, a repetition with the same key has one effect, and the server goes on.
#
# OE_LONG=1 goes on for ten minutes instead of some seconds.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Crash;
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{OE_LONG} ? 600 : 6;
my $clients = 8;

my $node = OrderEngine->start_new('main', conf => qq{
order_engine.maintenance_interval = '200ms'
order_engine.authorization_lifetime = '3s'
order_engine.payment_retry_delay = '1s'
max_connections = 60
fsync = off
});
my $receiver = OrderEngine::Receiver->new;
$node->safe_psql('postgres', slurp_file('test/lib/walker.sql'));
$node->safe_psql('postgres', q{
	SELECT order_engine.upsert_location('L1', 'Second', priority => 5);
	SELECT order_engine.upsert_product('S' || n, 'S', tracked => n < 7) FROM generate_series(0, 7) n;
	SELECT order_engine.adjust_stock('S' || n, l, 1000, 'received')
	FROM generate_series(0, 7) n, unnest('{default,L1}'::text[]) l;
	SELECT order_engine.upsert_product('K', 'K', 1, 'EUR');
	SELECT order_engine.set_channel_locations('store', '{L1,default}');
	CREATE TABLE walk.interrupt (what text NOT NULL, during text NOT NULL, done boolean NOT NULL);
});
$node->create_endpoint($receiver, 'all', retry_schedule => ['0', map { '100 ms' } 1 .. 20]);
my $since = $node->value('SELECT pg_postmaster_start_time()');

my @verbs = qw(place place transition transition cancel request_payment gateway report refund chargeback fulfill return receive hold
  cart take_over release adjust transfer slots force maintenance);

# What a client repeats until it has an answer: orders, stock and events with keys.
my $keys = 0;

sub script
{
	my ($client) = @_;
	my $script = "\\set VERBOSITY sqlstate\n";

	foreach my $i (1 .. 300)
	{
		my $key = "k$client-" . ++$keys;
		my $step = "SELECT walk.step('{" . join(',', @verbs) . "}');\n";
		$script .= "\\o /dev/null\n" . ($step x 3) . "\\o\n";
		my $call = "SELECT 'order', '$key', order_engine.place_order('$key', '[{\"sku\": \"K\", \"quantity\": 1, \"location\": \"default\"}, {\"sku\": \"S1\", \"quantity\": 1, \"unit_price\": 1}, {\"sku\": \"S2\", \"quantity\": 1, \"unit_price\": 2}]',"
			  . " 'EUR', terms => 'invoice', hold_for => '1 day', idempotency_key => 'order $key') WHERE order_engine.adjust_stock('K', 'default', 1, '$key', idempotency_key => 'stock $key') IS NOT NULL;\n"
			  . "SELECT 'event', '$key', order_engine.emit('key', '$key', 'key.event', '{}', idempotency_key => 'event $key');\n";
		$script .= $call x 2;
		# and what an operator does
		$script .= "\\o /dev/null\n" . join('', map { "SELECT order_engine.$_;\n" } "create_endpoint('$key', 'https://192.0.2.1/', '{none.*}')",
			"alter_endpoint('$key', rate => 10)", "pause_endpoint('$key')", "replay('$key', '2020-01-01', 'infinity')", "redrive('$key')",
			"discard_dead_letters('$key')", "resume_endpoint('$key')", "rotate_secret('$key')", "send_test_event('$key')",
			($i % 2 ? "drop_endpoint('$key')" : "pause_endpoint('$key')"),
			"publish_machine(order_engine.define_machine('ticket', '$key', '{\"initial\": \"a\", \"states\": {\"a\": {}, \"b\": {\"terminal\": true}}, \"transitions\": [{\"event\": \"e\", \"from\": \"a\", \"to\": \"b\"}]}'))",
			"upsert_product('$key', '$key')", "set_backorder_limit('K', 'default', $i)", "set_safety_stock('K', 'L1', $i % 2)",
			"set_channel_locations('store', '{L1,default}')", 'reencrypt_secrets()') . "\\o\n" if $i % 4 == 1;
	}
	return $script;
}

my @run;

sub start_client
{
	my ($n) = @_;
	my %client = (stdin => script($n), stdout => '', stderr => '');
	local $ENV{PGAPPNAME} = 'walker';

	$client{handle} = IPC::Run::start([ 'psql', '-XAtq', '-f', '-', '-d', $node->connstr('postgres') ],
		'<', \$client{stdin}, '>', \$client{stdout}, '2>', \$client{stderr});
	push @run, \%client;
	return \%client;
}

my $killer = $node->session;
$killer->send(sprintf(q{
	DO $$
	DECLARE
		until timestamptz := clock_timestamp() + interval '%d seconds';
		victim record;
		terminate boolean;
	BEGIN
		-- a slow machine takes its time
		WHILE clock_timestamp() < until OR (SELECT count(*) FROM walk.interrupt WHERE what = 'terminate client backend' AND done) < 25 LOOP
			PERFORM pg_stat_clear_snapshot();
			terminate := random() < 0.1;
			SELECT pid, backend_type, query INTO victim FROM pg_stat_activity
			WHERE application_name = 'walker' AND state = 'active' OR backend_type = 'order_engine worker' AND random() < 0.1
			ORDER BY random() LIMIT 1;
			IF FOUND THEN
				INSERT INTO walk.interrupt VALUES (CASE WHEN terminate THEN 'terminate ' ELSE 'cancel ' END || victim.backend_type, victim.query,
					CASE WHEN terminate THEN pg_terminate_backend(victim.pid) ELSE pg_cancel_backend(victim.pid) END);
			END IF;
			COMMIT;
			EXIT WHEN clock_timestamp() > until + interval '2 minutes';
			PERFORM pg_sleep(random() * 0.01);
		END LOOP;
	END $$}, $seconds));

my @clients = map { start_client($_) } 1 .. $clients;
while (!$killer->is_done)
{
	foreach my $n (0 .. $#clients)
	{
		my $client = $clients[$n];
		local $SIG{PIPE} = 'IGNORE';

		next if eval { $client->{handle}->pump_nb; $client->{handle}->pumpable };
		eval { $client->{handle}->finish };
		$clients[$n] = start_client($n + 1);
	}
	usleep(20_000);
}
is($killer->receive // $killer->error, '', 'the interrupter ended');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'walker'});
foreach my $client (@clients)
{
	local $SIG{PIPE} = 'IGNORE';
	eval { $client->{handle}->finish };
}

note($node->value('SELECT what, count(*) FROM walk.interrupt GROUP BY 1 ORDER BY 1'));
my $stderr = join('', map { $_->{stderr} } @run);
my %state;
$state{$1}++ while $stderr =~ /(?:ERROR|FATAL):  (\w{5})$/mg;
note('told to clients: ' . join(', ', map { "$_ $state{$_}" } sort keys %state));
cmp_ok($state{'57014'} // 0, '>', 10, 'sessions were cancelled');
cmp_ok($state{'57P01'} // 0, '>', 0, 'and terminated');
is(join(' ', grep { !/^(57014|57P01|55P03|40P01|OE...)$/ } sort keys %state), '', 'clients were told of nothing else');

is($node->value('SELECT pg_postmaster_start_time()'), $since, 'the server ran all the time');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal|server process .* exited with exit code [2-9]/, 'and nothing in it crashed');

# ---------- what was answered was done, and once

my %answer;
foreach my $client (@run)
{
	push @{ $answer{"$1 $2"}{$3} }, 1 while $client->{stdout} =~ /^(order|event)\|(k\d+-\d+)\|(\S+)$/mg;
}
cmp_ok(scalar(keys %answer), '>', 50, 'answers');
is(join(' ', grep { keys %{ $answer{$_} } > 1 } sort keys %answer), '', 'a repetition has the same answer');
my %stored = map { /^(.*)\|(.*)$/ } split(/\n/, $node->value(q{
	SELECT 'order ' || customer_id, string_agg(order_id::text, ' ') FROM order_engine.orders WHERE customer_id LIKE 'k%-%' GROUP BY 1
	UNION ALL
	SELECT 'event ' || aggregateid, string_agg(id::text, ' ') FROM order_engine.outbox WHERE aggregatetype = 'key' GROUP BY 1}));
is(join(' ', grep { ($stored{$_} // '') ne (keys %{ $answer{$_} })[0] } sort keys %answer), '', 'what was answered is there, once');
is(join(' ', grep { / / } values %stored), '', 'and nothing is there twice');
is($node->value(q{SELECT count(*) FROM (SELECT reason FROM order_engine.stock_movement WHERE sku = 'K' AND kind = 'adjust' GROUP BY reason HAVING count(*) > 1) m}), '0',
	'nor was stock counted twice');
is($node->value(q{
	SELECT count(*) FROM order_engine.orders o WHERE customer_id LIKE 'k%-%' AND (
		(SELECT count(*) FROM order_engine.order_line l WHERE l.order_id = o.order_id) <> 3
		OR NOT EXISTS (SELECT FROM order_engine.stock_movement m WHERE m.sku = 'K' AND m.reason = o.customer_id))}), '0', 'or half of a transaction done');

# ---------- all agree

is(join("\n", OrderEngine::Crash::_disagreements({ node => $node })), '', 'orders, stock, history and events agree');
is($node->value("SELECT count(*) FROM order_engine.$_()"), '0', $_) foreach qw(verify_stock verify_orders);
is($node->value(q{SELECT count(*) FROM order_engine.endpoint e
	WHERE NOT EXISTS (SELECT FROM order_engine.endpoint_secret s WHERE s.endpoint_id = e.endpoint_id AND s.kind = 'signing' AND s.expires_at IS NULL)}), '0', 'no endpoint without a secret');
is($node->value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid NOT IN (SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'order_engine%')}), '0', 'no lock is left');

$node->wait_for_worker;
# maintenance goes on to write some
my @missing;
eval {
	poll_until('all events', sub {
		my %received = map { $_ => 1 } $receiver->ids('/all');
		@missing = grep { !$received{$_} } $node->emitted(q{aggregatetype <> 'endpoint'});
		return !@missing;
	});
};
is("@missing", '', 'all events were delivered');
is($receiver->stats('/all')->{out_of_order}, 0, 'in their order');

done_testing();
