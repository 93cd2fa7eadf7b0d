/* Views for analysts. */

CREATE VIEW order_engine.order_summary AS
SELECT o.order_id, o.tenant, o.channel, o.order_number, o.region, o.seller, o.location, o.terms,
	o.state, o.state_since, o.on_hold, o.expires_at, o.version,
	o.payment_status, o.fulfillment_status, o.return_status,
	o.currency, o.lines_total, o.shipping, o.tax, o.discount, o.total,
	o.authorized_total, o.captured_total, o.refunded_total, o.charged_back_total, o.credited_total,
	o.total - o.credited_total - (o.captured_total - o.refunded_total - o.charged_back_total) AS balance,
	l.lines, l.units, l.units_cancelled, l.units_shipped, l.units_delivered, l.units_undelivered, l.units_returned,
	o.placed_at, o.confirmed_at, o.first_shipped_at, o.delivered_at, o.completed_at, o.cancelled_at,
	o.created_at, o.updated_at
FROM order_engine.orders o
	CROSS JOIN LATERAL (
		SELECT pg_catalog.count(*) AS lines,
			coalesce(pg_catalog.sum(line.quantity), 0) AS units,
			coalesce(pg_catalog.sum(line.cancelled), 0) AS units_cancelled,
			coalesce(pg_catalog.sum(line.shipped), 0) AS units_shipped,
			coalesce(pg_catalog.sum(line.delivered), 0) AS units_delivered,
			coalesce(pg_catalog.sum(line.undelivered), 0) AS units_undelivered,
			coalesce(pg_catalog.sum(line.returned), 0) AS units_returned
		FROM order_engine.order_line line
		WHERE line.order_id = o.order_id) l;
COMMENT ON VIEW order_engine.order_summary IS 'One row an order, without personal data.';
COMMENT ON COLUMN order_engine.order_summary.order_id IS 'Id of the order.';
COMMENT ON COLUMN order_engine.order_summary.tenant IS 'order_engine.tenant when it was placed; empty without tenants.';
COMMENT ON COLUMN order_engine.order_summary.channel IS 'Sales channel.';
COMMENT ON COLUMN order_engine.order_summary.order_number IS 'Number for people, unique per tenant and channel.';
COMMENT ON COLUMN order_engine.order_summary.region IS 'Sales region; null when not given.';
COMMENT ON COLUMN order_engine.order_summary.seller IS 'Seller of the lines that name none; null when not given.';
COMMENT ON COLUMN order_engine.order_summary.location IS 'Location of the lines that name none; null when the engine chose.';
COMMENT ON COLUMN order_engine.order_summary.terms IS 'prepaid, invoice or cash_on_delivery.';
COMMENT ON COLUMN order_engine.order_summary.state IS 'State in its machine.';
COMMENT ON COLUMN order_engine.order_summary.state_since IS 'When it entered the state.';
COMMENT ON COLUMN order_engine.order_summary.on_hold IS 'True while a hold is open.';
COMMENT ON COLUMN order_engine.order_summary.expires_at IS 'When the time limit of the state passes; null when it has none.';
COMMENT ON COLUMN order_engine.order_summary.version IS 'Number of events of the order.';
COMMENT ON COLUMN order_engine.order_summary.payment_status IS 'unpaid, authorized, partially_paid, paid, partially_refunded or refunded.';
COMMENT ON COLUMN order_engine.order_summary.fulfillment_status IS 'unfulfilled, partially_shipped, shipped, partially_delivered or delivered.';
COMMENT ON COLUMN order_engine.order_summary.return_status IS 'none, requested, partially_returned or returned.';
COMMENT ON COLUMN order_engine.order_summary.currency IS 'ISO 4217 code of every amount of the row.';
COMMENT ON COLUMN order_engine.order_summary.lines_total IS 'Sum of the line totals, in currency.';
COMMENT ON COLUMN order_engine.order_summary.shipping IS 'Shipping charge, in currency.';
COMMENT ON COLUMN order_engine.order_summary.tax IS 'Tax that is added to the lines, in currency.';
COMMENT ON COLUMN order_engine.order_summary.discount IS 'Discount on the whole order, in currency, a positive amount.';
COMMENT ON COLUMN order_engine.order_summary.total IS 'lines_total + shipping + tax - discount, in currency.';
COMMENT ON COLUMN order_engine.order_summary.authorized_total IS 'Authorized and not yet captured or voided, in currency.';
COMMENT ON COLUMN order_engine.order_summary.captured_total IS 'Captured, in currency, before refunds.';
COMMENT ON COLUMN order_engine.order_summary.refunded_total IS 'Refunded, in currency.';
COMMENT ON COLUMN order_engine.order_summary.charged_back_total IS 'Taken back by the customer''s bank, in currency.';
COMMENT ON COLUMN order_engine.order_summary.credited_total IS 'What of the total need not be paid any more: goods that came back, and goodwill; in currency.';
COMMENT ON COLUMN order_engine.order_summary.balance IS 'What the customer still owes: total - credited_total - (captured_total - refunded_total - charged_back_total), in currency; negative when money is to be refunded.';
COMMENT ON COLUMN order_engine.order_summary.lines IS 'Number of lines.';
COMMENT ON COLUMN order_engine.order_summary.units IS 'Units ordered, cancelled ones included.';
COMMENT ON COLUMN order_engine.order_summary.units_cancelled IS 'Units cancelled.';
COMMENT ON COLUMN order_engine.order_summary.units_shipped IS 'Units shipped.';
COMMENT ON COLUMN order_engine.order_summary.units_delivered IS 'Units delivered.';
COMMENT ON COLUMN order_engine.order_summary.units_undelivered IS 'Units that could not be delivered and came back.';
COMMENT ON COLUMN order_engine.order_summary.units_returned IS 'Units returned.';
COMMENT ON COLUMN order_engine.order_summary.placed_at IS 'Milestone: placed.';
COMMENT ON COLUMN order_engine.order_summary.confirmed_at IS 'Milestone: confirmed (in the machine simple: paid).';
COMMENT ON COLUMN order_engine.order_summary.first_shipped_at IS 'Milestone: something was shipped.';
COMMENT ON COLUMN order_engine.order_summary.delivered_at IS 'Milestone: everything was delivered.';
COMMENT ON COLUMN order_engine.order_summary.completed_at IS 'Milestone: completed.';
COMMENT ON COLUMN order_engine.order_summary.cancelled_at IS 'Milestone: cancelled or expired.';
COMMENT ON COLUMN order_engine.order_summary.created_at IS 'When the order was made.';
COMMENT ON COLUMN order_engine.order_summary.updated_at IS 'When it was last changed.';

