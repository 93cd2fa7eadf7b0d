
# An event that crashes the worker: the third time it becomes a dead letter, and
# the others go on. Who ends a worker blames no event.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $shim = "$dir/crash_shim.so";
my $source = abs_path(dirname(__FILE__) . '/../lib/crash_shim.c');
my $receiver = OrderEngine::Receiver->new;
my $node;

system_or_bail('cc', '-shared', '-fPIC', '-o', $shim, $source, '-ldl');
append_to_file("$dir/word", 'crash the worker');
{
	local $ENV{LD_PRELOAD} = $shim;
	local $ENV{OE_CRASH_WORD} = "$dir/word";

	$node = OrderEngine->start_new('main', databases => [ 'postgres', 'ascii' ]);
}

sub crashes
{
	return scalar(() = slurp_file($node->logfile) =~ /terminated by signal 7:/g);
}

# ---------- a bug below the request, with others under way

$node->create_endpoint($receiver, 'shop', event_types => ['test.*'], max_in_flight => 64);
$node->create_endpoint($receiver, 'other', event_types => ['other.*'], max_in_flight => 64);
$node->create_endpoint($receiver, 'batch', event_types => ['test.*'], max_batch => 10,
	format => 'cloudevents_batch');
$node->call('pause_endpoint', { name => $_ }) foreach qw(shop other batch);
$node->safe_psql('postgres', q{
	SELECT order_engine.emit('test', 'a' || i, 'test.event', '{}') FROM generate_series(1, 30) AS i;
	SELECT order_engine.emit('test', 'poison', 'test.poison', '{"please": "crash the worker"}');
	SELECT order_engine.emit('test', 'poison', 'test.next', '{}');
	SELECT order_engine.emit('test', 'b' || i, 'test.event', '{}') FROM generate_series(1, 30) AS i;
	SELECT order_engine.emit('test', 'c' || i, 'other.event', '{}') FROM generate_series(1, 30) AS i});
my ($poison) = $node->emitted(q{type = 'test.poison'});

# the server may be down before the answer came
sub activate
{
	my ($where) = @_;

	eval { $node->psql('postgres', "UPDATE order_engine.endpoint SET status = 'active' WHERE $where") };
	return;
}

# the server is down in between
sub wait_through_crashes
{
	my ($what, $query, $expected) = @_;

	poll_until($what, sub {
		my ($status, $stdout) = eval { $node->psql('postgres', $query) };
		return defined $status && $status == 0 && $stdout eq $expected;
	});
	return;
}

activate(q{name <> 'batch'});
wait_through_crashes('the dead letter',
	q{SELECT last_error FROM order_engine.dead_letter WHERE endpoint = 'shop' AND type = 'test.poison'},
	'quarantined: the worker crashed 3 times at this event');
pass('an event that crashes the worker becomes a dead letter');
is(crashes(), 3, 'the third time');
$receiver->wait_for('/shop', unique => 61);
$receiver->wait_for('/other', unique => 30);
pass('all others are delivered, also that which is next in its aggregate');
$node->wait_for_value('SELECT endpoint_id, crashes FROM order_engine.delivery_crash', '1|3');
pass('those that were under way as well are acquitted');

# as one of many in a request
activate(q{name = 'batch'});
wait_through_crashes('the dead letter',
	q{SELECT last_error FROM order_engine.dead_letter WHERE endpoint = 'batch'},
	'quarantined: the worker crashed 3 times at this event');
pass('in a request with others it is found, too');
$receiver->wait_for('/batch', unique => 61);
is($node->value(q{SELECT string_agg(type, ' ') FROM order_engine.dead_letter}), 'test.poison test.poison',
	'and the others are delivered');

unlink("$dir/word") or die "unlink: $!";
$node->call('redrive', { name => 'shop' });
$receiver->wait_for_id('/shop', $poison);
$node->wait_for_value(q{SELECT count(*) FROM order_engine.dead_letter WHERE endpoint = 'shop'}, '0');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_crash', '1');
pass('when the bug is mended it is redriven like any other');
is($receiver->stats('/shop')->{unverified}, 0, 'signed');

