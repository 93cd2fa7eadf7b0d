/*
 * payload.js
 *		Deliveries a second over the size of the body.
 */
'use strict';

const { buildBareLoop } = require('../lib/bare_loop');
const { Outbox, scaled } = require('../lib/outbox');

const SIZES = [200, 500, 2000, 8000, 32000, 64000];
const IN_FLIGHT = 64;

/* As many as make a second or two of it. */
const events = (bytes) => scaled(Math.min(60000, Math.round(300e6 / (bytes + 2000))));

async function run(bench)
{
	const server = await bench.server();
	const nginx = await bench.nginx();
	const bareLoop = await buildBareLoop(bench);
	const outbox = await Outbox.create(bench, server, 'payload');
	const ours = [];
	const bare = [];

	await outbox.endpoint('payload', nginx.url, `max_in_flight => ${IN_FLIGHT}`);
	await outbox.backlog(scaled(10000));
	for (const bytes of SIZES)
	{
		const limit = await bareLoop(nginx.url, events(bytes), IN_FLIGHT, bytes);
		const result = await outbox.backlog(events(bytes), { bytes });

		bare.push([bytes, limit.rate]);
		ours.push([bytes, result.rate]);
		bench.result({ measure: `deliveries of ${bytes} bytes`, unit: 'events/s', ours: [result.rate],
			reference: [limit.rate], referenceName: 'bare libcurl loop',
			note: `CPU time a delivery: ${result.cpu.toFixed(1)} us, bare libcurl loop ${limit.cpu.toFixed(1)} us` });
	}
	bench.curve({ file: 'payload.svg', title: 'Deliveries over size of the body',
		x: { label: 'bytes of the body', log: true }, y: { label: 'deliveries a second', log: true },
		series: [{ name: 'order_engine', points: ours }, { name: 'bare libcurl loop, no database', points: bare }] });
}

module.exports = { name: 'payload', title: 'deliveries a second over size of the body', needs: ['nginx', 'openssl', 'npm'], run };
