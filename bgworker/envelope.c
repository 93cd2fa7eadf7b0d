/*
 * envelope.c
 *	  What goes over the wire for an event, in each format.
 *
 * Responsibility: the texts of an event (Standard Webhooks, CloudEvents 1.0),
 * requests with several events, and the headers that tell the format.
 *
 * Lifecycle: oe_envelope_render runs in a transaction, once per event and kind
 * of text.  Everything else runs where there is none, so nothing there looks at
 * the catalog or converts between encodings.  Two things last as long as the
 * process: the source of the events and a context for hashing.
 *
 * Accidents survived: names in the database are user data.  In CloudEvents the
 * value of an attribute must not have control characters or noncharacters;
 * those stand there percent-encoded.  A header's value is printable ASCII
 * whatever the attribute is.  Trace headers came from a setting that anybody may
 * set: what is not well formed is left out.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "envelope.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "reader.h"
#include "settings.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define MAX_ATTRIBUTES		(OE_ENVELOPE_HEADERS - 1)	/* one is content-type */
#define SEQUENCE_SIZE		(19 + 1)	/* digits of the highest int64, NUL */

typedef struct Attribute
{
	const char *name;
	const char *value;
} Attribute;

static const char hex_digits[] = "0123456789ABCDEF";

/* /order_engine/ and the database's name; NULL until something was rendered */
static char *default_source = NULL;

OeFormat
oe_format_parse(const char *name)
{
	if (strcmp(name, "webhook") == 0)
		return OE_FORMAT_WEBHOOK;
	if (strcmp(name, "cloudevents") == 0)
		return OE_FORMAT_CLOUDEVENTS;
	if (strcmp(name, "cloudevents_binary") == 0)
		return OE_FORMAT_CLOUDEVENTS_BINARY;
	if (strcmp(name, "cloudevents_batch") == 0)
		return OE_FORMAT_CLOUDEVENTS_BATCH;
	elog(ERROR, "unknown format \"%s\" of an endpoint", name);
	return OE_FORMAT_WEBHOOK;	/* keep compiler quiet */
}

OeBody
oe_format_body(OeFormat format)
{
	switch (format)
	{
		case OE_FORMAT_WEBHOOK:
			return OE_BODY_WEBHOOK;
		case OE_FORMAT_CLOUDEVENTS:
		case OE_FORMAT_CLOUDEVENTS_BATCH:
			return OE_BODY_CLOUDEVENT;
		case OE_FORMAT_CLOUDEVENTS_BINARY:
			return OE_BODY_DATA;
	}
	pg_unreachable();
}

void
oe_envelope_time(TimestampTz time, char out[OE_ENVELOPE_TIME_SIZE])
{
	int			utc = 0;

	JsonEncodeDateTime(out, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
}

/* ---------- text ---------- */

static void
append_percent(StringInfo out, unsigned char byte)
{
	appendStringInfoChar(out, '%');
	appendStringInfoChar(out, hex_digits[byte >> 4]);
	appendStringInfoChar(out, hex_digits[byte & 15]);
}

/* Percent-encodes all but ASCII letters, digits and the characters in "keep". */
static char *
uri_escape(const char *text, const char *keep)
{
	StringInfoData out;

	initStringInfo(&out);
	for (const char *p = text; *p; p++)
	{
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			(*p >= '0' && *p <= '9') || strchr(keep, *p) != NULL)
			appendStringInfoChar(&out, *p);
		else
			append_percent(&out, (unsigned char) *p);
	}
	return out.data;
}

/* The attribute source.  The setting may change while the process runs. */
static const char *
event_source(void)
{
	if (oe_event_source[0] != '\0')
		return uri_escape(oe_event_source, "-._~:/?#[]@!$&'()*+,;=%");
	Assert(default_source != NULL);
	return default_source;
}

/* Nobody can rename the database that this process is connected to. */
static void
remember_default_source(void)
{
	char	   *name;

	if (default_source != NULL)
		return;
	name = get_database_name(MyDatabaseId);
	if (name == NULL)
		elog(ERROR, "database %u has no name", MyDatabaseId);
	default_source = MemoryContextStrdup(TopMemoryContext,
										 psprintf("/order_engine/%s", uri_escape(name, "-._~")));
}

