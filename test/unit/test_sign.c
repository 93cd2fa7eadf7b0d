/* Unit tests of bgworker/sign.c */
#include "sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "tap.h"

static oe_signer signer;

static void
test_vectors(void)
{
	static const struct
	{
		const char *secret;
		const char *id;
		int64_t		timestamp;
		const char *body;
		const char *signature;
	}			vectors[] = {
		{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
			"msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
			"{\"test\": 2432232314}",
		"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
			"msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1649367553,
			"{\"email\":\"test@example.com\",\"username\":\"test_user\"}",
		"v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="},
	};
	uint8_t		bytes[2][OE_SECRET_MAX];
	oe_secret	secrets[2];
	char		out[OE_SIGNATURE_SIZE(2)];
	char		want[OE_SIGNATURE_SIZE(2)];
	char		why[128] = "";
	int			i;

	for (i = 0; i < 2; i++)
	{
		ok(oe_secret_parse(vectors[i].secret, bytes[i], &secrets[i].len, why, sizeof(why)),
		   "secret of vector %d", i + 1);
		secrets[i].bytes = bytes[i];
		ok(oe_sign(&signer, vectors[i].id, vectors[i].timestamp,
				   vectors[i].body, strlen(vectors[i].body), &secrets[i], 1,
				   out, OE_SIGNATURE_SIZE(1), why, sizeof(why)), "vector %d is signed", i + 1);
		is_str(out, vectors[i].signature, "as the specification has it");
	}

	/* while a secret is rotated: both entries, in order, one space between */
	ok(oe_sign(&signer, vectors[0].id, vectors[0].timestamp,
			   vectors[0].body, strlen(vectors[0].body), secrets, 2,
			   out, sizeof(out), why, sizeof(why)), "two secrets");
	snprintf(want, sizeof(want), "%s ", vectors[0].signature);
	ok(strncmp(out, want, strlen(want)) == 0, "the first entry is the first secret's");
	ok(oe_sign(&signer, vectors[0].id, vectors[0].timestamp,
			   vectors[0].body, strlen(vectors[0].body), secrets + 1, 1,
			   want, sizeof(want), why, sizeof(why)) && strcmp(out + 48, want) == 0,
	   "the second entry is the second's");
	is_int((int64_t) strlen(out), 47 + 1 + 47, "and nothing more");
}

static void
test_failures(void)
{
	uint8_t		key[OE_SECRET_MAX + 1] = {1, 2, 3};
	oe_secret	secret = {key, OE_SECRET_MIN};
	oe_signer	none = {NULL};
	oe_secret	two[2] = {{key, OE_SECRET_MIN}, {key, OE_SECRET_MIN - 1}};
	char		out[OE_SIGNATURE_SIZE(2)];
	char		why[128] = "";

	ok(!oe_sign(&signer, "id", 1, "x", 1, &secret, 0, out, sizeof(out), why, sizeof(why)),
	   "no secret");
	ok(!oe_sign(&signer, "id", 1, "x", 1, &secret, -1, out, sizeof(out), why, sizeof(why)),
	   "a negative number of them");
	memset(out, 'x', sizeof(out));
	ok(!oe_sign(&signer, "id", 1, "x", 1, &secret, 1, out, OE_SIGNATURE_SIZE(1) - 1,
				why, sizeof(why)), "a buffer too small");
	is_str(out, "", "leaves an empty string");
	ok(out[1] == 'x', "and nothing else");
	ok(!oe_sign(&signer, "id", 1, "x", 1, &secret, 1, NULL, 0, NULL, 0), "no buffers at all");
	out[0] = 'x';
	ok(!oe_sign(&signer, "id", 1, "x", 1, &secret, 1, out, 1, why, sizeof(why)) && out[0] == '\0',
	   "a buffer of one byte gets the empty string");
	ok(!oe_sign(&none, "id", 1, "x", 1, &secret, 1, out, sizeof(out), why, sizeof(why)) &&
	   out[0] == '\0', "a failure of the hash function");
	is_str(why, "could not compute signature: out of memory", "and the text");
	ok(!oe_sign(&signer, "", 1, "x", 1, &secret, 1, out, sizeof(out), why, sizeof(why)),
	   "an empty id");
	ok(!oe_sign(&signer, "a.1", 1, "x", 1, &secret, 1, out, sizeof(out), why, sizeof(why)),
	   "an id with a dot");
	is_str(why, "webhook id must not be empty or have a dot", "and the text");
	ok(!oe_sign(&signer, "id", 1, "x", 1, two, 2, out, sizeof(out), why, sizeof(why)),
	   "one of two secrets too short");
	is_str(why, "secret must have 24 to 64 bytes", "and the text");
	is_str(out, "", "and no partial signature");
	secret.len = OE_SECRET_MAX + 1;
	ok(!oe_sign(&signer, "id", 1, "x", 1, &secret, 1, out, sizeof(out), why, sizeof(why)),
	   "a secret too long");
	secret.len = OE_SECRET_MAX;
	ok(oe_sign(&signer, "id", 1, NULL, 0, &secret, 1, out, sizeof(out), why, sizeof(why)),
	   "an empty body is signed");
}

