/* Stock: counters, who holds them, and the ledger of every change. */

CREATE TABLE order_engine.stock (
	on_hand			integer		NOT NULL DEFAULT 0 CHECK (on_hand >= 0),
	reserved		integer		NOT NULL DEFAULT 0,
	backorder_limit	integer		NOT NULL DEFAULT 0 CHECK (backorder_limit >= 0),
	safety_stock	integer		NOT NULL DEFAULT 0 CHECK (safety_stock >= 0),
	slot			smallint	NOT NULL DEFAULT 0 CHECK (slot >= 0),
	sku				text		NOT NULL,
	location		text		NOT NULL,
	PRIMARY KEY (sku, location, slot),
	CHECK (reserved BETWEEN 0 AND on_hand + backorder_limit)
) WITH (fillfactor = 50);
COMMENT ON TABLE order_engine.stock IS
'Units of a SKU at a location. No foreign key points here: it would lock the busiest rows of the database.';
COMMENT ON COLUMN order_engine.stock.on_hand IS 'Units that lie there, reserved ones included.';
COMMENT ON COLUMN order_engine.stock.reserved IS 'Units that reservations hold.';
COMMENT ON COLUMN order_engine.stock.backorder_limit IS 'Units that may be reserved beyond what lies there.';
COMMENT ON COLUMN order_engine.stock.safety_stock IS 'Units that are kept back: no reservation may bring what is available, over all slots of the location, below 0. It may exceed what is there; then nothing can be reserved until it does not.';
COMMENT ON COLUMN order_engine.stock.slot IS 'Part of a SKU that was split to spread contention; 0 when not split.';
COMMENT ON COLUMN order_engine.stock.sku IS 'The product.';
COMMENT ON COLUMN order_engine.stock.location IS 'The location.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.stock', '');

-- The reservation of an order has the order's id; both come from one sequence.
CREATE TABLE order_engine.reservation (
	reservation_id	bigint		NOT NULL,
	expires_at		timestamptz,
	created_at		timestamptz	NOT NULL,
	quantity		integer		NOT NULL CHECK (quantity >= 0),
	shipped			integer		NOT NULL DEFAULT 0 CHECK (shipped >= 0),
	slot			smallint	NOT NULL,
	sku				text		NOT NULL,
	location		text		NOT NULL,
	state			text		NOT NULL CHECK (state = ANY ('{held,committed,released,expired}')),
	ref				text,
	PRIMARY KEY (reservation_id, sku, location, slot)
) WITH (fillfactor = 80);
CREATE INDEX reservation_expires_idx ON order_engine.reservation (expires_at)
	WHERE state = 'held' AND expires_at IS NOT NULL;
COMMENT ON TABLE order_engine.reservation IS
'Units held for an order or a cart, one row for each stock row that gave some. A cart of untracked products alone has one released row without units.';
COMMENT ON COLUMN order_engine.reservation.reservation_id IS 'Id of the reservation; for an order the order_id.';
COMMENT ON COLUMN order_engine.reservation.expires_at IS 'When the hold ends by itself; null when it does not.';
COMMENT ON COLUMN order_engine.reservation.created_at IS 'When it was made.';
COMMENT ON COLUMN order_engine.reservation.quantity IS 'Units that are held, or that were given back when it was released or expired; 0 when committed.';
COMMENT ON COLUMN order_engine.reservation.shipped IS 'Units of it that left the house.';
COMMENT ON COLUMN order_engine.reservation.slot IS 'Slot of the stock row.';
COMMENT ON COLUMN order_engine.reservation.sku IS 'The product.';
COMMENT ON COLUMN order_engine.reservation.location IS 'The location.';
COMMENT ON COLUMN order_engine.reservation.state IS 'held, committed (all that was not given back is shipped), released (nothing was shipped) or expired; the last three are final.';
COMMENT ON COLUMN order_engine.reservation.ref IS 'The caller''s own reference of a cart reservation; null for an order.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.reservation', '');

CREATE TABLE order_engine.stock_movement (
	reference_id	bigint,
	created_at		timestamptz	NOT NULL,
	on_hand_delta	integer		NOT NULL,
	reserved_delta	integer		NOT NULL,
	slot			smallint	NOT NULL,
	sku				text		NOT NULL,
	location		text		NOT NULL,
	kind			text		NOT NULL CHECK (kind IN ('adjust', 'reserve', 'release', 'expire', 'ship', 'restock', 'move')),
	reason			text,
	actor			text		NOT NULL
);
CREATE INDEX stock_movement_created_idx ON order_engine.stock_movement USING brin (created_at);
COMMENT ON TABLE order_engine.stock_movement IS
'Ledger: every change of a stock row, written by the code that made it. The sums of its deltas are the counters. Append-only.';
COMMENT ON COLUMN order_engine.stock_movement.reference_id IS 'The order, fulfillment, return or reservation that caused it; null for an adjustment.';
COMMENT ON COLUMN order_engine.stock_movement.created_at IS 'When it happened.';
COMMENT ON COLUMN order_engine.stock_movement.on_hand_delta IS 'Change of on_hand, in units.';
COMMENT ON COLUMN order_engine.stock_movement.reserved_delta IS 'Change of reserved, in units.';
COMMENT ON COLUMN order_engine.stock_movement.slot IS 'Slot of the stock row.';
COMMENT ON COLUMN order_engine.stock_movement.sku IS 'The product.';
COMMENT ON COLUMN order_engine.stock_movement.location IS 'The location.';
COMMENT ON COLUMN order_engine.stock_movement.kind IS 'adjust, reserve, release, expire, ship, restock or move.';
COMMENT ON COLUMN order_engine.stock_movement.reason IS 'What the caller gave as the reason.';
COMMENT ON COLUMN order_engine.stock_movement.actor IS 'order_engine.actor at the time, the session user when not set.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.stock_movement', '');
