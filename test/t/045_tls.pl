
# https: whom the worker believes, and the certificate that it shows itself.

use strict;
use warnings FATAL => 'all';

use JSON::PP qw(decode_json);
use OrderEngine qw(poll_until);
use OrderEngine::Receiver;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'no openssl program'
  if !eval { run_log([ 'openssl', 'version' ]) };

my $dir = PostgreSQL::Test::Utils::tempdir();

# ---------- certificates

# A key and a certificate: signed by the authority named $by, else by itself.
sub certificate
{
	my ($name, %options) = @_;
	my $file = "$dir/$name";
	my @sign = defined $options{by}
	  ? ('-CA', "$dir/$options{by}.crt", '-CAkey', "$dir/$options{by}.key", '-set_serial', $options{serial} // 2)
	  : ('-signkey', "$file.key");

	append_to_file("$file.ext", $options{ca} ? "basicConstraints=critical,CA:TRUE\n" :
		'subjectAltName=' . ($options{names} // 'IP:127.0.0.1') . "\n");
	system_or_bail('openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
		'-nodes', '-keyout', "$file.key", '-out', "$file.csr", '-subj', "/CN=$name");
	system_or_bail('openssl', 'x509', '-req', '-in', "$file.csr", '-out', "$file.crt",
		'-days', $options{days} // 30, '-extfile', "$file.ext", @sign);
	return;
}

certificate('authority', ca => 1);
certificate('other_authority', ca => 1);
certificate('good', by => 'authority');
certificate('expired', by => 'authority', days => 0);
certificate('wrong_name', by => 'authority', names => 'DNS:shop.example');
certificate('stranger', by => 'other_authority');
certificate('self_signed');
certificate("client_$_", by => 'authority', serial => 10 + ord($_)) foreach qw(a b);

# ---------- receivers; perl may have no TLS, so they are spoken to by files

my %receiver;

sub receiver
{
	my ($name, %options) = @_;

	$receiver{$name} = OrderEngine::Receiver->new(
		tls_cert => "$dir/$name.crt", tls_key => "$dir/$name.key", %options);
	return $receiver{$name};
}

sub received
{
	my ($receiver, $id) = @_;

	return poll_until("$id", sub {
		my ($line) = grep { /"\Q$id\E"/ } split(/\n/, slurp_file("$receiver->{directory}/log"));
		return $line && decode_json($line);
	});
}

my $node = OrderEngine->start_new('main');

$node->configure('order_engine.allow_http' => 'off', 'order_engine.ca_file' => "$dir/authority.crt");

sub endpoint
{
	my ($name, $receiver, %arguments) = @_;
	my $secret = $node->call('create_endpoint', {
		name => $name, url => $receiver->url("/$name"), event_types => ["$name.*"],
		retry_schedule => [ '0', '20 hours' ], %arguments });

	append_to_file("$receiver->{directory}/secrets", "/$name $secret\n");
	return;
}

sub emit
{
	my ($name) = @_;

	return $node->emit('same', type => "$name.event");
}

sub last_error
{
	my ($name) = @_;

	return poll_until("an error of $name", sub { $node->last_error($name) });
}

# ---------- whom the worker believes

receiver('good');
endpoint('good', $receiver{good});
my $first = received($receiver{good}, emit('good'));
ok($first->{verified}, 'a certificate of the authorities in order_engine.ca_file is believed');
is(received($receiver{good}, emit('good'))->{connection}, $first->{connection}, 'and the connection is kept');

my %wrong = (
	expired => qr/expired/,
	wrong_name => qr/127\.0\.0\.1/,
	stranger => qr/certificate/,
	self_signed => qr/self.signed/);

foreach my $name (sort keys %wrong)
{
	receiver($name);
	endpoint($name, $receiver{$name});
	emit($name);
	like(last_error($name), $wrong{$name}, "a certificate that is $name is not");
	is(slurp_file("$receiver{$name}->{directory}/log"), '', 'and nothing is sent');
}

# the file is read again with the settings
append_to_file("$dir/authority.crt", slurp_file("$dir/other_authority.crt"));
$node->reload;
endpoint('added', $receiver{stranger});
ok(received($receiver{stranger}, emit('added'))->{verified}, 'an authority that is added to the file is believed');
$node->configure('order_engine.ca_file' => "$dir/nothing");
endpoint('without', $receiver{stranger});
emit('without');
like(last_error('without'), qr/certificate/, 'without the file nobody is');
$node->configure('order_engine.ca_file' => '');
endpoint('system', $receiver{stranger});
emit('system');
like(last_error('system'), qr/certificate/, 'the authorities of the system do not know ours');
$node->configure('order_engine.ca_file' => "$dir/authority.crt");

# ---------- the certificate that it shows

receiver('good', tls_client_ca => "$dir/authority.crt");
my @client = map { { client_certificate => slurp_file("$dir/client_$_.crt"),
	client_key => slurp_file("$dir/client_$_.key") } } qw(a b);

endpoint('nobody', $receiver{good});
emit('nobody');
like(last_error('nobody'), qr/certificate required/, 'who shows no certificate is not let in');
endpoint('client_a', $receiver{good}, %{ $client[0] });
my $a = received($receiver{good}, emit('client_a'));
ok($a->{verified}, 'an endpoint with a client certificate is');
endpoint('client_b', $receiver{good}, %{ $client[1] });
my $b = received($receiver{good}, emit('client_b'));
isnt($b->{connection}, $a->{connection}, 'another certificate gets a connection of its own');
is(received($receiver{good}, emit('client_a'))->{connection}, $a->{connection}, 'the first one has kept its own');
emit('nobody');
endpoint('nobody_else', $receiver{good});
emit('nobody_else');
like(last_error('nobody_else'), qr/certificate required/, 'which serves nobody without it');
endpoint('thief', $receiver{good},
	client_certificate => $client[0]{client_certificate}, client_key => $client[1]{client_key});
emit('thief');
like(last_error('thief'), qr/private key/, 'nor one who has the certificate and not its key');

$node->stop;

done_testing();