/* against the crypto library's one-shot function over the joined text */
static void
test_random(void)
{
	int			wrong = 0;
	int			i;

	for (i = 0; i < 5000; i++)
	{
		uint8_t		key[OE_SECRET_MAX];
		oe_secret	secret = {key, OE_SECRET_MIN + random_below(OE_SECRET_MAX - OE_SECRET_MIN + 1)};
		size_t		bodylen = random_below(700);
		char		message[1024];
		char		id[40];
		int64_t		timestamp = (int64_t) random_u64();
		char		out[OE_SIGNATURE_SIZE(1)];
		char		want[OE_SIGNATURE_SIZE(1)] = "v1,";
		char		why[64];
		uint8_t		mac[32];
		unsigned int maclen = sizeof(mac);
		int			head;
		size_t		k;

		if (random_below(4) == 0)
			timestamp = random_below(2) ? INT64_MIN : INT64_MAX;
		for (k = 0; k < secret.len; k++)
			key[k] = (uint8_t) random_u64();
		snprintf(id, sizeof(id), "evt_%016llx", (unsigned long long) random_u64());
		head = snprintf(message, sizeof(message), "%s.%lld.", id, (long long) timestamp);
		for (k = 0; k < bodylen; k++)
			message[(size_t) head + k] = (char) random_u64();

		HMAC(EVP_sha256(), key, (int) secret.len, (unsigned char *) message,
			 (size_t) head + bodylen, mac, &maclen);
		EVP_EncodeBlock((unsigned char *) want + 3, mac, sizeof(mac));
		if (!oe_sign(&signer, id, timestamp, message + head, bodylen, &secret, 1,
					 out, sizeof(out), why, sizeof(why)) || strcmp(out, want) != 0)
			wrong++;
	}
	is_int(wrong, 0, "5000 random messages are signed as by the crypto library");
}

static bool
parse_ok(const char *text, char *why, size_t whylen)
{
	char	   *copy = exact_copy(text, strlen(text) + 1);
	uint8_t    *bytes = malloc(OE_SECRET_MAX);
	size_t		len = 42;
	bool		result;
	bool		zeroed = true;
	int			i;

	if (bytes == NULL)
		abort();
	memset(bytes, 'x', OE_SECRET_MAX);
	result = oe_secret_parse(copy, bytes, &len, why, whylen);
	for (i = 0; i < OE_SECRET_MAX; i++)
		zeroed = zeroed && bytes[i] == 0;
	if (!result && (!zeroed || len != 0))
	{
		printf("# a refused secret was left in the buffer\n");
		result = true;			/* every caller that expects refusal fails */
	}
	free(bytes);
	free(copy);
	return result;
}

