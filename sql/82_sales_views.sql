/*
 * Sales.
 *
 * A sale is an order that was placed, was not cancelled and did not expire, and
 * of which at least one unit is not cancelled.  It counts on the day on which it
 * was placed, in the time zone of the session, for a shop's day is a local one.
 * Drafts never count.
 */

-- Lines are joined, not looked up order by order, so that the planner may read
-- them by index for a few days and whole for years.
CREATE VIEW order_engine.order_sale AS
SELECT q.order_id, q.tenant, q.channel, q.region, q.currency, q.placed_at, q.placed_at::date AS day, q.sold,
	CASE WHEN q.sold THEN q.units ELSE 0 END AS units,
	CASE WHEN q.sold THEN q.remaining ELSE 0 END AS gross,
	CASE WHEN q.sold THEN q.discount ELSE 0 END AS discount,
	CASE WHEN q.sold THEN q.shipping ELSE 0 END AS shipping,
	CASE WHEN q.sold THEN q.tax ELSE 0 END AS tax,
	CASE WHEN q.sold THEN q.total ELSE 0 END AS total,
	CASE WHEN q.sold THEN q.credited ELSE 0 END AS credited,
	CASE WHEN q.sold THEN q.total - q.credited ELSE 0 END AS net,
	CASE WHEN q.sold THEN q.ordered - q.remaining ELSE q.ordered END AS cancelled,
	q.captured, q.refunded, q.charged_back
FROM (SELECT o.order_id, o.tenant, o.channel, o.region, o.currency,
		o.placed_at,
		o.cancelled_at IS NULL AND
			(pg_catalog.count(l.line_no) = 0 OR pg_catalog.sum(l.quantity - l.cancelled) > 0) AS sold,
		coalesce(pg_catalog.sum(l.quantity - l.cancelled), 0) AS units,
		coalesce(pg_catalog.sum(pg_catalog.round(l.unit_price * l.quantity, c.minor_units)), 0) AS ordered,
		coalesce(pg_catalog.sum(pg_catalog.round(l.unit_price * (l.quantity - l.cancelled), c.minor_units)), 0) AS remaining,
		o.discount, o.shipping, o.tax, o.total, o.credited_total AS credited,
		o.captured_total AS captured, o.refunded_total AS refunded, o.charged_back_total AS charged_back
	FROM order_engine.orders o
		JOIN order_engine.currency c ON c.currency = o.currency
		LEFT JOIN order_engine.order_line l ON l.order_id = o.order_id
	WHERE o.placed_at IS NOT NULL
	GROUP BY o.order_id) q;
COMMENT ON VIEW order_engine.order_sale IS
'What each placed order sold: one row an order, to be grouped at will; sales_daily, sales_by_channel and sales_by_region are made of it. Amounts other than captured, refunded, charged_back and cancelled are 0 for an order that is no sale.';
COMMENT ON COLUMN order_engine.order_sale.order_id IS 'Id of the order.';
COMMENT ON COLUMN order_engine.order_sale.tenant IS 'order_engine.tenant when it was placed; empty without tenants.';
COMMENT ON COLUMN order_engine.order_sale.channel IS 'Sales channel.';
COMMENT ON COLUMN order_engine.order_sale.region IS 'Sales region; null when not given.';
COMMENT ON COLUMN order_engine.order_sale.currency IS 'ISO 4217 code of the amounts.';
COMMENT ON COLUMN order_engine.order_sale.placed_at IS 'When it was placed. A condition on it, rather than on day, reads only the orders of that time.';
COMMENT ON COLUMN order_engine.order_sale.day IS 'Day on which it was placed, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.order_sale.sold IS 'False for an order that was cancelled or expired, or of which every unit is cancelled.';
COMMENT ON COLUMN order_engine.order_sale.units IS 'Units sold: ordered and not cancelled.';
COMMENT ON COLUMN order_engine.order_sale.gross IS 'Goods sold, in currency: price times units; before discount, shipping, tax and returns.';
COMMENT ON COLUMN order_engine.order_sale.discount IS 'Discount on the whole order, in currency, a positive amount.';
COMMENT ON COLUMN order_engine.order_sale.shipping IS 'Shipping charge, in currency.';
COMMENT ON COLUMN order_engine.order_sale.tax IS 'Tax, in currency.';
COMMENT ON COLUMN order_engine.order_sale.total IS 'What the customer was asked for: gross + shipping + tax - discount, in currency.';
COMMENT ON COLUMN order_engine.order_sale.credited IS 'What of the total need not be paid any more: goods that came back, and goodwill; in currency.';
COMMENT ON COLUMN order_engine.order_sale.net IS 'What remains of the total: total - credited, in currency.';
COMMENT ON COLUMN order_engine.order_sale.cancelled IS 'Goods that were ordered and are not sold, in currency: the cancelled units, or all when the order is no sale.';
COMMENT ON COLUMN order_engine.order_sale.captured IS 'Money captured, in currency, before refunds; also when the order is no sale.';
COMMENT ON COLUMN order_engine.order_sale.refunded IS 'Money refunded, in currency.';
COMMENT ON COLUMN order_engine.order_sale.charged_back IS 'Money that the customer''s bank took back, in currency.';

