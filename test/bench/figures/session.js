/*
 * session.js
 *		100,000 transactions in one session: what commits cost, and memory.
 *
 * What an extension leaves behind at each transaction (a callback registered once
 * more, memory that is not given back) shows in the commits that have nothing to do
 * with it, so those are measured at the beginning and at the end, and so are those
 * that emit.  Commits do not wait for the disk, whose moods are larger than what
 * is looked for.
 */
'use strict';

const { Outbox, scaled } = require('../lib/outbox');
const { median } = require('../lib/rounds');

const TRANSACTIONS = scaled(100000);
const SAMPLE = Math.min(4000, TRANSACTIONS / 10);

async function run(bench)
{
	const { Client } = require('pg');
	const server = await bench.server();
	const nginx = await bench.nginx();
	const outbox = await Outbox.create(bench, server, 'session');
	const client = new Client({ host: server.host, port: server.port, user: server.user, database: outbox.db,
		options: '-c synchronous_commit=off' });

	await outbox.endpoint('session', nginx.url);
	await server.sql('CREATE TABLE unrelated (n integer)', outbox.db);
	await client.connect();
	bench.keep({ stop: () => client.end() });

	const emit = (n) => client.query({ name: 'emit', values: [n],
		text: "SELECT order_engine.emit('item', ($1::int % 1000)::text, 'item.changed', '{\"n\": 1}')" });
	const unrelated = () => client.query({ name: 'unrelated', text: 'INSERT INTO unrelated VALUES (1)' });
	const times = async (n, transaction) =>
	{
		const microseconds = [];

		for (let i = 0; i < n; i++)
		{
			const from = process.hrtime.bigint();

			await transaction(i);
			microseconds.push(Number(process.hrtime.bigint() - from) / 1000);
		}
		return median(microseconds);
	};
	const memory = async () =>
		Number((await client.query('SELECT sum(total_bytes) AS bytes FROM pg_backend_memory_contexts')).rows[0].bytes) / 1024;
	const state = async () => ({ emit: await times(SAMPLE, emit), unrelated: await times(SAMPLE, unrelated), memory: await memory() });

	await state();		/* plans are made, caches are full */

	const begin = await state();

	await times(TRANSACTIONS, emit);

	const end = await state();

	for (const [key, measure, unit, goal] of [
		['unrelated', 'commit of an unrelated transaction, at the end', 'us', 1.1],
		['emit', 'commit of a transaction that emits', 'us', 1.1],
		['memory', 'memory of the session', 'KiB', 1.05]])
		bench.result({ measure, unit, ours: [end[key]], reference: [begin[key]], referenceName: 'at the beginning', goal, better: 'lower' });
	await outbox.idle();
}

module.exports = { name: 'session', title: `${TRANSACTIONS.toLocaleString('en')} transactions in one session`, needs: ['nginx', 'npm'], run };
