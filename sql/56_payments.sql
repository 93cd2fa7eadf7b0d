/* Payments: request them, record what became of them, refund them. */

CREATE FUNCTION order_engine.request_payment(
	order_id bigint,
	kind text,
	amount numeric DEFAULT NULL,
	method text DEFAULT NULL,
	provider text DEFAULT 'default',
	payment_id bigint DEFAULT NULL,
	reason text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_request_payment';
COMMENT ON FUNCTION order_engine.request_payment(bigint, text, numeric, text, text, bigint, text, jsonb, bigint, text) IS
'Asks a payment service for something, by an event, and returns the transaction_id with which the service reports back to record_payment(). '
'kind: authorization, or capture (authorized and captured at once), makes a new payment; its event is payment.requested. With payment_id, capture captures an authorization, or part of it, and void gives up what is left of one (payment.capture_requested, payment.void_requested). '
'amount, in the currency of the order, defaults to what the order still needs, at most what is left of the authorization; for a void to all that is left. Requests that are not decided yet count against every limit. '
'metadata is stored in a new payment and in history. '
'Errors: 22004 and 22023 for arguments, OE002 (guard order_open) for new money on an order that was cancelled or has expired, OE003 when the order has another version than expected_version, OE005 for a missing order or payment, OE101 and OE102 for the key, OE301 with limit and requested for more than is possible.';

CREATE FUNCTION order_engine.record_payment(
	transaction_id bigint,
	outcome text,
	provider_ref text DEFAULT NULL,
	amount numeric DEFAULT NULL,
	details jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_record_payment';
COMMENT ON FUNCTION order_engine.record_payment(bigint, text, text, numeric, jsonb, text) IS
'Records what a payment service reports of a transaction, and returns the state of the transaction: pending, success or failure. '
'outcome: success, failure, pending, or timeout, which stays pending until somebody learns more. The same report again changes nothing, and pending or timeout after a decision neither. '
'provider_ref is the service''s own reference; amount defaults to what was requested and may be less. '
'details is kept; of it the engine understands "final": true (a failure that no further attempt will mend) and "expires_at" (end of an authorization). Never put card data there. '
'A failed new payment is requested again until order_engine.payment_attempts are used up; then it has failed, and so has a prepaid order that nothing else pays. A success on an order that was cancelled or has expired is recorded, and its void or refund requested at once. '
'Errors: 22004, 22007 and 22023 for arguments, OE005 for a missing transaction, OE101 and OE102 for the key, OE301 for more than was requested, OE302 with stored and given for a report that contradicts an earlier one or a reference that another transaction has.';

CREATE FUNCTION order_engine.refund(
	order_id bigint,
	amount numeric DEFAULT NULL,
	reason text DEFAULT NULL,
	items jsonb DEFAULT NULL,
	payment_id bigint DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS bigint[]
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_refund';
COMMENT ON FUNCTION order_engine.refund(bigint, numeric, text, jsonb, bigint, jsonb, bigint, text) IS
'Requests refunds, by events payment.refund_requested, and returns their transaction_ids: one for each payment that is needed, the oldest first, or one of payment_id. '
'amount, in the currency of the order, defaults to the price of items ([{"line_no", "quantity"}, ...]), else to all that can be refunded: what was captured and neither refunded, charged back nor requested. '
'What the customer had not overpaid is added to credited_total of the order at once, and taken off again if the refund fails. '
'Errors: 22004 and 22023 for arguments, OE003 when the order has another version than expected_version, OE005 for a missing order or payment, OE101 and OE102 for the key, OE301 with limit and requested for more than can be refunded.';

CREATE FUNCTION order_engine.record_chargeback(
	payment_id bigint,
	amount numeric,
	provider_ref text,
	reason text DEFAULT NULL,
	details jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_record_chargeback';
COMMENT ON FUNCTION order_engine.record_chargeback(bigint, numeric, text, text, jsonb, text) IS
'Records that the customer''s bank took money back, places a hold with the reason chargeback on the order, and returns the transaction_id. '
'The same provider_ref with the same payment and amount again changes nothing. '
'Errors: 22004 and 22023 for arguments, OE005 for a missing payment, OE101 and OE102 for the key, OE301 for more than was captured, OE302 for a provider_ref of another chargeback.';

CREATE FUNCTION order_engine.retry_payment(payment_id bigint) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_retry_payment';
COMMENT ON FUNCTION order_engine.retry_payment(bigint) IS
'Internal: requests a payment again whose next_attempt_at has come, for no more than its order still needs, and returns true; false when it was too early, or is given up because the order ended or needs nothing any more.';

CREATE FUNCTION order_engine.postpone_payment(payment_id bigint, until timestamptz) RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'oe_postpone_payment';
COMMENT ON FUNCTION order_engine.postpone_payment(bigint, timestamptz) IS
'Internal: sets next_attempt_at of a payment whose order is locked.';

CREATE FUNCTION order_engine.retry_payments(batch integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET order_engine.tenant = ''
AS $$
DECLARE
	due record;
	retried integer := 0;
BEGIN
	IF batch IS NULL THEN
		RAISE EXCEPTION 'argument "batch" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF batch < 1 THEN
		RAISE EXCEPTION 'argument "batch" must be greater than 0' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- orders that somebody works on have their turn later, so nobody is waited for
	FOR due IN
		SELECT p.payment_id, o.tenant
		FROM order_engine.payment p JOIN order_engine.orders o ON o.order_id = p.order_id
		WHERE p.next_attempt_at <= clock_timestamp()
		ORDER BY p.next_attempt_at LIMIT batch
		FOR NO KEY UPDATE OF o SKIP LOCKED
	LOOP
		PERFORM set_config('order_engine.tenant', due.tenant, true);
		BEGIN
			retried := retried + order_engine.retry_payment(due.payment_id)::integer;
		EXCEPTION
			WHEN lock_not_available OR deadlock_detected OR serialization_failure THEN
				NULL;		-- its turn comes again
			WHEN OTHERS THEN
				RAISE LOG 'order_engine: payment % was not retried (SQLSTATE %)', due.payment_id, SQLSTATE;
				BEGIN
					PERFORM order_engine.postpone_payment(due.payment_id, clock_timestamp() + interval '5 minutes');
				EXCEPTION WHEN OTHERS THEN
					NULL;
				END;
		END;
	END LOOP;
	RETURN retried;
END
$$;
COMMENT ON FUNCTION order_engine.retry_payments(integer) IS
'Requests payments again whose next_attempt_at has come, at most batch of them and each for no more than its order still needs, and returns how many; orders that are locked wait for the next call, and one that fails is tried again after 5 minutes and reported in the server log. History and events name the tenant of the order. Called by maintenance. Errors: 22004 and 22023.';
