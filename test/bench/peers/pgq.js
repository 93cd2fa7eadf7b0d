/*
 * pgq.js
 *		Peer: PgQ of Skytools, batches between two snapshots, no row touched when
 *		done.
 *
 * Its ticker makes the batches.  The Debian package's daemon ticks once a second;
 * here the fill ticks after each of its transactions, and the consumer ticks
 * itself when it finds nothing to do, every TICK_MS.  A batch is open while it is
 * being delivered, so nothing of the next one overlaps with it.
 */
'use strict';

const { Client } = require('pg');
const { query, run } = require('./peer');

const QUEUE = 'deliver';
const CONSUMER = 'bench';
const CONNECTIONS = 64;
const TICK_MS = 5;

async function connect()
{
	const client = new Client();

	await client.connect();
	return client;
}

async function tick(client)
{
	await client.query({ name: 'force', text: 'SELECT pgq.force_tick($1)', values: [QUEUE] });
	await client.query({ name: 'tick', text: 'SELECT pgq.ticker($1)', values: [QUEUE] });
}

async function sendAll(sender, events)
{
	let next = 0;

	await Promise.all(Array.from({ length: CONNECTIONS }, async () =>
	{
		while (next < events.length)
		{
			const event = events[next++];
			const { id, data } = JSON.parse(event.ev_data);

			await sender.send(`evt_${id}`, event.ev_type, data);
		}
	}));
}

const peer = {
	name: 'pgq',
	connections: CONNECTIONS,
	enqueue: `SELECT pgq.insert_event('${QUEUE}', 'item.changed', json_build_object('id', pg_current_xact_id()::text || '-' || :client_id::text, 'data', json_build_object('n', 1))::text);`,

	async install()
	{
		await query('CREATE EXTENSION pgq');
		await query('SELECT pgq.create_queue($1)', [QUEUE]);
		await query('SELECT pgq.register_consumer($1, $2)', [QUEUE, CONSUMER]);
	},

	async fill(n, text)
	{
		const client = await connect();

		await client.query(`SELECT count(pgq.insert_event($1, 'item.changed',
				json_build_object('id', 'f' || n, 'data', json_build_object('text', $2::text))::text))
			FROM generate_series(1, $3::int) n`, [QUEUE, text, n]);
		await tick(client);
		await client.end();
	},

	async filled()
	{
	},

	async start(sender, onDone)
	{
		const client = await connect();
		let stopped = false;

		const consume = async () =>
		{
			while (!stopped)
			{
				const { rows: [{ batch }] } = await client.query({
					name: 'next', text: 'SELECT pgq.next_batch($1, $2) AS batch', values: [QUEUE, CONSUMER]
				});

				if (batch === null)
				{
					await new Promise((resolve) => setTimeout(resolve, TICK_MS));
					await tick(client);
					continue;
				}

				const { rows } = await client.query({
					name: 'events', text: 'SELECT ev_type, ev_data FROM pgq.get_batch_events($1)', values: [batch]
				});

				await sendAll(sender, rows);
				await client.query({ name: 'finish', text: 'SELECT pgq.finish_batch($1)', values: [batch] });
				onDone(rows.length);
			}
		};
		const consumer = consume().catch((error) =>
		{
			console.error(error);
			process.exit(1);
		});

		return async () =>
		{
			stopped = true;
			await consumer;
			await client.end();
		};
	}
};

run(peer, module);
module.exports = peer;
