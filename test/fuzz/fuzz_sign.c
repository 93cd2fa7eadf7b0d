/*
 * fuzz_sign.c
 *	  The text form of secrets, and signatures.
 *
 * Input: the text of a secret, a byte 0x0a, an id, a byte 0x0a, a body.
 */
#include "postgres_fe.h"

#include "fuzz.h"

#include "sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

/* The bytes of a secret as OpenSSL reads them; -1: not canonical base64. */
static int
read_secret(const char *text, uint8_t *bytes)
{
	size_t		len = strlen(text);
	uint8_t		decoded[400];
	char		again[400];
	int			n;

	if (strncmp(text, OE_SECRET_PREFIX, 6) != 0 || (len - 6) % 4 != 0 || len - 6 > 200)
		return -1;
	text += 6;
	len -= 6;
	n = len == 0 ? 0 : EVP_DecodeBlock(decoded, (const uint8_t *) text, (int) len);
	if (n < 0)
		return -1;
	for (size_t i = len; i > 0 && i > len - 2 && text[i - 1] == '='; i--)
		n--;
	EVP_EncodeBlock((uint8_t *) again, decoded, n);
	if (strcmp(again, text) != 0 || n < OE_SECRET_MIN || n > OE_SECRET_MAX)
		return -1;
	memcpy(bytes, decoded, (size_t) n);
	return n;
}

static void
check_signature(const uint8_t *secret, size_t secretlen, const char *id,
				const uint8_t *body, size_t bodylen)
{
	static oe_signer signer;
	oe_secret	secrets[2] = {{secret, secretlen}, {secret, OE_SECRET_MIN}};
	char		out[OE_SIGNATURE_SIZE(2)];
	char		want[OE_SIGNATURE_SIZE(2)] = "";
	char		why[WHY_SIZE];
	char	   *text;
	int			textlen;
	bool		signs;

	if (signer.hmac == NULL)
		HOLDS(oe_signer_init(&signer, why, sizeof(why)));
	why_begin(why);
	signs = oe_sign(&signer, id, 1700000000 + (int64_t) bodylen, body, bodylen, secrets, 2,
					out, sizeof(out), why, sizeof(why));
	HOLDS(signs == (id[0] != '\0' && strchr(id, '.') == NULL));
	if (!signs)
	{
		why_check(why);
		HOLDS(out[0] == '\0');
		return;
	}
	text = malloc(strlen(id) + bodylen + 64);
	textlen = sprintf(text, "%s.%lld.", id, 1700000000LL + (long long) bodylen);
	memcpy(text + textlen, body, bodylen);
	for (int i = 0; i < 2; i++)
	{
		uint8_t		mac[32];
		char		encoded[48];

		HMAC(EVP_sha256(), secrets[i].bytes, (int) secrets[i].len, (const uint8_t *) text,
			 (size_t) textlen + bodylen, mac, NULL);
		EVP_EncodeBlock((uint8_t *) encoded, mac, 32);
		sprintf(want + strlen(want), "%sv1,%s", i > 0 ? " " : "", encoded);
	}
	HOLDS(strcmp(out, want) == 0);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = memchr(data, '\n', size);
	size_t		len = end != NULL ? (size_t) (end - data) : size;
	char	   *text = take_string(data, len);
	uint8_t		bytes[OE_SECRET_MAX];
	uint8_t		want[OE_SECRET_MAX] = {0};
	size_t		got = 1;
	int			n = read_secret(text, want);
	char		why[WHY_SIZE];
	char		again[OE_SECRET_TEXT_SIZE];

	why_begin(why);
	HOLDS(oe_secret_parse(text, bytes, &got, why, sizeof(why)) == (n >= 0));
	if (n < 0)
	{
		/* whoever goes on anyway has nothing */
		why_check(why);
		HOLDS(got == 0);
		for (int i = 0; i < OE_SECRET_MAX; i++)
			HOLDS(bytes[i] == 0);
	}
	else
	{
		size_t		rest = size - len > 0 ? size - len - 1 : 0;
		const uint8_t *id = data + size - rest;
		const uint8_t *idend = memchr(id, '\n', rest);
		size_t		idlen = idend != NULL ? (size_t) (idend - id) : rest;
		char	   *idtext = take_string(id, idlen);
		size_t		bodylen = idend != NULL ? rest - idlen - 1 : 0;
		char	   *body = take_bytes(data + size - bodylen, bodylen);

		HOLDS(got == (size_t) n && memcmp(bytes, want, got) == 0);
		HOLDS(oe_secret_format(bytes, got, again, sizeof(again), why, sizeof(why)));
		HOLDS(strcmp(again, text) == 0);
		HOLDS(!oe_secret_format(bytes, got, again, strlen(text), why, sizeof(why)));
		check_signature(bytes, got, idtext, (const uint8_t *) body, bodylen);
		free(idtext);
		free(body);
	}
	free(text);
	return 0;
}
