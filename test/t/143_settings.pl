
# The results of the engine do not depend on the settings of a session, a role or a
# database: the same story comes out the same under each of them, and the worker goes
# on whatever the owner of the database sets for all its sessions.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = OrderEngine->start_new('main', conf => 'order_engine.maintenance_interval = 100ms');
$node->safe_psql('postgres', q{
	CREATE ROLE an_operator LOGIN;
	CREATE ROLE nobody_special;
	GRANT nobody_special TO an_operator;
	SELECT order_engine.grant_access('an_operator', 'operator');
});
my $story = slurp_file('test/lib/every_verb.sql');
my $round = 0;

sub tell_under
{
	my ($user, @settings) = @_;
	my ($stdout, $stderr) = ('', '');
	my $script = "SET client_min_messages = error;\n" . join('', map { "SET $_;\n" } @settings) . $story;

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '-v', 'n=' . ++$round, '-f', '-',
			'-d', $node->connstr('postgres'), '-U', $user ],
		'<', \$script, '>', \$stdout, '2>', \$stderr);
	# another isolation level means that: the worker was at the same row
	return tell_under($user, @settings) if $stderr =~ /ERROR:  40001/ && "@settings" =~ /isolation/;
	return $stdout . $stderr;
}

my $superuser = $node->value('SELECT current_user');
my $expected = tell_under('an_operator');
like($expected, qr/\ndone$/, 'the story');

# ---------- what a session may set

