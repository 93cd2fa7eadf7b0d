/*-------------------------------------------------------------------------
 *
 * sign.c
 *	  Standard Webhooks signatures and the text form of secrets.
 *
 * Responsibility: HMAC-SHA256 over "id.timestamp.body" in the form of the
 * webhook-signature header, and "whsec_" secrets to bytes and back.
 *
 * Lifecycle: one oe_signer for the life of a worker.  Only oe_signer_init
 * allocates; in the backend that can raise an error, and the context belongs
 * to CurrentResourceOwner, which must therefore be set and live as long as
 * the signer.  (It is NULL outside transactions, and the server would crash;
 * a transaction's owner would free the context at its end.)  A worker makes
 * one with ResourceOwnerCreate(NULL, ...), sets it around the call and keeps
 * it.  From then on nothing here raises or calls palloc in a server built
 * with OpenSSL, so it may be called between libcurl's calls; the server's own
 * HMAC pallocs 32 bytes for each signature.
 *
 * Accidents survived: secrets of wrong length or spelling, ids that would
 * make the signed text ambiguous, buffers that are too small, failure of the
 * crypto library.  After a failure the signer can be used again, and no
 * partial signature is left in the caller's buffer.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "common/base64.h"
#include "common/hmac.h"

#include "sign.h"

#define MAC_BYTES			32
#define MAC_TEXT			44	/* base64 of MAC_BYTES */
#define ENTRY_TEXT			(3 + MAC_TEXT)
#define PREFIX_LEN			(sizeof(OE_SECRET_PREFIX) - 1)
#define SECRET_BASE64_MAX	((OE_SECRET_MAX + 2) / 3 * 4)

/*
 * The base64 functions take char or uint8 pointers depending on the server's
 * version; a void pointer suits both.
 */
static int
base64_encode(const void *src, int len, char *dst, int dstlen)
{
	return pg_b64_encode(src, len, dst, dstlen);
}

static int
base64_decode(const char *src, int len, void *dst, int dstlen)
{
	return pg_b64_decode(src, len, dst, dstlen);
}

/*
 * oe_signer_init
 *
 * Allocates; see the lifecycle above.  False when out of memory, which the
 * backend raises as an error instead.
 */
bool
oe_signer_init(oe_signer *signer, char *why, size_t whylen)
{
	signer->hmac = pg_hmac_create(PG_SHA256);
	if (signer->hmac == NULL)
	{
		snprintf(why, whylen, "could not create HMAC context: out of memory");
		return false;
	}
	return true;
}

/*
 * oe_sign
 *
 * Write the webhook-signature header's value, NUL-terminated, to out: one
 * entry for each secret, in their order, separated by one space.  timestamp
 * is in seconds since 1970.  outlen must be at least
 * OE_SIGNATURE_SIZE(nsecrets).  On failure out is the empty string.
 */
bool
oe_sign(oe_signer *signer, const char *id, int64_t timestamp,
		const void *body, size_t bodylen,
		const oe_secret *secrets, int nsecrets,
		char *out, size_t outlen, char *why, size_t whylen)
{
	char		stamp[32];
	size_t		idlen = strlen(id);
	int			stamplen;
	char	   *p = out;
	int			i;

	if (outlen > 0)
		out[0] = '\0';
	if (nsecrets < 1 || outlen / OE_SIGNATURE_SIZE(1) < (size_t) nsecrets)
	{
		snprintf(why, whylen, "no secret to sign with, or buffer too small");
		return false;
	}
	if (idlen == 0 || strchr(id, '.') != NULL)
	{
		/* "a.1" at 2 and "a" at 1 with body "2..." would be the same text */
		snprintf(why, whylen, "webhook id must not be empty or have a dot");
		return false;
	}
	for (i = 0; i < nsecrets; i++)
	{
		if (secrets[i].len < OE_SECRET_MIN || secrets[i].len > OE_SECRET_MAX)
		{
			snprintf(why, whylen, "secret must have %d to %d bytes",
					 OE_SECRET_MIN, OE_SECRET_MAX);
			return false;
		}
	}
	stamplen = snprintf(stamp, sizeof(stamp), ".%lld.", (long long) timestamp);

	for (i = 0; i < nsecrets; i++)
	{
		uint8		mac[MAC_BYTES];

		if (pg_hmac_init(signer->hmac, secrets[i].bytes, secrets[i].len) < 0 ||
			pg_hmac_update(signer->hmac, (const uint8 *) id, idlen) < 0 ||
			pg_hmac_update(signer->hmac, (const uint8 *) stamp,
						   (size_t) stamplen) < 0 ||
			(bodylen > 0 &&
			 pg_hmac_update(signer->hmac, body, bodylen) < 0) ||
			pg_hmac_final(signer->hmac, mac, sizeof(mac)) < 0)
		{
			out[0] = '\0';
			snprintf(why, whylen, "could not compute signature: %s",
					 pg_hmac_error(signer->hmac));
			return false;
		}

		if (i > 0)
			*p++ = ' ';
		memcpy(p, "v1,", 3);
		if (base64_encode(mac, sizeof(mac), p + 3, MAC_TEXT) != MAC_TEXT)
		{
			out[0] = '\0';
			snprintf(why, whylen, "could not encode signature");
			return false;
		}
		p += ENTRY_TEXT;
	}
	*p = '\0';
	return true;
}

