
# Every function of the extension is called with odd arguments, the internal ones
# too, and every trigger function is attached where it does not belong. Whoever
# does that gets an error with an SQLSTATE, and the server goes on.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use PostgreSQL::Test::Utils;
use Test::More;

my $long = $ENV{OE_LONG};
my $node = OrderEngine->start_new('main');
my $top = $ENV{PWD};

sub run_file
{
	my ($file, %variables) = @_;

	$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', (map { ('-v', "$_=$variables{$_}") } keys %variables),
			'-d', $node->connstr('postgres'), '-f', "test/lib/$file" ], $file);
	return;
}

$node->safe_psql('postgres', q{
	CREATE ROLE "odd stranger" LOGIN;
	CREATE ROLE an_operator LOGIN;
	CREATE ROLE an_app LOGIN;
	SELECT order_engine.grant_access('an_operator', 'operator'), order_engine.grant_access('an_app', 'app');
	SELECT order_engine.upsert_location(l, l) FROM unnest('{L1,L2}'::text[]) l;
	SELECT order_engine.upsert_product('A', 'Tea', 10, 'EUR');
	SELECT order_engine.adjust_stock('A', 'L1', 1000, 'start');
	SELECT order_engine.publish_machine(order_engine.define_machine('ticket', 'support', '{"initial": "open",
		"states": {"open": {}, "closed": {"terminal": true}}, "transitions": [{"event": "close", "from": "open", "to": "closed"}]}'));
	SELECT order_engine.create_endpoint('shop', 'https://192.0.2.1/');
	SELECT order_engine.emit('test', i::text, 'test.event', '{}') FROM generate_series(1, 3) i;
	DO $$
	DECLARE
		o bigint := order_engine.place_order('C1', '[{"sku": "A", "quantity": 5}]', 'EUR', terms => 'invoice');
		f bigint;
	BEGIN
		PERFORM order_engine.transition('order', o, 'confirm');
		f := order_engine.create_fulfillment(o, '[{"line_no": 1, "quantity": 2}]', 'L1');
		PERFORM order_engine.transition('fulfillment', f, 'ready');
		PERFORM order_engine.transition('fulfillment', f, 'ship');
		PERFORM order_engine.create_return(o, '[{"line_no": 1, "quantity": 1}]', 'broken');
		PERFORM order_engine.request_payment(o, 'capture', provider => 'gate');
	END $$;
	CREATE EXTENSION postgres_fdw;
});
$node->safe_psql('postgres', sprintf(q{
	CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'postgres');
	CREATE USER MAPPING FOR PUBLIC SERVER itself}, $node->host, $node->port));
run_file('odd_arguments.sql');
run_file('odd_triggers.sql', server => 'itself');
$node->safe_psql('postgres', 'GRANT ALL ON ALL TABLES IN SCHEMA odd TO PUBLIC');
my $before = $node->value('SELECT pg_postmaster_start_time()');
my $tables = q{
	SELECT string_agg(format('%s: %s', c.oid::regclass, (xpath('//c/text()', query_to_xml('SELECT count(*) AS c FROM ' || c.oid::regclass, true, true, '')))[1]), ', ' ORDER BY c.oid)
	FROM pg_class c WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind IN ('r', 'p') AND relname !~ '^position'};
$node->wait_for_worker;
my $rows = $node->value($tables);

# ---------- odd arguments

