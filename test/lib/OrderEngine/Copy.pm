
=head1 NAME

OrderEngine::Copy - what tests of copies of a database need

=cut

package OrderEngine::Copy;

use strict;
use warnings FATAL => 'all';

use Exporter qw(import);
use OrderEngine qw(poll_until webhook_id emit_sql);
use OrderEngine::Load;
use OrderEngine::Receiver;
use Test::More;

our @EXPORT_OK = qw(contents sequences undelivered expect_delivery check_copy);

=head2 burn_transactions($node, $n)

Uses up so many transaction ids.

=cut

sub burn_transactions
{
	my ($node, $n) = @_;

	$node->safe_psql('postgres', sprintf(q{
		SET synchronous_commit = off;
		DO $$ BEGIN
			FOR i IN 1..%d LOOP
				PERFORM pg_current_xact_id();
				COMMIT;
			END LOOP;
		END $$}, $n));
	return;
}

=head2 contents($node, $database), sequences($node, $database)

A checksum of each member table of the extension that a dump has, and of the
tables of the test; the state of each sequence.

=cut

sub contents
{
	my ($node, $database) = @_;
	my @tables = split(/\n/, $node->safe_psql($database, q{
		SELECT c.oid::regclass FROM pg_class c
		WHERE c.relkind IN ('r', 'p') AND (c.oid::regclass::text = 'item' OR c.oid IN (
			SELECT t.oid FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS t (oid, condition)
			WHERE e.extname = 'order_engine' AND t.condition = '')
			OR c.oid = 'order_engine.outbox'::regclass)
		ORDER BY 1}));

	# built-in rows are not dumped but made by CREATE EXTENSION
	return { map {
		$_ => $node->safe_psql($database,
			"SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ';' ORDER BY t::text COLLATE \"C\")), '') FROM $_ AS t")
	} @tables };
}

sub sequences
{
	my ($node, $database) = @_;
	my @sequences = split(/\n/, $node->safe_psql($database, q{
		SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'S' AND n.nspname IN ('order_engine', 'public') ORDER BY 1}));

	return { map { $_ => $node->safe_psql($database, "SELECT last_value, is_called FROM $_") } @sequences };
}

=head2 prepare($node, $receiver, $database)

Endpoints in every state that there is, with events of a state machine and of
emit(); in the end nothing is in flight.

  good    has got everything            late    paused, with a backlog
  fail    a retry, and one behind it    dead    a dead letter that blocks
  fresh   has no position yet           again   paused, with a replay
  lane    has an express lane beside a backlog

=cut

