--
-- Secrets without a key file: stored in clear, and nobody but the owner sees them.
-- What a key file changes is in test/t/044_secrets.pl.
--
\set SHOW_CONTEXT never

\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SHOW order_engine.secret_key_file;

-- what goes in comes out
SELECT * FROM order_engine.seal_secret(1, 'signing', '\x0102030405');
SELECT order_engine.create_endpoint('shop', 'https://example.com/hook',
	secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw') AS secret;
SELECT order_engine.rotate_secret('shop') AS second \gset
SELECT kind, key_id IS NULL AS in_clear, expires_at IS NULL AS current,
	order_engine.show_secret(secret) IN ('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', :'second') AS as_shown
FROM order_engine.endpoint_secret ORDER BY created_at;

-- there is nothing to encrypt with, and nothing changes
SELECT order_engine.reencrypt_secrets();
SELECT count(*) FROM order_engine.endpoint_secret WHERE key_id IS NULL;

-- a secret that was encrypted stays as it is
UPDATE order_engine.endpoint_secret SET key_id = 'gone' WHERE expires_at IS NULL;
SELECT attempt('SELECT order_engine.reencrypt_secrets()');
SELECT key_id, count(*) FROM order_engine.endpoint_secret GROUP BY 1 ORDER BY 1;

-- the key of a client certificate is no signing secret: rotation leaves it alone
INSERT INTO order_engine.endpoint_secret (endpoint_id, kind, created_at, key_id, secret)
SELECT e.endpoint_id, 'client_key', now(), s.key_id, s.sealed
FROM order_engine.endpoint e, order_engine.seal_secret(e.endpoint_id, 'client_key', 'a key') s;
SELECT order_engine.rotate_secret('shop', '0') ~ '^whsec_' AS rotated;
SELECT kind, expires_at IS NULL AS current, count(*) FROM order_engine.endpoint_secret GROUP BY 1, 2 ORDER BY 1, 2;

-- the setting is not for sessions, and only superusers see it
SELECT attempt($$SET order_engine.secret_key_file = '/etc/passwd'$$);
CREATE ROLE regress_secret_operator;
SELECT order_engine.grant_access('regress_secret_operator', 'operator');
SET ROLE regress_secret_operator;
SELECT order_engine.create_endpoint('own', 'https://example.com/own') ~ '^whsec_' AS created;
\set VERBOSITY sqlstate
SHOW order_engine.secret_key_file;
SELECT order_engine.reencrypt_secrets();
SELECT * FROM order_engine.seal_secret(1, 'signing', '\x00');
SELECT * FROM order_engine.endpoint_secret;
\set VERBOSITY default
RESET ROLE;

SELECT order_engine.revoke_access('regress_secret_operator');
DROP ROLE regress_secret_operator;
SELECT order_engine.drop_endpoint(name) FROM order_engine.endpoint ORDER BY name;
SELECT count(*) FROM order_engine.endpoint_secret;
