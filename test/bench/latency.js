/*
 * latency.js RATE COMMITS LOG
 *		Joins commit times (id, seconds) with the receiver's log and prints
 *		percentiles of the time from commit to arrival.
 */
'use strict';

const fs = require('fs');

const [rate, commitsFile, logFile] = process.argv.slice(2);
const commits = new Map(fs.readFileSync(commitsFile, 'utf8').trim().split('\n')
	.map((line) => line.split('\t')).map(([id, time]) => [id, Number(time)]));
const delays = fs.readFileSync(logFile, 'utf8').split('\n').filter((line) => line.startsWith('{'))
	.map((line) => JSON.parse(line)).filter((entry) => commits.has(entry.id))
	.map((entry) => (entry.time - commits.get(entry.id)) * 1000)
	.sort((a, b) => a - b);

if (delays.length === 0)
	throw new Error('no event was both committed and received');

const percentile = (p) => delays[Math.min(delays.length - 1, Math.floor(p * delays.length))].toFixed(2);

console.log(`latency at ${rate}/s: commit to arrival, ms`.padEnd(46) +
	` p50 ${percentile(0.5)}  p95 ${percentile(0.95)}  p99 ${percentile(0.99)}  n=${delays.length}`);
