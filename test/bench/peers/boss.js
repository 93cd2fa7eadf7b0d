/*
 * boss.js
 *		Peer: pg-boss, SKIP LOCKED and polling, rows kept as completed.
 *
 * Its workers ask for jobs at most every half second, so a backlog is drained
 * with fetch() and complete() in loops of our own, which is the fastest way it
 * offers; several loops overlap the database with the receiver, and large batches
 * pay for its fetch, which sorts what waits.  What comes one by one is delivered
 * by its own workers at their shortest interval.
 */
'use strict';

const { query, run } = require('./peer');

const QUEUE = 'deliver';
const CONNECTIONS = 64;
const LOOPS = 4;
const BATCH = 5000;

function boss()
{
	const PgBoss = require('pg-boss');
	const instance = new PgBoss({ supervise: false, schedule: false, max: LOOPS + 1 });

	instance.on('error', (error) => console.error(error));
	return instance;
}

/* Sends the jobs of a batch, CONNECTIONS / LOOPS at a time. */
async function sendAll(sender, jobs)
{
	let next = 0;

	await Promise.all(Array.from({ length: Math.ceil(CONNECTIONS / LOOPS) }, async () =>
	{
		while (next < jobs.length)
		{
			const { data } = jobs[next++];

			await sender.send(`evt_${data.id}`, 'item.changed', data.data);
		}
	}));
}

const peer = {
	name: 'pg-boss',
	connections: CONNECTIONS,
	enqueue: `INSERT INTO pgboss.job (name, data) VALUES ('${QUEUE}', jsonb_build_object('id', pg_current_xact_id()::text || '-' || :client_id::text, 'data', jsonb_build_object('n', 1)));`,

	async install()
	{
		const instance = boss();

		await instance.start();
		await instance.createQueue(QUEUE);
		await instance.stop({ graceful: false });
	},

	async fill(n, text)
	{
		await query(`INSERT INTO pgboss.job (name, data)
			SELECT $1, jsonb_build_object('id', 'f' || n, 'data', jsonb_build_object('text', $2::text))
			FROM generate_series(1, $3::int) n`, [QUEUE, text, n]);
	},

	async filled()
	{
		await query('VACUUM ANALYZE pgboss.job');
	},

	async start(sender, onDone)
	{
		const instance = boss();
		let stopped = false;

		await instance.start();

		const loop = async () =>
		{
			while (!stopped)
			{
				const jobs = await instance.fetch(QUEUE, { batchSize: BATCH, priority: false });

				if (jobs.length === 0)
					return;
				await sendAll(sender, jobs);
				await instance.complete(QUEUE, jobs.map(({ id }) => id));
				onDone(jobs.length);
			}
		};
		const loops = Promise.all(Array.from({ length: LOOPS }, loop))
			.catch((error) =>
			{
				console.error(error);
				process.exit(1);
			})
			.then(() => !stopped && instance.work(QUEUE, { batchSize: BATCH, priority: false, pollingIntervalSeconds: 0.5 },
				(jobs) => sendAll(sender, jobs)));

		return async () =>
		{
			stopped = true;
			await loops;
			await instance.stop({ graceful: false });
		};
	}
};

run(peer, module);
module.exports = peer;
