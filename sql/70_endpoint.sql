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

CREATE FUNCTION order_engine.endpoint_changed() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'oe_endpoint_changed';
COMMENT ON FUNCTION order_engine.endpoint_changed() IS
'Internal: trigger that has the worker read the endpoints again.';

CREATE TRIGGER endpoint_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON order_engine.endpoint FOR EACH STATEMENT EXECUTE FUNCTION order_engine.endpoint_changed();
CREATE TRIGGER endpoint_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON order_engine.endpoint_secret FOR EACH STATEMENT EXECUTE FUNCTION order_engine.endpoint_changed();

CREATE FUNCTION order_engine.check_endpoint(
	name text,
	ordering text,
	max_in_flight integer,
	connect_timeout interval,
	timeout interval)
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF name IS NULL OR name !~ '^[A-Za-z0-9_.-]{1,63}$' THEN
		RAISE EXCEPTION 'invalid endpoint name' USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'A name has 1 to 63 letters, digits, dots, hyphens and underscores.';
	END IF;
	IF ordering NOT IN ('aggregate', 'none') THEN
		RAISE EXCEPTION 'invalid ordering "%"', ordering USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'It is "aggregate" or "none".';
	END IF;
	IF max_in_flight NOT BETWEEN 1 AND 256 THEN
		RAISE EXCEPTION 'max_in_flight must be between 1 and 256' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF connect_timeout NOT BETWEEN interval '1 ms' AND interval '1 minute' THEN
		RAISE EXCEPTION 'connect_timeout must be between 1 ms and 1 minute' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF timeout NOT BETWEEN interval '1 ms' AND interval '5 minutes' THEN
		RAISE EXCEPTION 'timeout must be between 1 ms and 5 minutes' USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
COMMENT ON FUNCTION order_engine.check_endpoint(text, text, integer, interval, interval) IS
'Internal: raises 22023 unless the settings of an endpoint are within their ranges.';

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
	connect_timeout interval DEFAULT '5 seconds',
	timeout interval DEFAULT '15 seconds',
	retry_schedule interval[] DEFAULT '{0,5s,5min,30min,2h,5h,10h,14h,20h,24h}',
	max_age interval DEFAULT '72 hours',
	after_dead text DEFAULT 'continue',
	start_at text DEFAULT 'now',
	secret text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan	-- a plan that is logged shows no secret
AS $$
DECLARE
	new_id integer;
	key bytea;
	sealed record;
	start_snapshot pg_snapshot;
	own xid8;
	missing text;
BEGIN
	SELECT argument INTO missing
	FROM (VALUES ('name', name IS NULL), ('url', url IS NULL), ('event_types', event_types IS NULL),
		('format', format IS NULL), ('ordering', ordering IS NULL), ('guarantee', guarantee IS NULL),
		('max_in_flight', max_in_flight IS NULL), ('connect_timeout', connect_timeout IS NULL),
		('timeout', timeout IS NULL), ('retry_schedule', retry_schedule IS NULL), ('max_age', max_age IS NULL),
		('after_dead', after_dead IS NULL), ('start_at', start_at IS NULL)) AS given (argument, is_null)
	WHERE is_null LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'argument "%" must not be null', missing USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF format <> 'webhook' OR guarantee <> 'at_least_once' OR after_dead <> 'continue'
		OR rate IS NOT NULL OR burst IS NOT NULL THEN
		RAISE EXCEPTION 'this setting of an endpoint is not supported by this version' USING
			ERRCODE = 'feature_not_supported',
			HINT = 'Supported are format "webhook", guarantee "at_least_once", after_dead "continue", and no rate or burst.';
	END IF;
	IF start_at NOT IN ('now', 'earliest') THEN
		RAISE EXCEPTION 'invalid start_at "%"', start_at USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'It is "now" or "earliest".';
	END IF;
	PERFORM order_engine.check_endpoint(name, ordering, max_in_flight, connect_timeout, timeout);
	PERFORM order_engine.check_url(url);
	PERFORM order_engine.check_event_types(event_types);
	PERFORM order_engine.check_headers(headers);
	PERFORM order_engine.check_retry(retry_schedule, max_age);
	key := order_engine.make_secret(secret);

	-- transaction ids of another server would come up again here
	own := pg_current_xact_id();
	IF EXISTS (SELECT FROM order_engine.outbox o WHERE o.txid > own) THEN
		RAISE EXCEPTION 'the outbox holds events of a server with higher transaction ids' USING
			ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'The database was restored from a dump of another server.',
			HINT = 'Truncate order_engine.outbox if its events need not be sent.';
	END IF;
	IF start_at = 'earliest' THEN
		start_snapshot := '3:3:';
	ELSE
		-- this transaction has not committed, so its events are still to come
		SELECT format('%s:%s:%s', least(pg_snapshot_xmin(s), own), pg_snapshot_xmax(s),
					  (SELECT string_agg(x::text, ',' ORDER BY x)
					   FROM (SELECT pg_snapshot_xip(s)
							 UNION SELECT own WHERE own < pg_snapshot_xmax(s)) AS running (x)))
		INTO start_snapshot
		FROM pg_current_snapshot() AS s;
	END IF;

	INSERT INTO order_engine.endpoint AS e (name, owner, url, event_types, format, ordering, guarantee, headers,
		max_in_flight, connect_timeout, timeout, retry_schedule, max_age, start_snapshot)
	VALUES (create_endpoint.name, order_engine.database_identity(), create_endpoint.url, create_endpoint.event_types, create_endpoint.format,
		create_endpoint.ordering, create_endpoint.guarantee, create_endpoint.headers,
		create_endpoint.max_in_flight, create_endpoint.connect_timeout, create_endpoint.timeout,
		create_endpoint.retry_schedule, create_endpoint.max_age, start_snapshot)
	ON CONFLICT ON CONSTRAINT endpoint_name_key DO NOTHING
	RETURNING e.endpoint_id INTO new_id;
	IF new_id IS NULL THEN
		RAISE EXCEPTION 'endpoint "%" already exists', name USING ERRCODE = 'duplicate_object';
	END IF;
	sealed := order_engine.seal_secret(new_id, 'signing', key);
	INSERT INTO order_engine.endpoint_secret (endpoint_id, created_at, key_id, secret)
	VALUES (new_id, clock_timestamp(), sealed.key_id, sealed.sealed);
	RETURN order_engine.show_secret(key);