CREATE VIEW order_engine.sales_daily AS
SELECT s.tenant, s.day, s.currency,
	pg_catalog.count(*) AS orders_placed,
	pg_catalog.count(*) FILTER (WHERE NOT s.sold) AS orders_cancelled,
	pg_catalog.count(*) FILTER (WHERE s.sold) AS orders,
	pg_catalog.sum(s.units) AS units,
	pg_catalog.sum(s.gross) AS gross,
	pg_catalog.sum(s.discount) AS discount,
	pg_catalog.sum(s.shipping) AS shipping,
	pg_catalog.sum(s.tax) AS tax,
	pg_catalog.sum(s.total) AS total,
	pg_catalog.sum(s.credited) AS credited,
	pg_catalog.sum(s.net) AS net,
	pg_catalog.sum(s.cancelled) AS cancelled,
	pg_catalog.sum(s.captured) AS captured,
	pg_catalog.sum(s.refunded) AS refunded,
	pg_catalog.sum(s.charged_back) AS charged_back
FROM order_engine.order_sale s
GROUP BY s.tenant, s.day, s.currency;
COMMENT ON VIEW order_engine.sales_daily IS 'Sales by tenant, day and currency.';
COMMENT ON COLUMN order_engine.sales_daily.tenant IS 'order_engine.tenant when the orders were placed; empty without tenants.';
COMMENT ON COLUMN order_engine.sales_daily.day IS 'Day on which the orders were placed, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.sales_daily.currency IS 'ISO 4217 code of the amounts; amounts of different currencies are never added.';
COMMENT ON COLUMN order_engine.sales_daily.orders_placed IS 'Orders placed that day, whatever became of them.';
COMMENT ON COLUMN order_engine.sales_daily.orders_cancelled IS 'Of these, the ones that are no sale: cancelled, expired, or with every unit cancelled.';
COMMENT ON COLUMN order_engine.sales_daily.orders IS 'Orders sold: orders_placed - orders_cancelled.';
COMMENT ON COLUMN order_engine.sales_daily.units IS 'Units sold: ordered and not cancelled.';
COMMENT ON COLUMN order_engine.sales_daily.gross IS 'Goods sold, in currency: price times units; before discount, shipping, tax and returns.';
COMMENT ON COLUMN order_engine.sales_daily.discount IS 'Discounts of the orders sold, in currency, a positive amount.';
COMMENT ON COLUMN order_engine.sales_daily.shipping IS 'Shipping charges of the orders sold, in currency.';
COMMENT ON COLUMN order_engine.sales_daily.tax IS 'Tax of the orders sold, in currency.';
COMMENT ON COLUMN order_engine.sales_daily.total IS 'What the customers were asked for: gross + shipping + tax - discount, in currency.';
COMMENT ON COLUMN order_engine.sales_daily.credited IS 'What of the total they need not pay any more: goods that came back, and goodwill; in currency.';
COMMENT ON COLUMN order_engine.sales_daily.net IS 'What remains of the total: total - credited, in currency.';
COMMENT ON COLUMN order_engine.sales_daily.cancelled IS 'Goods that were ordered and are not sold, in currency: cancelled units, and all units of orders that are no sale.';
COMMENT ON COLUMN order_engine.sales_daily.captured IS 'Money captured for the orders placed that day, in currency, also for those that are no sale.';
COMMENT ON COLUMN order_engine.sales_daily.refunded IS 'Money refunded of it, in currency. A refund of what was paid too much is in here but not in credited.';
COMMENT ON COLUMN order_engine.sales_daily.charged_back IS 'Money that banks took back of it, in currency. Not subtracted from net: the customer still owes it.';

