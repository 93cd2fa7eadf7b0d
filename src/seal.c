/*
 * seal.c
 *	  Secrets at rest: encrypted under a key of order_engine.secret_key_file.
 *
 * A sealed secret is a version byte, a nonce, the ciphertext of AES-256-GCM and
 * its tag.  Endpoint and kind are authenticated along with it, so that a row
 * copied to another endpoint opens nothing.
 *
 * Lifecycle: the file is read whenever a secret is sealed or opened, which is
 * when endpoints change; keys stay in memory no longer than that.  Its first
 * key seals, all of them open.
 *
 * Accidents survived: a file that others may read (refused, by the rules of the
 * server for keys of TLS), a pipe in its place (never waited for), a torn or
 * foreign row (a reason, and no secret).  No reason holds a byte of a key or a
 * secret, nor the name of the file, which only superusers may see.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "query.h"
#include "seal.h"
#include "settings.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define SEAL_VERSION	1
#define KEY_LEN			32
#define NONCE_LEN		12
#define TAG_LEN			16
#define SEAL_OVERHEAD	(1 + NONCE_LEN + TAG_LEN)

#define KEY_ID_MAX		63
#define MAX_KEYS		64
#define MAX_FILE_BYTES	(16 * 1024)
#define MAX_WHY			256

#define THE_FILE		"the file of order_engine.secret_key_file"
#define BLANKS			" \t\r"

typedef struct Key
{
	char		id[KEY_ID_MAX + 1];
	uint8		bytes[KEY_LEN];
} Key;

/* wiped by whoever has read it */
typedef struct KeyRing
{
	int			n;				/* 0: no file is set */
	Key			keys[MAX_KEYS];
} KeyRing;

PG_FUNCTION_INFO_V1(oe_seal_secret);
PG_FUNCTION_INFO_V1(oe_reencrypt_secrets);

/* ---------- the file ---------- */

/* Only its owner may read it, or root's group when root gave it to the server. */
static bool
check_permissions(int fd, char *why, size_t whylen)
{
	struct stat st;
	mode_t		forbidden;

	if (fstat(fd, &st) != 0)
	{
		snprintf(why, whylen, "could not look at " THE_FILE ": %s", strerror(errno));
		return false;
	}
	if (!S_ISREG(st.st_mode))
	{
		snprintf(why, whylen, THE_FILE " is not a regular file");
		return false;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0)
	{
		snprintf(why, whylen, THE_FILE " must be owned by the server's user or root");
		return false;
	}
	forbidden = st.st_uid == geteuid() ? S_IRWXG | S_IRWXO : S_IWGRP | S_IXGRP | S_IRWXO;
	if ((st.st_mode & forbidden) != 0)
	{
		snprintf(why, whylen, THE_FILE " has group or world access;"
				 " it must have permissions 0600, or 0640 if root owns it");
		return false;
	}
	return true;
}

