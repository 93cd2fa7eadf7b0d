
# The example of the README runs as it stands there.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(dirname);
use OrderEngine;
use PostgreSQL::Test::Utils;
use Test::More;

my $readme = slurp_file(dirname(__FILE__) . '/../../README.md');
my ($example) = $readme =~ /^## Example\n.*?^```sql\n(.*?)^```/ms;

isnt($example, undef, 'the README has an example');
cmp_ok(scalar(split /\n/, $example), '<=', 12, 'it is short');

my $node = PostgreSQL::Test::Cluster->new('main');

$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'order_engine'\n");
$node->start;

my $output = $node->safe_psql('postgres', $example);
my ($replayed) = $output =~ /^100\n(\d+)$/m;

isnt($replayed, undef, 'the repeated call returns an id');
like($output, qr/^confirmed$/m, 'the order is confirmed');
like($output, qr/^order\.placed\|1\|/m, 'its first event');
like($output, qr/^order\.confirmed\|2\|/m, 'its second event');
is($node->safe_psql('postgres', 'SELECT order_id FROM order_engine.orders'), $replayed, 'there is one order');

# Every setting that the README names exists; the reference has all of them.
my $known = $node->safe_psql('postgres',
	q{SELECT name FROM pg_settings WHERE name LIKE 'order\_engine.%' ORDER BY name COLLATE "C"});
my %known = map { $_ => 1 } split /\n/, $known;
my ($settings) = $readme =~ /^## Settings\n(.*?)^## /ms;
my $reference = slurp_file(dirname(__FILE__) . '/../../doc/reference/settings.md');

is(join(' ', grep { !$known{$_} } $settings =~ /`(order_engine\.\w+)`/g), '', 'the README names settings that exist');
is(join("\n", $reference =~ /^\| `(order_engine\.\w+)`/mg), $known, 'the reference lists every setting');
$node->stop;

done_testing();
