/*-------------------------------------------------------------------------
 *
 * sign.h
 *	  Standard Webhooks signatures and the text form of secrets.
 *
 * Needs the server's common library (HMAC, base64), in the backend or in a
 * program (-DFRONTEND), and nothing else of the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_SIGN_H
#define OE_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OE_SECRET_MIN		24	/* bytes; Standard Webhooks 1.0.0 */
#define OE_SECRET_MAX		64
#define OE_SECRET_PREFIX	"whsec_"

/* buffer for the text form: prefix, base64 of OE_SECRET_MAX bytes, NUL */
#define OE_SECRET_TEXT_SIZE	(6 + 88 + 1)

/* buffer for n signatures: "v1," and base64 of 32 bytes, then space or NUL */
#define OE_SIGNATURE_SIZE(n)	((n) * (3 + 44 + 1))

typedef struct oe_secret
{
	const uint8_t *bytes;
	size_t		len;
} oe_secret;

/* keyed hashing context, reused from signature to signature */
typedef struct oe_signer
{
	struct pg_hmac_ctx *hmac;
} oe_signer;

extern bool oe_signer_init(oe_signer *signer, char *why, size_t whylen);

extern bool oe_sign(oe_signer *signer, const char *id, int64_t timestamp,
					const void *body, size_t bodylen,
					const oe_secret *secrets, int nsecrets,
					char *out, size_t outlen,
					char *why, size_t whylen);

extern bool oe_secret_parse(const char *text, uint8_t *bytes, size_t *len,
							char *why, size_t whylen);
extern bool oe_secret_format(const uint8_t *bytes, size_t len,
							 char *out, size_t outlen,
							 char *why, size_t whylen);

#endif							/* OE_SIGN_H */
