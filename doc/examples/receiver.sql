-- Takes webhooks of order_engine in a PostgreSQL of the receiver: whatever has
-- the HTTP request calls webhook.receive() with three headers and the raw body.

CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE SCHEMA webhook;

-- A row for each secret that is valid: two while one is being rotated.
CREATE TABLE webhook.secret (secret text PRIMARY KEY);

CREATE TABLE webhook.event (
	id				text		PRIMARY KEY,	-- makes a duplicate harmless
	type			text		NOT NULL,
	occurred_at		timestamptz	NOT NULL,
	aggregatetype	text,
	aggregateid		text,
	sequence		bigint,
	data			jsonb		NOT NULL,
	received_at		timestamptz	NOT NULL DEFAULT clock_timestamp(),
	received_no		bigint		GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX ON webhook.event (received_no);

-- How many events of the request are new.  0 is a duplicate: answer 2xx all the
-- same.  An error 28000 is a request that nobody we know has signed: answer 401.
CREATE FUNCTION webhook.receive(webhook_id text, webhook_timestamp text, webhook_signature text, body bytea)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
	signed bytea := convert_to(webhook_id || '.' || webhook_timestamp || '.', 'UTF8') || body;
	message jsonb;
	added bigint;
BEGIN
	IF webhook_timestamp !~ '^[0-9]{1,12}$'
		OR abs(extract(epoch FROM clock_timestamp()) - webhook_timestamp::bigint) > 300 THEN
		RAISE EXCEPTION 'too old, or not of our time' USING ERRCODE = 'invalid_authorization_specification';
	END IF;

	-- compared under another hmac, so that the time it takes tells nothing
	PERFORM 1
	FROM webhook.secret s
	CROSS JOIN decode(replace(s.secret, 'whsec_', ''), 'base64') AS key
	CROSS JOIN string_to_table(webhook_signature, ' ') AS given
	WHERE hmac(convert_to(given, 'UTF8'), key, 'sha256')
		= hmac(convert_to('v1,' || encode(hmac(signed, key, 'sha256'), 'base64'), 'UTF8'), key, 'sha256');
	IF NOT FOUND THEN
		RAISE EXCEPTION 'not signed with a secret of ours' USING ERRCODE = 'invalid_authorization_specification';
	END IF;

	message := convert_from(body, 'UTF8')::jsonb;
	INSERT INTO webhook.event (id, type, occurred_at, aggregatetype, aggregateid, sequence, data)
	SELECT e ->> 'id', e ->> 'type', (e ->> 'timestamp')::timestamptz,
		e #>> '{data,aggregatetype}', e #>> '{data,aggregateid}', (e #>> '{data,sequence}')::bigint, e -> 'data'
	FROM jsonb_array_elements(
		CASE WHEN starts_with(webhook_id, 'bat_') THEN message -> 'data'
			 ELSE jsonb_build_array(message || jsonb_build_object('id', webhook_id)) END) WITH ORDINALITY AS list (e, place)
	ORDER BY place
	ON CONFLICT (id) DO NOTHING;
	GET DIAGNOSTICS added = ROW_COUNT;
	RETURN added;
END
$$;
REVOKE ALL ON FUNCTION webhook.receive(text, text, text, bytea) FROM PUBLIC;
