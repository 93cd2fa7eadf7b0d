/*
 * writes.js
 *		What the delivery of an event writes: rows, dead rows, WAL.
 *
 * Counted from the moment at which the events are in the queue until all are
 * acknowledged, over all tables of the database, those of the catalog included;
 * the rows that let a paused endpoint go are counted without events and taken
 * off.  Counts do not depend on how busy the machine is, so one round is
 * enough.  Without autovacuum, which would hide dead rows and write WAL of its own.
 */
'use strict';

const { Outbox, scaled } = require('../lib/outbox');
const { Peer, PEERS_NEED } = require('../lib/peers');

const EVENTS = scaled(50000);

/* Rows, and WAL in bytes, so far.  A row is dead once it is updated or deleted. */
const COUNTS = `SELECT sum(n_tup_ins + n_tup_upd + n_tup_del), sum(n_tup_upd + n_tup_del),
	pg_current_wal_insert_lsn() - '0/0' FROM pg_stat_all_tables`;

async function run(bench)
{
	const server = await bench.server({ conf: { autovacuum: 'off' } });
	const nginx = await bench.nginx();
	const outbox = await Outbox.create(bench, server, 'writes');
	const peers = [];

	for (const file of ['graphile', 'boss', 'pgq'])
		peers.push(await Peer.create(bench, server, file));
	await outbox.endpoint('backlog', nginx.url);

	/* the worker and those that end tell by themselves what they did, an idle session does not */
	const counts = async (db) =>
	{
		await outbox.rows('SELECT pg_stat_force_next_flush()');
		await bench.sleep(2000);
		return (await server.sql(COUNTS, db))[0].map(Number);
	};
	const count = async (db, deliver) =>
	{
		const before = await counts(db);

		await deliver();
		return (await counts(db)).map((after, i) => after - before[i]);
	};

	await outbox.pause();

	const toResume = await count(outbox.db, () => outbox.drain(0));

	await outbox.pause();
	await outbox.fill(EVENTS);

	const [rows, dead, wal] = await count(outbox.db, () => outbox.drain(EVENTS));
	const ours = [rows - toResume[0], dead - toResume[1], wal];
	const theirs = {};

	for (const peer of peers)
	{
		await peer.fill(EVENTS);
		theirs[peer.name] = await count(peer.db, () => peer.drain(EVENTS, nginx.url));
	}
	[['rows written', 'rows', 0.1], ['dead rows', 'rows', 0], ['WAL', 'bytes', undefined]].forEach(([what, unit, goal], i) =>
		bench.result({ measure: `${what} per delivered event`, unit, ours: [ours[i] / EVENTS], goal, better: 'lower',
			peers: Object.fromEntries(Object.entries(theirs).map(([name, numbers]) => [name, [numbers[i] / EVENTS]])) }));
}

module.exports = { name: 'writes', title: 'what a delivery writes', needs: ['nginx', ...PEERS_NEED], run };
