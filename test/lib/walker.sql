/*
 * A random walker over the verbs, for 034_properties.pl: step() does one random
 * thing as one client would, in the transaction of its caller.
 *
 * The gateway stands for a payment service: it decides each transaction once and
 * remembers that, whatever happens to the report.  What the verbs refuse with a
 * code of their own is part of the game and only counted; any other error is kept
 * as a fault.
 */

CREATE SCHEMA walk;

CREATE TABLE walk.gateway (
	transaction_id bigint PRIMARY KEY,
	kind text NOT NULL,
	outcome text NOT NULL,
	amount numeric NOT NULL,
	ref text NOT NULL);

CREATE TABLE walk.outcome (verb text NOT NULL, sqlstate text NOT NULL, message text, detail text, context text,
	round integer NOT NULL DEFAULT 0);

CREATE FUNCTION walk.chance(probability float8) RETURNS boolean LANGUAGE sql VOLATILE
RETURN random() < probability;

CREATE FUNCTION walk.pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE
RETURN choices[1 + floor(random() * cardinality(choices))::int];

CREATE FUNCTION walk.sku() RETURNS text LANGUAGE sql VOLATILE
RETURN 'S' || floor(random() * 8)::int;

-- mostly one of the latest, so that clients meet
CREATE FUNCTION walk.an_order() RETURNS bigint LANGUAGE sql VOLATILE AS $$
	SELECT order_id FROM (
		SELECT order_id FROM order_engine.orders ORDER BY order_id DESC
		LIMIT CASE WHEN random() < 0.8 THEN 40 ELSE 2000 END) latest
	ORDER BY random() LIMIT 1
$$;

