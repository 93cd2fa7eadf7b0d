/* Products, locations and stock. */

CREATE FUNCTION order_engine.upsert_product(
	sku text,
	name text,
	unit_price numeric DEFAULT NULL,
	currency text DEFAULT NULL,
	tracked boolean DEFAULT true,
	metadata jsonb DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_upsert_product';
COMMENT ON FUNCTION order_engine.upsert_product(text, text, numeric, text, boolean, jsonb) IS
'Writes a product, new or known, and returns its sku. unit_price is in currency and may be null when every order says the price; tracked tells whether orders reserve stock. Orders keep the price they were placed with. A repetition of the call changes nothing more, so it needs no key. Errors: 22004 and 22023 for arguments.';

CREATE FUNCTION order_engine.upsert_location(
	location text,
	name text,
	region text DEFAULT NULL,
	priority integer DEFAULT 100)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_upsert_location';
COMMENT ON FUNCTION order_engine.upsert_location(text, text, text, integer) IS
'Writes a location, new or known, and returns its key. Stock is taken from the location with the lowest priority first. A repetition of the call changes nothing more, so it needs no key. Errors: 22004 and 22023 for arguments.';

CREATE FUNCTION order_engine.adjust_stock(
	sku text,
	location text,
	delta integer,
	reason text,
	expected_on_hand integer DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_adjust_stock';
COMMENT ON FUNCTION order_engine.adjust_stock(text, text, integer, text, integer, text) IS
'Adds delta units (negative: takes away) to the stock of a SKU at a location and returns the units that lie there now. With expected_on_hand only if that many lay there. '
'Errors: 22004 and 22023 for arguments, 22003 for more than 2147483647 units, OE005 for an unknown location (but "default", which is made when it is missing), OE101 and OE102 for the key, OE201 for taking away what is not there or is reserved, OE203 for an unknown SKU, OE204 when the stock is not the expected one.';

CREATE FUNCTION order_engine.reserve_stock(
	items jsonb,
	ref text DEFAULT NULL,
	ttl interval DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	channel text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_reserve_stock';
COMMENT ON FUNCTION order_engine.reserve_stock(jsonb, text, interval, text, text) IS
'Reserves stock without an order, as for a cart, and returns the reservation_id. items: [{"sku", "quantity", "location"}, ...]. ref is the caller''s own reference; ttl says how long it is held and defaults to order_engine.hold_time; with channel the stock is taken from the locations of that sales channel, as place_order does. '
'Errors: 22004 and 22023 for arguments, OE101 and OE102 for the key, OE201 with every line that is short, OE203 with every unknown SKU.';

CREATE FUNCTION order_engine.release_stock(
	reservation_id bigint,
	reason text DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_release_stock';
COMMENT ON FUNCTION order_engine.release_stock(bigint, text, text) IS
'Gives back what a reservation without an order still holds; false when that was nothing. Errors: 22004 for a null, 22023 for the reservation of an order, OE005 for a missing one, OE101 and OE102 for the key.';

CREATE FUNCTION order_engine.transfer_stock(
	sku text,
	from_location text,
	to_location text,
	quantity integer,
	reason text,
	idempotency_key text DEFAULT NULL)
RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_transfer_stock';
COMMENT ON FUNCTION order_engine.transfer_stock(text, text, text, integer, text, text) IS
'Moves units that nothing has reserved from one location to another, and returns how many. Errors: 22004 and 22023 for arguments, OE005 for an unknown location, OE101 and OE102 for the key, OE203 for an unknown SKU, OE201 when fewer units are unreserved there, 22003 for more than 2147483647 units.';

CREATE FUNCTION order_engine.set_slots(
	sku text,
	location text,
	slots integer,
	idempotency_key text DEFAULT NULL)
RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_set_slots';
COMMENT ON FUNCTION order_engine.set_slots(text, text, integer, text) IS
'Splits the stock of a SKU at a location into slots (1 to 1024), or merges it again, and returns how many there are. Orders that want the same SKU at the same moment wait for one another only within a slot; more slots than a few times the number of CPUs gain nothing. What lies there, and the limits, are spread evenly; reservations stay in their slots, and move with them when slots disappear. Orders go on meanwhile. To remove slots all reservations are read. '
'Errors: 22004 and 22023 for arguments, OE005 for an unknown location, OE101 and OE102 for the key, OE203 for an unknown SKU, 55000 for a reservation that cannot move because parts of it were lost in all slots that remain.';

CREATE FUNCTION order_engine.set_backorder_limit(
	sku text,
	location text,
	units integer,
	idempotency_key text DEFAULT NULL)
RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_set_backorder_limit';
COMMENT ON FUNCTION order_engine.set_backorder_limit(text, text, integer, text) IS
'Sets how many units of a SKU at a location may be reserved beyond what lies there, over all slots, and returns that. Errors: 22004 and 22023 for arguments, OE005 for an unknown location, OE101 and OE102 for the key, OE203 for an unknown SKU, 22023 for fewer units than are promised already.';

CREATE FUNCTION order_engine.set_safety_stock(
	sku text,
	location text,
	units integer,
	idempotency_key text DEFAULT NULL)
RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_set_safety_stock';
COMMENT ON FUNCTION order_engine.set_safety_stock(text, text, integer, text) IS
'Sets how many units of a SKU at a location are kept back from reservations, over all slots, and returns that. It may be more than is there: nothing is taken from reservations, it only stops new ones. Errors: 22004 and 22023 for arguments, OE005 for an unknown location, OE101 and OE102 for the key, OE203 for an unknown SKU.';

CREATE FUNCTION order_engine.expire_reservations(batch integer) RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_expire_reservations';
COMMENT ON FUNCTION order_engine.expire_reservations(integer) IS
'Gives back up to batch rows of reservations without an order (carts) that are past their limit, and returns how many rows that were. Rows that somebody else is changing are left for the next time. For maintenance; whoever is short of stock takes expired units back anyway. Errors: 22004 and 22023 for the argument.';

CREATE FUNCTION order_engine.set_channel_locations(channel text, locations text[])
RETURNS integer
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_set_channel_locations';
COMMENT ON FUNCTION order_engine.set_channel_locations(text, text[]) IS
'Says from which locations orders of a sales channel take their stock, the first one first, and returns how many these are (at most 100). An empty array or null: from all, by the priority of the location. An item that names a location takes it from there in any case. '
'Errors: 22004 and 22023 for arguments, OE005 for an unknown location.';

CREATE FUNCTION order_engine.verify_stock()
RETURNS TABLE (sku text, location text, slot smallint, counter text, stored bigint, expected bigint, source text)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH held AS (
		SELECT r.sku, r.location, r.slot, sum(r.quantity) AS reserved
		FROM order_engine.reservation r
		WHERE r.state = 'held'
		GROUP BY r.sku, r.location, r.slot),
	ledger AS (
		SELECT m.sku, m.location, m.slot, sum(m.on_hand_delta) AS on_hand, sum(m.reserved_delta) AS reserved
		FROM order_engine.stock_movement m
		GROUP BY m.sku, m.location, m.slot),
	comparison AS (
		SELECT sku, location, slot,
			coalesce(s.on_hand, 0) AS on_hand, coalesce(s.reserved, 0) AS reserved,
			coalesce(l.on_hand, 0) AS ledger_on_hand, coalesce(l.reserved, 0) AS ledger_reserved,
			coalesce(h.reserved, 0) AS held_reserved
		FROM order_engine.stock s
		FULL JOIN ledger l USING (sku, location, slot)
		FULL JOIN held h USING (sku, location, slot))
	SELECT c.sku, c.location, c.slot, v.counter, v.stored, v.expected, v.source
	FROM comparison c,
		LATERAL (VALUES
			('on_hand', c.on_hand, c.ledger_on_hand, 'stock_movement'),
			('reserved', c.reserved, c.ledger_reserved, 'stock_movement'),
			('reserved', c.reserved, c.held_reserved, 'reservation')) AS v (counter, stored, expected, source)
	WHERE v.stored <> v.expected
	UNION ALL
	-- not by slot: set_slots() moves reservations, but not what was shipped of them before
	SELECT sku, location, NULL, 'shipped', coalesce(r.shipped, 0), coalesce(m.shipped, 0), 'stock_movement'
	FROM (SELECT reservation.sku, reservation.location, sum(reservation.shipped) AS shipped
			FROM order_engine.reservation GROUP BY 1, 2) r
		FULL JOIN (SELECT stock_movement.sku, stock_movement.location, -sum(stock_movement.on_hand_delta) AS shipped
			FROM order_engine.stock_movement WHERE stock_movement.kind = 'ship' GROUP BY 1, 2) m USING (sku, location)
	WHERE coalesce(r.shipped, 0) <> coalesce(m.shipped, 0)
	ORDER BY 1, 2, 3, 4, 7
$$;
COMMENT ON FUNCTION order_engine.verify_stock() IS
'Compares every counter of stock with the sum of the ledger (source stock_movement) and of the reservations that are held (source reservation), and what reservations say was shipped with the ledger (counter shipped, slot null), in units, and returns what differs: nothing when all is right. Reads the three tables whole.';

/*
 * Statements written by hand: the verbs write below the SQL level and do not
 * fire these.  Nothing on INSERT, a restore must work.
 */
CREATE FUNCTION order_engine.guard_reservation() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'oe_guard_reservation';
COMMENT ON FUNCTION order_engine.guard_reservation() IS
'Trigger of order_engine.reservation: a held row that is set to released, expired or committed by hand gives its units back, or ships them, with a line in the ledger. Errors: OE001 for any other state, 428C9 for columns that the engine keeps and for deleting a held row, OE201 for shipping what does not lie there.';
CREATE TRIGGER zz_order_engine_check BEFORE UPDATE OR DELETE ON order_engine.reservation
FOR EACH ROW EXECUTE FUNCTION order_engine.guard_reservation();
CREATE TRIGGER "00_order_engine_record" AFTER UPDATE ON order_engine.reservation
FOR EACH ROW EXECUTE FUNCTION order_engine.guard_reservation();

CREATE FUNCTION order_engine.guard_stock() RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'oe_guard_stock';
COMMENT ON FUNCTION order_engine.guard_stock() IS
'Trigger of order_engine.stock: a change of on_hand or backorder_limit by hand gets a line in the ledger. Errors: 428C9 for sku, location, slot and reserved, and for deleting a row that has units.';
CREATE TRIGGER zz_order_engine_check BEFORE UPDATE OR DELETE ON order_engine.stock
FOR EACH ROW EXECUTE FUNCTION order_engine.guard_stock();
CREATE TRIGGER "00_order_engine_record" AFTER UPDATE ON order_engine.stock
FOR EACH ROW EXECUTE FUNCTION order_engine.guard_stock();
