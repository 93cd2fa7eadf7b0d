/* Idempotency keys: a row exists exactly when the work of its call committed. */

CREATE TABLE order_engine.idempotency_key (
	created_at		timestamptz	NOT NULL,
	request_hash	uuid		NOT NULL,
	scope			text		NOT NULL,
	key				text		NOT NULL,
	operation		text		NOT NULL,
	result			text		NOT NULL,
	PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_key_created_idx ON order_engine.idempotency_key (created_at);
COMMENT ON TABLE order_engine.idempotency_key IS
'One row for each call that was made with a key and committed. A repeated call gets the stored result.';
COMMENT ON COLUMN order_engine.idempotency_key.created_at IS 'When the first call was made.';
COMMENT ON COLUMN order_engine.idempotency_key.request_hash IS '128-bit hash of the arguments as jsonb, so that 1.0 equals 1.00; the arguments are not kept.';
COMMENT ON COLUMN order_engine.idempotency_key.scope IS 'The tenant, or the session user: callers do not see each other''s keys.';
COMMENT ON COLUMN order_engine.idempotency_key.key IS 'The key that the caller chose.';
COMMENT ON COLUMN order_engine.idempotency_key.operation IS 'The verb that was called.';
COMMENT ON COLUMN order_engine.idempotency_key.result IS 'The result of the verb, as text.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.idempotency_key', '');