END
$$;
COMMENT ON FUNCTION order_engine.create_endpoint(text, text, text[], text, text, text, jsonb, integer, numeric, integer, interval, interval, interval[], interval, text, text, text) IS
'Makes an endpoint and returns its signing secret, which is shown this once. start_at: now (events of transactions that commit from now on) or earliest (all that the outbox still has). It takes no idempotency key, because its result is not to be stored: a repetition fails with 42710, and whoever lost the answer calls rotate_secret(), or gives a secret of his own. Errors: 42710 for a name that exists, 22023 and 22004 for a setting that cannot be used, 0A000 for one that this version does not have.';

CREATE FUNCTION order_engine.alter_endpoint(
	name text,
	url text DEFAULT NULL,
	event_types text[] DEFAULT NULL,
	ordering text DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	max_in_flight integer DEFAULT NULL,
	connect_timeout interval DEFAULT NULL,
	timeout interval DEFAULT NULL,
	retry_schedule interval[] DEFAULT NULL,
	max_age interval DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id integer := order_engine.endpoint_id(name);
	e order_engine.endpoint;
BEGIN
	SELECT * INTO e FROM order_engine.endpoint WHERE endpoint_id = id FOR NO KEY UPDATE;
	e.url := coalesce(url, e.url);
	e.event_types := coalesce(event_types, e.event_types);
	e.ordering := coalesce(ordering, e.ordering);
	e.headers := coalesce(headers, e.headers);
	e.max_in_flight := coalesce(max_in_flight, e.max_in_flight);
	e.connect_timeout := coalesce(connect_timeout, e.connect_timeout);
	e.timeout := coalesce(timeout, e.timeout);
	e.retry_schedule := coalesce(retry_schedule, e.retry_schedule);
	e.max_age := coalesce(max_age, e.max_age);
	PERFORM order_engine.check_endpoint(e.name, e.ordering, e.max_in_flight, e.connect_timeout, e.timeout);
	PERFORM order_engine.check_url(e.url);
	PERFORM order_engine.check_event_types(e.event_types);
	PERFORM order_engine.check_headers(e.headers);
	PERFORM order_engine.check_retry(e.retry_schedule, e.max_age);
	UPDATE order_engine.endpoint AS t
	SET url = e.url, event_types = e.event_types, ordering = e.ordering, headers = e.headers,
		max_in_flight = e.max_in_flight, connect_timeout = e.connect_timeout, timeout = e.timeout,
		retry_schedule = e.retry_schedule, max_age = e.max_age, updated_at = clock_timestamp()
	WHERE t.endpoint_id = id;
	RETURN e.name;
END
$$;
COMMENT ON FUNCTION order_engine.alter_endpoint(text, text, text[], text, jsonb, integer, interval, interval, interval[], interval) IS
'Changes the settings that are given; a null leaves one as it is (headers are emptied with {}). Returns the name. A repetition changes nothing more, so it needs no key. Errors: OE005 for an unknown name, 22023 for a setting that cannot be used.';

CREATE FUNCTION order_engine.pause_endpoint(name text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE order_engine.endpoint SET status = 'paused', updated_at = clock_timestamp()
	WHERE endpoint_id = order_engine.endpoint_id(pause_endpoint.name) AND status <> 'paused';
	RETURN pause_endpoint.name;
END
$$;
COMMENT ON FUNCTION order_engine.pause_endpoint(text) IS
'Stops sending to an endpoint; its events wait in the outbox. Requests under way are finished. Returns the name. A repetition does nothing. Error: OE005.';

CREATE FUNCTION order_engine.resume_endpoint(name text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE order_engine.endpoint SET status = 'active', updated_at = clock_timestamp()
	WHERE endpoint_id = order_engine.endpoint_id(resume_endpoint.name) AND status <> 'active';
	RETURN resume_endpoint.name;
END
$$;
COMMENT ON FUNCTION order_engine.resume_endpoint(text) IS
'Sends to a paused or disabled endpoint again, from where it stopped. Returns the name. A repetition does nothing. Error: OE005.';

CREATE FUNCTION order_engine.drop_endpoint(name text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	dropped integer := order_engine.endpoint_id(name);
BEGIN
	-- the worker removes what it writes for the endpoint from now on
	DELETE FROM order_engine.endpoint WHERE endpoint_id = dropped;
	DELETE FROM order_engine.delivery_retry WHERE endpoint_id = dropped;
	DELETE FROM order_engine.delivery_dead WHERE endpoint_id = dropped;
	RETURN drop_endpoint.name;
END
$$;
COMMENT ON FUNCTION order_engine.drop_endpoint(text) IS
'Removes an endpoint with its secrets, retries and dead letters. Returns the name. Error: OE005, also for a repetition.';

CREATE FUNCTION order_engine.rotate_secret(name text, overlap interval DEFAULT '24 hours') RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan	-- a plan that is logged shows no secret
AS $$
DECLARE
	id integer := order_engine.endpoint_id(name);
	key bytea := order_engine.make_secret(NULL);
	sealed record;
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
	sealed := order_engine.seal_secret(id, 'signing', key);
	INSERT INTO order_engine.endpoint_secret (endpoint_id, created_at, key_id, secret)
	VALUES (id, clock_timestamp(), sealed.key_id, sealed.sealed);
	RETURN order_engine.show_secret(key);
END
$$;
COMMENT ON FUNCTION order_engine.rotate_secret(text, interval) IS
'Makes a new signing secret and returns it, this once. For the time of the overlap requests are signed with the old and the new one. It takes no idempotency key: the result would have to be stored, and a secret is kept in one place only. A repetition makes another secret; those before stay valid for their overlap, so nothing is lost by it. Errors: OE005, 22023, 55000 with four valid secrets.';

CREATE FUNCTION order_engine.start_worker() RETURNS integer
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_start_worker';
COMMENT ON FUNCTION order_engine.start_worker() IS
'Starts a worker for this database by hand and returns its process id. Not needed where order_engine is preloaded and order_engine.databases names the database. Errors: 55006 when one is running, 53000 without a free background worker.';

CREATE FUNCTION order_engine.wake_launcher() RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_wake_launcher';
COMMENT ON FUNCTION order_engine.wake_launcher() IS
'Internal: has the launcher look for databases to serve when this transaction has committed.';

CREATE FUNCTION order_engine.adopt_database() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own xid8 := pg_current_xact_id();
BEGIN
	-- positions speak of transaction ids; those of another server mean nothing here
	IF EXISTS (SELECT FROM order_engine.outbox WHERE txid > own)
		OR EXISTS (SELECT FROM order_engine.endpoint WHERE pg_snapshot_xmax(start_snapshot) > own)
		OR EXISTS (SELECT FROM order_engine.position_0 WHERE pg_snapshot_xmax(coalesce(upto, seen)) > own)
		OR EXISTS (SELECT FROM order_engine.position_1 WHERE pg_snapshot_xmax(coalesce(upto, seen)) > own) THEN
		RAISE EXCEPTION 'a dump of a server with higher transaction ids cannot be adopted by this version' USING
			ERRCODE = 'feature_not_supported',
			HINT = 'Drop the endpoints, truncate order_engine.outbox, position_0 and position_1, and create the endpoints anew; undelivered events of the dump are not sent then.';
	END IF;
	UPDATE order_engine.endpoint SET owner = order_engine.database_identity(), updated_at = clock_timestamp()
	WHERE owner <> order_engine.database_identity();
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION order_engine.adopt_database() IS
'Lets a copy of a database (template copy, upgraded or restored server) send to the endpoints that it brought along: what was not delivered is sent, what was acknowledged is not. Returns whether there were any. Error: 0A000 for a dump whose transaction ids are higher than this server''s.';
