/* Functions that manage endpoints. */

CREATE FUNCTION order_engine.check_url(url text) RETURNS void
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'oe_check_url';
COMMENT ON FUNCTION order_engine.check_url(text) IS
'Internal: raises 22023 unless the worker could send to the URL.';

CREATE FUNCTION order_engine.check_event_types(event_types text[]) RETURNS void
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'oe_check_event_types';
COMMENT ON FUNCTION order_engine.check_event_types(text[]) IS
'Internal: raises 22023 unless every pattern is one of event types.';

CREATE FUNCTION order_engine.check_headers(headers jsonb) RETURNS void
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'oe_check_headers';
COMMENT ON FUNCTION order_engine.check_headers(jsonb) IS
'Internal: raises 22023 unless every header may be set by a user.';

CREATE FUNCTION order_engine.check_retry(retry_schedule interval[], max_age interval) RETURNS void
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'oe_check_retry';
COMMENT ON FUNCTION order_engine.check_retry(interval[], interval) IS
'Internal: raises 22023 unless the schedule can be followed.';

CREATE FUNCTION order_engine.make_secret(secret text) RETURNS bytea
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'oe_make_secret';
COMMENT ON FUNCTION order_engine.make_secret(text) IS
'Internal: the bytes of a secret whsec_..., or of a new random one for null.';

CREATE FUNCTION order_engine.show_secret(secret bytea) RETURNS text
LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'oe_show_secret';
COMMENT ON FUNCTION order_engine.show_secret(bytea) IS
'Internal: a secret as whsec_ and base64.';

CREATE FUNCTION order_engine.endpoint_gets(name text, event_types text[], aggregatetype text, aggregateid text, type text)
RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'oe_endpoint_gets';
COMMENT ON FUNCTION order_engine.endpoint_gets(text, text[], text, text, text) IS
'Internal: whether an event is meant for the endpoint of that name with these event_types.';

CREATE FUNCTION order_engine.append_event(aggregatetype text, aggregateid text, type text, payload jsonb) RETURNS uuid
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_append_event';
COMMENT ON FUNCTION order_engine.append_event(text, text, text, jsonb) IS
'Internal: appends an event to the outbox as emit() does, also with an aggregate type that belongs to order_engine; returns its id.';

CREATE FUNCTION order_engine.endpoint_changed() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'oe_endpoint_changed';
COMMENT ON FUNCTION order_engine.endpoint_changed() IS
'Internal: trigger that has the workers read the endpoints again.';

CREATE FUNCTION order_engine.wake_workers() RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_wake_workers';
COMMENT ON FUNCTION order_engine.wake_workers() IS
'Internal: has the workers read the endpoints again, once this transaction has committed.';

CREATE TRIGGER endpoint_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON order_engine.endpoint FOR EACH STATEMENT EXECUTE FUNCTION order_engine.endpoint_changed();
CREATE TRIGGER endpoint_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON order_engine.endpoint_secret FOR EACH STATEMENT EXECUTE FUNCTION order_engine.endpoint_changed();

CREATE FUNCTION order_engine.check_policy(policy jsonb) RETURNS void
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	setting record;
	duration interval;
