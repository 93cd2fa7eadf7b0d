/*
 * held.js
 *		The rate while a transaction is held open, against the rate without one.
 *
 * The transaction has a snapshot and a number, as one has that somebody forgot in
 * a terminal, so nothing that dies after it can be removed.  It is open while a
 * backlog is made and worked off.  HELD_SECONDS (0) in the environment lets backlog
 * after backlog be worked off under it for so long before one is measured:
 * deliveries that leave dead rows get slower with their number.
 */
'use strict';

const { Outbox, scaled } = require('../lib/outbox');
const { Peer } = require('../lib/peers');

const EVENTS = scaled(100000);
const PEER_EVENTS = scaled(40000);
const HELD_SECONDS = Number(process.env.HELD_SECONDS ?? 0);

async function run(bench)
{
	const { Client } = require('pg');
	const server = await bench.server();
	const nginx = await bench.nginx();
	const outbox = await Outbox.create(bench, server, 'held');
	const peer = await Peer.create(bench, server, 'graphile');

	await outbox.endpoint('backlog', nginx.url);

	const held = async (work, db) =>
	{
		const client = new Client({ host: server.host, port: server.port, user: server.user, database: db });

		await client.connect();
		await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
		await client.query('SELECT pg_current_xact_id()');
		try
		{
			for (const end = Date.now() + HELD_SECONDS * 1000; Date.now() < end;)
				await work();
			return await work();
		}
		finally
		{
			await client.end();
		}
	};
	const ours = () => outbox.backlog(EVENTS);
	const theirs = () => peer.backlog(PEER_EVENTS, nginx.url);

	await ours();
	await theirs();

	const numbers = await bench.rounds({
		free: ours, held: () => held(ours, outbox.db),
		peerFree: theirs, peerHeld: () => held(theirs, peer.db)
	});

	bench.result({ measure: 'deliveries under a held transaction', unit: 'events/s',
		ours: numbers.held.map(({ rate }) => rate), reference: numbers.free.map(({ rate }) => rate),
		referenceName: 'without one', goal: 0.95 });
	bench.result({ measure: 'CPU time of the worker a delivery', unit: 'us', better: 'lower',
		ours: numbers.held.map(({ cpu }) => cpu), reference: numbers.free.map(({ cpu }) => cpu), referenceName: 'without one' });
	bench.result({ measure: `the same, ${peer.name}`, unit: 'events/s',
		ours: numbers.peerHeld, reference: numbers.peerFree, referenceName: 'without one' });
}

module.exports = { name: 'held', title: 'the rate while a transaction is held open', needs: ['nginx', 'graphile'], run };
