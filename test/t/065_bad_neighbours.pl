
# Endpoints that hang, refuse, resolve nowhere, drip or reset: a healthy one
# beside them does not notice, and the worker ends at once when it is told to.

use strict;
use warnings FATAL => 'all';

use OrderEngine qw(poll_until percentile);
use OrderEngine::Load qw($long rss cpu_seconds latencies show_latencies start_writers);
use OrderEngine::Receiver;
use Test::More;
use Time::HiRes qw(time);

my $rate = 200;
my $seconds = $long ? 30 : 5;
my $waiting = $long ? 10_000 : 2_000;    # before each bad one

my $node = OrderEngine->start_new('main');
my $receiver = OrderEngine::Receiver->new;
my $bad = OrderEngine::Receiver->new;
my $refuses = OrderEngine::Receiver->new(stopped => 1);

OrderEngine::Load::prepare($node);
$node->create_endpoint($receiver, 'healthy', event_types => ['trickle.*']);
my $accepted = 0;

sub measure
{
	my ($what) = @_;
	my $count = $rate * $seconds;
	my $mark = $node->value('SELECT clock_timestamp()');
	my $worker = $node->wait_for_worker;
	my $cpu = cpu_seconds($worker);
	my ($writer) = start_writers($node, 1, "CALL trickle($rate, $count)");

	defined $writer->receive or die $writer->error;
	$writer->quit;
	$accepted += $count;
	$receiver->wait_for('/healthy', accepted => $accepted);
	my @latencies = latencies($node, $receiver, '/healthy',
		"type = 'trickle.event' AND created_at > '$mark'");
	is(scalar @latencies, $count, "$what: all came");
	diag(sprintf('%-18s %s; worker: %.0f ms of the processor each second', "$what:",
		show_latencies(@latencies), 1000 * (cpu_seconds($worker) - $cpu) / $seconds));
	return @latencies;
}

# SIGTERM; another worker comes.
sub end_worker
{
	my ($what) = @_;
	my $pid = $node->wait_for_worker;
	my $begin = time;

	kill('TERM', $pid) == 1 or die "could not tell $pid to end: $!";
	poll_until('the worker to end', sub { !kill(0, $pid) });
	my $took = time - $begin;
	diag(sprintf('%-18s the worker ended after %.0f ms', "$what:", 1000 * $took));
	cmp_ok($took, '<', 5, "$what: the worker ends when it is told to");
	$node->wait_for_worker(undef, $pid);
	diag(sprintf('%-18s another came after %.0f ms', '', 1000 * (time - $begin)));
	return;
}

measure('warm');
my @idle = measure('idle');

# open for ever they would be no bad neighbours: let the breaker try again and again
my %bad = (
	event_types => [ 'test.*', 'trickle.*' ],
	policy => { breaker_open => '20 ms', breaker_open_max => '100 ms' });
my %kind = (
	hangs => { rule => { action => 'hang' }, timeout => '3 s' },
	refuses => { url => $refuses->url('/refuses') },
	'resolves nowhere' => { url => 'http://nowhere.invalid/' },
	drips => { rule => { action => 'drip', drip_ms => 20 } },
	'drips an error' => { rule => { action => 'drip', status => 500, drip_ms => 20 } },
	resets => { rule => { action => 'reset' } });
my $n = 0;

foreach my $kind (sort keys %kind)
{
	my %it = %{ $kind{$kind} };
	my $rule = delete $it{rule};
	my $path = '/' . $kind =~ s/ /_/gr;
	my $name = 'bad-' . ++$n;

	$kind{$kind}{path} = $path;
	$kind{$kind}{bad_rule} = { path => $path, %$rule } if $rule;
	$bad->rules(grep { defined } map { $_->{bad_rule} } values %kind);
	$node->call('create_endpoint', { name => $name, url => $bad->url($path), %bad, %it });
	$node->safe_psql('postgres', qq{
		SELECT count(order_engine.emit('test', 'a' || i, 'test.event', '{}')) FROM generate_series(1, $waiting) i});
	my @during = measure($kind);
	diag(sprintf('%-18s ratio to idle: p50 %.2f, p99 %.2f', '',
		percentile(0.5, @during) / percentile(0.5, @idle),
		percentile(0.99, @during) / percentile(0.99, @idle)));
	end_worker($kind);
	$node->safe_psql('postgres', "SELECT order_engine.pause_endpoint('$name')");
}

# all at once
$node->safe_psql('postgres', q{
	SELECT order_engine.resume_endpoint(name) FROM order_engine.endpoint WHERE name LIKE 'bad-%'});
my @during = measure('all of them');
diag(sprintf('%-18s ratio to idle: p50 %.2f, p99 %.2f', '',
	percentile(0.5, @during) / percentile(0.5, @idle),
	percentile(0.99, @during) / percentile(0.99, @idle)));
diag(sprintf('worker: %.1f MB', rss($node->worker_pid)));
end_worker('all of them');
measure('after that');
is($receiver->stats('/healthy')->{duplicates}, 0, 'nothing came twice');
is($node->value('SELECT count(*) FROM order_engine.dead_letter'), '0', 'nothing is dead');
$node->stop;

done_testing();
