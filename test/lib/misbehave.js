/*
 * misbehave.js
 *		What the receiver does to those who send to it: rules, and the answers that
 *		they ask for.
 *
 * A rule is an object with these members, all optional:
 *   which requests  path, id, ids, aggregateid, type,
 *                   attempts: only the first N attempts of an event,
 *                   times: only N requests, then the rule is used up;
 *                   one with several events if one of them is meant (id and ids
 *                   may also name its webhook-id)
 *   what happens    status (200), statuses: one for each attempt of an event, the
 *                   last stays, headers, body, retry_after: that header's text,
 *                   delay_ms: number or [min, max],
 *                   action: hang     no answer until {"release": true}
 *                           reset    the connection is reset, no answer
 *                           drip     status line at once, then a byte every
 *                                    drip_ms (100) for bytes (1 MiB) bytes
 *                           big      a body of bytes (1 MiB) bytes
 *                           endless  a body of bytes (10 GiB) bytes, as fast as
 *                                    they are taken; "sent" in the stats counts
 *                                    them, a few MiB of which a kernel may hold
 *                           garbage  a body of bytes (4 KiB) bytes of any value:
 *                                    control bytes, invalid UTF-8
 *                           headers  headers of bytes (1 MiB) bytes, then the body
 *                           cut      half of the announced body, then reset
 *                           redirect to location (status 307)
 */
'use strict';

const MIB = 1024 * 1024;

/* ---------- rules ---------- */

let rules = [];

function setRules(list)
{
	rules = list;
}

function ruleFromQuery(query)
{
	const rule = {};

	for (const [key, value] of new URLSearchParams(query))
		rule[key] = /^\d+$/.test(value) ? Number(value) : value;
	return rule;
}

function ruleMatches(rule, request, event)
{
	return (rule.path === undefined || rule.path === request.path) &&
		(rule.id === undefined || rule.id === event.id || rule.id === request.id) &&
		(rule.ids === undefined || rule.ids.includes(event.id) || rule.ids.includes(request.id)) &&
		(rule.aggregateid === undefined || String(rule.aggregateid) === String(event.aggregateid)) &&
		(rule.type === undefined || rule.type === event.type) &&
		(rule.attempts === undefined || event.attempt <= rule.attempts) &&
		(rule.times === undefined || rule.times > 0);
}

/* The rule that applies, and the event that it means. */
function findRule(request, query)
{
	const candidates = query === '' ? rules : [...rules, ruleFromQuery(query)];

	for (const rule of candidates)
	{
		const event = request.events.find((candidate) => ruleMatches(rule, request, candidate));

		if (event === undefined)
			continue;
		if (rule.times !== undefined)
			rule.times--;
		return { rule, event };
	}
	return { rule: {}, event: request.events[0] };
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

/* Writes as fast as the client takes it, until it goes away. */
function stream(response, bytes, state)
{
	const chunk = Buffer.alloc(64 * 1024, '.');
	let left = bytes;
	const next = (error) =>
	{
		if (error || response.destroyed)
			return;
		if (left <= 0)
			response.end();
		else
		{
			const size = Math.min(left, chunk.length);

			left -= size;
			response.write(size < chunk.length ? chunk.subarray(0, size) : chunk, (failed) =>
			{
				if (!failed)
					state.sent += size;
				next(failed);
			});
		}
	};

	next();
}

/* Headers of about so many bytes. */
function manyHeaders(bytes)
{
	const headers = {};

	for (let i = 0; i * 1024 < bytes; i++)
		headers[`x-filler-${i}`] = '.'.repeat(1000);
	return headers;
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
	const bytes = rule.bytes || { endless: 10 * 1024 * MIB, garbage: 4096 }[rule.action] || MIB;
	const headers = rule.retry_after === undefined ? rule.headers :
		{ 'retry-after': String(rule.retry_after), ...rule.headers };

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
			response.writeHead(status, headers);
			response.flushHeaders();
			drip(response, bytes, rule.drip_ms || 100);
			return;
		case 'big':
			response.writeHead(status, headers);
			response.end(Buffer.alloc(bytes, '.'));
			return;
		case 'endless':
			response.writeHead(status, headers);
			stream(response, bytes, request.pathState);
			return;
		case 'garbage':
			response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers });
			response.end(Buffer.alloc(bytes, Uint8Array.from({ length: 256 }, (_, i) => i)));
			return;
		case 'headers':
			response.writeHead(status, { ...manyHeaders(bytes), ...headers });
			response.end(rule.body);
			return;
		case 'cut':
			response.writeHead(status, { ...headers, 'content-length': bytes });
			response.write(Buffer.alloc(Math.floor(bytes / 2), '.'), () => reset(request));
			return;
		case 'redirect':
			response.writeHead(status, { location: rule.location, ...headers });
			response.end();
			return;
		default:
			response.writeHead(status, headers);
			response.end(rule.body);
	}
}

module.exports = { setRules, findRule, ruleStatus, ruleDelay, answer, releaseAll };