# ---------- who ends a worker

$node->create_endpoint($receiver, 'slow', event_types => ['slow.*'], timeout => '5 minutes');
$receiver->rules({ path => '/slow', action => 'hang' });
$node->emit('slow', type => 'slow.event');
foreach my $i (1 .. 4)
{
	$receiver->wait_for('/slow', requests => $i);
	if ($i < 4)
	{
		$node->kill_worker;
		$node->wait_until_up;
	}
}
$node->value(sprintf('SELECT pg_terminate_backend(%d)', $node->wait_for_worker));
$receiver->wait_for('/slow', requests => 5);
is($node->value('SELECT count(*) FROM order_engine.delivery_crash'), '1', 'a worker that is ended blames nobody');
$receiver->rules;
$receiver->control({ release => JSON::PP::true() });
$receiver->wait_for('/slow', accepted => 1);

# ---------- an error of the surroundings

sub errors
{
	return scalar(() = slurp_file($node->logfile) =~ /ERROR:  as if the disk were full/g);
}

$node->create_endpoint($receiver, 'full', event_types => ['full.*'], retry_schedule => ['10 ms', '10 ms']);
$receiver->rules({ path => '/full', status => 400 });
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'as if the disk were full' USING ERRCODE = 'disk_full'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON order_engine.delivery_retry EXECUTE FUNCTION refuse();
	CREATE TRIGGER refuse BEFORE INSERT ON order_engine.delivery_dead EXECUTE FUNCTION refuse()});
$node->emit('full', type => 'full.event');
poll_until('an error, and another one', sub { errors() > 1 });
is($node->value('SELECT count(*) FROM order_engine.delivery_crash'), '1', 'a full disk blames nobody');
$receiver->rules;
$node->safe_psql('postgres', q{
	DROP TRIGGER refuse ON order_engine.delivery_retry;
	DROP TRIGGER refuse ON order_engine.delivery_dead});
$receiver->wait_for('/full', accepted => 1);

# ---------- an event that cannot be read

$node->safe_psql('postgres', q{
	ALTER DATABASE ascii RENAME TO utf8;
	CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$node->safe_psql('ascii', 'CREATE EXTENSION order_engine');
$node->create_endpoint($receiver, 'ascii', database => 'ascii');
$node->create_endpoint($receiver, 'too', database => 'ascii');
$node->emit_many("'same'", 1, 3, 'ascii');

$receiver->wait_for($_, unique => 3) foreach qw(/ascii /too);
$node->wait_for_value('SELECT count(*) FROM order_engine.endpoint_status WHERE lag IS NULL', '2', 'ascii');

# emit() would refuse it
$node->safe_psql('ascii', q{
	INSERT INTO order_engine.outbox (txid, created_at, leaf, shard, id, aggregatetype, aggregateid, type, payload)
	SELECT pg_current_xact_id(), now(), leaf, shard, order_engine.uuid_at(clock_timestamp(), false),
		aggregatetype, aggregateid, type, E'{"name": "M\xfcller"}'
	FROM order_engine.outbox LIMIT 1;
	SELECT order_engine.emit('test', 'after', 'test.event', '{}')});
$node->wait_for_value(
	q{SELECT string_agg(endpoint || ': ' || last_error, ', ' ORDER BY endpoint) FROM order_engine.dead_letter},
	'ascii: quarantined: the worker crashed 3 times at this event, too: quarantined: the worker crashed 3 times at this event',
	'ascii');
pass('an event that cannot be read becomes a dead letter of everybody who wants it');
$receiver->wait_for($_, unique => 4) foreach qw(/ascii /too);
is($receiver->stats('/ascii')->{duplicates}, 0, 'the others are delivered once');
$node->emit_many("'same'", 4, 5, 'ascii');
$receiver->wait_for('/ascii', unique => 6);
pass('and it goes on');
is(crashes(), 6, 'an error does not bring the server down');
$node->stop;

done_testing();
