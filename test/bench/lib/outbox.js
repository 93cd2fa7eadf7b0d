/*
 * outbox.js
 *		A database of ours with endpoints, filled and drained.
 *
 * Progress is read from the worker's counters over one connection that stays
 * open: a psql for each look would take a good part of a core from what is
 * measured.
 */
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const { sleep } = require('./process');

/* What an event's body has beside the text that fill() puts into it. */
const BODY_WITHOUT_TEXT = 135;

/* Of a body of so many bytes, as the limit and the peers send it. */
const BODY_BYTES = 500;

const LOOK_MS = 10;

/* SCALE in the environment makes all numbers of events smaller, to see that a figure runs. */
const scaled = (n) => Math.max(100, Math.round(n * Number(process.env.SCALE ?? 1)));

/* What must be set where the time of a commit is asked for. */
const COMMIT_TIMES = { track_commit_timestamp: 'on' };

class Outbox
{
	static async create(bench, server, db)
	{
		const { Client } = require('pg');
		const outbox = new Outbox();

		outbox.bench = bench;
		outbox.server = server;
		outbox.db = await server.createdb(db);
		outbox.client = new Client({ host: server.host, port: server.port, user: server.user, database: db });
		outbox.client.on('error', () => {});	/* the database goes before the connection */
		await outbox.client.connect();
		bench.keep({ stop: () => outbox.client.end() });
		return outbox;
	}

	async rows(text, values = [])
	{
		return (await this.client.query({ text, values, rowMode: 'array' })).rows;
	}

	async value(text, values) { return (await this.rows(text, values))[0][0]; }

	/* Creates an endpoint; answers its secret.  "options" are more arguments, as SQL. */
	endpoint(name, url, options = 'max_in_flight => 64')
	{
		return this.value(`SELECT order_engine.create_endpoint($1, $2${options === '' ? '' : `, ${options}`})`, [name, url]);
	}

	drop(name) { return this.rows('SELECT order_engine.drop_endpoint($1)', [name]); }

	pause() { return this.rows('SELECT order_engine.pause_endpoint(name) FROM order_engine.endpoint_settings'); }

	resume() { return this.rows('SELECT order_engine.resume_endpoint(name) FROM order_engine.endpoint_settings'); }

	/*
	 * Emits n events, of 10,000 aggregates if there are so many, with bodies of
	 * "bytes" bytes.  With "types", so many types of events take turns, numbered from 0.
	 */
	async fill(n, { bytes = BODY_BYTES, types } = {})
	{
		/* that cannot be compressed */
		const text = crypto.randomBytes(bytes).toString('base64').slice(0, Math.max(0, bytes - BODY_WITHOUT_TEXT));

		await this.rows(`SELECT count(order_engine.emit('item', to_char(n % 10000, 'FM00000'),
				coalesce('item.changed_' || n % $3::int, 'item.changed'),
				jsonb_build_object('text', $2::text)))
			FROM generate_series(1, $1::int) n`, [n, text, types]);
	}

	async counters()
	{
		const { rows: [row] } = await this.client.query({ name: 'counters',
			text: 'SELECT sum(delivered)::float8 AS delivered, sum(failed)::float8 AS failed FROM order_engine.stat_worker' });

		return row;
	}

	/* Microseconds of CPU time that the worker has used, as the kernel counts: in hundredths of a second. */
	async cpu()
	{
		const stat = fs.readFileSync(`/proc/${await this.value('SELECT pid FROM order_engine.stat_worker')}/stat`, 'utf8');
		const [user, system] = stat.slice(stat.lastIndexOf(')')).split(' ').slice(12, 14).map(Number);

		return (user + system) * 10000;
	}

	/* Waits until n deliveries more are done than "before" says. */
	async delivered(n, before, seconds = 300)
	{
		const end = Date.now() + seconds * 1000;

		for (;;)
		{
			const now = await this.counters();

			this.bench.check(`${now.failed - before.failed} deliveries failed`, now.failed === before.failed);
			if (now.delivered >= before.delivered + n)
				return;
			if (Date.now() > end)
				throw new Error(`${n} events to deliver, only ${now.delivered - before.delivered} delivered in ${seconds} s`);
			await sleep(LOOK_MS);
		}
	}

	/* Waits until nothing waits or is under way, and everything is acknowledged. */
	async idle()
	{
		while (await this.value('SELECT EXISTS (SELECT FROM order_engine.endpoint_status WHERE lag IS NOT NULL)'))
			await sleep(LOOK_MS);
	}

	/* Whether this is true in endpoint_status. */
	is(condition, name) { return this.value(`SELECT ${condition} FROM order_engine.endpoint_status WHERE name = $1`, [name]); }

	/*
	 * Lets the paused endpoints go and waits for n deliveries.  With "rest" more is left
	 * to be delivered, otherwise everything must be acknowledged.  Answers { rate, cpu }:
	 * deliveries a second, and microseconds of CPU time of the worker for each.
	 */
	async drain(n, { rest = false } = {})
	{
		await this.server.settle();

		const before = await this.counters();
		const used = await this.cpu();
		const from = process.hrtime.bigint();

		await this.resume();
		await this.delivered(n, before);
		if (!rest)
			await this.idle();

		const seconds = Number(process.hrtime.bigint() - from) / 1e9;

		if (!rest)
		{
			const after = await this.counters();

			this.bench.check(`${n} events, ${after.delivered - before.delivered} deliveries`,
				after.delivered - before.delivered === n);
		}
		return { rate: n / seconds, cpu: (await this.cpu() - used) / n };
	}

	/* The same for n events that come all at once to endpoints that wait for them. */
	async burst(events, deliveries, options)
	{
		await this.server.settle();
		await this.rows('BEGIN');
		await this.fill(events, options);

		const before = await this.counters();
		const used = await this.cpu();
		const from = process.hrtime.bigint();

		await this.rows('COMMIT');
		await this.delivered(deliveries, before);

		const seconds = Number(process.hrtime.bigint() - from) / 1e9;

		await this.idle();
		return { rate: deliveries / seconds, cpu: (await this.cpu() - used) / deliveries };
	}

	/* The same for n events that are made first. */
	async backlog(n, options)
	{
		await this.pause();
		await this.fill(n, options);
		return this.drain(n);
	}
}

module.exports = { Outbox, BODY_BYTES, COMMIT_TIMES, scaled };
