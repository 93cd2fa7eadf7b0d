
# A hot standby: whatever reads runs there for the operator and shows what it
# shows on the primary; whatever writes is refused with an error that says so;
# nothing of order_engine runs in the background.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = OrderEngine->start_new('main', conf => "wal_level = replica\nmax_wal_senders = 5\n");
my $receiver = OrderEngine::Receiver->new;

$node->create_endpoint($receiver, 'hook', retry_schedule => ['10 ms'], event_types => ['test.*']);
$receiver->rules({ path => '/hook', aggregateid => 'poison', status => 500 });
$node->emit('poison');
$node->emit_many("'a'", 1, 20);
$receiver->wait_for('/hook', accepted => 20);
$node->wait_for_value('SELECT count(*) FROM order_engine.dead_letter', '1');
$node->call('pause_endpoint', { name => 'hook' });
$node->emit_many("'a'", 21, 25);
$node->safe_psql('postgres', q{
	SELECT order_engine.upsert_product('A', 'A', 1, 'EUR'), order_engine.adjust_stock('A', 'default', 10, 'test');
	SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR', terms => 'invoice') AS id \gset
	SELECT order_engine.request_payment(:id, 'authorization', 1), order_engine.place_hold(:id, 'fraud');
	CREATE ROLE operator LOGIN;
	CREATE TABLE ticket (id int PRIMARY KEY, state text);
	ALTER TABLE ticket OWNER TO operator;
	SELECT order_engine.grant_access('operator', 'operator');
});
$node->wait_for_value(q{SELECT order_engine.undelivered('hook')}, '5');
$node->backup('copy');

my $standby = OrderEngine->new('standby');

$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', "wal_receiver_status_interval = 1\n");
$standby->start;

#
# What reads
#
my @objects = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', q{
	SELECT r.object, string_agg(a.attname, ',' ORDER BY a.attnum)
	FROM order_engine.access_rule r JOIN pg_attribute a ON a.attrelid = ('order_engine.' || r.object)::regclass AND a.attnum > 0
	WHERE r.kind = 'table' AND r.level = 'operator' AND NOT a.attisdropped
	GROUP BY r.object ORDER BY r.object COLLATE "C"});

cmp_ok(scalar @objects, '>', 20, 'there are tables and views of the operator');

# what depends on the moment, or on the worker, which the standby does not have
my %moment = (
	endpoint_status => [qw(lag state since advice breaker in_flight attempts delivered failed)],
	outbox_ring_status => ['size']);

$node->wait_for_catchup($standby);
foreach my $object (@objects)
{
	my ($name, $columns) = @$object;
	my $but = join('', map { " - '$_'" } @{ $moment{$name} // [] });
	my $sql = "SET ROLE operator; SELECT to_jsonb(v) $but FROM order_engine.$name v ORDER BY 1";

	if ($name eq 'stat_worker')
	{
		is($standby->safe_psql('postgres', $sql), '', 'stat_worker: there is none');
		next;
	}
	is($standby->safe_psql('postgres', $sql), $node->safe_psql('postgres', $sql), $name);
}
is($standby->value('SELECT state FROM order_engine.endpoint_status'), 'standby', 'its state says that it is a standby');
isnt($standby->value('SELECT order_engine.database_identity()'), $node->value('SELECT order_engine.database_identity()'),
	'it has an identity of its own');
foreach my $call (
	q{order_engine.undelivered('hook')}, q{count(*) FROM order_engine.verify_orders()},
	q{count(*) FROM order_engine.verify_stock()}, q{order_engine.order_json(order_id) FROM order_engine.orders},
	q{order_engine.allowed_events('order', order_id) FROM order_engine.orders},
	q{md5(order_engine.machine_diagram(1))}, q{order_engine.was_replayed()})
{
	my $sql = "SET ROLE operator; SELECT $call";

	is($standby->safe_psql('postgres', $sql), $node->safe_psql('postgres', $sql), $call);
}

#
# What writes: every function that may be called by anyone, with arguments that
# would do something. One that is new and not here is called with nulls.
#
my $order = '(SELECT order_id FROM order_engine.orders)';
my %arguments = (
	adjust_stock => q{'A', 'default', 1, 'test'},
	adopt_database => q{},
	alter_endpoint => q{'hook', max_in_flight => 5},
	attach_machine => q{'ticket', 'ticket', 'own', 'state', 'id'},
	cancel_order => qq{$order, 'test'},
	create_endpoint => q{'other', 'https://example.com/'},
	create_fulfillment => qq{$order, '[{"line_no": 1, "quantity": 1}]'},
	create_return => qq{$order, '[{"line_no": 1, "quantity": 1}]', 'test'},
	define_machine => q{'ticket', 'own', '{"initial": "a", "states": {"a": {}, "b": {"terminal": true}}, "transitions": [{"event": "go", "from": "a", "to": "b"}]}'},
	detach_machine => q{'ticket'},
	discard_dead_letters => q{'hook'},
	drop_endpoint => q{'hook'},
	emit => q{'test', '1', 'test.event', '{}'},
	expire_reservations => q{10},
	force_transition => qq{'order', $order, 'cancel', 'because'},
	pause_endpoint => q{'hook'},
	place_hold => qq{$order, 'fraud'},
	place_order => q{'c', '[{"sku": "A", "quantity": 2}]', 'EUR'},
	publish_machine => q{(SELECT max(machine_id) FROM order_engine.machine)},
	record_payment => q{(SELECT min(transaction_id) FROM order_engine.payment_transaction), 'success'},
	redrive => q{'hook'},
	reencrypt_secrets => q{},
	refund => qq{$order, 1},
	release_hold => q{(SELECT hold_id FROM order_engine.order_hold)},
	release_stock => q{(SELECT min(reservation_id) FROM order_engine.reservation)},
	replay => q{'hook', '-infinity'::timestamptz, 'infinity'::timestamptz},
	request_payment => qq{$order, 'authorization', 1},
	reserve_stock => q{'[{"sku": "A", "quantity": 1}]'},
	resume_endpoint => q{'hook'},
	rotate_secret => q{'hook'},
	run_maintenance => q{},
	send_test_event => q{'hook'},
	set_backorder_limit => q{'A', 'default', 5},
	set_channel_locations => q{'web', '{default}'},
	set_safety_stock => q{'A', 'default', 5},
	set_slots => q{'A', 'default', 4},
	start_worker => q{},
	transfer_stock => q{'A', 'default', 'north', 1, 'test'},
	transition => qq{'order', $order, 'cancel'},
	upsert_location => q{'north', 'North'},
	upsert_product => q{'B', 'B', 1, 'EUR'});

# they only read, or are there for a trigger
my %reads = map { $_ => 1 } qw(allowed_events database_identity endpoint_health has_worker machine_diagram order_json
	outbox_leaf_holders position_backlog state_machine undelivered uuid_time verify_orders verify_stock was_replayed worker_counters);
my %given = map { $_ => 1 } grep { defined $arguments{$_} } keys %arguments;
my @verbs = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', q{
	SELECT p.proname, p.pronargs - p.pronargdefaults, p.oid::regprocedure,
		(SELECT string_agg('NULL::' || format_type(t, NULL), ', ' ORDER BY n)
		 FROM unnest(p.proargtypes) WITH ORDINALITY AS u (t, n))
	FROM order_engine.access_rule r JOIN pg_proc p ON p.proname = r.object AND p.pronamespace = 'order_engine'::regnamespace
	WHERE r.kind = 'function' ORDER BY p.proname COLLATE "C", p.oid});
