/* Holds: while one is open, its order is neither confirmed nor shipped. */

CREATE TABLE order_engine.order_hold (
	hold_id			bigint		PRIMARY KEY,
	order_id		bigint		NOT NULL,
	placed_at		timestamptz	NOT NULL,
	released_at		timestamptz,
	reason			text		NOT NULL,
	note			text,
	placed_by		text		NOT NULL,
	released_by		text,
	release_note	text,
	CHECK ((released_at IS NULL) = (released_by IS NULL))
);
CREATE INDEX order_hold_order_idx ON order_engine.order_hold (order_id);
COMMENT ON TABLE order_engine.order_hold IS 'Holds of orders, open and released.';
COMMENT ON COLUMN order_engine.order_hold.hold_id IS 'Id of the hold.';
COMMENT ON COLUMN order_engine.order_hold.order_id IS 'The order.';
COMMENT ON COLUMN order_engine.order_hold.placed_at IS 'When it was placed.';
COMMENT ON COLUMN order_engine.order_hold.released_at IS 'When it was released; null while it is open.';
COMMENT ON COLUMN order_engine.order_hold.reason IS 'Why, as the caller groups it, such as fraud; chargeback for those that a chargeback opened.';
COMMENT ON COLUMN order_engine.order_hold.note IS 'Note for people.';
COMMENT ON COLUMN order_engine.order_hold.placed_by IS 'order_engine.actor at the time, the session user when not set.';
COMMENT ON COLUMN order_engine.order_hold.released_by IS 'The same of the release; null while it is open.';
COMMENT ON COLUMN order_engine.order_hold.release_note IS 'Note of the release.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.order_hold', '');
