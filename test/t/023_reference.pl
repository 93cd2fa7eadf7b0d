
# doc/: the reference is what the catalog and the sources say, links lead
# somewhere, and marked examples run as they stand.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(basename dirname);
use File::Temp qw(tempdir);
use OrderEngine;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = dirname(__FILE__) . '/../..';
my $node = OrderEngine->start_new('main', worker => 0);

# Names of the files below $top, without those that begin with a dot.
sub files
{
	return map { s{^\Q$top\E/}{}r } sort map { glob "$top/$_" } @_;
}

###########################################################################
# the reference is up to date

my $made = tempdir(CLEANUP => 1);

{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';

	command_ok([ 'perl', "$top/doc/reference.pl", $made ], 'the reference can be made');
}

is(join(' ', map { basename($_) } files('doc/reference/*')),
	join(' ', map { basename($_) } sort glob "$made/*"), 'the reference has these pages');
foreach my $page (map { basename($_) } sort glob "$made/*.md")
{
	my $kept = "$top/doc/reference/$page";
	my $same = -e $kept && slurp_file($kept) eq slurp_file("$made/$page");

	ok($same, "doc/reference/$page is up to date")
	  or diag("run doc/generate\n" . qx{diff -u '$kept' '$made/$page' 2>&1 | head -n 40});
}

is($node->safe_psql('postgres', q{
		SELECT name FROM pg_settings
		WHERE name LIKE 'order\_engine.%' AND coalesce(short_desc, '') = '' ORDER BY name}),
	'', 'every setting has a description');

###########################################################################
# what is written by hand names everything that there is

sub names_all
{
	my ($file, $what, @names) = @_;
	my $text = slurp_file("$top/$file");
	my %seen;

	cmp_ok(scalar(@names), '>', 0, "there are $what");
	is(join(' ', grep { !$seen{$_}++ && $text !~ /`\Q$_\E`/ } sort @names), '', "$file explains all $what");
}

my $sources = join "\n", map { slurp_file("$top/$_") =~ s/^#include.*//mgr } files('src/*.c');
my (@guards, @effects);

while ($sources =~ /^static const Oe(Guard|Named) (\w+)\[\] = \{\n(.*?)^\};/msg)
{
	my ($type, $list, $entries) = ($1, $2, $3);
	my @names = $entries =~ /^\s*\{"(\w+)"/mg;

	push @{ $type eq 'Guard' ? \@guards : \@effects }, @names;
}
names_all('doc/machines.md', 'guards', @guards);
names_all('doc/machines.md', 'effects and milestones', @effects);

my @types = ($sources =~ /"((?:order|payment|fulfillment|return)\.[a-z_]+)"/g,
	split /\n/, $node->safe_psql('postgres', q{
		SELECT DISTINCT t ->> 'type'
		FROM order_engine.machine m, jsonb_array_elements(m.definition -> 'transitions') t
		WHERE t ? 'type' AND m.machine_id < 1000}));

names_all('doc/events.md', 'types of events', @types);

my @codes = map { join '', @$_ } map { [/'(.)'/g] }
  slurp_file("$top/src/errors.h") =~ /MAKE_SQLSTATE\((.*?)\)/g;

is(join(' ', grep { slurp_file("$top/doc/reference/errors.md") !~ /^## $_$/m } @codes), '',
	'errors.md explains every SQLSTATE');

# What the chapters name exists.
my %exists = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{
	SELECT proname FROM pg_proc WHERE pronamespace = 'order_engine'::regnamespace
	UNION SELECT relname FROM pg_class WHERE relnamespace = 'order_engine'::regnamespace
	UNION SELECT split_part(name, '.', 2) FROM pg_settings WHERE name LIKE 'order\_engine.%'});

foreach my $page (files('README.md', 'doc/*.md'))
{
	my $text = slurp_file("$top/$page");
	my %named = map { $_ => 1 } $text =~ /\border_engine\.(\w+)/g;

	is(join(' ', grep { !$exists{$_} } sort keys %named), '', "what $page names exists");
}

###########################################################################
# links

# The anchors that the headings of a page have.
sub anchors
{
	my ($text) = @_;
	my (%anchors, %times);

	$text =~ s/^```.*?^```//msg;
	foreach my $heading ($text =~ /^#+ (.*)$/mg)
	{
		my $anchor = lc($heading =~ s/[^\w\- ]//gr) =~ s/ /-/gr;
		my $n = $times{$anchor}++;

		$anchors{ $n == 0 ? $anchor : "$anchor-$n" } = 1;
	}
	return \%anchors;
}

my @pages = files('README.md', 'CHANGELOG.md', 'doc/*.md', 'doc/reference/*.md');
my %anchors_of = map { $_ => anchors(slurp_file("$top/$_")) } @pages;

foreach my $page (@pages)
{
	my $text = slurp_file("$top/$page");
	my @broken;

	$text =~ s/^```.*?^```//msg;
	foreach my $link ($text =~ /\]\(([^)\s]+)\)/g)
	{
		next if $link =~ /^\w+:/;
		my ($path, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $target = $path eq '' ? $page : dirname($page) . "/$path";

		$target =~ s{^\./}{};
		1 while $target =~ s{[^/]+/\.\./}{};
		push @broken, $link
		  if !-e "$top/$target" || (defined $anchor && !$anchors_of{$target}{$anchor});
	}
	is(join(' ', @broken), '', "every link of $page leads somewhere");
}

###########################################################################
# examples

# A block of SQL after the mark is run, those of a page in one session and a
# database of their own.  A block of text that follows at once is what it prints.
foreach my $page (files('doc/*.md'))
{
	my $text = slurp_file("$top/$page");
	my $chapter = basename($page, '.md');
	my (@blocks, @expected);

	while ($text =~ /^<!-- run by test\/t\/023_reference\.pl -->\n```sql\n(.*?)^```\n(?:\n?```text\n(.*?)^```\n)?/msg)
	{
		push @blocks, $1;
		push @expected, $2;
	}
	next if !@blocks;

	$node->safe_psql('postgres', qq{CREATE DATABASE "$chapter"});
	$node->safe_psql($chapter, 'CREATE EXTENSION order_engine');

	my $script = "SET client_min_messages = warning;\n" . join('', map { "\\echo --block--\n$_" } @blocks);
	my $file = "$made/$chapter.sql";

	append_to_file($file, $script);
	my ($stdout, $stderr) = run_command([
		'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port,
		'-f', $file, $chapter ]);

	is($stderr, '', "the examples of $page run");
	my @printed = split /^--block--(?:\n|\z)/m, $stdout;
	shift @printed;
	foreach my $i (grep { defined $expected[$_] } 0 .. $#blocks)
	{
		is(tidy($printed[$i] // ''), tidy($expected[$i]), "$page: example " . ($i + 1) . ' prints what it says');
	}
	is($node->safe_psql($chapter, 'SELECT count(*) FROM order_engine.verify_stock()'), '0',
		"the stock is right after the examples of $page");
}

# Output without what cannot be seen.
sub tidy
{
	my ($output) = @_;

	$output =~ s/[ \t]+$//mg;
	$output =~ s/^\n+|\n+\z//g;
	return $output;
}

$node->stop;

done_testing();
