#!/usr/bin/env node
/*
 * payment_service.js
 *	  A payment service as an application would write it, against a gateway that
 *	  is made up, and with the accidents that such a service has to survive.
 *
 *	node payment_service.js --port 0 --port-file F --secret-file F --ledger F [--accidents]
 *
 * It receives the events payment.* as signed webhooks.  What they ask for it does
 * at the gateway, under the transaction's id as the gateway's idempotency key,
 * then it reports what the gateway said with record_payment(), and only then it
 * answers the webhook.  Whatever breaks in between, the webhook comes again; the
 * gateway does nothing twice, and record_payment() counts nothing twice.
 *
 * psql finds the server by PGHOST, PGPORT and PGDATABASE.
 *
 * With --accidents what happens depends on the transaction's id: declined at
 * first, no answer in time, a crash between charge and report, reports twice, out
 * of order, and a webhook that is not answered although all is done.
 */
'use strict';

const fs = require('fs');
const http = require('http');
const { spawn } = require('child_process');
const { parseArgs } = require('util');
const { Webhook } = require('standardwebhooks');

const { values: options } = parseArgs({
	options: {
		port: { type: 'string', default: '0' },
		'port-file': { type: 'string' },
		'secret-file': { type: 'string' },
		ledger: { type: 'string' },
		accidents: { type: 'boolean', default: false },
	},
});

const RECONCILE_MS = 200;

/* The gateway: a file with a line for each operation; it survives crashes of the service. */
const gateway = {
	lines()
	{
		return fs.existsSync(options.ledger) ?
			fs.readFileSync(options.ledger, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)) : [];
	},
	find(id)
	{
		return this.lines().find((line) => line.id === id);
	},
	/* Does it once for each id, and answers the same for ever. */
	operate({ transaction_id: id, kind, amount, attempt, method })
	{
		let entry = this.find(id);

		if (entry === undefined)
		{
			const outcome = method === 'stolen card' || accident(id, 1) && attempt === 1 && /authorization|capture/.test(kind) ?
				'failure' : 'success';

			entry = { id, kind, amount, outcome, ref: `${kind}-${id}` };
			if (method === 'stolen card')
				entry.details = { final: true };
			fs.appendFileSync(options.ledger, JSON.stringify(entry) + '\n');
		}
		return entry;
	},
};

/* Whether a transaction has the accident of that number. */
function accident(id, number)
{
	return options.accidents && Math.floor(id / 2) % 8 === number;	/* a payment's id lies between two */
}

/* The same, but only once, also over crashes. */
function onceAccident(id, number)
{
	const marker = `${options.ledger}.${number}.${id}`;

	if (!accident(id, number) || fs.existsSync(marker))
		return false;
	fs.writeFileSync(marker, '');
	return true;
}

/* Runs one statement; values are psql variables, so nothing is ever quoted by hand. */
function query(sql, variables = {})
{
	return new Promise((resolve, reject) =>
	{
		const args = ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', '-'];

		for (const [name, value] of Object.entries(variables))
			args.push('-v', `${name}=${value}`);
		const psql = spawn('psql', args);
		let output = '', error = '';

		psql.stdout.on('data', (data) => { output += data; });
		psql.stderr.on('data', (data) => { error += data; });
		psql.on('error', reject);
		psql.on('close', (status) => status === 0 ? resolve(output.trim()) : reject(new Error(error)));
		psql.stdin.end(sql);
	});
}

function report(entry, outcome = entry.outcome)
{
	return query(`SELECT order_engine.record_payment(:'id', :'outcome', :'ref', details => nullif(:'details', '')::jsonb)`, {
		id: entry.id,
		outcome,
		ref: entry.ref,
		details: entry.details ? JSON.stringify(entry.details) : '',
	});
}

/* An operation that an event asks for: at the gateway, then into the database. */
async function carryOut(data)
{
	const id = data.transaction_id;
	const entry = gateway.operate(data);

	if (onceAccident(id, 2))
		return report(entry, 'timeout');	/* the gateway did it, its answer got lost */
	if (onceAccident(id, 3))
		process.exit(1);
	if (accident(id, 4))
		await Promise.all([report(entry), report(entry)]);
	else
		await report(entry);
	if (accident(id, 5))
		await report(entry, 'pending');
	if (onceAccident(id, 6))
		throw new Error('done, but not answered');
}

/* This shop captures at once, and does not give up; orders that were cancelled meanwhile are let go. */
function capture(data, key)
{
	return query(`SELECT order_engine.request_payment(:'order', 'capture', payment_id => :'payment', idempotency_key => :'key')
		FROM order_engine.orders WHERE order_id = :'order' AND cancelled_at IS NULL`,
		{ order: data.order_id, payment: data.payment_id, key });
}

async function handle(event)
{
	const data = event.data;

	switch (event.type)
	{
		case 'payment.requested':
		case 'payment.capture_requested':
		case 'payment.void_requested':
		case 'payment.refund_requested':
			await carryOut(data);
			break;
		case 'payment.authorized':
			await capture(data, `capture ${data.payment_id}`);
			break;
		case 'payment.capture_failed':
			await capture(data, `capture again ${data.transaction_id}`);
			break;
	}
}

/* What had no answer in time is asked for later. */
async function reconcile()
{
	try
	{
		const ids = await query(`SELECT transaction_id FROM order_engine.payment_transaction WHERE state = 'pending'`);

		for (const id of ids.split('\n').filter(Boolean).map(Number))
		{
			const entry = gateway.find(id);

			if (entry !== undefined)
				await report(entry);
		}
	}
	catch (error)
	{
		console.error(error.message);
	}
	setTimeout(reconcile, RECONCILE_MS);
}

const server = http.createServer((request, response) =>
{
	const chunks = [];

	request.on('data', (chunk) => chunks.push(chunk));
	request.on('end', async () =>
	{
		try
		{
			const body = Buffer.concat(chunks);
			const secret = fs.readFileSync(options['secret-file'], 'utf8').trim();

			new Webhook(secret).verify(body, request.headers);
			await handle(JSON.parse(body));
			response.writeHead(204).end();
		}
		catch (error)
		{
			console.error(error.message);
			response.writeHead(500).end();
		}
	});
});

/* it ends with whoever started it */
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
server.listen(Number(options.port), '127.0.0.1', () =>
{
	fs.writeFileSync(options['port-file'] + '.new', `${server.address().port}\n`);
	fs.renameSync(options['port-file'] + '.new', options['port-file']);
	reconcile();
});
