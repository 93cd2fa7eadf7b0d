/*
 * growth.js
 *		What place_order costs with many orders present, against an empty table; growth_full.js is
 *		the same with ten million.
 *
 * Two databases of one server take turns.  The one that grows is filled below the
 * extension (lib/load.js), so its verify_*() would not agree and are not asked.
 */
'use strict';

const { FIRST_ORDERS, openOurs, placeScript } = require('../lib/shop');
const { loadOrders } = require('../lib/load');
const { median } = require('../lib/rounds');

const CLIENTS = 16;

async function measure(bench, sizes)
{
	const server = await bench.server({ conf: { wal_level: 'minimal', max_wal_senders: '0', max_wal_size: '4GB',
		maintenance_work_mem: '256MB' } });
	const empty = await server.createdb('empty');
	const grown = await server.createdb('grown');
	const tps = async (db, seconds) => (await bench.pgbench({ server, db, clients: CLIENTS, seconds, scripts: placeScript('ours') })).tps;
	const points = [];
	let have = 0;

	await openOurs(server, empty);
	await openOurs(server, grown);
	for (const size of sizes)
	{
		const seconds = await loadOrders(server, grown, have, size);
		const last = size === sizes.at(-1);

		have = size;
		await server.settle();

		/* once each, unmeasured: both are in memory as far as they fit */
		await tps(grown, 2);
		await tps(empty, 2);

		/* the sizes on the way are for the curve */
		const numbers = await bench.rounds({ grown: () => tps(grown), empty: () => tps(empty) }, last ? {} : { rounds: 1 });

		if (points.length === 0)
			points.push([FIRST_ORDERS, median(numbers.empty)]);
		points.push([size, median(numbers.grown)]);
		bench.result({ measure: `place_order with ${size.toLocaleString('en')} orders present`, unit: 'orders/s', ours: numbers.grown,
			reference: numbers.empty, referenceName: 'an empty table', goal: last ? 0.77 : undefined,
			note: `loaded in ${Math.round(seconds)} s` });
	}
	return points;
}

async function run(bench)
{
	const points = await measure(bench, [100000, 1000000]);

	bench.curve({ file: 'growth.svg', title: 'place_order over orders present', x: { label: 'orders present', log: true },
		y: { label: 'orders per second' }, series: [{ name: 'place_order, 16 clients', points }] });
}

module.exports = { name: 'growth', title: 'place_order with a million orders present', run, measure };
