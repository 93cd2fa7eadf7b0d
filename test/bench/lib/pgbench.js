/*
 * pgbench.js
 *		One run of pgbench, and what it says of it.
 *
 * { server, db, script | scripts: [{ file | text, weight }], clients, jobs, seconds,
 *	 warmup, transactions, rate, log, init, mode, define, maxTries, mayFail, env }
 *
 * "script" is a file of test/bench/sql, without the folder, or the text itself.
 * "init" is SQL to run first, not measured.  "warmup" are seconds before the measured ones, for many
 * clients: what 200 new backends do first is to read the catalog, 200 times.  "transactions" (for each client)
 * stands in place of "seconds".  Returns { tps, failed, deadlocks, serialization,
 * aborted, transactions, errors, latency, scripts }; with "log", latency holds
 * milliseconds: p50, p95, p99, p999, max, mean, n (with "rate": from the time at
 * which the transaction was due), "samples" them all, and "ends" the time of day in seconds at
 * which each ended, client by client.  With "wal", that holds the bytes of
 * log that were written for a transaction, the server's other work of that time included.
 */
'use strict';

const fs = require('fs');
const path = require('path');
const { run } = require('./process');
const { percentiles } = require('./rounds');

const SQL = path.join(__dirname, '..', 'sql');

let runs = 0;

function scriptFile(script, dir)
{
	if (script.file !== undefined)
		return path.join(SQL, script.file);

	const file = path.join(dir, `script${fs.readdirSync(dir).length}.sql`);

	fs.writeFileSync(file, script.text);
	return file;
}

/* A lone script: the name of a file, or, with a blank in it, text. */
const lone = (script) => [/\s/.test(script) ? { text: script } : { file: script }];

/* Without the transactions that ended in the first "warmup" seconds. */
function readLogs(dir, prefix, warmup)
{
	const rows = [];
	const ends = [];
	const latencies = [];
	const byScript = [];
	let first = Infinity;

	for (const file of fs.readdirSync(dir).filter((name) => name.startsWith(prefix)))
	{
		for (const line of fs.readFileSync(path.join(dir, file), 'utf8').split('\n'))
		{
			/* client, transaction, time, script, epoch, microseconds[, lag]; "time" is a word when it failed */
			const field = line.split(' ');
			const time = Number(field[2]) / 1000;

			if (field.length < 6 || Number.isNaN(time))
				continue;

			const ended = Number(field[4]) + Number(field[5]) / 1e6;

			first = Math.min(first, ended);
			rows.push([ended, time, Number(field[3])]);
			(ends[Number(field[0])] ??= []).push(ended);
		}
	}
	for (const [ended, time, script] of rows)
	{
		if (ended < first + warmup)
			continue;
		latencies.push(time);
		(byScript[script] ??= []).push(time);
	}
	return { latencies, byScript, ends };
}

function parse(out)
{
	const number = (pattern, missing = 0) => { const found = pattern.exec(out); return found ? Number(found[1]) : missing; };

	return {
		/* it does not speak of a rate when there was not a single transaction, as when all deadlocked */
		tps: number(/^tps = ([0-9.]+) \(without initial/m, /actually processed: 0\b/.test(out) ? 0 : NaN),
		transactions: number(/^number of transactions actually processed: ([0-9]+)/m),
		failed: number(/^number of failed transactions: ([0-9]+)/m),
		deadlocks: number(/^number of deadlock failures: ([0-9]+)/m),
		serialization: number(/^number of serialization failures: ([0-9]+)/m),
		latencyAverage: number(/^latency average = ([0-9.]+) ms/m)
	};
}

/* The rate after the warm-up, of what it told every second; "all" if it came to tell nothing. */
function rateAfter(stderr, warmup, all)
{
	const rates = [...stderr.matchAll(/^progress: ([0-9.]+) s, ([0-9.]+) tps/gm)]
		.filter((match) => Number(match[1]) > warmup + 0.5).map((match) => Number(match[2]));

	return rates.length === 0 ? all : rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
}

async function pgbench(bench, options)
{
	const { server, db, seconds = bench.seconds, clients = 16, mode = 'prepared', warmup = 0 } = options;
	const jobs = Math.min(options.jobs ?? 2, clients);
	const dir = path.join(bench.work, `pgbench${runs++}`);
	const args = ['-n', '-M', mode, '-c', String(clients), '-j', String(jobs), '--failures-detailed',
		'--max-tries', String(options.maxTries ?? 1)];

	fs.mkdirSync(dir);
	if (options.init !== undefined)
		await server.sql(options.init, db);
	for (const script of options.scripts ?? lone(options.script))
		args.push('-f', `${scriptFile(script, dir)}@${script.weight ?? 1}`);
	for (const [name, value] of Object.entries(options.define ?? {}))
		args.push('-D', `${name}=${value}`);
	if (options.transactions !== undefined)
		args.push('-t', String(options.transactions));
	else
		args.push('-T', String(Math.max(1, Math.round(seconds)) + warmup));
	if (warmup > 0)
		args.push('-P', '1');
	if (options.rate !== undefined)
		args.push('-R', String(options.rate));
	if (options.log)
		args.push('-l', '--log-prefix', path.join(dir, 'log'));

	const env = { ...server.env(db), ...options.env };
	const wal = () => options.wal ? server.number("SELECT pg_current_wal_insert_lsn() - '0/0'") : 0;
	const walBefore = await wal();
	const { status, stdout, stderr } = await run(server.program('pgbench'), args, { cwd: dir, env, statuses: [0, 1, 2] });
	const result = parse(stdout);

	result.wal = (await wal() - walBefore) / result.transactions;

	const errors = stderr.split('\n').filter((line) => /error|ERROR|FATAL|aborted/.test(line));

	result.aborted = errors.filter((line) => /aborted/.test(line)).length;
	result.errors = errors;
	if ((status !== 0 || Number.isNaN(result.tps)) && !options.mayFail)
		throw new Error(`pgbench ended with ${status}: ${stderr.slice(0, 4000)}`);
	if (warmup > 0 && result.tps > 0)
		result.tps = rateAfter(stderr, warmup, result.tps);
	if (options.log)
	{
		const { latencies, byScript, ends } = readLogs(dir, 'log', warmup);

		result.samples = latencies;
		result.ends = ends;
		result.latency = percentiles(latencies);
		result.scripts = byScript.map(percentiles);
		result.scriptSamples = byScript;
	}
	fs.rmSync(dir, { recursive: true });
	return result;
}

module.exports = { pgbench };
