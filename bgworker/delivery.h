/*
 * delivery.h
 *	  What is to be delivered to whom: the worker's state in memory.
 */
#ifndef OE_DELIVERY_H
#define OE_DELIVERY_H

#include "http.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "nodes/pg_list.h"
#include "reader.h"
#include "sign.h"

/*
 * Limits of an endpoint; when one is reached, nothing more is read for it:
 * events in the window, bytes of their bodies, events that failed, and those
 * together with what is parked behind them.
 */
#define OE_WINDOW			1024
#define OE_WINDOW_BYTES		(8 * 1024 * 1024)
#define OE_MAX_RETRIES		1000
#define OE_MAX_EXCEPTIONS	20000

#define OE_MAX_SECRETS		4

typedef enum OeDeliveryState
{
	OE_DELIVERY_WAITING,		/* behind another event of its aggregate */
	OE_DELIVERY_READY,			/* may be sent now */
	OE_DELIVERY_SLEEPING,		/* until next_attempt_at */
	OE_DELIVERY_IN_FLIGHT,
	OE_DELIVERY_DONE			/* delivered or given up */
} OeDeliveryState;

typedef struct OeEndpoint OeEndpoint;
typedef struct OeAggregate OeAggregate;

/* One event on its way to one endpoint. */
typedef struct OeDelivery
{
	OeEndpoint *endpoint;
	OeAggregate *aggregate;		/* NULL: no ordering, or done */
	OeLogEvent *event;			/* NULL: a sleeping exception; read again when due */
	OeDeliveryState state;
	bool		in_window;
	bool		retry;			/* failed before */
	bool		exception;		/* has, or is about to have, a row in delivery_retry */
	bool		held_back;		/* its predecessor in the aggregate was not read yet */
	bool		place_holder;	/* not for this endpoint; only keeps a place in the aggregate */

	/* where the event is in the log; the snapshots only while in the window */
	OePlace		place;
	uint64		after_txid;
	int64		aggregate_seq;

	int			attempts;
	TimestampTz first_attempt_at;	/* 0: none yet */
	TimestampTz next_attempt_at;	/* 0: at once */
	char	   *last_error;		/* NULL: none */

	dlist_node	all_node;
	dlist_node	window_node;
	dlist_node	aggregate_node;
	dlist_node	ready_node;
	pairingheap_node sleep_node;
} OeDelivery;

/* The events of one aggregate that are not done, in order; only the first is sent. */
struct OeAggregate
{
	dlist_head	deliveries;
	char		key[FLEXIBLE_ARRAY_MEMBER];
};

/* What is to be written for one delivery at the next flush. */
typedef enum OeNoteKind
{
	OE_NOTE_RETRY,				/* insert or update its row in delivery_retry */
	OE_NOTE_SETTLED,			/* delivered: delete that row */
	OE_NOTE_DEAD				/* given up: dead letter, delete that row */
} OeNoteKind;

typedef struct OeNote
{
	OeNoteKind	kind;
	uint64		txid;
	pg_uuid_t	id;
	int64		aggregate_seq;
	int			attempts;
	TimestampTz first_attempt_at;
	TimestampTz next_attempt_at;
	char	   *last_error;
} OeNote;

struct OeEndpoint
{
	int32		endpoint_id;
	bool		configured;		/* false: dropped; kept until nothing is in flight */
	bool		active;

	MemoryContext context;		/* everything of the endpoint but its events */

	/* configuration, in "config_context" */
	MemoryContext config_context;
	char	   *name;
	char	   *url;
	int			nglobs;
	char	  **globs;
	int			nheaders;
	char	  **headers;		/* "name: value" */
	bool		ordered;
	int			max_in_flight;
	long		connect_timeout_ms;
	long		timeout_ms;
	int			nsteps;
	int64	   *schedule;
	int64		max_age;
	int			nsecrets;
	oe_secret	secrets[OE_MAX_SECRETS];
	TimestampTz secret_expires[OE_MAX_SECRETS]; /* 0: never */

	/* where it is in the log */
	OePlace		cursor;			/* read so far */
	OePlace		base;			/* done so far, without a gap */
	dlist_head	window;			/* read and not yet passed by base, in the order of the log */
	int			window_size;
	int			window_done;
	size_t		body_bytes;		/* of the events that are in memory for it */
	int			exceptions;
	int			retries;		/* those of them that were attempted */
	dlist_head	all;			/* every delivery that is not done or still in the window */
	struct known_hash *known;	/* events beyond base that need no reading again; NULL: none */

	/* what can be sent */
	struct aggregate_hash *aggregates;
	int			held_back;
	dlist_head	ready;
	pairingheap *sleeping;
	int			in_flight;

	/* for the next flush */
	bool		moved;			/* base or what is done beyond it changed */
	bool		read_on;		/* only the cursor moved */
	List	   *notes;			/* in oe_notes_context */

	dlist_node	node;
};

/* All endpoints, in the order of their ids. */
extern dlist_head oe_endpoints;

/* Results and notes since the last flush. */
extern int	oe_unflushed;

/* Notes of all endpoints; reset when they were written. */
extern MemoryContext oe_notes_context;

extern void oe_delivery_init(void);
extern OeEndpoint *oe_endpoint_find(int32 endpoint_id);
extern OeEndpoint *oe_endpoint_new(int32 endpoint_id);
extern void oe_endpoint_free(OeEndpoint *endpoint);

/* May more be read for it? */
extern bool oe_endpoint_has_room(const OeEndpoint *endpoint);

/* Puts a retry that was stored back in its place. */
extern void oe_delivery_restore(OeEndpoint *endpoint, const char *aggregate,
								const OeNote *stored, uint64 after_txid);

/* An id beyond base that was done before the restart. */
extern void oe_delivery_known(OeEndpoint *endpoint, const pg_uuid_t *id);

/*
 * Hands to an endpoint what one read brought that led from "before" to "after".
 */
extern void oe_delivery_route(OeEndpoint *endpoint, OeLogEvent **events, int nevents,
							  const OePlace *before, const OePlace *after);

/* Wakes deliveries that are due; returns when the next one is, 0: none. */
extern TimestampTz oe_delivery_wake(TimestampTz now);

/* The ready deliveries that lack their event, at most max of them. */
extern int	oe_delivery_without_event(OeDelivery **deliveries, int max);

/* The event of such a one was read again; NULL: it is not in the log any more. */
extern void oe_delivery_set_event(OeDelivery *delivery, OeLogEvent *event);

/*
 * What became of an attempt.  "retry_after" as in OeHttpResult; "error" is for
 * people.
 */
extern void oe_delivery_finished(OeDelivery *delivery, oe_outcome outcome,
								 int64 retry_after, const char *error, TimestampTz now);

/* Moves base over what is done, and makes exceptions of what stands in the way. */
extern void oe_delivery_advance(OeEndpoint *endpoint);

/* Ids that are done beyond base; an array in the current context. */
extern pg_uuid_t *oe_delivery_done_beyond(OeEndpoint *endpoint, int *n);

#endif							/* OE_DELIVERY_H */
