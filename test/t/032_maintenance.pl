
# The worker does what becomes due at a time, whatever else it is at.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = OrderEngine->start_new('main',
	conf => "order_engine.maintenance_interval = '50 ms'");
my $receiver = OrderEngine::Receiver->new;
my $accepted = 0;

# Places an order that expires after so long, and returns its id.
sub place
{
	my ($hold_for) = @_;

	return $node->value(qq{
		SELECT order_engine.place_order('ada', '[{"sku": "TEA", "quantity": 2}]', 'EUR', hold_for => '$hold_for')});
}

sub state_of
{
	my ($id) = @_;

	return "SELECT state FROM order_engine.orders WHERE order_id = $id";
}

sub matches
{
	my ($pattern) = @_;
	my @found = slurp_file($node->logfile) =~ /$pattern/g;

	return scalar @found;
}

$node->safe_psql('postgres', q{
	SELECT order_engine.upsert_product('TEA', 'Green tea', 4.50, 'EUR');
	SELECT order_engine.adjust_stock('TEA', 'default', 100000, 'delivery')});
$node->create_endpoint($receiver, 'shop');

#
# An order whose payment does not come
#
my $id = place('1 second');
$accepted += 2;
my $stats = $receiver->wait_for('/shop', accepted => $accepted);
is("$stats->{gaps} $stats->{out_of_order}", '0 0', 'order.placed and order.expired arrive in order');
is($node->value(state_of($id)), 'expired', 'the order expired by itself');
is($node->value('SELECT reserved FROM order_engine.stock'), '0', 'its stock came back');
is( $node->value("SELECT event, actor, reason FROM order_engine.history WHERE order_id = $id AND event = 'expire'"),
	'expire|order_engine|time limit',
	'history tells who did it');
is( $node->value("SELECT type FROM order_engine.outbox WHERE aggregateid = '$id' AND aggregate_seq = 2"),
	'order.expired',
	'the event is that of the machine');
$node->wait_for_value(
	q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_engine worker' AND query = 'maintenance'},
	'1');
pass('pg_stat_activity shows it');

#
# Old keys
#
$node->safe_psql('postgres', q{
	SELECT count(order_engine.emit('cart', n::text, 'cart.made', '{}', idempotency_key => 'key ' || n))
	FROM generate_series(1, 2500) n;
	UPDATE order_engine.idempotency_key SET created_at = now() - interval '73 hours'
	WHERE substr(key, 5)::integer > 40});
$accepted += 2500;
$node->wait_for_value('SELECT count(*) FROM order_engine.idempotency_key', '40');
pass('old keys are collected, many batches one after the other');
$node->configure('order_engine.idempotency_retention' => '-1');
$node->safe_psql('postgres', q{UPDATE order_engine.idempotency_key SET created_at = now() - interval '2 hours'});
is($node->value(q{SELECT order_engine.run_maintenance() ->> 'expired_keys'}),
	'0', 'none when they are kept for ever');
$node->configure('order_engine.idempotency_retention' => '3600');
$node->wait_for_value('SELECT count(*) FROM order_engine.idempotency_key', '0');
$receiver->wait_for('/shop', accepted => $accepted);

#
# One that is refused
#
$node->safe_psql('postgres', q{
	CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'not % of ada', NEW.order_id USING ERRCODE = 'P4711'; END$$;
	CREATE TRIGGER veto BEFORE UPDATE OF state ON order_engine.orders FOR EACH ROW EXECUTE FUNCTION veto()});
$id = place('1 ms');
$accepted++;
$node->wait_for_value(
	"SELECT expires_at > now() + interval '4 minutes' FROM order_engine.orders WHERE order_id = $id", 't');
is($node->value(state_of($id)), 'pending', 'a refused event is tried again later');
is(matches(qr/order_engine: event "expire" of order $id was refused at its time limit \(SQLSTATE P4711\)/),
	1, 'the log tells of it');
is(matches(qr/not \d+ of ada/), 0, 'and nothing that may be personal');
$node->safe_psql('postgres', q{
	DROP TRIGGER veto ON order_engine.orders;
	UPDATE order_engine.orders SET expires_at = now() WHERE state = 'pending'});
$accepted++;
$node->wait_for_value(state_of($id), 'expired');
pass('and goes through when nothing is in its way');

#
# An error does not end the worker
#
my $worker = $node->worker_pid;
my $rollbacks = q{SELECT xact_rollback FROM pg_stat_database WHERE datname = 'postgres'};

