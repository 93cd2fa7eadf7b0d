#!/usr/bin/env node
/*
 * receiver.js
 *		The webhook receiver of the tests and the demo.
 *
 * Listens on loopback, verifies each request with the npm package
 * standardwebhooks (a reading of the specification that is not ours), writes one
 * JSON line a request to its log, and misbehaves on demand.
 *
 *   node receiver.js [--port N] [--host A] [--port-file F] [--log F]
 *                    [--secrets F] [--tls-cert F --tls-key F] [--until-eof]
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
 * Misbehaviour: rules, the first that matches applies.  They are set by POST to
 * /_control or come in the URL's query (?status=503&attempts=2&delay_ms=50).
 *   which requests  path, id, ids, aggregateid, type (each optional),
 *                   attempts: only the first N attempts of an event,
 *                   times: only N requests, then the rule is used up
 *   what happens    status (200), statuses: one for each attempt, the last stays,
 *                   headers, body, delay_ms: number or [min, max],
 *                   action: hang     no answer until {"release": true}
 *                           reset    the connection is reset, no answer
 *                           drip     status line at once, then a byte every
 *                                    drip_ms (100) for bytes (1 MiB) bytes
 *                           big      a body of bytes (1 MiB) bytes
 *                           cut      half of the announced body, then reset
 *                           redirect to location (status 307)
 *
 * Control: POST /_control with any of
 *   {"rules": [...]}     replaces the rules     {"secrets": {"/path": "whsec_"}}
 *   {"release": true}    answers all that hang  {"detail": true} logs headers and
 *   {"reset": true}      forgets counts, rules, secrets       body, too
 * GET /_stats answers counts a path, POST /_flush writes the log to its file.
 */
'use strict';

const fs = require('fs');
const http = require('http');
const https = require('https');
const { Webhook } = require('standardwebhooks');

const LOG_FLUSH_BYTES = 256 * 1024;
const LOG_FLUSH_MS = 100;
const MIB = 1024 * 1024;

/* ---------- what an event looks like; the one place that knows ---------- */

function eventFields(body)
{
	let event;

	try
	{
		event = JSON.parse(body);
	}
	catch
	{
		return {};
	}
	if (event === null || typeof event !== 'object')
		return {};

	const data = event.data !== null && typeof event.data === 'object' ? event.data : {};

	return {
		type: event.type,
		timestamp: event.timestamp,
		aggregatetype: data.aggregatetype,
		aggregateid: data.aggregateid,
		sequence: data.sequence
	};
}

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
			requests: 0, answered: 0, accepted: 0, unverified: 0,
			repeated: 0,		/* requests for an id that had been accepted before */
			outOfOrder: 0,		/* first requests that came after a later sequence */
			gaps: 0,			/* first requests that left a sequence out */
			overlaps: 0,		/* requests while one of the same aggregate was open */
			inFlight: 0, maxInFlight: 0,
			attempts: new Map(),	/* id -> requests */
			accepts: new Set(),		/* ids answered with 2xx */
			sequences: new Map(),	/* aggregate -> highest sequence seen */
			open: new Map()			/* aggregate -> requests without an answer */
		};
		paths.set(path, state);
	}
	return state;
}

/* Books the arrival of a request; answers which attempt of its event it is. */
function arrive(state, id, event, verified)
{
	const attempt = (state.attempts.get(id) || 0) + 1;

	state.attempts.set(id, attempt);
	state.requests++;
	if (!verified)
		state.unverified++;
	if (state.accepts.has(id))
		state.repeated++;

	if (event.aggregateid !== undefined)
	{
		const aggregate = event.aggregatetype + ' ' + event.aggregateid;
		const open = (state.open.get(aggregate) || 0) + 1;

		state.open.set(aggregate, open);
		if (open > 1)
			state.overlaps++;
		if (attempt === 1 && typeof event.sequence === 'number')
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
	}
	return attempt;
}

/* Books the end of a request; status is what was answered, 0 for nothing. */
function leave(state, id, event, status)
{
	state.inFlight--;
	state.answered++;
	if (status >= 200 && status < 300 && !state.accepts.has(id))
	{
		state.accepts.add(id);
		state.accepted++;
	}
	if (event.aggregateid !== undefined)
	{
		const aggregate = event.aggregatetype + ' ' + event.aggregateid;
		const open = state.open.get(aggregate) - 1;

		if (open === 0)
			state.open.delete(aggregate);
		else
			state.open.set(aggregate, open);
	}
}

function stats()
{
	const result = {};

	for (const [path, s] of paths)
		result[path] = {
			requests: s.requests, unique: s.attempts.size, duplicates: s.requests - s.attempts.size,
			accepted: s.accepted, repeated: s.repeated, unverified: s.unverified,
			answered: s.answered, in_flight: s.inFlight, max_in_flight: s.maxInFlight,
			out_of_order: s.outOfOrder, gaps: s.gaps, overlaps: s.overlaps
		};
	return result;
}

/* ---------- rules ---------- */

let rules = [];

