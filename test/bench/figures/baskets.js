/*
 * baskets.js
 *		32 clients buy baskets of 5 out of 20 SKUs, named in any order: nobody may deadlock.
 *
 * By hand the rows are taken in the order in which the basket names them, as the first
 * version of every shop does it.
 */
'use strict';

const { stockUp, openShop, inSchema, verify } = require('../lib/shop');

const CLIENTS = 32;

/* Five different ones: a start and a step that has no divisor in common with 20. */
const VARIABLES = `\\set s random(0, 19)
\\set k random(1, 8)
`;
const SKUS = "SELECT 'BASKET-' || (:s::int + i * (ARRAY[1, 3, 7, 9, 11, 13, 17, 19])[:k::int]) % 20 AS sku FROM generate_series(0, 4) i";
const OURS = `${VARIABLES}SELECT order_engine.place_order('customer',
	(SELECT jsonb_agg(jsonb_build_object('sku', sku, 'quantity', 1)) FROM (${SKUS}) b), 'EUR');
`;
const BY_HAND = `${VARIABLES}SELECT place('customer', ARRAY(${SKUS}), ARRAY[1, 1, 1, 1, 1], 'EUR', gen_random_uuid()::text);
`;

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('baskets');
	const deadlocks = { ours: [], unsorted: [] };
	const measure = async (name, script, env) =>
	{
		const result = await bench.pgbench({ db, script, clients: CLIENTS, env });

		deadlocks[name].push(result.deadlocks);
		return result.tps;
	};

	await stockUp(server, db);
	await server.sql(`
		SELECT count(order_engine.upsert_product('BASKET-' || n, 'Product ' || n, 9.99, 'EUR')) FROM generate_series(0, 19) n;
		SELECT count(order_engine.adjust_stock('BASKET-' || n, 'default', 100000000, 'benchmark')) FROM generate_series(0, 19) n`, db);
	await openShop(server, db, 'shop');
	await server.settle();

	const numbers = await bench.rounds({
		ours: () => measure('ours', OURS),
		unsorted: () => measure('unsorted', BY_HAND, inSchema('shop'))
	}, { rounds: Math.min(2, bench.roundCount) });

	bench.result({ measure: `deadlocks, ${CLIENTS} clients`, unit: `in ${bench.seconds} s`, ours: deadlocks.ours, better: 'lower', goal: 0,
		note: `by hand, in the order of the basket: ${deadlocks.unsorted.join(', ')}` });
	bench.result({ measure: `baskets of 5 of 20 SKUs, ${CLIENTS} clients`, unit: 'orders/s', ours: numbers.ours,
		reference: numbers.unsorted, referenceName: 'by hand, unsorted' });
	bench.check('deadlocks', deadlocks.ours.every((count) => count === 0));
	await verify(bench, server, db);
}

module.exports = { name: 'baskets', title: 'baskets over 20 SKUs, named in any order', run };