CREATE VIEW order_engine.sales_by_channel AS
SELECT s.tenant, s.day, s.channel, s.currency,
	pg_catalog.count(*) AS orders_placed,
	pg_catalog.count(*) FILTER (WHERE NOT s.sold) AS orders_cancelled,
	pg_catalog.count(*) FILTER (WHERE s.sold) AS orders,
	pg_catalog.sum(s.units) AS units,
	pg_catalog.sum(s.gross) AS gross,
	pg_catalog.sum(s.discount) AS discount,
	pg_catalog.sum(s.shipping) AS shipping,
	pg_catalog.sum(s.tax) AS tax,
	pg_catalog.sum(s.total) AS total,
	pg_catalog.sum(s.credited) AS credited,
	pg_catalog.sum(s.net) AS net,
	pg_catalog.sum(s.cancelled) AS cancelled,
	pg_catalog.sum(s.captured) AS captured,
	pg_catalog.sum(s.refunded) AS refunded,
	pg_catalog.sum(s.charged_back) AS charged_back
FROM order_engine.order_sale s
GROUP BY s.tenant, s.day, s.channel, s.currency;
COMMENT ON VIEW order_engine.sales_by_channel IS 'Sales by tenant, day, channel and currency; sum over the days you want.';
COMMENT ON COLUMN order_engine.sales_by_channel.tenant IS 'order_engine.tenant when the orders were placed; empty without tenants.';
COMMENT ON COLUMN order_engine.sales_by_channel.day IS 'Day on which the orders were placed, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.sales_by_channel.channel IS 'Sales channel.';
COMMENT ON COLUMN order_engine.sales_by_channel.currency IS 'ISO 4217 code of the amounts; amounts of different currencies are never added.';
COMMENT ON COLUMN order_engine.sales_by_channel.orders_placed IS 'Orders placed that day, whatever became of them.';
COMMENT ON COLUMN order_engine.sales_by_channel.orders_cancelled IS 'Of these, the ones that are no sale: cancelled, expired, or with every unit cancelled.';
COMMENT ON COLUMN order_engine.sales_by_channel.orders IS 'Orders sold: orders_placed - orders_cancelled.';
COMMENT ON COLUMN order_engine.sales_by_channel.units IS 'Units sold: ordered and not cancelled.';
COMMENT ON COLUMN order_engine.sales_by_channel.gross IS 'Goods sold, in currency: price times units; before discount, shipping, tax and returns.';
COMMENT ON COLUMN order_engine.sales_by_channel.discount IS 'Discounts of the orders sold, in currency, a positive amount.';
COMMENT ON COLUMN order_engine.sales_by_channel.shipping IS 'Shipping charges of the orders sold, in currency.';
COMMENT ON COLUMN order_engine.sales_by_channel.tax IS 'Tax of the orders sold, in currency.';
COMMENT ON COLUMN order_engine.sales_by_channel.total IS 'What the customers were asked for: gross + shipping + tax - discount, in currency.';
COMMENT ON COLUMN order_engine.sales_by_channel.credited IS 'What of the total they need not pay any more: goods that came back, and goodwill; in currency.';
COMMENT ON COLUMN order_engine.sales_by_channel.net IS 'What remains of the total: total - credited, in currency.';
COMMENT ON COLUMN order_engine.sales_by_channel.cancelled IS 'Goods that were ordered and are not sold, in currency: cancelled units, and all units of orders that are no sale.';
COMMENT ON COLUMN order_engine.sales_by_channel.captured IS 'Money captured for the orders placed that day, in currency, also for those that are no sale.';
COMMENT ON COLUMN order_engine.sales_by_channel.refunded IS 'Money refunded of it, in currency. A refund of what was paid too much is in here but not in credited.';
COMMENT ON COLUMN order_engine.sales_by_channel.charged_back IS 'Money that banks took back of it, in currency. Not subtracted from net: the customer still owes it.';

