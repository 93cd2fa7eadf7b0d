
=head1 NAME

OrderEngine::Crash - writers that know what they committed, and kill points

=head1 SYNOPSIS

  my $crash = OrderEngine::Crash->new($node, $receiver, paths => ['ord', 'none']);

  $crash->start;                        # 32 writers
  my $at = $crash->kill_at('worker, acknowledging');
  $crash->recover($at);                 # until everything is received again
  is_deeply([ $crash->faults ], [], 'nothing is wrong');

A writer is a psql of its own that works through a script: orders are placed and
walked through their lives, some transactions are rolled back as a whole, some to
a savepoint. It writes down which events a transaction made before it commits, and
that it was committed when the server has said so. After a crash it asks for the
one in between, and repeats the order that it placed last with the same
idempotency key. So what was committed is known without the outbox. (It asks for a
row of its own: pg_xact_status does not do, because the number of a transaction
that a crash undid before it was on disk is given to another one.)

=cut

package OrderEngine::Crash;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Carp qw(croak);
use File::Basename qw(dirname);
use JSON::PP ();
use OrderEngine qw(poll_until);
use POSIX ();
use PostgreSQL::Test::Utils ();
use Time::HiRes qw(time usleep);

# results of one flush, see FLUSH_RESULTS in worker.c
our $flush_results = 1000;

my $transactions = 4000;    # of one script, more than a round takes

=head1 METHODS

=head2 OrderEngine::Crash->new($node, $receiver, %options)

Options: paths (names of the endpoints that get everything), writers (32), pause
(0.2, the longest pause between two transactions in seconds), settings ('', SQL
that each writer begins with), durable (1; 0: also what was answered may be undone by a crash).

=cut

sub new
{
	my ($class, $node, $receiver, %options) = @_;
	my $self = bless {
		node => $node, receiver => $receiver,
		writers => 32, pause => 0.2, settings => '', durable => 1, paths => [],
		directory => PostgreSQL::Test::Utils::tempdir(),
		round => 0, offset => 0, seen => {}, partial => '',
		committed => {}, undone => {}, orders => {}, doubtful => [], faults => [],
		%options
	}, $class;

	my $walker = abs_path(dirname(__FILE__) . '/../walker.sql');
	$node->safe_psql('postgres', PostgreSQL::Test::Utils::slurp_file($walker));
	$node->safe_psql('postgres', q{
		SELECT order_engine.upsert_location('L1', 'Second', priority => 5);
		SELECT order_engine.upsert_product('S' || n, 'S', tracked => n < 7) FROM generate_series(0, 7) n;
		SELECT order_engine.adjust_stock('S' || n, l, 60, 'received')
		FROM generate_series(0, 7) n, unnest('{default,L1}'::text[]) l;
		SELECT order_engine.upsert_product('P' || n, 'P') FROM generate_series(0, 19) n;
		SELECT order_engine.adjust_stock('P' || n, 'default', 1000000, 'received') FROM generate_series(0, 19) n;
		SELECT order_engine.set_channel_locations('store', '{L1,default}');

		CREATE SCHEMA crash;

		-- the same for the same key, as a client that repeats it would call it
		CREATE FUNCTION crash.place(key text) RETURNS bigint LANGUAGE sql AS $$
			SELECT order_engine.place_order('C' || abs(hashtext(key)) % 100, jsonb_build_array(
				jsonb_build_object('sku', 'P' || abs(hashtext(key)) % 20, 'quantity', 1 + abs(hashtext(key)) % 3, 'unit_price', 9.90),
				jsonb_build_object('sku', 'P' || abs(hashtext(key || 'x')) % 20, 'quantity', 1, 'unit_price', 1.10)),
				'EUR', order_number => key, terms => 'invoice', idempotency_key => key)
		$$;

		-- the events of the transaction so far
		CREATE FUNCTION crash.made() RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			RETURN coalesce((SELECT string_agg('evt_' || replace(id::text, '-', ''), ',')
				FROM order_engine.outbox WHERE txid = pg_current_xact_id_if_assigned()), '-');
		END $$;

		CREATE TABLE crash.writer_log (key text PRIMARY KEY);

		CREATE FUNCTION crash.act(key text, verbs text[]) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			placed text := '-';
		BEGIN
			IF key <> '' THEN
				INSERT INTO crash.writer_log VALUES (key);
			END IF;
			IF verbs IS NULL THEN
				placed := crash.place(key);
				PERFORM order_engine.emit('note', key, 'note.placed', jsonb_build_object('order', placed));
			ELSE
				PERFORM walk.step(verbs);
			END IF;
			RETURN placed || ' ' || crash.made();
		END $$;

		CREATE FUNCTION crash.try_out(verbs text[]) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM walk.step_of(verbs[1 + floor(random() * cardinality(verbs))::int]);
			RETURN '- ' || crash.made();
		END $$;
	});
	$self->{script} = "$self->{directory}/writer.sql";
	PostgreSQL::Test::Utils::append_to_file($self->{script}, $self->_script);
	return $self;
}

