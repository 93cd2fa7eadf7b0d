#!/usr/bin/perl
#
# Writes the reference: one Markdown file for each part of the interface.
#
#   reference.pl DIR
#
# The facts are where they belong: comments and definitions in the catalog of
# the database that the PG* variables name, the order and grouping in sql/, the
# errors in src/errors.h.  What is written depends on these only, not on the
# version of the server, the time or the settings of the moment.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(dirname);
use File::Path qw(make_path);
use JSON::PP ();

my $top = dirname(__FILE__) . '/..';
my $dir = shift or die "usage: reference.pl DIR\n";

make_path($dir);

sub slurp
{
	my ($file) = @_;

	open my $in, '<:encoding(UTF-8)', $file or die "$file: $!\n";
	local $/ = undef;
	return scalar <$in>;
}

# The rows of a query, each a hash.
sub rows
{
	my ($query) = @_;

	open my $psql, '-|', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1',
	  '-c', 'SET search_path = pg_catalog',
	  '-c', "SELECT coalesce(json_agg(q), '[]') FROM ($query) q"
	  or die "psql: $!\n";
	local $/ = undef;
	my $json = <$psql>;
	close $psql or die "the query failed: $query\n";
	return @{ JSON::PP->new->utf8->decode($json) };
}

# Each file says of itself that it is made.
sub write_page
{
	my ($name, $title, $text) = @_;

	$text =~ s/\n{3,}/\n\n/g;
	$text =~ s/\n+\z/\n/;
	open my $out, '>:encoding(UTF-8)', "$dir/$name.md" or die "$dir/$name.md: $!\n";
	print $out "<!-- made by doc/generate, not by hand -->\n# $title\n\n$text";
	close $out or die "$dir/$name.md: $!\n";
}

# Text for a cell of a table.
sub cell
{
	my ($text) = @_;

	return '' if !defined $text;
	$text =~ s/\|/\\|/g;
	$text =~ s/\s*\n\s*/ /g;
	$text =~ s/([<>])/$1 eq '<' ? '&lt;' : '&gt;'/ge;
	$text =~ s/\*/\\*/g;
	return $text;
}

sub prose
{
	my ($text) = @_;

	$text =~ s/&/&amp;/g;
	$text =~ s/</&lt;/g;
	$text =~ s/>/&gt;/g;
	$text =~ s/\*/\\*/g;
	return $text;
}

sub code
{
	my ($text) = @_;

	return !defined $text || $text eq '' ? '' : '`' . ($text =~ s/\|/\\|/gr) . '`';
}

# A default as one would write it: without the casts that the server adds.
sub plain
{
	my ($expression) = @_;

	$expression =~ s/('(?:[^']|'')*'|NULL)::[a-z ]+(?:\[\])?/$1/g;
	return $expression;
}

sub table
{
	my ($head, @lines) = @_;

	return '' if !@lines;
	return join('', map { '| ' . join(' | ', @$_) . " |\n" } $head, [ map { '---' } @$head ], @lines) . "\n";
}

###########################################################################
# sql/: what stands where, and under which title

my (@parts, %part_of);

foreach my $file (sort glob "$top/sql/[0-9]*.sql")
{
	my $text = slurp($file);
	my ($title) = $text =~ m{\A/\*\s*(?:\*\s)?(.*?)\s*(?:\*/|\n \*\n)}s;
	my $part;

	$title =~ s/\n \*\s*/ /g;
	# the first sentence, or what stands before a colon
	$title =~ s/(?:\. |\.$|: ).*//s;
	$part = { title => $title, file => $file =~ s{.*/}{}r };
	push @parts, $part;
	while ($text =~ /^CREATE (FUNCTION|TABLE|VIEW) order_engine\.(\w+)(?! PARTITION)\b/mg)
	{
		$part_of{"$1 $2"} //= { part => $part, place => scalar keys %part_of };
	}
}

