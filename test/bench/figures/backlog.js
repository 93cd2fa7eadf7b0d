/*
 * backlog.js
 *		Deliveries a second with more and more events waiting behind them.
 *
 * Of each backlog the rate of its first events is measured, and the rest is
 * dropped with the endpoint; a small backlog is measured in the same round, in a
 * database of its own, for the comparison.  Bodies are small: the length of the log
 * is what this is about.
 */
'use strict';

const { Outbox, scaled } = require('../lib/outbox');
const { median } = require('../lib/rounds');

const MEASURED = scaled(50000);
const BACKLOGS = [0, 10000, 100000, 1000000].map((n) => n && scaled(n));
const BYTES = 150;
const AT_ONCE = 100000;

/* The first MEASURED events before "waiting" more. */
async function deliver(outbox, nginx, waiting)
{
	await outbox.endpoint('backlog', nginx.url);
	await outbox.pause();
	for (let left = waiting + MEASURED; left > 0; left -= AT_ONCE)
		await outbox.fill(Math.min(left, AT_ONCE), { bytes: BYTES });

	const result = await outbox.drain(MEASURED, { rest: waiting > 0 });

	await outbox.drop('backlog');
	return result;
}

async function measure(bench, backlogs, rounds)
{
	const server = await bench.server();
	const nginx = await bench.nginx();
	const variants = {};

	for (const waiting of backlogs)
	{
		const outbox = await Outbox.create(bench, server, `backlog_${waiting}`);

		variants[waiting] = () => deliver(outbox, nginx, waiting);
	}

	const numbers = await bench.rounds(variants, rounds);
	const most = backlogs.at(-1);
	const of = (key, waiting) => numbers[waiting].map((round) => round[key]);

	bench.result({ measure: `deliveries before ${most.toLocaleString('en')} more`, unit: 'events/s', ours: of('rate', most),
		reference: of('rate', backlogs[0]), referenceName: 'before none', goal: 0.77,
		note: 'the goal is "within 1.3 x", that is 1 / 1.3' });
	bench.result({ measure: 'CPU time of the worker a delivery', unit: 'us', ours: of('cpu', most),
		reference: of('cpu', backlogs[0]), referenceName: 'before none', better: 'lower' });
	return backlogs.map((waiting) => [waiting, median(of('rate', waiting))]);
}

async function run(bench)
{
	const points = await measure(bench, BACKLOGS);

	bench.curve({ file: 'backlog.svg', title: 'Deliveries over length of the backlog',
		x: { label: 'events that wait', log: true }, y: { label: 'deliveries a second' },
		series: [{ name: 'order_engine', points: points.map(([waiting, number]) => [waiting + MEASURED, number]) }] });
}

module.exports = { name: 'backlog', title: 'deliveries a second over length of the backlog', needs: ['nginx', 'npm'], run, measure };
