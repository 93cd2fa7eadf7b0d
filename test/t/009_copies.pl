
# Whole databases: dropped, renamed and copied while the worker runs; a copy
# sends nothing until it is adopted.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = OrderEngine->start_new('main', databases => ['shop'],
	conf => "order_engine.databases = 'shop, copy, restored'\n");
my $receiver = OrderEngine::Receiver->new;

sub timed
{
	my ($sql) = @_;
	my $start = time;

	$node->safe_psql('postgres', $sql);
	diag(sprintf('%s: %.2f s', $sql, time - $start));
	return;
}

sub wait_for_log
{
	my ($pattern, $offset) = @_;

	return poll_until("\"$pattern\" in the log",
		sub { return substr(slurp_file($node->logfile), $offset) =~ /$pattern/ });
}

# ---------- a template copy

$node->create_endpoint($receiver, 'hook', database => 'shop');
$node->emit_many('i', 1, 5, 'shop');
$receiver->wait_for('/hook', unique => 5);
$node->safe_psql('shop', q{
	SELECT order_engine.upsert_product('A', 'A', 1, 'EUR');
	SELECT order_engine.adjust_stock('A', 'default', 10, 'test');
	SELECT order_engine.upsert_location('default', 'Warehouse', 'north', 5);
	SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR');
	SELECT order_engine.define_machine('ticket', 'own', '{"initial": "a", "states": {"a": {}, "b": {"terminal": true}}, "transitions": [{"event": "go", "from": "a", "to": "b"}]}');
});
$receiver->wait_for('/hook', unique => 6);
$node->call('pause_endpoint', { name => 'hook' }, 'shop');
$node->emit_many('i', 6, 8, 'shop');

my $offset = -s $node->logfile;

timed('CREATE DATABASE copy TEMPLATE shop');
wait_for_log('as a copy of another database', $offset);
$node->wait_for_worker('shop');
$node->call('resume_endpoint', { name => 'hook' }, 'copy');

my $reads = $node->value('SELECT reads FROM order_engine.stat_worker', 'copy');

$node->emit_many('i', 9, 9, 'copy');
$node->wait_for_value("SELECT reads > $reads FROM order_engine.stat_worker", 't', 'copy');
is($receiver->stats('/hook')->{requests}, 6, 'a copy sends nothing');
is($node->safe_psql('copy', 'SELECT order_engine.adopt_database()'), 't', 'until it is adopted');
$receiver->wait_for('/hook', unique => 10);
is($receiver->stats('/hook')->{duplicates}, 0, 'then it sends what was not delivered, and nothing else');
is($node->safe_psql('copy', 'SELECT order_engine.adopt_database()'), 'f', 'it is adopted once');

# ---------- commands on whole databases

my $pid = $node->wait_for_worker('shop');

$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
foreach my $command ('DROP DATABASE shop', 'ALTER DATABASE shop RENAME TO mine', 'CREATE DATABASE mine TEMPLATE shop')
{
	my ($status) = $node->psql('postgres', "SET ROLE stranger; $command");

	isnt($status, 0, "a stranger is refused: $command");
}
is($node->worker_pid('shop'), $pid, 'and the worker went on');

timed('ALTER DATABASE shop RENAME TO store');
timed('ALTER DATABASE store RENAME TO shop');
isnt($node->wait_for_worker('shop'), $pid, 'there is a worker again');
$node->wait_for_worker('copy');
timed('DROP DATABASE copy');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_database WHERE datname = 'copy'}), 0, 'the copy is gone');

# ---------- a dump

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
my $contents = q{SELECT
	(SELECT jsonb_agg(to_jsonb(o) ORDER BY order_id) FROM order_engine.orders o),
	(SELECT jsonb_agg(to_jsonb(s) ORDER BY sku) FROM order_engine.stock s),
	(SELECT jsonb_agg(to_jsonb(l) ORDER BY location) FROM order_engine.location l),
	(SELECT jsonb_agg(to_jsonb(h) ORDER BY created_at) FROM order_engine.history h),
	(SELECT jsonb_agg(to_jsonb(e) ORDER BY id) FROM order_engine.outbox e),
	(SELECT jsonb_agg(to_jsonb(m) ORDER BY machine_id) FROM order_engine.machine m WHERE machine_id >= 1000),
	(SELECT jsonb_agg(to_jsonb(e) ORDER BY name) FROM order_engine.endpoint e),
	(SELECT last_value FROM order_engine.id_seq),
	(SELECT count(*) FROM order_engine.verify_stock())};
my $secret = $node->safe_psql('shop', q{SELECT encode(secret, 'hex') FROM order_engine.endpoint_secret});

$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('shop') ], 'pg_dump');
unlike(slurp_file($dump), qr/\Q$secret\E/, 'the dump does not hold the secret');
$offset = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored') ],
	'it is restored');
ok($node->safe_psql("restored", $contents) eq $node->safe_psql("shop", $contents), "with everything that was in it");
wait_for_log('as a copy of another database', $offset);

my $before = $receiver->stats('/hook')->{requests};

$node->call('resume_endpoint', { name => 'hook' }, 'restored');
is($node->safe_psql('restored', 'SELECT order_engine.adopt_database()'), 't', 'it can be adopted on this server');
$node->wait_for_worker('restored');
wait_for_log('endpoint "hook" has no secret', $offset);
is($receiver->stats('/hook')->{requests}, $before, 'without a secret nothing is sent');
$node->call('pause_endpoint', { name => 'hook' }, 'restored');
$receiver->control({ secrets => { '/hook' => $node->call('rotate_secret', { name => 'hook' }, 'restored') } });
$node->call('resume_endpoint', { name => 'hook' }, 'restored');
$receiver->wait_for('/hook', requests => $before + 3);
is($receiver->stats('/hook')->{unique}, 10, 'the three that were waiting are sent, nothing else');
is($receiver->stats('/hook')->{unverified}, 0, 'every signature verified');
$node->stop;

done_testing();
