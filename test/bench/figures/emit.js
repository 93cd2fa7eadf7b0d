/*
 * emit.js
 *		emit() in a transaction of its own against a bare INSERT of the same event.
 *
 * The bare INSERTs are what an application that keeps its own outbox does: of the same
 * columns, with the same two indexes, into a table that nobody reads; and, at the least, of four
 * columns into a table with a primary key, in which nothing tells a reader what is new.
 */
'use strict';

const CLIENTS = 16;

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('emit');
	const tps = async (script) => (await bench.pgbench({ db, script, clients: CLIENTS })).tps;

	await server.sql(`CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload jsonb NOT NULL);
		CREATE TABLE same (LIKE order_engine.outbox_0 INCLUDING ALL)`, db);

	const numbers = await bench.rounds({
		same: () => tps('emit_same.sql'),
		bare: () => tps('emit_bare.sql'),
		ours: () => tps('emit.sql')
	});

	const ours = { measure: `emit, ${CLIENTS} clients`, unit: 'events/s', ours: numbers.ours, goal: 0.9 };

	bench.result({ ...ours, reference: numbers.same, referenceName: 'INSERT of the same columns and indexes' });
	bench.result({ ...ours, reference: numbers.bare, referenceName: 'INSERT of four columns, one index' });
}

module.exports = { name: 'emit', title: 'an event in a transaction of its own', needs: [], run };