$node->safe_psql('postgres', 'ALTER TABLE order_engine.order_return RENAME TO elsewhere');
poll_until('maintenance to fail', sub { matches(qr/maintenance failed/) });
my $before = $node->value($rollbacks);
poll_until('it to fail again', sub { $node->value($rollbacks) >= $before + 5 });
is(matches(qr/LOG: .*maintenance failed/), 1, 'the log says so once');
$receiver->wait_for_id('/shop', $node->emit('meanwhile'));
$accepted++;
pass('events are delivered meanwhile');
is($node->worker_pid, $worker, 'by the same worker');
$node->safe_psql('postgres', 'ALTER TABLE order_engine.elsewhere RENAME TO order_return');
$id = place('1 ms');
$accepted += 2;
$node->wait_for_value(state_of($id), 'expired');
is($node->worker_pid, $worker, 'and when the reason is gone, it goes on');
$receiver->wait_for('/shop', accepted => $accepted);

#
# A guard that does not end
#
$node->safe_psql('postgres', q{
	CREATE FUNCTION public.hangs(bigint) RETURNS text LANGUAGE sql AS 'SELECT pg_sleep(3600)::text';
	SELECT order_engine.publish_machine(order_engine.define_machine('order', 'hangs', '{"initial": "new",
		"states": {"new": {}, "open": {"on_limit": "close"}, "closed": {"terminal": true}},
		"transitions": [{"event": "place", "from": "new", "to": "open"},
			{"event": "close", "from": "open", "to": "closed", "guards": ["public.hangs"], "effects": ["release_stock"]}]}'));
	SET order_engine.order_machine = 'hangs';
	SELECT order_engine.place_order('ada', '[{"sku": "TEA", "quantity": 1}]', 'EUR', hold_for => '1 ms')});
$accepted++;
$id = place('1 ms');
$accepted += 2;
$node->wait_for_value(state_of($id), 'expired');
pass('others have their turn behind a guard that does not end');
$receiver->wait_for('/shop', accepted => $accepted);
is(matches(qr/was refused at its time limit \(SQLSTATE 57014\)/), 1, 'the log tells of it');
is($node->worker_pid, $worker, 'and it is the same worker still');
$node->safe_psql('postgres', q{
	SELECT order_engine.force_transition('order', order_id, 'close', 'hangs') FROM order_engine.orders WHERE state = 'open'});
$accepted++;

#
# Switched off; then a backlog
#
$node->configure('order_engine.maintenance_interval' => '0');
$receiver->wait_for_id('/shop', $node->emit('the worker has read that'));
$node->safe_psql('postgres', q{
	DO $$ BEGIN
		FOR i IN 1..3000 LOOP
			PERFORM order_engine.place_order('c', '[{"sku": "TEA", "quantity": 1}]', 'EUR', hold_for => '1 ms');
			COMMIT;
		END LOOP;
	END $$});
$receiver->wait_for_id('/shop', $node->emit('and that'));
is($node->value(q{SELECT count(*) FROM order_engine.orders WHERE state = 'pending'}),
	'3000', 'switched off, it does nothing');
$node->safe_psql('postgres', q{UPDATE order_engine.orders SET expires_at = NULL WHERE state = 'expired'});
is($node->value(q{SELECT order_engine.run_maintenance(10) ->> 'limits_fired'}),
	'10', 'and can be called by hand');
$node->create_endpoint($receiver, 'carts', event_types => ['cart.*']);
$node->configure('order_engine.maintenance_interval' => '10000');
my $beside = $node->emit('beside it', aggregatetype => 'cart', type => 'cart.made');
$receiver->wait_for_id('/carts', $beside);
diag(sprintf('%d orders were still to expire when an event had passed them',
	$node->value(q{SELECT count(*) FROM order_engine.orders WHERE state = 'pending'})));
$node->wait_for_value(q{SELECT count(*) FROM order_engine.orders WHERE state = 'pending'}, '0');
pass('a backlog is worked off at once');
is($node->value('SELECT reserved FROM order_engine.stock'), '0', 'all of the stock came back');
is($node->value('SELECT count(*) FROM order_engine.verify_stock()'), '0', 'and is right');
$stats = $receiver->wait_for('/shop', accepted => $accepted + 6000 + 3);
is("$stats->{gaps} $stats->{out_of_order}", '0 0', 'no event is missing');
$node->stop;

done_testing();