# Sorts rows into the parts that make them, in the order of sql/.
sub by_part
{
	my ($type, @rows) = @_;
	my %of;

	foreach my $row (@rows)
	{
		$row->{place} = $part_of{"$type $row->{name}"}
		  // die "no file in sql/ has CREATE $type order_engine.$row->{name}\n";
		push @{ $of{ $row->{place}{part}{file} } }, $row;
	}
	return map {
		my $part = $_;
		my @own = sort { $a->{place}{place} <=> $b->{place}{place} } @{ $of{ $part->{file} } // [] };
		@own ? [ $part->{title}, @own ] : ()
	} @parts;
}

###########################################################################
# functions

my @functions = rows(q{
	SELECT p.proname AS name, pg_get_function_result(p.oid) AS result,
		CASE WHEN p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype) THEN true ELSE false END AS is_trigger,
		obj_description(p.oid, 'pg_proc') AS comment,
		(SELECT json_agg(json_build_object('name', p.proargnames[i], 'mode', p.proargmodes[i],
				'type', format_type(t, NULL), 'default', pg_get_function_arg_default(p.oid, i::int)) ORDER BY i)
		 FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS a (t, i)) AS arguments,
		(SELECT r.level FROM order_engine.access_rule r WHERE r.kind = 'function' AND r.object = p.proname) AS level
	FROM pg_proc p
	WHERE p.pronamespace = 'order_engine'::regnamespace
		AND EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND e.extname = 'order_engine'
			WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
	ORDER BY p.proname, p.oid});

my $state_code = qr/(?:OE\d{3}|[0-9][0-9A-Z]{4})/;

# Parts a comment into what it says and the errors that it lists.
sub split_errors
{
	my ($comment) = @_;
	my ($text, $errors) = $comment =~ /\A(.*?)\s*\bErrors?: (.*)\z/s
	  or return ($comment);

	$errors =~ s/\.\s*\z//;
	return ($text, split /,\s+(?=$state_code\b)/, $errors);
}

