/*
 * record.h
 *	  The two rows that every event leaves: history and outbox.
 */
#ifndef OE_RECORD_H
#define OE_RECORD_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "order_row.h"
#include "utils/jsonb.h"

typedef struct OeRecord
{
	int64		order_id;		/* 0: does not belong to an order */
	const char *entity;			/* what changed */
	const char *entity_id;
	const char *aggregatetype;	/* in whose sequence the event is */
	const char *aggregateid;
	int64		seq;			/* place in that sequence, 0: none */
	FullTransactionId last_txid;	/* of the aggregate's previous event, or invalid */
	int32		machine_id;
	const char *event;
	const char *from;
	const char *to;
	const char *type;			/* of the event in the outbox */
	const char *reason;			/* may be NULL */
	bool		forced;
	Jsonb	   *metadata;		/* may be NULL */
	Jsonb	   *details;		/* object: more members of the payload, or such as replace others; may be
								 * NULL */
	Jsonb	   *payload;
	TimestampTz at;
} OeRecord;

/* Writes both rows, in the current transaction.  Runs no query. */
extern void oe_record_event(const OeRecord *record);

/*
 * The same for an event of an order: fills in entity, aggregate and payload
 * from "order", the row as it is after the event, and last_txid from the caller.
 * Of "record" the caller sets last_txid, machine_id, event, from, to, type,
 * reason, forced, metadata and at.  "lines" is a jsonb array that becomes the
 * member "lines" of the payload, or NULL.
 */
extern void oe_record_order_event(const OeOrder *order, OeRecord *record, Jsonb *lines);

/*
 * The same for an event of a part of the order: "order" is as it is after the
 * event, and of "record" the caller sets what he sets there.
 */
struct OePart;
extern void oe_record_part_event(const OeOrder *order, const struct OePart *part, OeRecord *record);

/*
 * Adds a member to an object that is being pushed; a NULL string or jsonb adds nothing.
 * What is given is not copied: it has to last until JsonbValueToJsonb().
 */
extern void oe_jsonb_push_text(JsonbParseState **state, const char *key, const char *value);
extern void oe_jsonb_push_int64(JsonbParseState **state, const char *key, int64 value);
extern void oe_jsonb_push_numeric(JsonbParseState **state, const char *key, Numeric value);
extern void oe_jsonb_push_jsonb(JsonbParseState **state, const char *key, Jsonb *value);

#endif							/* OE_RECORD_H */
