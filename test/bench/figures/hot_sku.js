/*
 * hot_sku.js
 *		Everybody wants the same SKU: in one slot, in 16, and as a counter row by hand.
 *
 * The counter row is the PL/pgSQL form of sql/shop.sql with one line: it makes the same writes
 * and takes the row last.  After the speed the end of a sale: 200 clients want more units than there are,
 * and exactly those that there are must be sold.
 */
'use strict';

const { median } = require('../lib/rounds');
const { stockUp, openShop, inSchema, verify } = require('../lib/shop');

const CLIENTS = [32, 64, 128, 200];
const SLOTS = '16 slots';
const SLOT = '1 slot';
const COUNTER_ROW = 'counter row by hand';
const UNITS = 3000;
const BUYERS = 200;

const PLACE = (sku) => `\\set k random(1, 9000000000000000000)
SELECT order_engine.place_order('customer', '[{"sku": "${sku}", "quantity": 1}]', 'EUR', idempotency_key => :k::text);
`;
const COUNTER = `\\set k random(1, 9000000000000000000)
SELECT place('customer', ARRAY['HOT-1'], ARRAY[1], 'EUR', :k::text);
`;

async function sale(bench, server, db)
{
	const calls = Math.ceil(UNITS * 1.5 / BUYERS);

	await server.sql(`
		SELECT order_engine.upsert_product('TICKET', 'Ticket', 1, 'EUR');
		SELECT order_engine.adjust_stock('TICKET', 'default', ${UNITS}, 'sale');
		SELECT order_engine.set_slots('TICKET', 'default', 16);
		CREATE UNLOGGED TABLE refusal (sqlstate text);
		CREATE FUNCTION buy() RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM order_engine.place_order('customer', '[{"sku": "TICKET", "quantity": 1}]', 'EUR');
		EXCEPTION WHEN OTHERS THEN
			INSERT INTO refusal VALUES (SQLSTATE);
		END $$`, db);
	await bench.pgbench({ db, script: 'SELECT buy();\n', clients: BUYERS, transactions: calls });

	const [[sold, reserved, refused, kinds]] = await server.sql(`
		SELECT (SELECT count(*) FROM order_engine.order_line WHERE sku = 'TICKET'),
			(SELECT sum(reserved) FROM order_engine.stock WHERE sku = 'TICKET'),
			count(*), string_agg(DISTINCT sqlstate, ' ') FROM refusal`, db);

	bench.check(`${sold} sold and ${reserved} reserved of ${UNITS} units`, Number(sold) === UNITS && Number(reserved) === UNITS);
	bench.check(`${refused} calls were refused with ${kinds}`, Number(refused) === calls * BUYERS - UNITS && kinds === 'OE201');
}

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('hot_sku');
	const seconds = Math.max(2, bench.seconds * 0.4);

	await stockUp(server, db);
	await server.sql(`
		SELECT count(order_engine.upsert_product('HOT-' || n, 'Hot', 9.99, 'EUR')) FROM unnest(ARRAY[1, 16]) n;
		SELECT count(order_engine.adjust_stock('HOT-' || n, 'default', 100000000, 'benchmark')) FROM unnest(ARRAY[1, 16]) n;
		SELECT order_engine.set_slots('HOT-16', 'default', 16)`, db);
	await openShop(server, db, 'shop');
	await server.settle();

	const tps = async (clients, text, schema) => (await bench.pgbench({ db, script: text, clients, seconds, warmup: Math.ceil(clients / 100),
		env: schema && inSchema(schema) })).tps;
	const variants = {};

	/* all in turns, the numbers of clients too: they are compared with each other */
	for (const clients of CLIENTS)
	{
		variants[`${SLOTS} ${clients}`] = () => tps(clients, PLACE('HOT-16'));
		variants[`${SLOT} ${clients}`] = () => tps(clients, PLACE('HOT-1'));
		variants[`${COUNTER_ROW} ${clients}`] = () => tps(clients, COUNTER, 'shop');
	}

	const numbers = await bench.rounds(variants, { rounds: Math.min(2, bench.roundCount) });
	const line = (name) => ({ name, points: CLIENTS.map((clients) => [clients, median(numbers[`${name} ${clients}`])]) });

	for (const clients of CLIENTS)
	{
		for (const name of [SLOTS, SLOT])
			bench.result({ measure: `one SKU in ${name}, ${clients} clients`, unit: 'orders/s', ours: numbers[`${name} ${clients}`],
				reference: numbers[`${COUNTER_ROW} ${clients}`], referenceName: COUNTER_ROW, goal: name === SLOTS ? 3 : undefined });
	}
	bench.result({ measure: `one SKU in ${SLOTS}, ${CLIENTS.at(-1)} clients against ${CLIENTS[0]}`, unit: 'orders/s',
		ours: numbers[`${SLOTS} ${CLIENTS.at(-1)}`], reference: numbers[`${SLOTS} ${CLIENTS[0]}`],
		referenceName: `${CLIENTS[0]} clients`, goal: 0.9 });
	bench.curve({ file: 'hot_sku.svg', title: 'Orders for one SKU', x: { label: 'clients', log: true }, y: { label: 'orders per second' },
		series: [SLOTS, SLOT, COUNTER_ROW].map(line) });
	await sale(bench, server, db);
	await verify(bench, server, db);
}

module.exports = { name: 'hot_sku', title: 'one SKU that 32 to 200 clients want', run };
