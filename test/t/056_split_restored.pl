
# A worker that ends just after an endpoint's backlog was split leaves a record of
# the express lane, and of the main lane the one before that. The next worker
# reads the backlog all the same.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use Test::More;

my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;
my %ordering = (none => 'none', births => 'aggregate');

$node->create_endpoint($receiver, $_, ordering => $ordering{$_}) foreach keys %ordering;
$node->configure('order_engine.databases' => '');
poll_until('no worker', sub { !defined $node->worker_pid });

$node->emit_many("'a' || i", 1, 20);
$node->safe_psql('postgres', 'CREATE TABLE split AS SELECT pg_current_snapshot() AS s');
$node->emit_many("'b' || i", 1, 5);

# what the express lane passed: everything where there is no order, else what began there
$node->safe_psql('postgres', q{
	TRUNCATE order_engine.position_0, order_engine.position_1;
	INSERT INTO order_engine.position_0 (n, endpoint_id, shards, seen, recorded_at)
	SELECT endpoint_id, endpoint_id, 65535, start_snapshot, now() FROM order_engine.endpoint;
	INSERT INTO order_engine.position_0 (n, endpoint_id, shards, split, seen, recorded_at, by_birth)
	SELECT 100 + endpoint_id, endpoint_id, 65535, s, pg_current_snapshot(), now(), ordering = 'aggregate'
	FROM order_engine.endpoint, split});
$node->configure('order_engine.databases' => 'postgres');
is($receiver->wait_for('/none', unique => 20)->{requests}, 20, 'without order: the backlog and nothing else');
is($receiver->wait_for('/births', unique => 25)->{requests}, 25, 'with order: also what did not begin behind the split');

$node->emit_many("'c' || i", 1, 5);
is($receiver->wait_for('/none', unique => 25)->{duplicates}, 0, 'and it goes on');
is($receiver->wait_for('/births', unique => 30)->{duplicates}, 0, 'with order, too');
$node->stop;

done_testing();
