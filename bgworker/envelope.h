/*
 * envelope.h
 *	  What goes over the wire for an event, in each format.
 */
#ifndef OE_ENVELOPE_H
#define OE_ENVELOPE_H

#include "lib/stringinfo.h"
#include "datatype/timestamp.h"
#include "policy_trace.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"

typedef enum OeFormat
{
	OE_FORMAT_WEBHOOK,
	OE_FORMAT_CLOUDEVENTS,		/* structured */
	OE_FORMAT_CLOUDEVENTS_BINARY,
	OE_FORMAT_CLOUDEVENTS_BATCH
} OeFormat;

/* An event is rendered once for all endpoints whose format needs the same text. */
typedef enum OeBody
{
	OE_BODY_WEBHOOK,			/* {"type":...,"timestamp":...,"data":...} */
	OE_BODY_CLOUDEVENT,			/* one structured CloudEvent */
	OE_BODY_DATA,				/* the data alone */
	OE_BODY_COUNT
} OeBody;

typedef struct OeEnvelope
{
	const char *event_id;		/* evt_... */
	const char *type;
	const char *aggregatetype;
	const char *aggregateid;
	int64		aggregate_seq;	/* 0: none */
	TimestampTz created_at;
	const char *traceparent;	/* NULL: none; these two are not checked */
	const char *tracestate;
	Jsonb	   *payload;
} OeEnvelope;

struct OeLogEvent;

/* 'webhook' and so on, as endpoint.format has it. */
extern OeFormat oe_format_parse(const char *name);

/* Which text a format sends. */
extern OeBody oe_format_body(OeFormat format);

/* RFC 3339, UTC: what the texts say, and "time" of an event as it was read. */
#define OE_ENVELOPE_TIME_SIZE	(MAXDATELEN + 1)
extern void oe_envelope_time(TimestampTz time, char out[OE_ENVELOPE_TIME_SIZE]);

/*
 * Appends the text, in the encoding of the database.  Inside a transaction.
 * Garbage goes to the current context.
 */
extern void oe_envelope_render(StringInfo out, OeBody kind, const OeEnvelope *envelope);

/*
 * Appends the body of one request with several events, whose texts of the
 * format's kind are there, in UTF-8.
 */
extern void oe_envelope_batch(StringInfo out, OeFormat format,
							  struct OeLogEvent *const *events, int nevents);

/*
 * "name: value" of the headers that the format asks for: content-type, and ce-*
 * in binary.  At most OE_ENVELOPE_HEADERS of them, in the current context;
 * something was rendered in this process before.  Returns how many.  "batch": the body is that of oe_envelope_batch.
 */
#define OE_ENVELOPE_HEADERS		16
extern int	oe_envelope_headers(OeFormat format, bool batch, const struct OeLogEvent *event,
								const char **headers);

/*
 * The webhook-id of a request with several events: the same for the same
 * events, another for others.
 */
#define OE_BATCH_ID_SIZE	(4 + 32 + 1)	/* "bat_", hex digits, NUL */
extern void oe_envelope_batch_id(struct OeLogEvent *const *events, int nevents,
								 char out[OE_BATCH_ID_SIZE]);

#endif							/* OE_ENVELOPE_H */
