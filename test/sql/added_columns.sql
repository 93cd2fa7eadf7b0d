-- Columns that the user adds to the engine's tables.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

ALTER TABLE order_engine.orders ADD added jsonb, ADD note text DEFAULT 'new', ADD shown text GENERATED ALWAYS AS (state || version) STORED NOT NULL;
ALTER TABLE order_engine.order_line ADD added jsonb, ADD note text;
ALTER TABLE order_engine.history ADD added jsonb, ADD note text;
ALTER TABLE order_engine.outbox ADD added jsonb, ADD note text NOT NULL DEFAULT current_user;
ALTER TABLE order_engine.stock ADD added jsonb, ADD note text DEFAULT 'stays', ADD free integer GENERATED ALWAYS AS (on_hand - reserved) STORED;
ALTER TABLE order_engine.reservation ADD added jsonb, ADD gone text DEFAULT 'gone', ADD note serial;
ALTER TABLE order_engine.reservation DROP gone;
ALTER TABLE order_engine.stock_movement ADD added jsonb, ADD note integer GENERATED ALWAYS AS IDENTITY;
ALTER TABLE order_engine.idempotency_key ADD added jsonb, ADD note text NOT NULL DEFAULT 'n' || length('four');

SELECT order_engine.upsert_product('TEA', 'Green tea', 4.50, 'EUR');
SELECT order_engine.adjust_stock('TEA', 'default', 10, 'delivery', idempotency_key => 'a');
SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 2}]', 'EUR', terms => 'invoice', idempotency_key => 'p') AS id \gset
SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 2}]', 'EUR', terms => 'invoice', idempotency_key => 'p') = :id AS replayed;
UPDATE order_engine.orders SET note = 'mine' WHERE order_id = :id;
SELECT order_engine.transition('order', :id, 'confirm');
SELECT order_engine.cancel_order(:id, 'changed my mind');
SELECT state, version, added, note, shown FROM order_engine.orders;
SELECT quantity, cancelled, added, note FROM order_engine.order_line;
SELECT seq, event, added, note FROM order_engine.history ORDER BY seq;
SELECT aggregate_seq, type, added, note = current_user AS mine FROM order_engine.outbox ORDER BY aggregate_seq;
SELECT on_hand, reserved, added, note, free FROM order_engine.stock;
SELECT state, quantity, added, note FROM order_engine.reservation;
SELECT kind, on_hand_delta, reserved_delta, added, note FROM order_engine.stock_movement ORDER BY kind;
SELECT operation, key, added, note FROM order_engine.idempotency_key ORDER BY key;
SELECT * FROM order_engine.verify_stock();

-- who adds one that must not be null gives a default
ALTER TABLE order_engine.history ADD needed integer;
UPDATE order_engine.history SET needed = 1;
ALTER TABLE order_engine.history ALTER needed SET NOT NULL;
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 1}]', 'EUR')$$);
ALTER TABLE order_engine.history ALTER needed SET DEFAULT 1 / (random() > 2)::integer;
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 1}]', 'EUR')$$);
ALTER TABLE order_engine.history DROP needed;
-- a column of the engine's own is missing
ALTER TABLE order_engine.history DROP metadata;
SELECT attempt($$SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 1}]', 'EUR')$$);
SELECT count(*) FROM order_engine.orders;

DROP FUNCTION attempt;