-- a part of some order, in a state that is not the end
CREATE FUNCTION walk.a_part(kind text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	id bigint;
BEGIN
	IF kind = 'payment' THEN
		SELECT payment_id INTO id FROM (SELECT payment_id FROM order_engine.payment ORDER BY payment_id DESC LIMIT 60) p ORDER BY random() LIMIT 1;
	ELSIF kind = 'fulfillment' THEN
		SELECT fulfillment_id INTO id FROM (SELECT fulfillment_id FROM order_engine.fulfillment ORDER BY fulfillment_id DESC LIMIT 60) p ORDER BY random() LIMIT 1;
	ELSE
		SELECT return_id INTO id FROM (SELECT return_id FROM order_engine.order_return ORDER BY return_id DESC LIMIT 60) p ORDER BY random() LIMIT 1;
	END IF;
	RETURN id;
END $$;

CREATE FUNCTION walk.items() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	SELECT jsonb_agg(CASE WHEN random() < 0.2 THEN item || '{"location": "L1"}' ELSE item END)
	FROM (SELECT jsonb_build_object('sku', walk.sku(), 'quantity', 1 + floor(random() * 3)::int,
			'unit_price', (1 + floor(random() * 1000)) / 100) AS item
		FROM generate_series(1, 1 + floor(random() * 3)::int)) i
$$;

-- some units of some lines of an order
CREATE FUNCTION walk.units(an_order bigint) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
	SELECT jsonb_agg(jsonb_build_object('line_no', line_no, 'quantity', 1 + floor(random() * quantity)::int))
	FROM order_engine.order_line WHERE order_id = an_order AND random() < 0.7
$$;

-- an event that is possible, or any
CREATE FUNCTION walk.an_event(entity text, id bigint) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	chosen text;
BEGIN
	IF walk.chance(0.8) THEN
		SELECT a.event INTO chosen FROM order_engine.allowed_events(entity, id) a
		ORDER BY a.allowed DESC, random() LIMIT 1;
	END IF;
	RETURN coalesce(chosen, walk.pick('confirm', 'cancel', 'complete', 'ready', 'ship', 'deliver', 'fail', 'restock',
		'approve', 'receive', 'close', 'decline', 'authorize', 'capture', 'void', 'refund', 'expire', 'pay'));
END $$;

-- Runs a verb; with a key it is sometimes run twice, and must say the same.
CREATE FUNCTION walk.run(call text, VARIADIC args text[]) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	key text := CASE WHEN random() < 0.5 THEN gen_random_uuid()::text END;
	command text := format('SELECT (order_engine.' || call || ')::text',
		VARIADIC args || quote_nullable(key));
	result text;
	again text;
BEGIN
	EXECUTE command INTO result;
	IF key IS NOT NULL AND random() < 0.2 THEN
		EXECUTE command INTO again;
		IF again IS DISTINCT FROM result OR NOT order_engine.was_replayed() THEN
			RAISE EXCEPTION 'a repeated call answered % after %', again, result;
		END IF;
	END IF;
	RETURN result;
END $$;

CREATE FUNCTION walk.step_of(verb text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	id bigint;
	other record;
	kind text;
BEGIN
	IF verb NOT IN ('place', 'cart', 'take_over', 'adjust') AND walk.an_order() IS NULL THEN
		RETURN;			-- the very beginning
	END IF;
	CASE verb
	WHEN 'place' THEN
		PERFORM set_config('order_engine.order_machine', CASE WHEN random() < 0.15 THEN 'simple' ELSE 'default' END, true);
		PERFORM walk.run('place_order(%L, %L, ''EUR'', terms => %L, channel => %L, shipping => %L, discount => %L, hold_for => %L, idempotency_key => %s)',
			'C' || floor(random() * 50), walk.items()::text, walk.pick('prepaid', 'prepaid', 'invoice', 'cash_on_delivery'),
			walk.pick('web', 'store'), walk.pick('0', '4.90'), walk.pick('0', '0', '1'), walk.pick('1 hour', '1 hour', '0.3 seconds'));
	WHEN 'transition' THEN
		kind := walk.pick('order', 'order', 'fulfillment', 'fulfillment', 'fulfillment', 'return', 'return', 'payment');
		id := CASE WHEN kind = 'order' THEN walk.an_order() ELSE walk.a_part(kind) END;
		IF id IS NOT NULL THEN
			PERFORM walk.run('transition(%L, %L, %L, reason => ''walk'', idempotency_key => %s)',
				kind, id::text, walk.an_event(kind, id));
		END IF;
	WHEN 'cancel' THEN
		id := walk.an_order();
		PERFORM walk.run('cancel_order(%L, ''walk'', %L, %s)', id::text,
			CASE WHEN random() < 0.7 THEN walk.units(id)::text END);
	WHEN 'request_payment' THEN
		id := walk.an_order();
		kind := walk.pick('authorization', 'authorization', 'capture', 'capture_more', 'void');
		IF kind IN ('authorization', 'capture') THEN
			PERFORM walk.run('request_payment(%L, %L, amount => %L, provider => ''gate'', idempotency_key => %s)',
				id::text, kind, CASE WHEN random() < 0.3 THEN '1.00' END);
		ELSE
			SELECT p.order_id, p.payment_id INTO other FROM order_engine.payment p
			WHERE p.payment_id = walk.a_part('payment');
			IF FOUND THEN
				PERFORM walk.run('request_payment(%L, %L, amount => %L, provider => ''gate'', payment_id => %L, idempotency_key => %s)',
					other.order_id::text, CASE kind WHEN 'void' THEN 'void' ELSE 'capture' END,
					CASE WHEN random() < 0.5 AND kind <> 'void' THEN '0.50' END, other.payment_id::text);
			END IF;
		END IF;
	WHEN 'gateway' THEN
		-- decides once; nothing is reported yet
		INSERT INTO walk.gateway
		SELECT t.transaction_id, t.kind, CASE WHEN random() < 0.75 THEN 'success' ELSE 'failure' END, t.requested,
			'ref-' || t.transaction_id
		FROM (SELECT p.* FROM order_engine.payment_transaction p
			WHERE p.state IN ('initial', 'pending') AND p.kind <> 'chargeback'
			ORDER BY random() LIMIT 3) t
		ORDER BY t.transaction_id		-- for another gateway may decide the same
		ON CONFLICT DO NOTHING;
	WHEN 'report' THEN
		SELECT g.* INTO other FROM (SELECT * FROM walk.gateway ORDER BY transaction_id DESC LIMIT 100) g ORDER BY random() LIMIT 1;
		IF FOUND THEN
			kind := CASE WHEN random() < 0.15 THEN walk.pick('pending', 'timeout') ELSE other.outcome END;
			PERFORM walk.run('record_payment(%L, %L, provider_ref => %L, amount => %L, idempotency_key => %s)',
				other.transaction_id::text, kind, other.ref, CASE WHEN kind = 'success' THEN other.amount::text END);
		END IF;
	WHEN 'refund' THEN
		PERFORM walk.run('refund(%L, %L, ''walk'', idempotency_key => %s)', walk.an_order()::text,
			CASE WHEN random() < 0.5 THEN '0.70' END);
	WHEN 'chargeback' THEN
		SELECT p.payment_id INTO id FROM order_engine.payment p WHERE p.captured > 0 ORDER BY random() LIMIT 1;
		IF FOUND THEN
			PERFORM walk.run('record_chargeback(%L, 0.10, %L, ''walk'', idempotency_key => %s)', id::text, gen_random_uuid()::text);
		END IF;
	WHEN 'fulfill' THEN
		id := walk.an_order();
		PERFORM walk.run('create_fulfillment(%L, %L, location => %L, idempotency_key => %s)', id::text,
			CASE WHEN random() < 0.5 THEN walk.units(id)::text END, CASE WHEN random() < 0.2 THEN 'L1' END);
	WHEN 'return' THEN
		SELECT l.order_id INTO id FROM order_engine.order_line l WHERE l.shipped > 0 ORDER BY random() LIMIT 1;
		IF FOUND THEN
			PERFORM walk.run('create_return(%L, %L, ''walk'', idempotency_key => %s)', id::text, coalesce(walk.units(id), '[]')::text);
		END IF;
	WHEN 'receive' THEN
		SELECT r.return_id INTO id FROM order_engine.order_return r WHERE r.state = 'approved' ORDER BY random() LIMIT 1;
		IF FOUND THEN
			PERFORM walk.run('receive_return(%L, %L, idempotency_key => %s)', id::text,
				(SELECT jsonb_agg(jsonb_build_object('line_no', line_no, 'quantity', 1, 'disposition', walk.pick('restock', 'damaged', 'discard')))
				 FROM order_engine.return_line WHERE return_id = id)::text);
		END IF;
	WHEN 'hold' THEN
		IF walk.chance(0.4) THEN
			PERFORM walk.run('place_hold(%L, ''walk'', idempotency_key => %s)', walk.an_order()::text);
		ELSE
			SELECT h.hold_id INTO id FROM order_engine.order_hold h WHERE h.released_at IS NULL ORDER BY random() LIMIT 1;
			IF FOUND THEN
				PERFORM walk.run('release_hold(%L, idempotency_key => %s)', id::text);
			END IF;
		END IF;
	WHEN 'cart' THEN
		PERFORM walk.run('reserve_stock(%L, ttl => %L, idempotency_key => %s)', (SELECT jsonb_agg(i - 'unit_price') FROM jsonb_array_elements(walk.items()) i)::text, walk.pick('1 hour', '0.3 seconds'));
	WHEN 'take_over' THEN
		SELECT r.reservation_id INTO id FROM order_engine.reservation r
		WHERE r.state = 'held' AND NOT EXISTS (SELECT FROM order_engine.orders o WHERE o.order_id = r.reservation_id)
		ORDER BY random() LIMIT 1;
		IF FOUND THEN
			PERFORM walk.run('place_order(''C0'', %L, ''EUR'', terms => ''invoice'', reservation_id => %L, idempotency_key => %s)',
				walk.items()::text, id::text);
		END IF;
	WHEN 'release' THEN
		SELECT r.reservation_id INTO id FROM order_engine.reservation r
		WHERE r.state = 'held' AND NOT EXISTS (SELECT FROM order_engine.orders o WHERE o.order_id = r.reservation_id)
		ORDER BY random() LIMIT 1;
		IF FOUND THEN
			PERFORM walk.run('release_stock(%L, ''walk'', %s)', id::text);
		END IF;
	WHEN 'adjust' THEN
		PERFORM walk.run('adjust_stock(%L, %L, %L, ''walk'', idempotency_key => %s)', walk.sku(), walk.pick('default', 'L1'),
			walk.pick('20', '20', '-1', '-3'));
	WHEN 'transfer' THEN
		PERFORM walk.run('transfer_stock(%L, ''default'', ''L1'', %L, ''walk'', %s)', walk.sku(), (1 + floor(random() * 3))::text);
	WHEN 'slots' THEN
		PERFORM walk.run('set_slots(%L, ''default'', %L, %s)', walk.sku(), walk.pick('1', '2', '4', '8'));
	WHEN 'force' THEN
		id := walk.an_order();
		PERFORM walk.run('force_transition(''order'', %L, %L, ''walk'', idempotency_key => %s)', id::text, walk.an_event('order', id));
	WHEN 'maintenance' THEN
		PERFORM order_engine.run_maintenance(20);
	WHEN 'by_hand' THEN
		-- somebody who does not know of the verbs
		kind := walk.pick('order', 'fulfillment', 'return');
		IF kind = 'order' THEN
			id := walk.an_order();
			UPDATE order_engine.orders SET state = coalesce((SELECT a.to_state FROM order_engine.allowed_events('order', id) a ORDER BY random() LIMIT 1), state)
			WHERE order_id = id;
		ELSIF kind = 'fulfillment' THEN
			id := walk.a_part(kind);
			IF id IS NOT NULL THEN
				UPDATE order_engine.fulfillment SET state = coalesce((SELECT a.to_state FROM order_engine.allowed_events(kind, id) a ORDER BY random() LIMIT 1), state)
				WHERE fulfillment_id = id;
			END IF;
		ELSE
			id := walk.a_part(kind);
			IF id IS NOT NULL THEN
				UPDATE order_engine.order_return SET state = coalesce((SELECT a.to_state FROM order_engine.allowed_events(kind, id) a ORDER BY random() LIMIT 1), state)
				WHERE return_id = id;
			END IF;
		END IF;
	END CASE;
END $$;

/*
 * One step, with the error that it ended in, or that was made up to see what a
 * rollback leaves.
 */
CREATE FUNCTION walk.step(verbs text[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	verb text := verbs[1 + floor(random() * cardinality(verbs))::int];
	detail text;
	context text;
BEGIN
	PERFORM walk.step_of(verb);
	IF walk.chance(0.03) THEN
		RAISE EXCEPTION 'the caller changed his mind' USING ERRCODE = 'WALK0';
	END IF;
	INSERT INTO walk.outcome VALUES (verb, '00000', NULL);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, context = PG_EXCEPTION_CONTEXT;
	INSERT INTO walk.outcome VALUES (verb, SQLSTATE, SQLERRM, detail, context);
END $$;
