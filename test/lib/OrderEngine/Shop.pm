
=head1 NAME

OrderEngine::Shop - customers who go on ordering, for TAP tests

=head1 SYNOPSIS

  OrderEngine::Shop::prepare($node, 'shop');
  my $customers = OrderEngine::Shop->open($node, 4, 'shop');
  ...
  $customers->close;
  is($customers->trouble, '', 'no call failed');

=cut

package OrderEngine::Shop;

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until);

=head1 FUNCTIONS

=head2 prepare($node [, $database])

Creates the procedure trade(customer): place, confirm and cancel orders and emit
events of other aggregates until the table closed has a row. What fails is
counted in the table trouble and does not end it.

=cut

sub prepare
{
	my ($node, $database) = @_;

	stock($node, $database);
	$node->safe_psql($database // 'postgres', q{
		CREATE TABLE closed (a integer);
		CREATE TABLE done (customer integer, orders integer);
		CREATE TABLE trouble (sqlstate text, message text);
		CREATE PROCEDURE trade(customer integer) LANGUAGE plpgsql AS $$
		DECLARE
			id bigint;
			n integer := 0;
		BEGIN
			WHILE NOT EXISTS (SELECT FROM closed) LOOP
				n := n + 1;
				BEGIN
					id := order_engine.place_order('c' || customer,
						CASE WHEN n % 2 = 0 THEN '[{"sku": "A", "quantity": 1}]'
						ELSE '[{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}]' END::jsonb,
						'EUR', terms => 'invoice');
					IF n % 3 > 0 THEN
						PERFORM order_engine.transition('order', id, 'confirm');
					END IF;
					IF n % 4 = 0 THEN
						PERFORM order_engine.cancel_order(id, 'test');
					END IF;
					PERFORM order_engine.emit('cart', customer || '/' || n % 7, 'cart.changed', '{}');
				EXCEPTION WHEN OTHERS THEN
					INSERT INTO trouble VALUES (SQLSTATE, SQLERRM);
				END;
				COMMIT;
				PERFORM pg_sleep(0.02);
			END LOOP;
			INSERT INTO done VALUES (customer, n);
		END $$});
	return;
}

=head2 stock($node [, $database])

Products and stock, also again after DROP and CREATE EXTENSION.

=cut

sub stock
{
	my ($node, $database) = @_;

	$node->safe_psql($database // 'postgres', q{
		SELECT order_engine.upsert_location('default', 'Warehouse');
		SELECT order_engine.upsert_product(sku, sku, 1, 'EUR') FROM unnest('{A,B}'::text[]) AS sku;
		SELECT order_engine.adjust_stock(sku, 'default', 1000000, 'test') FROM unnest('{A,B}'::text[]) AS sku;
	});
	return;
}

=head2 OrderEngine::Shop->open($node, $n [, $database])

So many customers begin.

=cut

sub open
{
	my ($class, $node, $n, $database) = @_;
	my @sessions = map { $node->session($database) } 1 .. $n;

	foreach my $i (0 .. $#sessions)
	{
		$sessions[$i]->query(q{SET application_name = 'customer'});
		$sessions[$i]->send("CALL trade($i)");
	}
	return bless {
		node => $node,
		database => $database // 'postgres',
		sessions => \@sessions
	}, $class;
}

=head2 $customers->close

They end; dies if one has ended before.

=cut

sub close
{
	my ($self) = @_;

	$self->{node}->safe_psql($self->{database}, 'INSERT INTO closed VALUES (1)');
	foreach my $session (@{ $self->{sessions} })
	{
		defined $session->receive or die 'a customer ended early: ' . $session->error;
		$session->quit;
	}
	$self->{sessions} = [];
	$self->{node}->safe_psql($self->{database}, 'TRUNCATE closed');
	return;
}

# A test that dies shall not wait for them.
sub DESTROY
{
	my ($self) = @_;

	local ($?, $@, $!);
	return if !@{ $self->{sessions} };
	eval {
		$self->{node}->safe_psql('postgres',
			q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'customer'});
	};
	return;
}

=head2 $customers->trouble

What failed, and forgets it: a line for each SQLSTATE.

=cut

sub trouble
{
	my ($self) = @_;

	return $self->{node}->safe_psql($self->{database}, q{
		WITH t AS (DELETE FROM trouble RETURNING *)
		SELECT format('%s x%s: %s', sqlstate, count(*), min(message)) FROM t GROUP BY sqlstate ORDER BY sqlstate});
}

=head2 settle($node, $receiver, $database, @paths)

Waits until each of these endpoints has got every event of the outbox, but for those
about endpoints, which do not get what is about themselves.

=cut

sub settle
{
	my ($node, $receiver, $database, @paths) = @_;
	my $events = $node->value(q{SELECT count(*) FROM order_engine.outbox WHERE aggregatetype <> 'endpoint'}, $database);
	my @stats;

	push @stats, $receiver->wait_for($_, unique => $events) foreach @paths;
	return ($events, @stats);
}

1;
