/*
 * users.js
 *		5,000 connections through pgbouncer in transaction mode place, pay, look at and ship
 *		orders; the events are delivered meanwhile.
 *
 * First everybody as fast as it goes: that is the throughput, and the latency is mostly the
 * line before the pooler.  Then at half of that rate: that is the latency of a server that has
 * room.  A latency is that of a whole script: a payment is two transactions.
 *
 * One order in a hundred has a line that is sold out and must leave nothing.  pgbench gives up a
 * client whose statement fails, so that one is placed by a function that catches the error,
 * and looks that it is the right one; every error that reaches a client fails the figure.
 */
'use strict';

const { startPgbouncer } = require('../lib/pgbouncer');
const { percentiles } = require('../lib/rounds');
const { stockUp, verify } = require('../lib/shop');

const USERS = 5000;
const POOL = 32;

/* A thread of pgbench looks at all its connections for each answer: many threads with few each. */
const PROCESSES = 2;
const THREADS = 10;

const SCRIPTS = [
	{ name: 'place', file: 'users_place.sql', weight: 4455 },
	{ name: 'place, must fail', file: 'users_fail.sql', weight: 45 },
	{ name: 'payment', file: 'users_payment.sql', weight: 4300 },
	{ name: 'status', file: 'users_status.sql', weight: 400 },
	{ name: 'fulfillment', file: 'users_fulfillment.sql', weight: 400 },
	{ name: 'stock level', file: 'users_stock.sql', weight: 400 }
];

const SETUP = `
	SELECT order_engine.upsert_product('SOLD-OUT', 'Sold out', 9.99, 'EUR');
	CREATE FUNCTION must_fail(one text, two text, key text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM order_engine.place_order('must-fail', jsonb_build_array(
			jsonb_build_object('sku', one, 'quantity', 1), jsonb_build_object('sku', 'SOLD-OUT', 'quantity', 1),
			jsonb_build_object('sku', two, 'quantity', 1)), 'EUR', idempotency_key => key);
		RAISE EXCEPTION 'an order for what is sold out was placed' USING ERRCODE = 'XX000';
	EXCEPTION WHEN SQLSTATE 'OE201' THEN
		NULL;
	END $$;`;

/* Each user has an order to begin with; a run takes those from "first" on. */
async function placeFirst(server, db)
{
	return server.number(`SELECT min(order_engine.place_order('customer-' || n, jsonb_build_array(
		jsonb_build_object('sku', 'SKU-' || 1001 + n % 8999, 'quantity', 1)), 'EUR', terms => 'invoice'))
		FROM generate_series(1, ${USERS}) n`, db);
}

/* How many there are of each kind of error. */
function countErrors(lines)
{
	const kinds = {};

	for (const line of lines)
	{
		const kind = line.replace(/^.*?(ERROR|FATAL|error):\s*/, '').replace(/[0-9]+/g, 'N');

		kinds[kind] = (kinds[kind] ?? 0) + 1;
	}
	return kinds;
}

async function load(bench, server, db, pooler, seconds, rate)
{
	const first = await placeFirst(server, db);
	const each = USERS / PROCESSES;
	const runs = await Promise.all(Array.from({ length: PROCESSES }, (_, n) => bench.pgbench({
		server, db, scripts: SCRIPTS, clients: each, jobs: THREADS, seconds, rate: rate && rate / PROCESSES, log: true,
		mode: 'extended', define: { first: first + n * each, mine: 0, stage: 0 }, env: pooler.env, mayFail: true })));
	const samples = (n) => runs.flatMap((run) => run.scriptSamples[n] ?? []);
	const errors = countErrors(runs.flatMap((run) => run.errors));

	return {
		tps: runs.reduce((sum, run) => sum + run.tps, 0),
		all: percentiles(runs.flatMap((run) => run.samples)),
		scripts: SCRIPTS.map((script, n) => ({ name: script.name, latency: percentiles(samples(n)) })),
		errors
	};
}

function tell(bench, what, run)
{
	bench.result({ measure: `${what}: all`, unit: 'transactions/s', ours: [run.tps] });
	for (const { name, latency } of [{ name: 'all', latency: run.all }, ...run.scripts])
	{
		for (const p of ['p50', 'p95', 'p99'])
			bench.report.add({ measure: `${what}: ${name}, ${p}`, unit: 'ms', ours: [latency[p]], better: 'lower' });
		bench.print(`    ${name.padEnd(18)} ${String(latency.n).padStart(8)} times, ms: p50 ${latency.p50?.toFixed(1)}, ` +
			`p95 ${latency.p95?.toFixed(1)}, p99 ${latency.p99?.toFixed(1)}`);
	}

	const kinds = Object.entries(run.errors);

	bench.print(`    errors: ${kinds.length === 0 ? 'none' : kinds.map(([kind, count]) => `${count} x ${kind}`).join('; ')}`);
	bench.check(`errors reached clients (${what})`, kinds.length === 0);
}

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('users');
	const nginx = await bench.nginx();
	const seconds = bench.seconds * 2;

	await stockUp(server, db);
	await server.sql(SETUP, db);
	await server.sql(`SELECT order_engine.create_endpoint('shop', '${nginx.url}', max_in_flight => 64)`, db);

	const pooler = bench.keep(await startPgbouncer(bench, server, db, { clients: USERS, pool: POOL }));
	const full = await load(bench, server, db, pooler, seconds);

	tell(bench, `${USERS} users, as fast as it goes`, full);

	const half = await load(bench, server, db, pooler, seconds, full.tps / 2);

	tell(bench, `${USERS} users, half of that`, half);

	/* what was counted by pgbench is there, what failed is not */
	const placed = full.scripts[0].latency.n + half.scripts[0].latency.n + 2 * USERS;
	const [[orders, traces]] = await server.sql(`
		SELECT (SELECT count(*) FROM order_engine.orders),
			(SELECT count(*) FROM order_engine.orders WHERE customer_id = 'must-fail')
			+ (SELECT count(*) FROM order_engine.idempotency_key WHERE key LIKE 'fail-%')
			+ (SELECT count(*) FROM order_engine.outbox WHERE payload ->> 'customer_id' = 'must-fail')`, db);

	bench.check(`${placed} orders were placed and ${orders} are there`, Number(orders) === placed);
	bench.check(`orders that failed left ${traces} rows`, Number(traces) === 0);
	await verify(bench, server, db);

	const began = Date.now();

	await server.until("EXISTS (SELECT FROM order_engine.endpoint_status WHERE name = 'shop' AND lag_events = 0)", db, { seconds: 300, every: 200 });

	const events = await server.number('SELECT count(*) FROM order_engine.outbox', db);
	const received = await nginx.requests();

	bench.check(`${received} of ${events} events were received`, received >= events);
	bench.result({ measure: 'events delivered', unit: 'events', ours: [events],
		note: `${received} requests received; the last one ${((Date.now() - began) / 1000).toFixed(1)} s after the load ended` });
}

module.exports = { name: 'users', title: '5,000 connections through pgbouncer', needs: ['nginx', 'pgbouncer'], run };