BEGIN
	IF jsonb_typeof(policy) <> 'object' THEN
		RAISE EXCEPTION 'policy must be a JSON object' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	FOR setting IN
		SELECT given.key, given.value, known.kind, known.least, known.most,
			jsonb_typeof(given.value) = CASE known.kind WHEN 'duration' THEN 'string' ELSE 'number' END AS has_type
		FROM jsonb_each(policy) AS given
		LEFT JOIN (VALUES
			('breaker_failures', 'integer', '1', '10000'),
			('breaker_ratio', 'number', '0.01', '1'),
			('breaker_min_attempts', 'integer', '1', '10000'),
			('breaker_window', 'duration', '100 ms', '1 h'),
			('breaker_open', 'duration', '10 ms', '24 h'),
			('breaker_open_max', 'duration', '10 ms', '24 h'),
			('breaker_successes', 'integer', '1', '100'),
			('disable_after', 'duration', '0', '365 days'),
			('disable_attempts', 'integer', '1', '1000000'),
			('disable_spread', 'duration', '0', '365 days'),
			('pause', 'duration', '1 s', '24 h')
		) AS known (key, kind, least, most) ON known.key = given.key
		ORDER BY given.key
	LOOP
		IF setting.kind IS NULL THEN
			RAISE EXCEPTION 'policy has no setting "%"', setting.key USING
				ERRCODE = 'invalid_parameter_value',
				HINT = 'Its settings are breaker_failures, breaker_ratio, breaker_min_attempts, breaker_window, breaker_open, breaker_open_max, breaker_successes, disable_after, disable_attempts, disable_spread and pause.';
		END IF;
		IF setting.has_type AND setting.kind = 'duration' THEN
			BEGIN
				duration := setting.value ->> 0;
				-- months compare as 30 days, but the worker cannot count them
				CONTINUE WHEN extract(month FROM duration) = 0 AND extract(year FROM duration) = 0
					AND duration BETWEEN setting.least::interval AND setting.most::interval;
			EXCEPTION WHEN data_exception THEN
				NULL;
			END;
		ELSIF setting.has_type THEN
			CONTINUE WHEN setting.value::numeric BETWEEN setting.least::numeric AND setting.most::numeric
				AND (setting.kind = 'number' OR setting.value::numeric = trunc(setting.value::numeric));
		END IF;
		RAISE EXCEPTION 'invalid policy setting "%"', setting.key USING
			ERRCODE = 'invalid_parameter_value',
			DETAIL = CASE setting.kind
				WHEN 'integer' THEN format('It is an integer from %s to %s.', setting.least, setting.most)
				WHEN 'number' THEN format('It is a number from %s to %s.', setting.least, setting.most)
				ELSE format('It is a duration as a string, such as "90 s", from %s to %s, without months.', setting.least, setting.most)
				END;
	END LOOP;
	IF coalesce(policy ->> 'breaker_open', '30 s')::interval > coalesce(policy ->> 'breaker_open_max', '1 h')::interval THEN
		RAISE EXCEPTION 'invalid policy setting "breaker_open_max"' USING
			ERRCODE = 'invalid_parameter_value',
			DETAIL = 'It must not be shorter than breaker_open.';
	END IF;
END
$$;
COMMENT ON FUNCTION order_engine.check_policy(jsonb) IS
'Internal: raises 22023 unless the policy has known settings only, each with a value of its type and range.';

