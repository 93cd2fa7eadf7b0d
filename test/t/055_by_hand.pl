
# What operators write that is unusual but right, and what a restore or an ALTER
# TABLE leaves behind for a time, stops no delivery and costs nothing.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = OrderEngine->start_new('main', conf => q{
order_engine.attempt_log = 'all'
});
my $receiver = OrderEngine::Receiver->new;
my $sent = 0;

sub deliver
{
	my ($what) = @_;

	$node->emit('a' . ++$sent);
	is($receiver->wait_for('/hook', accepted => $sent)->{requests}, $sent, $what);
	return;
}

$node->create_endpoint($receiver, 'hook');
deliver('an event is delivered');

my $pid = $node->wait_for_worker;

$node->safe_psql('postgres', q{
	SELECT order_engine.alter_endpoint('hook', policy => '{"breaker_failures": 5.0, "disable_attempts": 1.20e1}')});
deliver('a whole number may be written with decimals');

# as in the middle of a restore, which brings delivery_dead before endpoint
$node->safe_psql('postgres', q{
	INSERT INTO order_engine.delivery_dead (endpoint_id, attempts, txid, created_at, died_at, shard, id,
		aggregatetype, aggregateid, type, payload, last_error)
	SELECT 4711, 1, txid, created_at, now(), shard, id, aggregatetype, aggregateid, type, payload, 'none'
	FROM order_engine.outbox LIMIT 1;
	INSERT INTO order_engine.delivery_retry (endpoint_id, attempts, txid, shard, id, aggregatetype, aggregateid)
	SELECT endpoint_id, attempts, txid, shard, id, aggregatetype, aggregateid FROM order_engine.delivery_dead;
	SELECT order_engine.alter_endpoint('hook', timeout => '9 s')});
deliver('the settings were read again');
is($node->value('SELECT (SELECT count(*) FROM order_engine.delivery_dead), (SELECT count(*) FROM order_engine.delivery_retry)'),
	'1|1', 'exceptions that are restored before their endpoint stay');
$node->safe_psql('postgres', 'TRUNCATE order_engine.delivery_dead, order_engine.delivery_retry');

# a log that cannot be written to
my $offset = -s $node->logfile;

$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_attempt', $sent);
$node->safe_psql('postgres', qq{
	ALTER TABLE order_engine.delivery_attempt_$_ ADD by_hand integer NOT NULL DEFAULT 0;
	ALTER TABLE order_engine.delivery_attempt_$_ ALTER by_hand DROP DEFAULT})
  foreach 0 .. 3;
deliver('a log that cannot be written to does not stop deliveries');
poll_until('a word about it in the log', sub {
	substr(slurp_file($node->logfile), $offset) =~ /the log of attempts cannot be written: null value in column "by_hand"/
});
$node->safe_psql('postgres', "ALTER TABLE order_engine.delivery_attempt_$_ DROP by_hand") foreach 0 .. 3;
deliver('nor when it can be again');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_attempt', $sent - 1);
is($node->worker_pid, $pid, 'the worker went on all the time');
$node->stop;

done_testing();
