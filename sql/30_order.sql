/*
 * The order, aggregate root, and its lines.  What every transition changes lies
 * together: of a row that changes the server logs what is between the first
 * change and the last.
 */

CREATE TABLE order_engine.orders (
	order_id			bigint		PRIMARY KEY,
	version				bigint		NOT NULL DEFAULT 1,
	last_txid			xid8		NOT NULL,
	machine_id			integer		NOT NULL,
	on_hold				boolean		NOT NULL DEFAULT false,
	state				text		NOT NULL,
	state_since			timestamptz	NOT NULL,
	updated_at			timestamptz	NOT NULL,
	expires_at			timestamptz,
	tenant				text		NOT NULL DEFAULT '',
	channel				text		NOT NULL DEFAULT 'default',
	order_number		text		NOT NULL,
	customer_id			text		NOT NULL,
	region				text,
	seller				text,
	location			text,
	terms				text		NOT NULL DEFAULT 'prepaid' CHECK (terms = ANY ('{prepaid,invoice,cash_on_delivery}')),
	currency			text		NOT NULL,
	lines_total			numeric		NOT NULL,
	shipping			numeric		NOT NULL DEFAULT 0,
	tax					numeric		NOT NULL DEFAULT 0,
	discount			numeric		NOT NULL DEFAULT 0,
	total				numeric		NOT NULL,
	authorized_total	numeric		NOT NULL DEFAULT 0,
	captured_total		numeric		NOT NULL DEFAULT 0,
	refunded_total		numeric		NOT NULL DEFAULT 0,
	charged_back_total	numeric		NOT NULL DEFAULT 0,
	credited_total		numeric		NOT NULL DEFAULT 0,
	payment_status		text		NOT NULL DEFAULT 'unpaid',
	fulfillment_status	text		NOT NULL DEFAULT 'unfulfilled',
	return_status		text		NOT NULL DEFAULT 'none',
	placed_at			timestamptz,
	confirmed_at		timestamptz,
	first_shipped_at	timestamptz,
	delivered_at		timestamptz,
	completed_at		timestamptz,
	cancelled_at		timestamptz,
	metadata			jsonb,
	created_at			timestamptz	NOT NULL,
	UNIQUE (tenant, channel, order_number),
	-- one constraint for all: the server reads the text of each anew in every UPDATE
	CONSTRAINT orders_amounts_check CHECK (least(lines_total, shipping, tax, discount, total, authorized_total,
		captured_total, refunded_total, charged_back_total, credited_total) >= numeric '0'),
	CHECK (total = lines_total + shipping + tax - discount),
	CHECK (refunded_total <= captured_total)
) WITH (fillfactor = 80);
-- Orders lie in the table in the order in which they were placed, near enough for an
-- index that costs place_order next to nothing and serves the sales of some days.
CREATE INDEX orders_placed_idx ON order_engine.orders USING brin (placed_at);
CREATE INDEX orders_expires_idx ON order_engine.orders (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE order_engine.orders IS
'One row an order: its state, money, roll-ups and milestones. The trigger of the state machine guards every UPDATE, also one written by hand.';
COMMENT ON COLUMN order_engine.orders.order_id IS 'Id of the order, unique over servers.';
COMMENT ON COLUMN order_engine.orders.version IS 'Number of events of the order; the aggregate_seq of the last one. Kept by the engine.';
COMMENT ON COLUMN order_engine.orders.last_txid IS 'Transaction that wrote the last event. Kept by the engine for the order of delivery.';
COMMENT ON COLUMN order_engine.orders.machine_id IS 'The machine version that the order was created under.';
COMMENT ON COLUMN order_engine.orders.on_hold IS 'True while a hold is open; such an order is neither confirmed nor shipped.';
COMMENT ON COLUMN order_engine.orders.state IS 'State in its machine, such as pending or confirmed.';
COMMENT ON COLUMN order_engine.orders.state_since IS 'When it entered the state.';
COMMENT ON COLUMN order_engine.orders.expires_at IS 'When the time limit of the state passes and the machine''s event for that is fired; null when the state has no limit.';
COMMENT ON COLUMN order_engine.orders.tenant IS 'order_engine.tenant when it was placed; empty without tenants.';
COMMENT ON COLUMN order_engine.orders.channel IS 'Sales channel, such as web or store.';
COMMENT ON COLUMN order_engine.orders.order_number IS 'Number for people, unique per tenant and channel.';
COMMENT ON COLUMN order_engine.orders.customer_id IS 'The customer, as the application knows him. Personal data.';
COMMENT ON COLUMN order_engine.orders.region IS 'Sales region, free text.';
COMMENT ON COLUMN order_engine.orders.seller IS 'Seller of the lines that name none; null when not given.';
COMMENT ON COLUMN order_engine.orders.location IS 'Location of the lines that name none; null when the engine chose.';
COMMENT ON COLUMN order_engine.orders.terms IS 'prepaid, invoice or cash_on_delivery: whether payment must come before confirmation.';
COMMENT ON COLUMN order_engine.orders.currency IS 'ISO 4217 code of every amount of the order.';
COMMENT ON COLUMN order_engine.orders.lines_total IS 'Sum of the line totals, in currency.';
COMMENT ON COLUMN order_engine.orders.shipping IS 'Shipping charge, in currency.';
COMMENT ON COLUMN order_engine.orders.tax IS 'Tax that is added to the lines, in currency.';
COMMENT ON COLUMN order_engine.orders.discount IS 'Discount on the whole order, in currency, a positive amount.';
COMMENT ON COLUMN order_engine.orders.total IS 'lines_total + shipping + tax - discount, in currency.';
COMMENT ON COLUMN order_engine.orders.authorized_total IS 'Authorized and not yet captured or voided, in currency, of a payment that came to its end only what is being captured.';
COMMENT ON COLUMN order_engine.orders.captured_total IS 'Captured, in currency, before refunds.';
COMMENT ON COLUMN order_engine.orders.refunded_total IS 'Refunded, in currency.';
COMMENT ON COLUMN order_engine.orders.charged_back_total IS 'Taken back by the customer''s bank, in currency.';
COMMENT ON COLUMN order_engine.orders.credited_total IS 'What the customer need not pay any more of the total: goods that came back, and goodwill; in currency. The balance is total - credited_total - (captured_total - refunded_total - charged_back_total).';
COMMENT ON COLUMN order_engine.orders.payment_status IS 'Roll-up: unpaid, authorized, partially_paid, paid, partially_refunded or refunded.';
COMMENT ON COLUMN order_engine.orders.fulfillment_status IS 'Roll-up: unfulfilled, partially_shipped, shipped, partially_delivered or delivered.';
COMMENT ON COLUMN order_engine.orders.return_status IS 'Roll-up: none, requested, partially_returned or returned.';
COMMENT ON COLUMN order_engine.orders.placed_at IS 'Milestone: placed.';
COMMENT ON COLUMN order_engine.orders.confirmed_at IS 'Milestone: confirmed (in the machine simple: paid).';
COMMENT ON COLUMN order_engine.orders.first_shipped_at IS 'Milestone: something was shipped.';
COMMENT ON COLUMN order_engine.orders.delivered_at IS 'Milestone: everything was delivered.';
COMMENT ON COLUMN order_engine.orders.completed_at IS 'Milestone: completed.';
COMMENT ON COLUMN order_engine.orders.cancelled_at IS 'Milestone: cancelled or expired.';
COMMENT ON COLUMN order_engine.orders.metadata IS 'Free for the application.';
COMMENT ON COLUMN order_engine.orders.created_at IS 'When the row was made.';
COMMENT ON COLUMN order_engine.orders.updated_at IS 'When the row was last changed.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.orders', '');

