/*
 * bare_loop.js
 *		bare_loop.c, the limit of what one thread can send, built and run.
 */
'use strict';

const path = require('path');
const { run } = require('./process');

/* Answers a function (url, requests, concurrency, bytes) that gives requests a second. */
async function buildBareLoop(bench)
{
	const program = path.join(bench.work, 'bare_loop');

	await run('gcc', ['-O2', '-o', program, path.join(__dirname, '..', 'bare_loop.c'), '-lcurl', '-lcrypto']);
	return async (...args) => Number((await run(program, args.map(String))).stdout);
}

module.exports = { buildBareLoop };