/*
 * oe_secret_parse
 *
 * "whsec_<base64>" to bytes; bytes has room for OE_SECRET_MAX.  Only the one
 * canonical spelling is taken, with padding: what is shown must be what was
 * given.  No error text holds any part of the secret, and on failure bytes
 * is zeroed.
 */
bool
oe_secret_parse(const char *text, uint8_t *bytes, size_t *len,
				char *why, size_t whylen)
{
	char		again[SECRET_BASE64_MAX];
	size_t		textlen = strlen(text);
	int			n;
	bool		canonical = false;

	*len = 0;
	memset(bytes, 0, OE_SECRET_MAX);
	if (textlen < PREFIX_LEN ||
		memcmp(text, OE_SECRET_PREFIX, PREFIX_LEN) != 0)
	{
		snprintf(why, whylen, "secret must begin with \"%s\"",
				 OE_SECRET_PREFIX);
		return false;
	}
	text += PREFIX_LEN;
	textlen -= PREFIX_LEN;
	if (textlen > SECRET_BASE64_MAX)
	{
		snprintf(why, whylen, "secret must have %d to %d bytes",
				 OE_SECRET_MIN, OE_SECRET_MAX);
		return false;
	}

	n = base64_decode(text, (int) textlen, bytes, OE_SECRET_MAX);
	if (n >= 0)
		canonical = base64_encode(bytes, n, again, sizeof(again)) == (int) textlen &&
			memcmp(again, text, textlen) == 0;
	explicit_bzero(again, sizeof(again));

	if (!canonical)
	{
		explicit_bzero(bytes, OE_SECRET_MAX);
		snprintf(why, whylen, "secret must be valid base64 after \"%s\"",
				 OE_SECRET_PREFIX);
		return false;
	}
	if (n < OE_SECRET_MIN || n > OE_SECRET_MAX)
	{
		explicit_bzero(bytes, OE_SECRET_MAX);
		snprintf(why, whylen, "secret must have %d to %d bytes",
				 OE_SECRET_MIN, OE_SECRET_MAX);
		return false;
	}
	*len = (size_t) n;
	return true;
}

/*
 * oe_secret_format
 *
 * Bytes to "whsec_<base64>", NUL-terminated; out should have
 * OE_SECRET_TEXT_SIZE bytes.
 */
bool
oe_secret_format(const uint8_t *bytes, size_t len, char *out, size_t outlen,
				 char *why, size_t whylen)
{
	size_t		textlen;

	if (outlen > 0)
		out[0] = '\0';
	if (len < OE_SECRET_MIN || len > OE_SECRET_MAX)
	{
		snprintf(why, whylen, "secret must have %d to %d bytes",
				 OE_SECRET_MIN, OE_SECRET_MAX);
		return false;
	}
	textlen = (len + 2) / 3 * 4;
	if (outlen < PREFIX_LEN + textlen + 1)
	{
		snprintf(why, whylen, "buffer too small for secret");
		return false;
	}
	memcpy(out, OE_SECRET_PREFIX, PREFIX_LEN);
	if (base64_encode(bytes, (int) len, out + PREFIX_LEN,
					  (int) textlen) != (int) textlen)
	{
		out[0] = '\0';
		snprintf(why, whylen, "could not encode secret");
		return false;
	}
	out[PREFIX_LEN + textlen] = '\0';
	return true;
}
