/*
 * neighbours.js
 *		A healthy endpoint beside one that hangs and has 10,000 events waiting.
 *
 * The one that hangs takes every request and never answers.  It has a receiver of
 * its own, so that the healthy one's is as idle as before.
 */
'use strict';

const { arrivals } = require('../lib/arrival');
const { Outbox, COMMIT_TIMES, scaled } = require('../lib/outbox');
const { percentiles } = require('../lib/rounds');

const RATE = 100;
const WAITING = scaled(10000);

async function run(bench)
{
	const server = await bench.server({ conf: COMMIT_TIMES });
	const receiver = await bench.receiver();
	const hanging = await bench.receiver();
	const outbox = await Outbox.create(bench, server, 'neighbours');

	await receiver.secret('/healthy', await outbox.endpoint('healthy', receiver.url('/healthy'), "event_types => '{item.changed}'"));
	await hanging.post('/_control', JSON.stringify({ rules: [{ action: 'hang' }] }));

	const healthy = async (seconds = bench.seconds) => percentiles((await arrivals(bench, { server, db: outbox.db, receiver,
		path: '/healthy', script: 'emit_client.sql', rate: RATE, seconds, ours: true })).stamped);
	const beside = async () =>
	{
		await outbox.endpoint('hanging', hanging.url('/hanging'), "event_types => '{slow.*}'");
		await outbox.rows(`SELECT count(order_engine.emit('slow', n::text, 'slow.changed', '{"n": 1}')) FROM generate_series(1, $1::int) n`, [WAITING]);
		await bench.until('requests hang', () => outbox.is('in_flight > 0', 'hanging'));

		const result = await healthy();

		bench.check('the other endpoint hangs no longer', await outbox.is('lag_events > 0', 'hanging'));
		await outbox.drop('hanging');
		return result;
	};

	await healthy(1);

	const numbers = await bench.rounds({ idle: () => healthy(), beside });

	for (const [key, goal] of [['p50', undefined], ['p99', 2]])
		bench.result({ measure: `healthy endpoint beside a hanging one, ${key}`, unit: 'ms', note: "from the commit's time stamp", ours: numbers.beside.map((p) => p[key]),
			reference: numbers.idle.map((p) => p[key]), referenceName: 'alone', goal, better: 'lower' });
}

module.exports = { name: 'neighbours', title: 'an endpoint while another hangs', needs: ['npm'], run };
