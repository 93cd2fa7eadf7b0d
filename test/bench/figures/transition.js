/*
 * transition.js
 *		One transition of an order: the UPDATE under our trigger, with version, history and event,
 *		against the UPDATE alone and against a trigger in PL/pgSQL.  See sql/transition_forms.sql.
 *
 * The machine lets an order go to and fro, so that the rows do not run out.  The verb
 * transition(), which applications call, is told beside it.
 */
'use strict';

const fs = require('fs');
const path = require('path');
const { inSchema, stockUp, verify } = require('../lib/shop');

const CLIENTS = 16;
const ORDERS = 20000;

const MACHINE = `{"initial": "draft",
	"states": {"draft": {}, "pending": {}, "waiting": {}, "cancelled": {"terminal": true}},
	"transitions": [
		{"event": "place", "from": "draft", "to": "pending", "milestone": "placed_at"},
		{"event": "wait", "from": "pending", "to": "waiting"},
		{"event": "resume", "from": "waiting", "to": "pending"},
		{"event": "cancel", "from": "pending", "to": "cancelled", "effects": ["release_stock", "cancel_lines"], "milestone": "cancelled_at"}]}`;

/* Whichever state the order is in, the event that leaves it. */
const VERB = `\\set id random(:first, :last)
SELECT order_engine.transition('order', order_id, CASE state WHEN 'pending' THEN 'wait' ELSE 'resume' END)
FROM order_engine.orders WHERE order_id = :id;
`;

async function run(bench)
{
	const server = await bench.server();
	const db = await server.createdb('transition');

	await stockUp(server, db);
	await server.sql(`SELECT order_engine.publish_machine(order_engine.define_machine('order', 'to_and_fro', '${MACHINE}'));
		ALTER DATABASE ${db} SET order_engine.order_machine = 'to_and_fro'`, db);
	await server.sql(`SELECT count(order_engine.place_order('customer-' || n, jsonb_build_array(
			jsonb_build_object('sku', 'SKU-' || 1001 + n % 8999, 'quantity', 1)), 'EUR')) FROM generate_series(1, ${ORDERS}) n`, db);
	await server.sql(fs.readFileSync(path.join(__dirname, '..', 'sql', 'transition_forms.sql'), 'utf8'), db);
	await server.sql('VACUUM ANALYZE order_engine.orders, order_engine.history, order_engine.outbox', db);

	const [[first, last, count]] = await server.sql('SELECT min(order_id), max(order_id), count(*) FROM order_engine.orders', db);

	bench.check('order ids have gaps', Number(last) - Number(first) + 1 === Number(count));

	const tps = async (schema, script = 'transition.sql', seconds = bench.seconds) => (await bench.pgbench({ db, script, seconds, clients: CLIENTS,
		define: { first, last }, env: inSchema(schema) })).tps;

	await server.settle();

	const numbers = await bench.rounds({
		ours: () => tps('order_engine'),
		bare: () => tps('bare'),
		plpgsql: () => tps('plpgsql'),
		verb: () => tps('order_engine', VERB, bench.seconds / 2)
	});

	await verify(bench, server, db);

	const ours = { measure: `UPDATE of a state, ${CLIENTS} clients`, unit: 'transitions/s', ours: numbers.ours };

	bench.result({ ...ours, reference: numbers.bare, referenceName: 'bare UPDATE', goal: 0.75 });
	bench.result({ ...ours, reference: numbers.plpgsql, referenceName: 'PL/pgSQL trigger', goal: 1.3 });
	bench.result({ measure: `transition(), ${CLIENTS} clients`, unit: 'calls/s', ours: numbers.verb,
		reference: numbers.plpgsql, referenceName: 'UPDATE under the PL/pgSQL trigger' });
}

module.exports = { name: 'transition', title: 'a transition of an order with version, history and event', run };