/* May the character be in an attribute's value?  CloudEvents 1.0.2, type String */
static bool
character_allowed(pg_wchar c)
{
	return c >= 0x20 && !(c >= 0x7f && c <= 0x9f) &&
		!(c >= 0xfdd0 && c <= 0xfdef) && (c & 0xfffe) != 0xfffe;
}

/* A text in UTF-8 as an attribute's value; the same pointer when it can be one. */
static const char *
attribute_value(const char *utf8)
{
	const unsigned char *p = (const unsigned char *) utf8;
	StringInfoData out;
	int			len;

	while (*p && character_allowed(utf8_to_unicode(p)))
		p += pg_utf_mblen(p);
	if (*p == '\0')
		return utf8;

	initStringInfo(&out);
	for (p = (const unsigned char *) utf8; *p; p += len)
	{
		len = pg_utf_mblen(p);
		if (character_allowed(utf8_to_unicode(p)))
			appendBinaryStringInfo(&out, (const char *) p, len);
		else
		{
			for (int i = 0; i < len; i++)
				append_percent(&out, p[i]);
		}
	}
	return out.data;
}

/* The same for a text in the encoding of the database. */
static const char *
server_attribute_value(const char *text)
{
	const char *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);
	const char *value = attribute_value(utf8);

	return value == utf8 ? text : pg_any_to_server(value, strlen(value), PG_UTF8);
}

/* HTTP protocol binding 1.0.2, 3.1.3.2 */
static void
append_header_value(StringInfo out, const char *utf8)
{
	for (const unsigned char *p = (const unsigned char *) utf8; *p; p++)
	{
		if (*p <= ' ' || *p > '~' || *p == '"' || *p == '%')
			append_percent(out, *p);
		else
			appendStringInfoChar(out, (char) *p);
	}
}

/* ---------- CloudEvents ---------- */

/*
 * The attributes but for datacontenttype, which is a header of its own in
 * binary mode.  "sequence" must sort as a string does, hence the zeros; it has
 * no sequencetype, because that of integers ends at 32 bits.
 */
static int
cloudevent_attributes(const OeEnvelope *envelope, const char *time,
					  char sequence[SEQUENCE_SIZE], Attribute list[MAX_ATTRIBUTES])
{
	int			n = 0;

	list[n++] = (Attribute) {"specversion", "1.0"};
	list[n++] = (Attribute) {"id", envelope->event_id};
	list[n++] = (Attribute) {"source", event_source()};
	list[n++] = (Attribute) {"type", envelope->type};
	list[n++] = (Attribute) {"time", time};
	list[n++] = (Attribute) {"subject", psprintf("%s/%s", envelope->aggregatetype,
												 envelope->aggregateid)};
	list[n++] = (Attribute) {"aggregatetype", envelope->aggregatetype};
	list[n++] = (Attribute) {"aggregateid", envelope->aggregateid};
	list[n++] = (Attribute) {"partitionkey", envelope->aggregateid};
	if (envelope->aggregate_seq != 0)
	{
		snprintf(sequence, SEQUENCE_SIZE, "%019lld", (long long) envelope->aggregate_seq);
		list[n++] = (Attribute) {"sequence", sequence};
	}
	if (oe_traceparent_valid(envelope->traceparent))
	{
		list[n++] = (Attribute) {"traceparent", envelope->traceparent};
		if (oe_tracestate_valid(envelope->tracestate))
			list[n++] = (Attribute) {"tracestate", envelope->tracestate};
	}
	Assert(n <= MAX_ATTRIBUTES);
	return n;
}

