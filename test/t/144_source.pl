
# Rules of the source that a reader could break without a test noticing: privileges
# are given on one page, and every error that a user may meet has an SQLSTATE.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

sub text_of
{
	my ($file) = @_;
	my $text = slurp_file($file);

	# what is only said is not done
	$text =~ s{/\*.*?\*/}{}gs;
	$text =~ s{^\s*--.*$}{}gm if $file =~ /\.sql$/;
	return $text;
}

my @c = sort glob('src/*.c bgworker/*.c');
my @sql = sort glob('sql/[0-9]*.sql');
cmp_ok(scalar(@c), '>', 80, 'files of C to look at');
cmp_ok(scalar(@sql), '>', 30, 'and of SQL');

foreach my $file (@sql)
{
	my $text = text_of($file);

	is(join(' ', $text =~ /^\s*((?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES)\s+\w+.*)$/mg), '', "$file grants nothing")
	  if $file !~ /90_access/;
	is(join(' ', $text =~ /(IF NOT EXISTS|OR REPLACE)/g), '', "$file takes over nothing that is there");
	my @raised = $text =~ /(RAISE EXCEPTION\b.*?;)/gs;
	is(join(' ', grep { !/ERRCODE/ } @raised), '', "$file: every exception has a code");
	# values get into statements as parameters, names by %I or as what a reg type says
	my @executed = $text =~ /(EXECUTE\s+(?!FUNCTION).*?;)/gs;
	is(join(' ', grep { /\|\|/ } @executed), '', "$file: no statement is put together by hand");
}
foreach my $file (@c)
{
	my $text = text_of($file);
	my @raised = $text =~ /\bereport\((?:ERROR|FATAL|PANIC),(.*?)\)\s*;/gs;

	is(join(' ', grep { !/\berrcode(_for_file_access|_for_socket_access)?\(/ } @raised), '', "$file: every error has a code");
}

done_testing();
