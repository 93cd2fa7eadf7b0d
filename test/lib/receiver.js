#!/usr/bin/env node
/*
 * receiver.js
 *		The webhook receiver of the tests and the demo.
 *
 * Listens on loopback, verifies each request with the npm packages
 * standardwebhooks and cloudevents (readings of the specifications that are not
 * ours, see event_format.js), writes one JSON line an event to its log, and
 * misbehaves on demand.
 *
 *   node receiver.js [--port N] [--host A] [--port-file F] [--log F]
 *                    [--secrets F] [--tls-cert F --tls-key F [--tls-client-ca F]]
 *                    [--until-eof]
 *
 * The port is printed, and with --port-file also written to that file by rename.
 * --until-eof ends the receiver when its standard input ends, that is, with the
 * process that started it.  SIGTERM and SIGINT end it after writing the log.
 *
 * Secrets: lines "/path whsec_..." in the --secrets file, several for a path
 * while a secret rotates.  A signature that does not verify makes the receiver
 * look at the file again if it has changed.  A path without a secret is served
 * and logged as unverified.
 *
 * Misbehaviour: rules, the first that matches applies; see misbehave.js.  They
 * are set by POST to /_control or come in the URL's query
 * (?status=503&attempts=2&delay_ms=50).
 *
 * Control: POST /_control with any of
 *   {"rules": [...]}     replaces the rules     {"secrets": {"/path": "whsec_"}}
 *   {"release": true}    answers all that hang  {"detail": true} logs headers and
 *   {"reset": true}      forgets counts, rules, secrets       body, too
 * GET /_stats answers counts a path, POST /_flush writes the log to its file.
 *
 * A request with several events has a line in the log for each: "batch" is their
 * number, "request" the webhook-id, "id" that of the event.  "invalid" says why
 * a request is not in its format.
 */
'use strict';

const fs = require('fs');
const http = require('http');
const https = require('https');
const { Webhook } = require('standardwebhooks');
const { eventFields } = require('./event_format');
const misbehave = require('./misbehave');

const LOG_FLUSH_BYTES = 256 * 1024;
const LOG_FLUSH_MS = 100;

/* ---------- log ---------- */

let logFd = null;
let logLines = [];
let logBytes = 0;

function flushLog()
{
	if (logLines.length > 0 && logFd !== null)
		fs.writeSync(logFd, logLines.join(''));
	logLines = [];
	logBytes = 0;
}

function writeLog(entry)
{
	const line = JSON.stringify(entry) + '\n';

	logLines.push(line);
	logBytes += line.length;
	if (logBytes >= LOG_FLUSH_BYTES)
		flushLog();
}

/* Seconds since 1970 with microseconds: a clock that Date.now() does not give. */
function nowSeconds()
{
	return Math.round((performance.timeOrigin + performance.now()) * 1000) / 1e6;
}

/* ---------- secrets ---------- */

let secretsFile = null;
let secretsSeen = '';
let webhooks = new Map();		/* path -> [Webhook] */

function setSecrets(path, secrets)
{
	webhooks.set(path, [].concat(secrets).map((secret) => new Webhook(secret)));
}

/* Reads the secrets file if it has changed; true if it had. */
function reloadSecrets()
{
	if (secretsFile === null || !fs.existsSync(secretsFile))
		return false;

	const text = fs.readFileSync(secretsFile, 'utf8');

	if (text === secretsSeen)
		return false;
	secretsSeen = text;

	const byPath = new Map();

	for (const line of text.split('\n'))
	{
		const [path, secret] = line.trim().split(/\s+/);

		if (path && secret)
			byPath.set(path, [...(byPath.get(path) || []), secret]);
	}
	for (const [path, secrets] of byPath)
		setSecrets(path, secrets);
	return true;
}

function verifyOnce(path, body, headers)
{
	for (const webhook of webhooks.get(path) || [])
	{
		try
		{
			webhook.verify(body, headers, { jsonParse: false });
			return true;
		}
		catch
		{
			/* another secret of this path may be the one */
		}
	}
	return false;
}

