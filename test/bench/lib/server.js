/*
 * server.js
 *		A throw-away PostgreSQL with order_engine.
 *
 * It listens on a socket in the private folder and nowhere else, so "trust" means
 * the user of the benchmark alone.  fsync and synchronous_commit are on, as they
 * are where orders are taken; what is set is the same for us and for everything
 * that we are compared with.
 */
'use strict';

const fs = require('fs');
const path = require('path');
const { run, until } = require('./process');

const SETTINGS = {
	listen_addresses: '',
	shared_preload_libraries: 'order_engine',
	'order_engine.allow_http': 'on',
	'order_engine.allow_cidrs': '127.0.0.0/8',
	shared_buffers: '1GB',
	max_wal_size: '8GB',
	checkpoint_timeout: '30min',
	max_connections: '300',
	max_worker_processes: '64',
	log_line_prefix: '%m [%p] %d '
};

/* What may stand between the columns and rows of a result, and in no value. */
const COLUMN = '\x1f';
const ROW = '\x1e';

const quoteConf = (value) => `'${String(value).replace(/'/g, "''")}'`;
const quoteIdent = (name) => `"${name.replace(/"/g, '""')}"`;

let servers = 0;

class Server
{
	constructor(bindir, work, conf)
	{
		this.bindir = bindir;
		this.user = 'bench';
		this.port = 6000 + servers;
		this.dir = path.join(work, `server${servers++}`);
		this.data = path.join(this.dir, 'data');
		this.host = this.dir;
		this.logFile = path.join(this.dir, 'log');
		this.conf = { ...SETTINGS, ...conf };
		this.workers = new Set();
		this.running = false;
	}

	program(name) { return path.join(this.bindir, name); }

	async init()
	{
		fs.mkdirSync(this.dir);
		await run(this.program('initdb'), ['-D', this.data, '-U', this.user, '-A', 'trust',
			'--no-locale', '-E', 'UTF8', '--no-sync', '--no-instructions']);
		fs.appendFileSync(path.join(this.data, 'postgresql.conf'),
			Object.entries({ ...this.conf, port: this.port, unix_socket_directories: this.dir })
				.map(([name, value]) => `${name} = ${quoteConf(value)}\n`).join(''));
		await this.start();
	}

	async start()
	{
		await run(this.program('pg_ctl'), ['-D', this.data, '-l', this.logFile, '-w', '-t', '300', 'start']);
		this.running = true;
	}

	async stop(mode = 'fast')
	{
		if (!this.running)
			return;
		this.running = false;
		await run(this.program('pg_ctl'), ['-D', this.data, '-m', mode, '-w', '-t', '300', 'stop']);
	}

	/* For good: what it stored goes too. */
	async remove()
	{
		await this.stop('immediate');
		fs.rmSync(this.dir, { recursive: true, force: true });
	}

	/* What it had to say last. */
	logTail(lines = 20)
	{
		return fs.existsSync(this.logFile) ? fs.readFileSync(this.logFile, 'utf8').split('\n').slice(-lines).join('\n') : '';
	}

	connstr(db)
	{
		return `postgresql:///${encodeURIComponent(db)}?host=${encodeURIComponent(this.host)}` +
			`&port=${this.port}&user=${this.user}`;
	}

	/* What libpq's programs need to come here. */
	env(db)
	{
		return { ...process.env, PGHOST: this.host, PGPORT: String(this.port), PGUSER: this.user,
			PGDATABASE: db, PGOPTIONS: '-c client_min_messages=warning' };
	}

	/* Runs statements; rows of all of them as arrays of strings, null as ''. */
	async sql(text, db = 'postgres')
	{
		const { stdout } = await run(this.program('psql'),
			['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-F', COLUMN, '-R', ROW, '-f', '-'],
			{ input: text, env: this.env(db) });

		/* each statement with rows ends its last one with a line feed */
		return stdout.split(new RegExp(`${ROW}|\n(?=$)`)).filter((row) => row !== '')
			.map((row) => row.split(COLUMN));
	}

	/* The one value of one row. */
	async value(text, db) { return (await this.sql(text, db))[0][0]; }

	async number(text, db) { return Number(await this.value(text, db)); }

	async until(condition, db, options)
	{
		await until(condition, async () => await this.value(`SELECT (${condition})`, db) === 't', options);
	}

	/* A new, empty database; with a worker, its events are delivered. */
	async createdb(name, { extension = true, worker = extension } = {})
	{
		await this.dropdb(name);
		await this.sql(`CREATE DATABASE ${quoteIdent(name)}`);
		if (extension)
			await this.sql('CREATE EXTENSION order_engine', name);
		if (worker)
		{
			this.workers.add(name);
			await this.listDatabases();
			await this.until('EXISTS (SELECT FROM order_engine.stat_worker)', name, { seconds: 60 });
		}
		return name;
	}

	async dropdb(name)
	{
		if (this.workers.delete(name))
			await this.listDatabases();
		await this.sql(`DROP DATABASE IF EXISTS ${quoteIdent(name)} WITH (FORCE)`);
	}

	async listDatabases()
	{
		await this.sql(`ALTER SYSTEM SET order_engine.databases = ${quoteConf([...this.workers].join(','))};
			SELECT pg_catalog.pg_reload_conf()`);
	}

	/* So that no variant pays for what another one left to be written. */
	async settle() { await this.sql('CHECKPOINT'); }
}

async function startServer(bindir, work, conf)
{
	const server = new Server(bindir, work, conf);

	await server.init();
	return server;
}

module.exports = { startServer };
