/*
 * What a shop without the extension would keep, and how it would place an order.
 *
 * The figure creates a schema for each hand-written form, sets search_path, and runs
 * this.  The tables are those of order_engine: same columns, defaults, checks, indexes
 * and fill factors, as LIKE copies them.  They have no triggers, and the outbox has one
 * table where the extension has a ring of eight.
 *
 * Each form makes the writes of place_order and reads the price of each product, as
 * that does: one row in orders, idempotency_key, history and outbox, three in order_line,
 * reservation and stock_movement, and three rows of stock, each by a conditional
 * UPDATE, in the order of their keys and last.  They leave out everything else that
 * place_order does: to check their arguments, to round by the currency's minor units, to look
 * for the state machine's transition, to fold duplicate SKUs, to choose a location or slot, to
 * take back expired reservations, to tell what is short.
 *
 * What stands between "full" and "/full", history and ledger, is left out of the lean forms, and
 * their tables have no CHECK constraints, which an INSERT through the executor reads anew each time.
 */

CREATE TABLE product (LIKE order_engine.product INCLUDING ALL);
CREATE TABLE orders (LIKE order_engine.orders INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE order_line (LIKE order_engine.order_line INCLUDING ALL);
CREATE TABLE stock (LIKE order_engine.stock INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE reservation (LIKE order_engine.reservation INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE stock_movement (LIKE order_engine.stock_movement INCLUDING ALL);
CREATE TABLE idempotency_key (LIKE order_engine.idempotency_key INCLUDING ALL);
CREATE TABLE history (LIKE order_engine.history INCLUDING ALL);
CREATE TABLE outbox (LIKE order_engine.outbox_0 INCLUDING ALL);
CREATE SEQUENCE order_id_seq;

INSERT INTO product SELECT * FROM order_engine.product;
INSERT INTO stock SELECT * FROM order_engine.stock;
UPDATE stock SET reserved = 0 WHERE reserved <> 0;

/* The whole order in PL/pgSQL; p_skus are sorted and each stands there once. */
CREATE FUNCTION place(p_customer text, p_skus text[], p_quantities integer[], p_currency text, p_key text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v_now timestamptz := clock_timestamp();
	v_until timestamptz := v_now + interval '30 minutes';
	v_id bigint := nextval('order_id_seq');
	v_total numeric;
	v_lines jsonb;
BEGIN
	INSERT INTO idempotency_key (created_at, request_hash, scope, key, operation, result)
	VALUES (v_now, md5(p_customer || p_skus::text || p_quantities::text || p_currency)::uuid,
		session_user, p_key, 'place_order', v_id);

	WITH line AS (
		INSERT INTO order_line (order_id, line_no, quantity, tracked, sku, unit_price, line_total)
		SELECT v_id, i.n, i.quantity, p.tracked, p.sku, p.unit_price, p.unit_price * i.quantity
		FROM unnest(p_skus, p_quantities) WITH ORDINALITY AS i (sku, quantity, n) JOIN product p USING (sku)
		RETURNING line_no, sku, quantity, unit_price, line_total)
	SELECT sum(line_total), jsonb_agg(jsonb_build_object('line_no', line_no, 'sku', sku, 'quantity', quantity,
		'unit_price', unit_price, 'line_total', line_total))
	INTO v_total, v_lines FROM line;

	INSERT INTO orders (order_id, last_txid, machine_id, state, state_since, expires_at, order_number, customer_id,
		currency, lines_total, total, placed_at, created_at, updated_at)
	VALUES (v_id, pg_current_xact_id(), 1, 'pending', v_now, v_until, v_id, p_customer,
		p_currency, v_total, v_total, v_now, v_now, v_now);
	/* full */
	INSERT INTO history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, actor, created_at)
	VALUES (v_id, 'order', v_id, 1, 'place', 'draft', 'pending', 1, session_user, v_now);
	/* /full */
	INSERT INTO outbox (txid, created_at, aggregate_seq, leaf, shard, id, aggregatetype, aggregateid, type, payload, headers)
	VALUES (pg_current_xact_id(), v_now, 1, 0, hashint8(v_id) & 15, gen_random_uuid(), 'order', v_id, 'order.placed',
		jsonb_build_object('to', 'pending', 'from', 'draft', 'event', 'place', 'lines', v_lines, 'total', v_total,
			'channel', 'default', 'version', 1, 'currency', p_currency, 'order_id', v_id,
			'customer_id', p_customer, 'order_number', v_id::text),
		jsonb_build_object('actor', session_user));
	INSERT INTO reservation (reservation_id, expires_at, created_at, quantity, slot, sku, location, state)
	SELECT v_id, v_until, v_now, i.quantity, 0, i.sku, 'default', 'held' FROM unnest(p_skus, p_quantities) AS i (sku, quantity);
	/* full */
	INSERT INTO stock_movement (reference_id, created_at, on_hand_delta, reserved_delta, slot, sku, location, kind, actor)
	SELECT v_id, v_now, 0, i.quantity, 0, i.sku, 'default', 'reserve', session_user
	FROM unnest(p_skus, p_quantities) AS i (sku, quantity);
	/* /full */
	FOR i IN 1 .. cardinality(p_skus) LOOP
		UPDATE stock SET reserved = reserved + p_quantities[i]
		WHERE sku = p_skus[i] AND location = 'default' AND slot = 0
			AND reserved + p_quantities[i] <= on_hand + backorder_limit - safety_stock;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'not enough of %', p_skus[i];
		END IF;
	END LOOP;
	RETURN v_id;
END
$$;

/* With a look for the key before, as for calls that are likely to be repeated ones. */
CREATE FUNCTION place_once(p_customer text, p_skus text[], p_quantities integer[], p_currency text, p_key text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v_stored idempotency_key;
BEGIN
	SELECT * INTO v_stored FROM idempotency_key WHERE scope = session_user AND key = p_key;
	IF FOUND THEN
		IF v_stored.operation <> 'place_order'
			OR v_stored.request_hash <> md5(p_customer || p_skus::text || p_quantities::text || p_currency)::uuid THEN
			RAISE EXCEPTION 'key % was used with another request', p_key;
		END IF;
		RETURN v_stored.result;
	END IF;
	RETURN place(p_customer, p_skus, p_quantities, p_currency, p_key);
END
$$;
