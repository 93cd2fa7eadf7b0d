/*
 * clients.js
 *		Throughput and latency of place_order and emit() over the number of clients, with the
 *		best hand-written forms beside them.
 */
'use strict';

const { openOurs, openShop, placeScript, inSchema, verify } = require('../lib/shop');

const CLIENTS = [1, 4, 16, 64, 200];

async function sweep(bench, db, variants)
{
	const lines = Object.fromEntries(Object.keys(variants).map((name) => [name, { tps: [], p50: [], p99: [] }]));

	for (const clients of CLIENTS)
	{
		await bench.rounds(Object.fromEntries(Object.entries(variants).map(([name, options]) => [name, async () =>
		{
			const { tps, latency } = await bench.pgbench({ db, clients, log: true, warmup: Math.ceil(clients / 100),
				seconds: Math.max(2, bench.seconds / 2), ...options });

			lines[name].tps.push([clients, tps]);
			lines[name].p50.push([clients, latency.p50]);
			lines[name].p99.push([clients, latency.p99]);
			return tps;
		}])), { rounds: 1 });
	}
	return lines;
}

function draw(bench, what, unit, lines)
{
	const names = Object.keys(lines);
	const x = { label: 'clients', log: true };

	bench.curve({ file: `${what}_clients_throughput.svg`, title: `${what}: throughput over clients`, x, y: { label: `${unit} per second` },
		series: names.map((name) => ({ name, points: lines[name].tps })) });
	bench.curve({ file: `${what}_clients_latency.svg`, title: `${what}: latency over clients`, x, y: { label: 'milliseconds', log: true },
		series: names.flatMap((name) => ['p50', 'p99'].map((p) => ({ name: `${name}, ${p}`, points: lines[name][p] }))) });
	for (const [clients, tps] of lines[names[0]].tps)
		bench.result({ measure: `${what}, ${clients} clients`, unit: `${unit}/s`, ours: [tps] });
}

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('clients');

	await openOurs(server, db);
	await openShop(server, db, 'shop_plpgsql');
	await openShop(server, db, 'shop_cte');
	await server.sql(`CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload jsonb NOT NULL)`, db);
	await server.settle();

	draw(bench, 'place_order', 'orders', await sweep(bench, db, {
		place_order: { scripts: placeScript('ours') },
		'by hand, PL/pgSQL': { scripts: placeScript('plpgsql'), env: inSchema('shop_plpgsql') },
		'by hand, one CTE': { scripts: placeScript('cte'), env: inSchema('shop_cte') }
	}));
	draw(bench, 'emit', 'events', await sweep(bench, db, {
		emit: { script: 'emit.sql' },
		'bare INSERT': { script: 'emit_bare.sql' }
	}));
	await verify(bench, server, db);
}

module.exports = { name: 'clients', title: 'place_order and emit over 1 to 200 clients', run };
