/* Returns of an order: what the customer sends back. */

CREATE TABLE order_engine.order_return (
	return_id		bigint		PRIMARY KEY,
	order_id		bigint		NOT NULL,
	machine_id		integer		NOT NULL,
	state			text		NOT NULL,
	state_since		timestamptz	NOT NULL,
	expires_at		timestamptz,
	created_at		timestamptz	NOT NULL,
	updated_at		timestamptz	NOT NULL,
	received_at		timestamptz,
	refund_amount	numeric		CHECK (refund_amount >= numeric '0'),
	reason			text		NOT NULL,
	metadata		jsonb
) WITH (fillfactor = 80);
CREATE INDEX order_return_order_idx ON order_engine.order_return (order_id);
CREATE INDEX order_return_expires_idx ON order_engine.order_return (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE order_engine.order_return IS 'Returns: units of an order that the customer wants to send back, or did.';
COMMENT ON COLUMN order_engine.order_return.return_id IS 'Id of the return.';
COMMENT ON COLUMN order_engine.order_return.order_id IS 'The order.';
COMMENT ON COLUMN order_engine.order_return.machine_id IS 'The machine version that it was created under.';
COMMENT ON COLUMN order_engine.order_return.state IS 'State in its machine: requested, approved, received, closed, declined or cancelled.';
COMMENT ON COLUMN order_engine.order_return.state_since IS 'When it entered the state.';
COMMENT ON COLUMN order_engine.order_return.expires_at IS 'When the time limit of the state passes; null when it has none.';
COMMENT ON COLUMN order_engine.order_return.created_at IS 'When it was requested.';
COMMENT ON COLUMN order_engine.order_return.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN order_engine.order_return.received_at IS 'Milestone: received.';
COMMENT ON COLUMN order_engine.order_return.refund_amount IS 'What is refunded when it is closed, in the currency of the order; null until then: the price of the units that were received. Closing it writes that down.';
COMMENT ON COLUMN order_engine.order_return.reason IS 'Why, as the caller groups it, such as too_small.';
COMMENT ON COLUMN order_engine.order_return.metadata IS 'Free for the application.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.order_return', '');

CREATE TABLE order_engine.return_line (
	return_id		bigint		NOT NULL,
	line_no			integer		NOT NULL,
	quantity		integer		NOT NULL CHECK (quantity > 0),
	open			integer		NOT NULL CHECK (open BETWEEN 0 AND quantity),
	restocked		integer		NOT NULL DEFAULT 0 CHECK (restocked >= 0),
	damaged			integer		NOT NULL DEFAULT 0 CHECK (damaged >= 0),
	discarded		integer		NOT NULL DEFAULT 0 CHECK (discarded >= 0),
	location		text,
	reason			text,
	PRIMARY KEY (return_id, line_no),
	CHECK (restocked + damaged + discarded <= quantity)
);
COMMENT ON TABLE order_engine.return_line IS 'What a return has of each line of its order, and what became of it.';
COMMENT ON COLUMN order_engine.return_line.return_id IS 'The return.';
COMMENT ON COLUMN order_engine.return_line.line_no IS 'Line of the order.';
COMMENT ON COLUMN order_engine.return_line.quantity IS 'Units that are to come back.';
COMMENT ON COLUMN order_engine.return_line.open IS 'Units that have not come back yet, and that no other return can have; 0 once the return is received, declined or cancelled.';
COMMENT ON COLUMN order_engine.return_line.restocked IS 'Units that came back and went into stock.';
COMMENT ON COLUMN order_engine.return_line.damaged IS 'Units that came back damaged and were kept aside.';
COMMENT ON COLUMN order_engine.return_line.discarded IS 'Units that came back, or stayed with the customer, and are gone.';
COMMENT ON COLUMN order_engine.return_line.location IS 'Where they went into stock; null when none did.';
COMMENT ON COLUMN order_engine.return_line.reason IS 'Reason for this line, where it differs from the return''s.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.return_line', '');
