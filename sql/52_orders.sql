/* Place, cancel and read orders. */

CREATE FUNCTION order_engine.was_replayed() RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'oe_was_replayed';
COMMENT ON FUNCTION order_engine.was_replayed() IS
'Whether the last verb of this transaction returned a stored result, because its idempotency key was known, and did nothing.';

CREATE FUNCTION order_engine.place_order(
	customer_id text,
	items jsonb,
	currency text,
	order_number text DEFAULT NULL,
	channel text DEFAULT 'default',
	region text DEFAULT NULL,
	terms text DEFAULT 'prepaid',
	shipping numeric DEFAULT 0,
	tax numeric DEFAULT 0,
	discount numeric DEFAULT 0,
	expected_total numeric DEFAULT NULL,
	hold_for interval DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	seller text DEFAULT NULL,
	location text DEFAULT NULL,
	reservation_id bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_place_order';
COMMENT ON FUNCTION order_engine.place_order(text, jsonb, text, text, text, text, text, numeric, numeric, numeric, numeric, interval, jsonb, text, text, text, bigint) IS
'Places an order, reserves its stock and returns its order_id; all of it or nothing. '
'items: [{"sku", "quantity", "unit_price", "location", "seller", "metadata"}, ...], of which sku and quantity are required; unit_price (a number, or a number as text) defaults to the price of the product, location to a choice: the locations of the channel in their order, or for a channel without any all of them by priority, then most stock. At most 1,000 items, with 768 KiB of text in all, so that the event, which tells every line, stays below 1 MiB; metadata has at most 64 KiB, no number more than 1,000 digits. '
'Amounts are in units of the currency and have no more decimals than it. total = lines + shipping + tax - discount; expected_total makes any other total an error. '
'order_number is unique per tenant and channel and defaults to the order_id; hold_for says how long the stock is reserved and defaults to order_engine.hold_time; seller and location are those of the items that name none. '
'reservation_id is a reservation of reserve_stock (a cart) that the order takes over: what it still holds goes to the order without being free in between, what the order does not need is given back, and what is gone is reserved anew. Its rows are released then. '
'A repeated call with the same idempotency_key returns the first one''s order_id. '
'Errors: 22004 and 22023 for arguments (of an item, DETAIL has position and key) and for the reservation of an order, 23505 for an order_number that is taken, OE005 for an unknown reservation, OE101 and OE102 for the key, OE201 with every line that is short, OE203 with every unknown SKU, OE303 and OE304 for currency and total, 40001 and 55P03 for concurrent calls with the same key.';

CREATE FUNCTION order_engine.cancel_order(
	order_id bigint,
	reason text,
	items jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	expected_version bigint DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_cancel_order';
COMMENT ON FUNCTION order_engine.cancel_order(bigint, text, jsonb, text, bigint) IS
'Cancels an order, or with items ([{"line_no", "quantity"}, ...]) some units of it, gives their stock back and returns the order''s state. '
'Cancelled units lower lines_total and total; shipping, tax and discount stay. Whoever cancels the last units cancels the order. '
'Errors: 22004 and 22023 for arguments and for a discount that would exceed the rest, OE001 when the state has no event cancel, OE002 when something was shipped, OE003 when the order does not have the expected version, OE005 for a missing order, OE101 and OE102 for the key, OE301 for more units than can be cancelled.';

CREATE FUNCTION order_engine.order_json(order_id bigint) RETURNS jsonb
LANGUAGE C STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_order_json';
COMMENT ON FUNCTION order_engine.order_json(bigint) IS
'An order as {"order": {...}, "lines": [...], "reservations": [...], "payments": [{..., "transactions": [...]}], "fulfillments": [{..., "lines": [...]}], "returns": [{..., "lines": [...]}], "holds": [...], "history": [...]}, personal data included. Errors: OE005 for a missing order.';
