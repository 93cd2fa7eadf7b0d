/*
 * arrival.js
 *		From commit to the receiver: how long each event took.
 *
 * Both ends are told by a clock of this machine: the server's commit time stamp,
 * taken just before the commit is flushed to disk, and the receiver's when a
 * request is complete.  So the flush that every durable event waits for is part
 * of it.
 */
'use strict';

const { sleep } = require('./process');

/* Events of ours have an id of their own; where it came from tells the log. */
const OURS = `SELECT 'evt_' || replace(id::text, '-', ''), extract(epoch FROM pg_xact_commit_timestamp(txid::xid))
	FROM order_engine.outbox`;

/* A peer's event has the number of its transaction as id. */
const peers = (ids) => `SELECT 'evt_' || x, extract(epoch FROM pg_xact_commit_timestamp(x::xid))
	FROM unnest('{${ids.map((id) => id.replace('evt_', '')).join(',')}}'::text[]) x`;

/*
 * Runs "script" at so many transactions a second, waits for all of its events and
 * gives the milliseconds that each took.  "path" is where they arrive.
 */
async function arrivals(bench, { server, db, receiver, path, script, rate, seconds, ours = false })
{
	await receiver.clear();

	const { transactions } = await bench.pgbench({ server, db, script, rate, seconds, clients: 4, jobs: 1 });
	let log;

	await bench.until(`${transactions} events at ${path}`, async () =>
	{
		log = (await receiver.log()).filter((entry) => entry.path === path);
		return log.length >= transactions;
	}, { every: 200 });
	/* an acknowledgement that is under way still belongs to this run */
	await sleep(100);

	const first = new Map();

	for (const { id, time, verified } of log)
	{
		bench.check(`${id} is not signed well`, verified);
		if (!first.has(id))
			first.set(id, time);
	}
	bench.check(`${transactions} events, ${first.size} arrived`, first.size === transactions);

	const commits = new Map((await server.sql(ours ? OURS : peers([...first.keys()]), db))
		.map(([id, time]) => [id, Number(time)]));

	return [...first].map(([id, time]) =>
	{
		bench.check(`nobody committed ${id}`, commits.has(id));
		return (time - commits.get(id)) * 1000;
	});
}

module.exports = { arrivals };
