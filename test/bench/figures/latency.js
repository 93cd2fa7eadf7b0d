/*
 * latency.js
 *		From commit to the arrival of the request, one event a transaction.
 *
 * Counted from when the client heard of its commit, and from the server's commit
 * time stamp, see lib/arrival.js.
 *
 * Two rates in rounds, beside the peer that is woken up; what polls is measured
 * once.  More rates, once each, give the curve; they end where the receiver, which
 * verifies and logs every request, is busy itself.
 */
'use strict';

const { arrivals } = require('../lib/arrival');
const { Outbox, COMMIT_TIMES } = require('../lib/outbox');
const { Peer, PEERS_NEED, SECRET } = require('../lib/peers');
const { median, percentiles: percentilesOf } = require('../lib/rounds');

const RATES = [100, 1000];
const CURVE_RATES = [30, 300, 3000];
const WARM_UP_SECONDS = 1;
const GOALS = { p50: 0.5, p95: undefined, p99: 1.2 };
const FROM = { returned: "the commit's return", stamped: "the commit's time stamp" };

async function run(bench)
{
	const server = await bench.server({ conf: COMMIT_TIMES });
	const receiver = await bench.receiver();
	const outbox = await Outbox.create(bench, server, 'latency');
	const peers = [];

	for (const file of ['graphile', 'boss', 'pgq'])
		peers.push(await Peer.create(bench, server, file));
	await receiver.secret('/ours', await outbox.endpoint('latency', receiver.url('/ours'), ''));
	for (const peer of peers)
		await receiver.secret(`/${peer.db}`, SECRET);

	const percentiles = ({ returned, stamped }) => ({ returned: percentilesOf(returned), stamped: percentilesOf(stamped) });
	const ours = async (rate, seconds = bench.seconds) => percentiles(await arrivals(bench, { server, db: outbox.db,
		receiver, path: '/ours', script: 'emit_client.sql', rate, seconds, ours: true }));
	const beside = async (peer, rate) =>
	{
		const worker = await peer.serve(receiver.url(`/${peer.db}`));

		try
		{
			const run = (seconds) => arrivals(bench, { server, db: peer.db, receiver, path: `/${peer.db}`,
				script: peer.module.enqueue, rate, seconds });

			/* a program that has just started is slow for reasons of its own */
			await run(WARM_UP_SECONDS);
			return percentiles(await run(bench.seconds));
		}
		finally
		{
			await worker.stop();
		}
	};
	const [graphile, ...polling] = peers;
	const points = { ours: [], [graphile.name]: [] };
	const add = (rate, us, them) =>
	{
		points.ours.push([rate, us]);
		points[graphile.name].push([rate, them]);
	};
	const one = (numbers, from, key) => numbers.map((round) => round[from][key]);
	const middle = (numbers) => ({ returned: Object.fromEntries(Object.keys(GOALS)
		.map((key) => [key, median(one(numbers, 'returned', key))])) });

	await ours(RATES[0], WARM_UP_SECONDS);
	for (const rate of RATES)
	{
		const numbers = await bench.rounds({ ours: () => ours(rate), graphile: () => beside(graphile, rate) });
		const others = {};

		for (const peer of polling)
			others[peer.name] = [await beside(peer, rate)];
		for (const [from, name] of Object.entries(FROM))
		{
			for (const [key, goal] of Object.entries(GOALS))
				bench.result({ measure: `${name} to arrival at ${rate}/s, ${key}`, unit: 'ms', ours: one(numbers.ours, from, key),
					goal, better: 'lower', peers: { [graphile.name]: one(numbers.graphile, from, key),
						...Object.fromEntries(Object.entries(others).map(([peer, rounds]) => [peer, one(rounds, from, key)])) } });
		}
		add(rate, middle(numbers.ours), middle(numbers.graphile));
	}
	for (const rate of CURVE_RATES)
		add(rate, await ours(rate), await beside(graphile, rate));

	bench.curve({ file: 'latency.svg', title: 'From the return of the commit to arrival',
		x: { label: 'events a second', log: true }, y: { label: 'milliseconds', log: true },
		series: Object.entries(points).flatMap(([name, list]) => ['p50', 'p99'].map((key) => (
			{ name: `${name === 'ours' ? 'order_engine' : name}, ${key}`, points: list.map(([rate, p]) => [rate, p.returned[key]]) }))) });
}

module.exports = { name: 'latency', title: 'commit to arrival at the receiver', needs: PEERS_NEED, run };
