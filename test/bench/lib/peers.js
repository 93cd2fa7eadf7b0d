/*
 * peers.js
 *		The queues of peers/, each in a database of its own on the same server.
 */
'use strict';

const path = require('path');
const { start, stop, run } = require('./process');

const SECRET = `whsec_${Buffer.from('0123456789abcdef0123456789abcdef').toString('base64')}`;

/* What a figure that measures all of them needs. */
const PEERS_NEED = ['graphile', 'pgboss', 'pgq'];

class Peer
{
	static async create(bench, server, file)
	{
		const peer = new Peer();

		peer.bench = bench;
		peer.server = server;
		peer.file = path.join(__dirname, '..', 'peers', `${file}.js`);
		peer.module = require(peer.file);
		peer.name = peer.module.name;
		peer.db = await server.createdb(`peer_${file}`, { extension: false });
		await peer.command('install');
		return peer;
	}

	async command(...args)
	{
		const { stdout, stderr } = await run(process.execPath, [this.file, ...args.map(String)], { env: this.server.env(this.db) });

		if (stderr !== '')
			process.stderr.write(stderr);
		return stdout.trim();
	}

	fill(n) { return this.command('fill', n); }

	/* Delivers what fill() left: events a second. */
	async drain(n, url)
	{
		await this.server.settle();
		return Number(await this.command('drain', n, url, SECRET));
	}

	async backlog(n, url)
	{
		await this.fill(n);
		return this.drain(n, url);
	}

	/* Delivers what comes until stop() of the answer. */
	async serve(url)
	{
		const child = start(process.execPath, [this.file, 'serve', url, SECRET],
			{ env: this.server.env(this.db), stdio: ['pipe', 'pipe', 'inherit'] });
		const gone = child.gone.then(() => { throw new Error(`${this.name} ended`); });

		gone.catch(() => {});
		await Promise.race([gone, new Promise((resolve) => child.stdout.once('data', resolve))]);
		return {
			stop()
			{
				child.stdin.end();
				return stop(child, 0);
			}
		};
	}
}

module.exports = { Peer, PEERS_NEED, SECRET };
