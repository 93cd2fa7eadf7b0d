/*
 * delivery.js
 *		Events a second from a backlog to one endpoint.
 *
 * Each sends the same: about 500 bytes, signed, over at most 64 connections to
 * the same nginx.  The bare loop is the limit: libcurl and the signature, with
 * nothing read from a log and nothing acknowledged.  Both are one thread, so the
 * CPU time that each takes for a delivery tells nearly the same as the rate, and on
 * a machine that others use tells it better.  pg_net is missing: Debian has no
 * package of it.
 */
'use strict';

const { Outbox, BODY_BYTES, scaled } = require('../lib/outbox');
const { Peer, PEERS_NEED } = require('../lib/peers');
const { buildBareLoop } = require('../lib/bare_loop');

const EVENTS = scaled(100000);
const IN_FLIGHT = 64;

async function run(bench)
{
	const server = await bench.server();
	const nginx = await bench.nginx();
	const bareLoop = await buildBareLoop(bench);
	const outbox = await Outbox.create(bench, server, 'delivery');
	const graphile = await Peer.create(bench, server, 'graphile');
	const boss = await Peer.create(bench, server, 'boss');
	const pgq = await Peer.create(bench, server, 'pgq');

	await outbox.endpoint('backlog', nginx.url, `max_in_flight => ${IN_FLIGHT}`);

	const numbers = await bench.rounds({
		bare: () => bareLoop(nginx.url, EVENTS, IN_FLIGHT, BODY_BYTES),
		ours: () => outbox.backlog(EVENTS),
		graphile: () => graphile.backlog(EVENTS, nginx.url),
		boss: () => boss.backlog(EVENTS, nginx.url),
		pgq: () => pgq.backlog(EVENTS, nginx.url)
	});
	const of = (key, list) => list.map((round) => round[key]);
	const line = (referenceName, reference, goal) => bench.result({ measure: `deliveries, against ${referenceName}`,
		unit: 'events/s', ours: of('rate', numbers.ours), reference, referenceName, goal });

	line('bare libcurl loop', of('rate', numbers.bare), 0.7);
	bench.result({ measure: 'CPU time of the sending thread a delivery', unit: 'us', ours: of('cpu', numbers.ours),
		reference: of('cpu', numbers.bare), referenceName: 'bare libcurl loop', better: 'lower' });
	line(graphile.name, numbers.graphile, 2.5);
	line(boss.name, numbers.boss);
	line(pgq.name, numbers.pgq);
}

module.exports = { name: 'delivery', title: 'events a second from a backlog to one endpoint',
	needs: ['nginx', 'openssl', ...PEERS_NEED], run };
