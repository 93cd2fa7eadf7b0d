/*
 * place.js
 *		place_order against everything that a shop would write by hand.
 *
 * Each form has a schema of its own, so that the tables of all are equally large in each
 * round.  The bound is the best of the hand-written forms that make the same writes;
 * the lean ones, which leave out history, ledger and CHECK constraints, are told as well.
 */
'use strict';

const { FORMS, openOurs, openShop, placeScript, inSchema, verify, verifyShop } = require('../lib/shop');
const { median } = require('../lib/rounds');

const CLIENTS = 16;
const WORDS = { statements: 'statements', pipelined: 'pipelined statements', plpgsql: 'PL/pgSQL', cte: 'one CTE' };

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('place');
	const wal = Object.fromEntries(['ours', ...FORMS].map((form) => [form, []]));
	const measure = async (form, withoutHistory, options) =>
	{
		const result = await bench.pgbench({ db, clients: CLIENTS, scripts: placeScript(form, { withoutHistory }), wal: true, ...options });

		if (!withoutHistory)
			wal[form].push(result.wal);
		return result.tps;
	};
	const ours = (seconds) => () => measure('ours', false, { seconds });
	const byHand = async (form, withoutHistory, seconds) =>
	{
		const schema = `shop_${form}${withoutHistory ? '_lean' : ''}`;

		await openShop(server, db, schema, { withoutHistory });
		return () => measure(form, withoutHistory, { seconds, env: inSchema(schema) });
	};
	const same = { ours: ours(bench.seconds) };
	const lean = { ours: ours(bench.seconds / 2) };

	await openOurs(server, db);
	for (const form of FORMS)
	{
		same[form] = await byHand(form, false, bench.seconds);
		lean[form] = await byHand(form, true, bench.seconds / 2);
	}
	await server.settle();

	const numbers = await bench.rounds(same);
	const best = FORMS.reduce((a, b) => median(numbers[a]) >= median(numbers[b]) ? a : b);
	const line = (of, form) => ({ measure: `place_order, ${CLIENTS} clients`, unit: 'orders/s', ours: of.ours, reference: of[form] });

	for (const form of FORMS)
		bench.result({ ...line(numbers, form), referenceName: WORDS[form], goal: form === best ? 1.2 : undefined,
			note: form === best ? 'the best hand-written form with the same writes' : undefined });

	bench.result({ measure: 'place_order, log written', unit: 'bytes/order', better: 'lower', ours: wal.ours,
		reference: wal[best], referenceName: WORDS[best] });

	/* for information only: one round */
	const leanNumbers = await bench.rounds(lean, { rounds: 1 });

	for (const form of FORMS)
		bench.result({ ...line(leanNumbers, form), referenceName: `${WORDS[form]}, without history, ledger, checks` });
	await verify(bench, server, db);
	for (const form of FORMS)
	{
		await verifyShop(bench, server, db, `shop_${form}`);
		await verifyShop(bench, server, db, `shop_${form}_lean`, { withoutHistory: true });
	}
}

module.exports = { name: 'place', title: 'an order of three lines with key, reservation, ledger, history, event', run };