CREATE FUNCTION order_engine.check_client_certificate(certificate text, key text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF octet_length(certificate) > 65536
		OR certificate !~ '^[[:space:]]*(-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----[[:space:]]*)+$' THEN
		RAISE EXCEPTION 'client_certificate must be certificates in PEM form' USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'Give the certificate itself first, then those that lead to its authority, at most 64 KiB in all.';
	END IF;
	-- nobody could enter a passphrase
	IF octet_length(key) > 65536 OR key ~ 'ENCRYPTED'
		OR key !~ '^[[:space:]]*-----BEGIN (RSA |EC )?PRIVATE KEY-----[^-]+-----END (RSA |EC )?PRIVATE KEY-----[[:space:]]*$'
		OR substring(key FROM 'BEGIN ([A-Z ]+)') <> substring(key FROM 'END ([A-Z ]+)') THEN
		RAISE EXCEPTION 'client_key must be a private key in PEM form, not encrypted' USING
			ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
COMMENT ON FUNCTION order_engine.check_client_certificate(text, text) IS
'Internal: raises 22023 for one that does not look like PEM; null is not looked at. That they belong together shows when the worker uses them.';

-- The settings as a row of the table, so that both functions that make one check the same.
CREATE FUNCTION order_engine.check_endpoint(settings order_engine.endpoint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF settings.name !~ '^[A-Za-z0-9_.-]{1,63}$' THEN
		RAISE EXCEPTION 'invalid endpoint name' USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'A name has 1 to 63 letters, digits, dots, hyphens and underscores.';
	END IF;
	IF settings.format NOT IN ('webhook', 'cloudevents', 'cloudevents_binary', 'cloudevents_batch') THEN
		RAISE EXCEPTION 'invalid format "%"', settings.format USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'It is "webhook", "cloudevents", "cloudevents_binary" or "cloudevents_batch".';
	END IF;
	IF settings.guarantee NOT IN ('at_least_once', 'best_effort') THEN
		RAISE EXCEPTION 'invalid guarantee "%"', settings.guarantee USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'It is "at_least_once" or "best_effort".';
	END IF;
	IF settings.ordering NOT IN ('aggregate', 'none') THEN
		RAISE EXCEPTION 'invalid ordering "%"', settings.ordering USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'It is "aggregate" or "none".';
	END IF;
	IF settings.after_dead NOT IN ('continue', 'block') THEN
		RAISE EXCEPTION 'invalid after_dead "%"', settings.after_dead USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'It is "continue" or "block".';
	END IF;
	IF settings.guarantee = 'best_effort' AND settings.ordering <> 'none' THEN
		RAISE EXCEPTION 'an endpoint with guarantee "best_effort" has ordering "none"' USING
			ERRCODE = 'invalid_parameter_value';
	END IF;
	IF settings.after_dead = 'block' AND (settings.guarantee <> 'at_least_once' OR settings.ordering <> 'aggregate') THEN
		RAISE EXCEPTION 'after_dead "block" needs guarantee "at_least_once" and ordering "aggregate"' USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'Without an order there is nothing that could wait behind a dead letter.';
	END IF;
	IF settings.max_in_flight NOT BETWEEN 1 AND 256 THEN
		RAISE EXCEPTION 'max_in_flight must be between 1 and 256' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF settings.rate NOT BETWEEN 0.001 AND 1000000 THEN
		RAISE EXCEPTION 'rate must be between 0.001 and 1000000 requests a second' USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'Give 0 for no limit.';
	END IF;
	IF settings.burst NOT BETWEEN 1 AND 1000000 THEN
		RAISE EXCEPTION 'burst must be between 1 and 1000000' USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'Give 0 for the default, what a second of the rate allows.';
	END IF;
	IF settings.burst IS NOT NULL AND settings.rate IS NULL THEN
		RAISE EXCEPTION 'burst needs a rate' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF settings.max_batch NOT BETWEEN 1 AND 256 THEN
		RAISE EXCEPTION 'max_batch must be between 1 and 256' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF settings.max_batch > 1 AND settings.format NOT IN ('webhook', 'cloudevents_batch') THEN
		RAISE EXCEPTION 'format "%" holds one event a request', settings.format USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'Give max_batch 1, or format "webhook" or "cloudevents_batch".';
	END IF;
	-- in seconds, as the worker takes them: a month less 30 days compares as nothing
	IF extract(epoch FROM settings.max_batch_delay) NOT BETWEEN 0 AND 60 THEN
		RAISE EXCEPTION 'max_batch_delay must be between 0 and 1 minute' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF extract(epoch FROM settings.connect_timeout) NOT BETWEEN 0.001 AND 60 THEN
		RAISE EXCEPTION 'connect_timeout must be between 1 ms and 1 minute' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF extract(epoch FROM settings.timeout) NOT BETWEEN 0.001 AND 300 THEN
		RAISE EXCEPTION 'timeout must be between 1 ms and 5 minutes' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM order_engine.check_url(settings.url);
	PERFORM order_engine.check_event_types(settings.event_types);
	PERFORM order_engine.check_headers(settings.headers);
	PERFORM order_engine.check_retry(settings.retry_schedule, settings.max_age);
	PERFORM order_engine.check_policy(settings.policy);
END
$$;
COMMENT ON FUNCTION order_engine.check_endpoint(order_engine.endpoint) IS
'Internal: raises 22023 unless the settings of an endpoint are within their ranges and go together.';

CREATE FUNCTION order_engine.endpoint_id(name text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id integer;
BEGIN
	IF endpoint_id.name IS NULL THEN
		RAISE EXCEPTION 'argument "name" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT e.endpoint_id INTO found_id FROM order_engine.endpoint e WHERE e.name = endpoint_id.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'endpoint "%" does not exist', endpoint_id.name USING
			ERRCODE = 'OE005',
			DETAIL = jsonb_build_object('entity', 'endpoint', 'id', endpoint_id.name)::text;
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION order_engine.endpoint_id(text) IS
'Internal: the id of an endpoint by its name; OE005 when there is none.';

CREATE FUNCTION order_engine.hold_endpoint(name text) RETURNS order_engine.endpoint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_row order_engine.endpoint;
BEGIN
	-- the lock of a foreign key: it stops only who would drop the endpoint, and never a worker
	SELECT * INTO found_row FROM order_engine.endpoint e
	WHERE e.endpoint_id = order_engine.endpoint_id(hold_endpoint.name) FOR KEY SHARE;
	IF NOT FOUND THEN
		PERFORM order_engine.endpoint_id(hold_endpoint.name);
	END IF;
	RETURN found_row;
END
$$;
COMMENT ON FUNCTION order_engine.hold_endpoint(text) IS
'Internal: an endpoint by its name, which stays until the end of the transaction; OE005 when there is none.';

CREATE FUNCTION order_engine.committed_snapshot() RETURNS pg_snapshot
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('%s:%s:%s', least(pg_snapshot_xmin(s), own), pg_snapshot_xmax(s),
				  (SELECT string_agg(x::text, ',' ORDER BY x)
				   FROM (SELECT pg_snapshot_xip(s)
						 UNION SELECT own WHERE own < pg_snapshot_xmax(s)) AS running (x)))::pg_snapshot
	FROM pg_current_snapshot() AS s, pg_current_xact_id() AS own
$$;
COMMENT ON FUNCTION order_engine.committed_snapshot() IS
'Internal: pg_current_snapshot(), in which this transaction counts as running: its events are still to come.';

CREATE FUNCTION order_engine.create_endpoint(
	name text,
	url text,
	event_types text[] DEFAULT '{*}',
	format text DEFAULT 'webhook',
	ordering text DEFAULT 'aggregate',
	guarantee text DEFAULT 'at_least_once',
	headers jsonb DEFAULT NULL,
	max_in_flight integer DEFAULT 16,
	rate numeric DEFAULT NULL,
	burst integer DEFAULT NULL,
	max_batch integer DEFAULT 1,
	max_batch_delay interval DEFAULT '0',
	connect_timeout interval DEFAULT '5 seconds',
	timeout interval DEFAULT '15 seconds',
	retry_schedule interval[] DEFAULT '{0,5s,5min,30min,2h,5h,10h,14h,20h,24h}',
	max_age interval DEFAULT '72 hours',
	after_dead text DEFAULT 'continue',
	policy jsonb DEFAULT '{}',
	client_certificate text DEFAULT NULL,
	client_key text DEFAULT NULL,
	start_at text DEFAULT 'now',
	secret text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan	-- a plan that is logged shows no secret
AS $$
DECLARE
	e order_engine.endpoint;
	key bytea;
	missing text;
BEGIN
	SELECT argument INTO missing
	FROM (VALUES ('name', name IS NULL), ('url', url IS NULL), ('event_types', event_types IS NULL),
		('format', format IS NULL), ('ordering', ordering IS NULL), ('guarantee', guarantee IS NULL),
		('max_in_flight', max_in_flight IS NULL), ('max_batch', max_batch IS NULL),
		('max_batch_delay', max_batch_delay IS NULL), ('connect_timeout', connect_timeout IS NULL),
		('timeout', timeout IS NULL), ('retry_schedule', retry_schedule IS NULL), ('max_age', max_age IS NULL),
		('after_dead', after_dead IS NULL), ('policy', policy IS NULL),
		('start_at', start_at IS NULL)) AS given (argument, is_null)
	WHERE is_null LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'argument "%" must not be null', missing USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF start_at NOT IN ('now', 'earliest') THEN
		RAISE EXCEPTION 'invalid start_at "%"', start_at USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'It is "now" or "earliest".';
	END IF;
	e.name := name;
	e.owner := order_engine.database_identity();
	e.url := url;
	e.event_types := event_types;
	e.format := format;
	e.guarantee := guarantee;
	e.ordering := CASE WHEN guarantee = 'best_effort' AND ordering = 'aggregate' THEN 'none' ELSE ordering END;
	e.headers := headers;
	e.max_in_flight := max_in_flight;
	e.rate := nullif(rate, 0);
	e.burst := nullif(burst, 0);
	e.max_batch := max_batch;
	e.max_batch_delay := max_batch_delay;
	e.connect_timeout := connect_timeout;
	e.timeout := timeout;
	e.retry_schedule := retry_schedule;
	e.max_age := max_age;
	e.after_dead := after_dead;
	e.policy := policy;
	e.client_certificate := nullif(client_certificate, '');
	PERFORM order_engine.check_endpoint(e);
	IF (e.client_certificate IS NULL) <> (nullif(client_key, '') IS NULL) THEN
		RAISE EXCEPTION 'client_certificate and client_key go together' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM order_engine.check_client_certificate(e.client_certificate, nullif(client_key, ''));
	key := order_engine.make_secret(secret);

	IF order_engine.is_copy() AND NOT pg_is_in_recovery() THEN
		RAISE EXCEPTION 'this database is a copy of another one' USING
			ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'It has endpoints that belong to the original.',
			HINT = 'Call adopt_database() if it shall send to them, or drop them.';
	END IF;
	-- transaction ids of another server would come up again here
	IF order_engine.has_future_events() THEN
		RAISE EXCEPTION 'the outbox holds events of a server with higher transaction ids' USING
			ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'The database was restored from a dump of another server.',
			HINT = 'Call adopt_database() first.';
	END IF;
	e.start_snapshot := CASE start_at WHEN 'earliest' THEN '3:3:' ELSE order_engine.committed_snapshot() END;

	INSERT INTO order_engine.endpoint AS t (name, owner, url, event_types, format, ordering, guarantee, headers,
		max_in_flight, rate, burst, max_batch, max_batch_delay, connect_timeout, timeout, retry_schedule, max_age,
		after_dead, policy, client_certificate, start_snapshot)
	VALUES (e.name, e.owner, e.url, e.event_types, e.format, e.ordering, e.guarantee, e.headers,
		e.max_in_flight, e.rate, e.burst, e.max_batch, e.max_batch_delay, e.connect_timeout, e.timeout, e.retry_schedule, e.max_age,
		e.after_dead, e.policy, e.client_certificate, e.start_snapshot)
	ON CONFLICT ON CONSTRAINT endpoint_name_key DO NOTHING
	RETURNING t.endpoint_id INTO e.endpoint_id;
	IF e.endpoint_id IS NULL THEN
		RAISE EXCEPTION 'endpoint "%" already exists', name USING ERRCODE = 'duplicate_object';
	END IF;
	PERFORM order_engine.add_secret(e.endpoint_id, 'signing', key);
	IF e.client_certificate IS NOT NULL THEN
		PERFORM order_engine.add_secret(e.endpoint_id, 'client_key', convert_to(client_key, 'UTF8'));
	END IF;
	RETURN order_engine.show_secret(key);
END
$$;
COMMENT ON FUNCTION order_engine.create_endpoint(text, text, text[], text, text, text, jsonb, integer, numeric, integer, integer, interval, interval, interval, interval[], interval, text, jsonb, text, text, text, text) IS
'Makes an endpoint and returns its signing secret, which is shown this once. guarantee best_effort implies ordering none. max_batch above 1 is for the formats webhook and cloudevents_batch. rate is in requests a second; rate 0 means no limit, burst 0 its default. policy: breaker_failures, breaker_ratio, breaker_min_attempts, breaker_window, breaker_open, breaker_open_max, breaker_successes, disable_after (''0'': never), disable_attempts, disable_spread, pause; durations are strings. client_certificate and client_key (PEM, both or none): what the worker shows to the endpoint; the key is kept like a secret. start_at: now (events of transactions that commit from now on) or earliest (all that the outbox still has). It takes no idempotency key, because its result is not to be stored: a repetition fails with 42710, and whoever lost the answer calls rotate_secret(), or gives a secret of his own. Errors: 42710 for a name that exists, 22023 and 22004 for a setting that cannot be used, 55000 in a copy of another database, and when the outbox came with a dump of a server with higher transaction ids: see adopt_database().';

CREATE FUNCTION order_engine.alter_endpoint(
	name text,
	url text DEFAULT NULL,
	event_types text[] DEFAULT NULL,
	format text DEFAULT NULL,
	ordering text DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	max_in_flight integer DEFAULT NULL,
	rate numeric DEFAULT NULL,
	burst integer DEFAULT NULL,
	max_batch integer DEFAULT NULL,
	max_batch_delay interval DEFAULT NULL,
	connect_timeout interval DEFAULT NULL,
	timeout interval DEFAULT NULL,
	retry_schedule interval[] DEFAULT NULL,
	max_age interval DEFAULT NULL,
	after_dead text DEFAULT NULL,
	policy jsonb DEFAULT NULL,
	client_certificate text DEFAULT NULL,
	client_key text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan	-- a plan that is logged shows no secret
AS $$
DECLARE
	id integer := order_engine.endpoint_id(name);
	e order_engine.endpoint;
	has_key boolean;
BEGIN
	SELECT * INTO e FROM order_engine.endpoint WHERE endpoint_id = id FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM order_engine.endpoint_id(name);
	END IF;
	e.url := coalesce(url, e.url);
	e.event_types := coalesce(event_types, e.event_types);
	e.format := coalesce(format, e.format);
	e.ordering := coalesce(ordering, e.ordering);
	e.headers := coalesce(headers, e.headers);
	e.max_in_flight := coalesce(max_in_flight, e.max_in_flight);
	e.rate := nullif(coalesce(rate, e.rate), 0);
	e.burst := nullif(CASE WHEN rate = 0 THEN burst ELSE coalesce(burst, e.burst) END, 0);
	e.max_batch := coalesce(max_batch, e.max_batch);
	e.max_batch_delay := coalesce(max_batch_delay, e.max_batch_delay);
	e.connect_timeout := coalesce(connect_timeout, e.connect_timeout);
	e.timeout := coalesce(timeout, e.timeout);
	e.retry_schedule := coalesce(retry_schedule, e.retry_schedule);
	e.max_age := coalesce(max_age, e.max_age);
	e.after_dead := coalesce(after_dead, e.after_dead);
	e.policy := coalesce(policy, e.policy);
	e.client_certificate := nullif(coalesce(client_certificate, e.client_certificate), '');
	PERFORM order_engine.check_endpoint(e);

	-- asked only of those who change it: after a restore there is a certificate without its key
	IF client_certificate IS NOT NULL OR client_key IS NOT NULL THEN
		has_key := CASE
			WHEN client_key IS NOT NULL THEN client_key <> ''
			WHEN client_certificate = '' THEN false
			ELSE EXISTS (SELECT FROM order_engine.endpoint_secret s WHERE s.endpoint_id = id AND s.kind = 'client_key') END;
		IF (e.client_certificate IS NOT NULL) <> has_key THEN
			RAISE EXCEPTION 'client_certificate and client_key go together' USING
				ERRCODE = 'invalid_parameter_value',
				HINT = 'Give both; an empty client_certificate removes both.';
		END IF;
		PERFORM order_engine.check_client_certificate(e.client_certificate, nullif(client_key, ''));
		IF client_key IS NOT NULL OR NOT has_key THEN
			DELETE FROM order_engine.endpoint_secret s WHERE s.endpoint_id = id AND s.kind = 'client_key';
		END IF;
		IF client_key <> '' THEN
			PERFORM order_engine.add_secret(id, 'client_key', convert_to(client_key, 'UTF8'));
		END IF;
	END IF;

	UPDATE order_engine.endpoint AS t
	SET url = e.url, event_types = e.event_types, format = e.format, ordering = e.ordering, headers = e.headers,
		max_in_flight = e.max_in_flight, rate = e.rate, burst = e.burst,
		max_batch = e.max_batch, max_batch_delay = e.max_batch_delay,
		connect_timeout = e.connect_timeout, timeout = e.timeout,
		retry_schedule = e.retry_schedule, max_age = e.max_age, after_dead = e.after_dead,
		policy = e.policy, client_certificate = e.client_certificate, updated_at = clock_timestamp()
	WHERE t.endpoint_id = id;
	RETURN e.name;
END
$$;
COMMENT ON FUNCTION order_engine.alter_endpoint(text, text, text[], text, text, jsonb, integer, numeric, integer, integer, interval, interval, interval, interval[], interval, text, jsonb, text, text) IS
'Changes the settings that are given; a null leaves one as it is. headers and policy are replaced as a whole, {} empties them; rate 0 lifts the limit and forgets the burst, burst 0 sets its default; an empty client_certificate removes it and its key. The guarantee cannot be changed, because events that wait were promised the one it has: make another endpoint for that. Requests under way end as they began. Returns the name. A repetition changes nothing more, so it needs no key. Errors: OE005 for an unknown name, 22023 for a setting that cannot be used.';

CREATE FUNCTION order_engine.pause_endpoint(name text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id integer := order_engine.endpoint_id(name);
BEGIN
	UPDATE order_engine.endpoint
	SET status = 'paused', status_since = clock_timestamp(), status_reason = NULL, updated_at = clock_timestamp()
	WHERE endpoint_id = id AND status <> 'paused';
	RETURN pause_endpoint.name;
END
$$;
COMMENT ON FUNCTION order_engine.pause_endpoint(text) IS
'Stops sending to an endpoint; its events wait in the outbox. Requests under way are finished. Returns the name. A repetition does nothing. Error: OE005.';

CREATE FUNCTION order_engine.resume_endpoint(name text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id integer := order_engine.endpoint_id(name);
BEGIN
	UPDATE order_engine.endpoint
	SET status = 'active', status_since = clock_timestamp(), status_reason = NULL, updated_at = clock_timestamp()
	WHERE endpoint_id = id;
	RETURN resume_endpoint.name;
END
$$;
COMMENT ON FUNCTION order_engine.resume_endpoint(text) IS
'Sends to an endpoint again, from where it stopped and at once, be it paused, disabled, or left alone for a while because it failed or asked for that: what was before is forgotten. Returns the name. A repetition does so again, which does no harm. Error: OE005.';

CREATE FUNCTION order_engine.drop_endpoint(name text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	dropped integer := order_engine.endpoint_id(name);
	was_dump boolean := order_engine.is_dump();
BEGIN
	IF was_dump THEN
		-- of two that are dropped at once one must see that it is the last
		LOCK TABLE order_engine.endpoint IN SHARE ROW EXCLUSIVE MODE;
	END IF;
	-- the worker removes what it writes for the endpoint from now on
	DELETE FROM order_engine.endpoint WHERE endpoint_id = dropped;
	DELETE FROM order_engine.delivery_retry WHERE endpoint_id = dropped;
	DELETE FROM order_engine.delivery_crash WHERE endpoint_id = dropped;
	DELETE FROM order_engine.delivery_dead WHERE endpoint_id = dropped;
	DELETE FROM order_engine.delivery_gap WHERE endpoint_id = dropped;
	IF was_dump AND NOT order_engine.is_dump() THEN
		PERFORM order_engine.leave_copy();
	END IF;
	RETURN drop_endpoint.name;
END
$$;
COMMENT ON FUNCTION order_engine.drop_endpoint(text) IS
'Removes an endpoint with its secrets, replays, retries, dead letters and gaps. Returns the name. Errors: OE005, also for a repetition; with the last endpoint that came with a dump those of adopt_database().';

CREATE FUNCTION order_engine.rotate_secret(name text, overlap interval DEFAULT '24 hours') RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan	-- a plan that is logged shows no secret
AS $$
DECLARE
	id integer := order_engine.endpoint_id(name);
	key bytea := order_engine.make_secret(NULL);
BEGIN
	IF overlap IS NULL OR overlap < interval '0' THEN
		RAISE EXCEPTION 'overlap must not be negative' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM 1 FROM order_engine.endpoint WHERE endpoint_id = id FOR NO KEY UPDATE;
	DELETE FROM order_engine.endpoint_secret
	WHERE endpoint_id = id AND kind = 'signing' AND expires_at <= clock_timestamp();
	IF (SELECT count(*) FROM order_engine.endpoint_secret WHERE endpoint_id = id AND kind = 'signing') >= 4 THEN
		RAISE EXCEPTION 'endpoint "%" has four secrets that are still valid', name USING
			ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Wait until an older one has expired.';
	END IF;
	UPDATE order_engine.endpoint_secret SET expires_at = clock_timestamp() + overlap
	WHERE endpoint_id = id AND kind = 'signing' AND expires_at IS NULL;
	PERFORM order_engine.add_secret(id, 'signing', key);
	RETURN order_engine.show_secret(key);
END
$$;
COMMENT ON FUNCTION order_engine.rotate_secret(text, interval) IS
'Makes a new signing secret and returns it, this once. For the time of the overlap requests are signed with the old and the new one. It takes no idempotency key: the result would have to be stored, and a secret is kept in one place only. A repetition makes another secret; those before stay valid for their overlap, so nothing is lost by it. Errors: OE005, 22023, 55000 with four valid secrets.';

CREATE FUNCTION order_engine.send_test_event(name text) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e order_engine.endpoint := order_engine.hold_endpoint(name);
BEGIN
	RETURN order_engine.append_event('endpoint', e.name, 'endpoint.test',
		jsonb_build_object('endpoint', e.name, 'message', 'This is a test. Nothing has happened.'));
END
$$;
COMMENT ON FUNCTION order_engine.send_test_event(text) IS
'Sends an event of type endpoint.test to one endpoint, whatever its event_types, and to no other. Returns its id. It goes the way of all events: behind those that wait, and not while the endpoint is paused. A repetition sends another one. Error: OE005.';

CREATE FUNCTION order_engine.start_worker() RETURNS integer
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_start_worker';
COMMENT ON FUNCTION order_engine.start_worker() IS
'Starts a worker for this database by hand and returns its process id. Not needed where order_engine is preloaded and order_engine.databases names the database. Errors: 55006 when one is running, 53000 without a free background worker.';

CREATE FUNCTION order_engine.wake_launcher() RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_wake_launcher';
COMMENT ON FUNCTION order_engine.wake_launcher() IS
'Internal: has the launcher look for databases to serve when this transaction has committed.';
