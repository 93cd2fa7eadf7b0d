
# A payment service between the events and record_payment(), with every accident
# that it can have: each order is paid exactly once, and what the gateway did is
# what the database says.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP qw(decode_json);
use OrderEngine qw(poll_until);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = OrderEngine->start_new('main', conf => q{
order_engine.payment_retry_delay = 0
});
my $directory = PostgreSQL::Test::Utils::tempdir();
my $program = abs_path(dirname(__FILE__) . '/../lib/payment_service.js');
my ($orders, $cancelled, $stolen) = (48, 8, 2);
my ($pid, $stdin);
my $port = 0;
my $starts = 0;

sub start_service
{
	unlink "$directory/port";
	$pid = open($stdin, '|-') // die "could not fork: $!";
	if ($pid == 0)
	{
		@ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
		open(STDOUT, '>>', "$directory/output") or POSIX::_exit(126);
		open(STDERR, '>&', \*STDOUT) or POSIX::_exit(126);
		exec($ENV{OE_NODE} || 'node', $program, '--port', $port, '--port-file', "$directory/port",
			'--secret-file', "$directory/secret", '--ledger', "$directory/ledger", '--accidents')
		  or POSIX::_exit(127);
	}
	poll_until('the payment service', sub { return -s "$directory/port" });
	chomp($port = slurp_file("$directory/port"));
	$starts++;
	return;
}

sub restart_if_dead
{
	return if waitpid($pid, POSIX::WNOHANG()) != $pid;
	close($stdin);
	start_service();
	return;
}

start_service();
append_to_file("$directory/secret", $node->call('create_endpoint', {
	name => 'payments', url => "http://127.0.0.1:$port/hooks", event_types => ['payment.*'],
	retry_schedule => [ '0', ('50 ms') x 60 ],
	policy => { breaker_open => '20 ms', breaker_open_max => '100 ms' } }));
$node->safe_psql('postgres', q{SELECT order_engine.upsert_product('TEA', 'Green tea', 4.50, 'EUR', tracked => false)});

# Half of the orders are authorized first, half are captured at once.  Some are
# cancelled while that is under way, some are paid with a stolen card.
$node->safe_psql('postgres', qq{
	CREATE TABLE mine AS SELECT i, order_engine.place_order('c' || i, '[{"sku": "TEA", "quantity": 2}]', 'EUR') AS id
	FROM generate_series(1, $orders) i;
	SELECT order_engine.request_payment(id, CASE WHEN i % 2 = 0 THEN 'capture' ELSE 'authorization' END,
		method => CASE WHEN i <= $stolen THEN 'stolen card' ELSE 'card' END, provider => 'gateway') FROM mine});
foreach my $i ($orders - $cancelled + 1 .. $orders)
{
	$node->safe_psql('postgres', "SELECT order_engine.cancel_order(id, 'changed his mind') FROM mine WHERE i = $i");
	restart_if_dead();
}

poll_until('every order to be paid or given up', sub {
	restart_if_dead();
	$node->value('SELECT order_engine.retry_payments(100)');
	return $node->value(q{
		SELECT count(*) FROM order_engine.orders o
		WHERE CASE WHEN state = 'cancelled' THEN authorized_total <> 0 OR captured_total <> refunded_total
				ELSE payment_status <> 'paid' END
			OR EXISTS (SELECT FROM order_engine.payment_transaction t WHERE t.order_id = o.order_id AND t.state IN ('initial', 'pending'))
			OR EXISTS (SELECT FROM order_engine.payment p WHERE p.order_id = o.order_id AND p.next_attempt_at IS NOT NULL)}) == 0;
});

is($node->value(q{SELECT state, payment_status, captured_total, refunded_total, count(*) FROM order_engine.orders
		WHERE state = 'pending' GROUP BY 1, 2, 3, 4}),
	'pending|paid|9.00|0.00|' . ($orders - $cancelled - $stolen), 'every order that lived is paid, once');
is($node->value(q{SELECT count(*) FROM order_engine.orders WHERE state = 'cancelled'}),
	$cancelled + $stolen, 'the others are cancelled');
is($node->value(q{SELECT count(*) FROM order_engine.history WHERE event = 'cancel' AND reason = 'payment failed'}),
	$stolen, 'those with a stolen card by the engine');

# the gateway's books against ours
my %gateway;
my @entries = map { decode_json($_) } split(/\n/, slurp_file("$directory/ledger"));
foreach my $entry (@entries)
{
	$gateway{"$entry->{kind} $entry->{outcome}"} += $entry->{amount};
}
my %ours = map { /^(.*)\|(.*)$/ } split(/\n/, $node->value(q{
	SELECT kind || ' ' || state, sum(amount) FROM order_engine.payment_transaction GROUP BY 1}));
foreach my $what (sort keys %{ { %gateway, %ours } })
{
	cmp_ok($gateway{$what} // 0, '==', $ours{$what} // 0, "gateway and database agree: $what");
}
my %seen;
$seen{ $_->{id} }++ foreach @entries;
is(scalar(grep { $_ > 1 } values %seen), 0, 'no operation was done twice');
cmp_ok($gateway{'capture success'} - ($gateway{'refund success'} // 0), '==',
	$node->value('SELECT sum(captured_total - refunded_total) FROM order_engine.orders'),
	'the money at the gateway is the money recorded');

# the accidents did happen
cmp_ok($starts, '>', 1, 'the service crashed');
cmp_ok($node->value(q{SELECT count(*) FROM order_engine.outbox WHERE type = 'payment.attempt_failed'}),
	'>', 0, 'attempts failed');
cmp_ok($node->value(q{SELECT count(*) FROM order_engine.outbox WHERE type = 'payment.refund_requested' OR type = 'payment.void_requested'}),
	'>', 0, 'money was given back');
is($node->value(q{SELECT count(*) FROM (SELECT FROM order_engine.outbox WHERE aggregatetype = 'order'
		GROUP BY aggregateid HAVING count(*) <> max(aggregate_seq)) gaps}), '0', 'no sequence has a gap');
diag(sprintf('%d operations at the gateway, %d starts of the service', scalar(@entries), $starts));
close($stdin);
$node->stop;

done_testing();
