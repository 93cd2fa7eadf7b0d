-- The views of sales and returns, against the same figures added up row by row.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin
\set dirty :srcdir '/lib/dirty_data.sql'
\i :dirty

\set compare :srcdir '/lib/compare.sql'
\i :compare

-- adds up figures under a key, nulls in it are a value
CREATE TEMP TABLE tally (view text, tenant text, day date, key text, currency text, figures numeric[]);
CREATE FUNCTION pg_temp.add(view text, tenant text, day date, key text, currency text, VARIADIC more numeric[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	old numeric[];
BEGIN
	SELECT t.figures INTO old FROM tally t
	WHERE (t.view, t.tenant, t.day, t.currency) = (add.view, add.tenant, add.day, add.currency) AND t.key IS NOT DISTINCT FROM add.key;
	IF NOT FOUND THEN
		INSERT INTO tally VALUES (view, tenant, day, key, currency, more);
		RETURN;
	END IF;
	FOR i IN 1 .. array_length(more, 1) LOOP
		more[i] := more[i] + old[i];
	END LOOP;
	UPDATE tally t SET figures = more
	WHERE (t.view, t.tenant, t.day, t.currency) = (add.view, add.tenant, add.day, add.currency) AND t.key IS NOT DISTINCT FROM add.key;
END $$;

CREATE FUNCTION pg_temp.tally_sales() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	o order_engine.orders;
	l order_engine.order_line;
	decimals integer;
	on_day date;
	sold boolean;
	units integer; gross numeric; cancelled numeric;
	remain integer; remain_price numeric; cancelled_price numeric; returned_price numeric;
	skus text[]; sellers text[];
BEGIN
	TRUNCATE tally;
	FOR o IN SELECT * FROM order_engine.orders LOOP
		CONTINUE WHEN o.placed_at IS NULL;
		on_day := to_char(o.placed_at, 'YYYY-MM-DD')::date;
		SELECT c.minor_units INTO decimals FROM order_engine.currency c WHERE c.currency = o.currency;
		sold := o.cancelled_at IS NULL;
		-- no sale either, when there are lines and all are cancelled
		IF sold AND EXISTS (SELECT FROM order_engine.order_line x WHERE x.order_id = o.order_id) THEN
			sold := EXISTS (SELECT FROM order_engine.order_line x WHERE x.order_id = o.order_id AND x.quantity > x.cancelled);
		END IF;
		units := 0; gross := 0; cancelled := 0; skus := '{}'; sellers := '{}';
		FOR l IN SELECT * FROM order_engine.order_line x WHERE x.order_id = o.order_id LOOP
			remain := CASE WHEN sold THEN l.quantity - l.cancelled ELSE 0 END;
			remain_price := floor(l.unit_price * remain * 10.0 ^ decimals + 0.5) / 10.0 ^ decimals;
			cancelled_price := floor(l.unit_price * l.quantity * 10.0 ^ decimals + 0.5) / 10.0 ^ decimals - remain_price;
			returned_price := CASE WHEN remain > 0 THEN floor(l.unit_price * l.returned * 10.0 ^ decimals + 0.5) / 10.0 ^ decimals ELSE 0 END;
			units := units + remain;
			gross := gross + remain_price;
			cancelled := cancelled + cancelled_price;
			PERFORM pg_temp.add('sku', o.tenant, on_day, l.sku, o.currency, CASE WHEN remain > 0 AND l.sku <> ALL (skus) THEN 1 ELSE 0 END,
				remain, remain_price, l.quantity - remain, cancelled_price,
				CASE WHEN remain > 0 THEN l.returned ELSE 0 END, returned_price, remain_price - returned_price);
			PERFORM pg_temp.add('seller', o.tenant, on_day, l.seller, o.currency, CASE WHEN remain > 0 AND coalesce(l.seller, '-') <> ALL (sellers) THEN 1 ELSE 0 END,
				remain, remain_price, l.quantity - remain, cancelled_price,
				CASE WHEN remain > 0 THEN l.returned ELSE 0 END, returned_price, remain_price - returned_price);
			IF remain > 0 THEN
				skus := skus || l.sku;
				sellers := sellers || coalesce(l.seller, '-');
			END IF;
		END LOOP;
		IF sold THEN
			PERFORM pg_temp.add(v.view, o.tenant, on_day, v.key, o.currency, 1, 0, 1, units, gross, o.discount, o.shipping, o.tax,
				o.total, o.credited_total, o.total - o.credited_total, cancelled, o.captured_total, o.refunded_total, o.charged_back_total)
			FROM (VALUES ('daily', NULL), ('channel', o.channel), ('region', o.region)) AS v (view, key);
		ELSE
			PERFORM pg_temp.add(v.view, o.tenant, on_day, v.key, o.currency, 1, 1, 0, 0, 0, 0, 0, 0,
				0, 0, 0, cancelled, o.captured_total, o.refunded_total, o.charged_back_total)
			FROM (VALUES ('daily', NULL), ('channel', o.channel), ('region', o.region)) AS v (view, key);
		END IF;
	END LOOP;
END $$;

CREATE TEMP VIEW check_daily AS
SELECT tenant, day, currency, f[1]::bigint, f[2]::bigint AS c2, f[3]::bigint AS c3, f[4] AS c4, f[5] AS c5, f[6] AS c6, f[7] AS c7, f[8] AS c8,
	f[9] AS c9, f[10] AS c10, f[11] AS c11, f[12] AS c12, f[13] AS c13, f[14] AS c14, f[15] AS c15
FROM tally, LATERAL (SELECT figures) AS q (f) WHERE view = 'daily';
CREATE TEMP VIEW check_channel AS
SELECT tenant, day, key, currency, f[1]::bigint, f[2]::bigint AS c2, f[3]::bigint AS c3, f[4] AS c4, f[5] AS c5, f[6] AS c6, f[7] AS c7, f[8] AS c8,
	f[9] AS c9, f[10] AS c10, f[11] AS c11, f[12] AS c12, f[13] AS c13, f[14] AS c14, f[15] AS c15
FROM tally, LATERAL (SELECT figures) AS q (f) WHERE view = 'channel';
CREATE TEMP VIEW check_region AS
SELECT tenant, day, key, currency, f[1]::bigint, f[2]::bigint AS c2, f[3]::bigint AS c3, f[4] AS c4, f[5] AS c5, f[6] AS c6, f[7] AS c7, f[8] AS c8,
	f[9] AS c9, f[10] AS c10, f[11] AS c11, f[12] AS c12, f[13] AS c13, f[14] AS c14, f[15] AS c15
FROM tally, LATERAL (SELECT figures) AS q (f) WHERE view = 'region';
CREATE TEMP VIEW check_sku AS
SELECT tenant, day, key, 'Product ' || substr(key, 2), currency, f[1]::bigint, f[2] AS c2, f[3] AS c3, f[4] AS c4, f[5] AS c5, f[6] AS c6, f[7] AS c7, f[8] AS c8
FROM tally, LATERAL (SELECT figures) AS q (f) WHERE view = 'sku';
CREATE TEMP VIEW check_seller AS
SELECT tenant, day, key, currency, f[1]::bigint, f[2] AS c2, f[3] AS c3, f[4] AS c4, f[5] AS c5, f[6] AS c6, f[7] AS c7, f[8] AS c8
FROM tally, LATERAL (SELECT figures) AS q (f) WHERE view = 'seller';

-- the day is that of the session's time zone; on 2024-03-31 it has 23 hours in Berlin
SET timezone = 'Europe/Berlin';
SELECT pg_temp.tally_sales();
SELECT * FROM pg_temp.compare('order_engine.sales_daily', 'check_daily');
SELECT * FROM pg_temp.compare('order_engine.sales_by_channel', 'check_channel');
SELECT * FROM pg_temp.compare('order_engine.sales_by_region', 'check_region');
SELECT * FROM pg_temp.compare('order_engine.sales_by_sku', 'check_sku');
SELECT * FROM pg_temp.compare('order_engine.sales_by_seller', 'check_seller');
SELECT day, sum(orders_placed) AS berlin FROM order_engine.sales_daily WHERE day < '2024-04-01' GROUP BY day ORDER BY day;
SET timezone = 'America/Los_Angeles';
SELECT pg_temp.tally_sales();
SELECT * FROM pg_temp.compare('order_engine.sales_daily', 'check_daily');
SELECT * FROM pg_temp.compare('order_engine.sales_by_sku', 'check_sku');
SELECT day, sum(orders_placed) AS los_angeles FROM order_engine.sales_daily WHERE day < '2024-04-01' GROUP BY day ORDER BY day;

-- the data is dirty enough: each of these is there
SELECT count(*) FILTER (WHERE NOT EXISTS (SELECT FROM order_engine.order_line l WHERE l.order_id = o.order_id)) > 5 AS without_lines,
	count(*) FILTER (WHERE placed_at IS NULL) > 5 AS drafts,
	count(*) FILTER (WHERE cancelled_at IS NOT NULL) > 5 AS cancelled,
	count(*) FILTER (WHERE cancelled_at IS NULL AND order_id IN (
		SELECT order_id FROM order_engine.order_line GROUP BY order_id HAVING bool_and(quantity = cancelled))) > 5 AS all_units_cancelled,
	count(DISTINCT currency) AS currencies, count(DISTINCT tenant) AS tenants, bool_or(region IS NULL) AS without_region
FROM order_engine.orders o;

-- the parts fit together: all views count the same goods
SELECT a.currency, a.gross = b.gross AND b.gross = c.gross AS same_gross, a.units = b.units AND b.units = c.units AS same_units,
	a.cancelled = b.cancelled AND b.cancelled = c.cancelled AS same_cancelled, a.sums AS total_is_the_sum
FROM (SELECT currency, sum(gross) AS gross, sum(units) AS units, sum(cancelled) AS cancelled,
		bool_and(net = total - credited AND orders + orders_cancelled = orders_placed) AS sums FROM order_engine.sales_daily GROUP BY 1) a
	JOIN (SELECT currency, sum(gross) AS gross, sum(units) AS units, sum(cancelled) AS cancelled FROM order_engine.sales_by_seller GROUP BY 1) b USING (currency)
	JOIN (SELECT currency, sum(gross) AS gross, sum(units) AS units, sum(cancelled) AS cancelled FROM order_engine.sales_by_sku GROUP BY 1) c USING (currency)
ORDER BY 1;

-- an order by its verbs, seen from the beginning to the end
SELECT order_engine.upsert_product('TEA', 'Tea', 2.5, 'CHF'), order_engine.adjust_stock('TEA', 'berlin', 10, 'r');
SELECT order_engine.place_order('c', '[{"sku": "TEA", "quantity": 4, "seller": "s"}]', 'CHF', terms => 'invoice', shipping => 3, discount => 1) AS id \gset
SELECT orders, units, gross, discount, shipping, total, net, cancelled FROM order_engine.sales_daily WHERE currency = 'CHF';
SELECT order_engine.cancel_order(:id, 'too many', '[{"line_no": 1, "quantity": 1}]');
SELECT orders, units, gross, discount, shipping, total, net, cancelled FROM order_engine.sales_daily WHERE currency = 'CHF';
SELECT product_name, orders, units, gross, units_cancelled, cancelled, net FROM order_engine.sales_by_sku WHERE sku = 'TEA';
SELECT lines, units, units_cancelled, units_undelivered, total, balance FROM order_engine.order_summary WHERE order_id = :id;
SELECT order_engine.cancel_order(:id, 'all');
SELECT orders_placed, orders_cancelled, orders, units, gross, total, net, cancelled FROM order_engine.sales_daily WHERE currency = 'CHF';
SELECT orders, units, gross, units_cancelled, cancelled, net FROM order_engine.sales_by_seller WHERE currency = 'CHF';

-- order_summary against its order and lines
CREATE FUNCTION pg_temp.check_summary() RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
	s order_engine.order_summary;
	o order_engine.orders;
	l order_engine.order_line;
	sums integer[];
BEGIN
	FOR o IN SELECT * FROM order_engine.orders LOOP
		SELECT * INTO s FROM order_engine.order_summary v WHERE v.order_id = o.order_id;
		sums := '{0,0,0,0,0,0,0}';
		FOR l IN SELECT * FROM order_engine.order_line x WHERE x.order_id = o.order_id LOOP
			sums := ARRAY[sums[1] + 1, sums[2] + l.quantity, sums[3] + l.cancelled, sums[4] + l.shipped, sums[5] + l.delivered,
				sums[6] + l.undelivered, sums[7] + l.returned];
		END LOOP;
		IF sums <> ARRAY[s.lines, s.units, s.units_cancelled, s.units_shipped, s.units_delivered, s.units_undelivered, s.units_returned]::integer[]
			OR s.balance <> o.total - o.credited_total - o.captured_total + o.refunded_total + o.charged_back_total
			OR NOT to_jsonb(s) @> to_jsonb(o) - '{last_txid,machine_id,customer_id,metadata}'::text[] THEN
			RETURN NEXT o.order_id;
		END IF;
	END LOOP;
END $$;
SELECT * FROM pg_temp.check_summary();

-- returns
CREATE FUNCTION pg_temp.tally_returns() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r order_engine.order_return;
	n order_engine.return_line;
	o order_engine.orders;
	price numeric;
	decimals integer;
	why text;
	seen text[];
	dropped integer;
BEGIN
	FOR r IN SELECT * FROM order_engine.order_return LOOP
		SELECT * INTO o FROM order_engine.orders x WHERE x.order_id = r.order_id;
		SELECT c.minor_units INTO decimals FROM order_engine.currency c WHERE c.currency = o.currency;
		dropped := CASE WHEN r.state IN ('declined', 'cancelled') OR r.state = 'closed' AND r.received_at IS NULL THEN 1 ELSE 0 END;
		seen := '{}';
		FOR n IN SELECT * FROM order_engine.return_line x WHERE x.return_id = r.return_id LOOP
			why := coalesce(n.reason, r.reason);
			SELECT l.unit_price INTO price FROM order_engine.order_line l WHERE l.order_id = r.order_id AND l.line_no = n.line_no;
			PERFORM pg_temp.add('returns', o.tenant, to_char(r.created_at, 'YYYY-MM-DD')::date, why, o.currency,
				CASE WHEN why = ANY (seen) THEN 0 ELSE 1 END, CASE WHEN why = ANY (seen) THEN 0 ELSE dropped END,
				n.quantity, n.restocked, n.damaged, n.discarded,
				floor(price * (n.restocked + n.damaged + n.discarded) * 10.0 ^ decimals + 0.5) / 10.0 ^ decimals);
			seen := seen || why;
		END LOOP;
		IF seen = '{}' THEN
			PERFORM pg_temp.add('returns', o.tenant, to_char(r.created_at, 'YYYY-MM-DD')::date, r.reason, o.currency, 1, dropped, 0, 0, 0, 0, 0);
		END IF;
	END LOOP;
END $$;
SELECT pg_temp.tally_returns();
CREATE TEMP VIEW check_returns AS
SELECT tenant, day, key, currency, f[1]::bigint, f[2]::bigint AS c2, f[3] AS c3, f[4] AS c4, f[5] AS c5, f[6] AS c6, f[7] AS c7
FROM tally, LATERAL (SELECT figures) AS q (f) WHERE view = 'returns';
SELECT * FROM pg_temp.compare('order_engine.returns_by_reason', 'check_returns');
SELECT reason, sum(returns) > 0 AS returns, sum(returns_dropped) > 0 AS dropped, sum(restocked) > 0 AS restocked, sum(damaged) > 0 AS damaged
FROM order_engine.returns_by_reason GROUP BY reason ORDER BY reason;

-- a viewer reads all of them, and nothing personal
CREATE ROLE regress_oe_viewer;
SELECT order_engine.grant_access('regress_oe_viewer', 'viewer');
SET ROLE regress_oe_viewer;
SELECT (SELECT count(*) FROM order_engine.sales_daily) > 0 AS daily, (SELECT count(*) FROM order_engine.sales_by_channel) > 0 AS channel,
	(SELECT count(*) FROM order_engine.sales_by_region) > 0 AS region, (SELECT count(*) FROM order_engine.sales_by_sku) > 0 AS sku,
	(SELECT count(*) FROM order_engine.sales_by_seller) > 0 AS seller, (SELECT count(*) FROM order_engine.returns_by_reason) > 0 AS returns,
	(SELECT count(*) FROM order_engine.order_summary) > 0 AS summary;
SELECT count(*) FROM order_engine.orders;
SELECT count(*) FROM order_engine.verify_orders();
RESET ROLE;
SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attname ~ 'customer|metadata|actor|note|details|payload'
	AND has_table_privilege('regress_oe_viewer', c.oid, 'SELECT');
SELECT order_engine.revoke_access('regress_oe_viewer');
DROP ROLE regress_oe_viewer;
