/*
 * show.js
 *		Shows the events that the demo's receiver got, from its log.
 *
 *   node show.js N           waits until N different events were accepted, then
 *                            prints the requests since the last call
 *   node show.js --check N   the same without printing; fails unless exactly N
 *                            different events were accepted and all verified
 *
 * OE_LOG names the receiver's log; how far it was shown stands in OE_LOG.shown.
 */
'use strict';

const fs = require('fs');

const PATIENCE_MS = 30000;
const PAUSE_MS = 20;

const log = process.env.OE_LOG;
const check = process.argv[2] === '--check';
const wanted = Number(process.argv[check ? 3 : 2]);

function readLog()
{
	if (!fs.existsSync(log))
		return [];
	return fs.readFileSync(log, 'utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line));
}

function accepted(requests)
{
	return new Set(requests.filter((r) => r.status >= 200 && r.status < 300).map((r) => r.id)).size;
}

function clock(seconds)
{
	return new Date(seconds * 1000).toISOString().slice(11, 19) +
		(seconds % 1).toFixed(6).slice(1);
}

function print(requests)
{
	const shownFile = log + '.shown';
	const shown = fs.existsSync(shownFile) ? Number(fs.readFileSync(shownFile, 'utf8')) : 0;

	for (const r of requests.slice(shown))
		console.log(`   >> ${clock(r.time)}  ${r.type.padEnd(26)} ${r.aggregatetype} ${r.aggregateid}` +
			`  sequence ${r.sequence}  ${r.verified ? 'signature verified' : 'NOT VERIFIED'}` +
			`  answered ${r.status}`);
	fs.writeFileSync(shownFile, String(requests.length));
}

async function main()
{
	const deadline = Date.now() + PATIENCE_MS;
	let requests = readLog();

	while (accepted(requests) < wanted && Date.now() < deadline)
	{
		await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
		requests = readLog();
	}
	if (!check)
		print(requests);

	const got = accepted(requests);
	const unverified = requests.filter((r) => !r.verified).length;

	if (got !== wanted || unverified !== 0)
	{
		console.error(`the receiver accepted ${got} of ${wanted} events, ${unverified} requests did not verify`);
		process.exit(1);
	}
}

main();