static void
render_cloudevent(StringInfo out, const OeEnvelope *envelope)
{
	OeEnvelope	e = *envelope;
	Attribute	attributes[MAX_ATTRIBUTES];
	char		time[OE_ENVELOPE_TIME_SIZE];
	char		sequence[SEQUENCE_SIZE];
	int			n;

	e.aggregatetype = server_attribute_value(e.aggregatetype);
	e.aggregateid = server_attribute_value(e.aggregateid);
	oe_envelope_time(e.created_at, time);
	n = cloudevent_attributes(&e, time, sequence, attributes);
	appendStringInfoChar(out, '{');
	for (int i = 0; i < n; i++)
	{
		appendStringInfo(out, "\"%s\":", attributes[i].name);
		escape_json(out, attributes[i].value);
		appendStringInfoChar(out, ',');
	}
	appendStringInfoString(out, "\"datacontenttype\":\"application/json\",\"data\":");
	(void) JsonbToCString(out, &e.payload->root, VARSIZE(e.payload));
	appendStringInfoChar(out, '}');
}

/* ---------- Standard Webhooks ---------- */

static bool
has_member(Jsonb *object, const char *name)
{
	JsonbValue	key;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	return findJsonbValueFromContainer(&object->root, JB_FOBJECT, &key) != NULL;
}

/*
 * The payload; of an object it also tells the aggregate and the place in its
 * sequence, unless the payload has members of these names itself.
 */
static void
append_data(StringInfo out, const OeEnvelope *envelope)
{
	Jsonb	   *payload = envelope->payload;
	int			start = out->len;
	int			payload_at;
	char		separator = '{';

	if (JB_ROOT_IS_OBJECT(payload))
	{
		if (!has_member(payload, "aggregatetype"))
		{
			appendStringInfo(out, "%c\"aggregatetype\":", separator);
			escape_json(out, envelope->aggregatetype);
			separator = ',';
		}
		if (!has_member(payload, "aggregateid"))
		{
			appendStringInfo(out, "%c\"aggregateid\":", separator);
			escape_json(out, envelope->aggregateid);
			separator = ',';
		}
		if (envelope->aggregate_seq != 0 && !has_member(payload, "sequence"))
			appendStringInfo(out, "%c\"sequence\":" INT64_FORMAT, separator,
							 envelope->aggregate_seq);
		if (out->len > start && JB_ROOT_COUNT(payload) == 0)
		{
			appendStringInfoChar(out, '}');
			return;
		}
	}
	payload_at = out->len;
	(void) JsonbToCString(out, &payload->root, VARSIZE(payload));
	if (payload_at > start)
		out->data[payload_at] = ',';	/* in place of the brace: ours is before it */
}

static void
render_webhook(StringInfo out, const OeEnvelope *envelope)
{
	char		time[OE_ENVELOPE_TIME_SIZE];

	oe_envelope_time(envelope->created_at, time);
	appendStringInfoString(out, "{\"type\":");
	escape_json(out, envelope->type);
	appendStringInfo(out, ",\"timestamp\":\"%s\",\"data\":", time);
	append_data(out, envelope);
	appendStringInfoChar(out, '}');
}

/* ---------- requests ---------- */

void
oe_envelope_render(StringInfo out, OeBody kind, const OeEnvelope *envelope)
{
	remember_default_source();
	switch (kind)
	{
		case OE_BODY_WEBHOOK:
			render_webhook(out, envelope);
			return;
		case OE_BODY_CLOUDEVENT:
			render_cloudevent(out, envelope);
			return;
		case OE_BODY_DATA:
			(void) JsonbToCString(out, &envelope->payload->root, VARSIZE(envelope->payload));
			return;
		case OE_BODY_COUNT:
			break;
	}
	pg_unreachable();
}

void
oe_envelope_batch(StringInfo out, OeFormat format,
				  struct OeLogEvent *const *events, int nevents)
{
	OeBody		kind = oe_format_body(format);
	bool		webhook = (format == OE_FORMAT_WEBHOOK);
	const OeLogEvent *newest = events[0];

