/*
 * seal.h
 *	  Secrets at rest: encrypted under a key of order_engine.secret_key_file.
 */
#ifndef OE_SEAL_H
#define OE_SEAL_H

/*
 * Decrypts what seal_secret() stored, into *plain (of the current context; the
 * caller wipes and frees it).  key_id NULL: it is stored in clear.  False with
 * the reason when the key is not in the file, the file cannot be read, or the
 * data was tampered with.
 */
extern bool oe_unseal(int32 endpoint_id, const char *kind, const char *key_id,
					  const bytea *sealed, uint8 **plain, size_t *len,
					  char *why, size_t whylen);

#endif							/* OE_SEAL_H */
