/*
 * process.js
 *		Start programs, wait for them, and end every one of them when we end.
 *
 * Only what was started here is ever ended, by its process id.  That a run which
 * is interrupted leaves nothing behind is for test/lib/sandbox.sh, which ends
 * what lives in the private folder.
 */
'use strict';

const { spawn } = require('child_process');

const alive = new Set();

/* Starts a program that goes on until it is stopped. */
function start(file, args, options)
{
	const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'inherit'], ...options });

	alive.add(child);
	child.gone = new Promise((resolve) =>
	{
		child.on('error', (error) => { child.startError = error; alive.delete(child); resolve(-1); });
		child.on('exit', (code, signal) => { alive.delete(child); resolve(signal ?? code); });
	});
	return child;
}

async function stop(child, signal = 'SIGTERM')
{
	if (alive.has(child))
		child.kill(signal);
	await child.gone;
}

/*
 * Runs a program to its end: { status, stdout, stderr }.  A status other than 0
 * throws, unless "statuses" holds it.
 */
async function run(file, args, { input, statuses = [0], ...options } = {})
{
	const child = start(file, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
	const stdout = [];
	const stderr = [];

	child.stdin.on('error', () => {});		/* it may end before it has read everything */
	child.stdin.end(input ?? '');
	child.stdout.on('data', (chunk) => stdout.push(chunk));
	child.stderr.on('data', (chunk) => stderr.push(chunk));

	const closed = new Promise((resolve) => child.on('close', resolve));
	const status = await child.gone;

	if (child.startError !== undefined)
		throw child.startError;
	await closed;

	const result = {
		status,
		stdout: Buffer.concat(stdout).toString(),
		stderr: Buffer.concat(stderr).toString()
	};

	if (!statuses.includes(status))
		throw new Error(`${file} ${args.join(' ')}\nended with ${status}: ${result.stderr.slice(-4000)}`);
	return result;
}

async function stopAll()
{
	for (const child of [...alive])
		await stop(child);
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/* Asks again and again until the answer is true; throws after "seconds". */
async function until(what, question, { seconds = 120, every = 20 } = {})
{
	const end = Date.now() + seconds * 1000;

	for (;;)
	{
		const answer = await question();

		if (answer)
			return answer;
		if (Date.now() > end)
			throw new Error(`waited ${seconds} s in vain: ${what}`);
		await sleep(every);
	}
}

module.exports = { start, stop, stopAll, run, sleep, until };
