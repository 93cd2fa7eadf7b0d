
# A transaction that began long ago neither loses its events when it commits at
# last, nor delays those of others until then.

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use OrderEngine qw(percentile webhook_id);
use OrderEngine::Receiver;
use Test::More;

my $node = OrderEngine->start_new(
	'main',
	conf => q{
		track_commit_timestamp = on
		order_engine.poll_interval = '10 min'
		autovacuum = off
	});
my $receiver = OrderEngine::Receiver->new;

# Milliseconds from the commit of these events' transactions to their arrival.
sub latencies
{
	my ($condition) = @_;
	my %committed = map { split /\|/ } split /\n/, $node->value(qq{
		SELECT 'evt_' || replace(id::text, '-', ''),
			extract(epoch FROM pg_xact_commit_timestamp(txid::xid))
		FROM order_engine.outbox WHERE $condition});
	my %received = map { $_->{id} => $_->{time} } $receiver->requests('/shop');

	return map { ($received{$_} - $committed{$_}) * 1000 } keys %committed;
}

sub summary
{
	return sprintf('median %.1f ms, 95 %% %.1f ms, worst %.1f ms of %d',
		percentile(0.5, @_), percentile(0.95, @_), percentile(1, @_), scalar @_);
}

$node->create_endpoint($receiver, 'shop');
$node->safe_psql('postgres', 'CREATE DATABASE other');

#
# It emitted first and commits last
#
my $total = 0;
foreach my $round (1 .. 5)
{
	my $late = $node->session;
	my $id;

	$late->query('BEGIN');
	$id = webhook_id($late->query(
			"SELECT order_engine.emit('test', 'late $round', 'test.late', '{}')"));
	$node->emit_many("'early $round ' || i", 1, 1000);
	$total += 1000;
	$receiver->wait_for('/shop', accepted => $total);
	is(scalar(grep { $_ eq $id } $receiver->ids('/shop')),
		0, 'nothing is sent before its transaction commits');

	# and some right around it
	$node->emit_many("'around $round ' || i", 1, 10);
	$late->query('COMMIT');
	$node->emit_many("'around $round ' || i", 11, 20);
	$total += 21;
	$receiver->wait_for('/shop', accepted => $total);
	is(scalar(grep { $_ eq $id } $receiver->ids('/shop')),
		1, 'it is sent once when the transaction has committed');
	$late->quit;
}
my @late = latencies("type = 'test.late'");
diag('late commit to request: ' . summary(@late));
cmp_ok(percentile(1, @late), '<', 5000, 'long before the next poll');

# one that rolls back leaves nothing behind
my $late = $node->session;
$late->query('BEGIN');
my $never = webhook_id(
	$late->query("SELECT order_engine.emit('test', 'never', 'test.late', '{}')"));
$node->emit_many("'before ' || i", 1, 10);
$late->query('ROLLBACK');
$late->quit;
$node->emit_many("'after ' || i", 1, 10);
$total += 20;
$receiver->wait_for('/shop', accepted => $total);
is(scalar(grep { $_ eq $never } $receiver->ids('/shop')),
	0, 'nothing is sent of a late one that rolls back');

#
# Old transactions delay nobody
#
$node->emit($_) foreach map { "alone $_" } 1 .. 20;
$total += 20;
$receiver->wait_for('/shop', accepted => $total);

my %old = (
	'with an xid' => [ 'postgres', 'BEGIN; SELECT pg_current_xact_id()' ],
	'with an xid in another database' => [ 'other', 'BEGIN; SELECT pg_current_xact_id()' ],
	'with a snapshot' =>
	  [ 'postgres', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM order_engine.outbox' ],
	'with a snapshot in another database' =>
	  [ 'other', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class' ],
	'that emitted' =>
	  [ 'postgres', q{BEGIN; SELECT order_engine.emit('test', 'open', 'test.open', '{}')} ]);
my %sessions;
foreach my $what (sort keys %old)
{
	my ($database, $sql) = @{ $old{$what} };

	$sessions{$what} = $node->session($database);
	$sessions{$what}->query($sql);
}
$node->emit_many("'crowd ' || i", 1, 2000);
$total += 2000;
$receiver->wait_for('/shop', accepted => $total);
$node->emit($_) foreach map { "beside $_" } 1 .. 20;
$total += 20;
$receiver->wait_for('/shop', accepted => $total);
is( $node->value(q{
		SELECT count(*) FROM pg_stat_activity
		WHERE state = 'idle in transaction' AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)}),
	scalar keys %old,
	'transactions ' . join(', ', sort keys %old) . ' were open meanwhile');

my @alone = latencies("aggregateid LIKE 'alone %'");
my @beside = latencies("aggregateid LIKE 'beside %'");
diag('without old transactions: ' . summary(@alone));
diag('with old transactions: ' . summary(@beside));
cmp_ok(percentile(1, @beside), '<', 5000, 'events are sent at once all the same');
is($node->value(q{SELECT lag IS NULL FROM order_engine.endpoint_status}),
	't', 'and the endpoint is seen to be up to date');
$sessions{$_}->query('COMMIT') foreach sort keys %sessions;
$total += 1;
$receiver->wait_for('/shop', accepted => $total);
$_->quit foreach values %sessions;

is_deeply([ sort $receiver->ids('/shop') ],
	[ sort $node->emitted ], 'in all, each event was sent once');

#
# While requests are under way the worker holds nothing in the database
#
$receiver->rules({ path => '/shop', action => 'hang' });
$node->emit_many("'hang ' || i", 1, 8);
$receiver->wait_for('/shop', requests => $total + 8);
my $worker = $node->worker_pid;
$node->wait_for_value(
	"SELECT state FROM pg_stat_activity WHERE pid = $worker", 'idle');
is($receiver->stats('/shop')->{in_flight}, 8, 'requests hang');
is($node->value('SELECT in_flight FROM order_engine.stat_worker'), '8', 'stat_worker tells');
is( $node->value(qq{
		SELECT backend_xid IS NULL, backend_xmin IS NULL, xact_start IS NULL, state
		FROM pg_stat_activity WHERE pid = $worker}),
	't|t|t|idle', 'the worker has no transaction and no snapshot');
is( $node->value(qq{
		SELECT locktype, mode, classid::regclass, min(objsubid), max(objsubid), count(*) FROM pg_locks
		WHERE pid = $worker GROUP BY 1, 2, 3}),
	'advisory|ExclusiveLock|pg_extension|3|18|16',
	'its only locks are those that keep a second worker from its shards');
$receiver->control({ release => JSON::PP::true, rules => [] });
$receiver->wait_for('/shop', accepted => $total + 8);
is($receiver->stats('/shop')->{duplicates}, 0, 'nothing was sent twice');
$node->stop;

done_testing();
