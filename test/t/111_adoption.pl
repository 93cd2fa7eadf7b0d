
# Copies that are made and adopted while much is going on: dumps and template
# copies of a database whose requests are in flight, writers who write while it is
# adopted, transactions that are prepared then, a dump of what was adopted before,
# and one of a clone, whose transaction ids mean something else in the original.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until emit_sql webhook_id);
use OrderEngine::Copy qw(undelivered);
use OrderEngine::Load;
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $conf = q{
wal_level = replica
max_wal_senders = 5
max_worker_processes = 30
order_engine.workers = 2
order_engine.poll_interval = '200ms'
order_engine.databases = 'shop, template_copy, prepared, back, again'
};
my $source = OrderEngine->start_new('source', databases => ['shop'], conf => $conf);
my $target = OrderEngine->start_new('target', databases => [], conf => $conf);
my $original = OrderEngine::Receiver->new;

sub wait_for_workers
{
	my ($node, $database, $n) = @_;

	$node->wait_for_value(
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_engine worker' AND datname = '$database'", $n);
	return;
}

sub accepted
{
	my ($receiver, $path) = @_;

	return map { $_->{id} => 1 } grep { $_->{status} == 200 } $receiver->requests($path);
}

sub dump_and_restore
{
	my ($from, $database, $to, $new) = @_;

	$from->command_ok([ 'pg_dump', '-Fc', '-f', "$directory/$new", $from->connstr($database) ], "dump for $new");
	restore($to, $new, $new);
	return;
}

sub restore
{
	my ($node, $file, $database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->command_ok([ 'pg_restore', '-d', $node->connstr($database), "$directory/$file" ], "restored as $database");
	wait_for_workers($node, $database, 2);
	return;
}

# Each endpoint gets exactly what is expected of it.
sub gets
{
	my ($node, $database, $receiver, %expected) = @_;

	foreach my $name (sort keys %expected)
	{
		my $n = keys %{ $expected{$name} };

		eval { poll_until("$n at $name", sub { $receiver->stats("/$name")->{unique} >= $n }, 60) };

		my $stats = $receiver->stats("/$name");
		my %got = map { $_ => 1 } $receiver->ids("/$name");

		is(scalar(grep { !$got{$_} } keys %{ $expected{$name} }), 0, "$database: $name gets all of $n");
		is(scalar(grep { !$expected{$name}->{$_} } keys %got), 0, "$database: $name gets nothing else");
		is("$stats->{duplicates} $stats->{out_of_order} $stats->{unverified}", '0 0 0', "$database: $name: once, in order, signed");
		$node->wait_for_value("SELECT order_engine.undelivered('$name')", 0, $database);
	}
	return;
}

# What is missing in a copy that was made while requests were in flight: nothing
# but what was acknowledged, and not much of that.
sub is_complete
{
	my ($what, $copy, $all, $before, $after) = @_;
	my $twice = grep { $before->{$_} } keys %$copy;

	is(scalar(grep { !$copy->{$_} && !$after->{$_} } @$all), 0, "$what: what is not to be sent was acknowledged");
	cmp_ok($twice, '<=', 8 + 1000, "$what: acknowledged and to be sent: in flight, or of one flush");
	note("$what: $twice of ", scalar(keys %$before), ' acknowledged ones are to be sent again');
	return;
}

# ---------- a dump and a template copy in the middle of the work, over several leaves

OrderEngine::Load::prepare($source, 'shop');
$source->create_endpoint($original, 'quick', database => 'shop', event_types => ['item.*', 'test.*']);
$source->create_endpoint($original, 'slow', database => 'shop', event_types => ['item.*', 'test.*'], max_in_flight => 8,
	query => 'delay_ms=40');
foreach my $leaf (0 .. 3)
{
	$source->safe_psql('shop', $leaf == 0 ? 'INSERT INTO order_engine.outbox_ring VALUES (0, now())'
		: "UPDATE order_engine.outbox_ring SET current_leaf = $leaf, switched_at = now()");
	$source->safe_psql('shop', sprintf('CALL fill_in_parts(%d, %d, 9, 10)', $leaf * 50 + 1, $leaf * 50 + 50));
}
my @all = $source->emitted(undef, 'shop');

$original->wait_for('/slow', accepted => 100);

my %before = accepted($original, '/slow');

dump_and_restore($source, 'shop', $target, 'shop');

my %after = accepted($original, '/slow');
my %copy = undelivered($target, 'shop');

cmp_ok(scalar keys %after, '<', scalar @all, 'it was in the middle of the work');
is($target->value('SELECT count(DISTINCT leaf) FROM order_engine.outbox', 'shop'), 4, 'four leaves');
is_complete('dump', $copy{slow}, \@all, \%before, \%after);

%before = accepted($original, '/slow');
$source->wait_for_value(q{SELECT sum(in_flight) > 0 FROM order_engine.stat_worker}, 't', 'shop');
poll_until('a template copy', sub {
		my ($status) = $source->psql('postgres', 'CREATE DATABASE template_copy TEMPLATE shop');
		return $status == 0;
	});
%after = accepted($original, '/slow');
cmp_ok(scalar keys %before, '<', scalar @all, 'and so was this');

my %template = undelivered($source, 'template_copy');
my $receiver = OrderEngine::Receiver->new;

is_complete('template', $template{slow}, \@all, \%before, \%after);
OrderEngine::Copy::redirect($source, $receiver, 'template_copy');
$source->safe_psql('template_copy', "SELECT order_engine.emit('test', 'template', 'test.event', '{}')");
is($source->value('SELECT order_engine.is_dump()', 'template_copy'), 'f', 'transactions of a template copy mean the same');
is($source->value('SELECT order_engine.adopt_database()', 'template_copy'), 't', 'it is adopted');

my @more = $source->emitted("aggregateid = 'template'", 'template_copy');

gets($source, 'template_copy', $receiver, map { ($_ => { %{ $template{$_} }, map { $_ => 1 } @more }) } keys %template);
$receiver->stop;

# ---------- a prepared transaction, which takes 10 seconds: meanwhile go on

restore($target, 'shop', 'prepared');

my $prepared_receiver = OrderEngine::Receiver->new;
my $waiting = $target->session('prepared');

OrderEngine::Copy::redirect($target, $prepared_receiver, 'prepared');
$target->safe_psql('prepared', q{BEGIN; SELECT order_engine.emit('test', 'prepared', 'test.event', '{}'); PREPARE TRANSACTION 'p'});
$waiting->send('SELECT order_engine.adopt_database()');

# ---------- adopted while others write

$receiver = OrderEngine::Receiver->new;
OrderEngine::Copy::redirect($target, $receiver, 'shop');

my %old = map { $_ => 1 } $target->emitted(undef, 'shop');
my ($early, $later, $adopter) = map { $target->session('shop') } 1 .. 3;
my @writers = map { $target->session('shop') } 1 .. 3;

foreach my $i (0 .. 2)
{
	$writers[$i]->send(emit_sql("'writer $i'", 1, 300) . ';' . sprintf('CALL walk(12, %d, %d)', $i * 20 + 1, $i * 20 + 20));
}
$early->query(q{BEGIN; SELECT order_engine.emit('test', 'early', 'test.event', '{}')});
$later->query('BEGIN; SELECT pg_current_xact_id()');
$adopter->send('SELECT order_engine.adopt_database()');
$target->wait_for_value(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND wait_event_type = 'Lock'
	AND query LIKE '%adopt_database%'}, 1);
$early->query('COMMIT');
is($adopter->receive, 't', 'adopted when a writer has ended');
$later->query(q{SELECT order_engine.emit('test', 'later', 'test.event', '{}'); COMMIT});
foreach my $writer (@writers)
{
	ok(defined $writer->receive, 'a writer has written everything') or diag($writer->error);
}
$_->quit foreach reverse $early, $later, $adopter, @writers;

my @new = grep { !$old{$_} } $target->emitted(undef, 'shop');

cmp_ok(scalar @new, '>=', 3 * 300 + 2, 'much was written');
gets($target, 'shop', $receiver, map { ($_ => { %{ $copy{$_} }, map { $_ => 1 } @new }) } keys %copy);
is($target->value('SELECT count(*) FROM order_engine.outbox WHERE after_txid = txid', 'shop'), 0, 'no mark is left');
$receiver->stop;

# ---------- a dump of what was adopted, onto the first server

$target->call('pause_endpoint', { name => 'quick' }, 'shop');
$receiver = OrderEngine::Receiver->new;
OrderEngine::Copy::redirect($target, $receiver, 'shop');
$target->call('pause_endpoint', { name => 'quick' }, 'shop');
$target->emit_many("'again'", 1, 20, 'shop');
$receiver->wait_for('/slow', unique => 20);
poll_until('it is recorded', sub { $target->value(q{SELECT order_engine.undelivered('slow')}, 'shop') eq '0' });
$target->configure('order_engine.databases' => 'prepared');
wait_for_workers($target, 'shop', 0);
$receiver->stop;
dump_and_restore($target, 'shop', $source, 'again');
$receiver = OrderEngine::Receiver->new;
OrderEngine::Copy::redirect($source, $receiver, 'again');
is($source->value('SELECT order_engine.adopt_database()', 'again'), 't', 'a copy of a copy');
$source->emit_many("'again'", 21, 22, 'again');

my @last = $source->emitted("aggregateid = 'again'", 'again');
my %new = map { $_ => 1 } $source->emitted("aggregateid = 'again' AND (payload->>'sequence')::int > 20", 'again');

is(scalar @last, 22, 'all are there');
gets($source, 'again', $receiver, quick => { map { $_ => 1 } @last }, slow => \%new);
$receiver->stop;

# ---------- the prepared transaction is still there

ok(!defined $waiting->receive, 'not adopted while a prepared transaction has written');
like($waiting->error, qr/have not ended within 10 seconds.*pg_prepared_xacts/s, 'the error tells where to look');
is($prepared_receiver->stats('/quick')->{requests}, 0, 'nothing was sent');
%copy = undelivered($target, 'prepared');
$target->safe_psql('prepared', q{COMMIT PREPARED 'p'});
is($target->value('SELECT order_engine.adopt_database()', 'prepared'), 't', 'adopted when it has ended');
@more = $target->emitted("aggregateid = 'prepared'", 'prepared');
gets($target, 'prepared', $prepared_receiver, map { ($_ => { %{ $copy{$_} }, map { $_ => 1 } @more }) } keys %copy);
$prepared_receiver->stop;
$target->stop;

# ---------- a clone goes its own way, and a dump of it comes back

$source->call('pause_endpoint', { name => $_ }, 'shop') foreach qw(quick slow);
$source->emit_many("'both'", 1, 5, 'shop');
$source->backup('clone');

my $clone = OrderEngine->new('clone');

$clone->init_from_backup($source, 'clone');
$clone->append_conf('postgresql.conf', "archive_mode = off\norder_engine.databases = ''\n");
$clone->start;
is($clone->value('SELECT order_engine.is_dump()', 'shop'), 'f', 'transactions of a clone mean the same');
is($clone->value('SELECT order_engine.adopt_database()', 'shop'), 't', 'it is adopted');
OrderEngine::Copy::burn_transactions($clone, 200);
$clone->emit_many("'both'", 6, 200, 'shop');
$clone->command_ok([ 'pg_dump', '-Fc', '-f', "$directory/clone", $clone->connstr('shop') ], 'dump of the clone');
$clone->stop;
restore($source, 'clone', 'back');
is($source->value('SELECT order_engine.is_dump()', 'back'), 't', 'those of its dump do not');
$source->emit_many("'here'", 1, 100, 'back');
%copy = undelivered($source, 'back');
is($source->value(q{SELECT count(*) > 0 FROM order_engine.outbox a, order_engine.outbox b
	WHERE a.aggregateid = 'both' AND b.aggregateid = 'here' AND a.txid > b.txid}, 'back'), 't', 'ids of both are mixed');

my %wanted = map { $_ => 1 } $source->emitted("aggregateid IN ('both', 'here')", 'back');

is(scalar keys %wanted, 300, 'events of both');
is_deeply($copy{quick}, \%wanted, 'nothing else is to be sent');
$receiver = OrderEngine::Receiver->new;
OrderEngine::Copy::redirect($source, $receiver, 'back');
is($source->error_of('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT order_engine.adopt_database()', 'back')->{sqlstate}, '25000',
	'not in a transaction that would not see what others have written');
is($source->value('SELECT order_engine.adopt_database()', 'back'), 't', 'it is adopted');
gets($source, 'back', $receiver, quick => \%wanted, slow => $copy{slow});
$source->stop;

done_testing();
