/*
 * arrival.js
 *		From commit to the receiver: how long each event took.
 *
 * Both ends are told by a clock of this machine.  A request arrived when the
 * receiver has read its headers; for the commit there are two times.  "returned" is when
 * the client heard that it had committed, which is what an application sees; when the client
 * has to wait for a processor it hears late, and some events arrive before.
 * "stamped" is the server's commit time stamp, taken just before the commit is
 * flushed to disk: it has the flush in it that every durable event waits for.
 */
'use strict';

const { sleep } = require('./process');

/* Seconds: how far the client may have its clock from the server. */
const CLOCKS_DIFFER = 0.001;

/* Of each event: its id, the time stamp of its commit, its client, in the order in which each client sent. */
const OURS = `SELECT 'evt_' || replace(id::text, '-', ''), extract(epoch FROM pg_xact_commit_timestamp(txid::xid)),
		split_part(aggregateid, '-', 1)
	FROM order_engine.outbox WHERE aggregatetype = 'item' ORDER BY txid`;

/* A peer's event has the numbers of its transaction and of its client as id. */
const peers = (ids) => `SELECT 'evt_' || x, extract(epoch FROM pg_xact_commit_timestamp(split_part(x, '-', 1)::xid)),
		split_part(x, '-', 2)
	FROM unnest('{${ids.map((id) => id.replace('evt_', '')).join(',')}}'::text[]) x ORDER BY split_part(x, '-', 1)::int8`;

/*
 * Runs "script" at so many transactions a second, waits for all of its events and
 * gives the milliseconds that each took, as { returned, stamped }.  "path" is where they
 * arrive.
 */
async function arrivals(bench, { server, db, receiver, path, script, rate, seconds, ours = false })
{
	await receiver.clear();

	const { transactions, ends } = await bench.pgbench({ server, db, script, rate, seconds, clients: 4, jobs: 1, log: true });
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

	const result = { returned: [], stamped: [] };
	const next = ends.map(() => 0);

	/* those of this run, for the table may have older ones: pgbench tells when, but not which */
	for (const [id, stamp, client] of (await server.sql(ours ? OURS : peers([...first.keys()]), db)).filter(([id]) => first.has(id)))
	{
		const returned = ends[client][next[client]++];

		bench.check(`client ${client} was answered before it committed`, returned > Number(stamp) - CLOCKS_DIFFER);
		result.returned.push((first.get(id) - returned) * 1000);
		result.stamped.push((first.get(id) - Number(stamp)) * 1000);
	}
	bench.check('not every commit is known', result.returned.length === first.size &&
		ends.every((times, client) => times.length === next[client]));
	return result;
}

module.exports = { arrivals };
