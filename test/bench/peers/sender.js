/*
 * sender.js
 *		What every peer does with an event: the work that order_engine does for
 *		one, written as an application on Node would.
 *
 * Renders the envelope, signs it by Standard Webhooks and posts it over
 * keep-alive connections.  undici is the fastest client that Node has; its
 * request() costs half of what http.Agent does.
 */
'use strict';

const crypto = require('crypto');
const { Pool } = require('undici');

class Sender
{
	constructor(url, secret, connections)
	{
		const { origin, pathname } = new URL(url);

		this.path = pathname;
		this.key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
		this.pool = new Pool(origin, { connections, pipelining: 1 });
	}

	async send(id, type, data)
	{
		const body = JSON.stringify({ type, timestamp: new Date().toISOString(), data });
		const timestamp = Math.floor(Date.now() / 1000);
		const signature = crypto.createHmac('sha256', this.key)
			.update(`${id}.${timestamp}.${body}`).digest('base64');
		const response = await this.pool.request({
			path: this.path, method: 'POST', body,
			headers: {
				'content-type': 'application/json',
				'user-agent': 'bench-peer',
				'webhook-id': id,
				'webhook-timestamp': String(timestamp),
				'webhook-signature': `v1,${signature}`
			}
		});

		await response.body.dump();
		if (response.statusCode < 200 || response.statusCode > 299)
			throw new Error(`the receiver answered ${response.statusCode}`);
	}

	close()
	{
		return this.pool.close();
	}
}

module.exports = { Sender };
