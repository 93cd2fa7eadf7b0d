/*
 * What becomes due at a time.  The worker calls run_maintenance() again and
 * again; it may be called by hand or from cron as well, from several sessions
 * at once.
 *
 * It waits for nobody for long, and nobody waits for it for long.  Whatever is
 * locked is left for the next run.  The first order that gives back stock may
 * wait for the rows of it, as a verb does.  From then on the call has rows of
 * stock, and those of the next order may come before them in the order of locks:
 * so lock_wait is off, and where it had to wait it goes on without that order.
 * Thus it is in no deadlock with clients, whatever deadlock_timeout is.  Its
 * locks last to the end of the transaction, so one call does not work for long.
 */

CREATE FUNCTION order_engine.delete_expired_keys(batch integer) RETURNS integer
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_delete_expired_keys';
COMMENT ON FUNCTION order_engine.delete_expired_keys(integer) IS
'Internal: deletes the oldest idempotency keys, at most batch of them, that are older than order_engine.idempotency_retention; returns how many.';

CREATE FUNCTION order_engine.lock_due(entity text, id bigint, now timestamptz, OUT state text, OUT event text, OUT tenant text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	root bigint;
	machine integer;
BEGIN
	-- the order comes first, and its parts after it, as in every verb
	root := CASE lock_due.entity
		WHEN 'order' THEN lock_due.id
		WHEN 'payment' THEN (SELECT p.order_id FROM order_engine.payment p WHERE p.payment_id = lock_due.id)
		WHEN 'fulfillment' THEN (SELECT f.order_id FROM order_engine.fulfillment f WHERE f.fulfillment_id = lock_due.id)
		WHEN 'return' THEN (SELECT r.order_id FROM order_engine.order_return r WHERE r.return_id = lock_due.id)
	END;
	SELECT o.tenant INTO lock_due.tenant FROM order_engine.orders o
	WHERE o.order_id = root
	FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	CASE lock_due.entity
	WHEN 'order' THEN
		SELECT o.state, o.machine_id INTO lock_due.state, machine FROM order_engine.orders o
		WHERE o.order_id = lock_due.id AND o.expires_at <= lock_due.now;
	WHEN 'payment' THEN
		SELECT p.state, p.machine_id INTO lock_due.state, machine FROM order_engine.payment p
		WHERE p.payment_id = lock_due.id AND p.expires_at <= lock_due.now
		FOR NO KEY UPDATE SKIP LOCKED;
	WHEN 'fulfillment' THEN
		SELECT f.state, f.machine_id INTO lock_due.state, machine FROM order_engine.fulfillment f
		WHERE f.fulfillment_id = lock_due.id AND f.expires_at <= lock_due.now
		FOR NO KEY UPDATE SKIP LOCKED;
	WHEN 'return' THEN
		SELECT r.state, r.machine_id INTO lock_due.state, machine FROM order_engine.order_return r
		WHERE r.return_id = lock_due.id AND r.expires_at <= lock_due.now
		FOR NO KEY UPDATE SKIP LOCKED;
	END CASE;
	SELECT m.definition -> 'states' -> lock_due.state ->> 'on_limit' INTO lock_due.event
	FROM order_engine.machine m WHERE m.machine_id = machine;
END
$$;
COMMENT ON FUNCTION order_engine.lock_due(text, bigint, timestamptz) IS
'Internal: locks an order, or a part of one after its order, if nobody else has it and its time limit has passed. Returns its state (null: not locked, or no longer due), the event that its machine has for the time limit of that state, and the tenant of the order.';

CREATE FUNCTION order_engine.set_limit(entity text, id bigint, expires_at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	CASE set_limit.entity
	WHEN 'order' THEN
		UPDATE order_engine.orders o SET expires_at = set_limit.expires_at WHERE o.order_id = set_limit.id;
	WHEN 'payment' THEN
		UPDATE order_engine.payment p SET expires_at = set_limit.expires_at WHERE p.payment_id = set_limit.id;
	WHEN 'fulfillment' THEN
		UPDATE order_engine.fulfillment f SET expires_at = set_limit.expires_at WHERE f.fulfillment_id = set_limit.id;
	WHEN 'return' THEN
		UPDATE order_engine.order_return r SET expires_at = set_limit.expires_at WHERE r.return_id = set_limit.id;
	END CASE;
	RETURN FOUND;
EXCEPTION WHEN assert_failure OR OTHERS THEN
	RAISE LOG 'order_engine: the time limit of % % could not be moved (SQLSTATE %)', set_limit.entity, set_limit.id, SQLSTATE;
	RETURN false;
END
$$;
COMMENT ON FUNCTION order_engine.set_limit(text, bigint, timestamptz) IS
'Internal: moves the time limit of an order or of a part of one; null takes it away. Returns whether it could.';

CREATE FUNCTION order_engine.run_maintenance(batch integer DEFAULT 1000, time_limit interval DEFAULT '500 milliseconds')
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- the engine acts, not who called it, and its repetitions need no keys
SET order_engine.actor = 'order_engine'
SET order_engine.correlation_id = ''
SET order_engine.traceparent = ''
SET order_engine.tenant = ''
SET order_engine.idempotency_required = 'off'
SET lock_timeout = '100ms'
SET order_engine.lock_wait = 'on'
AS $$
DECLARE
	began constant timestamptz := clock_timestamp();
	until timestamptz;
	keys integer;
	payments bigint := 0;
	reservations bigint := 0;
	fired integer := 0;
	refused integer := 0;
	moved integer := 0;
	stopped boolean := false;	-- before the last row that was due
	passed boolean := false;	-- over a row that can have its turn in the next call
	cancelled boolean := false;
	due record;
	found_due record;
BEGIN
	IF batch IS NULL OR time_limit IS NULL THEN
		RAISE EXCEPTION 'argument "%" must not be null', CASE WHEN batch IS NULL THEN 'batch' ELSE 'time_limit' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF batch NOT BETWEEN 1 AND 100000 THEN
		RAISE EXCEPTION 'argument "batch" must be between 1 and 100000' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF time_limit NOT BETWEEN interval '1 millisecond' AND interval '1 hour' THEN
		RAISE EXCEPTION 'argument "time_limit" must be between 1 ms and 1 hour' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- who has little time does not spend it on one lock
	IF time_limit < interval '200 milliseconds' THEN
		PERFORM set_config('lock_timeout', greatest(1, extract(epoch FROM time_limit) * 500)::integer::text, true);
	END IF;

	keys := order_engine.delete_expired_keys(batch);

	until := clock_timestamp() + time_limit;

	-- more than the batch, as some of them may be locked
	FOR due IN
		(SELECT 'order' AS entity, order_id AS id, expires_at FROM order_engine.orders
			WHERE expires_at <= began ORDER BY expires_at LIMIT 4 * batch)
		UNION ALL
		(SELECT 'payment', payment_id, expires_at FROM order_engine.payment
			WHERE expires_at <= began ORDER BY expires_at LIMIT 4 * batch)
		UNION ALL
		(SELECT 'fulfillment', fulfillment_id, expires_at FROM order_engine.fulfillment
			WHERE expires_at <= began ORDER BY expires_at LIMIT 4 * batch)
		UNION ALL
		(SELECT 'return', return_id, expires_at FROM order_engine.order_return
			WHERE expires_at <= began ORDER BY expires_at LIMIT 4 * batch)
		ORDER BY expires_at
	LOOP
		stopped := fired + moved >= batch OR clock_timestamp() >= until;
		EXIT WHEN stopped;
		found_due := order_engine.lock_due(due.entity, due.id, began);
		CONTINUE WHEN found_due.state IS NULL;
		IF found_due.event IS NULL THEN
			-- a limit that its machine does not know, such as that of a state it has left
			moved := moved + order_engine.set_limit(due.entity, due.id, NULL)::integer;
			CONTINUE;
		END IF;
		PERFORM set_config('order_engine.tenant', found_due.tenant, true);
		BEGIN
			-- where it is again, what follows by itself may have led it back, with a limit that begins anew
			IF order_engine.transition(due.entity, due.id, found_due.event, 'time limit') <> found_due.state
				OR (order_engine.lock_due(due.entity, due.id, began)).state IS NULL THEN
				fired := fired + 1;
			ELSE
				-- an event that leads to where it is already
				moved := moved + order_engine.set_limit(due.entity, due.id, NULL)::integer;
			END IF;
			-- an error undoes this with the locks
			PERFORM set_config('order_engine.lock_wait', 'off', true);
		EXCEPTION
			WHEN lock_not_available OR deadlock_detected OR serialization_failure THEN
				IF NOT current_setting('order_engine.lock_wait')::boolean THEN
					passed := true;
					CONTINUE;
				END IF;
				-- its turn comes again behind those that nobody is at
				moved := moved + order_engine.set_limit(due.entity, due.id, began + interval '5 seconds')::integer;
			-- OTHERS leaves out what a guard that does not end, or an ASSERT in it, would stop all the others with
			WHEN query_canceled OR assert_failure OR OTHERS THEN
				RAISE LOG 'order_engine: event "%" of % % was refused at its time limit (SQLSTATE %)',
					found_due.event, due.entity, due.id, SQLSTATE;
				refused := refused + 1;
				moved := moved + order_engine.set_limit(due.entity, due.id, began + interval '5 minutes')::integer;
				-- the caller's time is up: what is done is kept
				cancelled := SQLSTATE = '57014';
				EXIT WHEN cancelled;
		END;
	END LOOP;
	PERFORM set_config('order_engine.tenant', '', true);

	-- in the order of locks: what takes orders first, what takes stock alone last; an error of one spoils no other
	IF NOT cancelled THEN
		BEGIN
			payments := order_engine.retry_payments(batch);
		EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
			RAISE LOG 'order_engine: payments were not retried (SQLSTATE %)', SQLSTATE;
		END;
	END IF;

	BEGIN
		reservations := order_engine.expire_reservations(batch);
	EXCEPTION WHEN assert_failure OR OTHERS THEN
		RAISE LOG 'order_engine: carts were not expired (SQLSTATE %)', SQLSTATE;
	END;

	RETURN jsonb_build_object(
		'expired_keys', keys,
		'limits_fired', fired,
		'limits_refused', refused,
		'reservations_expired', reservations,
		'payments_retried', payments,
		-- keys that are gone, but not yet for some old snapshot, make the search for others slow: no hurry then
		'more', (keys >= batch AND until < began + 2 * time_limit) OR ((stopped OR passed OR cancelled) AND fired + moved > 0)
			OR payments >= batch OR reservations >= batch);
END
$$;
COMMENT ON FUNCTION order_engine.run_maintenance(integer, interval) IS
'Does what has become due: deletes idempotency keys older than order_engine.idempotency_retention, and fires the event on_limit of orders, payments, fulfillments and returns whose expires_at has passed, oldest first, repeats failed authorizations whose time has come (retry_payments) and gives back the stock of carts that have expired (expire_reservations). '
'At most batch of each kind, and no longer than time_limit. Returns how many as {"expired_keys", "limits_fired", "limits_refused", "reservations_expired", "payments_retried"}, and "more": whether to call again at once. '
'What somebody has locked is left for a later run. An event that is refused (a guard, a hold) is tried again after 5 minutes and reported in the server log, by id and SQLSTATE. One that is cancelled (statement_timeout, a guard that does not end) counts as refused, and ends the call, which keeps what it has done. History and events name the actor order_engine and the tenant of the order. '
'Safe in several sessions at once and beside the worker, which calls it each order_engine.maintenance_interval. Its locks last to the end of the transaction, so call it in one of its own. Errors: 22004 and 22023 for arguments.';