static void
test_secrets(void)
{
	/* 32 letters are 24 bytes */
	static const char *const bad[] = {
		"", "whsec", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
		"whsec_MfKQ9r8GKYqrTwjU PD8ILPZIo2LaLaSw",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa==",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAA",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAB==",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAB=",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA==AA==",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw====",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_",
		"whsec_\xc3\xa4MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	};
	char		text[OE_SECRET_TEXT_SIZE];
	char		why[128];
	uint8_t		bytes[OE_SECRET_MAX];
	uint8_t		key[OE_SECRET_MAX + 1] = {0};
	size_t		len;
	size_t		i;
	int			wrong = 0;
	int			accepted = 0;
	int			round;

	ok(parse_ok("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", why, sizeof(why)), "a good secret");
	ok(parse_ok("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA==", why, sizeof(why)), "with padding");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!parse_ok(bad[i], why, sizeof(why)) && strstr(why, "MfKQ") == NULL,
		   "bad secret %zu: %s", i, why);
	ok(!parse_ok("whsec_AAAA", NULL, 0), "without a text");

	for (len = OE_SECRET_MIN; len <= OE_SECRET_MAX; len++)
	{
		size_t		got = 0;

		for (i = 0; i < len; i++)
			key[i] = (uint8_t) random_u64();
		if (!oe_secret_format(key, len, text, sizeof(text), why, sizeof(why)) ||
			!oe_secret_parse(text, bytes, &got, why, sizeof(why)) ||
			got != len || memcmp(bytes, key, len) != 0)
			wrong++;
	}
	is_int(wrong, 0, "every length from 24 to 64 goes to text and back");
	is_int((int64_t) strlen(text) + 1, OE_SECRET_TEXT_SIZE, "the longest text fills its buffer");
	ok(!oe_secret_format(key, OE_SECRET_MIN - 1, text, sizeof(text), why, sizeof(why)), "23 bytes");
	is_str(text, "", "leave an empty string");
	text[0] = 'x';
	ok(!oe_secret_format(key, OE_SECRET_MAX, text, 1, why, sizeof(why)) && text[0] == '\0',
	   "a buffer of one byte gets the empty string");
	ok(!oe_secret_format(key, OE_SECRET_MAX + 1, text, sizeof(text), why, sizeof(why)), "65 bytes");
	ok(!oe_secret_format(key, OE_SECRET_MAX, text, sizeof(text) - 1, why, sizeof(why)),
	   "a buffer too small");
	{
		char		longer[200] = "whsec_";

		memset(longer + 6, 'A', 88);	/* 66 bytes */
		ok(!parse_ok(longer, why, sizeof(why)), "66 bytes of text");
		memset(longer + 6, 'A', 92);
		ok(!parse_ok(longer, why, sizeof(why)), "text longer than any secret");
	}

	/* one spelling a secret: what is accepted formats to itself */
	wrong = 0;
	for (round = 0; round < 50000; round++)
	{
		char		mangled[OE_SECRET_TEXT_SIZE];
		size_t		got;

		len = OE_SECRET_MIN + random_below(5);
		for (i = 0; i < len; i++)
			key[i] = (uint8_t) random_u64();
		oe_secret_format(key, len, mangled, sizeof(mangled), why, sizeof(why));
		i = strlen(mangled);
		mangled[random_below(4) ? i - 1 - random_below(4) : random_below(i)] =
			"ABCDwxyz0189+/= \n-_\x80"[random_below(20)];
		if (oe_secret_parse(mangled, bytes, &got, why, sizeof(why)))
		{
			accepted++;
			if (!oe_secret_format(bytes, got, text, sizeof(text), why, sizeof(why)) ||
				strcmp(text, mangled) != 0)
				wrong++;
		}
	}
	printf("# %d accepted\n", accepted);
	ok(accepted > 1000, "some mangled secrets are accepted");
	is_int(wrong, 0, "50000 mangled secrets have one spelling each");
}

int
main(void)
{
	char		why[128];

	random_seed(15);
	if (!ok(oe_signer_init(&signer, why, sizeof(why)), "a signer"))
		return done_testing();
	test_vectors();
	test_failures();
	test_random();
	test_vectors();				/* once more, after failures and reuse */
	test_secrets();
	return done_testing();
}
