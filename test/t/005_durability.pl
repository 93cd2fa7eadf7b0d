
# Nothing is sent that a crash could undo, and what was prepared is sent when it
# is committed.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(percentile poll_until webhook_id);
use OrderEngine::Receiver;
use Test::More;

# Nobody but the worker shall have a reason to write WAL to disk: requests hang,
# so that no acknowledgement is committed, and nothing else runs.
my $node = OrderEngine->start_new(
	'main',
	conf => q{
		autovacuum = off
		track_commit_timestamp = on
		order_engine.poll_interval = '10 min'
	});
my $receiver = OrderEngine::Receiver->new;

#
# synchronous_commit = off
#
$node->create_endpoint($receiver, 'shop', timeout => '1 minute', max_in_flight => 256);
$node->safe_psql('postgres', 'CREATE TABLE control (round int)');

my $walwriter_sql = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'};
my $undone = 0;

# a process that is stopped can be killed; the crash that follows undoes what is
# not on disk
sub crash
{
	my ($walwriter) = @_;

	kill('KILL', $walwriter) == 1 or die "could not kill the WAL writer: $!";
	poll_until(
		'the restart',
		sub {
			$node->wait_until_up;
			my $pid = eval { $node->value($walwriter_sql) } // '';
			return $pid ne '' && $pid != $walwriter;
		});
	return;
}

foreach my $round (1 .. 3)
{
	$node->wait_for_worker;
	$receiver->rules({ path => '/shop', action => 'hang' });
	my $before = $receiver->stats('/shop')->{unique};
	my $writer = $node->session;

	my $walwriter = $node->stop_walwriter;
	$writer->query('SET synchronous_commit = off');
	$writer->query(
		"SELECT order_engine.emit('test', '$round ' || i, 'test.event', '{}') FROM generate_series(1, 20) i");
	$receiver->wait_for('/shop', unique => $before + 20);
	$writer->query("INSERT INTO control VALUES ($round)");
	crash($walwriter);
	$writer->quit;
	# the new worker may have sent them before this
	$receiver->control({ release => JSON::PP::true, rules => [] });

	my %emitted = map { $_ => 1 } $node->emitted;
	my @lost = grep { !$emitted{$_} } $receiver->ids('/shop');
	is(scalar @lost, 0, "every event that was sent outlives the crash ($round)");
	$undone += $node->value("SELECT count(*) = 0 FROM control WHERE round = $round") eq 't';
	$receiver->wait_for('/shop', accepted => scalar keys %emitted);
}
diag("$undone of 3 crashes undid a commit that was not on disk");
cmp_ok($undone, '>', 0, 'the crashes do undo what is not on disk');

#
# What was delivered: the worker waits for no disk, but somebody writes it there
#
$node->wait_for_worker;
my $accepted = $receiver->stats('/shop')->{accepted};
my $walwriter = $node->stop_walwriter;

$node->emit('delivered');
$receiver->wait_for('/shop', accepted => $accepted + 1);
$node->wait_for_value(q{
	SELECT bool_or(pg_visible_in_snapshot(last.txid, p.seen))
	FROM (SELECT txid FROM order_engine.outbox ORDER BY txid DESC LIMIT 1) last,
		(SELECT seen FROM order_engine.position_0 UNION ALL SELECT seen FROM order_engine.position_1) p}, 't');
my $written = $node->value('SELECT pg_current_wal_insert_lsn()');

# behind the header of a page an insertion is further than what can be flushed
$node->wait_for_value("SELECT pg_current_wal_flush_lsn() >= '$written'::pg_lsn - 40", 't');
my $duplicates = $receiver->stats('/shop')->{duplicates};
crash($walwriter);
$node->wait_for_worker;
$node->emit('after the crash');
is($receiver->wait_for('/shop', accepted => $accepted + 2)->{duplicates}, $duplicates,
	'what was delivered a moment ago is not sent again after a crash');

#
# Two-phase commit
#
sub prepare
{
	my ($name) = @_;

	return webhook_id($node->value(qq{
		BEGIN;
		SELECT order_engine.emit('test', '$name', 'test.prepared', '{}');
		PREPARE TRANSACTION '$name'}));
}

# Whether something was received, after another event that was emitted later.
sub was_sent
{
	my ($id) = @_;

	$receiver->wait_for_id('/shop', $node->emit('sentinel'));
	return scalar grep { $_ eq $id } $receiver->ids('/shop');
}

my $plain = prepare('plain');
my $over = prepare('over a restart');
my $crash = prepare('over a crash');
my $undo = prepare('rolled back');
is(was_sent($plain), 0, 'nothing is sent of a transaction that is prepared');

$node->safe_psql('postgres', "COMMIT PREPARED 'plain'");
$receiver->wait_for_id('/shop', $plain);
pass('it is sent when it is committed');

$node->restart;
is(was_sent($over), 0, 'nothing is sent after a restart either');
$node->safe_psql('postgres', "COMMIT PREPARED 'over a restart'");
$receiver->wait_for_id('/shop', $over);
pass('until it is committed');

$node->kill_worker;
$node->wait_until_up;
$node->safe_psql('postgres', "COMMIT PREPARED 'over a crash'");
$receiver->wait_for_id('/shop', $crash);
pass('the same after a crash');

$node->safe_psql('postgres', "ROLLBACK PREPARED 'rolled back'");
is(was_sent($undo), 0, 'nothing is sent of one that is rolled back');

# many of them, one after the other: each time the last one that is prepared
foreach my $i (1 .. 20)
{
	prepare("many $i");
	$node->safe_psql('postgres', "COMMIT PREPARED 'many $i'");
	poll_until("prepared transaction $i",
		sub { $receiver->stats('/shop')->{unique} == $node->value('SELECT count(*) FROM order_engine.outbox') });
}
my %committed = map { split /\|/ } split /\n/, $node->value(q{
	SELECT 'evt_' || replace(id::text, '-', ''),
		extract(epoch FROM pg_xact_commit_timestamp(txid::xid))
	FROM order_engine.outbox WHERE aggregateid LIKE 'many %'});
my %arrived = map { $_->{id} => $_->{time} } $receiver->requests('/shop');
my @latency = map { ($arrived{$_} - $committed{$_}) * 1000 } keys %committed;
diag(sprintf('from COMMIT PREPARED to request: median %.0f ms, worst %.0f ms of %d',
	percentile(0.5, @latency), percentile(1, @latency), scalar @latency));
cmp_ok(percentile(1, @latency), '<', 5000, 'long before the next poll');
is_deeply(
	[ sort { $a cmp $b } $node->emitted ],
	[ sort { $a cmp $b } keys %{ { map { $_ => 1 } $receiver->ids('/shop') } } ],
	'in all, what was committed was sent');
$node->stop;

done_testing();
