
# A stranger may make objects in public, in a schema of his own and temporary ones.
# He plants there what looks like the server's own functions, operators, types and
# tables, before and after the extension comes. Nothing of that ever runs, whoever
# calls the verbs and whatever his search_path is, and the verbs give the same results.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = OrderEngine->start_new('main', databases => [], conf => "order_engine.databases = 'shop, restored'\nlog_statement = none\n");
my $receiver = OrderEngine::Receiver->new;
my $lure = 'mallory, public, pg_catalog';
my $log_seen = 0;
my $round = 0;

# What an ordinary session, that cannot be lured, gets from a query.
sub plain
{
	my ($query, $database) = @_;
	local $ENV{PGOPTIONS} = '-c search_path=pg_catalog';

	return $node->safe_psql($database // 'shop', $query);
}

# Runs a file or queries as somebody with a search_path that leads astray.
sub lured
{
	my ($user, $script, %options) = @_;
	my ($stdout, $stderr) = ('', '');
	local $ENV{PGOPTIONS} = '-c search_path=' . (($options{path} // $lure) =~ s/ /\\ /gr);

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=' . ($options{go_on} ? 0 : 1), '-v', 'VERBOSITY=verbose',
			'-v', 'n=' . ++$round, '-f', '-', '-d', $node->connstr($options{database} // 'shop'), $user eq '' ? () : ('-U', $user) ],
		'<', \$script, '>', \$stdout, '2>', \$stderr);
	return ($stdout, $stderr);
}

sub trapped
{
	my $log = slurp_file($node->logfile, $log_seen);

	$log_seen += length($log);
	my %seen = map { $_ => 1 } $log =~ /^.*?WARNING:.*?(TRAPPED .*)$/mg;
	return join("\n", sort keys %seen);
}

# ---------- before the extension is there

$node->safe_psql('postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE an_app LOGIN;
	CREATE ROLE an_operator LOGIN;
	CREATE DATABASE trap;
});
$node->safe_psql('trap', q{
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	GRANT CREATE ON DATABASE trap TO mallory;
	GRANT ALL ON SCHEMA public TO PUBLIC;
	GRANT USAGE ON SCHEMA mallory TO PUBLIC;
});
{
	local $ENV{PGOPTIONS} = '-c search_path=pg_catalog';
	$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-U', 'mallory', '-d', $node->connstr('trap'), '-f', 'test/lib/traps.sql' ], 'traps');
}
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE trap; GRANT CREATE, TEMP ON DATABASE $_ TO mallory, an_app, an_operator;"
	. " ALTER DATABASE $_ SET search_path = $lure") foreach qw(shop restored);
trapped();
lured('an_app', q{SELECT now(); SELECT 'a'::pg_catalog.text || 'b'; SELECT '{}'::jsonb; TABLE pg_class; SELECT count(*);}, go_on => 1);
like(trapped(), qr/aggregate.*function now\(\).*operator \|\|.*table pg_class.*type jsonb/s, 'who does not say what he means is trapped');

my ($stdout, $stderr) = lured('mallory', q{
	CREATE SCHEMA order_engine;
	CREATE TABLE order_engine.orders (order_id bigint);
	CREATE FUNCTION order_engine.next_id() RETURNS bigint LANGUAGE sql AS 'SELECT public.trapped(''next_id'')::integer::bigint';
});
is($stderr, '', 'the schema is taken');
($stdout, $stderr) = lured('', 'CREATE EXTENSION order_engine;');
like($stderr, qr/ERROR:  42P06: schema "order_engine" already exists/, 'CREATE EXTENSION does not use what it did not make');
is(plain(q{SELECT count(*) FROM pg_extension WHERE extname = 'order_engine'}), '0', 'so there is none');
($stdout, $stderr) = lured('mallory', 'DROP SCHEMA order_engine CASCADE;');

# settings of the extension, before and after its library is there
foreach my $setting ('allow_drop = on', 'allow_http = on', "databases = 'x'", 'idempotency_required = on', 'shard_id = 7', 'workers = 9', "secret_key_file = '/etc/passwd'")
{
	($stdout, $stderr) = lured('mallory', "ALTER ROLE mallory SET order_engine.$setting;");
	like($stderr, qr/ERROR:  (42501|55P02)/, "a stranger cannot set $setting for his sessions");
	($stdout, $stderr) = lured('mallory', "SET order_engine.$setting;");
	like($stderr, qr/ERROR:  (42501|55P02)/, 'nor in one');
}

($stdout, $stderr) = lured('', 'CREATE EXTENSION order_engine;');
is($stderr, '', 'the extension is created');
is(trapped(), '', 'and ran nothing planted');
($stdout, $stderr) = lured('', q{
	SELECT order_engine.grant_access('an_app', 'app');
	SELECT order_engine.grant_access('an_operator', 'viewer');
	SELECT order_engine.revoke_access('an_operator');
	SELECT order_engine.grant_access('an_operator', 'operator');
});
is($stderr, '', 'access is granted');
is(trapped(), '', 'and nothing planted ran');

# what looks like the extension's own objects
($stdout, $stderr) = lured('mallory', plain(q{
	SELECT CASE WHEN to_regclass('public.' || relname) IS NULL THEN format('CREATE TABLE public.%I (trap integer); GRANT ALL ON public.%1$I TO PUBLIC;', relname) ELSE '' END
	FROM pg_class WHERE relnamespace = 'order_engine'::regnamespace AND relkind IN ('r', 'v', 'p')
	UNION ALL
	SELECT format('CREATE FUNCTION public.%I(%s) RETURNS integer LANGUAGE plpgsql AS $$BEGIN PERFORM public.trapped(%L); RETURN 1; END$$;',
		proname, array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS a (t, n) ORDER BY n), ', '), proname)
	FROM pg_proc WHERE pronamespace = 'order_engine'::regnamespace AND prorettype <> ALL ('{trigger,event_trigger}'::regtype[])
		AND NOT EXISTS (SELECT FROM pg_proc o WHERE o.pronamespace = 'public'::regnamespace AND o.proname = pg_proc.proname)
		AND proargtypes::oid[] && ARRAY(SELECT t.oid FROM pg_type t WHERE t.typnamespace = 'order_engine'::regnamespace) = false}));
