/*
 * peer.js
 *		The command line that all peers have.
 *
 *   node peers/NAME.js install				makes its schema and its queue
 *   node peers/NAME.js fill N				puts N events of about 500 bytes into the queue
 *   node peers/NAME.js drain N URL SECRET	delivers N waiting events; prints events/s
 *   node peers/NAME.js serve URL SECRET	prints "ready", then delivers whatever
 *											comes until standard input ends
 *
 * PGHOST, PGUSER and the like say which database; NODE_PATH where the modules
 * are.  Starting node and connecting do not count as time of "drain"; the last
 * acknowledgement in the database does.
 *
 * A peer exports name, connections, install(), fill(n, text), filled(),
 * start(sender, onDone) and enqueue.  start() calls onDone(n) whenever n more
 * events are acknowledged, and answers a function that stops it.  enqueue is the
 * SQL that puts one event into the queue, with the number of its transaction as
 * id, by which its commit time is found later.
 *
 * Each is one process, as our worker is.  pg_net is no peer here: Debian has no
 * package of it.
 */
'use strict';

const { Client } = require('pg');
const { Sender } = require('./sender');

/* With the envelope about 500 bytes. */
const TEXT_BYTES = 419;

/* Also how often PgQ ticks while it is filled. */
const FILL_AT_ONCE = 5000;

/* On a connection of its own. */
async function query(text, values)
{
	const client = new Client();

	await client.connect();
	try
	{
		return await client.query(text, values);
	}
	finally
	{
		await client.end();
	}
}

async function drain(peer, total, sender)
{
	let done = 0;
	let stop;
	const started = process.hrtime.bigint();

	await new Promise((resolve, reject) =>
	{
		peer.start(sender, (n) =>
		{
			done += n;
			if (done >= total)
				resolve();
		}).then((stopper) => (stop = stopper), reject);
	});

	const seconds = Number(process.hrtime.bigint() - started) / 1e9;

	await stop();
	if (done !== total)
		throw new Error(`${total} events to deliver, ${done} delivered`);
	console.log((total / seconds).toFixed(0));
}

async function serve(peer, sender)
{
	const ended = new Promise((resolve) =>
	{
		process.stdin.on('end', resolve);
		process.stdin.on('error', resolve);
		process.stdin.resume();
	});
	const stop = await peer.start(sender, () => {});

	console.log('ready');
	await ended;
	await stop();
}

async function main(peer)
{
	const [command, ...args] = process.argv.slice(2);

	switch (command)
	{
		case 'install':
			await peer.install();
			break;
		case 'fill':
			for (let left = Number(args[0]); left > 0; left -= FILL_AT_ONCE)
				await peer.fill(Math.min(left, FILL_AT_ONCE), 'x'.repeat(TEXT_BYTES));
			await peer.filled();
			break;
		case 'drain':
			await drain(peer, Number(args[0]), new Sender(args[1], args[2], peer.connections));
			break;
		case 'serve':
			await serve(peer, new Sender(args[0], args[1], peer.connections));
			break;
		default:
			throw new Error(`no such command: ${command}`);
	}
	process.exit(0);
}

/* Runs the command line if the peer's file is what node was started with. */
function run(peer, peerModule)
{
	if (require.main !== peerModule)
		return;
	main(peer).catch((error) =>
	{
		console.error(error);
		process.exit(1);
	});
}

module.exports = { query, run };
