
# Real shopping baskets, one order each, placed from several connections: every
# order.placed arrives once at each of two endpoints; then the same with the
# worker killed ten times on the way.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $data = ($ENV{OE_DATA} // '') . '/groceries.csv';

plan skip_all => 'the baskets (groceries.csv in $OE_DATA) are not here' if !-r $data;

my $clients = 5;
my $kills = 10;

# Reads the file ("Person","item") into table basket (n, items).
sub load_baskets
{
	my ($node) = @_;

	$node->safe_psql('postgres', qq{
		CREATE TABLE item (line serial, person int, sku text);
		COPY item (person, sku) FROM '$data' (FORMAT csv, HEADER);
		CREATE TABLE basket AS
			SELECT row_number() OVER (ORDER BY person)::int AS n,
				jsonb_agg(jsonb_build_object('sku', sku, 'quantity', 1) ORDER BY line) AS items
			FROM item GROUP BY person;
		ALTER TABLE basket ADD PRIMARY KEY (n);
		SELECT count(order_engine.upsert_product(sku, sku, 1.00, 'EUR')) FROM (SELECT DISTINCT sku FROM item) p;
		SELECT count(order_engine.adjust_stock(sku, 'default', 1000000, 'test')) FROM (SELECT DISTINCT sku FROM item) p;
		CREATE SEQUENCE next_basket;
	});
	return split /\|/, $node->safe_psql('postgres',
		'SELECT count(*), sum(jsonb_array_length(items)), (SELECT count(DISTINCT sku) FROM item) FROM basket');
}

my $place = q{order_engine.place_order('customer-' || n, items, 'EUR',
	order_number => 'basket-' || n, idempotency_key => 'basket-' || n)};

sub pgbench_command
{
	my ($node, $script, $each) = @_;

	return ('pgbench', '-n', '-M', 'prepared', '-c', $clients, '-j', 2, '-t', $each,
		'-f', $script, '-h', $node->host, '-p', $node->port, 'postgres');
}

# What was received at a path, against what the outbox has.
sub check_received
{
	my ($node, $receiver, $path, $what) = @_;
	my %emitted = map { $_ => 1 } split /\n/, $node->safe_psql('postgres',
		q{SELECT 'evt_' || replace(id::text, '-', '') FROM order_engine.outbox WHERE type = 'order.placed'});
	my (%received, $unknown, $unverified, $duplicates);

	foreach my $request ($receiver->requests($path))
	{
		$unknown++ if !$emitted{ $request->{id} };
		$unverified++ if !$request->{verified};
		$duplicates++ if $received{ $request->{id} }++;
	}
	is(scalar(grep { !$received{$_} } keys %emitted), 0, "$what: nothing is missing at $path");
	is($unknown // 0, 0, "$what: nothing unknown came to $path");
	is($unverified // 0, 0, "$what: every signature at $path verified");
	return $duplicates // 0;
}

sub check_orders
{
	my ($node, $baskets, $lines, $what) = @_;

	is($node->safe_psql('postgres', q{
		SELECT (SELECT count(*) FROM order_engine.orders), (SELECT count(*) FROM order_engine.order_line),
			(SELECT count(*) FROM order_engine.outbox WHERE type = 'order.placed'),
			(SELECT count(*) FROM order_engine.history), (SELECT sum(reserved) FROM order_engine.stock)}),
		"$baskets|$lines|$baskets|$baskets|$lines", "$what: orders, lines, events, history, reserved units");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM order_engine.verify_stock()'), 0,
		"$what: stock, reservations and ledger agree");
}

my $script = PostgreSQL::Test::Utils::tempdir() . '/place.sql';

# (nextval in WHERE would be evaluated for each row)
append_to_file($script, "SELECT nextval('next_basket') AS n \\gset\nSELECT $place FROM basket WHERE n = :n;\n");

# ---------- undisturbed

my $node = OrderEngine->start_new('calm');
my $receiver = OrderEngine::Receiver->new;
my ($baskets, $lines, $products) = load_baskets($node);

diag("$baskets baskets, $lines lines, $products products");
is("$baskets|$lines", '9835|43367', 'the file was read as a whole');
$node->create_endpoint($receiver, $_, event_types => ['order.placed']) foreach qw(one two);

my $from = time();

$node->command_ok([ pgbench_command($node, $script, $baskets / $clients) ],
	"orders are placed from $clients connections");
diag(sprintf('placed in %.1f s', time() - $from));
$receiver->wait_for("/$_", unique => $baskets) foreach qw(one two);
diag(sprintf('all received twice after %.1f s', time() - $from));
check_orders($node, $baskets, $lines, 'calm');
is(check_received($node, $receiver, "/$_", 'calm'), 0, "calm: nothing came twice to /$_") foreach qw(one two);
$node->stop;
$receiver->stop;

# ---------- the worker is killed on the way

my $kicked = OrderEngine->start_new('kicked', conf => "restart_after_crash = on\n");

$receiver = OrderEngine::Receiver->new;
load_baskets($kicked);
$kicked->create_endpoint($receiver, $_, event_types => ['order.placed']) foreach qw(one two);

# A crash ends every connection, so the load is started anew; a key that was
# used answers without doing anything.
sub start_load
{
	my $output = '';

	return IPC::Run::start([ pgbench_command($kicked, $script, $baskets) ],
		'<', \undef, '>', \$output, '2>', \$output);
}

my $load = start_load();

for my $kill (1 .. $kills)
{
	my $least = int($baskets * 2 * $kill / ($kills + 2));

	poll_until(
		"$least requests",
		sub {
			if (!$load->pumpable)
			{
				$load->finish;
				$kicked->wait_until_up;
				$load = start_load();
			}
			return $receiver->stats('/one')->{unique} + $receiver->stats('/two')->{unique} >= $least;
		});
	my $pid = $kicked->kill_worker;

	$load->finish;
	$kicked->wait_until_up;
	$kicked->wait_for_worker(undef, $pid);
	$load = start_load();
}
$load->finish;
$kicked->safe_psql('postgres', "SELECT count($place) FROM basket WHERE NOT EXISTS
	(SELECT FROM order_engine.orders WHERE order_number = 'basket-' || n)");
$receiver->wait_for("/$_", unique => $baskets) foreach qw(one two);
check_orders($kicked, $baskets, $lines, 'killed');
foreach my $path (qw(/one /two))
{
	my $duplicates = check_received($kicked, $receiver, $path, 'killed');

	diag("$duplicates events came twice to $path over $kills kills");
	is($receiver->stats($path)->{out_of_order}, 0, "killed: in order at $path");
}
$kicked->stop;

done_testing();
