/*
 * replay.js
 *		A call that is repeated with the key of one that is done: the stored result comes back and
 *		nothing is written.  Against a PL/pgSQL function that looks for the key first.
 */
'use strict';

const { openOurs, openShop, inSchema } = require('../lib/shop');

const CLIENTS = 16;

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('replay');

	await openOurs(server, db);
	await openShop(server, db, 'shop');

	const orders = () => server.value('SELECT count(*) FROM order_engine.orders', db);
	const before = await orders();
	const numbers = await bench.rounds({
		ours: async () => (await bench.pgbench({ db, script: 'replay.sql', clients: CLIENTS })).tps,
		plpgsql: async () => (await bench.pgbench({ db, script: 'replay_plpgsql.sql', clients: CLIENTS, env: inSchema('shop') })).tps
	});

	bench.check('a repeated call placed an order', await orders() === before);
	bench.result({ measure: `place_order with a known key, ${CLIENTS} clients`, unit: 'calls/s', ours: numbers.ours,
		reference: numbers.plpgsql, referenceName: 'PL/pgSQL', goal: 1 });
}

module.exports = { name: 'replay', title: 'a repeated call with the same idempotency key', run };
