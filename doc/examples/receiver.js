/*
 * receiver.js - takes webhooks of order_engine: verify, store once, answer, work.
 *
 *   SECRETS="whsec_... whsec_..." PORT=8080 node receiver.js
 *
 * Needs nothing but Node.  While a secret is being rotated, SECRETS has the old
 * one and the new one.
 */
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');

const MAX_AGE = 5 * 60;				/* seconds between the signature's clock and ours */
const MAX_BODY = 4 * 1024 * 1024;	/* bytes; order_engine stays well below */

const keys = process.env.SECRETS.trim().split(/\s+/)
	.map((secret) => Buffer.from(secret.replace(/^whsec_/, ''), 'base64'));

/* Was this very body signed with one of our keys, and just now? */
function verify(headers, body)
{
	const id = headers['webhook-id'] ?? '';
	const timestamp = headers['webhook-timestamp'] ?? '';
	const signatures = (headers['webhook-signature'] ?? '').split(' ');

	if (!/^\d{1,12}$/.test(timestamp) || Math.abs(Date.now() / 1000 - timestamp) > MAX_AGE)
		return false;
	return keys.some((key) => {
		const expected = Buffer.from('v1,' + crypto.createHmac('sha256', key)
			.update(`${id}.${timestamp}.`).update(body).digest('base64'));

		return signatures.some((signature) => {
			const given = Buffer.from(signature);

			return given.length === expected.length && crypto.timingSafeEqual(given, expected);
		});
	});
}

/* One request has one event, or several under the id bat_... */
function eventsOf(headers, body)
{
	const message = JSON.parse(body);

	return headers['webhook-id'].startsWith('bat_') ? message.data
		: [{ id: headers['webhook-id'], ...message }];
}

/*
 * Here a Map, so that the example needs no database.  In earnest: a table with
 * the id as its key, and INSERT ... ON CONFLICT DO NOTHING, committed before the
 * request is answered.
 */
const received = new Map();			/* id -> event */
const latest = new Map();			/* aggregate -> sequence of the newest event */

function store(event)
{
	if (received.has(event.id))
		return false;
	received.set(event.id, event);
	return true;
}

/* What is to be done about a new event; it may take as long as it likes. */
function work(event)
{
	const { aggregatetype, aggregateid, sequence = 0 } = event.data ?? {};	/* only orders count their events */
	const aggregate = `${aggregatetype}/${aggregateid}`;
	const late = sequence !== 0 && sequence <= (latest.get(aggregate) ?? 0);

	/* one that was sent again after its successors must not bring back an old state */
	if (!late)
		latest.set(aggregate, sequence);
	console.log(late ? 'late' : 'new', event.id, event.type, aggregate, sequence);
}

function answer(response, status)
{
	response.writeHead(status).end();
}

const server = http.createServer((request, response) => {
	const chunks = [];
	let size = 0;

	request.on('data', (chunk) => {
		size += chunk.length;
		if (size > MAX_BODY)
			request.destroy();
		else
			chunks.push(chunk);
	});
	request.on('end', () => {
		const body = Buffer.concat(chunks);		/* as it came: a signature is about bytes */

		try
		{
			if (request.method !== 'POST' || !verify(request.headers, body))
				return answer(response, 401);
			for (const event of eventsOf(request.headers, body))
			{
				if (store(event))
					setImmediate(work, event);
				else
					console.log('duplicate', event.id);
			}
			answer(response, 204);
		}
		catch (error)
		{
			console.error(error);
			answer(response, 500);				/* order_engine tries again */
		}
	});
});

server.listen(process.env.PORT ?? 8080, '127.0.0.1', () => {
	console.log('listening on port', server.address().port);
});
