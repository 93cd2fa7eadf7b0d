
# Events that overtook a backlog can be sent once more while it lasts.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use Test::More;

my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;

$node->create_endpoint($receiver, 'hook', ordering => 'none');
$receiver->rules({ path => '/hook', aggregateid => 'old', delay_ms => 20 });
$node->safe_psql('postgres', q{
	SELECT order_engine.emit('test', 'old', 'test.event', jsonb_build_object('sequence', i))
	FROM generate_series(1, 20000) AS i});
poll_until('an express lane', sub {
	$node->value('SELECT count(before) FROM order_engine.endpoint_position') ne '0'
});

my $id = $node->emit('new');

$receiver->wait_for_id('/hook', $id);
is($node->value(q{SELECT order_engine.replay('hook', array_agg(id)) FROM order_engine.outbox WHERE aggregateid = 'new'}),
	'1', 'an event that has overtaken the backlog is asked for again');
$node->wait_for_value('SELECT count(*) FROM order_engine.replay', '0');
is($receiver->stats('/hook')->{repeated}, 1, 'and is sent again');
isnt($node->value('SELECT count(before) FROM order_engine.endpoint_position'), '0', 'while there is a backlog');
$receiver->rules;
is($receiver->wait_for('/hook', unique => 20001)->{repeated}, 1, 'and nothing else is');
$node->stop;

done_testing();
