
# Two-phase commit over restarts and crashes, with real orders: what was prepared
# is sent once it is committed, and never if it is rolled back, and the order
# within an order is kept.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(percentile poll_until webhook_id);
use OrderEngine::Receiver;
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{OE_LONG} ? 20 : 1;
my $node = OrderEngine->start_new('main', conf => q{
	fsync = on
	max_prepared_transactions = 20
	order_engine.poll_interval = '1s'
});
my $receiver = OrderEngine::Receiver->new;
my (@latency, %stocked);

$node->create_endpoint($receiver, 'shop', timeout => '3 s');

# Of a product of its own: what is prepared keeps the stock it touched locked.
sub place
{
	my ($key) = @_;

	$node->safe_psql('postgres', qq{
		SELECT order_engine.upsert_product('$key', 'A');
		SELECT order_engine.adjust_stock('$key', 'default', 10, 'received')}) if !$stocked{$key}++;
	return qq{SELECT order_engine.place_order('C', '[{"sku": "$key", "quantity": 2, "unit_price": "5"}]', 'EUR',
		terms => 'invoice', order_number => '$key', idempotency_key => '$key')};
}

my $made = q{SELECT string_agg('evt_' || replace(id::text, '-', ''), ',' ORDER BY aggregateid, aggregate_seq)
	FROM order_engine.outbox WHERE txid = pg_current_xact_id()};

# Prepares a transaction; returns the ids of its events.
sub prepare
{
	my ($name, @sql) = @_;
	my ($ids) = reverse split(/\n/, $node->safe_psql('postgres',
		join(";\n", 'BEGIN', @sql, $made, "PREPARE TRANSACTION '$name'")));

	return split(/,/, $ids);
}

sub received
{
	my (@ids) = @_;
	my %seen = map { $_ => 1 } $receiver->ids('/shop');

	return scalar grep { $seen{$_} } @ids;
}

# Another event that was emitted later has arrived.
sub sentinel
{
	$receiver->wait_for_id('/shop', $node->emit('sentinel'));
	return;
}

sub crash
{
	my ($how) = @_;
	my $old = $node->wait_for_worker;

	if ($how eq q(a crash))
	{
		$node->kill_worker;
	}
	elsif ($how eq 'an immediate shutdown')
	{
		$node->stop('immediate');
		$node->start;
	}
	elsif ($how eq 'a crash after a checkpoint')
	{
		$node->safe_psql('postgres', 'CHECKPOINT');    # the state is in a file now
		$node->kill_worker;
	}
	else
	{
		$node->restart;
	}
	poll_until('the next worker', sub {
		my $pid = eval { $node->worker_pid };
		return defined $pid && $pid != $old; });
	return;
}

foreach my $round (1 .. $rounds)
{
	foreach my $how ('a crash', 'a crash after a checkpoint', 'an immediate shutdown', 'a restart')
	{
		my $n = "$round $how";

		# an order that lives already, whose next step is prepared
		my $old = $node->value(place("old $n"));
		my @new = prepare("new $n", place("new $n"), q{SELECT order_engine.emit('note', 'n', 'note.new', '{}')});
		my @step = prepare("step $n", "SELECT order_engine.transition('order', $old, 'confirm')");
		my @cancel = prepare("undone $n", place("undone $n"));
		my @back = prepare("back $n", 'SAVEPOINT s', place("back $n"), 'ROLLBACK TO s', place("kept $n"));

		ok(@new > 1 && @step && @cancel && @back, "events are prepared before $how");
		sentinel();
		is(received(@new, @step, @cancel, @back), 0, 'and none is sent');
		crash($how);
		sentinel();
		is(received(@new, @step, @cancel, @back), 0, "nor after $how");

		# the order is locked by what is prepared, as before
		is($node->error_of("SET lock_timeout = '50 ms'; SELECT order_engine.transition('order', $old, 'confirm')")->{sqlstate},
			'55P03', 'the prepared step holds its order');

		$node->safe_psql('postgres', "ROLLBACK PREPARED 'undone $n'");
		foreach ([ "new $n", @new ], [ "step $n", @step ], [ "back $n", @back ])
		{
			my ($name, @ids) = @$_;
			my $at = time();

			$node->safe_psql('postgres', "COMMIT PREPARED '$name'");
			poll_until("the events of $name", sub { return received(@ids) == @ids; });
			push @latency, (time() - $at);
		}
		is($node->value("SELECT order_engine.transition('order', $old, 'cancel', reason => 'test')"), 'cancelled',
			'the order goes on behind it');

		# repeated with their keys: what was committed is there once, the rest afresh
		is($node->value(place("new $n") . ', order_engine.was_replayed()') =~ s/.*\|//r, 't',
			'the key of a committed order gives that order');
		is($node->value(place("undone $n") . ', order_engine.was_replayed()') =~ s/.*\|//r, 'f',
			'that of one that was rolled back makes a new one');
		sentinel();
		is(received(@cancel), 0, 'nothing was sent of what was rolled back');
	}
}

my @emitted = $node->emitted;
$receiver->wait_for('/shop', accepted => scalar @emitted);
is_deeply([ sort keys %{ { map { $_ => 1 } $receiver->ids('/shop') } } ], [ sort @emitted ],
	'in all, what was committed was received');
my $stats = $receiver->stats('/shop');
is($stats->{out_of_order}, 0, 'in order');
is($stats->{gaps}, 0, 'and leave nothing out');
is($node->value('SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is left prepared');
foreach my $check (qw(verify_stock verify_orders))
{
	is($node->value("SELECT count(*) FROM order_engine.$check()"), '0', "$check()");
}
diag(sprintf('COMMIT PREPARED to received: p50 %.2f s, most %.2f s of %d',
	percentile(0.5, @latency), percentile(1, @latency), scalar @latency));
$node->stop;

done_testing();