CREATE VIEW order_engine.sales_by_region AS
SELECT s.tenant, s.day, s.region, s.currency,
	pg_catalog.count(*) AS orders_placed,
	pg_catalog.count(*) FILTER (WHERE NOT s.sold) AS orders_cancelled,
	pg_catalog.count(*) FILTER (WHERE s.sold) AS orders,
	pg_catalog.sum(s.units) AS units,
	pg_catalog.sum(s.gross) AS gross,
	pg_catalog.sum(s.discount) AS discount,
	pg_catalog.sum(s.shipping) AS shipping,
	pg_catalog.sum(s.tax) AS tax,
	pg_catalog.sum(s.total) AS total,
	pg_catalog.sum(s.credited) AS credited,
	pg_catalog.sum(s.net) AS net,
	pg_catalog.sum(s.cancelled) AS cancelled,
	pg_catalog.sum(s.captured) AS captured,
	pg_catalog.sum(s.refunded) AS refunded,
	pg_catalog.sum(s.charged_back) AS charged_back
FROM order_engine.order_sale s
GROUP BY s.tenant, s.day, s.region, s.currency;
COMMENT ON VIEW order_engine.sales_by_region IS 'Sales by tenant, day, region and currency; sum over the days you want.';
COMMENT ON COLUMN order_engine.sales_by_region.tenant IS 'order_engine.tenant when the orders were placed; empty without tenants.';
COMMENT ON COLUMN order_engine.sales_by_region.day IS 'Day on which the orders were placed, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.sales_by_region.region IS 'Sales region; null when not given.';
COMMENT ON COLUMN order_engine.sales_by_region.currency IS 'ISO 4217 code of the amounts; amounts of different currencies are never added.';
COMMENT ON COLUMN order_engine.sales_by_region.orders_placed IS 'Orders placed that day, whatever became of them.';
COMMENT ON COLUMN order_engine.sales_by_region.orders_cancelled IS 'Of these, the ones that are no sale: cancelled, expired, or with every unit cancelled.';
COMMENT ON COLUMN order_engine.sales_by_region.orders IS 'Orders sold: orders_placed - orders_cancelled.';
COMMENT ON COLUMN order_engine.sales_by_region.units IS 'Units sold: ordered and not cancelled.';
COMMENT ON COLUMN order_engine.sales_by_region.gross IS 'Goods sold, in currency: price times units; before discount, shipping, tax and returns.';
COMMENT ON COLUMN order_engine.sales_by_region.discount IS 'Discounts of the orders sold, in currency, a positive amount.';
COMMENT ON COLUMN order_engine.sales_by_region.shipping IS 'Shipping charges of the orders sold, in currency.';
COMMENT ON COLUMN order_engine.sales_by_region.tax IS 'Tax of the orders sold, in currency.';
COMMENT ON COLUMN order_engine.sales_by_region.total IS 'What the customers were asked for: gross + shipping + tax - discount, in currency.';
COMMENT ON COLUMN order_engine.sales_by_region.credited IS 'What of the total they need not pay any more: goods that came back, and goodwill; in currency.';
COMMENT ON COLUMN order_engine.sales_by_region.net IS 'What remains of the total: total - credited, in currency.';
COMMENT ON COLUMN order_engine.sales_by_region.cancelled IS 'Goods that were ordered and are not sold, in currency: cancelled units, and all units of orders that are no sale.';
COMMENT ON COLUMN order_engine.sales_by_region.captured IS 'Money captured for the orders placed that day, in currency, also for those that are no sale.';
COMMENT ON COLUMN order_engine.sales_by_region.refunded IS 'Money refunded of it, in currency. A refund of what was paid too much is in here but not in credited.';
COMMENT ON COLUMN order_engine.sales_by_region.charged_back IS 'Money that banks took back of it, in currency. Not subtracted from net: the customer still owes it.';

CREATE VIEW order_engine.sale_line AS
SELECT l.order_id, l.line_no, o.tenant, o.placed_at, o.placed_at::date AS day, o.currency, c.minor_units,
	l.sku, l.seller, l.unit_price, l.quantity AS ordered,
	CASE WHEN o.cancelled_at IS NULL THEN l.quantity - l.cancelled ELSE 0 END AS sold,
	l.returned