# Every fourth transaction places an order, every eighth is rolled back, every
# eighth goes back to a savepoint.
sub _script
{
	my ($self) = @_;
	my %weights = (place => 12, transition => 40, cancel => 4, request_payment => 16, gateway => 8,
		report => 24, refund => 3, fulfill => 14, return => 2, receive => 2, hold => 1, cart => 3,
		take_over => 2, adjust => 2);
	my $verbs = join(',', map { ($_) x $weights{$_} } sort keys %weights);
	my $script = "$self->{settings};\n\\set verbs '{$verbs}'\n";

	foreach my $i (1 .. $transactions)
	{
		my $kind = $i % 8;
		my $act = sprintf(q{SELECT crash.act(:'w' || '/' || :'r' || '/%d', %s) AS made \gset},
			$i, $kind % 4 == 0 ? 'NULL' : q{:'verbs'});

		# Two verbs in a transaction may deadlock with others, unless the first is undone. And
		# only if it ran in the savepoint itself: who waits for a row that a subtransaction
		# within has locked waits for the end of the whole transaction, also after the
		# savepoint was gone back to. So here no block of PL/pgSQL survives an error.
		$script .= "BEGIN;\n";
		$script .= "SAVEPOINT s;\n\\set more -\n\\set ON_ERROR_STOP 0\n\\set VERBOSITY sqlstate\n"
		  . "SELECT crash.try_out(:'verbs') AS more \\gset\n"
		  . "\\set VERBOSITY default\n\\set ON_ERROR_STOP 1\n"
		  . "\\echo back $i :more\nROLLBACK TO s;\n"
		  if $kind == 2;
		$script .= "$act\n";
		$script .= $kind == 5 ? "\\echo undo $i :made\nROLLBACK;\n"
		  : "\\echo try $i :made\nCOMMIT;\n\\echo done $i\n";
		$script .= "SELECT pg_sleep(random() * $self->{pause});\n";
	}
	return $script;
}

=head2 $crash->start

Starts the writers of another round.

=cut

sub start
{
	my ($self) = @_;
	my $round = ++$self->{round};

	$self->{pids} = {};
	foreach my $w (1 .. $self->{writers})
	{
		my $pid = fork() // croak "could not fork: $!";

		if ($pid == 0)
		{
			open(STDIN, '<', '/dev/null') or POSIX::_exit(126);
			open(STDOUT, '>', "$self->{directory}/$w.out") or POSIX::_exit(126);
			open(STDERR, '>', "$self->{directory}/$w.err") or POSIX::_exit(126);
			$ENV{PGAPPNAME} = 'writer';
			{
				no warnings 'exec';
				exec 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', "w=$w", '-v', "r=$round",
				  '-f', $self->{script}, '-d', $self->{node}->connstr('postgres');
			}
			POSIX::_exit(127);
		}
		$self->{pids}{$pid} = $w;
	}
	return;
}

=head2 $crash->end_writers

Ends them, when the server goes on without them.

=cut

sub end_writers
{
	my ($self) = @_;

	$self->{node}->safe_psql('postgres',
		q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'writer'});
	$self->collect;
	return;
}

=head2 $crash->collect

Waits until the writers have ended, as they do when the server is gone, and takes
in what they know.

=cut