function verify(path, body, headers)
{
	return verifyOnce(path, body, headers) ||
		(reloadSecrets() && verifyOnce(path, body, headers));
}

/* ---------- what has been received ---------- */

let paths = new Map();

function pathState(path)
{
	let state = paths.get(path);

	if (state === undefined)
	{
		state = {
			requests: 0, answered: 0, unverified: 0,
			invalid: 0,			/* requests that are not in their format */
			events: 0,			/* in all requests */
			accepted: 0,		/* events answered with 2xx */
			repeated: 0,		/* events that had been accepted before */
			outOfOrder: 0,		/* events that first came after a later sequence */
			gaps: 0,			/* events that first came and left a sequence out */
			overlaps: 0,		/* events while another request of the aggregate was open */
			inFlight: 0, maxInFlight: 0,
			sent: 0,			/* bytes of endless bodies */
			first: null, last: null,	/* when the first and the last request came */
			perSecond: [],		/* requests in each second from the first on */
			attempts: new Map(),	/* id -> how often it came */
			accepts: new Set(),		/* ids answered with 2xx */
			sequences: new Map(),	/* aggregate -> highest sequence seen */
			open: new Map()			/* aggregate -> events of the requests without an answer, each a set */
		};
		paths.set(path, state);
	}
	return state;
}

function aggregateOf(event)
{
	return event.aggregateid === undefined ? undefined : event.aggregatetype + ' ' + event.aggregateid;
}

/* The aggregates of a request, each once. */
function aggregatesOf(events)
{
	const aggregates = new Set(events.map(aggregateOf));

	aggregates.delete(undefined);
	return aggregates;
}

/* Books the arrival of an event; answers which attempt it is. */
function arriveEvent(state, event)
{
	const attempt = (state.attempts.get(event.id) || 0) + 1;
	const aggregate = aggregateOf(event);

	state.attempts.set(event.id, attempt);
	state.events++;
	if (state.accepts.has(event.id))
		state.repeated++;
	if (aggregate !== undefined && attempt === 1 && typeof event.sequence === 'number')
	{
		const highest = state.sequences.get(aggregate) || 0;

		if (event.sequence <= highest)
			state.outOfOrder++;
		else
		{
			if (event.sequence > highest + 1)
				state.gaps++;
			state.sequences.set(aggregate, event.sequence);
		}
	}
	return attempt;
}

/*
 * Counts a request that came while others of its aggregate were open.  A sender
 * that gave up, or died, closed its connection before anybody sent again; but when
 * this process stood still both were waiting for it, and of a connection that was
 * closed it hears after all requests of the same turn.  So they are asked a turn later.
 */
function countOverlap(state, others)
{
	setImmediate(() => setImmediate(() =>
	{
		if (others.some((events) => !events.givenUp))
			state.overlaps++;
	}));
}

/* Books the arrival of a request; sets which attempt each of its events is. */
function arrive(state, events, verified, invalid, time)
{
	state.requests++;
	if (!verified)
		state.unverified++;
	if (invalid !== undefined)
		state.invalid++;
	if (state.first === null)
		state.first = time;
	state.last = time;

	const second = Math.max(0, Math.floor(time - state.first));

	state.perSecond[second] = (state.perSecond[second] || 0) + 1;
	for (const aggregate of aggregatesOf(events))
	{
		const open = state.open.get(aggregate) || new Set();

		if (open.size > 0)
			countOverlap(state, [...open]);
		open.add(events);
		state.open.set(aggregate, open);
	}
	for (const event of events)
		event.attempt = arriveEvent(state, event);
}