FROM order_engine.orders o
	JOIN order_engine.currency c ON c.currency = o.currency
	JOIN order_engine.order_line l ON l.order_id = o.order_id
WHERE o.placed_at IS NOT NULL;
COMMENT ON VIEW order_engine.sale_line IS 'The lines of every placed order with what was sold of each; sales_by_sku and sales_by_seller are made of it.';
COMMENT ON COLUMN order_engine.sale_line.order_id IS 'The order.';
COMMENT ON COLUMN order_engine.sale_line.line_no IS 'Line of the order.';
COMMENT ON COLUMN order_engine.sale_line.tenant IS 'order_engine.tenant when it was placed; empty without tenants.';
COMMENT ON COLUMN order_engine.sale_line.placed_at IS 'When the order was placed. A condition on it, rather than on day, reads only the orders of that time.';
COMMENT ON COLUMN order_engine.sale_line.day IS 'Day on which the order was placed, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.sale_line.currency IS 'ISO 4217 code of the price.';
COMMENT ON COLUMN order_engine.sale_line.minor_units IS 'Decimals of an amount in it.';
COMMENT ON COLUMN order_engine.sale_line.sku IS 'The product.';
COMMENT ON COLUMN order_engine.sale_line.seller IS 'Seller of a marketplace; null when not given.';
COMMENT ON COLUMN order_engine.sale_line.unit_price IS 'Price of one unit when placed, in currency.';
COMMENT ON COLUMN order_engine.sale_line.ordered IS 'Units ordered.';
COMMENT ON COLUMN order_engine.sale_line.sold IS 'Units sold: not cancelled, of an order that was neither cancelled nor expired.';
COMMENT ON COLUMN order_engine.sale_line.returned IS 'Units that came back from the customer.';

CREATE VIEW order_engine.sales_by_sku AS
SELECT q.tenant, q.day, q.sku, p.name AS product_name, q.currency, q.orders, q.units, q.gross,
	q.units_cancelled, q.cancelled, q.units_returned, q.returned, q.net
FROM (SELECT l.tenant, l.day, l.sku, l.currency,
	pg_catalog.count(DISTINCT l.order_id) FILTER (WHERE l.sold > 0) AS orders,
	pg_catalog.sum(l.sold) AS units,
	pg_catalog.sum(pg_catalog.round(l.unit_price * l.sold, l.minor_units)) AS gross,
	pg_catalog.sum(l.ordered - l.sold) AS units_cancelled,
	pg_catalog.sum(pg_catalog.round(l.unit_price * l.ordered, l.minor_units)
		- pg_catalog.round(l.unit_price * l.sold, l.minor_units)) AS cancelled,
	pg_catalog.sum(CASE WHEN l.sold > 0 THEN l.returned ELSE 0 END) AS units_returned,
	pg_catalog.sum(CASE WHEN l.sold > 0 THEN pg_catalog.round(l.unit_price * l.returned, l.minor_units) ELSE 0 END) AS returned,
	pg_catalog.sum(pg_catalog.round(l.unit_price * l.sold, l.minor_units)
		- CASE WHEN l.sold > 0 THEN pg_catalog.round(l.unit_price * l.returned, l.minor_units) ELSE 0 END) AS net
	FROM order_engine.sale_line l
	GROUP BY l.tenant, l.day, l.sku, l.currency) q
	LEFT JOIN order_engine.product p ON p.sku = q.sku;