is($stderr, '', 'namesakes of what the extension has');

# ---------- every verb, by everybody

my $story = slurp_file('test/lib/every_verb.sql');
my @missing = grep { $story !~ /order_engine\.$_\(/ } split(/\n/, plain(q{
	SELECT object FROM order_engine.access_rule WHERE kind = 'function' ORDER BY 1}));
# the first two below, and the others behind views
is(join(' ', @missing), 'attach_machine database_identity detach_machine endpoint_health has_worker left_by_express outbox_leaf_holders position_backlog start_worker state_machine uuid_time worker_counters',
	'every verb is called');
my ($expected, $errors) = lured('', $story, path => 'pg_catalog');
is($errors, '', 'as it should be');
like($expected, qr/\ndone$/, 'all of it');

my $own_temp = q{
	SET client_min_messages = error;
	CREATE TEMP TABLE order_engine_undelivered (id integer);
	CREATE TEMP TABLE outbox (id integer);
	CREATE TEMP TABLE orders (id integer);
	CREATE TEMP TABLE endpoint (id integer);
	CREATE TEMP TABLE pg_class (id integer);
	CREATE TEMP TABLE pg_proc (id integer);
	CREATE TEMP VIEW pg_roles AS SELECT public.trapped('pg_roles') AS oid;
	CREATE DOMAIN pg_temp.xid8 AS pg_catalog.text CHECK (public.trapped('xid8'));
	CREATE DOMAIN pg_temp.jsonb AS pg_catalog.jsonb CHECK (public.trapped('jsonb'));
	CREATE DOMAIN pg_temp.pg_snapshot AS pg_catalog.text CHECK (public.trapped('pg_snapshot'));
	RESET client_min_messages;
};
trapped();
foreach my $who ([ '', 'a superuser' ], [ 'an_operator', 'an operator' ])
{
	foreach my $path ($lure, 'pg_temp, mallory, public')
	{
		my ($got, $stderr) = lured($who->[0], ($path =~ /temp/ ? $own_temp : '') . $story, path => $path);

		is($stderr, '', "$who->[1] with $path gets no error");
		is($got, $expected, 'and the same results');
		is(trapped(), '', 'and nothing planted ran');
	}
}

# what the rest of an application does: an app, views, UPDATEs by hand, DDL
my $views = join('', map { "\\o /dev/null\nTABLE order_engine.$_;\n\\o\n" } split(/\n/,
		plain(q{SELECT relname FROM pg_class WHERE relnamespace = 'order_engine'::regnamespace AND relkind = 'v'})));
my $by_hand = $views . q{
	SELECT order_engine.upsert_product('B', 'Tea', 1, 'EUR', false) \gset
	SELECT order_engine.place_order('C', '[{"sku": "B", "quantity": 2}]', 'EUR', terms => 'invoice') AS o \gset
	SELECT order_engine.request_payment(:o, 'capture') AS t \gset
	SELECT order_engine.record_payment(:t, 'failure', 'x', details => '{"final": true}') \gset
	UPDATE order_engine.orders SET region = 'north' WHERE order_id OPERATOR(pg_catalog.=) :o;
	UPDATE order_engine.orders SET state = 'confirmed' WHERE order_id OPERATOR(pg_catalog.=) :o;
	SELECT order_engine.create_fulfillment(:o) AS f \gset
	UPDATE order_engine.fulfillment SET state = 'ready' WHERE fulfillment_id OPERATOR(pg_catalog.=) :f;
	UPDATE order_engine.fulfillment SET state = 'shipped' WHERE fulfillment_id OPERATOR(pg_catalog.=) :f;
	SELECT order_engine.create_return(:o, '[{"line_no": 1, "quantity": 1}]', 'broken') AS r \gset
	UPDATE order_engine.order_return SET state = 'approved' WHERE return_id OPERATOR(pg_catalog.=) :r;
	UPDATE order_engine.stock SET backorder_limit = 9 WHERE location OPERATOR(pg_catalog.=) 'L2';
	UPDATE order_engine.endpoint SET max_in_flight = 9;
	SELECT order_engine.publish_machine(order_engine.define_machine('ticket', 'support', '{"initial": "open",
		"states": {"open": {}, "closed": {"terminal": true}}, "transitions": [{"event": "close", "from": "open", "to": "closed"}]}'));
	CREATE TABLE mallory."a"";'--\" ("i""d" bigint, "s""'\" pg_catalog.varchar, "v'" bigint NOT NULL DEFAULT 0);
	SELECT order_engine.attach_machine('mallory."a"";''--\"', 'ticket', 'support', 's"''\', 'i"d', 'v''');
	INSERT INTO mallory."a"";'--\" VALUES (1, 'open');
	UPDATE mallory."a"";'--\" SET "s""'\" = 'closed';
	SELECT "v'" FROM mallory."a"";'--\";
	SELECT order_engine.detach_machine('mallory."a"";''--\"');
	DROP TABLE mallory."a"";'--\";
	CREATE TABLE mallory.t (i integer);
	ALTER TABLE mallory.t ALTER i TYPE bigint;
	DROP TABLE mallory.t;
	SELECT state FROM order_engine.orders WHERE order_id OPERATOR(pg_catalog.=) :o;
};
($stdout, $stderr) = lured('', $by_hand);
is($stderr, '', 'by hand');
like($stdout, qr/^1\n(?:.*\n)*confirmed$/m, 'all as it should be');
foreach my $refused ('DROP EXTENSION order_engine', 'DROP SCHEMA order_engine CASCADE', 'TRUNCATE order_engine.orders CASCADE', 'ALTER EXTENSION order_engine DROP TABLE order_engine.orders',
	'ALTER TABLE order_engine.orders ALTER region TYPE pg_catalog.varchar')
{
	($stdout, $stderr) = lured('', "$refused;");
	like($stderr, qr/ERROR:  (55006|2BP01|0A000)/, "refused: $refused");
}
($stdout, $stderr) = lured('an_app', q{
	CREATE TEMP TABLE orders (id integer);
	SELECT order_engine.place_order('C', '[{"sku": "B", "quantity": 2}]', 'EUR', idempotency_key => 'mine') AS o \gset
	SELECT order_engine.order_json(:o) AS j \gset
	SELECT order_engine.allowed_events('order', :o);
	SELECT order_engine.transition('order', :o, 'cancel');
});
is($stderr, '', 'an app');
is(trapped(), '', 'nothing planted ran');

# ---------- the worker, in a database that leads its sessions astray

my $pid = $node->wait_for_worker('shop');
{
	local $ENV{PGOPTIONS} = '-c search_path=pg_catalog';
	$node->create_endpoint($receiver, 'stranger', database => 'shop');
	my $id = $node->emit('one', database => 'shop');
	ok($receiver->wait_for_id('/stranger', $id)->{verified}, 'the worker delivers');
	$receiver->rules({ path => '/stranger', status => 503, attempts => 1 });
	$id = $node->emit('two', database => 'shop');
	ok($receiver->wait_for_id('/stranger', $id), 'and repeats');
	plain(q{UPDATE order_engine.orders SET expires_at = now() - interval '1 day' WHERE expires_at IS NOT NULL AND state = 'pending'});
	plain(q{SELECT order_engine.place_order('C', '[{"sku": "B", "quantity": 2}]', 'EUR', hold_for => '1 s')});
	$node->wait_for_value(q{SELECT count(*) FROM order_engine.orders WHERE state = 'pending'}, '0', 'shop');
	is($node->worker_pid('shop'), $pid, 'all by one worker');
}
is(trapped(), '', 'which ran nothing planted');

# ---------- a dump, restored where he was before

my $dump = $node->basedir . '/shop.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('shop'), '-f', $dump, '-N', 'public', '-N', 'mallory' ], 'pg_dump');
plain('DROP CAST (public.mine AS jsonb); DROP CAST (text AS public.mine)', 'restored');	# as the dump has them
($stdout, $stderr) = lured('', "\\i $dump\n", database => 'restored');
is($stderr, '', 'restored');
($stdout, $stderr) = lured('', q{
	SELECT order_engine.adopt_database();
	SELECT order_engine.verify_orders();
	SELECT order_engine.verify_stock();
	SELECT order_engine.drop_endpoint('stranger');
}, database => 'restored');
is($stderr, '', 'adopted');
is($stdout =~ s/\n+$//r, "t\nstranger", 'as it should be');
plain(q{UPDATE order_engine.endpoint SET owner = '1/1/x'});
($stdout, $stderr) = lured('an_operator', $own_temp =~ s/.*order_engine_undelivered.*\n//r . 'SELECT order_engine.adopt_database();', path => 'pg_temp, mallory, public');
is($stderr, '', 'an operator adopts the copy of another server');
is($stdout, "t\n", 'which it was');
is(trapped(), '', 'nothing planted ran');
is(plain("SELECT (SELECT count(*) FROM order_engine.verify_orders()) + (SELECT count(*) FROM order_engine.verify_stock())"), '0', 'all is right');

# ---------- guards that want more than to be asked

plain(q{
	CREATE SCHEMA guards AUTHORIZATION an_operator;
	SET ROLE an_operator;
	CREATE FUNCTION guards.ask(id bigint) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE current_setting('guards.command');
		RETURN NULL;
	END $$;
	CREATE FUNCTION guards.tell(command text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('guards.command', command, true);
		PERFORM order_engine.transition('order', (SELECT max(order_id) FROM order_engine.orders WHERE state = 'pending'), 'accept');
		RAISE EXCEPTION USING ERRCODE = 'DONE0';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;
	SELECT order_engine.publish_machine(order_engine.define_machine('order', 'guarded', '{"initial": "new",
		"states": {"new": {}, "pending": {"limit": "1 s", "on_limit": "accept"}, "done": {"terminal": true}},
		"transitions": [{"event": "place", "from": "new", "to": "pending"}, {"event": "accept", "from": "pending", "to": "done", "guards": ["guards.ask"]}]}'));
	SET order_engine.order_machine = 'guarded';
	SELECT order_engine.place_order('C', '[{"sku": "B", "quantity": 2}]', 'EUR', hold_for => '1 day');
	RESET ROLE;
	GRANT USAGE ON SCHEMA guards TO PUBLIC;
});
is(plain(q{SELECT guards.tell($$SELECT 1 / (current_user = 'an_operator')::integer$$)}), 'DONE0', 'a guard is asked as its owner');
foreach my $command (
	'SET ROLE postgres', 'RESET ROLE', 'SET SESSION AUTHORIZATION DEFAULT', 'SET LOCAL session_replication_role = replica', 'SET order_engine.allow_drop = on',
	'ALTER ROLE an_operator SUPERUSER', 'CREATE TEMP TABLE t ()', 'PREPARE p AS SELECT 1', 'DEALLOCATE ALL', 'LISTEN x', 'DISCARD PLANS', "LOAD 'order_engine'", 'CHECKPOINT',
	"COPY (SELECT 1) TO PROGRAM 'true'", q{SELECT order_engine.grant_access('mallory', 'operator')}, q{SELECT order_engine.next_id()},
	q{UPDATE order_engine.orders SET region = 'x'}, q{SELECT order_engine.run_maintenance()}, q{SELECT order_engine.place_order('C', '[{"sku": "B", "quantity": 1}]', 'EUR')},
	q{SELECT order_engine.adjust_stock('B', 'L1', 1, 'x')}, q{SELECT order_engine.create_endpoint('guard', 'https://192.0.2.1/')},
	q{SELECT * FROM order_engine.allowed_events('order', (SELECT max(order_id) FROM order_engine.orders WHERE state = 'pending'))}, 'COMMIT', 'SAVEPOINT s')
{
	unlike(plain('SELECT guards.tell(' . ($command =~ s/'/''/gr =~ s/^/'/r) . "')"), qr/^(DONE0|XX|08|57P)/, "nor can it $command");
}
is(plain(q{SELECT order_engine.emit('a', 'b', 'c.d', '{}') IS NOT NULL}), 't', 'and the session goes on');
is(plain(q{SELECT count(*) FROM order_engine.endpoint WHERE name = 'guard'}), '0', 'nothing was done');

# ---------- settings before the library is loaded, where it is not preloaded

$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
my $settings = q{
	SET order_engine.allow_drop = on;
	SET order_engine.allow_http = off;
	SET order_engine.idempotency_required = on;
	SET order_engine.shard_id = 7;
	SET order_engine.allow_cidrs = '0.0.0.0/0';
	SET order_engine.secret_key_file = '/etc/passwd';
	SET order_engine.retention = 1;
	SET order_engine.actor = 'me';
	SELECT order_engine.was_replayed();
	SHOW order_engine.allow_drop; SHOW order_engine.allow_http; SHOW order_engine.idempotency_required; SHOW order_engine.shard_id;
	SHOW order_engine.retention; SHOW order_engine.actor;
};
($stdout, $stderr) = lured('an_app', $settings, path => 'pg_catalog', go_on => 1);
is($stdout, "f\noff\non\noff\n0\n3d\nme\n", 'a setting that comes before the library gives nobody more than one that comes after it');
unlike($stderr, qr/FATAL|XX000|server closed/, 'and breaks nothing');

done_testing();
