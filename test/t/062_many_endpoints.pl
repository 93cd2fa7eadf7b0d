
# Many endpoints with narrow filters: an event costs what its matches cost; those
# that fell behind catch up.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Load qw($long rss watch_rss cpu_seconds);
use OrderEngine::Receiver;
use Test::More;
use Time::HiRes qw(time);

my $endpoints = $long ? 1000 : 200;
my $events = $long ? 100_000 : 10_000;
my $each = $long ? 30 : 10;    # for each of the narrow ones

my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;
my $most;

# Emits in transactions of 10; every so many is for one of the narrow ones.
$node->safe_psql('postgres', q{
	CREATE PROCEDURE emit_all(tag text, count int, narrow int, endpoints int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..count LOOP
			PERFORM order_engine.emit('test', tag || i % 500, 'wide.event', jsonb_build_object('sequence', (i + 499) / 500));
			IF narrow > 0 AND i % (count / narrow) = 0 THEN
				PERFORM order_engine.emit('test', tag || i, 'narrow.' || (i / (count / narrow)) % endpoints, '{}');
			END IF;
			IF i % 10 = 0 THEN COMMIT; END IF;
		END LOOP;
	END $$});

# Events a second, and microseconds of the worker's processor for each.
my $accepted = 0;

sub measure
{
	my ($tag, $narrow) = @_;

	$node->call('pause_endpoint', { name => 'wide' });
	$node->safe_psql('postgres', "CALL emit_all('$tag', $events, $narrow, $endpoints)");
	my ($cpu, $begin) = (cpu_seconds($node->worker_pid), time);
	$node->call('resume_endpoint', { name => 'wide' });
	$accepted += $events;
	my $stats = $receiver->wait_for('/wide', accepted => $accepted);
	my @result = ($events / (time - $begin), 1e6 * (cpu_seconds($node->worker_pid) - $cpu) / $events);
	is("$stats->{duplicates} $stats->{out_of_order} $stats->{gaps}", '0 0 0', "$tag: all came, in order");
	return @result;
}

# The same while they are written, that is, near the head.
sub measure_live
{
	my ($tag) = @_;
	my ($cpu, $begin) = (cpu_seconds($node->worker_pid), time);

	$node->safe_psql('postgres', "CALL emit_all('$tag', $events, 0, 1)");
	$accepted += $events;
	$receiver->wait_for('/wide', accepted => $accepted);
	return ($events / (time - $begin), 1e6 * (cpu_seconds($node->worker_pid) - $cpu) / $events);
}

#
# One
#
$node->create_endpoint($receiver, 'wide', event_types => ['wide.*'], max_in_flight => 32);
measure('warm', 0);
my @one = measure('one', 0);
my @one_live = measure_live('one live');
my $before = rss($node->worker_pid);

#
# And many more
#
$node->safe_psql('postgres', sprintf(q{
	SELECT count(order_engine.create_endpoint('narrow' || i, '%s/' || i, event_types => ARRAY['narrow.' || i]))
	FROM generate_series(0, %d) i}, $receiver->url('/narrow'), $endpoints - 1));
$node->wait_for_value(q{SELECT count(*) FROM order_engine.endpoint_health()}, $endpoints + 1);
my @many = measure('many', 0);
my @many_live = measure_live('many live');
diag(sprintf('from a backlog, with one endpoint: %.0f/s, %.1f us of the worker each; with %d: %.0f/s, %.1f us (ratio %.2f)',
	@one, $endpoints + 1, @many, $many[1] / $one[1]));
diag(sprintf('as they are written, with one endpoint: %.0f/s, %.1f us of the worker each; with %d: %.0f/s, %.1f us (ratio %.2f)',
	@one_live, $endpoints + 1, @many_live, $many_live[1] / $one_live[1]));

#
# Some of them behind, at different places
#
my $groups = 5;
my $part = $each / $groups;

foreach my $group (1 .. $groups)
{
	$node->safe_psql('postgres', qq{
		SELECT order_engine.pause_endpoint('narrow' || i)
		FROM generate_series($group, @{[$endpoints - 1]}, 10) i});
	$node->safe_psql('postgres', "CALL emit_all('behind $group ', $events, $endpoints * $part, $endpoints)");
	$accepted += $events;
	watch_rss(\$most, $node->worker_pid);
}
$receiver->wait_for('/wide', accepted => $accepted);
watch_rss(\$most, $node->worker_pid);

# the control command answers for all paths at once
sub accepted
{
	my $stats = $receiver->_request('GET', '/_stats');
	my %n = map { $_ => $stats->{"/narrow/$_"}{accepted} // 0 } 0 .. $endpoints - 1;

	return \%n;
}
poll_until('those that are not paused', sub {
	my $n = accepted();
	watch_rss(\$most, $node->worker_pid);
	return !grep { ($_ % 10 == 0 || $_ % 10 > $groups) && $n->{$_} < $each } 0 .. $endpoints - 1;
});
pass('those that are not paused have all of theirs');
my $n = accepted();
is(scalar(grep { $_ % 10 >= 1 && $_ % 10 <= $groups && $n->{$_} >= $each } 0 .. $endpoints - 1),
	0, 'those that are paused have not');

my $begin = time;
$node->safe_psql('postgres', q{
	SELECT order_engine.resume_endpoint(name) FROM order_engine.endpoint WHERE status = 'paused'});
poll_until('all to catch up', sub {
	$n = accepted();
	watch_rss(\$most, $node->worker_pid);
	return !grep { $n->{$_} < $each } 0 .. $endpoints - 1;
});
diag(sprintf('%d endpoints up to %d events behind caught up in %.2f s; worker from %.1f to %.1f MB',
	$endpoints * $groups / 10, $groups * $events, time - $begin, $before, $most));
is(scalar(grep { $n->{$_} != $each } 0 .. $endpoints - 1), 0, 'each got all of its events, once');
is($receiver->stats('/wide')->{duplicates}, 0, 'and the wide one');
cmp_ok($most, '<', 300, 'memory of the worker is bounded');
my @after = measure_live('after');
diag(sprintf('afterwards, as they are written: %.0f/s, %.1f us', @after));
$node->stop;

done_testing();
