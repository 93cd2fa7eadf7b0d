
# Secrets at rest: encrypted under the keys of a file, read by the worker, and
# nowhere else to be seen: not in the log of a server that logs everything, not
# in pg_stat_activity, not in a dump.

use strict;
use warnings FATAL => 'all';

use MIME::Base64 qw(decode_base64 encode_base64);
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $key_file = PostgreSQL::Test::Utils::tempdir() . '/keys';
my @keys = map { encode_base64(join('', map { chr(int(rand(256))) } 1 .. 32), '') } 1 .. 3;

sub write_keys
{
	my ($text, $mode) = @_;

	unlink $key_file;
	append_to_file($key_file, $text);
	chmod($mode // 0600, $key_file) or die "chmod: $!";
	return;
}

# All that a server can be made to log, and the plans of what functions run.
my $node = OrderEngine->start_new('main', conf => q{
session_preload_libraries = 'auto_explain'
log_statement = 'all'
log_min_duration_statement = 0
log_min_messages = debug1
log_error_verbosity = verbose
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
debug_print_parse = on
debug_print_rewritten = on
debug_print_plan = on
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_verbose = on
auto_explain.log_analyze = on
});
my $receiver = OrderEngine::Receiver->new;
my %secret;

sub wait_for_log
{
	my ($pattern, $offset) = @_;

	return poll_until("\"$pattern\" in the log",
		sub { return substr(slurp_file($node->logfile), $offset) =~ /$pattern/ });
}

# The text as it may stand in a log: itself, its bytes in hexadecimal, and as
# numbers, which is how a tree of a plan shows them.
sub spellings
{
	my ($base64) = @_;
	my $bytes = decode_base64($base64);

	return (
		quotemeta(substr($base64, 0, 20)),
		unpack('H*', substr($bytes, 0, 12)),
		join(' ', unpack('c*', substr($bytes, 0, 8))));
}

sub shows
{
	my ($text, @base64) = @_;
	my $pattern = join('|', map { spellings($_) } @base64);

	return $text =~ /$pattern/;
}

sub stored
{
	my ($name, $column) = @_;

	return $node->value(
		"SELECT $column FROM order_engine.endpoint_secret JOIN order_engine.endpoint USING (endpoint_id)"
		  . " WHERE name = '$name' AND expires_at IS NULL");
}

sub remember
{
	my ($text) = @_;

	$text =~ /^whsec_(.*)$/ or die "no secret: $text";
	$secret{$1} = 1;
	return $text;
}

sub create
{
	my ($name) = @_;

	return remember($node->create_endpoint($receiver, $name));
}

sub arrives
{
	my ($name, $what) = @_;

	my $id = $node->emit('any');

	ok($receiver->wait_for_id("/$name", $id)->{verified}, $what);
	return;
}

# ---------- in clear, then with a key

create('shop');
is(stored('shop', "key_id IS NULL"), 't', 'without a key file secrets are stored in clear');
arrives('shop', 'and used');

write_keys("# keys of this server\n\n  k1\t$keys[0]  \n");
my $offset = -s $node->logfile;
$node->configure('order_engine.secret_key_file' => $key_file);
wait_for_log('parameter "order_engine.secret_key_file" changed', $offset);
create('bakery');
is(stored('bakery', 'key_id'), 'k1', 'a new secret is encrypted');
is(stored('bakery', 'length(secret)'), 32 + 29, 'and its stored form has nonce and tag');
is(stored('shop', "key_id IS NULL"), 't', 'those before are not, so far');
arrives('bakery', 'the worker reads the new one');
arrives('shop', 'and the one in clear');
is($node->call('reencrypt_secrets', {}), '1', 'the one in clear is encrypted');
is(stored('shop', 'key_id'), 'k1', 'under the key');
is($node->call('reencrypt_secrets', {}), '0', 'once');
arrives('shop', 'the worker reads it');
ok(!shows($node->value("SELECT string_agg(encode(secret, 'hex'), ' ') FROM order_engine.endpoint_secret"),
	keys %secret), 'the table does not hold a secret in clear');

# ---------- another key

write_keys("k2 $keys[1]\nk1 $keys[0]\n");
$receiver->control({ secrets => { '/shop' => remember(
	$node->call('rotate_secret', { name => 'shop', overlap => '0' })) } });
is(stored('shop', 'key_id'), 'k2', 'the first key of the file encrypts');
is(stored('bakery', 'key_id'), 'k1', 'another one that is in the file is kept');
arrives('shop', 'a secret under the new key signs');
arrives('bakery', 'and one under the old key');
is($node->call('reencrypt_secrets', {}), '2', 'what is under the old key is encrypted anew');
write_keys("k2 $keys[1]\n");
$node->reload;
arrives('shop', 'then the old key may go');
arrives('bakery', 'for all of them');

# ---------- files that cannot be used

sub refused
{
	my ($what, $pattern) = @_;
	my $error = $node->error_of("SELECT order_engine.rotate_secret('shop')");

	is($error->{sqlstate}, 'F0000', "$what is refused");
	like($error->{message}, $pattern, 'for this reason');
	return;
}

write_keys("k2 $keys[1]\n", 0640);
refused('a file that the group may read', qr/group or world access/);
write_keys("k2 $keys[1]\n", 0604);
refused('a file that everybody may read', qr/group or world access/);
write_keys('# nothing');
refused('a file without a key', qr/has no key/);
write_keys("k2 " . substr($keys[1], 0, 40) . "\n");
refused('a short key', qr/line 1 .*not the base64 of 32 bytes/);
write_keys("k2 $keys[1]$keys[0]\n");
refused('a long key', qr/line 1 .*not the base64 of 32 bytes/);
write_keys("k2 $keys[1]\nk1 #" . substr($keys[0], 1) . "\n");
refused('a key that is not base64', qr/line 2 .*not the base64 of 32 bytes/);
write_keys("k2 $keys[1]\n\nk2 $keys[0]\n");
refused('an id that is there twice', qr/line 3 .*given to a key before/);
write_keys("$keys[1]\n");
refused('a key without an id', qr/line 1 .*not the id of a key and its base64/);
write_keys("k2 $keys[1] more\n");
refused('a line with a third word', qr/line 1 .*not the id of a key and its base64/);
write_keys("k/2 $keys[1]\n");
refused('an id with other characters', qr/line 1 .*letters, digits/);
write_keys("k2 $keys[1]\n" . ('#' x 80 . "\n") x 300);
refused('a file of many bytes', qr/more than 16384 bytes/);
write_keys("k2 $keys[1]\0\n");
refused('a file that is not text', qr/not a text file/);
unlink $key_file;
refused('a file that is not there', qr/could not open/);
POSIX::mkfifo($key_file, 0600) or die "mkfifo: $!";
refused('a pipe, without a wait,', qr/not a regular file/);
is(stored('shop', 'key_id'), 'k2', 'and the secret stays');
$node->reload;

# ---------- a key that is gone

write_keys("k3 $keys[2]\n");
is($node->error_of('SELECT order_engine.reencrypt_secrets()')->{sqlstate},
	'55000', 'what cannot be read cannot be encrypted anew');
$offset = -s $node->logfile;
my $restarted = $node->wait_for_worker;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($restarted)");
$node->wait_for_worker('postgres', $restarted);
wait_for_log('a secret of endpoint "shop" cannot be read: key "k2" is not in the file', $offset);
wait_for_log('endpoint "shop" has no secret', $offset);
my $before = $receiver->stats('/shop')->{requests};
$node->emit('any');
my $fresh = create('fresh');
$node->emit('any');
$receiver->wait_for('/fresh', accepted => 1);
is($receiver->stats('/shop')->{requests}, $before, 'an endpoint whose secret cannot be read gets nothing');
write_keys("k3 $keys[2]\nk2 $keys[1]\n");
$node->reload;
my $stats = $receiver->wait_for('/shop', requests => $before + 2);
is($stats->{unverified}, 0, 'with the key it gets what it missed');

# ---------- a secret of another endpoint

$offset = -s $node->logfile;
$node->safe_psql('postgres', q{
	UPDATE order_engine.endpoint_secret AS s SET key_id = o.key_id, secret = o.secret
	FROM order_engine.endpoint_secret AS o
	WHERE s.endpoint_id = (SELECT endpoint_id FROM order_engine.endpoint WHERE name = 'fresh')
		AND o.endpoint_id = (SELECT endpoint_id FROM order_engine.endpoint WHERE name = 'bakery')
		AND o.expires_at IS NULL});
wait_for_log('a secret of endpoint "fresh" cannot be read: it was not encrypted for this endpoint', $offset);
pass('does not serve');
$receiver->control({ secrets => { '/fresh' => remember(
	$node->call('rotate_secret', { name => 'fresh', overlap => '0' })) } });
arrives('fresh', 'but a new one does');

# ---------- errors while a secret is at hand

$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION 'no more secrets'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON order_engine.endpoint_secret
		FOR EACH ROW EXECUTE FUNCTION refuse();});
