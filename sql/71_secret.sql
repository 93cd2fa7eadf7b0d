/*
 * Secrets at rest; src/seal.c.
 *
 * A secret in a variable of plpgsql is safe from the log as long as no plan has
 * its value: hence generic plans, in every function that has a secret at hand.
 * The language sql will not do, auto_explain logs the parameters of its queries.
 */

CREATE FUNCTION order_engine.seal_secret(
	endpoint_id integer,
	kind text,
	plain bytea,
	OUT key_id text,
	OUT sealed bytea)
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_seal_secret';
COMMENT ON FUNCTION order_engine.seal_secret(integer, text, bytea) IS
'Internal: a secret as endpoint_secret stores it: encrypted under the current key of order_engine.secret_key_file, or in clear, with a null for key_id, when that is not set. Error: F0000 for a file that cannot be used.';

CREATE FUNCTION order_engine.add_secret(endpoint_id integer, kind text, plain bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
	sealed record;
BEGIN
	sealed := order_engine.seal_secret(endpoint_id, kind, plain);
	INSERT INTO order_engine.endpoint_secret (endpoint_id, kind, created_at, key_id, secret)
	VALUES (add_secret.endpoint_id, add_secret.kind, clock_timestamp(), sealed.key_id, sealed.sealed);
END
$$;
COMMENT ON FUNCTION order_engine.add_secret(integer, text, bytea) IS
'Internal: stores a secret of an endpoint as seal_secret() makes it.';

CREATE FUNCTION order_engine.reencrypt_secrets() RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_reencrypt_secrets';
COMMENT ON FUNCTION order_engine.reencrypt_secrets() IS
'Encrypts every secret that is not under the current key of order_engine.secret_key_file with it, also those that were stored in clear, and returns how many those were; after that the older keys may leave the file. Without a file it changes nothing. A repetition finds nothing to do, so it needs no key. Errors: F0000 for a file that cannot be used, 55000 for a secret whose key is not in it; then none is changed.';