CREATE VIEW order_engine.stock_level AS
SELECT s.sku, p.name AS product_name, s.location, l.name AS location_name, l.region, l.priority,
	s.on_hand, s.reserved, s.backorder_limit, s.safety_stock, s.slots,
	s.on_hand + s.backorder_limit - s.safety_stock - s.reserved AS available
FROM (SELECT stock.sku, stock.location,
		pg_catalog.sum(stock.on_hand) AS on_hand,
		pg_catalog.sum(stock.reserved) AS reserved,
		pg_catalog.sum(stock.backorder_limit) AS backorder_limit,
		pg_catalog.sum(stock.safety_stock) AS safety_stock,
		pg_catalog.count(*) AS slots
	FROM order_engine.stock
	GROUP BY stock.sku, stock.location) s
	LEFT JOIN order_engine.product p ON p.sku = s.sku
	LEFT JOIN order_engine.location l ON l.location = s.location;
COMMENT ON VIEW order_engine.stock_level IS 'Stock by SKU and location, over all slots.';
COMMENT ON COLUMN order_engine.stock_level.sku IS 'The product.';
COMMENT ON COLUMN order_engine.stock_level.product_name IS 'Name of the product.';
COMMENT ON COLUMN order_engine.stock_level.location IS 'The location.';
COMMENT ON COLUMN order_engine.stock_level.location_name IS 'Name of the location.';
COMMENT ON COLUMN order_engine.stock_level.region IS 'Region that the location serves; null for all.';
COMMENT ON COLUMN order_engine.stock_level.priority IS 'Priority of the location; lower numbers are tried first.';
COMMENT ON COLUMN order_engine.stock_level.on_hand IS 'Units that lie there, reserved ones included.';
COMMENT ON COLUMN order_engine.stock_level.reserved IS 'Units that reservations hold, expired ones that were not taken back yet included.';
COMMENT ON COLUMN order_engine.stock_level.backorder_limit IS 'Units that may be reserved beyond what lies there.';
COMMENT ON COLUMN order_engine.stock_level.safety_stock IS 'Units that are kept back from reservations.';
COMMENT ON COLUMN order_engine.stock_level.slots IS 'Slots that the SKU is split into at the location; 1 when not split.';
COMMENT ON COLUMN order_engine.stock_level.available IS 'Units that can be reserved: on_hand + backorder_limit - safety_stock - reserved; negative when more is kept back than is free.';