CREATE TABLE order_engine.order_line (
	order_id		bigint		NOT NULL,
	line_no			integer		NOT NULL,
	quantity		integer		NOT NULL CHECK (quantity > 0),
	cancelled		integer		NOT NULL DEFAULT 0,
	shipped			integer		NOT NULL DEFAULT 0,
	delivered		integer		NOT NULL DEFAULT 0,
	returned		integer		NOT NULL DEFAULT 0,
	undelivered		integer		NOT NULL DEFAULT 0,
	tracked			boolean		NOT NULL,
	sku				text		NOT NULL,
	location		text,
	seller			text,
	unit_price		numeric		NOT NULL CHECK (unit_price >= numeric '0'),
	line_total		numeric		NOT NULL CHECK (line_total >= numeric '0'),
	metadata		jsonb,
	PRIMARY KEY (order_id, line_no),
	CHECK (0 <= cancelled AND 0 <= delivered AND 0 <= undelivered),
	CHECK (delivered + undelivered <= shipped AND shipped <= quantity - cancelled),
	CHECK (0 <= returned AND returned + undelivered <= shipped)
);
COMMENT ON TABLE order_engine.order_line IS 'The lines of an order, with counters of what became of each.';
COMMENT ON COLUMN order_engine.order_line.order_id IS 'The order.';
COMMENT ON COLUMN order_engine.order_line.line_no IS 'Position in the items that were given, from 1.';
COMMENT ON COLUMN order_engine.order_line.quantity IS 'Units ordered.';
COMMENT ON COLUMN order_engine.order_line.cancelled IS 'Units cancelled.';
COMMENT ON COLUMN order_engine.order_line.shipped IS 'Units shipped.';
COMMENT ON COLUMN order_engine.order_line.delivered IS 'Units delivered.';
COMMENT ON COLUMN order_engine.order_line.returned IS 'Units returned.';
COMMENT ON COLUMN order_engine.order_line.undelivered IS 'Units that were shipped, could not be delivered and came back.';
COMMENT ON COLUMN order_engine.order_line.tracked IS 'Whether the line takes stock; copied from the product when the order was placed.';
COMMENT ON COLUMN order_engine.order_line.sku IS 'The product.';
COMMENT ON COLUMN order_engine.order_line.location IS 'The location that the caller asked for; null when the engine chose.';
COMMENT ON COLUMN order_engine.order_line.seller IS 'Seller of a marketplace, free text.';
COMMENT ON COLUMN order_engine.order_line.unit_price IS 'Price of one unit when placed, in the currency of the order.';
COMMENT ON COLUMN order_engine.order_line.line_total IS 'unit_price times the units that remain after partial cancellations, rounded to the currency. The cancellation of the whole order leaves it.';
COMMENT ON COLUMN order_engine.order_line.metadata IS 'Free for the application.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.order_line', '');
