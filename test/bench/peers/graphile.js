/*
 * graphile.js
 *		Peer: graphile-worker, SKIP LOCKED and LISTEN/NOTIFY, rows deleted when done.
 *
 * Tuned with its own measures (see its page on performance): a local queue that
 * fetches many jobs at once, completions written in batches, prepared
 * statements.  Its table of jobs is vacuumed before a backlog is drained.
 */
'use strict';

const { query, run } = require('./peer');

const TASK = 'deliver';
const CONNECTIONS = 64;
const LOCAL_QUEUE = 5000;

/* A line a job, which is its default, would be a large part of its work. */
function logger()
{
	const { Logger } = require('graphile-worker');

	return new Logger(() => (level, message) =>
	{
		if (level === 'error' || level === 'warning')
			console.error(message);
	});
}

const peer = {
	name: 'graphile-worker',
	connections: CONNECTIONS,
	enqueue: `SELECT graphile_worker.add_job('${TASK}', json_build_object('id', pg_current_xact_id()::text || '-' || :client_id::text, 'data', json_build_object('n', 1)));`,

	async install()
	{
		await require('graphile-worker').runMigrations({ preset: { worker: { logger: logger() } } });
	},

	async fill(n, text)
	{
		await query(`SELECT count(*) FROM graphile_worker.add_jobs((
			SELECT array_agg((
				$1, json_build_object('id', 'f' || n, 'data', json_build_object('text', $2::text)),
				NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec)
			FROM generate_series(1, $3::int) n))`, [TASK, text, n]);
	},

	async filled()
	{
		await query('VACUUM ANALYZE graphile_worker._private_jobs');
	},

	async start(sender, onDone)
	{
		const { run: runWorker } = require('graphile-worker');
		const events = new (require('events').EventEmitter)();
		let failed = 0;

		events.on('job:complete', ({ error }) =>
		{
			if (error)
				console.error(`graphile-worker: ${++failed} jobs failed: ${error}`);
			else
				onDone(1);
		});

		const runner = await runWorker({
			noHandleSignals: true,
			events,
			taskList: {
				[TASK]: ({ id, data }) => sender.send(`evt_${id}`, 'item.changed', data)
			},
			preset: {
				worker: {
					concurrentJobs: CONNECTIONS,
					maxPoolSize: CONNECTIONS + 4,
					pollInterval: 2000,
					preparedStatements: true,
					useNodeTime: false,
					localQueue: { size: LOCAL_QUEUE },
					completeJobBatchDelay: 0,
					failJobBatchDelay: 0,
					logger: logger()
				}
			}
		});

		return () => runner.stop();
	}
};

run(peer, module);
module.exports = peer;