is($node->error_of("SELECT order_engine.rotate_secret('shop')")->{message},
	'no more secrets', 'an error with a secret in a variable');
is($node->error_of("SELECT order_engine.create_endpoint('more', 'https://example.com/')")->{message},
	'no more secrets', 'in both functions');
$node->safe_psql('postgres', 'DROP FUNCTION refuse() CASCADE');
is($node->error_of("SELECT order_engine.create_endpoint('shop', 'https://example.com/')")->{sqlstate},
	'42710', 'an error after the secret was made');

# ---------- a session that waits with a secret in hand

my $blocker = $node->session;
$blocker->query('BEGIN');
$blocker->query("SELECT 1 FROM order_engine.endpoint WHERE name = 'shop' FOR UPDATE");
my $waiting = $node->session;
$waiting->send("SELECT order_engine.rotate_secret('shop')");
poll_until('the session to wait', sub {
	return $node->value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") eq '1';
});
my $activity = $node->value(
	"SELECT string_agg(a::text, ' ') FROM pg_stat_activity a WHERE pid <> pg_backend_pid()");
$blocker->query('COMMIT');
$receiver->control({ secrets => { '/shop' => remember($waiting->receive) } });
$_->quit foreach $blocker, $waiting;
arrives('shop', 'the worker reads that one, too');
like($activity, qr/rotate_secret/, 'the view of sessions shows the statement');
ok(!shows($activity, keys %secret), 'and no secret');

# ---------- nothing of it is anywhere

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'a dump');
my $hex = $node->value("SELECT string_agg(encode(secret, 'hex'), '|') FROM order_engine.endpoint_secret");
like(slurp_file($dump), qr/bakery/, 'has the endpoints');
unlike(slurp_file($dump), qr/$hex/, 'but not their secrets, however encrypted');
ok(!shows(slurp_file($dump), keys %secret, @keys), 'nor in clear');

$node->stop;
my $log = slurp_file($node->logfile);
like($log, qr/Query Text: INSERT INTO order_engine\.endpoint_secret/, 'the log has the plans of the functions');
ok(!shows($log, keys %secret), 'the log shows no secret');
ok(!shows($log, @keys), 'and no key');

# the search finds what it looks for
ok(shows("x $_ y", keys %secret), 'a secret would be found')
  foreach map { my ($text, @other) = spellings($_); (substr($_, 0, 20), @other) } (keys %secret)[0];

done_testing();
