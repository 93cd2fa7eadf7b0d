/*
 * outbox.h
 *	  Append events to the outbox.
 */
#ifndef OE_OUTBOX_H
#define OE_OUTBOX_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/*
 * The aggregate type of operational events (endpoint.disabled and so on), whose
 * aggregate id is the endpoint's name.  They never go to that endpoint, but for
 * the test event, which goes to no other.
 */
#define OE_AGGREGATE_ENDPOINT	"endpoint"
#define OE_TYPE_ENDPOINT_TEST	"endpoint.test"

/* Leaves of the ring: outbox_0 and so on. */
#define OE_OUTBOX_LEAVES	8

/* Columns of the outbox, counted from 0. */
enum
{
	OE_OUTBOX_TXID, OE_OUTBOX_AFTER_TXID, OE_OUTBOX_CREATED_AT, OE_OUTBOX_AGGREGATE_SEQ, OE_OUTBOX_LEAF,
	OE_OUTBOX_SHARD, OE_OUTBOX_ID, OE_OUTBOX_AGGREGATETYPE, OE_OUTBOX_AGGREGATEID, OE_OUTBOX_TYPE,
	OE_OUTBOX_PAYLOAD, OE_OUTBOX_HEADERS, OE_OUTBOX_COLUMNS
};

typedef struct OeEvent
{
	const char *aggregatetype;
	const char *aggregateid;
	int64		aggregate_seq;	/* 0: none */
	FullTransactionId last_txid;	/* of the aggregate's previous event, or invalid */
	const char *type;
	Jsonb	   *payload;
	Jsonb	   *headers;		/* members beside those of the context; may be NULL */
	TimestampTz created_at;
	const pg_uuid_t *id;		/* of oe_outbox_new_id(); NULL: append makes one */
} OeEvent;

/* An id for an event of that time, for a caller that must know it beforehand. */
extern void oe_outbox_new_id(TimestampTz created_at, pg_uuid_t *id);

/*
 * Appends one event in the current transaction and has the worker woken at
 * commit.  Allocates in the current memory context, little, and frees most of it.
 */
extern void oe_outbox_append(const OeEvent *event);

#endif							/* OE_OUTBOX_H */