sub prepare
{
	my ($node, $receiver, $database) = @_;
	my $create = sub { my ($name, %arguments) = @_; $node->create_endpoint($receiver, $name, database => $database, event_types => [ 'item.*', 'test.*', 'order.*' ], %arguments); };

	my $wait = sub {
		my ($lacking, @names) = @_;
		my $n = $node->value("SELECT count(*) FROM order_engine.outbox WHERE aggregatetype <> 'endpoint'", $database);

		$receiver->wait_for("/$_", accepted => $n - $lacking) foreach @names;
	};

	OrderEngine::Load::prepare($node, $database);
	$receiver->rules({ path => '/fail', aggregateid => 'bad', status => 500 }, { path => '/dead', aggregateid => 'bad', status => 500 });
	$create->('good');
	$create->('late', max_in_flight => 3);
	$create->('fail', retry_schedule => [ '0', '1 hour' ], policy => { breaker_ratio => 1, breaker_failures => 1000 });
	$create->('dead', retry_schedule => ['0'], after_dead => 'block', policy => { breaker_ratio => 1, breaker_failures => 1000 });
	$create->('again');
	$node->safe_psql($database, 'CALL fill_in_parts(1, 40, 2, 10)');
	$node->emit_many("'bad'", 1, 2, $database);
	$node->emit_many("'x ' || i % 7", 3, 30, $database);
	$wait->(0, qw(good late again));
	$wait->(2, qw(fail dead));
	$node->call('pause_endpoint', { name => $_ }, $database) foreach qw(late again);
	$node->safe_psql($database, q{SELECT order_engine.replay('again', now() - interval '1 hour', now())});
	$node->safe_psql($database, 'CALL fill_in_parts(1001, 1100, 9, 20)');
	$wait->(0, 'good');
	$create->('fresh');
	$node->call('pause_endpoint', { name => 'fresh' }, $database);
	$node->safe_psql($database, 'CALL walk(4, 1, 40)');
	$node->safe_psql($database, q{SELECT order_engine.upsert_product('A', 'A', 1, 'EUR');
		SELECT order_engine.upsert_location('default', 'Warehouse', 'north', 5);
		SELECT order_engine.adjust_stock('A', 'default', 10, 'test');
		SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR')});
	$wait->(0, 'good');
	$wait->(2, qw(fail dead));
	$node->wait_for_value("SELECT sum(in_flight) FROM order_engine.stat_worker", 0, $database);

	# what was answered is recorded when the worker ends in good order
	$node->configure('order_engine.databases' => '');
	poll_until('no worker', sub { !defined $node->worker_pid($database) });

	# the receiver knows what is missing
	my %undelivered = undelivered($node, $database);

	foreach my $name (qw(good late fail fresh))
	{
		my @all = $node->emitted("type ~ '^(item|test|order)[.]' AND NOT pg_visible_in_snapshot(txid,
			(SELECT start_snapshot FROM order_engine.endpoint WHERE name = '$name'))", $database);
		my %got = map { $_->{id} => 1 } grep { $_->{status} >= 200 && $_->{status} < 300 } $receiver->requests("/$name");

		is_deeply($undelivered{$name}, { map { $_ => 1 } grep { !$got{$_} } @all }, "$name: what was not acknowledged is undelivered");
	}
	make_lane($node, $receiver, $database);
	return;
}

# An endpoint with an express lane: its records are written by hand, so that the
# test knows what it has got.
sub make_lane
{
	my ($node, $receiver, $database) = @_;

	$node->create_endpoint($receiver, 'lane', database => $database, start_at => 'earliest',
		event_types => [ 'item.*', 'test.*', 'order.*' ]);

	# the backlog: items 1001 on; the split is behind them; new ones: 2001 on
	$node->safe_psql($database, q{
		CREATE TABLE split AS SELECT pg_current_snapshot() AS s});
	$node->safe_psql($database, 'CALL fill_in_parts(2001, 2020, 1, 10)');
	$node->safe_psql($database, 'UPDATE item SET state = other(state) WHERE id BETWEEN 1001 AND 1010');
	$node->safe_psql($database, q{
		INSERT INTO order_engine.position_1 (n, endpoint_id, shards, split, seen, recorded_at, by_birth)
		SELECT 1000000, endpoint_id, 65535, s, pg_current_snapshot(), now(), true
		FROM split, order_engine.endpoint WHERE name = 'lane';
		INSERT INTO order_engine.position_1 (n, endpoint_id, shards, seen, upto, txid, id, done, recorded_at)
		SELECT 1000001, endpoint_id, 65535, '3:3:', s, o.txid, o.id,
			ARRAY(SELECT d.id FROM order_engine.outbox d WHERE (d.txid, d.id) > (o.txid, o.id) ORDER BY d.txid, d.id LIMIT 2), now()
		FROM split, order_engine.endpoint, (SELECT txid, id FROM order_engine.outbox ORDER BY txid, id OFFSET 100 LIMIT 1) o
		WHERE name = 'lane';
		DROP TABLE split});
	is($node->value(q{
		SELECT (SELECT count(*) FROM order_engine.endpoint e, order_engine.undelivered_ids(e) WHERE e.name = 'lane')
			= (SELECT count(*) FROM order_engine.outbox) - 101 - 2 - 20}, $database), 't',
		'a lane has what is between its place and the split, and behind that what is not new');
	return;
}

=head2 write_more($node, $database, $name)

Events of aggregates that had some before, and one of an aggregate $name.

=cut

sub write_more
{
	my ($node, $database, $name) = @_;

	$node->safe_psql($database, "SELECT order_engine.emit('test', '$name', 'test.more', '{}')");
	my $steps = $node->value('SELECT max(version) + 1 FROM item WHERE id BETWEEN 1 AND 40', $database);

	$node->safe_psql($database, "CALL walk($steps, 1, 40)");
	$node->safe_psql($database, 'UPDATE item SET state = other(state) WHERE id BETWEEN 1001 AND 1050 OR id > 2000');
	return;
}

=head2 redirect($node, $receiver, $database)

Has the endpoints send to another receiver, with new secrets and nothing in the
way: no pause, no retry an hour off.

=cut

sub redirect
{
	my ($node, $receiver, $database) = @_;

	foreach my $name (split(/\n/, $node->safe_psql($database, 'SELECT name FROM order_engine.endpoint ORDER BY name')))
	{
		$node->call('alter_endpoint', { name => $name, url => $receiver->url("/$name") }, $database);
		$receiver->control({ secrets => { "/$name" => $node->call('rotate_secret', { name => $name }, $database) } });
		$node->call('resume_endpoint', { name => $name }, $database);
	}
	$node->safe_psql($database, q{UPDATE order_engine.delivery_retry SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL});
	return;
}

=head2 undelivered($node, $database)

Of each endpoint the webhook-ids of what it is yet to get, as keys of a hash:
what its positions have not passed, retries, and the events of replays.

=cut

sub undelivered
{
	my ($node, $database) = @_;
	my %result = map { $_ => {} } split(/\n/, $node->safe_psql($database, 'SELECT name FROM order_engine.endpoint'));
	my $rows = $node->safe_psql($database, q{
		SELECT e.name, u.id FROM order_engine.endpoint e, order_engine.undelivered_ids(e) AS u (id)
			JOIN order_engine.outbox o USING (id)
		WHERE order_engine.endpoint_gets(e.name, e.event_types, o.aggregatetype, o.aggregateid, o.type)
		UNION SELECT e.name, r.id FROM order_engine.endpoint e JOIN order_engine.delivery_retry r USING (endpoint_id)
		UNION SELECT e.name, o.id FROM order_engine.endpoint e JOIN order_engine.replay r USING (endpoint_id)
			JOIN order_engine.outbox o ON o.id BETWEEN r.first_id AND r.last_id AND pg_visible_in_snapshot(o.txid, r.visible)
				AND order_engine.endpoint_gets(e.name, e.event_types, o.aggregatetype, o.aggregateid, o.type)});

	foreach my $row (split(/\n/, $rows))
	{
		my ($name, $id) = split(/\|/, $row);

		$result{$name}->{ webhook_id($id) } = 1;
	}
	return %result;
}

=head2 expect_delivery($node, $receiver, $database, \%expected)

Waits until each endpoint has got what it is to get, and sees that it got nothing
else, nothing twice, and each aggregate in order.

=cut

sub expect_delivery
{
	my ($node, $receiver, $database, $expected) = @_;

	# a blocking dead letter holds up what is behind it
	$node->call('discard_dead_letters', { name => 'dead' }, $database);
	foreach my $name (sort keys %$expected)
	{
		my $n = keys %{ $expected->{$name} };
		my $stats;

		next if $n == 0;
		$stats = eval { poll_until("$n at $name", sub { my $s = $receiver->stats("/$name"); $s->{unique} >= $n ? $s : undef }, 60) };
		$stats //= $receiver->stats("/$name");
		is($stats->{duplicates}, 0, "$database: $name gets nothing twice");
		is($stats->{out_of_order}, 0, "$database: $name in order");
		is($stats->{unverified}, 0, "$database: $name: signed");

		my %got = map { $_ => 1 } $receiver->ids("/$name");
		my @missing = grep { !$got{$_} } keys %{ $expected->{$name} };
		my @more = grep { !$expected->{$name}->{$_} } keys %got;

		is(scalar @missing, 0, "$database: $name gets all of $n") or diag("missing @missing[0 .. ($#missing < 4 ? $#missing : 4)]");
		is(scalar @more, 0, "$database: $name gets nothing else") or diag("more @more[0 .. ($#more < 4 ? $#more : 4)]");
		is($node->value("SELECT order_engine.undelivered('$name')", $database), 0, "$database: $name has no more to get") if !@missing;
	}
	is($node->value('SELECT count(*) FROM order_engine.delivery_gap', $database), 0, "$database: no gap");
	return;
}

=head2 check_copy($node, $database, $contents, $sequences, \%undelivered)

Sees that a copy has what the original had, sends nothing, and can be written
to; adopts it and sees that each endpoint gets what it lacked.

=cut

sub check_copy
{
	my ($node, $database, $contents, $sequences, $undelivered) = @_;
	my $receiver = OrderEngine::Receiver->new;

	is_deeply(contents($node, $database), $contents, "$database: everything is there");
	is_deeply(sequences($node, $database), $sequences, "$database: and the sequences");
	$node->wait_for_worker($database);
	is($node->value("SELECT string_agg(DISTINCT state, ' ') FROM order_engine.endpoint_status", $database), 'foreign',
		"$database: the endpoints are foreign");
	is($node->error_of("SELECT order_engine.create_endpoint('new', 'http://127.0.0.1/')", $database)->{sqlstate}, '55000',
		"$database: no endpoint can be made");

	# the state machine goes on, and the application
	my $wanted = q{type ~ '^(item|test|order)[.]'};
	my %brought = map { $_ => 1 } $node->emitted($wanted, $database);

	write_more($node, $database, 'copy');
	redirect($node, $receiver, $database);

	my %here = map { $_ => 1 } $node->emitted($wanted, $database);
	my @written = grep { !$brought{$_} } keys %here;
	my %copy = undelivered($node, $database);

	cmp_ok(scalar @written, '>', 50, "$database: events are written in the copy");
	is_deeply($copy{$_}, { %{ $undelivered->{$_} }, map { $_ => 1 } @written },
		"$database: $_ lacks what it lacked there, and what was written here") foreach sort keys %copy;

	# a positive control: the worker has looked
	my $reads = $node->value('SELECT sum(reads) FROM order_engine.stat_worker', $database);
	$node->wait_for_value("SELECT sum(reads) > $reads FROM order_engine.stat_worker", 't', $database);
	is_deeply([ map { $receiver->stats("/$_")->{requests} } sort keys %copy ], [ (0) x keys %copy ], "$database: nothing is sent");

	# one transaction began before adoption and writes afterwards
	my $old = $node->session($database);

	$old->query('BEGIN; SELECT pg_current_xact_id()');
	is($node->safe_psql($database, 'SELECT order_engine.adopt_database()'), 't', "$database: it is adopted");
	write_more($node, $database, 'after');
	$old->query(q{UPDATE item SET state = other(state) WHERE id <= 3; SELECT order_engine.emit('test', 'old', 'test.old', '{}'); COMMIT});
	is($node->safe_psql($database, 'SELECT order_engine.adopt_database()'), 'f', "$database: once");

	my @new = grep { !$here{$_} } $node->emitted($wanted, $database);
	my %expected = map { my %e = (%{ $copy{$_} }, map { $_ => 1 } @new); ($_ => \%e) } keys %copy;

	expect_delivery($node, $receiver, $database, \%expected);
	return;
}

=head2 try_empty($node, $database)

A database with the extension and nothing in it works.

=cut

sub try_empty
{
	my ($node, $database) = @_;
	my $receiver = OrderEngine::Receiver->new;

	is($node->value('SELECT count(*) FROM order_engine.endpoint', $database), 0, "$database: no endpoint");
	is($node->value('SELECT order_engine.adopt_database()', $database), 'f', "$database: nothing to adopt");
	$node->create_endpoint($receiver, 'hook', database => $database);
	$node->emit('a', database => $database);
	is($receiver->wait_for('/hook', accepted => 1)->{requests}, 1, "$database: everything works");
	return;
}

1;
