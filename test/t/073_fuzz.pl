
# Random definitions of machines and random items of orders: what is wrong is
# refused with an error that the manual announces, what is taken can be used, and
# the server lives.
#
# The inputs are valid ones in which a few things were changed.  OE_FUZZ_SECONDS
# says how long, OE_TEST_SEED repeats a run.

use strict;
use warnings FATAL => 'all';
no warnings 'recursion';

use JSON::PP;
use OrderEngine;
use Test::More;

my $seconds = $ENV{OE_FUZZ_SECONDS} // 5;
my $seed = $ENV{OE_TEST_SEED} // time;
srand $seed;
note "seed $seed";

my $json = JSON::PP->new->canonical->allow_nonref;

my $node = OrderEngine->start_new('fuzz');
$node->safe_psql('postgres', <<'SQL');
-- what became of a statement: its SQLSTATE, and the message where that is no expected one
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	-- DETAIL is JSON wherever the manual says so
	IF sqlstate LIKE 'OE%' AND detail <> '' THEN
		PERFORM detail::jsonb;
	END IF;
	RETURN sqlstate || ' ' || sqlerrm;
END $$;
-- a definition: draft, checked, drawn
CREATE FUNCTION try_definition(kind text, definition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text = outcome(format('SELECT order_engine.define_machine(%L, %L, %L)', kind, 'fuzz', definition));
	id integer;
BEGIN
	IF result <> '00000' THEN
		RETURN 'define ' || result;
	END IF;
	SELECT machine_id INTO id FROM order_engine.machine m WHERE m.kind = try_definition.kind AND m.name = 'fuzz'
	AND status = 'draft';
	result = outcome(format('SELECT order_engine.publish_machine(%s)', id));
	IF result = '00000' THEN
		result = outcome(format('SELECT order_engine.machine_diagram(%s, f) FROM unnest(%L::text[]) f', id, '{mermaid,graphviz}'));
		RETURN 'draw ' || result;
	END IF;
	RETURN 'publish ' || result;
END $$;
CREATE FUNCTION try_items(items text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN 'place ' || outcome(format('SELECT order_engine.place_order(%L, %L, %L)', 'c', items, 'EUR'));
END $$;
SELECT order_engine.upsert_product(sku, sku, 10, 'EUR') FROM unnest('{A,B,C}'::text[]) sku;
SELECT order_engine.adjust_stock(sku, 'default', 1000000000, 'delivery') FROM unnest('{A,B,C}'::text[]) sku;
SQL

my @definitions = map { $json->decode($_) } split /\n/, $node->safe_psql('postgres',
	'SELECT definition FROM order_engine.machine ORDER BY machine_id');
my @kinds = split /\n/, $node->safe_psql('postgres', 'SELECT DISTINCT kind FROM order_engine.machine');
push @kinds, 'parcel';
my @items = (
	[ { sku => 'A', quantity => 1 } ],
	[ { sku => 'A', quantity => 2, unit_price => '9.99', location => 'default', seller => 's', metadata => { a => [1] } },
		{ sku => 'B', quantity => 1, unit_price => 3 }, { sku => 'C', quantity => 7 } ],
);

# ---------- changing things

my @words = ('', ' ', 'a', 'A', 'draft', 'pending', 'place', 'cancel', 'order', 'order.placed', 'a.b', 'pg_catalog.now',
	'shop.check', '.', '..', 'a.', '.a', '2 days', '1 second', '-1 day', '1000000 years', 'infinity', 'P1D', '1e400 days',
	"\x{1}", "\n", '"', '\\', '\'', "a\x{e9}", "\x{1f600}", 'x' x 255, 'x' x 256, 'x' x 70000, '%s%n', '{}', 'NaN', '1e5',
	'-0', '00', '1.', '.5', '99999999999999999999', 'no_hold', 'release_stock', 'placed_at', 'state', 'id');
my @numbers = (0, 1, -1, 2147483647, 2147483648, -2147483648, 1000000000, 1000000001, 0.5, 1e-20, 1e300, 9007199254740993);
my @keys = qw(initial states transitions event from to type guards effects milestone automatic terminal limit on_limit
  sku quantity unit_price location seller metadata line_no reason disposition position);

sub pick { return $_[ rand @_ ]; }

sub anything
{
	my ($depth) = @_;
	my $n = int rand($depth > 3 ? 5 : 8);

	return undef if $n == 0;
	return rand() < 0.5 ? JSON::PP::true : JSON::PP::false if $n == 1;
	return pick(@numbers) if $n == 2;
	return pick(@words) if $n < 5;
	return [ map { anything($depth + 1) } 1 .. rand 4 ] if $n == 5;
	return { map { (pick(@keys, @words), anything($depth + 1)) } 1 .. rand 4 } if $n == 6;
	my $deep = pick(@words);
	$deep = rand() < 0.5 ? [$deep] : { pick(@keys) => $deep } for 1 .. rand 200;
	return $deep;
}

# Every place of a value, as a code that reads or writes it.
sub places
{
	my ($value, $found) = @_;

	if (ref $value eq 'HASH')
	{
		for my $key (sort keys %$value)
		{
			push @$found, [ $value, $key ];
			places($value->{$key}, $found);
		}
	}
	elsif (ref $value eq 'ARRAY')
	{
		for my $i (0 .. $#$value)
		{
			push @$found, [ $value, $i ];
			places($value->[$i], $found);
		}
	}
	return $found;
}

sub get { my ($in, $at) = @{ $_[0] }; return ref $in eq 'HASH' ? $in->{$at} : $in->[$at]; }

sub set
{
	my ($in, $at) = @{ $_[0] };

	ref $in eq 'HASH' ? ($in->{$at} = $_[1]) : ($in->[$at] = $_[1]);
	return;
}

sub change
{
	my ($value) = @_;
	my @all = @{ places($value, []) };
	my $how = rand;

	return anything(0) if !@all || $how < 0.01;
	my $place = pick(@all);
	my ($in, $at) = @$place;
	if ($how < 0.25)
	{
		set($place, anything(1));
	}
	elsif ($how < 0.45)
	{
		# what stands somewhere else
		set($place, $json->decode($json->encode(get(pick(@all)))));
	}
	elsif ($how < 0.6)
	{
		ref $in eq 'HASH' ? delete $in->{$at} : splice @$in, $at, 1;
	}
	elsif ($how < 0.75 && ref $in eq 'HASH')
	{
		$in->{ pick(@keys, @words) } = rand() < 0.5 ? delete $in->{$at} : $in->{$at};
	}
	elsif (ref $in eq 'ARRAY')
	{
		push @$in, $json->decode($json->encode($in->[$at]));
	}
	else
	{
		set($place, pick(@words));
	}
	return $value;
}

sub input
{
	my ($value) = $json->decode($json->encode($_[0]));

	$value = change($value) for 1 .. 1 + rand(rand 6);
	my $text = $json->encode($value);
	# now and then what is no JSON any more, or numbers such as only jsonb has
	substr $text, rand(length $text), rand 3, pick('', '"', '[', '}', '\\u0000', '\\ud800', '1e131071', '0.' . '1' x 500)
	  if rand() < 0.1;
	return $text;
}

# A literal of SQL, whatever the setting of the backslash.
sub literal
{
	my ($text) = @_;

	utf8::encode($text);
	$text =~ s/'/''/g;
	$text =~ s/\\/\\\\/g;
	return " E'$text'";
}

# ---------- the walk

my %announced = (
	define => qr/^(22004|22023|22P02|22P05|OE\d\d\d|54001|22003)$/,
	publish => qr/^(OE004|42501)$/,
	draw => qr/^00000$/,
	place => qr/^(00000|22004|22023|22003|22P02|22P05|54001|OE\d\d\d)$/);
my %seen;
my @unannounced;
my $end = time + $seconds;
my $lives = 1;

while ($lives && time < $end)
{
	my $script = '';

	for (1 .. 300)
	{
		$script .= rand() < 0.6
		  ? 'SELECT try_definition(' . literal(pick(@kinds)) . ',' . literal(input(pick(@definitions))) . ");\n"
		  : 'SELECT try_items(' . literal(input(pick(@items))) . ");\n";
	}
	my ($rc, $out, $err) = $node->psql('postgres', $script, on_error_stop => 1);

	if ($rc != 0)
	{
		$lives = 0;
		diag $err;
		append_script($script);
	}
	for my $line (split /\n(?=define|publish|draw|place)/, $out)
	{
		my ($step, $code) = $line =~ /^(\w+) (\w+)/;

		$seen{"$step $code"}++;
		push @unannounced, substr $line, 0, 300 if $code !~ $announced{$step};
	}
}

sub append_script
{
	PostgreSQL::Test::Utils::append_to_file($node->data_dir . '/../fuzz_crash.sql', $_[0]);
	diag 'the script is in ' . $node->data_dir . '/../fuzz_crash.sql';
	return;
}

ok($lives, 'the server lives');
is("@unannounced", '', 'every refusal has a code that is announced');
cmp_ok($seen{'draw 00000'} // 0, '>', 0, 'some definitions are good');
cmp_ok($seen{'publish OE004'} // 0, '>', 0, 'some are not');
cmp_ok($seen{'place 00000'} // 0, '>', 0, 'some orders are placed');
cmp_ok($seen{'place 22023'} // 0, '>', 0, 'some are not');
note map { sprintf "%-16s %d\n", $_, $seen{$_} } sort keys %seen;
is($node->safe_psql('postgres', 'SELECT count(*) FROM order_engine.verify_orders()'), '0', 'the orders are in order');
is($node->safe_psql('postgres', 'SELECT count(*) FROM order_engine.verify_stock()'), '0', 'and the stock');

$node->stop;
done_testing();
