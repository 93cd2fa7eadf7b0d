
# Receivers that answer with anything but a short reply, and names that resolve
# to where nothing may be sent, to something else each time, or not at all.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Select;
use IO::Socket::INET;
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $requests = "$dir/requests";
my $forever = 2**40;

append_to_file($requests, '');

# ---------- a receiver that speaks over a bare socket

# Sends bytes until they are all sent or nobody takes them any more.
sub pour
{
	my ($socket, $chunk, $bytes, $pause) = @_;

	while ($bytes > 0)
	{
		my $sent = syswrite($socket, $chunk);

		return if !defined $sent;
		$bytes -= $sent;
		select(undef, undef, undef, $pause) if $pause;
	}
	return;
}

my $head = "HTTP/1.1 %d Whatever\r\nContent-Type: text/plain\r\n";
my $open = "Content-Length: 100000000000\r\n\r\n";
my %misbehaviour = (
	endless => sub { syswrite($_[0], sprintf($head, $_[1]) . $open); pour($_[0], 'x' x 65536, $forever); },
	drip => sub { syswrite($_[0], sprintf($head, $_[1]) . $open); pour($_[0], '.', $forever, 0.05); },
	dripping_header => sub { syswrite($_[0], sprintf($head, $_[1]) . 'x: '); pour($_[0], '.', $forever, 0.05); },
	headers => sub { syswrite($_[0], sprintf($head, $_[1])); pour($_[0], "x-more: $_\r\n" x 64, 1_000_000); },
	long_header => sub { syswrite($_[0], sprintf($head, $_[1])); pour($_[0], 'x' x 65536, 1_000_000); },
	long_status => sub { syswrite($_[0], "HTTP/1.1 $_[1] "); pour($_[0], 'x' x 65536, 1_000_000); },
	bytes => sub { syswrite($_[0], sprintf($head, $_[1]) . "Content-Length: 256\r\n\r\n" . join('', map { chr } 0 .. 255)); },
	chunks => sub { syswrite($_[0], sprintf($head, $_[1]) . "Transfer-Encoding: chunked\r\n\r\nzzz\r\n"); },
	interim => sub { syswrite($_[0], "HTTP/1.1 103 Hints\r\nRetry-After: 86400\r\n\r\n" . sprintf($head, $_[1]) . "Content-Length: 0\r\n\r\n"); },
	nothing => sub { },
	garbage => sub { syswrite($_[0], join('', map { chr } 0 .. 255)); });

# One connection: the path says what to do, as in /drip/200.
sub serve
{
	my ($socket) = @_;
	my $buffer = '';

	while (sysread($socket, $buffer, 65536, length $buffer))
	{
		next if $buffer !~ /^POST \/(\w+)\/(\d+) .*?\r\n\r\n/s;
		my ($what, $status, $whole) = ($1, $2, $+[0]);
		my ($length) = $buffer =~ /^content-length: *(\d+)/mi;

		next if length $buffer < $whole + $length;
		append_to_file($requests, "/$what/$status\n");
		$misbehaviour{$what}->($socket, $status);
		return;
	}
	return;
}

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128, ReuseAddr => 1)
  or die "could not listen: $!";
my $port = $listener->sockport;
my $test = $$;
my $server = fork() // die "could not fork: $!";

