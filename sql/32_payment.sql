/*
 * Payments of an order: an intent and its transactions.
 *
 * The tables of an order's parts (payment, fulfillment, order_return) begin with
 * the same eight columns, which one trigger serves.
 */

CREATE TABLE order_engine.payment (
	payment_id		bigint		PRIMARY KEY,
	order_id		bigint		NOT NULL,
	machine_id		integer		NOT NULL,
	state			text		NOT NULL,
	state_since		timestamptz	NOT NULL,
	expires_at		timestamptz,
	created_at		timestamptz	NOT NULL,
	updated_at		timestamptz	NOT NULL,
	amount			numeric		NOT NULL CHECK (amount > numeric '0'),
	authorized		numeric		NOT NULL DEFAULT 0,
	captured		numeric		NOT NULL DEFAULT 0,
	voided			numeric		NOT NULL DEFAULT 0,
	refunded		numeric		NOT NULL DEFAULT 0,
	charged_back	numeric		NOT NULL DEFAULT 0,
	attempts		integer		NOT NULL DEFAULT 0 CHECK (attempts >= 0),
	next_attempt_at	timestamptz,
	kind			text		NOT NULL CHECK (kind = ANY ('{authorization,capture}')),
	currency		text		NOT NULL,
	provider		text		NOT NULL,
	method			text,
	metadata		jsonb,
	CONSTRAINT payment_amounts_check CHECK (least(authorized, captured, voided, refunded, charged_back) >= numeric '0'),
	CHECK (captured + voided <= authorized),
	CHECK (refunded <= captured)
) WITH (fillfactor = 80);
CREATE INDEX payment_order_idx ON order_engine.payment (order_id);
CREATE INDEX payment_expires_idx ON order_engine.payment (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX payment_next_attempt_idx ON order_engine.payment (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
COMMENT ON TABLE order_engine.payment IS
'Payment intents: one row for each way in which an order is, or was to be, paid. Amounts are sums of its transactions and are kept by the engine.';
COMMENT ON COLUMN order_engine.payment.payment_id IS 'Id of the payment.';
COMMENT ON COLUMN order_engine.payment.order_id IS 'The order that it pays.';
COMMENT ON COLUMN order_engine.payment.machine_id IS 'The machine version that it was created under.';
COMMENT ON COLUMN order_engine.payment.state IS 'State in its machine: pending, authorized, captured, refunded, failed, voided or expired.';
COMMENT ON COLUMN order_engine.payment.state_since IS 'When it entered the state.';
COMMENT ON COLUMN order_engine.payment.expires_at IS 'When the time limit of the state passes, such as the validity of an authorization; null when it has none.';
COMMENT ON COLUMN order_engine.payment.created_at IS 'When it was requested.';
COMMENT ON COLUMN order_engine.payment.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN order_engine.payment.amount IS 'What it was requested for, in currency.';
COMMENT ON COLUMN order_engine.payment.authorized IS 'Authorized, in currency, before captures and voids: the sum of the authorizations, or of captures and voids where that is more, as in a capture without an authorization.';
COMMENT ON COLUMN order_engine.payment.captured IS 'Captured, in currency, before refunds.';
COMMENT ON COLUMN order_engine.payment.voided IS 'Authorized and given up without capture, in currency: by voids, and when the authorization expired, which is recorded as a void that succeeded.';
COMMENT ON COLUMN order_engine.payment.refunded IS 'Refunded, in currency.';
COMMENT ON COLUMN order_engine.payment.charged_back IS 'Taken back by the customer''s bank, in currency.';
COMMENT ON COLUMN order_engine.payment.attempts IS 'Failed attempts to authorize or capture.';
COMMENT ON COLUMN order_engine.payment.next_attempt_at IS 'When it is requested once more; null when nothing is planned.';
COMMENT ON COLUMN order_engine.payment.kind IS 'authorization: to be captured later; capture: authorized and captured at once.';
COMMENT ON COLUMN order_engine.payment.currency IS 'ISO 4217 code of every amount of the row: the currency of the order.';
COMMENT ON COLUMN order_engine.payment.provider IS 'The payment service, as the application names it.';
COMMENT ON COLUMN order_engine.payment.method IS 'Means of payment, such as card, free text.';
COMMENT ON COLUMN order_engine.payment.metadata IS 'Free for the application; never card data.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.payment', '');

CREATE TABLE order_engine.payment_transaction (
	transaction_id	bigint		PRIMARY KEY,
	payment_id		bigint		NOT NULL,
	order_id		bigint		NOT NULL,
	amount			numeric		NOT NULL CHECK (amount > numeric '0'),
	requested		numeric		NOT NULL CHECK (requested > numeric '0'),
	created_at		timestamptz	NOT NULL,
	updated_at		timestamptz	NOT NULL,
	decided_at		timestamptz,
	return_id		bigint,
	attempt			integer		NOT NULL DEFAULT 1 CHECK (attempt > 0),
	kind			text		NOT NULL CHECK (kind = ANY ('{authorization,capture,void,refund,chargeback}')),
	state			text		NOT NULL CHECK (state = ANY ('{initial,pending,success,failure}')),
	provider		text		NOT NULL,
	provider_ref	text,
	reason			text,
	details			jsonb,
	credited		numeric		NOT NULL DEFAULT 0 CHECK (credited >= numeric '0'),
	CHECK ((decided_at IS NOT NULL) = (state IN ('success', 'failure')))
) WITH (fillfactor = 80);
CREATE INDEX payment_transaction_payment_idx ON order_engine.payment_transaction (payment_id);
CREATE INDEX payment_transaction_order_idx ON order_engine.payment_transaction (order_id);
CREATE INDEX payment_transaction_open_idx ON order_engine.payment_transaction (created_at) WHERE state IN ('initial', 'pending');
CREATE UNIQUE INDEX payment_transaction_provider_ref_key ON order_engine.payment_transaction (provider, kind, provider_ref)
	WHERE provider_ref IS NOT NULL;
COMMENT ON TABLE order_engine.payment_transaction IS
'What was asked of a payment service and what it answered: one row an operation.';
COMMENT ON COLUMN order_engine.payment_transaction.transaction_id IS 'Id of the transaction; the payment service reports back with it.';
COMMENT ON COLUMN order_engine.payment_transaction.payment_id IS 'The payment.';
COMMENT ON COLUMN order_engine.payment_transaction.order_id IS 'The order.';
COMMENT ON COLUMN order_engine.payment_transaction.amount IS 'Amount, in the currency of the order: what was requested, or what the service reported.';
COMMENT ON COLUMN order_engine.payment_transaction.requested IS 'What was requested, in the currency of the order.';
COMMENT ON COLUMN order_engine.payment_transaction.created_at IS 'When it was requested.';
COMMENT ON COLUMN order_engine.payment_transaction.updated_at IS 'When something was last reported.';
COMMENT ON COLUMN order_engine.payment_transaction.decided_at IS 'When success or failure was reported; null before.';
COMMENT ON COLUMN order_engine.payment_transaction.return_id IS 'The return that a refund belongs to; else null.';
COMMENT ON COLUMN order_engine.payment_transaction.attempt IS 'Number of the attempt, from 1.';
COMMENT ON COLUMN order_engine.payment_transaction.kind IS 'authorization, capture, void, refund or chargeback.';
COMMENT ON COLUMN order_engine.payment_transaction.state IS 'initial: requested, nothing heard; pending: the service has it, or did not answer in time; success; failure.';
COMMENT ON COLUMN order_engine.payment_transaction.provider IS 'The payment service.';
COMMENT ON COLUMN order_engine.payment_transaction.provider_ref IS 'The service''s own reference, unique for provider and kind; null until reported.';
COMMENT ON COLUMN order_engine.payment_transaction.reason IS 'Why it was requested.';
COMMENT ON COLUMN order_engine.payment_transaction.details IS 'What the service told, such as a decline code; never card data.';
COMMENT ON COLUMN order_engine.payment_transaction.credited IS 'What the request of a refund added to credited_total of the order, because it was not overpaid, in currency.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.payment_transaction', '');