# Codes that tell of a fault in the code rather than in the call.
my $faults = q{'^(XX|57P|58|08|21|25|26|2F|38|39[^P]|42601|42703|42725|42804|42883|42P18|P0)'};
foreach my $user ('', 'an_operator', 'an_app')
{
	my ($calls, $stderr) = ('', '');

	# an_operator and an_app can only differ in what they are refused
	$node->psql('postgres', 'SELECT odd.call_all(' . ($long ? '' : $user eq '' ? "'.', 0.4" : "'emit|place_order|transition|replay|define_machine', 0.4") . ')',
		stdout => \$calls, stderr => \$stderr, extra_params => [ $user eq '' ? () : ('-U', $user) ]);
	cmp_ok($calls, '>', $long ? 5000 : $user eq '' ? 2000 : 100, 'calls by ' . ($user || 'the superuser')) or diag($stderr);
}
is($node->value("SELECT string_agg(DISTINCT sqlstate || ' ' || signature || ': ' || message, E'\\n') FROM odd.outcome
	WHERE sqlstate ~ $faults "), '', 'none of them ended in a fault of the code');
is($node->value("SELECT string_agg(DISTINCT signature, ' ') FROM odd.outcome WHERE sqlstate ~ '^(22000|P0001)'"), '', 'nor without an SQLSTATE that tells');
note($node->value("SELECT string_agg(sqlstate || ' ' || n, ', ' ORDER BY n DESC) FROM (SELECT sqlstate, count(*) AS n FROM odd.outcome GROUP BY 1) s"));

# as deep as the server's own stack lets a value become
is($node->value(q{SELECT string_agg(DISTINCT (odd.attempt(format(call, n))).code, ' ') FROM generate_series(1500, 15000, 1500) n, unnest(ARRAY[
	$$SELECT order_engine.emit('test', '1', 'test.event', (repeat('{"a":', %1$s) || '1' || repeat('}', %1$s))::jsonb, idempotency_key => 'deep')$$,
	$$SELECT order_engine.place_order('C', '[{"sku": "A", "quantity": 1}]', 'EUR', metadata => (repeat('{"a":', %1$s) || '1' || repeat('}', %1$s))::jsonb, idempotency_key => 'deep')$$,
	$$SELECT order_engine.place_order('C', (repeat('[', %1$s) || repeat(']', %1$s))::jsonb, 'EUR')$$,
	$$SELECT order_engine.define_machine('ticket', 'deep', (repeat('{"states":', %1$s) || '1' || repeat('}', %1$s))::jsonb)$$]) call}) =~ s/22023 ?|54001//gr,
	'', 'deep values are taken or refused');

# ---------- triggers

my $fraction = $long ? 1 : 0.1;
cmp_ok($node->value("SELECT setseed(0.5); SELECT odd.attach_all($fraction)") =~ s/^\s+//r, '>', 200, 'triggers attached');
is($node->value("SELECT string_agg(sqlstate || ' ' || attached || '; ' || command || ': ' || message, E'\\n') FROM odd.trigger_outcome
	WHERE sqlstate !~ '^(ODD00|OE...|0A000|22023|22P02|23502|23505|27000|39P01|42703|42809|428C9|42P10|5500[06])\$'"), '', 'none of them ended in a fault of the code');
cmp_ok($node->value("SELECT count(*) FROM odd.trigger_outcome WHERE sqlstate = '39P01'"), '>', 300, 'most of them misuse a function');
is($node->value("SELECT string_agg(DISTINCT substring(attached FROM 'FUNCTION (\\S+)\\('), ' ') FROM odd.trigger_outcome
	WHERE sqlstate = 'ODD00' AND attached !~ 'state_machine'
		AND (attached !~ ' UPDATE OF state ' OR command ~ 'SET state')		-- it was fired
	"), 'order_engine.endpoint_changed', 'only one that announces changes can be anywhere')
  if $long;

# a table without storage of its own
is($node->error_of(q{BEGIN; CREATE TRIGGER t BEFORE TRUNCATE ON odd.parts EXECUTE FUNCTION order_engine.truncate_guard(); TRUNCATE odd.parts})->{sqlstate},
	'39P01', 'truncate_guard() at a partitioned table');

# ---------- trigger functions called as functions

foreach my $function (split(/\n/, $node->value('SELECT name FROM odd.trigger_function')))
{
	is($node->error_of("SELECT $function()")->{sqlstate}, '39P01', "$function is called");
	is($node->error_of("SELECT $function() FROM pg_class")->{sqlstate}, '39P01', 'for rows');
	is($node->error_of("CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION $function()")->{sqlstate}, '42P17', 'or as an event trigger');
}

# ---------- nothing happened

is($node->value('SELECT pg_postmaster_start_time()'), $before, 'the server runs');
is($node->value($tables), $rows, 'and nothing was changed');
is($node->value('SELECT count(*) FROM order_engine.verify_stock()'), '0', 'stock is right');
is($node->value('SELECT count(*) FROM order_engine.verify_orders()'), '0', 'orders are right');

done_testing();
