/*
 * event_format.js
 *		What a request with events looks like, in each format; the one place that
 *		knows.
 *
 * CloudEvents are read by the npm package cloudevents, a reading of the
 * specification that is not ours, with its validation.  The package does not see
 * everything: it makes up an id or a time that is missing or unreadable, and
 * takes a header as it stands.  What it lets pass is checked here.
 */
'use strict';

const { isUtf8 } = require('buffer');
const { HTTP } = require('cloudevents');

const REQUIRED = ['specversion', 'id', 'source', 'type', 'time'];
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
const CONTENT_TYPES = {
	'application/json': 'webhook',
	'application/cloudevents+json; charset=utf-8': 'cloudevents',
	'application/cloudevents-batch+json': 'cloudevents_batch'
};

function isObject(value)
{
	return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function check(condition, message)
{
	if (!condition)
		throw new Error(message);
}

/* ---------- Standard Webhooks ---------- */

function webhookEvent(event, id)
{
	check(isObject(event), 'the event is not an object');
	check(typeof event.type === 'string' && RFC3339.test(event.timestamp) && 'data' in event,
		'the event lacks a member');

	const data = isObject(event.data) ? event.data : {};

	return {
		id,
		type: event.type,
		timestamp: event.timestamp,
		aggregatetype: data.aggregatetype,
		aggregateid: data.aggregateid,
		sequence: data.sequence
	};
}

function webhookEvents(id, body)
{
	const message = JSON.parse(body);

	if (id === undefined || !id.startsWith('bat_'))
		return [webhookEvent(message, id)];

	check(message.type === 'batch' && Array.isArray(message.data) && message.data.length > 0,
		'not a batch');
	check(message.timestamp === message.data.reduce((newest, { timestamp }) =>
		(timestamp > newest ? timestamp : newest), ''), 'not the time of the newest event');
	return message.data.map((event) =>
	{
		check(typeof event.id === 'string' && event.id.startsWith('evt_'), 'an event has no id');
		return webhookEvent(event, event.id);
	});
}

/* ---------- CloudEvents ---------- */

/*
 * A header's value as the HTTP binding has it.  Ours needs no quotes, and
 * nothing but ASCII.  Invalid UTF-8 makes decodeURIComponent throw.
 */
function headerValue(name, value)
{
	check(/^[\x21\x23-\x7e]*$/.test(value), `header ${name} is not encoded`);
	check(!/%(?![0-9A-F]{2})/.test(value), `header ${name} has a stray percent sign`);
	return decodeURIComponent(value);
}

function decodedHeaders(headers)
{
	const decoded = { ...headers };

	for (const name of Object.keys(headers))
	{
		if (name.startsWith('ce-'))
			decoded[name] = headerValue(name, headers[name]);
	}
	check(decoded['ce-datacontenttype'] === undefined, 'ce-datacontenttype beside content-type');
	return decoded;
}

function attributesOfHeaders(headers)
{
	const attributes = { datacontenttype: headers['content-type'] };

	for (const name of Object.keys(headers))
	{
		if (name.startsWith('ce-'))
			attributes[name.slice(3)] = headers[name];
	}
	return attributes;
}

/* raw: the attributes as they came, event: what the package made of them */
function cloudEvent(raw, event, data)
{
	check(event.validate(), 'not a CloudEvent of version 1.0');
	for (const name of REQUIRED)
		check(typeof raw[name] === 'string' && raw[name] !== '', `no attribute ${name}`);
	check(RFC3339.test(raw.time), 'time is not in RFC 3339');
	check(raw.datacontenttype === 'application/json', 'datacontenttype');
	check(raw.sequence === undefined || /^\d{19}$/.test(raw.sequence),
		'sequence does not sort as a string');
	check(raw.partitionkey === raw.aggregateid, 'partitionkey');
	check(raw.subject === `${raw.aggregatetype}/${raw.aggregateid}`, 'subject');

	const attributes = {};

	for (const [name, value] of Object.entries(raw))
	{
		if (name === 'data')
			continue;
		check(typeof value === 'string', `${name} is not a string`);
		// eslint-disable-next-line no-control-regex
		check(!/[\x00-\x1f\x7f-\x9f]/.test(value), `${name} has control characters`);
		check(name === 'time' || event[name] === value, `the package reads another ${name}`);
		attributes[name] = value;
	}
	return {
		id: event.id,
		type: event.type,
		timestamp: raw.time,
		aggregatetype: event.aggregatetype,
		aggregateid: event.aggregateid,
		sequence: event.sequence !== undefined ? Number(event.sequence) :
			isObject(data) ? data.sequence : undefined,
		attributes
	};
}

function cloudEvents(format, headers, body)
{
	if (format === 'cloudevents_binary')
	{
		const decoded = decodedHeaders(headers);

		return [cloudEvent(attributesOfHeaders(decoded),
			HTTP.toEvent({ headers: decoded, body }), JSON.parse(body))];
	}

	const raw = JSON.parse(body);
	const read = HTTP.toEvent({ headers, body });

	check(Array.isArray(raw) === (format === 'cloudevents_batch'), 'a batch is an array, one event is not');
	check(!Object.keys(headers).some((name) => name.startsWith('ce-')), 'ce-* headers beside the body');
	if (format === 'cloudevents')
		return [cloudEvent(raw, read, raw.data)];
	check(raw.length > 0, 'an empty batch');
	return raw.map((event, i) => cloudEvent(event, read[i], event.data));
}

/* ---------- any ---------- */

/*
 * { format, events, invalid }: events are { id, type, timestamp, aggregatetype,
 * aggregateid, sequence, attributes (of CloudEvents) }.  A request that is
 * invalid, and why, has one event of which only the id is known.
 */
function eventFields(headers, raw)
{
	const id = headers['webhook-id'];
	const contentType = headers['content-type'];
	const format = headers['ce-specversion'] !== undefined && contentType === 'application/json' ?
		'cloudevents_binary' : CONTENT_TYPES[contentType];

	try
	{
		check(format !== undefined, `content-type ${contentType}`);
		check(isUtf8(raw), 'not UTF-8');

		const body = raw.toString();
		const events = format === 'webhook' ? webhookEvents(id, body) :
			cloudEvents(format, headers, body);

		check(events.length > 1 || id === undefined || id === events[0].id || id.startsWith('bat_'),
			'webhook-id is another than that of the event');
		return { format, events };
	}
	catch (error)
	{
		return { format, events: [{ id }], invalid: error.message };
	}
}

module.exports = { eventFields };
