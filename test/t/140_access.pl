
# Who may do what: every function, table, view and sequence of the extension, as
# the catalog lists them, is really used by each access level and by strangers.
# What they may is what sql/90_access.sql says, and nothing else.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = OrderEngine->start_new('main', worker => 0);
my @levels = qw(viewer app operator);
my %rank = (viewer => 1, app => 2, operator => 3);
my %role = (viewer => 'a viewer', app => 'An "app"', operator => "the operator's \$\$; --", none => 'stranger', usage => 'passer-by');

sub ident
{
	my ($name) = @_;

	return '"' . ($name =~ s/"/""/gr) . '"';
}

sub literal
{
	my ($text) = @_;

	return "'" . ($text =~ s/'/''/gr) . "'";
}

sub role_literal
{
	my ($level) = @_;

	return literal(ident($role{$level}));
}

sub rows
{
	my ($query) = @_;

	return map { [ split(/\|/, $_, -1) ] } split(/\n/, $node->safe_psql('postgres', $query));
}

# All privileges on what is in the schema, whoever has them.
my $privileges = q{
	WITH object AS (
		SELECT c.oid::regclass::text AS name, c.relowner AS owner, a.*
		FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
		WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
		UNION ALL
		SELECT p.oid::regprocedure::text, p.proowner, a.*
		FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		WHERE p.pronamespace = 'order_engine'::regnamespace
		UNION ALL
		SELECT n.nspname, n.nspowner, a.*
		FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
		WHERE n.nspname = 'order_engine'
		UNION ALL
		SELECT c.attrelid::regclass || '.' || c.attname, t.relowner, a.*
		FROM pg_attribute c JOIN pg_class t ON t.oid = c.attrelid, aclexplode(c.attacl) a
		WHERE t.relnamespace = 'order_engine'::regnamespace)
	SELECT name, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END AS grantee, privilege_type, is_grantable
	FROM object WHERE grantee <> owner};

sub privileges
{
	my ($condition) = @_;

	return $node->safe_psql('postgres', "SELECT * FROM ($privileges) p WHERE $condition ORDER BY 1, 2, 3");
}

my $as_created = privileges('true');
is($as_created, '', 'as created, nobody but the owner has a privilege');

foreach my $level (sort keys %role)
{
	$node->safe_psql('postgres', sprintf('CREATE ROLE %s LOGIN; GRANT CREATE, TEMP ON DATABASE postgres TO %1$s;'
		. ' CREATE SCHEMA %1$s AUTHORIZATION %1$s', ident($role{$level})));
	$node->call('grant_access', { role => \role_literal($level), level => $level }) if $rank{$level};
}
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA order_engine TO ' . ident($role{usage}));

# something of everything, with a mark where a person is
$node->safe_psql('postgres', q{
	SET order_engine.actor = 'MARK actor';
	SET order_engine.correlation_id = 'MARK correlation';
	SELECT order_engine.upsert_location('L1', 'One');
	SELECT order_engine.upsert_product('A', 'Tea', 10, 'EUR', metadata => '{"supplier": "MARK"}');
	SELECT order_engine.adjust_stock('A', 'L1', 100, 'MARK reason');
	DO $$
	DECLARE
		o bigint; f bigint; r bigint; p bigint; h bigint;
	BEGIN
		FOR i IN 1..3 LOOP
			o := order_engine.place_order('MARK customer', '[{"sku": "A", "quantity": 5, "metadata": {"engraving": "MARK"}}]', 'EUR',
				terms => 'invoice', metadata => '{"email": "MARK@example.com"}');
			PERFORM order_engine.transition('order', o, 'confirm', 'MARK reason', metadata => '{"by": "MARK"}');
			p := order_engine.request_payment(o, 'capture', provider => 'gate', method => 'card', metadata => '{"iban": "MARK"}');
			PERFORM order_engine.record_payment(transaction_id, 'success', 'MARK ref', details => '{"holder": "MARK"}')
			FROM order_engine.payment_transaction WHERE payment_id = p AND i > 1;
			f := order_engine.create_fulfillment(o, '[{"line_no": 1, "quantity": 3}]', 'L1', tracking => '[{"number": "MARK"}]',
				metadata => '{"address": "MARK"}');
			PERFORM order_engine.transition('fulfillment', f, 'ready');
			PERFORM order_engine.transition('fulfillment', f, 'ship');
			r := order_engine.create_return(o, '[{"line_no": 1, "quantity": 1}]', 'other', metadata => '{"complaint": "MARK"}');
			h := order_engine.place_hold(o, 'fraud', 'MARK note');
		END LOOP;
	END $$;
	-- long ago, so that every view of what is stuck has them
	SET session_replication_role = replica;
	UPDATE order_engine.orders SET state_since = state_since - interval '1 year', expires_at = now() - interval '1 day';
	UPDATE order_engine.payment_transaction SET created_at = created_at - interval '1 year';
	UPDATE order_engine.payment SET created_at = created_at - interval '1 year', next_attempt_at = now() - interval '1 day';
	UPDATE order_engine.reservation SET created_at = created_at - interval '1 year';
	ANALYZE;
});

# ---------- the walk

my $member = q{FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	AND d.deptype = 'e' AND e.extname = 'order_engine' JOIN };
my @functions = rows("SELECT p.oid::regproc, p.proname, p.oid::regprocedure, p.prorettype = 'trigger'::regtype, "
	. q{array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (t, n) ORDER BY n), ';') }
	. "$member pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid ORDER BY 3");