/* Books the end of a request; status is what was answered, 0 for nothing. */
function leave(state, events, status)
{
	state.inFlight--;
	state.answered++;
	events.givenUp = status === 0;
	if (status >= 200 && status < 300)
	{
		for (const { id } of events)
		{
			if (!state.accepts.has(id))
				state.accepted++;
			state.accepts.add(id);
		}
	}
	for (const aggregate of aggregatesOf(events))
	{
		const open = state.open.get(aggregate);

		open.delete(events);
		if (open.size === 0)
			state.open.delete(aggregate);
	}
}

function stats()
{
	const result = {};

	for (const [path, s] of paths)
		result[path] = {
			requests: s.requests, events: s.events,
			unique: s.attempts.size, duplicates: s.events - s.attempts.size,
			accepted: s.accepted, repeated: s.repeated,
			unverified: s.unverified, invalid: s.invalid,
			answered: s.answered, in_flight: s.inFlight, max_in_flight: s.maxInFlight,
			out_of_order: s.outOfOrder, gaps: s.gaps, overlaps: s.overlaps, sent: s.sent,
			first: s.first, last: s.last, per_second: Array.from(s.perSecond, (n) => n || 0)
		};
	return result;
}

/* ---------- requests ---------- */

let logDetail = false;
let connections = 0;

function reply(response, status, value)
{
	response.writeHead(status, { 'content-type': 'application/json' });
	response.end(JSON.stringify(value));
}

function control(command)
{
	if (command.reset)
	{
		paths = new Map();
		webhooks = new Map();
		secretsSeen = '';
		misbehave.setRules([]);
	}
	if (command.rules !== undefined)
		misbehave.setRules(command.rules);
	if (command.detail !== undefined)
		logDetail = command.detail;
	for (const [path, secrets] of Object.entries(command.secrets || {}))
		setSecrets(path, secrets);
	if (command.release)
		misbehave.releaseAll();
}

function handleOwn(path, body, response)
{
	try
	{
		switch (path)
		{
			case '/_control':
				control(JSON.parse(body));
				reply(response, 200, {});
				return;
			case '/_stats':
				reply(response, 200, stats());
				return;
			case '/_flush':
				flushLog();
				reply(response, 200, {});
				return;
			default:
				reply(response, 404, { error: `no such command: ${path}` });
		}
	}
	catch (error)
	{
		reply(response, 400, { error: error.message });
	}
}

/* One line for each event of the request. */
function logRequest(request, raw, common)
{
	const { id, format, events, invalid } = common.parsed;
	const batch = format === 'cloudevents_batch' || events.length > 1 ||
		(id !== undefined && id.startsWith('bat_'));

	for (const event of events)
	{
		const entry = {
			time: common.time, path: common.path, id: event.id,
			type: event.type,
			aggregatetype: event.aggregatetype,
			aggregateid: event.aggregateid,
			sequence: event.sequence,
			timestamp: Number(request.headers['webhook-timestamp']),
			attempt: event.attempt,
			verified: common.verified,
			status: common.status,
			action: common.action,
			connection: request.socket.number,
			bytes: raw.length,
			format, invalid
		};

		if (batch)
		{
			entry.batch = events.length;
			entry.request = id;
		}
		if (logDetail)
		{
			entry.event_timestamp = event.timestamp;
			entry.attributes = event.attributes;
			entry.headers = request.headers;
			entry.body = raw.toString();
		}
		writeLog(entry);
	}
}

function handleEvents(path, query, raw, request, response, time)
{
	const id = request.headers['webhook-id'];
	const parsed = { id, ...eventFields(request.headers, raw) };
	const events = parsed.events;
	const verified = verify(path, raw.toString(), request.headers);
	const state = request.pathState;

	arrive(state, events, verified, parsed.invalid, time);

	const { rule, event } = misbehave.findRule({ path, id, events }, query);
	const status = misbehave.ruleStatus(rule, event.attempt);
	const delay = misbehave.ruleDelay(rule);

	logRequest(request, raw, { time, path, parsed, verified, status, action: rule.action });

	/*
	 * The answer counts when it is handed to the socket, not when it arrived: a
	 * client that goes away in between has still been told yes by us.
	 */
	let left = false;
	const leaveOnce = (given) =>
	{
		if (!left)
		{
			left = true;
			leave(state, events, given);
		}
	};

	response.on('close', () => leaveOnce(response.headersSent ? response.statusCode : 0));
	const go = () =>
	{
		if (response.destroyed)
			return;
		if (status !== 0)
			leaveOnce(status);
		misbehave.answer(request, response, rule, status);
	};

	if (delay > 0)
		setTimeout(go, delay);
	else
		go();
}

