/*
 * emit.js
 *		emit() in a transaction of its own against a bare INSERT of the same event.
 *
 * The bare INSERT is what an application that keeps its own outbox does at the least:
 * one row with an identity, in a table with a primary key, that nobody reads.
 */
'use strict';

const CLIENTS = 16;

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('emit');
	const tps = async (script) => (await bench.pgbench({ db, script, clients: CLIENTS })).tps;

	await server.sql(`CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload jsonb NOT NULL)`, db);

	const numbers = await bench.rounds({
		bare: () => tps('emit_bare.sql'),
		ours: () => tps('emit.sql')
	});

	bench.result({ measure: `emit, ${CLIENTS} clients`, unit: 'events/s', ours: numbers.ours,
		reference: numbers.bare, referenceName: 'bare INSERT', goal: 0.9 });
}

module.exports = { name: 'emit', title: 'an event in a transaction of its own', needs: [], run };
