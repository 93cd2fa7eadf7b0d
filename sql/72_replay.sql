/*
 * Sending events once more.
 *
 * A call writes one row into order_engine.replay, never one for each event; the
 * workers do the rest.
 */

-- the workers write these rows too, so only what clients do is announced
CREATE TRIGGER endpoint_changed AFTER INSERT
	ON order_engine.replay FOR EACH STATEMENT EXECUTE FUNCTION order_engine.endpoint_changed();

CREATE FUNCTION order_engine.uuid_at(at timestamptz, last boolean) RETURNS uuid
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'oe_uuid_at';
COMMENT ON FUNCTION order_engine.uuid_at(timestamptz, boolean) IS
'Internal: the first or the last id that an event of that millisecond can have.';

CREATE FUNCTION order_engine.uuid_time(id uuid) RETURNS timestamptz
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'oe_uuid_time';
COMMENT ON FUNCTION order_engine.uuid_time(uuid) IS
'Internal: the millisecond in which an id of an event was made.';

CREATE FUNCTION order_engine.check_event_ids(ids uuid[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF array_ndims(ids) > 1 THEN
		RAISE EXCEPTION 'argument "ids" must have one dimension' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF array_position(ids, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'argument "ids" must not contain nulls' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF cardinality(ids) > 100000 THEN
		RAISE EXCEPTION 'argument "ids" has more than 100000 ids' USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'Make several calls, or give a range of time.';
	END IF;
END
$$;
COMMENT ON FUNCTION order_engine.check_event_ids(uuid[]) IS
'Internal: raises 22004 for a null among the ids and 22023 for too many, or an array of arrays.';

CREATE FUNCTION order_engine.replay(name text, ids uuid[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e order_engine.endpoint := order_engine.hold_endpoint(name);
	unknown uuid;
	chosen uuid[];
BEGIN
	IF ids IS NULL THEN
		RAISE EXCEPTION 'argument "ids" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM order_engine.check_event_ids(ids);
	SELECT given.id INTO unknown
	FROM unnest(ids) WITH ORDINALITY AS given (id, place)
	WHERE NOT EXISTS (SELECT FROM order_engine.outbox o WHERE o.id = given.id)
	ORDER BY given.place LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'event % is not in the outbox', unknown USING
			ERRCODE = 'OE005',
			DETAIL = jsonb_build_object('entity', 'event', 'id', unknown)::text,
			HINT = 'The outbox keeps events for order_engine.retention; dead letters are kept longer and sent again by redrive().';
	END IF;
	SELECT array_agg(o.id ORDER BY o.id) INTO chosen
	FROM order_engine.outbox o
	WHERE o.id = ANY (ids)
		AND order_engine.endpoint_gets(e.name, e.event_types, o.aggregatetype, o.aggregateid, o.type);
	IF chosen IS NULL THEN
		RETURN 0;
	END IF;
	INSERT INTO order_engine.replay (endpoint_id, events, ids) VALUES (e.endpoint_id, cardinality(chosen), chosen);
	RETURN cardinality(chosen);
END
$$;
COMMENT ON FUNCTION order_engine.replay(text, uuid[]) IS
'Sends events to an endpoint once more, whether it took them or not, under the ids that they have; those of a type that it does not get are left out. At most 100,000 ids a call. Returns how many are sent; with 0 nothing was asked for. They go beside the endpoint''s ordinary course, and wait while it is paused or fails. A dead letter is removed when its event is delivered. A repetition sends them again; receivers tell by the id. Errors: OE005 for an unknown endpoint and for an id that is not in the outbox (any more), 22004 for a null, 22023 for too many ids or an array of arrays.';

CREATE FUNCTION order_engine.replay(name text, since timestamptz, until timestamptz, only_undelivered boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e order_engine.endpoint := order_engine.hold_endpoint(name);
	first_id uuid := order_engine.uuid_at(since, false);
	last_id uuid := order_engine.uuid_at(until - interval '1 ms', true);
	unseen pg_snapshot := CASE WHEN only_undelivered THEN e.start_snapshot END;
	visible pg_snapshot;
	letters bigint := 0;
	events bigint;
BEGIN
	IF since IS NULL OR until IS NULL OR only_undelivered IS NULL THEN
		RAISE EXCEPTION 'argument "%" must not be null',
			CASE WHEN since IS NULL THEN 'since' WHEN until IS NULL THEN 'until' ELSE 'only_undelivered' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF until <= since THEN
		RAISE EXCEPTION 'argument "until" must be later than "since"' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- taken before the events are counted, so that those it sees are all there
	visible := order_engine.committed_snapshot();
	SELECT count(*) INTO events
	FROM order_engine.outbox o
	WHERE o.id BETWEEN first_id AND last_id
		AND pg_visible_in_snapshot(o.txid, visible)
		AND (unseen IS NULL OR pg_visible_in_snapshot(o.txid, unseen))
		AND order_engine.endpoint_gets(e.name, e.event_types, o.aggregatetype, o.aggregateid, o.type);
	IF events > 0 THEN
		INSERT INTO order_engine.replay (endpoint_id, events, first_id, last_id, visible, unseen)
		VALUES (e.endpoint_id, events, first_id, last_id, visible, unseen);
	END IF;
	IF only_undelivered THEN
		letters := order_engine.redrive_letters(e.endpoint_id, NULL, first_id, last_id);
	END IF;
	RETURN events + letters;
END
$$;
COMMENT ON FUNCTION order_engine.replay(text, timestamptz, timestamptz, boolean) IS
'Sends the events of [since, until) that the outbox still has to an endpoint once more, under the ids that they have; both times are rounded down to a full millisecond, and infinity is allowed. Only types that it gets, and only events of transactions that have committed. only_undelivered: only events from before the endpoint''s start, and its dead letters of that time. Returns how many are sent; with 0 nothing was asked for. They go beside the endpoint''s ordinary course, and wait while it is paused or fails. A repetition sends them again; receivers tell by the id. Errors: OE005 for an unknown endpoint, 22004 for a null, 22023 for a range that is empty.';

CREATE FUNCTION order_engine.redrive_letters(endpoint integer, ids uuid[], first_id uuid, last_id uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	chosen uuid[];
BEGIN
	SELECT array_agg(d.id ORDER BY d.id) INTO chosen
	FROM order_engine.delivery_dead d
	WHERE d.endpoint_id = endpoint
		AND (redrive_letters.ids IS NULL OR d.id IN (SELECT unnest(redrive_letters.ids)))
		AND (redrive_letters.first_id IS NULL OR d.id BETWEEN redrive_letters.first_id AND redrive_letters.last_id)
		AND d.id NOT IN (SELECT unnest(r.ids) FROM order_engine.replay r WHERE r.endpoint_id = endpoint);
	IF chosen IS NULL THEN
		RETURN 0;
	END IF;
	DELETE FROM order_engine.delivery_crash c WHERE c.endpoint_id IN (0, endpoint) AND c.id = ANY (chosen);
	INSERT INTO order_engine.replay (endpoint_id, events, ids) VALUES (endpoint, cardinality(chosen), chosen);
	RETURN cardinality(chosen);
END
$$;
COMMENT ON FUNCTION order_engine.redrive_letters(integer, uuid[], uuid, uuid) IS
'Internal: asks for dead letters of an endpoint to be sent again, of these ids or this range of ids (null: all), but for those that already are; returns how many.';

CREATE FUNCTION order_engine.redrive(name text, ids uuid[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e order_engine.endpoint := order_engine.hold_endpoint(name);
BEGIN
	PERFORM order_engine.check_event_ids(ids);
	RETURN order_engine.redrive_letters(e.endpoint_id, ids, NULL, NULL);
END
$$;
COMMENT ON FUNCTION order_engine.redrive(text, uuid[]) IS
'Sends dead letters of an endpoint again, all of them or those given (at most 100,000); ids that are none of its dead letters are passed over. Returns how many are sent. Each stays a dead letter until it is delivered; the outbox need not have it any more. A repetition does not send again what is still under way; of two calls at the same moment both may take the same letters. Errors: OE005, 22004 for a null among the ids, 22023 for too many or an array of arrays.';

CREATE FUNCTION order_engine.discard_dead_letters(name text, ids uuid[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e order_engine.endpoint := order_engine.hold_endpoint(name);
	discarded bigint;
BEGIN
	PERFORM order_engine.check_event_ids(ids);
	DELETE FROM order_engine.delivery_dead d
	WHERE d.endpoint_id = e.endpoint_id AND (ids IS NULL OR d.id IN (SELECT unnest(ids)));
	GET DIAGNOSTICS discarded = ROW_COUNT;
	IF discarded > 0 THEN
		-- with after_dead "block" their aggregates may go on
		PERFORM order_engine.wake_workers();
	END IF;
	RETURN discarded;
END
$$;
COMMENT ON FUNCTION order_engine.discard_dead_letters(text, uuid[]) IS
'Deletes dead letters of an endpoint for good, all of them or those given (at most 100,000); ids that are none of its dead letters are passed over. With after_dead "block" the aggregates that waited behind them go on. Returns how many were deleted. One that is being redriven may still be sent. A repetition does nothing. Errors: OE005, 22004 for a null among the ids, 22023 for too many or an array of arrays.';
