/*
 * place.js
 *		place_order against everything that a shop would write by hand.
 *
 * Each form has a schema of its own, so that the tables of all are equally large in each
 * round.  The bound is the best of the hand-written forms that make the same writes;
 * the lean ones, which leave out history and ledger, are told as well.
 */
'use strict';

const { FORMS, openOurs, openShop, placeScript, inSchema, verify } = require('../lib/shop');
const { median } = require('../lib/rounds');

const CLIENTS = 16;
const WORDS = { statements: 'statements', pipelined: 'pipelined statements', plpgsql: 'PL/pgSQL', cte: 'one CTE' };

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('place');
	const variants = {
		ours: async () => (await bench.pgbench({ db, scripts: placeScript('ours'), clients: CLIENTS })).tps
	};

	await openOurs(server, db);
	for (const withoutHistory of [false, true])
	{
		for (const form of FORMS)
		{
			const schema = `shop_${form}${withoutHistory ? '_lean' : ''}`;
			const seconds = withoutHistory ? Math.max(2, bench.seconds / 2) : bench.seconds;

			await openShop(server, db, schema, { withoutHistory });
			variants[schema] = async () => (await bench.pgbench({ db, clients: CLIENTS, seconds,
				scripts: placeScript(form, { withoutHistory }), env: inSchema(schema) })).tps;
		}
	}
	await server.settle();

	const numbers = await bench.rounds(variants);
	const best = (suffix) => FORMS.reduce((a, b) =>
		median(numbers[`shop_${a}${suffix}`]) >= median(numbers[`shop_${b}${suffix}`]) ? a : b);

	await verify(bench, server, db);
	for (const suffix of ['', '_lean'])
	{
		const winner = best(suffix);

		for (const form of FORMS)
			bench.result({
				measure: `place_order, ${CLIENTS} clients`, unit: 'orders/s', ours: numbers.ours,
				reference: numbers[`shop_${form}${suffix}`],
				referenceName: `${WORDS[form]}${suffix === '' ? '' : ', no history, no ledger'}`,
				goal: suffix === '' && form === winner ? 1.2 : undefined,
				note: suffix === '' && form === winner ? 'the best hand-written form with the same writes' : undefined
			});
	}
}

module.exports = { name: 'place', title: 'an order of three lines with key, reservation, ledger, history, event', run };
