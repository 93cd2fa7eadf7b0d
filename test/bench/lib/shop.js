/*
 * shop.js
 *		The workload of the figures about orders: products, stock, and how an order of
 *		three lines is placed, by us and by hand.  See sql/shop.sql.
 */
'use strict';

const fs = require('fs');
const path = require('path');

const SQL = path.join(__dirname, '..', 'sql');

const FORMS = ['statements', 'pipelined', 'plpgsql', 'cte'];

/* How many orders there are before anything is measured, with the keys first-1 and so on. */
const FIRST_ORDERS = 2000;

const TABLES = ['product', 'orders', 'order_line', 'stock', 'reservation', 'stock_movement', 'idempotency_key',
	'history', 'outbox'];

const read = (name) => fs.readFileSync(path.join(SQL, name), 'utf8');

/* Without history, ledger and checks: the least that a shop can do with. */
const lean = (text) => text.replace(/^\s*(--|\/\*) full[^]*?\/full.*\n/gm, '')
	.replaceAll('INCLUDING ALL', 'INCLUDING ALL EXCLUDING CONSTRAINTS');

/*
 * SKU-1001 to SKU-9999, each with a million units.  An order takes one of each third, so its
 * lines are sorted as they come, and no form has to sort them.
 */
async function stockUp(server, db)
{
	await server.sql(`
		SELECT count(order_engine.upsert_product('SKU-' || n, 'Product ' || n, 9.99, 'EUR')) FROM generate_series(1001, 9999) n;
		SELECT count(order_engine.adjust_stock('SKU-' || n, 'default', 1000000, 'benchmark')) FROM generate_series(1001, 9999) n;
		VACUUM ANALYZE order_engine.stock, order_engine.product`, db);
}

/*
 * A schema of its own with the tables of the extension.  Some orders are in it before anything is
 * measured: plans that were made for empty tables read them from end to end.
 */
async function openShop(server, db, schema, { withoutHistory = false } = {})
{
	const text = read('shop.sql');

	await server.sql(`CREATE SCHEMA ${schema}; SET search_path = ${schema};
		${withoutHistory ? lean(text) : text}
		SELECT count(place('customer', ARRAY['SKU-1001', 'SKU-4000', 'SKU-7000'], ARRAY[1, 2, 1],
			'EUR', 'first-' || n)) FROM generate_series(1, ${FIRST_ORDERS}) n;
		VACUUM ANALYZE ${TABLES.join(', ')}`, db);
}

/* The same for ours. */
async function openOurs(server, db)
{
	await stockUp(server, db);
	await server.sql(`SELECT count(order_engine.place_order('customer', '[{"sku": "SKU-1001", "quantity": 1},
		{"sku": "SKU-4000", "quantity": 2}, {"sku": "SKU-7000", "quantity": 1}]', 'EUR', idempotency_key => 'first-' || n))
		FROM generate_series(1, ${FIRST_ORDERS}) n;
		VACUUM ANALYZE ${TABLES.map((table) => `order_engine.${table}`).join(', ')}`, db);
}

/* The script of one form: "ours" or one of FORMS. */
function placeScript(form, { withoutHistory = false } = {})
{
	const text = read(form === 'ours' ? 'place.sql' : `place_${form}.sql`);

	return [{ text: read('place_variables.sql') + (withoutHistory ? lean(text) : text) }];
}

/*
 * What pgbench needs to work in a schema.  Plans are kept from the first call on: left to
 * itself the server makes some of the hand-written ones anew each time, at a loss.
 */
const inSchema = (schema) => ({ PGOPTIONS: `-c search_path=${schema},pg_catalog -c plan_cache_mode=force_generic_plan` });

/* A wrong result is an error: see doc/operations.md for what these two look at. */
async function verify(bench, server, db)
{
	for (const view of ['verify_orders', 'verify_stock'])
		bench.check(`${view}() is not empty`, await server.number(`SELECT count(*) FROM order_engine.${view}()`, db) === 0);
}

/* A hand-written form that does less than it says is no reference. */
async function verifyShop(bench, server, db, schema, { withoutHistory = false } = {})
{
	const history = withoutHistory ? 0 : 1;
	const [[right, counts]] = await server.sql(`
		SELECT orders = keys AND orders = events AND history = ${history} * orders AND lines = 3 * orders
			AND reservations = 3 * orders AND movements = ${history} * 3 * orders AND reserved = 4 * orders, c
		FROM (SELECT (SELECT count(*) FROM ${schema}.orders) AS orders, (SELECT count(*) FROM ${schema}.idempotency_key) AS keys,
			(SELECT count(*) FROM ${schema}.outbox) AS events, (SELECT count(*) FROM ${schema}.history) AS history,
			(SELECT count(*) FROM ${schema}.order_line) AS lines, (SELECT count(*) FROM ${schema}.reservation) AS reservations,
			(SELECT count(*) FROM ${schema}.stock_movement) AS movements, (SELECT sum(reserved) FROM ${schema}.stock) AS reserved) c`, db);

	bench.check(`rows of ${schema}: ${counts}`, right === 't');
}

module.exports = { FIRST_ORDERS, FORMS, stockUp, openOurs, openShop, placeScript, inSchema, verify, verifyShop };
