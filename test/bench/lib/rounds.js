/*
 * rounds.js
 *		Variants in turns, and what their numbers come to.
 *
 * A machine that is slower for a while is slower for all variants of a round, and
 * the order of the variants turns round from one round to the next, so that none
 * always comes first.
 */
'use strict';

async function rounds(variants, count)
{
	const names = Object.keys(variants);
	const numbers = Object.fromEntries(names.map((name) => [name, []]));

	for (let round = 0; round < count; round++)
	{
		for (const name of round % 2 === 0 ? names : [...names].reverse())
			numbers[name].push(await variants[name](round));
	}
	return numbers;
}

/* The middle one; of an even number the lower one of the two. */
function median(numbers)
{
	const sorted = [...numbers].sort((a, b) => a - b);

	return sorted[Math.floor((sorted.length - 1) / 2)];
}

function percentiles(samples)
{
	const sorted = Float64Array.from(samples).sort();
	const at = (p) => sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))];

	if (sorted.length === 0)
		return { n: 0 };
	return {
		p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999), max: sorted[sorted.length - 1],
		mean: sorted.reduce((sum, one) => sum + one, 0) / sorted.length, n: sorted.length
	};
}

module.exports = { rounds, median, percentiles };
