/*
 * backlog_huge.js
 *		Deliveries a second before 10 million events; writes some 10 GB.
 */
'use strict';

const { measure } = require('./backlog');
const { scaled } = require('../lib/outbox');

module.exports = { name: 'backlog_huge', title: 'deliveries a second before 10 million events', needs: ['nginx', 'npm'], optional: true,
	run: (bench) => measure(bench, [0, scaled(10000000)], { rounds: 1 }) };
