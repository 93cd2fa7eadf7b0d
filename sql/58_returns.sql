/* Returns: what the customer sends back, and what becomes of it. */

CREATE FUNCTION order_engine.create_return(
	order_id bigint,
	items jsonb,
	reason text,
	refund_amount numeric DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_create_return';
COMMENT ON FUNCTION order_engine.create_return(bigint, jsonb, text, numeric, jsonb, bigint, text) IS
'Requests the return of units that were shipped and returns its return_id; also for an order that is completed. items: [{"line_no", "quantity", "reason"}, ...]; reason is a word to group by, such as too_small. '
'refund_amount, in the currency of the order, is what is refunded when the return is closed; without it, the price of the units that came back. '
'transition(''return'', ...) approves, declines, cancels and closes it, receive_return() receives it. '
'Errors: 22004 and 22023 for arguments and an unknown line, OE003 when the order does not have the expected version, OE005 for a missing order, OE101 and OE102 for the key, OE301 for more units than were shipped and are in no other return.';

CREATE FUNCTION order_engine.receive_return(
	return_id bigint,
	items jsonb DEFAULT NULL,
	reason text DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_receive_return';
COMMENT ON FUNCTION order_engine.receive_return(bigint, jsonb, text, bigint, text) IS
'Receives an approved return and returns its state. items tells what came: [{"line_no", "quantity", "disposition", "location"}, ...]; disposition is restock (the default: into stock), damaged (kept aside) or discard (thrown away, or left with the customer). What is not listed did not come; without items all of it came and goes into stock. '
'location is where units go into stock; by default where such units of the order were shipped from, the one with the lowest priority number if there are several, else the location with the lowest number of all. '
'A return that is received already stays as it is. expected_version is that of the order. '
'Errors: 22004 and 22023 for arguments and an unknown line, OE001 when it is not approved, OE002 when units came back otherwise, OE003 when the order does not have the expected version, OE005 for a missing return or location, OE101 and OE102 for the key, OE301 for more units than the return has.';
