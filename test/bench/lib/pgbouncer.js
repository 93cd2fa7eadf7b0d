/*
 * pgbouncer.js
 *		A pooler in transaction mode before one database, on a socket in the private folder.
 */
'use strict';

const fs = require('fs');
const net = require('net');
const path = require('path');
const { start, stop, until } = require('./process');

let poolers = 0;

const listens = (file) => new Promise((resolve) =>
{
	const socket = net.connect(file);

	socket.on('connect', () => { socket.destroy(); resolve(true); });
	socket.on('error', () => resolve(false));
});

/* { env, log, stop() }; "env" brings a program of libpq here. */
async function startPgbouncer(bench, server, db, { clients, pool })
{
	const dir = path.join(bench.work, `pgbouncer${poolers++}`);
	const port = 6432;
	const log = path.join(dir, 'log');

	fs.mkdirSync(dir);
	fs.writeFileSync(path.join(dir, 'pgbouncer.ini'), [
		'[databases]',
		`${db} = host=${server.host} port=${server.port} dbname=${db} user=${server.user}`,
		'[pgbouncer]',
		'pool_mode = transaction',
		'auth_type = any',
		`listen_port = ${port}`,
		`unix_socket_dir = ${dir}`,
		'listen_backlog = 4096',
		`max_client_conn = ${clients + 100}`,
		`default_pool_size = ${pool}`,
		'query_wait_timeout = 0',
		'ignore_startup_parameters = extra_float_digits,options',
		'log_connections = 0',
		'log_disconnections = 0',
		`logfile = ${log}`,
		''].join('\n'));

	/* it logs to its standard error as well, and 5,000 clients make it talk */
	const child = start('/usr/sbin/pgbouncer', [path.join(dir, 'pgbouncer.ini')],
		{ cwd: dir, stdio: ['ignore', 'ignore', 'ignore'] });

	await until('pgbouncer listens', async () =>
	{
		if (child.exitCode !== null || child.startError !== undefined)
			throw new Error(`pgbouncer does not start: ${fs.existsSync(log) ? fs.readFileSync(log, 'utf8') : child.startError}`);
		return listens(path.join(dir, `.s.PGSQL.${port}`));
	}, { seconds: 30 });

	return { env: { PGHOST: dir, PGPORT: String(port) }, log, stop: () => stop(child, 'SIGINT') };
}

module.exports = { startPgbouncer };
