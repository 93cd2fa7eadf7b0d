/*
 * growth_full.js
 *		growth.js with ten million orders.  Needs 25 GB of disk, and minutes to load.
 */
'use strict';

const { measure } = require('./growth');

async function run(bench)
{
	const points = await measure(bench, [1000000, 10000000]);

	bench.curve({ file: 'growth_full.svg', title: 'place_order over orders present', x: { label: 'orders present', log: true },
		y: { label: 'orders per second' }, series: [{ name: 'place_order, 16 clients', points }] });
}

module.exports = { name: 'growth_full', title: 'place_order with ten million orders present', optional: true, run };