my @relations = rows("SELECT c.oid::regclass, c.relname, c.relkind, "
	. '(SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1) '
	. "$member pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY 1");
my @columns = rows("SELECT c.oid::regclass, c.relname, quote_ident(a.attname) "
	. "$member pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid "
	. "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.relkind IN ('r', 'p', 'v') ORDER BY 1, a.attnum");
my %rule = map { ("$_->[0] $_->[1]" => $rank{ $_->[2] }) } rows('SELECT kind, object, level FROM order_engine.access_rule');

cmp_ok(scalar(@functions), '>', 80, 'functions to walk over');
cmp_ok(scalar(@relations), '>', 60, 'and relations');
is(scalar(rows("SELECT p.oid $member pg_class c ON c.oid = d.objid JOIN pg_proc p ON p.oid = d.objid")), 0, 'no oid is confused');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT d.classid::regclass::text, ' ' ORDER BY d.classid::regclass::text) $member pg_class ON true WHERE d.classid <> 'pg_type'::regclass"),
	'pg_class pg_event_trigger pg_namespace pg_proc', 'there are no members of other kinds, but for the types of tables from 17 on');

# Whether a role of this rank may use the object.
sub granted
{
	my ($rank, $kind, $name) = @_;
	my $needs = $rule{"$kind $name"};

	return defined $needs && $rank >= $needs;
}

