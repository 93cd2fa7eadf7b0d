/* Fulfillments of an order: what leaves one location together. */

CREATE TABLE order_engine.fulfillment (
	fulfillment_id	bigint		PRIMARY KEY,
	order_id		bigint		NOT NULL,
	machine_id		integer		NOT NULL,
	state			text		NOT NULL,
	state_since		timestamptz	NOT NULL,
	expires_at		timestamptz,
	created_at		timestamptz	NOT NULL,
	updated_at		timestamptz	NOT NULL,
	shipped_at		timestamptz,
	delivered_at	timestamptz,
	location		text,
	tracking		jsonb,
	metadata		jsonb
) WITH (fillfactor = 80);
CREATE INDEX fulfillment_order_idx ON order_engine.fulfillment (order_id);
CREATE INDEX fulfillment_expires_idx ON order_engine.fulfillment (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE order_engine.fulfillment IS
'Fulfillments: units of an order that leave one location together, in one or more parcels.';
COMMENT ON COLUMN order_engine.fulfillment.fulfillment_id IS 'Id of the fulfillment.';
COMMENT ON COLUMN order_engine.fulfillment.order_id IS 'The order.';
COMMENT ON COLUMN order_engine.fulfillment.machine_id IS 'The machine version that it was created under.';
COMMENT ON COLUMN order_engine.fulfillment.state IS 'State in its machine: pending, ready, shipped, delivered, cancelled, undeliverable or returned.';
COMMENT ON COLUMN order_engine.fulfillment.state_since IS 'When it entered the state.';
COMMENT ON COLUMN order_engine.fulfillment.expires_at IS 'When the time limit of the state passes; null when it has none.';
COMMENT ON COLUMN order_engine.fulfillment.created_at IS 'When it was made.';
COMMENT ON COLUMN order_engine.fulfillment.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN order_engine.fulfillment.shipped_at IS 'Milestone: shipped.';
COMMENT ON COLUMN order_engine.fulfillment.delivered_at IS 'Milestone: delivered.';
COMMENT ON COLUMN order_engine.fulfillment.location IS 'Where it ships from; null: wherever the order''s stock is reserved.';
COMMENT ON COLUMN order_engine.fulfillment.tracking IS 'Its parcels: an array of objects with carrier, number and url; null when not known.';
COMMENT ON COLUMN order_engine.fulfillment.metadata IS 'Free for the application.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.fulfillment', '');

CREATE TABLE order_engine.fulfillment_line (
	fulfillment_id	bigint		NOT NULL,
	line_no			integer		NOT NULL,
	quantity		integer		NOT NULL CHECK (quantity > 0),
	open			integer		NOT NULL CHECK (open >= 0),
	shipped			integer		NOT NULL DEFAULT 0,
	delivered		integer		NOT NULL DEFAULT 0 CHECK (delivered >= 0),
	undelivered		integer		NOT NULL DEFAULT 0 CHECK (undelivered >= 0),
	PRIMARY KEY (fulfillment_id, line_no),
	CHECK (delivered + undelivered <= shipped AND shipped + open <= quantity)
);
COMMENT ON TABLE order_engine.fulfillment_line IS 'What a fulfillment has of each line of its order.';
COMMENT ON COLUMN order_engine.fulfillment_line.fulfillment_id IS 'The fulfillment.';
COMMENT ON COLUMN order_engine.fulfillment_line.line_no IS 'Line of the order.';
COMMENT ON COLUMN order_engine.fulfillment_line.quantity IS 'Units that it was made for.';
COMMENT ON COLUMN order_engine.fulfillment_line.open IS 'Units that wait to be shipped with it, and that no other fulfillment can have; 0 once it is shipped or cancelled.';
COMMENT ON COLUMN order_engine.fulfillment_line.shipped IS 'Units that were shipped.';
COMMENT ON COLUMN order_engine.fulfillment_line.delivered IS 'Units of these that were delivered.';
COMMENT ON COLUMN order_engine.fulfillment_line.undelivered IS 'Units of these that could not be delivered and came back.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.fulfillment_line', '');