/* Reads the file whole, into a buffer with room for one byte more than allowed. */
static bool
read_file(char *buffer, size_t *len, char *why, size_t whylen)
{
	int			fd = OpenTransientFile(oe_secret_key_file, O_RDONLY | O_NONBLOCK | PG_BINARY);
	bool		ok;

	if (fd < 0)
	{
		snprintf(why, whylen, "could not open " THE_FILE ": %s", strerror(errno));
		return false;
	}
	*len = 0;
	ok = check_permissions(fd, why, whylen);
	while (ok)
	{
		ssize_t		got = read(fd, buffer + *len, MAX_FILE_BYTES + 1 - *len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
		{
			snprintf(why, whylen, "could not read " THE_FILE ": %s", strerror(errno));
			ok = false;
		}
		if (got <= 0)
			break;
		*len += got;
		if (*len > MAX_FILE_BYTES)
		{
			snprintf(why, whylen, THE_FILE " has more than %d bytes", MAX_FILE_BYTES);
			ok = false;
		}
	}
	CloseTransientFile(fd);
	return ok;
}

static const Key *
find_key(const KeyRing *ring, const char *id)
{
	for (int i = 0; i < ring->n; i++)
	{
		if (strcmp(ring->keys[i].id, id) == 0)
			return &ring->keys[i];
	}
	return NULL;
}

static bool
is_key_id(const char *id)
{
	size_t		len = strlen(id);

	return len >= 1 && len <= KEY_ID_MAX &&
		strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == len;
}

/* One line, which is cut up: an id and a key, or nothing but a comment. */
static bool
parse_line(char *line, int number, KeyRing *ring, char *why, size_t whylen)
{
	char	   *rest = line;
	char	   *word[3] = {NULL, NULL, NULL};
	int			nwords = 0;
	uint8		decoded[KEY_LEN + 16];
	void	   *target = decoded;
	int			len;
	Key		   *key;

	while (nwords < 3)
	{
		rest += strspn(rest, BLANKS);
		if (*rest == '\0' || (nwords == 0 && *rest == '#'))
			break;
		word[nwords++] = rest;
		rest += strcspn(rest, BLANKS);
		if (*rest != '\0')
			*rest++ = '\0';
	}
	if (nwords == 0)
		return true;
	if (nwords != 2)
	{
		snprintf(why, whylen, "line %d of " THE_FILE " is not the id of a key and its base64", number);
		return false;
	}
	if (!is_key_id(word[0]))
	{
		snprintf(why, whylen, "line %d of " THE_FILE ": the id of a key has 1 to %d letters,"
				 " digits, dots, hyphens and underscores", number, KEY_ID_MAX);
		return false;
	}
	if (find_key(ring, word[0]) != NULL)
	{
		snprintf(why, whylen, "line %d of " THE_FILE ": this id was given to a key before", number);
		return false;
	}
	if (ring->n == MAX_KEYS)
	{
		snprintf(why, whylen, THE_FILE " has more than %d keys", MAX_KEYS);
		return false;
	}
	len = pg_b64_decode(word[1], (int) strlen(word[1]), target, sizeof(decoded));
	if (len != KEY_LEN)
	{
		explicit_bzero(decoded, sizeof(decoded));
		snprintf(why, whylen, "line %d of " THE_FILE ": the key is not the base64 of %d bytes",
				 number, KEY_LEN);
		return false;
	}
	key = &ring->keys[ring->n++];
	strlcpy(key->id, word[0], sizeof(key->id));
	memcpy(key->bytes, decoded, KEY_LEN);
	explicit_bzero(decoded, sizeof(decoded));
	return true;
}

/* False with the reason when a file is set and its keys cannot be had. */
static bool
read_keys(KeyRing *ring, char *why, size_t whylen)
{
	char		buffer[MAX_FILE_BYTES + 1];
	size_t		len;
	bool		ok;

	ring->n = 0;
	if (oe_secret_key_file == NULL || oe_secret_key_file[0] == '\0')
		return true;

	ok = read_file(buffer, &len, why, whylen);
	if (ok && memchr(buffer, '\0', len) != NULL)
	{
		snprintf(why, whylen, THE_FILE " is not a text file");
		ok = false;
	}
	if (ok)
	{
		char	   *line = buffer;

		buffer[len] = '\0';
		for (int number = 1; ok && line != NULL; number++)
		{
			char	   *end = strchr(line, '\n');

			if (end != NULL)
				*end++ = '\0';
			ok = parse_line(line, number, ring, why, whylen);
			line = end;
		}
		if (ok && ring->n == 0)
		{
			snprintf(why, whylen, THE_FILE " has no key");
			ok = false;
		}
	}
	explicit_bzero(buffer, sizeof(buffer));
	return ok;
}

/* ---------- sealing ---------- */

/* What is authenticated beside the secret, in *aad of the current context. */
static void
describe(StringInfo aad, int32 endpoint_id, const char *kind)
{
	initStringInfo(aad);
	appendStringInfo(aad, "order_engine/%d/%d/%s", SEAL_VERSION, endpoint_id, kind);
}

/* AES-256-GCM; out has len bytes.  Makes the tag, or checks it. */
static bool
run_cipher(bool encrypt, const Key *key, const uint8 *nonce, const StringInfoData *aad,
		   const uint8 *in, int len, uint8 *out, uint8 *tag)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int			done = 0;
	int			rest = 0;
	bool		ok;

	ok = ctx != NULL &&
		EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key->bytes, nonce, encrypt ? 1 : 0) == 1 &&
		EVP_CipherUpdate(ctx, NULL, &done, (const uint8 *) aad->data, aad->len) == 1 &&
		EVP_CipherUpdate(ctx, out, &done, in, len) == 1 &&
		(encrypt || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) == 1) &&
		EVP_CipherFinal_ex(ctx, out + done, &rest) == 1 &&
		(!encrypt || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_LEN, tag) == 1) &&
		done + rest == len;
	EVP_CIPHER_CTX_free(ctx);

	/* the next to ask is the server, about its connection */
	if (!ok)
		ERR_clear_error();
	return ok;
}

