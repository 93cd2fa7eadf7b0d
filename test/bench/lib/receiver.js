/*
 * receiver.js
 *		What the events are sent to.
 *
 * nginx answers 204 to everything and costs next to nothing: for throughput.  The
 * receiver of the tests verifies, logs and misbehaves on demand: for latency and
 * for what must be looked at one by one.
 */
'use strict';

const fs = require('fs');
const http = require('http');
const net = require('net');
const path = require('path');
const { start, stop, until } = require('./process');

let receivers = 0;

function freePort()
{
	return new Promise((resolve, reject) =>
	{
		const server = net.createServer();

		server.on('error', reject);
		server.listen(0, '127.0.0.1', () =>
		{
			const { port } = server.address();

			server.close(() => resolve(port));
		});
	});
}

const listens = (port) => new Promise((resolve) =>
{
	const socket = net.connect(port, '127.0.0.1');

	socket.on('connect', () => { socket.destroy(); resolve(true); });
	socket.on('error', () => resolve(false));
});

/* { url, port, connections(), requests(), stop() } */
async function startNginx(bench)
{
	const dir = path.join(bench.work, `nginx${receivers++}`);
	const port = await freePort();
	const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
		.map((kind) => `${kind}_temp_path ${dir}/${kind};`).join('\n');

	fs.mkdirSync(dir);
	fs.writeFileSync(path.join(dir, 'nginx.conf'), `
		worker_processes 1;
		daemon off;
		pid ${dir}/pid;
		error_log ${dir}/error.log;
		events { worker_connections 8192; }
		http {
			access_log off;
			keepalive_requests 1000000000;
			keepalive_timeout 600s;
			${temporary}
			server {
				listen 127.0.0.1:${port} backlog=4096;
				location = /_status { stub_status; }
				location / { return 204; }
			}
		}`);

	const child = start('/usr/sbin/nginx', ['-e', path.join(dir, 'error.log'), '-c', path.join(dir, 'nginx.conf')]);

	await until('nginx listens', async () =>
	{
		if (child.exitCode !== null || child.startError !== undefined)
			throw new Error(`nginx does not start: ${fs.readFileSync(path.join(dir, 'error.log'), 'utf8')}`);
		return listens(port);
	}, { seconds: 30 });

	let asked = 0;			/* by us: these are requests too */
	const status = async () =>
	{
		const text = await request(`http://127.0.0.1:${port}/_status`);

		asked++;
		return text.match(/[0-9]+/g).map(Number);
	};

	return {
		port,
		url: `http://127.0.0.1:${port}/hook`,
		connections: async () => (await status())[0] - 1,
		requests: async () => (await status())[3] - asked,
		stop: () => stop(child)
	};
}

function request(url, method = 'GET', body = undefined)
{
	return new Promise((resolve, reject) =>
	{
		const sent = http.request(url, { method, agent: false }, (response) =>
		{
			const chunks = [];

			response.on('data', (chunk) => chunks.push(chunk));
			response.on('end', () => resolve(Buffer.concat(chunks).toString()));
			response.on('error', reject);
		});

		sent.on('error', reject);
		sent.end(body);
	});
}

/*
 * { url(path), post(path, body), secret(path, secret), log(), clear(), stop() }; log()
 * gives what test/lib/receiver.js wrote, one object an event.
 */
async function startReceiver(bench, args = [])
{
	const dir = path.join(bench.work, `receiver${receivers++}`);
	const file = (name) => path.join(dir, name);
	const log = file('events.log');

	fs.mkdirSync(dir);
	fs.writeFileSync(file('secrets'), '');

	const child = start(process.execPath, [path.join(bench.source, 'test/lib/receiver.js'), '--log', log,
		'--port-file', file('port'), '--secrets', file('secrets'), ...args], { cwd: dir });

	await until('the receiver listens', () =>
	{
		if (child.exitCode !== null || child.startError !== undefined)
			throw new Error('the receiver does not start');
		return fs.existsSync(file('port'));
	}, { seconds: 30 });

	const port = Number(fs.readFileSync(file('port'), 'utf8'));
	const receiver = {
		port,
		url: (where) => `http://127.0.0.1:${port}${where}`,
		get: (where) => request(receiver.url(where)),
		post: (where, body) => request(receiver.url(where), 'POST', body),
		secret: (where, secret) => receiver.post('/_control', JSON.stringify({ secrets: { [where]: [secret] } })),
		async log()
		{
			await receiver.post('/_flush');
			return fs.readFileSync(log, 'utf8').split('\n').filter((line) => line.startsWith('{'))
				.map((line) => JSON.parse(line));
		},
		async clear()
		{
			await receiver.post('/_flush');
			fs.truncateSync(log);
		},
		stop: () => stop(child)
	};

	return receiver;
}

module.exports = { startNginx, startReceiver, freePort };
