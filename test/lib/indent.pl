#!/usr/bin/env perl
#
# Lays out C as PostgreSQL does.
#
#   indent.pl [--write] TYPEDEFS FILE...
#
# TYPEDEFS has a name of a type on each line.  Prints the files whose layout is
# another, as a diff, and fails if there are any; with --write changes them.
#
# pg_bsd_indent does the work, with the options PostgreSQL uses, but lines may
# have 110 columns.  What is done around it leaves blocks of comment as they are,
# and hides two things of C99 from it that it does not know: ".member = value" and
# "(Type) {value, value}".

use strict;
use warnings;
use File::Temp;

my $write = @ARGV && $ARGV[0] eq "--write";
shift if @ARGV && $ARGV[0] =~ /^--/;
my $types = shift // die "indent.pl [--write] TYPEDEFS FILE...\n";

my @options = qw(-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l110 -lp -lpl
  -nip -npro -sac -tpg -ts4);

sub contents
{
	my ($name) = @_;

	open my $file, '<', $name or die "$name: $!\n";
	local $/;
	return <$file>;
}

sub put
{
	my ($name, $text) = @_;

	open my $file, '>', $name or die "$name: $!\n";
	print $file $text;
	close $file or die "$name: $!\n";
}

# Lines that go on with an initializer stand as they stood: pg_bsd_indent puts
# them below the declaration, not to the right of it.
sub continued
{
	my @before = split /^/, $_[0];
	my @after = split /^/, $_[1];
	my @b = grep { $before[$_] =~ /\S/ } 0 .. $#before;
	my @a = grep { $after[$_] =~ /\S/ } 0 .. $#after;

	for my $i (1 .. ($#a < $#b ? $#a : $#b))
	{
		my ($old, $new) = ($before[ $b[$i] ], $after[ $a[$i] ]);

		last if $old =~ s/\s+//gr ne $new =~ s/\s+//gr;
		$after[ $a[$i] ] = $old if $after[ $a[ $i - 1 ] ] =~ m{(?:[=+&|?:,-]|\w)$};
	}
	return join '', @after;
}

my $dir = File::Temp->newdir();
my $differ = 0;

# what some header calls a type and is the name of a variable elsewhere
my %no_type = map { $_ => 1 } qw(date digit interval iterator other pointer reference string
  text timestamp type wrap);
put("$dir/types", join '', grep { !$no_type{ s/\n//r } } split /^/, contents($types) . "bool\n");

for my $name (@ARGV)
{
	my $before = contents($name);
	my $text = $before;

	$text =~ s{/\*$}{/*-X_X}gm;
	$text =~ s/\((\w+)\) \{([^{}]*)\}/X_X$1($2, X_X)/g;
	put("$dir/source.c", $text);
	my $said = qx{cd $dir && pg_bsd_indent @options -U$dir/types source.c 2>&1};
	die "$name: pg_bsd_indent failed: $said\n" if $? != 0 || $said ne '';
	$text = contents("$dir/source.c");
	$text =~ s{/\*-X_X}{/*}g;
	$text =~ s{X_X(\w+)\((.*?), X_X\)}{($1) \{$2\}}gs;
	$text =~ s/,((?:\.\w+|\[\w+\])(?:\[\w+\])* = )/, $1/g;
	# two comments in a row, and the star of a function that returns a pointer
	$text =~ s{\*/(/\*.*\*/)$}{*/\t$1}gm;
	$text =~ s{^([A-Za-z_]\S*)[ \t]+\*$}{$1 *}gm;

	# a blank line before an array of a nameless struct
	$text =~ s/=\n\n\{/=\n{/g;
	# "text" is a type, and as often the name of a variable
	$text =~ s{\btext \* (?=\w)}{text *}g;
	$text = continued($before, $text);

	next if $text eq $before;
	$differ++;
	if ($write)
	{
		put($name, $text);
	}
	else
	{
		put("$dir/source.c", $text);
		print qx{diff -u --label $name --label $name $name $dir/source.c};
	}
}
exit($differ && !$write ? 1 : 0);