/* NULL when it cannot be done. */
static bytea *
seal(const Key *key, int32 endpoint_id, const char *kind, const uint8 *plain, int len)
{
	bytea	   *sealed = palloc(VARHDRSZ + SEAL_OVERHEAD + len);
	uint8	   *version = (uint8 *) VARDATA(sealed);
	uint8	   *nonce = version + 1;
	uint8	   *body = nonce + NONCE_LEN;
	StringInfoData aad;

	SET_VARSIZE(sealed, VARHDRSZ + SEAL_OVERHEAD + len);
	*version = SEAL_VERSION;
	describe(&aad, endpoint_id, kind);
	if (!pg_strong_random(nonce, NONCE_LEN) ||
		!run_cipher(true, key, nonce, &aad, plain, len, body, body + len))
		return NULL;
	return sealed;
}

static bool
unseal(const KeyRing *ring, int32 endpoint_id, const char *kind, const char *key_id,
	   const bytea *sealed, uint8 **plain, size_t *len, char *why, size_t whylen)
{
	const uint8 *data = (const uint8 *) VARDATA_ANY(sealed);
	size_t		size = VARSIZE_ANY_EXHDR(sealed);
	const Key  *key;
	StringInfoData aad;
	uint8		tag[TAG_LEN];

	if (key_id == NULL)
	{
		*plain = palloc(size);
		*len = size;
		memcpy(*plain, data, size);
		return true;
	}
	key = find_key(ring, key_id);
	if (key == NULL)
	{
		if (ring->n == 0)
			snprintf(why, whylen, "it is encrypted and order_engine.secret_key_file is not set");
		else
			snprintf(why, whylen, "key \"%s\" is not in " THE_FILE, key_id);
		return false;
	}
	if (size <= SEAL_OVERHEAD || data[0] != SEAL_VERSION)
	{
		snprintf(why, whylen, "it is not an encrypted secret that this version can read");
		return false;
	}
	*len = size - SEAL_OVERHEAD;
	*plain = palloc(*len);
	memcpy(tag, data + size - TAG_LEN, TAG_LEN);
	describe(&aad, endpoint_id, kind);
	if (!run_cipher(false, key, data + 1, &aad, data + 1 + NONCE_LEN, (int) *len, *plain, tag))
	{
		explicit_bzero(*plain, *len);
		pfree(*plain);
		snprintf(why, whylen, "it was not encrypted for this endpoint under key \"%s\"", key_id);
		return false;
	}
	return true;
}

bool
oe_unseal(int32 endpoint_id, const char *kind, const char *key_id, const bytea *sealed,
		  uint8 **plain, size_t *len, char *why, size_t whylen)
{
	KeyRing		ring;
	bool		ok;

	ring.n = 0;
	ok = (key_id == NULL || read_keys(&ring, why, whylen)) &&
		unseal(&ring, endpoint_id, kind, key_id, sealed, plain, len, why, whylen);
	explicit_bzero(&ring, sizeof(ring));
	return ok;
}

/* ---------- SQL ---------- */

pg_noreturn static void
file_error(KeyRing *ring, const char *why)
{
	explicit_bzero(ring, sizeof(*ring));
	ereport(ERROR,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("secrets cannot be encrypted: %s", why),
			 errhint("Each line holds the id of a key and the base64 of %d random bytes; the first is the current key.",
					 KEY_LEN)));
}

pg_noreturn static void
cipher_error(KeyRing *ring)
{
	explicit_bzero(ring, sizeof(*ring));
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("OpenSSL could not encrypt a secret")));
}

/*
 * seal_secret(endpoint_id integer, kind text, plain bytea,
 *			   OUT key_id text, OUT sealed bytea)
 */
