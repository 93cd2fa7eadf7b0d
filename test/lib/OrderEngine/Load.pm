
=head1 NAME

OrderEngine::Load - many events, and what they cost, for TAP tests

=head1 SYNOPSIS

  use OrderEngine::Load qw($long rss latencies);

  OrderEngine::Load::prepare($node);
  $node->safe_psql('postgres', 'CALL fill(1, 1000, 20)');    # 20,000 events

Events are those of a state machine on the table item, so each item's have
numbers without gaps. The long forms of tests run with OE_LONG=1 in the
environment.

=cut

package OrderEngine::Load;

use strict;
use warnings FATAL => 'all';

use Exporter qw(import);
use OrderEngine qw(poll_until percentile webhook_id);
use PostgreSQL::Test::Utils ();

our @EXPORT_OK = qw($long rss watch_rss cpu_seconds latencies show_latencies each_line start_writers);
our $long = $ENV{OE_LONG} ? 1 : 0;

# a long form may wait for long
$PostgreSQL::Test::Utils::timeout_default = 3600 if $long;

=head1 FUNCTIONS

=head2 prepare($node [, $database])

Creates the table item and procedures:

  fill(first, last, steps)    makes items and moves each by so many steps, all in
                              the caller's transaction
  fill_in_parts(first, last, steps, each)    the same, so many items in a
                              transaction
  walk(steps, first, last)    moves items between these numbers until each has
                              made so many steps, a transaction for each; several
                              sessions at once fight for the same items
  trickle(rate, count)        so many emit() at so many a second, each in a
                              transaction and of an aggregate of its own

=cut

sub prepare
{
	my ($node, $database) = @_;

	$node->safe_psql($database // 'postgres', q{
		SELECT order_engine.publish_machine(order_engine.define_machine('item', 'to_and_fro', '{
			"initial": "here", "states": {"here": {}, "there": {}, "gone": {"terminal": true}},
			"transitions": [
				{"event": "go", "from": "here", "to": "there"},
				{"event": "return", "from": "there", "to": "here"},
				{"event": "leave", "from": ["here", "there"], "to": "gone"}]}'));
		CREATE TABLE item (id bigint PRIMARY KEY, state text NOT NULL DEFAULT 'here',
			version bigint NOT NULL DEFAULT 0) WITH (fillfactor = 30);
		SELECT order_engine.attach_machine('item', 'item', 'to_and_fro', 'state', 'id', 'version');

		CREATE FUNCTION other(state text) RETURNS text LANGUAGE sql IMMUTABLE
		AS $$ SELECT CASE state WHEN 'here' THEN 'there' ELSE 'here' END $$;

		CREATE PROCEDURE fill(first bigint, last bigint, steps int) LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO item SELECT generate_series(first, last);
			FOR i IN 1..steps LOOP
				UPDATE item SET state = other(state) WHERE id BETWEEN first AND last;
			END LOOP;
		END $$;

		CREATE PROCEDURE fill_in_parts(first bigint, last bigint, steps int, each int) LANGUAGE plpgsql AS $$
		BEGIN
			FOR part IN first..last BY each LOOP
				CALL fill(part, least(part + each - 1, last), steps);
				COMMIT;
			END LOOP;
		END $$;

		CREATE PROCEDURE walk(steps int, first bigint, last bigint) LANGUAGE plpgsql AS $$
		DECLARE
			mine bigint;
			batch bigint[];
		BEGIN
			LOOP
				SELECT array_agg(id) INTO batch FROM (
					SELECT id FROM item WHERE id BETWEEN first AND last AND version < steps
					ORDER BY random() LIMIT 50) AS i;
				EXIT WHEN batch IS NULL;
				FOREACH mine IN ARRAY batch LOOP
					PERFORM pg_current_xact_id();
					UPDATE item SET state = other(state) WHERE id = mine AND version < steps;
					COMMIT;
				END LOOP;
			END LOOP;
		END $$;

		CREATE PROCEDURE trickle(rate float8, count int) LANGUAGE plpgsql AS $$
		DECLARE
			start timestamptz := clock_timestamp();
			ahead float8;
		BEGIN
			FOR i IN 1..count LOOP
				PERFORM order_engine.emit('trickle', gen_random_uuid()::text, 'trickle.event', '{}');
				COMMIT;
				ahead := i / rate - extract(epoch FROM clock_timestamp() - start);
				IF ahead > 0.0005 THEN
					PERFORM pg_sleep(ahead);
				END IF;
			END LOOP;
		END $$});
	return;
}

=head2 start_writers($node, $n, $sql)

So many sessions that have been sent this SQL; finish with quit of each after its
receive.

=cut

sub start_writers
{
	my ($node, $n, $sql) = @_;
	my @sessions = map { $node->session } 1 .. $n;

	$_->send($sql) foreach @sessions;
	return @sessions;
}

=head2 rss($pid), watch_rss(\$most, $pid)

Memory of a process in MB without what it shares; the second keeps the highest
that was seen, and returns it.

=cut

sub rss
{
	my ($pid) = @_;
	my $status = eval { PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") } // '';

	return $status =~ /^RssAnon:\s+(\d+) kB/m ? $1 / 1024 : 0;
}

sub watch_rss
{
	my ($most, $pid) = @_;
	my $now = rss($pid);

	$$most = $now if $now > ($$most // 0);
	return $$most;
}

=head2 cpu_seconds($pid)

What a process has used of the processors so far.

=cut

sub cpu_seconds
{
	my ($pid) = @_;
	my $stat = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat");
	my @fields = split(' ', $stat =~ s/^.*\) //sr);

	return ($fields[11] + $fields[12]) / 100;
}

=head2 each_line($receiver, $path, $callback)

Calls that with each line of the receiver's log for a path, without having all of
them in memory.

=cut

sub each_line
{
	my ($receiver, $path, $callback) = @_;

	$receiver->_request('POST', '/_flush');
	open(my $log, '<', "$receiver->{directory}/log") or die "could not read the log: $!";
	while (my $line = <$log>)
	{
		$callback->($line) if index($line, qq{"path":"$path",}) >= 0;
	}
	close($log);
	return;
}

=head2 latencies($node, $receiver, $path, $condition)

Milliseconds from the time of each event of the outbox for which this is true to
its first arrival.

=cut

sub latencies
{
	my ($node, $receiver, $path, $condition) = @_;
	my %arrival;
	my @result;

	each_line($receiver, $path, sub {
		my ($time, $id) = $_[0] =~ /"time":([\d.]+),.*?"id":"([^"]*)"/ or return;
		$arrival{$id} //= $time;
	});
	foreach my $row (split(/\n/, $node->safe_psql('postgres', qq{
		SELECT replace(id::text, '-', ''), extract(epoch FROM created_at)
		FROM order_engine.outbox WHERE $condition})))
	{
		my ($id, $created) = split(/\|/, $row);
		push @result, 1000 * ($arrival{"evt_$id"} - $created) if defined $arrival{"evt_$id"};
	}
	return @result;
}

=head2 show_latencies(@milliseconds)

=cut

sub show_latencies
{
	my (@values) = @_;

	return 'none' if !@values;
	return sprintf('p50 %.2f ms, p99 %.2f ms, most %.1f ms of %d',
		percentile(0.5, @values), percentile(0.99, @values), percentile(1, @values), scalar @values);
}

1;
