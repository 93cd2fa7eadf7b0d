/* Fulfillments: what leaves the house together, and its parcels. */

CREATE FUNCTION order_engine.create_fulfillment(
	order_id bigint,
	items jsonb DEFAULT NULL,
	location text DEFAULT NULL,
	tracking jsonb DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_create_fulfillment';
COMMENT ON FUNCTION order_engine.create_fulfillment(bigint, jsonb, text, jsonb, jsonb, bigint, text) IS
'Makes a fulfillment of units of a confirmed order and returns its fulfillment_id. items: [{"line_no", "quantity"}, ...], by default all units that are neither shipped nor cancelled nor in another fulfillment. '
'With location all of it ships from there, without from wherever the units are reserved. tracking: at most 100 parcels, [{"carrier", "number", "url"}, ...]. '
'The units are its own until it is shipped or cancelled; transition(''fulfillment'', ...) moves it. A hold does not prevent it, only shipping. '
'Errors: 22004 and 22023 for arguments and an unknown line, OE002 when the order was not confirmed or has ended, OE003 when it does not have the expected version, OE005 for a missing order or location, OE101 and OE102 for the key, OE301 for more units than there are.';

CREATE FUNCTION order_engine.set_tracking(
	fulfillment_id bigint,
	tracking jsonb,
	expected_version bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_set_tracking';
COMMENT ON FUNCTION order_engine.set_tracking(bigint, jsonb, bigint, text) IS
'Replaces the parcels of a fulfillment, in any state, and returns the state. tracking: at most 100 parcels, [{"carrier", "number", "url"}, ...]. Does nothing when they are the same. expected_version is that of the order. Errors: 22004 and 22023 for arguments, OE003 when the order does not have the expected version, OE005 for a missing fulfillment, OE101 and OE102 for the key.';