my $parallel = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
my @settings = (
	# what texts mean and how they are written
	[ 'DateStyle = "SQL, DMY"', 'IntervalStyle = sql_standard', "TimeZone = 'Asia/Kathmandu'" ],
	[ 'DateStyle = German', 'IntervalStyle = iso_8601', "TimeZone = 'America/St_Johns'" ],
	[ 'DateStyle = "Postgres, MDY"', 'IntervalStyle = postgres_verbose', "TimeZone = '-167:59'" ],
	[ 'standard_conforming_strings = off', 'escape_string_warning = on', 'backslash_quote = off' ],
		[ 'extra_float_digits = -15', 'bytea_output = escape', 'xmlbinary = hex', 'xmloption = document' ],
	['array_nulls = off'],
	['transform_null_equals = on'],
	['quote_all_identifiers = on'],
	[ 'client_encoding = LATIN1', "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "default_text_search_config = 'simple'" ],
	# plans
	['plan_cache_mode = force_generic_plan'],
	['plan_cache_mode = force_custom_plan'],
	[ 'enable_indexscan = off', 'enable_indexonlyscan = off', 'enable_bitmapscan = off', 'enable_tidscan = off' ],
	[ 'jit = off', 'enable_seqscan = off', 'enable_nestloop = off', 'enable_sort = off', 'enable_material = off' ],
	[ 'enable_hashjoin = off', 'enable_mergejoin = off', 'enable_hashagg = off', 'enable_memoize = off', 'work_mem = 64' ],
	[ $ENV{OE_LONG} ? ('jit = on', 'jit_above_cost = 0', 'jit_inline_above_cost = 0') : (), 'constraint_exclusion = on', 'enable_partition_pruning = off' ],
	[ "$parallel = on", 'parallel_setup_cost = 0', 'parallel_tuple_cost = 0', 'min_parallel_table_scan_size = 0', 'geqo_threshold = 2' ],
	[ 'from_collapse_limit = 1', 'join_collapse_limit = 1', 'cursor_tuple_fraction = 0.0001' ],
	# transactions
	["default_transaction_isolation = 'repeatable read'"],
	[ 'default_transaction_isolation = serializable', 'default_transaction_deferrable = on' ],
	[ 'synchronous_commit = off', 'statement_timeout = 600000', 'lock_timeout = 600000', 'idle_in_transaction_session_timeout = 600000' ],
	# what functions are made of
	[ "search_path = ''" ], [ 'row_security = off', 'check_function_bodies = off', "default_toast_compression = 'pglz'" ],
	[ 'plpgsql.check_asserts = on', "plpgsql.extra_errors = 'all'", "plpgsql.extra_warnings = 'all'", 'plpgsql.print_strict_params = on' ],
	# our own
	[ 'order_engine.payment_attempts = 1', 'order_engine.payment_retry_delay = 0', 'order_engine.authorization_lifetime = 0', 'order_engine.idempotency_wait = off',
		"order_engine.hold_time = '1d'", "order_engine.tenant = 'a tenant'", "order_engine.actor = E'an \"actor\\''" ]);

is(tell_under('an_operator', @$_), $expected, join('; ', @$_)) foreach @settings;

# what only a superuser may set
is(tell_under($superuser, @$_), $expected, join('; ', @$_))
  foreach [ 'session_replication_role = local' ], [ 'plpgsql.variable_conflict = use_column' ], [ 'plpgsql.variable_conflict = use_variable' ], [ "lc_messages = 'C'", 'zero_damaged_pages = on' ],
  [ 'order_engine.idempotency_required = off', 'order_engine.allow_drop = on' ];

# there are no triggers then, so there would be no history
my $order = $node->value(q{SELECT max(order_id) FROM order_engine.orders WHERE state = 'confirmed'});
is($node->error_of("SET session_replication_role = replica; SELECT order_engine.$_")->{sqlstate}, '55000', 'no events without triggers')
  foreach "transition('order', $order, 'cancel')", "cancel_order($order, 'x', '[{\"line_no\": 1, \"quantity\": 1}]')", "place_hold($order, 'x')",
  "transition('return', (SELECT max(return_id) FROM order_engine.order_return), 'close')";
is($node->value('SELECT count(*) FROM order_engine.verify_orders()'), '0', 'nothing was changed');

# what a session may set for the time of a call is no other request
my $again = q{SELECT order_engine.place_order('C', '[{"sku": "A1", "quantity": 1, "unit_price": 1.50}]', 'EUR', terms => 'invoice', hold_for => '1 day 02:03:04.5', idempotency_key => 'again')};
my $first = $node->value("SELECT order_engine.upsert_product('A1', 'x', 1, 'EUR', false)") && $node->value($again);
is($node->value('SET ' . join('; SET ', @$_) . "; $again"), $first, 'the same request: ' . join('; ', @$_)) foreach @settings[ 0 .. 5 ];

# ---------- our settings

is($node->error_of(q{SET default_transaction_read_only = on; SELECT order_engine.emit('test', '1', 'test.event', '{}')})->{sqlstate}, '25006',
	'a read-only transaction writes nothing');
my %context = map { split(/\|/) } split(/\n/, $node->value(q{SELECT name, context FROM pg_settings WHERE name LIKE 'order\_engine.%'}));
cmp_ok(scalar(keys %context), '>', 20, 'settings');
my @absurd = ("'-1'", "'0'", "'999999999999'", "'-9223372036854775809'", "''", "'infinity'", "'1e308'", "'NaN'", 'DEFAULT', "repeat('x', 70000)", "E'a\\nb'", "E'\\x01'",
	"'on'", "'1d'", "'%s%n'", "''''''");
my $attempts = join("\n", map {
	my $name = $_;
	map { s/^repeat.*/"'" . 'x' x 70000 . "'"/er =~ s/^/\\echo $name\nSET $name = /r . ";\nRESET $name;" } @absurd } sort keys %context);
foreach my $user ('an_operator', $superuser)
{
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-f', '-', '-d', $node->connstr('postgres'), '-U', $user ],
		'<', \"$attempts\n\\echo end\n", '>', \$stdout, '2>', \$stderr);
	like($stdout, qr/end$/, 'absurd values');
	unlike($stderr, qr/ERROR:  (?!22023|42501|55P02|42602|22P02|42601)/, "are refused, to $user");
}
foreach my $name (sort keys %context)
{
	# what everybody may set is about himself
	next if $context{$name} eq 'user';
	foreach my $command ("SET $name = DEFAULT", "SELECT set_config('$name', NULL, false)", "ALTER ROLE an_operator SET $name = '1'")
	{
		my ($status, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$command", extra_params => [ '-U', 'an_operator' ]);
		like($stderr, qr/ERROR:  (42501|55P02)/, "not for an operator: $command");
	}
}
is(join(' ', sort grep { $context{$_} eq 'user' } keys %context), join(' ', map { "order_engine.$_" }
	qw(actor authorization_lifetime correlation_id hold_time idempotency_wait order_machine payment_attempts payment_retry_delay tenant traceparent)), 'everybody may set these');

# the ends of their ranges
foreach my $end (qw(min_val max_val))
{
	my @sets = map { "$_->[0] = '$_->[1]'" } map { [ split(/\|/) ] }
	  split(/\n/, $node->value("SELECT name, $end FROM pg_settings WHERE name LIKE 'order\\_engine.%' AND context = 'user' AND $end IS NOT NULL"));
	is(tell_under('an_operator', @sets), $expected, join('; ', @sets));
}

# ---------- what the owner of a database sets does not reach the worker

my $receiver = OrderEngine::Receiver->new;
$receiver->control({ detail => JSON::PP::true() });

# What is delivered, without what differs anyway.
sub deliver
{
	my ($name) = @_;

	$receiver->rules({ path => "/$name", status => 503, attempts => 1 });
	$node->create_endpoint($receiver, $name, event_types => [ 'test.event', 'order.*' ], headers => { 'x-a' => 'b\\\\c "d"' }, format => 'cloudevents', retry_schedule => ['0', '10 ms', '10 ms']);
	my $key = "key $name";
	my $id = $node->value(q{SELECT order_engine.emit('test', 'one', 'test.event', '{"at": "2026-01-02T03:04:05.678+05:45", "n": [1.50, 1e-7, 12345678901234567890.123], "b": "\\\\\\\\x00"}', '{"x": "y"}')});
	my $order = $node->value(q{SELECT order_engine.place_order('C', '[{"sku": "A1", "quantity": 3, "unit_price": 1.10}]', 'EUR', hold_for => '1 s')});
	my $request = $receiver->wait_for_id("/$name", OrderEngine::webhook_id($id));
	$receiver->wait_for("/$name", accepted => 3);
	my @bodies = map { $_->{body} // $_->{id} } $receiver->requests("/$name");
	$node->call('drop_endpoint', { name => $name });
	ok($request->{verified}, "signed for $name");
	# when the order expired is the worker's doing, too
	my $history = $node->value("SELECT event, actor, tenant FROM order_engine.history WHERE order_id = $order ORDER BY seq");
	my $text = join("\n", $history, @bodies) =~ s/[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}/ID/gr
	  =~ s/\b$order\b/ORDER/gr =~ s/20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(Z|\+00:00)/TIME$1/gr;

	# different aggregates go side by side
	return join("\n", sort split(/\n/, $text));
}

my $delivered = deliver('as_ever');
like($delivered, qr{expire\|order_engine.*"n": ?\[1.50}s, "what is delivered");
my $worker = $node->wait_for_worker;
my @for_all = (
	'role = nobody_special', 'session_authorization = nobody_special', 'search_path = public', 'default_transaction_read_only = on',
	'default_transaction_isolation = serializable', 'default_transaction_deferrable = on', 'statement_timeout = 1', 'lock_timeout = 1',
	'idle_in_transaction_session_timeout = 1', 'idle_session_timeout = 1', 'transform_null_equals = on', 'quote_all_identifiers = on', 'standard_conforming_strings = off',
	'"DateStyle" = "SQL, DMY"', '"IntervalStyle" = sql_standard', q{"TimeZone" = 'Asia/Kathmandu'}, 'bytea_output = escape', 'extra_float_digits = -15',
	'exit_on_error = on', 'array_nulls = off', 'work_mem = 64', 'row_security = off', 'client_encoding = SQL_ASCII', 'synchronous_commit = off', 'enable_indexscan = off',
	'enable_indexonlyscan = off', "$parallel = on", 'jit = on', 'jit_above_cost = 0', 'plan_cache_mode = force_custom_plan', 'default_tablespace = nowhere',
	'temp_tablespaces = nowhere', 'check_function_bodies = off', 'backslash_quote = on', 'client_min_messages = debug5', q{order_engine.actor = 'nobody'}, q{order_engine.tenant = 'nobody'},
	q{order_engine.order_machine = 'nobody'}, q{order_engine.correlation_id = 'nobody'}, 'order_engine.payment_attempts = 1', 'order_engine.hold_time = 1');
$node->safe_psql('postgres', "CREATE ROLE owner LOGIN; ALTER DATABASE postgres OWNER TO owner");
my @refused;
foreach my $setting (@for_all)
{
	my ($status, $stdout, $stderr) = $node->psql('template1', "ALTER DATABASE postgres SET $setting", extra_params => [ '-U', 'owner' ]);
	push @refused, $setting if $status != 0;
}
note("not for the owner: @refused");
$node->safe_psql('template1', "ALTER DATABASE postgres SET $_") foreach @refused;
$node->safe_psql('template1', "SELECT pg_terminate_backend($worker)");
{
	# a session of its own is told what to do without
	local $ENV{PGOPTIONS} = join(' ', map { "-c $_" } 'role=none', 'default_transaction_read_only=off', 'statement_timeout=0', 'lock_timeout=0', 'search_path=pg_catalog', 'client_min_messages=notice',
		'default_transaction_isolation=read\\ committed', 'DateStyle=ISO', 'order_engine.order_machine=default', 'order_engine.tenant=', 'order_engine.actor=', 'order_engine.correlation_id=', 'standard_conforming_strings=on',
		'array_nulls=on', 'exit_on_error=off', 'client_encoding=UTF8', 'idle_session_timeout=0', 'idle_in_transaction_session_timeout=0', 'session_authorization=' . $superuser);
	isnt($node->wait_for_worker('postgres', $worker), $worker, 'a worker starts');
	is(deliver('for_all'), $delivered, 'and does the same');
}

done_testing();
