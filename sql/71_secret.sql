/* Secrets at rest; src/seal.c. */

CREATE FUNCTION order_engine.seal_secret(
	endpoint_id integer,
	kind text,
	plain bytea,
	OUT key_id text,
	OUT sealed bytea)
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_seal_secret';
COMMENT ON FUNCTION order_engine.seal_secret(integer, text, bytea) IS
'Internal: a secret as endpoint_secret stores it: encrypted under the current key of order_engine.secret_key_file, or in clear, with a null for key_id, when that is not set. Call it in an assignment and not in a query, whose plan could be logged with the secret in it. Error: F0000 for a file that cannot be used.';

CREATE FUNCTION order_engine.reencrypt_secrets() RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_reencrypt_secrets';
COMMENT ON FUNCTION order_engine.reencrypt_secrets() IS
'Encrypts every secret that is not under the current key of order_engine.secret_key_file with it, also those that were stored in clear, and returns how many those were; after that the older keys may leave the file. Without a file it changes nothing. A repetition finds nothing to do, so it needs no key. Errors: F0000 for a file that cannot be used, 55000 for a secret whose key is not in it; then none is changed.';