sub collect
{
	my ($self) = @_;

	poll_until('the writers to end', sub {
		foreach my $pid (keys %{ $self->{pids} })
		{
			delete $self->{pids}{$pid} if waitpid($pid, POSIX::WNOHANG()) == $pid;
		}
		return !%{ $self->{pids} };
	});
	$self->_read_writer($_) foreach 1 .. $self->{writers};
	return;
}

sub _read_writer
{
	my ($self, $w) = @_;
	my (%made, %open);

	open(my $out, '<', "$self->{directory}/$w.out") or die "$w.out: $!";
	while (my $line = <$out>)
	{
		my ($what, $i, $placed, $ids) = split(' ', $line) or next;
		my $key = "$w/$self->{round}/$i";
		my @ids = split(/,/, ($ids // '-') =~ s/^-$//r);

		if ($what eq 'try')
		{
			$open{$i} = { key => $key, placed => $placed, ids => \@ids };
			$open{$i}{is_order} = $i % 4 == 0;
		}
		elsif ($what eq 'done')
		{
			my $made = delete $open{$i} // die "writer $w: done $i without try";

			$self->_known($made);
		}
		else
		{
			$self->{undone}{$_} = "$what $key" foreach @ids;
		}
	}
	close($out);
	push @{ $self->{doubtful} }, values %open;

	# what a verb refuses in a savepoint is part of the game, as in walk.step()
	my @errors = grep { /ERROR:/ && !/ERROR:  (?:OE\w{3}|55P03|22023)$/ }
	  split(/\n/, PostgreSQL::Test::Utils::slurp_file("$self->{directory}/$w.err"));
	push @{ $self->{faults} }, map { "writer $w: $_" } @errors;
	return;
}

# It is committed.
sub _known
{
	my ($self, $made) = @_;

	$self->{committed}{$_} = $made->{key} foreach @{ $made->{ids} };
	$self->{orders}{ $made->{key} } = $made->{placed} if $made->{is_order};
	return;
}

=head2 $crash->settle

Asks what became of the transactions whose COMMIT got no answer, and repeats the
orders that they placed, with the same key. Returns how many there were, and how
many of them had been committed.

=cut

sub settle
{
	my ($self) = @_;
	my $node = $self->{node};
	my @doubtful = splice(@{ $self->{doubtful} });
	my $keys = join(',', map { $_->{key} } @doubtful);
	my %there = map { $_ => 1 } split(/\n/, $node->safe_psql('postgres',
		"SELECT key FROM crash.writer_log WHERE key = ANY ('{$keys}')"));

	foreach my $made (@doubtful)
	{
		if ($there{ $made->{key} })
		{
			$self->_known($made);
		}
		else
		{
			$self->{undone}{$_} = "in doubt $made->{key}" foreach @{ $made->{ids} };
		}
	}
	my @repeat = grep { $_->{is_order} } @doubtful;
	my $answers = $node->safe_psql('postgres', join('', map {
		"SELECT crash.place('$_->{key}'), order_engine.was_replayed();\n" } @repeat));
	my @answers = split(/\n/, $answers);

	foreach my $made (@repeat)
	{
		my ($order, $replayed) = split(/\|/, shift @answers);
		my $known = delete $self->{orders}{ $made->{key} };

		push @{ $self->{faults} }, "$made->{key} became order $known and $order"
		  if defined $known && ($known ne $order || $replayed ne 't');
		push @{ $self->{faults} }, "$made->{key} was rolled back and is replayed"
		  if !defined $known && $replayed ne 'f';
		$self->{orders}{ $made->{key} } = $order;
	}
	return (scalar @doubtful, scalar keys %there);
}

=head2 $crash->forget_undone

For writers that do not wait for the disk: forgets what was answered and is gone
all the same. Returns how many transactions that were, and of how many.

=cut

sub forget_undone
{
	my ($self) = @_;
	my %there = map { $_ => 1 } split(/\n/, $self->{node}->safe_psql('postgres', 'SELECT key FROM crash.writer_log'));
	my %answered = map { $_ => 1 } values %{ $self->{committed} };
	my %gone = map { $_ => 1 } grep { !$there{$_} } keys %answered;

	foreach my $id (keys %{ $self->{committed} })
	{
		my $key = $self->{committed}{$id};

		next if !$gone{$key};
		$self->{undone}{$id} = "answered and undone $key";
		delete $self->{committed}{$id};
		delete $self->{orders}{$key};
	}
	return (scalar keys %gone, scalar keys %answered);
}

=head2 $crash->read_log

Takes in what the receiver has logged since the last call; returns the requests
with an event that came for the first time, as [time, path, id].

=cut

sub read_log
{
	my ($self) = @_;
	my @new;

	$self->{receiver}->_request('POST', '/_flush');
	open(my $log, '<', "$self->{receiver}{directory}/log") or die "could not read the log: $!";
	seek($log, $self->{offset}, 0);
	while (my $line = <$log>)
	{
		my ($time, $path, $id) = $line =~ /^\{"time":([\d.]+),"path":"\/([^"]*)","id":"([^"]*)"/
		  or die "cannot read the line: $line";

		push @new, [ $time, $path, $id ] if !$self->{seen}{$path}{$id}++;
	}
	$self->{offset} = tell($log);
	close($log);
	return @new;
}

=head2 $crash->wait_until_received

Waits until each endpoint has accepted every event of the outbox, and nothing is
left to be tried again.

=cut

sub wait_until_received
{
	my ($self) = @_;
	my $state = '';

	eval {
		poll_until('everything to be received', sub {
			my $emitted = $self->{node}->value(
				q{SELECT count(*) FROM order_engine.outbox WHERE aggregatetype <> 'endpoint'});
			my @accepted = map { $self->{receiver}->stats("/$_")->{accepted} } @{ $self->{paths} };

			$state = "$emitted emitted, accepted @accepted";
			usleep(50_000);
			return !grep { $_ < $emitted } @accepted;
		});
		1;
	} or croak "everything is not received: $state";
	return;
}

=head2 $crash->faults

What is wrong with what was received so far, and what is wrong in the database; an
empty list is right. With thorough => 1 also what takes long with many orders.

=cut

sub faults
{
	my ($self, %options) = @_;
	my $node = $self->{node};
	my @faults = splice(@{ $self->{faults} });

	$self->read_log;
	foreach my $path (@{ $self->{paths} })
	{
		my $seen = $self->{seen}{$path};
		my @lost = grep { !$seen->{$_} } keys %{ $self->{committed} };
		my @undone = grep { $seen->{$_} } keys %{ $self->{undone} };

		$self->{lost}{$path} = scalar @lost;
		push @faults, sprintf('%s: %d committed events were not received, such as %s of %s',
			$path, scalar @lost, $lost[0], $self->{committed}{ $lost[0] }) if @lost;
		push @faults, sprintf('%s: %d events of what was rolled back were received, such as %s: %s',
			$path, scalar @undone, $undone[0], $self->{undone}{ $undone[0] }) if @undone;
	}
	foreach my $check (qw(verify_stock verify_orders))
	{
		my $answer = $node->safe_psql('postgres', "SELECT * FROM order_engine.$check()");
		push @faults, "$check: $answer" if $answer ne '';
	}
	return @faults if !$options{thorough};

	# maintenance may have written more since
	my %emitted = map { $_ => 1 } $node->emitted(q{aggregatetype <> 'endpoint'});
	my $lacks = sub {
		my ($path) = @_;
		return grep { !$self->{seen}{$path}{$_} } keys %emitted;
	};

	eval { poll_until('the rest', sub {
		$self->read_log;
		return !grep { $lacks->($_) } @{ $self->{paths} };
	}, 30); };
	my %late = map { $_ => 1 } grep { !$emitted{$_} } $node->emitted(q{aggregatetype <> 'endpoint'});
	%emitted = (%emitted, %late);
	foreach my $path (@{ $self->{paths} })
	{
		my @unknown = grep { !$emitted{$_} } keys %{ $self->{seen}{$path} };
		my @missing = grep { !$late{$_} } $lacks->($path);

		push @faults, "$path: " . scalar(@unknown) . " events were received that do not exist, such as $unknown[0]" if @unknown;
		push @faults, "$path: " . scalar(@missing) . " events were not received, such as $missing[0]" if @missing;
	}
	push @faults, map { "an event that was committed is not in the outbox: $_" }
	  grep { !$emitted{$_} } keys %{ $self->{committed} };

	my %order;
	foreach (split(/\n/, $node->safe_psql('postgres',
		q{SELECT order_number, order_id FROM order_engine.orders WHERE order_number ~ '^[0-9]+/[0-9]+/[0-9]+$'})))
	{
		my ($number, $id) = split(/\|/);

		push @faults, "order $number is there twice" if exists $order{$number};
		$order{$number} = $id;
	}
	foreach my $key (keys %{ $self->{orders} })
	{
		push @faults, "$key is order $self->{orders}{$key} and is stored as " . ($order{$key} // 'none')
		  if ($order{$key} // '') ne $self->{orders}{$key};
	}
	if ($self->{durable})
	{
		push @faults, map { "nobody knows of order $_" } grep { !exists $self->{orders}{$_} } keys %order;
	}
	push @faults, $self->_disagreements;
	return @faults;
}

# Orders, stock, history and events tell the same.
sub _disagreements
{
	my ($self) = @_;
	my %queries = (
		'an error that no verb announces' => q{
			SELECT verb, sqlstate, message, count(*) FROM walk.outcome
			WHERE NOT (sqlstate LIKE 'OE%' OR sqlstate IN ('00000', '55P03', '22023', 'WALK0'))
			GROUP BY 1, 2, 3 LIMIT 10},
		'history and events differ' => q{
			SELECT h.order_id, h.seq, h.event, e.aggregateid, e.aggregate_seq, e.type
			FROM (SELECT * FROM order_engine.history WHERE order_id IS NOT NULL) h
			FULL JOIN (SELECT * FROM order_engine.outbox WHERE aggregatetype = 'order') e
				ON e.aggregateid = h.order_id::text AND e.aggregate_seq = h.seq
			WHERE h.order_id IS NULL OR e.id IS NULL OR e.payload ->> 'event' <> h.event
				OR e.payload ->> 'to' <> h.to_state OR e.payload ->> 'from' <> h.from_state
			LIMIT 10},
		'an order is not where its history ends' => q{
			SELECT o.order_id, o.state, o.version FROM order_engine.orders o
			JOIN (SELECT order_id, count(*) AS n, max(seq) AS last FROM order_engine.history GROUP BY order_id) h USING (order_id)
			JOIN (SELECT DISTINCT ON (order_id) order_id, to_state FROM order_engine.history
				WHERE entity = 'order' ORDER BY order_id, seq DESC) s USING (order_id)
			WHERE o.version <> h.last OR o.version <> h.n OR o.state <> s.to_state LIMIT 10},
		'an order without history' => q{
			SELECT order_id FROM order_engine.orders o
			WHERE NOT EXISTS (SELECT FROM order_engine.history h WHERE h.order_id = o.order_id) LIMIT 10},
		'stock is not what was received less what was shipped' => q{
			SELECT sku, on_hand, shipped, restocked, received FROM
				(SELECT sku, sum(on_hand) AS on_hand FROM order_engine.stock GROUP BY sku) s
				LEFT JOIN (SELECT sku, sum(shipped) AS shipped, sum(undelivered) AS undelivered
					FROM order_engine.order_line WHERE tracked GROUP BY sku) l USING (sku)
				LEFT JOIN (SELECT l.sku, sum(r.restocked) AS restocked
					FROM order_engine.return_line r JOIN order_engine.order_return o USING (return_id)
					JOIN order_engine.order_line l USING (order_id, line_no) WHERE l.tracked GROUP BY l.sku) r USING (sku)
				LEFT JOIN (SELECT sku, sum(on_hand_delta) AS received FROM order_engine.stock_movement
					WHERE kind = 'adjust' GROUP BY sku) a USING (sku)
			WHERE on_hand + coalesce(shipped, 0) - coalesce(restocked, 0) - coalesce(undelivered, 0) <> received});
	my @faults;

	foreach my $what (sort keys %queries)
	{
		my $answer = $self->{node}->safe_psql('postgres', $queries{$what});

		push @faults, "$what: $answer" if $answer ne '';
	}
	return @faults;
}

1;
