/*
 * main.js
 *		Measures the figures that it is told to, one after another.
 *
 *	main.js --list [FIGURE...]		what there is: name, default or not, title
 *	main.js --needs [FIGURE...]		what must be installed for these
 *	main.js FIGURE...				measure; test/bench/run calls it so
 *
 * A figure is a module in figures/: { name, title, needs, optional, async run(bench) }.
 * An optional one runs only when it is asked for.  What a figure started is stopped
 * when it ends.  The exit status tells whether everything ran and was right, never
 * whether it was fast.
 */
'use strict';

const fs = require('fs');
const path = require('path');
const { Report, machine } = require('./lib/report');
const { pgbench } = require('./lib/pgbench');
const { rounds } = require('./lib/rounds');
const { run, start, stop, stopAll, sleep, until } = require('./lib/process');
const { startNginx, startReceiver, freePort } = require('./lib/receiver');
const { startServer } = require('./lib/server');

const FIGURES = path.join(__dirname, 'figures');

/* In this order they run; one that is not named here comes last. */
const ORDER = ['place', 'transition', 'replay', 'hot_sku', 'baskets', 'emit', 'clients', 'growth', 'growth_full', 'users',
	'delivery', 'latency', 'writes', 'held', 'session', 'neighbours', 'payload', 'endpoints', 'backlog', 'backlog_huge'];

function figures()
{
	const place = (figure) => (ORDER.indexOf(figure.name) + ORDER.length) % ORDER.length + (ORDER.includes(figure.name) ? 0 : ORDER.length);

	return fs.readdirSync(FIGURES).filter((file) => file.endsWith('.js')).sort()
		.map((file) => require(path.join(FIGURES, file)))
		.sort((a, b) => place(a) - place(b));
}

function choose(all, names)
{
	for (const name of names)
	{
		if (!all.some((figure) => figure.name === name))
			throw new Error(`there is no figure "${name}"; there are: ${all.map((figure) => figure.name).join(' ')}`);
	}
	return all.filter((figure) => names.length === 0 ? !figure.optional : names.includes(figure.name));
}

/* What a figure is given; and what it may ask for. */
class Bench
{
	constructor(report)
	{
		this.report = report;
		this.work = process.env.BENCH_WORK;
		this.source = path.join(__dirname, '..', '..');
		this.bindir = process.env.BENCH_BINDIR;
		this.roundCount = Number(process.env.ROUNDS ?? 3);
		this.seconds = Number(process.env.SECONDS_EACH ?? 5);
		this.run = run;
		this.start = start;
		this.stop = stop;
		this.sleep = sleep;
		this.until = until;
		this.freePort = freePort;
		this.own = [];
	}

	/* The server that figures share, or with settings one for this figure alone. */
	async server({ conf } = {})
	{
		if (conf === undefined)
		{
			this.shared ??= await startServer(this.bindir, this.work);
			return this.shared;
		}

		const server = await startServer(this.bindir, this.work, conf);

		this.own.push(server);
		return server;
	}

	async nginx() { return this.keep(await startNginx(this)); }

	async receiver(args) { return this.keep(await startReceiver(this, args)); }

	keep(what)
	{
		this.toStop.push(what);
		return what;
	}

	async pgbench(options) { return pgbench(this, { server: options.server ?? await this.server(), ...options }); }

	rounds(variants, { rounds: count = this.roundCount } = {}) { return rounds(variants, count); }

	result(given) { this.report.result(given); }

	curve(given) { this.report.curve(given); }

	print(line) { this.report.print(line); }

	/* A wrong result is an error, whatever the speed. */
	check(what, right)
	{
		if (!right)
			throw new Error(`wrong result: ${what}`);
	}

	async figure(figure)
	{
		const from = Date.now();
		let failure;

		this.toStop = [];
		this.report.heading(figure);
		try
		{
			await figure.run(this);
		}
		catch (error)
		{
			failure = error;
			console.error(error);
			for (const server of [this.shared, ...this.own])
				console.error(server === undefined ? '' : `--- the end of ${server.logFile}\n${server.logTail()}`);
		}
		for (const what of this.toStop)
			await what.stop();
		for (const server of this.own.splice(0))
			await server.remove();
		/* databases are a figure's own: the next one has the memory and the disk to itself */
		if (this.shared !== undefined)
		{
			for (const [db] of await this.shared.sql("SELECT datname FROM pg_database WHERE datname NOT LIKE 'template_' AND datname <> 'postgres'"))
				await this.shared.dropdb(db);
		}
		this.report.ended(figure, Math.round((Date.now() - from) / 1000), failure);
		this.report.write();
		return failure === undefined;
	}
}

async function main(args)
{
	const words = args.filter((arg) => !arg.startsWith('--'));
	const all = figures();
	const chosen = choose(all, words);

	if (args.includes('--list'))
	{
		for (const figure of words.length === 0 ? all : chosen)
			console.log(`${figure.name.padEnd(14)} ${figure.optional ? '(only when asked for) ' : ''}${figure.title}`);
		return true;
	}
	if (args.includes('--needs'))
	{
		console.log([...new Set(chosen.flatMap((figure) => figure.needs ?? []))].join(' '));
		return true;
	}

	const { stdout } = await run(path.join(process.env.BENCH_BINDIR, 'postgres'), ['--version']);
	const report = new Report(process.env.BENCH_OUT, machine({ postgresql: stdout.trim(), date: new Date().toISOString(),
		rounds: Number(process.env.ROUNDS ?? 3), seconds_each: Number(process.env.SECONDS_EACH ?? 5) }));
	const bench = new Bench(report);
	let right = true;

	report.print(`${report.machine.postgresql}, ${report.machine.cores} cores (${report.machine.cpu}), ` +
		`${bench.roundCount} rounds of ${bench.seconds} s; medians, lowest and highest in brackets`);
	for (const figure of chosen)
		right = await bench.figure(figure) && right;
	if (bench.shared !== undefined)
		await bench.shared.remove();

	const failed = report.results.filter((result) => result.reached === false);

	report.print(`\n${report.results.filter((result) => result.reached).length} goals reached, ${failed.length} not` +
		`${failed.map((result) => `\n  not reached: ${result.figure}, ${result.measure}`).join('')}`);
	report.write();
	return right;
}

main(process.argv.slice(2))
	.catch((error) => { console.error(error.message); return false; })
	.then(async (right) => { await stopAll(); process.exitCode = right ? 0 : 1; });
