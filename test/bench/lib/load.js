/*
 * load.js
 *		Fill the tables of order_engine with orders, quickly.
 *
 * Orders as the workload of three lines leaves them when they have been shipped: the order,
 * three lines, three reservations that are committed, a row of history, and an idempotency key, as
 * if all had been placed within the 72 hours for which keys are kept.  Left out are the
 * ledger, which has but a block range index and so costs the same however long it is, and the outbox,
 * of which three days are kept.
 *
 * It goes below the extension: as superuser with session_replication_role = replica, with
 * indexes that are marked as not ready and so are not written to, until REINDEX builds them.
 */
'use strict';

const TABLES = ['orders', 'order_line', 'reservation', 'history', 'idempotency_key'];
const FIRST = 1000000000;
const CHUNK = 1000000;

const FORGET_INDEXES = `
	SET allow_system_table_mods = on;
	UPDATE pg_index SET indisready = false, indisvalid = false
	WHERE indrelid IN (${TABLES.map((table) => `'order_engine.${table}'::regclass`).join(', ')});`;

const ROWS = (from, to) => `
	SET session_replication_role = replica;
	SET synchronous_commit = off;
	INSERT INTO order_engine.orders (order_id, version, last_txid, machine_id, state, state_since, order_number, customer_id,
		currency, lines_total, total, captured_total, payment_status, fulfillment_status, placed_at, confirmed_at,
		first_shipped_at, delivered_at, completed_at, created_at, updated_at)
	SELECT n, 8, '3', 1, 'completed', at, n, 'customer-' || n % 100000, 'EUR', 39.96, 39.96, 39.96, 'paid', 'delivered',
		at, at, at, at, at, at, at
	FROM (SELECT n, now() - interval '72 hours' + (n - ${FIRST}) * interval '10 milliseconds' AS at FROM generate_series(${from}, ${to}) n) o;
	INSERT INTO order_engine.order_line (order_id, line_no, quantity, shipped, delivered, tracked, sku, unit_price, line_total)
	SELECT n, line, 1, 1, 1, true, 'SKU-' || 1001 + (line - 1) * 3000 + n % 2999, 9.99, 9.99
	FROM generate_series(${from}, ${to}) n, generate_series(1, 3) line;
	INSERT INTO order_engine.reservation (reservation_id, created_at, quantity, shipped, slot, sku, location, state)
	SELECT n, now(), 0, 1, 0, 'SKU-' || 1001 + (line - 1) * 3000 + n % 2999, 'default', 'committed'
	FROM generate_series(${from}, ${to}) n, generate_series(1, 3) line;
	INSERT INTO order_engine.history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, actor, created_at)
	SELECT n, 'order', n, 1, 'place', 'draft', 'pending', 1, 'bench', now() FROM generate_series(${from}, ${to}) n;
	INSERT INTO order_engine.idempotency_key (created_at, request_hash, scope, key, operation, result)
	SELECT now() - interval '72 hours' + (n - ${FIRST}) * interval '10 milliseconds', md5(n::text)::uuid, 'bench', md5('key ' || n), 'place_order', n
	FROM generate_series(${from}, ${to}) n;`;

/* Brings the number of loaded orders from "have" to "want"; returns the seconds that it took. */
async function loadOrders(server, db, have, want)
{
	const began = Date.now();
	const last = FIRST + want - 1;

	await server.sql(FORGET_INDEXES, db);
	for (let from = FIRST + have; from <= last; from += CHUNK)
		await server.sql(ROWS(from, Math.min(from + CHUNK - 1, last)), db);
	await Promise.all(TABLES.map((table) => server.sql(
		`SET maintenance_work_mem = '512MB'; REINDEX TABLE order_engine.${table}`, db)));
	for (const table of TABLES)
		await server.sql(`VACUUM (ANALYZE, INDEX_CLEANUP off) order_engine.${table}`, db);
	if (await server.value(`SELECT count(*) FROM pg_index WHERE NOT (indisready AND indisvalid)`, db) !== '0')
		throw new Error('indexes were not built');
	return (Date.now() - began) / 1000;
}

module.exports = { loadOrders };
