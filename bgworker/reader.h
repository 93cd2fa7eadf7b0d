/*
 * reader.h
 *	  Read the outbox: which events became visible between two snapshots.
 */
#ifndef OE_READER_H
#define OE_READER_H

#include "datatype/timestamp.h"
#include "envelope.h"
#include "lib/ilist.h"
#include "utils/uuid.h"
#include "uuid7.h"

/* A snapshot, shared by counting references: two are the same when their pointers are. */
typedef struct OeSnapshot
{
	int			refcount;
	uint64		xmin;
	uint64		xmax;
	int			nxip;
	uint64	   *xip;			/* in progress, ascending */
	char	   *text;			/* as pg_snapshot_out has it */
	dlist_node	node;
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

/*
 * One event as it was read; shared by counting references.  Of the bodies only
 * those are there that were asked for when it was read.
 */
typedef struct OeLogEvent
{
	int			refcount;
	uint64		txid;
	uint64		after_txid;		/* 0: none */
	pg_uuid_t	id;
	char		event_id[OE_EVENT_ID_SIZE];
	int64		aggregate_seq;	/* 0: none */
	TimestampTz created_at;
	int			shard;
	bool		operational;	/* about an endpoint, see OE_AGGREGATE_ENDPOINT */
	const char *aggregate;		/* aggregatetype, a line feed, aggregateid */
	const char *utf8_aggregate; /* the same in UTF-8 */
	const char *type;
	const char *time;			/* created_at as RFC 3339 has it, in UTC */
	const char *traceparent;	/* NULL: none */
	const char *tracestate;		/* NULL: none */
	const char *bodies[OE_BODY_COUNT];	/* UTF-8; NULL: not rendered */
	size_t		bodylens[OE_BODY_COUNT];
	size_t		size;			/* that it takes in memory */
} OeLogEvent;

/* Which bodies the endpoints need, one bit each (1 << OE_BODY_...). */
extern uint32 oe_bodies_wanted;

/* The same of an event of this type for those on whose behalf a read is done. */
typedef uint32 (*OeBodiesFor) (const void *arg, const char *type);

/* Memory of all events that are held. */
extern size_t oe_event_bytes;

/*
 * A set of events to be sent once more: a list of ids, or a range of them.  The
 * arrays are the caller's.
 */
typedef struct OeReplaySet
{
	int32		endpoint_id;
	int			nids;
	pg_uuid_t  *ids;			/* ascending; NULL: a range */
	pg_uuid_t	first_id;
	pg_uuid_t	last_id;
	OeSnapshot *visible;		/* NULL: no matter */
	OeSnapshot *unseen;			/* NULL: no matter */
} OeReplaySet;

/* The snapshot of a text: the same object as long as one with this text is in use. */
extern OeSnapshot *oe_snapshot_parse(const char *text);
extern OeSnapshot *oe_snapshot_ref(OeSnapshot *snapshot);
extern void oe_snapshot_unref(OeSnapshot *snapshot);
extern bool oe_snapshot_sees(const OeSnapshot *snapshot, uint64 txid);

/* Does it see all that the other one sees? */
extern bool oe_snapshot_covers(const OeSnapshot *snapshot, const OeSnapshot *other);

/* The active snapshot of this transaction. */
extern OeSnapshot *oe_snapshot_current(void);

extern void oe_place_copy(OePlace *to, const OePlace *from);
extern bool oe_place_equal(const OePlace *a, const OePlace *b);
extern int	oe_place_compare_row(const OePlace *place, uint64 txid, const pg_uuid_t *id);

extern OeLogEvent *oe_event_ref(OeLogEvent *event);
extern void oe_event_unref(OeLogEvent *event);

/*
 * Reads on from "place", which has upto set, and moves it: the events of the
 * shards.  At most max_rows rows and, but for one row, max_bytes bytes; "events" must have room for
 * max_rows.  When all that upto sees has been read, the place is between two
 * reads afterwards.  Every event that is returned is durable.  Inside a
 * transaction of oe_worker_begin.  With "bodies_for" NULL nothing is rendered.
 */
extern int	oe_reader_read(OePlace *place, uint32 shards, int max_rows, size_t max_bytes,
						   OeBodiesFor bodies_for, const void *arg, OeLogEvent **events);

/*
 * The same for a replay, in the order of ids: behind place->id, which moves.
 * *at_end tells that there are no more.
 */
extern int	oe_reader_read_replay(const OeReplaySet *set, OePlace *place, uint32 shards,
								  int max_rows, size_t max_bytes, OeLogEvent **events,
								  bool *at_end);

/*
 * One event by its key, from the endpoint's dead letters when the outbox does
 * not have it any more; NULL when it is not there either.
 */
extern OeLogEvent *oe_reader_fetch(int32 endpoint_id, uint64 txid, const pg_uuid_t *id);

/*
 * Flushes WAL so far: whatever this transaction's snapshot sees is durable.
 * Called when the worker starts and from time to time.
 */
extern void oe_reader_sync(void);

/* Where events and snapshots live; once, before anything else here. */
extern void oe_reader_init(void);

#endif							/* OE_READER_H */