# [what, command, must it be permitted?]
sub commands
{
	my ($rank) = @_;
	my @list;

	foreach my $function (@functions)
	{
		my ($name, $plain, $signature, $is_trigger, $types) = @$function;
		my @types = split(/;/, $types);
		my $nulls = join(', ', map { "NULL::$types[$_] AS a$_" } 0 .. $#types);
		my $ok = granted($rank, 'function', $plain);

		# a null that the planner sees would spare it the call
		push @list, [ "call $signature",
			"SELECT $name(" . join(', ', map { "s.a$_" } 0 .. $#types) . ") FROM (SELECT $nulls OFFSET 0) AS s", $ok ];
		push @list,
		  [ "attach $signature", "CREATE TEMP TABLE t (); CREATE TRIGGER t BEFORE UPDATE ON t EXECUTE FUNCTION $name()", $ok ]
		  if $is_trigger eq 't';
		push @list,
		  [ "own operator $signature", "CREATE OPERATOR pg_temp.<-> (FUNCTION = $name, LEFTARG = $types[0]"
			  . (@types == 2 ? ", RIGHTARG = $types[1])" : ')'), undef ]
		  if @types == 2 && !$ok;
		push @list, map { [ "change $signature", $_, 0 ] } "DROP FUNCTION $signature",
		  "GRANT EXECUTE ON FUNCTION $signature TO PUBLIC; SELECT 1 / has_function_privilege('public', '$signature', 'EXECUTE')::integer";
	}
	foreach my $relation (@relations)
	{
		my ($name, $plain, $kind, $column) = @$relation;
		my $ok = granted($rank, 'table', $plain);

		if ($kind eq 'S')
		{
			push @list, map { [ $_, "SELECT $_", 0 ] } "nextval('$name')", "setval('$name', 1)", "currval('$name')",
			  "last_value FROM $name", "pg_sequence_last_value('$name'::regclass) IS NULL OR NULL::int = 1/(SELECT 0 FROM $name)";
			next;
		}
		push @list, [ "SELECT $name", "SELECT 1 FROM $name LIMIT 1", $ok ], [ "COPY TO $name", "COPY $name TO STDOUT", $kind eq 'r' ? $ok : undef ],
		  [ "COPY (SELECT) $name", "COPY (TABLE $name LIMIT 0) TO STDOUT", $ok ], [ "LOCK $name", "LOCK TABLE ONLY $name IN ACCESS SHARE MODE", $ok ];
		push @list, map { [ "$_ ...", $_, 0 ] } "SELECT FROM $name FOR KEY SHARE", "SELECT FROM $name FOR UPDATE",
		  "INSERT INTO $name DEFAULT VALUES", "UPDATE $name SET $column = $column", "DELETE FROM $name", "TRUNCATE $name",
		  "LOCK TABLE ONLY $name IN ROW SHARE MODE", "LOCK TABLE ONLY $name IN ACCESS EXCLUSIVE MODE",
		  "CREATE TABLE t (a text REFERENCES $name)", "CREATE TRIGGER t AFTER INSERT ON $name EXECUTE FUNCTION noop()",
		  "CREATE TEMP TABLE t () INHERITS ($name)", "CREATE RULE t AS ON INSERT TO $name DO INSTEAD NOTHING",
		  "ALTER TABLE $name OWNER TO CURRENT_USER", "DROP TABLE $name", "COMMENT ON TABLE $name IS 'x'",
		  "GRANT ALL ON $name TO PUBLIC; SELECT 1 / has_any_column_privilege('public', '$name', 'SELECT')::integer";
		push @list, map { [ "$_ ...", $_, 0 ] } "ALTER TABLE $name DISABLE TRIGGER ALL", "CREATE INDEX ON $name ($column)",
		  "CREATE POLICY t ON $name", "REINDEX TABLE $name", "CREATE STATISTICS t ON $column, ctid FROM $name", "COPY $name FROM STDIN"
		  if $kind ne 'v';
	}
	push @list, map {
		my ($name, $plain, $attribute) = @$_;
		granted($rank, 'table', $plain) ? () : [ "SELECT $name.$attribute", "SELECT $attribute FROM $name LIMIT 0", 0 ]
	} $ENV{OE_LONG} ? @columns : ();
	push @list, map { [ $_, $_, 0 ] } 'CREATE TABLE order_engine.mine ()', 'CREATE FUNCTION order_engine.mine() RETURNS int LANGUAGE sql RETURN 1',
	  'CREATE TYPE order_engine.mine AS ()', 'ALTER SCHEMA order_engine RENAME TO mine', 'DROP SCHEMA order_engine CASCADE', 'DROP EXTENSION order_engine CASCADE',
	  'ALTER EXTENSION order_engine UPDATE', 'ALTER EXTENSION order_engine DROP SCHEMA order_engine', 'CREATE VIEW order_engine.mine AS SELECT 1';
	return @list;
}

# Runs the commands one by one, each rolled back; returns their SQLSTATEs.
sub outcomes
{
	my ($user, @commands) = @_;
	my $script = "\\o /dev/null\nSET client_min_messages = error;\n";
	my ($stdout, $stderr) = ('', '');

	foreach my $i (0 .. $#commands)
	{
		# of several statements the last one counts
		$script .= "BEGIN;\n$commands[$i];\n" . ($commands[$i] =~ /FROM STDIN/ ? "\\.\n" : '') . "\\warn ## $i :SQLSTATE\nROLLBACK;\n";
	}
	my $file = PostgreSQL::Test::Utils::tempdir() . '/walk.sql';
	unlink $file;
	append_to_file($file, $script);
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=0', '-f', $file, '-d', $node->connstr('postgres'), '-U', $user ],
		'<', \undef, '>', \$stdout, '2>', \$stderr);
	my %outcome = $stderr =~ /^.*## (\d+) (\w{5})$/mg;
	is(scalar(keys %outcome), scalar(@commands), 'every command has an outcome') or diag(substr($stderr, -2000));
	return map { $outcome{$_} } 0 .. $#commands;
}

$node->safe_psql('postgres', 'CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$');
foreach my $level (qw(viewer app operator none usage))
{
	my @list = commands($rank{$level} // 0);

	# every day two levels try all, and the others use all and try some of the rest
	@list = @list[ grep { $ENV{OE_LONG} || $level =~ /^(app|none)$/ || $_ % 7 == 0 || $list[$_][0] =~ /^(call|attach|SELECT|nextval) / } 0 .. $#list ];
	my @outcome = outcomes($role{$level}, map { $_->[1] } @list);
	my (@too_much, @too_little, @broken);

	foreach my $i (0 .. $#list)
	{
		my ($what, $command, $permitted) = @{ $list[$i] };
		my $got = $outcome[$i] // 'none';

		push @broken, "$got $what" if $got =~ /^(XX|57P|08|none)/;
		# What a relation of another kind, or without a key, can never have done is refused for that.
		# A GRANT is refused, or a mere warning and then a division by zero.
		push @too_much, "$got $what"
		  if defined $permitted && !$permitted && $got !~ ($command =~ /^GRANT/ ? qr/^(42501|22012|25P02)$/ : qr/^(42501|42809|55000|55006|42704|42830)$/);
		push @too_little, "$got $what" if $permitted && $got eq '42501';
	}
	is_deeply(\@too_much, [], "$level: nothing is permitted that is not on the page");
	is_deeply(\@too_little, [], "$level: what is on the page is permitted");
	is_deeply(\@broken, [], "$level: nothing breaks");
	note("$level: " . scalar(@list) . ' commands');

	# and the catalog says the same
	my $page = join("\n", sort
		((map { granted($rank{$level} // 0, 'function', $_->[1]) ? "$_->[2]|EXECUTE" : () } @functions),
		 (map { granted($rank{$level} // 0, 'table', $_->[1]) ? "$_->[0]|SELECT" : () } @relations),
		 ($level eq 'none' ? () : 'order_engine|USAGE')));
	is(join("\n", sort map { "$_->[0]|$_->[2]" } rows("SELECT * FROM ($privileges) p WHERE grantee = " . literal($role{$level}))),
		$page, "$level: its privileges are the page's");
}

# ---------- the rights of a verb end with it

is($node->safe_psql('postgres', q{
	SELECT string_agg(p.oid::regprocedure::text, ' ' ORDER BY p.proname) FROM pg_proc p
	WHERE p.pronamespace = 'order_engine'::regnamespace AND p.prosecdef AND NOT EXISTS (
		SELECT FROM order_engine.access_rule r WHERE r.kind = 'function' AND r.object = p.proname)}),
	'order_engine.drop_guard() order_engine.express_aggregates(integer) order_engine.retry_payments(integer)', 'what runs as the owner is for a level, or within another');

# ---------- what viewers see of persons

sub all_that_is_shown
{
	my ($level) = @_;
	my @queries = map { "SELECT v::text FROM $_->[0] v" } grep { granted($rank{$level}, 'table', $_->[1]) } @relations;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-U', $role{$level},
			map { ('-c', $_) } @queries ], '>', \$stdout, '2>', \$stderr) or die $stderr;
	return $stdout;
}

my $shown = all_that_is_shown('viewer');
like($shown, qr/unit|EUR/, 'viewers see something');
unlike($shown, qr/MARK/, 'and nothing of persons, payloads, reasons or notes');
like(all_that_is_shown('operator'), qr/MARK customer/, 'operators do');

# by the statistics, by plans with a function that talks, by errors
$node->safe_psql('postgres', 'CREATE SCHEMA talk; GRANT ALL ON SCHEMA talk TO PUBLIC');
my ($status, $stdout, $stderr) = $node->psql('postgres', q{
	SELECT count(*) FROM pg_stats WHERE schemaname = 'order_engine';
	SELECT count(*) FROM pg_stats_ext WHERE schemaname = 'order_engine';
	CREATE FUNCTION talk.talk(anything anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
	BEGIN
		RAISE NOTICE 'told: %', anything;
		RETURN true;
	END $$;
	CREATE FUNCTION talk.restrict(internal, oid, internal, integer) RETURNS float8 LANGUAGE internal AS 'eqsel';
	DO $$
	DECLARE
		v regclass;
		n integer;
	BEGIN
		FOR v IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind = 'v'
				AND has_table_privilege(c.oid, 'SELECT') LOOP
			EXECUTE format('SELECT count(*) FROM %s v WHERE talk.talk(v)', v) INTO n;
			FOR n IN SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = v AND a.attnum > 0 LOOP
				EXECUTE format('SELECT count(*) FROM %s v WHERE talk.talk(v.%I)', v,
					(SELECT attname FROM pg_attribute a WHERE a.attrelid = v AND a.attnum = n)) INTO n;
				EXECUTE format('EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM %s v', v);
			END LOOP;
		END LOOP;
	END $$;
}, on_error_stop => 0, extra_params => [ '-U', $role{viewer} ]);
is($stdout, "0\n0", 'viewers see no statistics of the tables');
like($stderr, qr/permission denied for language internal/, 'nor make estimators');
like($stderr, qr/told: /, 'a function in their WHERE is told rows');
unlike($stderr, qr/MARK/, 'but nothing of persons');

# what refuses a verb does not tell of other rows
($status, $stdout, $stderr) = $node->psql('postgres', q{
	SELECT order_engine.place_order('C', '[{"sku": "A", "quantity": 1}]', 'EUR', order_number => (SELECT order_number FROM order_engine.order_summary LIMIT 1));
	SELECT order_engine.cancel_order((SELECT max(order_id) FROM order_engine.order_summary));
	SELECT * FROM order_engine.allowed_events('order', (SELECT max(order_id) FROM order_engine.order_summary));
	SELECT order_engine.request_payment((SELECT max(order_id) FROM order_engine.order_summary), 'capture', 1e9);
}, on_error_stop => 0, extra_params => [ '-U', $role{app} ]);
like($stderr, qr/23505|duplicate|taken/, 'a number that is taken is refused');
unlike($stderr, qr/MARK (?:customer|note)|\@example/, 'and no error tells what is in the rows');

# ---------- round trips

$node->call('grant_access', { role => \role_literal('viewer'), level => 'operator' });
$node->call('grant_access', { role => \role_literal('viewer'), level => 'app' });
my $wanted = privileges('grantee = ' . literal($role{app})) =~ s/\Q$role{app}\E/X/gr;
is(privileges('grantee = ' . literal($role{viewer})) =~ s/\Q$role{viewer}\E/X/gr, $wanted, 'an operator that is made an app is one');
$node->call('grant_access', { role => \role_literal('viewer'), level => 'viewer' });
is($node->safe_psql('postgres', "SELECT count(*) FROM ($privileges) p WHERE grantee = " . literal($role{viewer})),
	1 + grep({ $_ == 1 } values %rule), 'and a viewer again');

# more than a level, given by hand, goes with it
$node->safe_psql('postgres', sprintf(q{
	GRANT ALL ON order_engine.orders, order_engine.id_seq TO %1$s;
	GRANT SELECT (customer_id), UPDATE (region) ON order_engine.orders TO %1$s;
	GRANT SELECT ON order_engine.order_summary TO %1$s WITH GRANT OPTION;
	GRANT CREATE ON SCHEMA order_engine TO %1$s;}, ident($role{viewer})));
$node->call('revoke_access', { role => \role_literal($_) }) foreach @levels;
is(privileges('grantee <> ' . literal($role{usage})), $as_created, 'revoke_access leaves nothing behind');
$node->safe_psql('postgres', 'REVOKE ALL ON SCHEMA order_engine FROM ' . ident($role{usage}));
is(privileges('true'), $as_created, 'the schema is as it was created');

# a role goes, with and without revoke_access
$node->call('grant_access', { role => \role_literal('operator'), level => 'operator' });
is($node->error_of('DROP ROLE ' . ident($role{operator}))->{sqlstate}, '2BP01', 'a role with a level cannot be dropped');
$node->safe_psql('postgres', sprintf('DROP OWNED BY %s; DROP ROLE %1$s', ident($role{operator})));
is(privileges('true'), $as_created, 'DROP OWNED leaves nothing behind either');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_extension WHERE extname = 'order_engine'"), '1', 'and drops nothing of ours');
$node->safe_psql('postgres', sprintf('REVOKE ALL ON DATABASE postgres FROM %s; DROP SCHEMA talk CASCADE; DROP SCHEMA %1$s; DROP ROLE %1$s', ident($role{viewer})));
pass('a role whose access was revoked can be dropped');

# members have what their role has, and may not pass it on
$node->safe_psql('postgres', sprintf('CREATE ROLE boss LOGIN; GRANT %s TO boss WITH ADMIN OPTION', ident($role{app})));
$node->call('grant_access', { role => \role_literal('app'), level => 'app' });
($status, $stdout, $stderr) = $node->psql('postgres',
	"SELECT order_engine.was_replayed(); SELECT order_engine.grant_access('boss', 'app')", extra_params => [ '-U', 'boss' ]);
like("$stdout $stderr", qr/^f .*ERROR:  permission denied for function grant_access/m, 'a member of a level is no administrator');
$node->call('revoke_access', { role => \role_literal('app') });
is(privileges('true'), $as_created, 'nothing is left');

# ---------- roles and levels that are none

foreach my $bad ("NULL", "0", "'4294967295'", '12345')
{
	is($node->error_of("SELECT order_engine.grant_access($bad\::regrole, 'app')")->{sqlstate}, '42704', "no role $bad to grant to");
	is($node->error_of("SELECT order_engine.revoke_access($bad\::regrole)")->{sqlstate}, '42704', "nor to revoke from");
}
is($node->error_of("SELECT order_engine.grant_access('boss', $_)")->{sqlstate}, '22023', "no level $_")
  foreach 'NULL', "''", "'Viewer'", "'owner'", "'viewer; DROP TABLE x'";
is(privileges('true'), $as_created, 'nothing was granted meanwhile');

# sessions that grant at once wait for each other
$node->safe_psql('postgres', "CREATE ROLE role_$_") foreach 1 .. 4;
my @sessions = map { $node->session } 1 .. 4;
foreach my $round (1 .. 3)
{
	$sessions[ $_ - 1 ]->send("SELECT order_engine.grant_access('role_$_', 'operator'); SELECT order_engine.grant_access('role_$_', 'viewer')") foreach 1 .. 4;
	ok(!grep({ !defined $_->receive } @sessions), 'at once');
}
$_->quit foreach @sessions;
$node->call('revoke_access', { role => "role_$_" }) foreach 1 .. 4;
is(privileges('true'), $as_created, 'and nothing is left');

done_testing();
