
# Everything at once, at random: what is promised of deliveries holds whatever is
# killed, altered, paused, replayed or locked while writers go on. The seed is
# printed; OE_SEED repeats its choices (not the timing).

use strict;
use warnings FATAL => 'all';

use List::Util qw(max min);
use OrderEngine qw(poll_until webhook_id);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(time usleep);

my $long = $ENV{OE_LONG};
my $seed = $ENV{OE_SEED} // int(rand(1_000_000));
my $writers = 3;
my $rounds = $long ? 300 : 60;
my $most_crashes = $long ? 40 : 3;

# results of one flush and what was under way, see FLUSH_RESULTS in worker.c;
# without shared memory's health, each of four workers may have so much
my $duplicates_of_a_crash = 4 * 1000 + 256;

srand($seed);
diag("seed $seed");

my $node = OrderEngine->start_new(
	'main',
	conf => q{
		order_engine.poll_interval = '200 ms'
		order_engine.workers = 2
		max_worker_processes = 20
	});
my $receiver = OrderEngine::Receiver->new;

#
# Writers: of shared aggregates with sequence numbers, which transactions get in
# another order than their ids, and of aggregates of their own without
#
$node->safe_psql('postgres', q{
	CREATE TABLE control (stop boolean NOT NULL);
	INSERT INTO control VALUES (false);
	CREATE TABLE aggregate (id text PRIMARY KEY, shard smallint NOT NULL,
		seq bigint NOT NULL DEFAULT 0, last_txid xid8) WITH (fillfactor = 10);
	CREATE TABLE own (writer int PRIMARY KEY, n int NOT NULL DEFAULT 0, fresh int NOT NULL DEFAULT 0)
		WITH (fillfactor = 10);
	INSERT INTO own SELECT generate_series(1, 10);

	CREATE FUNCTION new_aggregate(agg text) RETURNS void LANGUAGE sql AS $$
		WITH e AS MATERIALIZED (SELECT order_engine.emit('seq', agg, 'setup.new', '{}') AS id)
		INSERT INTO aggregate (id, shard)
		SELECT agg, 0 FROM e ON CONFLICT DO NOTHING;
		UPDATE aggregate SET shard = (SELECT o.shard FROM order_engine.outbox o
			WHERE o.aggregatetype = 'seq' AND o.aggregateid = agg LIMIT 1) WHERE id = agg;
	$$;

	-- what an order does: a version of a locked row, see oe_outbox_append()
	CREATE FUNCTION step(agg text, type text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		xid xid8 := pg_current_xact_id();
		at timestamptz;
		a aggregate;
	BEGIN
		SELECT * INTO a FROM aggregate WHERE id = agg FOR UPDATE;
		at := clock_timestamp();
		INSERT INTO order_engine.outbox (txid, after_txid, created_at, aggregate_seq, leaf, shard,
			id, aggregatetype, aggregateid, type, payload, headers)
		VALUES (xid, CASE WHEN a.last_txid > xid THEN a.last_txid END, at, a.seq + 1,
			coalesce((SELECT current_leaf FROM order_engine.outbox_ring), 0), a.shard,
			(left(order_engine.uuid_at(at, false)::text, 15)
				|| lpad(to_hex(extract(microseconds FROM at)::int % 1000 * 4), 3, '0')
				|| substr(gen_random_uuid()::text, 19))::uuid,
			'seq', agg, type, jsonb_build_object('sequence', a.seq + 1), NULL);
		UPDATE aggregate SET seq = a.seq + 1, last_txid = xid WHERE id = agg;
	END $$;

	CREATE FUNCTION any_type() RETURNS text LANGUAGE sql AS $$
		SELECT CASE WHEN r < 0.01 THEN 'test.poison' WHEN r < 0.8 THEN 'test.event' ELSE 'test.other' END
		FROM (SELECT random() AS r) AS x
	$$;

	CREATE FUNCTION write_once(w int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		o own;
	BEGIN
		PERFORM pg_current_xact_id();
		IF random() < 0.1 THEN
			PERFORM pg_sleep(random() * 0.03);
		END IF;
		PERFORM step('a' || (1 + floor(random() * 30)), any_type());
		UPDATE own SET n = n + 1, fresh = fresh + (random() < 0.1)::int WHERE writer = w RETURNING * INTO o;
		PERFORM order_engine.emit('own', 'o' || w, any_type(), jsonb_build_object('sequence', o.n));
		IF o.fresh % 2 = 0 AND NOT EXISTS (SELECT FROM aggregate WHERE id = format('f%s/%s', w, o.fresh)) THEN
			PERFORM new_aggregate(format('f%s/%s', w, o.fresh));
			PERFORM step(format('f%s/%s', w, o.fresh), 'test.event');
			PERFORM step(format('f%s/%s', w, o.fresh), any_type());
		END IF;
	END $$;

	CREATE PROCEDURE write_events(w int) LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT (SELECT stop FROM control) LOOP
			PERFORM write_once(w);
			COMMIT;
			PERFORM pg_sleep(random() * 0.04);
		END LOOP;
	END $$;

	-- a backlog: many new aggregates, and more of old ones, in one transaction
	CREATE FUNCTION write_bulk(name text, n int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..n LOOP
			PERFORM new_aggregate(name || '/' || i);
			PERFORM step(name || '/' || i, 'test.event');
		END LOOP;
		FOR i IN 1..30 LOOP
			PERFORM step('a' || i, 'test.event');
		END LOOP;
	END $$;

	SELECT new_aggregate('a' || i) FROM generate_series(1, 30) i;
});

#
# Endpoints
#
my @patient = ('0', ('1 s') x 63);
my @brief = ('0', '30 ms', '30 ms');
my %policy = (breaker_open => '200 ms', breaker_open_max => '500 ms', pause => '1 s',
	disable_after => '0');
my %common = (timeout => '3 s', policy => \%policy, event_types => ['test.*'],
	retry_schedule => \@patient);
my %endpoints = (
	ord => {},
	slim => { max_in_flight => 2 },
	none => { ordering => 'none' },
	block => { after_dead => 'block', retry_schedule => \@brief },
	dead => { retry_schedule => \@brief },
	best => { guarantee => 'best_effort' },
	batch => { max_batch => 8, max_batch_delay => '10 ms' },
	events => { max_batch => 4, format => 'cloudevents_batch' },
	filter => {},
	fickle => { retry_schedule => \@brief },
	fleeting => {},
);
my @names = sort keys %endpoints;
my @promised = grep { !/^(best|fleeting)$/ } @names;
my @ordered = grep { !/^(none|fickle)$/ } @promised;

$node->create_endpoint($receiver, $_, %common, %{ $endpoints{$_} }) foreach @names;

#
# What happens
#
my (%sessions, %paused, %held, %prepared, %count);
my ($crashes, $ends, $serial) = (0, 0, 0);

sub keep_writing
{
	foreach my $w (1 .. $writers)
	{
		if ($sessions{$w})
		{
			next if !$sessions{$w}->is_done;
			my $error = defined $sessions{$w}->receive ? '' : $sessions{$w}->error;
			die "writer $w: $error" if $error =~ /ERROR/ && $error !~ /deadlock/;
			delete $sessions{$w};
		}
		$sessions{$w} = $node->session;
		$sessions{$w}->send("CALL write_events($w)");
	}
	return;
}

sub pick
{
	return $_[ int(rand(@_)) ];
}

# A statement that may meet a server that is coming up again.
sub try_sql
{
	my ($sql) = @_;
	my ($status) = eval { $node->psql(q(postgres), "SET lock_timeout = '500 ms'; $sql") };

	return defined $status && $status == 0;
}

sub workers
{
	return split /\n/, $node->value(
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_engine worker'});
}

# An operator's or a writer's transaction that stays open for a while.
sub hold
{
	my ($sql, $end) = @_;
	my $session = $node->session;
	my $name = 'h' . ++$serial;

	$session->send("SET lock_timeout = '1 s'; BEGIN; $sql");
	$held{$name} = { session => $session, end => $end, rounds => 2 + int(rand(6)) };
	return;
}

sub end_held
{
	my ($force) = @_;

	foreach my $name (sort keys %held)
	{
		my $h = $held{$name};

		next if $h->{rounds}-- > 0 && !$force;
		$h->{session}->send($h->{end});
		eval { $h->{session}->quit; };
		delete $held{$name};
	}
	foreach my $name (sort keys %prepared)
	{
		next if $prepared{$name}-- > 0 && !$force;
		# it may have been lost with a crash before it was prepared
		$node->psql('postgres', pick('COMMIT', 'COMMIT', 'ROLLBACK') . " PREPARED '$name'");
		delete $prepared{$name};
	}
	return;
}

sub random_rules
{
	my @rules = (
		{ path => '/block', type => 'test.poison', status => 500 },
		{ path => '/dead', type => 'test.poison', status => 500 },
		{ path => '/fickle', type => 'test.poison', status => 500 },
		{ path => '/ord', type => 'test.poison', status => 500, attempts => 2 },
		{ path => '/batch', type => 'test.poison', status => 500, attempts => 3 },
		{ path => '/none', type => 'test.poison', status => 500, attempts => 2 });

	foreach my $name (@names)
	{
		my %where = (path => "/$name");

		push @rules, pick(
			(map { {%where} } 1 .. 4),
			{ %where, status => 500 },
			{ %where, status => 503, times => 30 },
			{ %where, status => 500, aggregateid => 'a' . (1 + int(rand(30))) },
			{ %where, status => 429, times => 3 },
			{ %where, status => 503, headers => { 'retry-after' => '1' }, times => 1 },
			{ %where, action => 'reset', times => 5 },
			{ %where, action => 'hang', times => 1 },
			{ %where, delay_ms => [ 0, 30 ] },
			{ %where, delay_ms => [ 0, 400 ], aggregateid => 'a' . (1 + int(rand(30))) });
	}
	$receiver->rules(@rules);
	return;
}

my %actions = (
	rules => [ 8, \&random_rules ],
	kill => [ 3, sub {
		return if $crashes >= $most_crashes;
		my @workers = workers();
		return if !@workers || !kill('KILL', pick(@workers));
		$crashes++;
		# what a client had prepared is still there, what it held is not
		$_->{rounds} = 0 foreach values %held;
		$node->wait_until_up;
	} ],
	end => [ 3, sub {
		my @workers = workers();
		$ends += kill('TERM', pick(@workers)) if @workers;
	} ],
	hup => [ 3, sub { $node->reload } ],
	number => [ 3, sub {
		try_sql('ALTER SYSTEM SET order_engine.workers = ' . (1 + int(rand(4)))) && $node->reload;
		$ends += 4;
	} ],
	pause => [ 4, sub {
		my $name = pick(@names);
		$paused{$name} = 1 if try_sql("SELECT order_engine.pause_endpoint('$name')");
	} ],
	resume => [ 8, sub {
		my $name = pick((sort keys %paused) x 2, @names);
		delete $paused{$name} if try_sql("SELECT order_engine.resume_endpoint('$name')");
	} ],
	format => [ 3, sub {
		my $format = pick(qw(webhook cloudevents cloudevents_binary cloudevents_batch));
		try_sql("SELECT order_engine.alter_endpoint('slim', format => '$format')");
	} ],
	fickle => [ 4, sub {
		my ($ordering, $after) = (pick(qw(none aggregate)), pick(qw(block continue)));
		try_sql("SELECT order_engine.alter_endpoint('fickle', ordering => '$ordering', after_dead => '$after')");
	} ],
	filter => [ 3, sub {
		my $types = pick('{test.*}', '{test.event}', '{test.event,test.poison}');
		try_sql("SELECT order_engine.alter_endpoint('filter', event_types => '$types')");
	} ],
	batch => [ 2, sub {
		my $max = pick(1, 2, 8, 32);
		try_sql("SELECT order_engine.alter_endpoint('batch', max_batch => $max)");
	} ],
	replay => [ 3, sub {
		my $name = pick(qw(ord none fickle batch fleeting));
		try_sql("SELECT order_engine.replay('$name', now() - interval '1 s' * random(), now())");
	} ],
	redrive => [ 3, sub {
		my $name = pick(qw(block dead fickle));
		try_sql("SELECT order_engine.redrive('$name')");
	} ],
	fleeting => [ 2, sub {
		try_sql(q{SELECT order_engine.drop_endpoint('fleeting')});
		eval { $node->create_endpoint($receiver, 'fleeting', %common,
			start_at => pick('now', 'earliest')); };
		delete $paused{fleeting};
	} ],
	bulk => [ 5, sub {
		return if ($count{bulk} // 0) > $rounds / 20;
		hold("SELECT write_bulk('b" . ++$serial . "', 1200)", 'COMMIT');
	} ],
	late => [ 4, sub { hold('SELECT write_once(' . (4 + int(rand(6))) . ')', pick('COMMIT', 'ROLLBACK')) } ],
	prepare => [ 3, sub {
		my $name = 'p' . ++$serial;
		return if keys %prepared > 5;
		$prepared{$name} = int(rand(6))
		  if try_sql("BEGIN; SELECT write_once(" . (4 + int(rand(6))) . "); PREPARE TRANSACTION '$name'");
	} ],
	locks => [ 3, sub {
		my $name = pick(grep { $_ ne 'fleeting' } @names);
		hold(pick(
			"SELECT order_engine.alter_endpoint('$name', rate => 0)",
			"SELECT order_engine.discard_dead_letters('$name')",
			"SELECT order_engine.drop_endpoint('$name')",
			"SELECT 1 FROM order_engine.replay FOR UPDATE"), 'ROLLBACK');
	} ],
);
my @choices = map { my $name = $_; ($name) x $actions{$name}[0] } sort keys %actions;

random_rules();
foreach my $round (1 .. $rounds)
{
	my $choice = pick(@choices);

	keep_writing();
	$count{$choice}++;
	note("round $round: $choice");
	$actions{$choice}[1]->();
	end_held(0);
	usleep(rand(400_000));
}

#
# And quiet again
#
end_held(1);
$node->wait_until_up;
$node->safe_psql('postgres', 'UPDATE control SET stop = true');
poll_until('the writers', sub {
	return !grep { !$_->is_done } values %sessions;
});
%sessions = ();
foreach my $name (split /\n/, $node->value('SELECT gid FROM pg_prepared_xacts'))
{
	$node->safe_psql('postgres', "COMMIT PREPARED '$name'");
}
# what hangs times out; to release it would be to accept it without a line in the log
$receiver->rules;
$node->call('resume_endpoint', { name => $_ }) foreach grep { $_ ne 'fleeting' } @names;
diag(join(', ', map { "$_ $count{$_}" } sort keys %count));
diag("$crashes crashes, $ends ends of workers");

my %condition = (filter => q{type = 'test.event'});
my %wanted;
foreach my $name (@promised)
{
	my $condition = $condition{$name} // q{type LIKE 'test.%'};

	$wanted{$name} = { map { $_ => 1 } $node->emitted($condition) };
}
diag(scalar(keys %{ $wanted{ord} }) . ' events');

# One line of the log for each event of each request.
sub log_of
{
	my ($name) = @_;
	my @log;

	foreach ($receiver->_log_lines("/$name"))
	{
		my ($id, $type, $aggregate, $sequence) =
		  /"id":"([^"]*)","type":"([^"]*)".*?"aggregateid":"([^"]*)","sequence":(\d+)/ or next;
		my ($status) = /"status":(\d+)/;
		push @log, { id => $id, type => $type, aggregate => $aggregate,
			sequence => $sequence, accepted => $status >= 200 && $status < 300 };
	}
	return @log;
}

sub missing
{
	my ($name) = @_;
	my %got = map { $_->{id} => 1 } grep { $_->{accepted} } log_of($name);

	return grep { !$got{$_} } sort keys %{ $wanted{$name} };
}

# whose attempts were not used up
is($node->value(q{SELECT string_agg(endpoint || ' ' || aggregateid || '/' || (payload->>'sequence') || ' ' || attempts || ' ' || last_error, ', ')
	FROM order_engine.dead_letter WHERE endpoint NOT IN ('block', 'dead', 'fickle', 'fleeting')}), '', 'no event was given up early');

foreach my $name (@promised)
{
	my @missing;

	eval {
		poll_until("events of $name", sub {
			$node->psql('postgres', "SELECT order_engine.redrive('$name')");
			usleep(100_000);
			@missing = missing($name);
			return !@missing;
		}, $long ? 170 : 60);
	};
	is(scalar @missing, 0, "$name: every event was accepted");
	if (@missing)
	{
		my $id = substr($missing[0], 4);

		diag("missing: @missing[0 .. min($#missing, 4)]");
		diag($node->value(qq{SELECT o FROM order_engine.outbox o WHERE replace(id::text, '-', '') = '$id'}));
		diag($node->value(qq{SELECT s FROM order_engine.endpoint_status s WHERE name = '$name'}));
		diag($node->value(qq{SELECT r FROM order_engine.delivery_retry r WHERE replace(id::text, '-', '') = '$id'}));
		diag($node->value(qq{SELECT r FROM order_engine.dead_letter r WHERE replace(id::text, '-', '') = '$id'}));
		diag($node->value(qq{SELECT p FROM (TABLE order_engine.position_0 UNION ALL TABLE order_engine.position_1) p
			JOIN order_engine.endpoint USING (endpoint_id) WHERE name = '$name' ORDER BY n DESC LIMIT 8}));
	}
}

foreach my $name (@ordered)
{
	my (%first, %last, @wrong);

	foreach my $e (grep { $_->{accepted} } log_of($name))
	{
		# a dead letter does not hold up what follows it, but with "block"
		next if $name eq 'dead' || $first{ $e->{id} }++;
		next if $name eq 'filter' && $e->{type} ne 'test.event';
		my $last = $last{ $e->{aggregate} } // 0;

		push @wrong, "$e->{aggregate}: $e->{sequence} after $last" if $e->{sequence} < $last;
		diag(join("\n", grep { /"aggregateid":"\Q$e->{aggregate}\E",/ } $receiver->_log_lines("/$name")))
		  if $e->{sequence} < $last && @wrong == 1;
		$last{ $e->{aggregate} } = max($last, $e->{sequence});
	}
	is(scalar @wrong, 0, "$name: first acceptances in order");
	diag("$name: " . join(', ', @wrong[ 0 .. min($#wrong, 9) ])) if @wrong;

	my $stats = $receiver->stats("/$name");
	is($stats->{overlaps}, 0, "$name: one request at a time in an aggregate");
}

foreach my $name (@names)
{
	my $stats = $receiver->stats("/$name");

	is($stats->{unverified}, 0, "$name: all is signed") if $name ne 'fleeting';
	diag(sprintf('%s: %d requests, %d events, %d accepted, %d repeated',
		$name, @$stats{qw(requests events accepted repeated)}));
	next if $name =~ /^(ord|none|fickle|batch|fleeting|block|dead)$/;
	cmp_ok($stats->{repeated}, '<=', ($crashes + $ends) * $duplicates_of_a_crash,
		"$name: duplicates are bounded");
}

$node->wait_for_value('SELECT count(*) FROM order_engine.replay', '0');
$node->wait_for_value(q{
	SELECT count(*) FROM order_engine.delivery_retry JOIN order_engine.endpoint USING (endpoint_id)
	WHERE name NOT IN ('best', 'fleeting')}, '0');
is($node->value(q{SELECT count(*) FROM order_engine.delivery_dead JOIN order_engine.endpoint USING (endpoint_id)
	WHERE name <> 'fleeting'}), '0', 'no dead letter is left');
cmp_ok($node->value(q{SELECT (SELECT count(*) FROM order_engine.position_0)
		+ (SELECT count(*) FROM order_engine.position_1)}), '<', 30_000, 'the position tables are small');
$node->stop;

done_testing();