function ruleFromQuery(query)
{
	const rule = {};

	for (const [key, value] of new URLSearchParams(query))
		rule[key] = /^\d+$/.test(value) ? Number(value) : value;
	return rule;
}

function ruleMatches(rule, request)
{
	return (rule.path === undefined || rule.path === request.path) &&
		(rule.id === undefined || rule.id === request.id) &&
		(rule.ids === undefined || rule.ids.includes(request.id)) &&
		(rule.aggregateid === undefined || String(rule.aggregateid) === String(request.aggregateid)) &&
		(rule.type === undefined || rule.type === request.type) &&
		(rule.attempts === undefined || request.attempt <= rule.attempts) &&
		(rule.times === undefined || rule.times > 0);
}

function findRule(request, query)
{
	const rule = rules.find((candidate) => ruleMatches(candidate, request));

	if (rule !== undefined)
	{
		if (rule.times !== undefined)
			rule.times--;
		return rule;
	}
	if (query !== '')
	{
		const fromQuery = ruleFromQuery(query);

		if (ruleMatches(fromQuery, request))
			return fromQuery;
	}
	return {};
}

function ruleStatus(rule, attempt)
{
	if (rule.action === 'hang' || rule.action === 'reset')
		return 0;
	if (rule.statuses !== undefined)
		return rule.statuses[Math.min(attempt, rule.statuses.length) - 1];
	if (rule.status !== undefined)
		return rule.status;
	return rule.action === 'redirect' ? 307 : 200;
}

function ruleDelay(rule)
{
	if (Array.isArray(rule.delay_ms))
		return rule.delay_ms[0] + Math.random() * (rule.delay_ms[1] - rule.delay_ms[0]);
	return rule.delay_ms || 0;
}

/* ---------- answers ---------- */

const hanging = new Set();

function releaseAll()
{
	for (const response of hanging)
	{
		response.writeHead(200);
		response.end();
	}
	hanging.clear();
}

function drip(response, bytes, everyMs)
{
	let left = bytes;
	const timer = setInterval(() =>
	{
		if (left-- > 0 && !response.destroyed)
			response.write('.');
		else
		{
			clearInterval(timer);
			response.end();
		}
	}, everyMs);

	response.on('close', () => clearInterval(timer));
}

function reset(request)
{
	if (typeof request.socket.resetAndDestroy === 'function' && !request.socket.encrypted)
		request.socket.resetAndDestroy();
	else
		request.socket.destroy();
}

function answer(request, response, rule, status)
{
	const bytes = rule.bytes || MIB;

	switch (rule.action)
	{
		case 'hang':
			hanging.add(response);
			response.on('close', () => hanging.delete(response));
			return;
		case 'reset':
			reset(request);
			return;
		case 'drip':
			response.writeHead(status, rule.headers);
			response.flushHeaders();
			drip(response, bytes, rule.drip_ms || 100);
			return;
		case 'big':
			response.writeHead(status, rule.headers);
			response.end(Buffer.alloc(bytes, '.'));
			return;
		case 'cut':
			response.writeHead(status, { ...rule.headers, 'content-length': bytes });
			response.write(Buffer.alloc(Math.floor(bytes / 2), '.'), () => reset(request));
			return;
		case 'redirect':
			response.writeHead(status, { location: rule.location, ...rule.headers });
			response.end();
			return;
		default:
			response.writeHead(status, rule.headers);
			response.end(rule.body);
	}
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
		rules = [];
	}
	if (command.rules !== undefined)
		rules = command.rules;
	if (command.detail !== undefined)
		logDetail = command.detail;
	for (const [path, secrets] of Object.entries(command.secrets || {}))
		setSecrets(path, secrets);
	if (command.release)
		releaseAll();
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

function handleEvent(path, query, raw, request, response, time)
{
	const body = raw.toString();
	const headers = request.headers;
	const id = headers['webhook-id'];
	const event = eventFields(body);
	const verified = verify(path, body, headers);
	const state = request.pathState;
	const attempt = arrive(state, id, event, verified);
	const rule = findRule({ path, id, attempt, aggregateid: event.aggregateid, type: event.type }, query);
	const status = ruleStatus(rule, attempt);
	const delay = ruleDelay(rule);
	const entry = {
		time, path, id,
		type: event.type,
		aggregatetype: event.aggregatetype,
		aggregateid: event.aggregateid,
		sequence: event.sequence,
		timestamp: Number(headers['webhook-timestamp']),
		attempt, verified, status,
		action: rule.action,
		connection: request.socket.number,
		bytes: raw.length
	};

	if (logDetail)
	{
		entry.headers = headers;
		entry.body = body;
	}
	writeLog(entry);

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
			leave(state, id, event, given);
		}
	};

	response.on('close', () => leaveOnce(response.headersSent ? response.statusCode : 0));
	const go = () =>
	{
		if (response.destroyed)
			return;
		if (status !== 0)
			leaveOnce(status);
		answer(request, response, rule, status);
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
			handleEvent(path, query, raw, request, response, time);
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
			case '--secrets': case '--tls-cert': case '--tls-key':
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
			key: fs.readFileSync(options['tls-key'])
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
