/*
 * reader.h
 *	  Read the outbox: which events became visible between two snapshots.
 */
#ifndef OE_READER_H
#define OE_READER_H

#include "datatype/timestamp.h"
#include "envelope.h"
#include "utils/uuid.h"
#include "uuid7.h"

/* A snapshot, shared by counting references. */
typedef struct OeSnapshot
{
	int			refcount;
	uint64		xmin;
	uint64		xmax;
	int			nxip;
	uint64	   *xip;			/* in progress, ascending */
	char	   *text;			/* as pg_snapshot_out has it */
} OeSnapshot;

/*
 * A place in the outbox.  Everything that "seen" sees has been read; with
 * "upto", so has everything that "upto" sees at or before (txid, id).
 */
typedef struct OePlace
{
	OeSnapshot *seen;
	OeSnapshot *upto;			/* NULL: between two reads */
	uint64		txid;
	pg_uuid_t	id;
} OePlace;

/* One event as it was read; shared by counting references. */
typedef struct OeLogEvent
{
	int			refcount;
	uint64		txid;
	uint64		after_txid;		/* 0: none */
	pg_uuid_t	id;
	char		event_id[OE_EVENT_ID_SIZE];
	int64		aggregate_seq;	/* 0: none */
	TimestampTz created_at;
	uint32		aggregate_hash;
	const char *aggregate;		/* aggregatetype, a line feed, aggregateid */
	const char *type;
	const char *traceparent;	/* NULL: none */
	const char *tracestate;		/* NULL: none */
	const char *utf8_aggregate; /* the same as aggregate, in UTF-8 */
	const char *time;			/* created_at in RFC 3339, UTC */
	const char *bodies[OE_BODY_COUNT];	/* in UTF-8; NULL where it was not rendered */
	size_t		bodylens[OE_BODY_COUNT];
} OeLogEvent;

extern OeSnapshot *oe_snapshot_parse(const char *text);
extern OeSnapshot *oe_snapshot_ref(OeSnapshot *snapshot);
extern void oe_snapshot_unref(OeSnapshot *snapshot);
extern bool oe_snapshot_sees(const OeSnapshot *snapshot, uint64 txid);

/* The active snapshot of this transaction. */
extern OeSnapshot *oe_snapshot_current(void);

extern void oe_place_copy(OePlace *to, const OePlace *from);
extern bool oe_place_equal(const OePlace *a, const OePlace *b);
extern int	oe_place_compare_row(const OePlace *place, uint64 txid, const pg_uuid_t *id);

extern OeLogEvent *oe_event_ref(OeLogEvent *event);
extern void oe_event_unref(OeLogEvent *event);

/*
 * Reads on from "place", which has upto set, and moves it.  At most max_rows
 * rows and, but for one row, max_bytes bytes; "events" must have room for
 * max_rows.  When all that upto sees has been read, the place is between two
 * reads afterwards.  Every event that is returned is durable.  Inside a
 * transaction of oe_worker_begin.
 */
extern int	oe_reader_read(OePlace *place, int max_rows, size_t max_bytes, OeLogEvent **events);

/* One event by its key, NULL when it is not there. */
extern OeLogEvent *oe_reader_fetch(uint64 txid, const pg_uuid_t *id);

/*
 * Flushes WAL so far: whatever this transaction's snapshot sees is durable.
 * Called when the worker starts and from time to time.
 */
extern void oe_reader_sync(void);

/* Where events and snapshots live; once, before anything else here. */
extern void oe_reader_init(void);

#endif							/* OE_READER_H */