	Assert(webhook || format == OE_FORMAT_CLOUDEVENTS_BATCH);
	if (webhook)
	{
		for (int i = 1; i < nevents; i++)
		{
			if (events[i]->created_at > newest->created_at)
				newest = events[i];
		}
		appendStringInfo(out, "{\"type\":\"batch\",\"timestamp\":\"%s\",\"data\":", newest->time);
	}
	appendStringInfoChar(out, '[');
	for (int i = 0; i < nevents; i++)
	{
		const char *text = events[i]->bodies[kind];
		size_t		len = events[i]->bodylens[kind];

		if (i > 0)
			appendStringInfoChar(out, ',');
		if (webhook)
		{
			/* its first member, in place of the brace */
			appendStringInfo(out, "{\"id\":\"%s\",", events[i]->event_id);
			text++;
			len--;
		}
		appendBinaryStringInfo(out, text, len);
	}
	appendStringInfoChar(out, ']');
	if (webhook)
		appendStringInfoChar(out, '}');
}

static int
binary_headers(const OeLogEvent *event, const char **headers)
{
	OeEnvelope	e = {0};
	Attribute	attributes[MAX_ATTRIBUTES];
	char		sequence[SEQUENCE_SIZE];
	const char *aggregateid = strchr(event->utf8_aggregate, '\n') + 1;
	int			n;

	e.event_id = event->event_id;
	e.type = event->type;
	e.aggregatetype = attribute_value(pnstrdup(event->utf8_aggregate,
											   aggregateid - 1 - event->utf8_aggregate));
	e.aggregateid = attribute_value(aggregateid);
	e.aggregate_seq = event->aggregate_seq;
	e.traceparent = event->traceparent;
	e.tracestate = event->tracestate;
	n = cloudevent_attributes(&e, event->time, sequence, attributes);
	for (int i = 0; i < n; i++)
	{
		StringInfoData header;

		initStringInfo(&header);
		appendStringInfo(&header, "ce-%s: ", attributes[i].name);
		append_header_value(&header, attributes[i].value);
		headers[i] = header.data;
	}
	return n;
}

int
oe_envelope_headers(OeFormat format, bool batch, const struct OeLogEvent *event,
					const char **headers)
{
	int			n = 0;

	Assert(!batch || format == OE_FORMAT_WEBHOOK || format == OE_FORMAT_CLOUDEVENTS_BATCH);
	switch (format)
	{
		case OE_FORMAT_WEBHOOK:
			headers[n++] = "content-type: application/json";
			break;
		case OE_FORMAT_CLOUDEVENTS:
			headers[n++] = "content-type: application/cloudevents+json; charset=utf-8";
			break;
		case OE_FORMAT_CLOUDEVENTS_BATCH:
			headers[n++] = "content-type: application/cloudevents-batch+json";
			break;
		case OE_FORMAT_CLOUDEVENTS_BINARY:
			headers[n++] = "content-type: application/json";
			n += binary_headers(event, headers + n);
			break;
	}
	return n;
}

/*
 * Outside transactions there is no resource owner, and the server would crash
 * tying a hash context to none: it gets one of its own, for ever.
 */
static pg_cryptohash_ctx *
batch_hash(void)
{
	static pg_cryptohash_ctx *hash = NULL;
	static ResourceOwner owner = NULL;
	ResourceOwner old_owner = CurrentResourceOwner;

	if (hash != NULL)
		return hash;
	if (owner == NULL)
		owner = ResourceOwnerCreate(NULL, "order_engine batch id");
	CurrentResourceOwner = owner;
	hash = pg_cryptohash_create(PG_SHA256);
	CurrentResourceOwner = old_owner;
	if (hash == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	return hash;
}

void
oe_envelope_batch_id(struct OeLogEvent *const *events, int nevents,
					 char out[OE_BATCH_ID_SIZE])
{
	pg_cryptohash_ctx *hash = batch_hash();
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	bool		ok = pg_cryptohash_init(hash) >= 0;

	/* ids are all of one length, so they need nothing between them */
	for (int i = 0; ok && i < nevents; i++)
		ok = pg_cryptohash_update(hash, (const uint8 *) events[i]->event_id,
								  OE_EVENT_ID_SIZE - 1) >= 0;
	if (!ok || pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute the id of a batch: %s", pg_cryptohash_error(hash))));
	strcpy(out, "bat_");
	for (int i = 0; i < 16; i++)
		snprintf(out + 4 + 2 * i, 3, "%02x", digest[i]);
}