COMMENT ON VIEW order_engine.sales_by_sku IS 'Sales by tenant, day, product and currency; sum over the days you want.';
COMMENT ON COLUMN order_engine.sales_by_sku.tenant IS 'order_engine.tenant when the orders were placed; empty without tenants.';
COMMENT ON COLUMN order_engine.sales_by_sku.day IS 'Day on which the orders were placed, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.sales_by_sku.sku IS 'The product.';
COMMENT ON COLUMN order_engine.sales_by_sku.product_name IS 'Its name now; null when the product is gone.';
COMMENT ON COLUMN order_engine.sales_by_sku.currency IS 'ISO 4217 code of the amounts; amounts of different currencies are never added.';
COMMENT ON COLUMN order_engine.sales_by_sku.orders IS 'Orders with at least one unit of it sold.';
COMMENT ON COLUMN order_engine.sales_by_sku.units IS 'Units sold: ordered, not cancelled, of orders that were neither cancelled nor expired.';
COMMENT ON COLUMN order_engine.sales_by_sku.gross IS 'Goods sold, in currency: price times units; before returns. Discounts, shipping and tax belong to whole orders and are not in it.';
COMMENT ON COLUMN order_engine.sales_by_sku.units_cancelled IS 'Units ordered that day and not sold.';
COMMENT ON COLUMN order_engine.sales_by_sku.cancelled IS 'Their price, in currency.';
COMMENT ON COLUMN order_engine.sales_by_sku.units_returned IS 'Units sold that came back from the customer.';
COMMENT ON COLUMN order_engine.sales_by_sku.returned IS 'Their price, in currency, whatever was refunded for them.';
COMMENT ON COLUMN order_engine.sales_by_sku.net IS 'gross - returned, in currency.';

CREATE VIEW order_engine.sales_by_seller AS
SELECT l.tenant, l.day, l.seller, l.currency,
	pg_catalog.count(DISTINCT l.order_id) FILTER (WHERE l.sold > 0) AS orders,
	pg_catalog.sum(l.sold) AS units,
	pg_catalog.sum(pg_catalog.round(l.unit_price * l.sold, l.minor_units)) AS gross,
	pg_catalog.sum(l.ordered - l.sold) AS units_cancelled,
	pg_catalog.sum(pg_catalog.round(l.unit_price * l.ordered, l.minor_units)
		- pg_catalog.round(l.unit_price * l.sold, l.minor_units)) AS cancelled,
	pg_catalog.sum(CASE WHEN l.sold > 0 THEN l.returned ELSE 0 END) AS units_returned,
	pg_catalog.sum(CASE WHEN l.sold > 0 THEN pg_catalog.round(l.unit_price * l.returned, l.minor_units) ELSE 0 END) AS returned,
	pg_catalog.sum(pg_catalog.round(l.unit_price * l.sold, l.minor_units)
		- CASE WHEN l.sold > 0 THEN pg_catalog.round(l.unit_price * l.returned, l.minor_units) ELSE 0 END) AS net
FROM order_engine.sale_line l
GROUP BY l.tenant, l.day, l.seller, l.currency;
COMMENT ON VIEW order_engine.sales_by_seller IS 'Sales of a marketplace by tenant, day, seller of the line and currency; sum over the days you want.';
COMMENT ON COLUMN order_engine.sales_by_seller.tenant IS 'order_engine.tenant when the orders were placed; empty without tenants.';
COMMENT ON COLUMN order_engine.sales_by_seller.day IS 'Day on which the orders were placed, in the time zone of the session (SET timezone).';
COMMENT ON COLUMN order_engine.sales_by_seller.seller IS 'Seller of the lines; null when not given.';
COMMENT ON COLUMN order_engine.sales_by_seller.currency IS 'ISO 4217 code of the amounts; amounts of different currencies are never added.';
COMMENT ON COLUMN order_engine.sales_by_seller.orders IS 'Orders with at least one unit of the seller sold.';
COMMENT ON COLUMN order_engine.sales_by_seller.units IS 'Units sold: ordered, not cancelled, of orders that were neither cancelled nor expired.';
COMMENT ON COLUMN order_engine.sales_by_seller.gross IS 'Goods sold, in currency: price times units; before returns. Discounts, shipping and tax belong to whole orders and are not in it.';
COMMENT ON COLUMN order_engine.sales_by_seller.units_cancelled IS 'Units ordered that day and not sold.';
COMMENT ON COLUMN order_engine.sales_by_seller.cancelled IS 'Their price, in currency.';
COMMENT ON COLUMN order_engine.sales_by_seller.units_returned IS 'Units sold that came back from the customer.';
COMMENT ON COLUMN order_engine.sales_by_seller.returned IS 'Their price, in currency, whatever was refunded for them.';
COMMENT ON COLUMN order_engine.sales_by_seller.net IS 'gross - returned, in currency.';
