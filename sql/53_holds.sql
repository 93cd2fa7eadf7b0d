/* Holds of orders. */

CREATE FUNCTION order_engine.place_hold(
	order_id bigint,
	reason text,
	note text DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	expected_version bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_place_hold';
COMMENT ON FUNCTION order_engine.place_hold(bigint, text, text, text, bigint) IS
'Places a hold on an order and returns its hold_id. While a hold is open, the order is neither confirmed nor shipped (OE401). It may be placed in any state, and an order may have several. reason is a word to group by, such as fraud; note is for people and stays out of the event. The order stays in its state; the event is order.hold_placed. Errors: 22004 and 22023 for arguments, OE003 when the order does not have the expected version, OE005 for a missing order, OE101 and OE102 for the key.';

CREATE FUNCTION order_engine.release_hold(
	hold_id bigint,
	note text DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	expected_version bigint DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_release_hold';
COMMENT ON FUNCTION order_engine.release_hold(bigint, text, text, bigint) IS
'Releases a hold and returns true; false when it was released already. With the last open hold the order is free, and a transition that its machine makes by itself and that waited for it happens. The event is order.hold_released, with the reason of the hold. Errors: 22004 and 22023 for arguments, OE003 when the order does not have the expected version, OE005 for a missing hold, OE101 and OE102 for the key.';
