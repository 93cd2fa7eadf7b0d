/*
 * endpoints.js
 *		Deliveries a second over the number of endpoints.
 *
 * Once with every event for one of them, by its type, and once with every event for
 * all of them; the number of deliveries is the same throughout.
 */
'use strict';

const { Outbox, scaled } = require('../lib/outbox');
const { median } = require('../lib/rounds');

const COUNTS = [1, 10, 100, 1000];
const DELIVERIES = scaled(50000);
const SHAPES = { one: 'every event for one', all: 'every event for all' };

async function run(bench)
{
	const server = await bench.server();
	const nginx = await bench.nginx();
	const rates = { one: [], all: [] };

	for (const count of COUNTS)
	{
		const variants = {};

		for (const [to, type] of [['one', "'item.changed_' || n"], ['all', "'*'"]])
		{
			const outbox = await Outbox.create(bench, server, `endpoints_${to}_${count}`);
			const events = to === 'one' ? DELIVERIES : Math.ceil(DELIVERIES / count);
			const deliveries = to === 'one' ? DELIVERIES : events * count;

			await outbox.rows(`SELECT count(order_engine.create_endpoint('e' || n, $1, ARRAY[${type}], max_in_flight => 64))
				FROM generate_series(0, ${count - 1}) n`, [nginx.url]);
			/* connections are opened, and the worker knows them all */
			await outbox.burst(to === 'one' ? count : 1, count, { types: to === 'one' ? count : undefined });
			variants[to] = () => outbox.burst(events, deliveries, { types: to === 'one' ? count : undefined });
		}
		for (const [to, numbers] of Object.entries(await bench.rounds(variants)))
			rates[to].push(numbers);
		for (const to of Object.keys(variants))
			await server.dropdb(`endpoints_${to}_${count}`);
	}

	const of = (key, list) => list.map((round) => round[key]);

	for (const [to, name] of Object.entries(SHAPES))
	{
		const [one, many] = [rates[to][0], rates[to].at(-1)];

		bench.result({ measure: `${COUNTS.at(-1)} endpoints, ${name}`, unit: 'deliveries/s', ours: of('rate', many),
			reference: of('rate', one), referenceName: 'one endpoint', goal: 0.77,
			note: 'the goal is "within 1.3 x", that is 1 / 1.3' });
		bench.result({ measure: 'CPU time of the worker a delivery', unit: 'us', ours: of('cpu', many),
			reference: of('cpu', one), referenceName: 'one endpoint', better: 'lower' });
	}
	bench.curve({ file: 'endpoints.svg', title: 'Deliveries over number of endpoints',
		x: { label: 'endpoints', log: true }, y: { label: 'deliveries a second' },
		series: Object.entries(SHAPES).map(([to, name]) => (
			{ name, points: rates[to].map((list, i) => [COUNTS[i], median(of('rate', list))]) })) });
}

module.exports = { name: 'endpoints', title: 'deliveries a second over number of endpoints', needs: ['nginx', 'npm'], run };