my (%state_of, %refused);

cmp_ok(scalar @verbs, '>', 40, 'there are functions');
foreach my $verb (@verbs)
{
	my ($name, $nargs, $signature, $nulls) = @$verb;

	next if $reads{$name};
	foreach my $list ($arguments{$name}, $nulls // '')
	{
		next if !defined $list;

		my ($status, $stdout, $stderr) = $standby->psql('postgres',
			"\\set VERBOSITY verbose\nSET ROLE operator; SELECT order_engine.$name($list)");
		my ($code) = $stderr =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;

		$code //= $status == 0 ? 'none' : $stderr;
		if ($list eq ($arguments{$name} // ''))
		{
			is($code, '25006', "$name is refused") or diag($stderr);
		}
		else
		{
			# whatever it says of nulls: a function that is strict does nothing
			unlike($code, qr/^XX|^57|^08/, "$signature with nulls does no harm") or diag($stderr);
		}
	}
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM order_engine.outbox'),
	$standby->safe_psql('postgres', 'SELECT count(*) FROM order_engine.outbox'), 'the standby is as it was');

# transactions that the server itself would let run longer
foreach my $sql (q{DO $$ BEGIN PERFORM order_engine.emit('test', '1', 'test.event', '{}'); END $$},
	q{BEGIN; SELECT order_engine.emit('test', '1', 'test.event', '{}')})
{
	is($standby->error_of($sql)->{sqlstate}, '25006', 'refused: ' . substr($sql, 0, 5));
}
like($standby->error_of(q{SELECT order_engine.emit('test', '1', 'test.event', '{}')})->{message},
	qr/read-only transaction|during recovery/, 'the message says why');

#
# Nothing runs
#
my $none = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'order_engine%'};

is($standby->value($none), '0', 'no launcher and no worker');
foreach my $setting ("order_engine.databases = 'postgres, template1'", 'order_engine.workers = 4',
	"order_engine.poll_interval = '50ms'", 'order_engine.max_in_flight = 10', "order_engine.retention = '1 min'")
{
	$standby->append_conf('postgresql.conf', $setting);
}
$standby->reload;
$standby->wait_for_value('SHOW order_engine.workers', '4');
is($standby->error_of('SELECT order_engine.start_worker()')->{sqlstate}, '25006', 'start_worker() is refused');
is($standby->value($none), '0', 'settings do not change that');

# a standby whose backend is killed begins anew, and is a standby still
my $session = $standby->session;
my $pid = $session->query('SELECT pg_backend_pid()');

$standby->append_conf('postgresql.conf', 'restart_after_crash = on');
$standby->reload;
kill('KILL', $pid) == 1 or die;
poll_until('the backend to be gone', sub { !kill(0, $pid) });
$standby->wait_until_up;
is($standby->value($none), '0', 'nor does a crash');
$node->emit_many("'b'", 1, 3);
$node->call('resume_endpoint', { name => 'hook' });
$receiver->wait_for('/hook', accepted => 28);
$node->wait_for_catchup($standby);
is($standby->value(q{SELECT count(*) FROM order_engine.outbox WHERE aggregateid = 'b'}), '3', 'it follows its primary');
is($receiver->stats('/hook')->{duplicates}, 0, 'nothing came from the standby');
unlike(slurp_file($standby->logfile), qr/order_engine (?:worker|launcher)|PANIC|TRAP|terminated by signal (?:6|11)/,
	'and its log does not speak of workers');
$standby->stop;
$node->stop;

done_testing();