function onRequest(request, response)
{
	const time = nowSeconds();
	const split = request.url.indexOf('?');
	const path = split < 0 ? request.url : request.url.slice(0, split);
	const query = split < 0 ? '' : request.url.slice(split + 1);
	const own = path.startsWith('/_');
	const chunks = [];

	if (!own)
	{
		const state = request.pathState = pathState(path);

		if (++state.inFlight > state.maxInFlight)
			state.maxInFlight = state.inFlight;
	}
	request.on('data', (chunk) => chunks.push(chunk));
	request.on('end', () =>
	{
		const raw = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);

		if (own)
			handleOwn(path, raw.toString(), response);
		else
			handleEvents(path, query, raw, request, response, time);
	});
	request.on('close', () =>
	{
		/* the sender gave up before its body was complete */
		if (!own && !request.complete)
			request.pathState.inFlight--;
	});
}

/* ---------- start and end ---------- */

function parseArguments(argv)
{
	const options = { port: '0', host: '127.0.0.1' };

	while (argv.length > 0)
	{
		const name = argv.shift();

		switch (name)
		{
			case '--until-eof':
				options[name.slice(2)] = true;
				break;
			case '--port': case '--host': case '--port-file': case '--log':
			case '--secrets': case '--tls-cert': case '--tls-key': case '--tls-client-ca':
				if (argv.length === 0)
					throw new Error(`${name} needs a value`);
				options[name.slice(2)] = argv.shift();
				break;
			default:
				throw new Error(`unknown option: ${name}`);
		}
	}
	return options;
}

function stop()
{
	flushLog();
	process.exit(0);
}

function main()
{
	const options = parseArguments(process.argv.slice(2));
	const server = options['tls-cert'] === undefined ?
		http.createServer(onRequest) :
		https.createServer({
			cert: fs.readFileSync(options['tls-cert']),
			key: fs.readFileSync(options['tls-key']),
			/* who shows no certificate of this authority is not let in */
			...(options['tls-client-ca'] !== undefined && {
				ca: fs.readFileSync(options['tls-client-ca']), requestCert: true
			})
		}, onRequest);

	if (options.log !== undefined)
		logFd = fs.openSync(options.log, 'a');
	if (options.secrets !== undefined)
	{
		secretsFile = options.secrets;
		reloadSecrets();
	}

	/* It is for the sender to give up: no time-outs of node's own. */
	server.requestTimeout = 0;
	server.headersTimeout = 0;
	server.keepAliveTimeout = 0;
	server.on(options['tls-cert'] === undefined ? 'connection' : 'secureConnection', (socket) =>
	{
		socket.number = ++connections;
		socket.setNoDelay(true);
	});

	setInterval(flushLog, LOG_FLUSH_MS).unref();
	process.on('SIGTERM', stop);
	process.on('SIGINT', stop);
	if (options['until-eof'])
	{
		process.stdin.resume();
		process.stdin.on('end', stop);
		process.stdin.on('error', stop);
	}

	server.listen({ port: Number(options.port), host: options.host, backlog: 4096 }, () =>
	{
		const port = server.address().port;

		if (options['port-file'] !== undefined)
		{
			fs.writeFileSync(options['port-file'] + '.new', `${port}\n`);
			fs.renameSync(options['port-file'] + '.new', options['port-file']);
		}
		console.log(port);
	});
}

main();