Datum
oe_seal_secret(PG_FUNCTION_ARGS)
{
	int32		endpoint_id = PG_GETARG_INT32(0);
	char	   *kind = text_to_cstring(PG_GETARG_TEXT_PP(1));
	bytea	   *plain = PG_GETARG_BYTEA_PP(2);
	bytea	   *sealed = plain;
	TupleDesc	desc;
	KeyRing		ring;
	Datum		values[2];
	bool		nulls[2] = {true, false};
	char		why[MAX_WHY];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	if (!read_keys(&ring, why, sizeof(why)))
		file_error(&ring, why);
	if (ring.n > 0)
	{
		sealed = seal(&ring.keys[0], endpoint_id, kind,
					  (uint8 *) VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
		if (sealed == NULL)
			cipher_error(&ring);
		values[0] = CStringGetTextDatum(ring.keys[0].id);
		nulls[0] = false;
	}
	explicit_bzero(&ring, sizeof(ring));
	values[1] = PointerGetDatum(sealed);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * Seals one row of endpoint_secret anew.  The caller is connected to SPI and
 * has read the ring, which it loses with an error.
 */
static void
reseal(KeyRing *ring, HeapTuple tuple, TupleDesc desc)
{
	static OeQuery update = {
		"UPDATE order_engine.endpoint_secret SET key_id = $1, secret = $2"
		" WHERE endpoint_id = $3 AND kind = $4 AND created_at = $5",
		5, {TEXTOID, BYTEAOID, INT4OID, TEXTOID, TIMESTAMPTZOID}
	};
	bool		isnull;
	int32		endpoint_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
	char	   *kind = SPI_getvalue(tuple, desc, 2);
	Datum		created_at = SPI_getbinval(tuple, desc, 3, &isnull);
	char	   *key_id = SPI_getvalue(tuple, desc, 4);
	bytea	   *stored = DatumGetByteaPP(SPI_getbinval(tuple, desc, 5, &isnull));
	char	   *name = SPI_getvalue(tuple, desc, 6);
	uint8	   *plain;
	size_t		len;
	bytea	   *sealed;
	Datum		values[5];
	char		why[MAX_WHY];

	if (!unseal(ring, endpoint_id, kind, key_id, stored, &plain, &len, why, sizeof(why)))
	{
		explicit_bzero(ring, sizeof(*ring));
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a secret of endpoint \"%s\" cannot be read: %s", name, why),
				 errhint("Put the key back into the file, or make another secret with order_engine.rotate_secret().")));
	}
	sealed = seal(&ring->keys[0], endpoint_id, kind, plain, (int) len);
	explicit_bzero(plain, len);
	if (sealed == NULL)
		cipher_error(ring);
	values[0] = CStringGetTextDatum(ring->keys[0].id);
	values[1] = PointerGetDatum(sealed);
	values[2] = Int32GetDatum(endpoint_id);
	values[3] = CStringGetTextDatum(kind);
	values[4] = created_at;
	(void) oe_query_run(&update, values, NULL, false, SPI_OK_UPDATE);
}

/* reencrypt_secrets(): how many were not under the current key. */
Datum
oe_reencrypt_secrets(PG_FUNCTION_ARGS)
{
	/* the endpoints first, as those do who change secrets */
	static OeQuery lock = {
		"SELECT 1 FROM order_engine.endpoint ORDER BY endpoint_id FOR NO KEY UPDATE"
	};
	static OeQuery find = {
		"SELECT s.endpoint_id, s.kind, s.created_at, s.key_id, s.secret, e.name"
		" FROM order_engine.endpoint_secret AS s JOIN order_engine.endpoint AS e USING (endpoint_id)"
		" WHERE s.key_id IS DISTINCT FROM $1",
		1, {TEXTOID}
	};
	KeyRing		ring;
	Datum		current;
	SPITupleTable *table;
	uint64		nrows;
	char		why[MAX_WHY];

	oe_spi_connect();
	(void) oe_query_run(&lock, NULL, NULL, false, SPI_OK_SELECT);

	if (!read_keys(&ring, why, sizeof(why)))
		file_error(&ring, why);
	current = ring.n > 0 ? CStringGetTextDatum(ring.keys[0].id) : (Datum) 0;
	nrows = oe_query_run(&find, &current, ring.n > 0 ? NULL : "n", false, SPI_OK_SELECT);
	table = SPI_tuptable;
	if (nrows > 0 && ring.n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there are encrypted secrets and order_engine.secret_key_file is not set")));
	for (uint64 i = 0; i < nrows; i++)
		reseal(&ring, table->vals[i], table->tupdesc);
	explicit_bzero(&ring, sizeof(ring));
	oe_spi_finish();
	PG_RETURN_INT64((int64) nrows);
}