if ($server == 0)
{
	$SIG{CHLD} = $SIG{PIPE} = 'IGNORE';
	while (getppid() == $test)
	{
		next if !IO::Select->new($listener)->can_read(1);
		my $socket = $listener->accept or next;

		if ((fork() // -1) == 0)
		{
			eval { serve($socket) };
			POSIX::_exit(0);
		}
	}
	POSIX::_exit(0);
}
close($listener);

END
{
	local $?;
	kill('TERM', $server) if defined $server && $server > 0 && $$ == $test;
}

# ---------- a server whose names are ours

my $resolve = "$dir/names";
my $shim = "$dir/resolve_shim.so";
my $source = abs_path(dirname(__FILE__) . '/../lib/resolve_shim.c');
my $node;

sub resolve_to
{
	my (%addresses) = @_;

	append_to_file("$resolve.new", join('', map { "$_ $addresses{$_}\n" } keys %addresses));
	rename("$resolve.new", $resolve) or die "rename: $!";
	return;
}

system_or_bail('cc', '-shared', '-fPIC', '-o', $shim, $source, '-ldl');
resolve_to();
{
	local $ENV{LD_PRELOAD} = $shim;
	local $ENV{OE_RESOLVE} = $resolve;

	$node = OrderEngine->start_new('main');
}

sub endpoint
{
	my ($name, $url, %arguments) = @_;

	$node->call('create_endpoint', {
		name => $name, url => $url, event_types => ["$name.*"],
		timeout => '5 minutes', retry_schedule => [ '0', '20 hours' ], %arguments });
	return;
}

sub emit
{
	my ($name, $aggregateid) = @_;

	return $node->emit($aggregateid // 'same', type => "$name.event");
}

sub requests_of
{
	my ($path) = @_;

	return scalar grep { $_ eq $path } split(/\n/, slurp_file($requests));
}

sub last_error
{
	my ($name) = @_;

	return poll_until("an error of $name", sub { $node->last_error($name) });
}

sub worker_memory
{
	my ($kilobytes) = slurp_file('/proc/' . $node->wait_for_worker . '/status') =~ /^VmHWM:\s+(\d+) kB/m;

	return $kilobytes;
}

# ---------- a 2xx is a success, and what follows it keeps nobody waiting

# Within an aggregate one request follows the end of another, and the timeout of
# the endpoint is longer than this test may take.
foreach my $what (qw(endless drip dripping_header headers long_header bytes chunks interim))
{
	my $name = "good_$what";

	endpoint($name, "http://127.0.0.1:$port/$what/200");
	emit($name) foreach 1 .. 3;
	poll_until("requests of $name", sub { requests_of("/$what/200") >= 3 });
	$node->wait_for_value('SELECT in_flight FROM order_engine.stat_worker', '0');
	is(requests_of("/$what/200"), 3, "$what after a 2xx: one request for each event");
	is($node->last_error($name), '', 'and each is a success');
}

# ---------- other answers are failures that tell what they are

my %error = (
	endless => qr/^HTTP status 500$/,
	drip => qr/^HTTP status 500$/,
	bytes => qr/^HTTP status 500$/,
	chunks => qr/^HTTP status 500$/,
	interim => qr/^HTTP status 500$/,
	headers => qr/^[ -~]+$/,
	long_header => qr/^[ -~]+$/,
	long_status => qr/^[ -~]+$/,
	nothing => qr/^Empty reply/,
	garbage => qr/^Received HTTP\/0\.9/);

foreach my $what (sort keys %error)
{
	my $name = "bad_$what";

	endpoint($name, "http://127.0.0.1:$port/$what/500");
	emit($name);
	like(last_error($name), $error{$what}, "$what after a 500 is a failure");
	is($node->value("SELECT count(*) FROM order_engine.dead_letter WHERE type = '$name.event'"),
		'0', 'that may get better');
}

# ---------- none of it stays in memory

my $memory = worker_memory();

endpoint('flood', "http://127.0.0.1:$port/endless/201", ordering => 'none');
endpoint('swell', "http://127.0.0.1:$port/headers/202", ordering => 'none');
foreach my $name (qw(flood swell))
{
	$node->safe_psql('postgres',
		"SELECT order_engine.emit('test', i::text, '$name.event', '{}') FROM generate_series(1, 200) i");
}
poll_until('the flood', sub { requests_of('/endless/201') >= 200 && requests_of('/headers/202') >= 200 });
my $grown = worker_memory() - $memory;
diag("the worker grew by $grown kB over 400 answers without an end");
cmp_ok($grown, '<', 32 * 1024, 'answers without an end take no memory');

# ---------- redirects

my $receiver = OrderEngine::Receiver->new;

$receiver->rules({ path => '/moved', action => 'redirect', status => 301,
	location => 'http://169.254.169.254/latest/meta-data/' },
	{ path => '/moved_near', action => 'redirect', status => 308, location => $receiver->url('/near') });
endpoint('moved', $receiver->url('/moved'));
endpoint('moved_near', $receiver->url('/moved_near'));
emit('moved');
emit('moved_near');
is(last_error('moved'), 'HTTP status 301', 'a redirect to an internal address is not followed');
is(last_error('moved_near'), 'HTTP status 308', 'nor is any other');
is($receiver->stats('/near')->{requests}, 0, 'so nothing arrives there');

# ---------- names

my $web = ':' . $receiver->port;

sub arrives
{
	my ($name, $what) = @_;
	my $id = emit($name);

	ok($receiver->wait_for_id("/$name", $id), $what);
	return;
}

resolve_to(
	'loop.test' => '127.0.0.1',
	'inside.test' => '10.1.2.3',
	'metadata.test' => '169.254.169.254',
	'mapped.test' => '::ffff:10.0.0.1',
	'nat64.test' => '64:ff9b::a00:1',
	'sixtofour.test' => '2002:a00:1::1',
	'six.test' => '::1',
	'either.test' => '10.1.2.3 127.0.0.1');
my %blocked = (
	inside => qr/10\.1\.2\.3/,
	metadata => qr/169\.254\.169\.254/,
	mapped => qr/::ffff:10\.0\.0\.1/,
	nat64 => qr/64:ff9b::a00:1/,
	sixtofour => qr/2002:a00:1::1/,
	six => qr/::1/);

foreach my $name (sort keys %blocked)
{
	endpoint($name, "http://$name.test$web/$name");
	emit($name);
	my $error = last_error($name);
	like($error, $blocked{$name}, "a name with a special address ($name) is blocked");
	like($error, qr/order_engine\.allow_cidrs/, 'the error names the setting');
}
endpoint('zone', "http://[fe80::1%25lo]$web/zone");
emit('zone');
like(last_error('zone'), qr/order_engine\.allow_cidrs.*fe80::1/, 'so is an address with a zone');
endpoint('loop', "http://loop.test$web/loop");
arrives('loop', 'a name with an allowed address is not');
endpoint('either', "http://either.test$web/either");
arrives('either', 'of several addresses the allowed one is used');

resolve_to('loop.test' => '169.254.169.254');
my $pid = $node->wait_for_worker;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$node->wait_for_worker('postgres', $pid);
emit('loop');
like(last_error('loop'), qr/169\.254\.169\.254/, 'what a name resolved to before does not count');

# ---------- a connection from before the rules became stricter

endpoint('kept', $receiver->url('/kept'));
arrives('kept', 'a connection that is kept');
my $before = $receiver->stats('/kept')->{requests};
$node->configure('order_engine.allow_cidrs' => '');
emit('kept');
like(last_error('kept'), qr/order_engine\.allow_cidrs/, 'is not used against the rules of now');
is($receiver->stats('/kept')->{requests}, $before, 'nothing is sent over it');
$node->configure('order_engine.allow_cidrs' => '127.0.0.0/8');

# ---------- a name that does not resolve, as long as anybody cares to wait

resolve_to('slow.test' => 'hang');
endpoint('slow', "http://slow.test$web/slow", connect_timeout => '300 ms');
endpoint('healthy', $receiver->url('/healthy'));
emit('slow');
poll_until('the look-up', sub { -e "$resolve.slow.test.hangs" });
arrives('healthy', 'a look-up that hangs holds up no other endpoint');
like(last_error('slow'), qr/timed out|timeout/i, 'and ends with the timeout');
ok(!-e "$resolve.slow.test.go", 'although nobody has answered');

resolve_to('slower.test' => 'hang');
endpoint('slower', "http://slower.test$web/slower", connect_timeout => '1 minute');
emit('slower');
poll_until('the look-up', sub { -e "$resolve.slower.test.hangs" });
$pid = $node->wait_for_worker;
kill('TERM', $pid) == 1 or die "kill: $!";
poll_until('the worker to end', sub { kill(0, $pid) == 0 }, 20);
pass('a worker whose look-up hangs ends when it is told to');
$node->wait_for_worker('postgres', $pid);
arrives('healthy', 'and another one takes its place');
$node->stop('fast');

done_testing();
