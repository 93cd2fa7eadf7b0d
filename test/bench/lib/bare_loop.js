/*
 * bare_loop.js
 *		bare_loop.c, the limit of what one thread can send, built and run.
 */
'use strict';

const path = require('path');
const { run } = require('./process');

/* Answers a function (url, requests, concurrency, bytes) that gives { rate, cpu }, see bare_loop.c. */
async function buildBareLoop(bench)
{
	const program = path.join(bench.work, 'bare_loop');

	await run('gcc', ['-O2', '-o', program, path.join(__dirname, '..', 'bare_loop.c'), '-lcurl', '-lcrypto']);
	return async (...args) =>
	{
		const [rate, cpu] = (await run(program, args.map(String))).stdout.split(' ').map(Number);

		return { rate, cpu };
	};
}

module.exports = { buildBareLoop };