sub signature
{
	my ($f) = @_;
	my @arguments = grep { ($_->{mode} // 'i') =~ /[iv]/ } @{ $f->{arguments} // [] };
	my @list = map {
		join(' ', grep { defined } $_->{name}, $_->{type})
		  . (defined $_->{default} ? ' DEFAULT ' . plain($_->{default}) : '')
	} @arguments;
	my $line = "$f->{name}(" . join(', ', @list) . ')';

	$line = "$f->{name}(\n    " . join(",\n    ", @list) . ')' if length $line > 80;
	return "$line\n  RETURNS $f->{result}";
}

# What only the owner may call and is not made for him is internal.
sub is_internal
{
	my ($f) = @_;

	return 1 if $f->{is_trigger} || $f->{comment} =~ /^Internal/;
	return !defined $f->{level} && $part_of{"FUNCTION $f->{name}"}{part}{file} !~ /^90/;
}

sub function_entry
{
	my ($f) = @_;
	my ($text, @errors) = split_errors($f->{comment});
	my $entry = "### $f->{name}\n\n```sql\n" . signature($f) . "\n```\n\n";

	$entry .= 'Access: ' . ($f->{level} // 'owner') . ".\n\n" . prose($text) . "\n\n";
	$entry .= "Errors:\n\n" . join('', map { '* ' . prose($_) . "\n" } @errors) . "\n" if @errors;
	return $entry;
}

foreach my $f (@functions)
{
	die "function $f->{name} has no comment\n" if !defined $f->{comment};
}

my $text = <<'TXT';
All functions are in the schema `order_engine`. Access says which level may call a function, see
[operations](../operations.md#access); `owner` is the owner of the extension. The errors are explained in
[errors](errors.md).

TXT
my @public = by_part('FUNCTION', grep { !is_internal($_) } @functions);

foreach my $group (@public)
{
	my ($title, @own) = @$group;

	$text .= "* $title: " . join(', ', map { "[$_->{name}](#$_->{name})" } @own) . "\n";
}
$text .= "* Internal: what the extension calls itself, [at the end](#internal)\n\n";
foreach my $group (@public)
{
	my ($title, @own) = @$group;

	$text .= "## $title\n\n" . join('', map { function_entry($_) } @own);
}
$text .= "## Internal\n\nThe extension calls these itself. They are listed so that nothing is hidden.\n\n";
$text .= table(
	[ 'function', 'returns', 'meaning' ],
	map { [ code($_->{name} . '(' . join(', ', map { $_->{name} // $_->{type} }
			grep { ($_->{mode} // 'i') =~ /[iv]/ } @{ $_->{arguments} // [] }) . ')'),
		  cell($_->{result}), cell($_->{comment} =~ s/^Internal: //r) ] }
	  grep { is_internal($_) } @functions);
write_page('functions', 'Functions', $text);

###########################################################################
# tables and views

my @relations = rows(q{
	SELECT c.relname AS name, c.relkind AS kind, obj_description(c.oid, 'pg_class') AS comment,
		(SELECT r.level FROM order_engine.access_rule r WHERE r.kind = 'table' AND r.object = c.relname) AS level,
		(SELECT json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
				'required', a.attnotnull, 'default', pg_get_expr(d.adbin, d.adrelid),
				'identity', a.attidentity <> '',
				'comment', col_description(c.oid, a.attnum)) ORDER BY a.attnum)
		 FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
		(SELECT json_agg(pg_get_constraintdef(k.oid, true)
			ORDER BY strpos('pufcx', k.contype::text), pg_get_constraintdef(k.oid, true) COLLATE "C")
		 FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'f', 'c', 'x')) AS constraints
	FROM pg_class c
	WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
		AND EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND e.extname = 'order_engine'
			WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
	ORDER BY c.relname});

sub relation_entry
{
	my ($r) = @_;
	my $is_view = $r->{kind} eq 'v' || $r->{kind} eq 'm';
	my $entry = "### $r->{name}\n\n" . 'Access: ' . ($r->{level} // 'owner') . ".\n\n" . prose($r->{comment}) . "\n\n";

	foreach my $column (@{ $r->{columns} })
	{
		die "column $r->{name}.$column->{name} has no comment\n" if !defined $column->{comment};
	}
	$entry .= table(
		$is_view ? [ 'column', 'type', 'meaning' ] : [ 'column', 'type', 'null', 'default', 'meaning' ],
		map {
			[ code($_->{name}), $_->{type},
			  ($is_view ? () : ($_->{required} ? 'no' : 'yes',
				  $_->{identity} ? 'identity' : code(defined $_->{default} ? plain($_->{default}) : undef))),
			  cell($_->{comment}) ]
		} @{ $r->{columns} });
	$entry .= "Constraints:\n\n" . join('', map { '* `' . plain($_) . "`\n" } @{ $r->{constraints} }) . "\n"
	  if $r->{constraints};
	return $entry;
}

sub relation_page
{
	my ($name, $title, $intro, $type, @own) = @_;
	my @groups = by_part($type, @own);
	my $page = "$intro\n";

	foreach my $group (@groups)
	{
		my ($part, @members) = @$group;

		$page .= "* $part: " . join(', ', map { "[$_->{name}](#$_->{name})" } @members) . "\n";
	}
	$page .= "\n";
	foreach my $group (@groups)
	{
		my ($part, @members) = @$group;

		$page .= "## $part\n\n" . join('', map { relation_entry($_) } @members);
	}
	write_page($name, $title, $page);
}

foreach my $r (@relations)
{
	die "relation $r->{name} has no comment\n" if !defined $r->{comment};
}
relation_page('views', 'Views', <<'TXT', 'VIEW', grep { $_->{kind} =~ /[vm]/ } @relations);
All views are in the schema `order_engine`. Access says which level may read a view, see
[operations](../operations.md#access). [Analytics](../analytics.md) shows what to ask them.
TXT
relation_page('tables', 'Tables', <<'TXT', 'TABLE', grep { $_->{kind} =~ /[rp]/ } @relations);
All tables are in the schema `order_engine`. They are written by the functions only; access says which level may
read a table, see [operations](../operations.md#access).
TXT

###########################################################################
# settings

my %context = (
	user => 'anybody',
	superuser => 'superuser',
	sighup => 'configuration file',
	postmaster => 'configuration file, at server start',
	backend => 'at connection start',
	'superuser-backend' => 'superuser, at connection start');
my %unit_name = (s => [ 86400, 'd', 3600, 'h', 60, 'min', 1, 's' ],
	ms => [ 86400000, 'd', 3600000, 'h', 60000, 'min', 1000, 's', 1, 'ms' ]);

# A value with its unit, as the configuration file takes it.
sub amount
{
	my ($value, $unit) = @_;

	return $value if !defined $unit || $unit eq '' || $value <= 0;
	if (my @units = @{ $unit_name{$unit} // [] })
	{
		while (my ($size, $name) = splice @units, 0, 2)
		{
			return $value / $size . $name if $value % $size == 0;
		}
	}
	return "$value$unit";
}

my @settings = rows(q{
	SELECT name, unit, vartype, boot_val, min_val, max_val, context, short_desc, extra_desc, enumvals
	FROM pg_settings WHERE name LIKE 'order\_engine.%' ORDER BY name COLLATE "C"});

write_page('settings', 'Settings', <<'TXT' . table(
Who may set a setting: `anybody` with `SET LOCAL`, a `superuser` (or a role with the right to set it) with `SET`, or
the `configuration file` (`ALTER SYSTEM` as well), which takes a reload, at most. Where to start:
[operations](../operations.md#settings).

TXT
	[ 'setting', 'type', 'default', 'range', 'who may set it', 'meaning' ],
	map {
		my $s = $_;
		my $range = '';

		$range = amount($s->{min_val}, $s->{unit}) . ' to ' . amount($s->{max_val}, $s->{unit}) if defined $s->{min_val};
		$range = join ', ', @{ $s->{enumvals} } if $s->{enumvals};
		[ code($s->{name}), $s->{vartype} . (defined $s->{unit} && $s->{unit} ne '' ? ", $s->{unit}" : ''),
		  ($s->{boot_val} // '') eq '' ? 'empty' : code(amount($s->{boot_val}, $s->{unit})),
		  $range, $context{ $s->{context} } // $s->{context},
		  cell(join ' ', grep { defined && $_ ne '' } $s->{short_desc}, $s->{extra_desc}) ]
	} @settings));

###########################################################################
# errors

my $header = slurp("$top/src/errors.h");
my (@errors, @native, %callers);

while ($header =~ m{^(/\*(?:(?!\*/).)*\*/\n)?#define ERRCODE_OE_(\w+)\s+MAKE_SQLSTATE\('(.)', '(.)', '(.)', '(.)', '(.)'\)}msg)
{
	my ($comment, $name, $sqlstate) = ($1, lc $2, "$3$4$5$6$7");
	my %error = (name => $name, sqlstate => $sqlstate);

	die "src/errors.h has no comment at $sqlstate\n" if !defined $comment;
	$comment =~ s{^/\*|\*/\n?\z}{}g;
	$comment =~ s/^\s*\*?[ \t]*//mg;
	@error{qw(meaning detail action)} = $comment =~ /\A\s*(.*?)\s+^Detail:\s*(.*?)\s+^Action:\s*(.*?)\s*\z/ms
	  or die "the comment at $sqlstate in src/errors.h lacks Detail: or Action:\n";
	s/\s+/ /g for values %error;
	push @errors, \%error;
}
if ($header =~ m{ \* Codes of PostgreSQL.*?\n \*\n(.*?)\n \*/}s)
{
	my $list = $1;

	$list =~ s/\n \*\s{2,}/ /g;
	push @native, [$1, $2, $3] while $list =~ /^ \* ($state_code) (\w+): (.*)$/mg;
}
die "no errors found in src/errors.h\n" if !@errors || !@native;

my %known = map { $_ => 1 } (map { $_->{sqlstate} } @errors), (map { $_->[0] } @native);

foreach my $f (@functions)
{
	my ($meaning, @list) = split_errors($f->{comment});

	foreach my $sqlstate (map { /\A((?:$state_code(?:, | and | or )?)+)/ ? $1 =~ /$state_code/g : () } @list)
	{
		die "the comment of $f->{name}() names $sqlstate, which src/errors.h does not explain\n" if !$known{$sqlstate};
		$callers{$sqlstate}{ $f->{name} } = 1 if !is_internal($f);
	}
}

sub callers
{
	my ($sqlstate) = @_;

	return join ', ', map { "[$_](functions.md#$_)" } sort keys %{ $callers{$sqlstate} // {} };
}

$text = <<'TXT';
An application acts on the SQLSTATE, never on the message, which is for people. Bad input changes nothing. The
codes below are the engine's own; those of PostgreSQL, [at the end](#codes-of-postgresql), keep their meaning, so
that retry libraries work.

TXT
$text .= table([ 'SQLSTATE', 'condition', 'meaning' ],
	map { [ "[$_->{sqlstate}](#" . lc($_->{sqlstate}) . ')', $_->{name}, cell($_->{meaning}) ] } @errors);
foreach my $error (@errors)
{
	$text .= "## $error->{sqlstate}\n\n`$error->{name}`: " . prose($error->{meaning}) . "\n\n";
	$text .= '* DETAIL (JSON): ' . prose($error->{detail}) . "\n";
	$text .= '* What to do: ' . prose($error->{action}) . "\n";
	$text .= '* Told by: ' . callers($error->{sqlstate}) . "\n" if $callers{ $error->{sqlstate} };
	$text .= "\n";
}
$text .= "## Codes of PostgreSQL\n\nDETAIL is text where nothing else is said.\n\n";
$text .= table([ 'SQLSTATE', 'condition', 'meaning' ], map { [ $_->[0], $_->[1], cell($_->[2]) ] } @native);
write_page('errors', 'Errors', $text);

###########################################################################
# machines

my @machines = rows(q{
	SELECT machine_id, kind, name, version, definition::text AS definition
	FROM order_engine.machine WHERE machine_id < 1000 ORDER BY machine_id});
my $draws = (grep { $_->{name} eq 'machine_diagram' } @functions) > 0;

sub as_list
{
	my ($value) = @_;

	return ref $value eq 'ARRAY' ? @$value : defined $value ? ($value) : ();
}

$text = <<'TXT';
The machines that come with the extension. [Machines](../machines.md) explains what guards and effects do and how to
define machines of your own.

TXT
foreach my $m (@machines)
{
	my $definition = JSON::PP->new->decode($m->{definition});
	my %left = map { $_ => 1 } keys %{ $definition->{states} };
	my @order = ();
	my @queue = ($definition->{initial});

	# states in the order in which events lead to them
	while (defined(my $state = shift @queue))
	{
		next if !delete $left{$state};
		push @order, $state;
		push @queue, map { $_->{to} } grep { my $t = $_; grep { $_ eq $state } as_list($t->{from}) }
		  @{ $definition->{transitions} };
	}
	push @order, sort keys %left;
	$text .= "## $m->{kind} $m->{name}\n\nMachine $m->{machine_id}, kind `$m->{kind}`, name `$m->{name}`, version $m->{version}.\n\n";
	if ($draws)
	{
		my ($row) = rows("SELECT order_engine.machine_diagram($m->{machine_id}, 'mermaid') AS text");

		$text .= "```mermaid\n" . ($row->{text} =~ s/\n*\z/\n/r) . "```\n\n";
	}
	$text .= table(
		[ 'state', '', 'time limit' ],
		map {
			my $s = $definition->{states}{$_};
			my $limit = $s->{limit} // '';

			$limit .= ($limit eq '' ? '' : ', ') . "then `$s->{on_limit}`" if defined $s->{on_limit};
			[ code($_), join(', ', ($_ eq $definition->{initial} ? 'initial' : ()), ($s->{terminal} ? 'terminal' : ())), $limit ]
		} @order);
	$text .= table(
		[ 'event', 'from', 'to', 'guards', 'effects', 'milestone', 'type of its event' ],
		map {
			[ code($_->{event}) . ($_->{automatic} ? ' (automatic)' : ''),
			  join(', ', map { code($_) } as_list($_->{from})), code($_->{to}),
			  join(', ', map { code($_) } as_list($_->{guards})), join(', ', map { code($_) } as_list($_->{effects})),
			  code($_->{milestone}), code($_->{type}) ]
		} @{ $definition->{transitions} });
}
write_page('machines', 'Built-in machines', $text);
