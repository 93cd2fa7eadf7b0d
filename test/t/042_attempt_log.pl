
# The log of attempts: what it holds, and that delivery does not depend on it.

use strict;
use warnings FATAL => 'all';

use OrderEngine;
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;
my $accepted = 0;

# An event that is refused twice before it is taken.
sub deliver
{
	my ($name) = @_;

	$receiver->rules({
			path => '/shop', aggregateid => $name, times => 2, status => 500,
			body => "no \x{20ac}, \0 and \e[31m" . ('x' x 5000) });
	$node->emit($name);
	$receiver->wait_for('/shop', accepted => ++$accepted);
	return;
}

# What the log says of attempts since an event was emitted.
sub attempts
{
	my ($id) = @_;

	return $node->value(qq{
		SELECT endpoint, attempt, outcome, status, events, worker FROM order_engine.delivery_attempt
		WHERE attempted_at > (SELECT created_at FROM order_engine.outbox WHERE aggregateid = '$id')
		ORDER BY attempted_at});
}

# most of these attempts fail, and the endpoint shall be sent to all the same
$node->create_endpoint($receiver, 'shop', retry_schedule => [ '100 ms', '100 ms', '100 ms' ],
	policy => { breaker_min_attempts => 1000 });

deliver('failures');
$node->wait_for_value('SELECT count(*) FROM order_engine.delivery_attempt', '2');
is(attempts('failures'), "shop|1|failed|500|1|0\nshop|2|failed|500|1|0", 'failures are logged, deliveries are not');
is($node->value(q{
		SELECT DISTINCT error LIKE '%500%', octet_length(response) BETWEEN 1 AND 2048, response ~ '[\x01-\x08\x0b-\x1f\x7f]', duration_ms > 0
		FROM order_engine.delivery_attempt}), 't|t|f|t', 'with the error and the beginning of the answer, as printable text');

$node->configure('order_engine.attempt_log' => 'all');
deliver('all');
$node->wait_for_value(q{SELECT count(*) FROM order_engine.delivery_attempt}, '5');
is(attempts('all'), "shop|1|failed|500|1|0\nshop|2|failed|500|1|0\nshop|3|delivered|200|1|0", 'all attempts are logged');
is($node->value(q{SELECT error IS NULL AND response IS NULL FROM order_engine.delivery_attempt WHERE outcome = 'delivered'}),
	't', 'a delivery has no error');

$node->configure('order_engine.attempt_log' => 'none');
deliver('none');
$node->configure('order_engine.attempt_log' => 'all');
deliver('again');
$node->wait_for_value(q{SELECT count(*) FROM order_engine.delivery_attempt}, '8');
is(attempts('none'), attempts('again'), 'none are logged');

# somebody locks the log: deliveries go on, and the log catches up
my $session = $node->session;
$session->query('BEGIN; ' . join('; ', map { "LOCK TABLE order_engine.delivery_attempt_$_ IN SHARE MODE" } 0 .. 3));
deliver('locked');
is($node->value(q{SELECT count(*) FROM order_engine.delivery_attempt}), '8', 'a locked log is not waited for');
$session->query('COMMIT');
$session->quit;
deliver('unlocked');
$node->wait_for_value(q{SELECT count(*) FROM order_engine.delivery_attempt}, '14');
pass('what it lacks is written later');

# old ones go, and nobody has to do anything for it
$node->configure('order_engine.attempt_retention' => '6');
$node->wait_for_value(q{SELECT count(*) FROM order_engine.delivery_attempt}, '0');
pass('old attempts are removed');
is($node->value('SELECT count(*) FROM order_engine.endpoint_status WHERE retrying = 0'), '1', 'the endpoint is well');
$node->stop;

done_testing();
