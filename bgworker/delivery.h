/*
 * delivery.h
 *	  What is to be delivered to whom: the worker's state in memory.
 *
 * An endpoint has lanes, each for some shards of the outbox: its ordinary
 * course, while a backlog is worked off an express lane beside it, and one for
 * each replay.  A lane reads with a cursor, which it shares with all lanes that
 * are at the same place.  The files:
 *
 *	delivery.c	one delivery: ready, in flight, failed, done
 *	lane.c		endpoints, lanes, cursors; how far a lane is
 *	route.c		from a read to the lanes: subscriptions and order
 *	express.c	new aggregates overtake a backlog
 *	replay.c	events that are sent once more
 */
#ifndef OE_DELIVERY_H
#define OE_DELIVERY_H

#include "envelope.h"
#include "health.h"
#include "http.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "nodes/pg_list.h"
#include "reader.h"
#include "sign.h"

/*
 * Limits; when one is reached, nothing more is read.  Of a lane: events in the
 * window, bytes of their bodies.  Of an endpoint: events that failed, and those
 * together with what is parked behind them.  Of the worker: memory of all
 * events, beyond which a lane may hold but little.
 */
#define OE_WINDOW			1024
#define OE_WINDOW_BYTES		(8 * 1024 * 1024)
#define OE_MAX_RETRIES		1000
#define OE_MAX_EXCEPTIONS	20000
#define OE_ALL_BYTES		(64 * 1024 * 1024)
#define OE_FAIR_BYTES		(64 * 1024)

#define OE_MAX_SECRETS		4

typedef enum OeDeliveryState
{
	OE_DELIVERY_WAITING,		/* behind another event of its aggregate */
	OE_DELIVERY_READY,			/* may be sent now */
	OE_DELIVERY_SLEEPING,		/* until next_attempt_at */
	OE_DELIVERY_IN_FLIGHT,
	OE_DELIVERY_BLOCKED,		/* a dead letter that its aggregate waits for */
	OE_DELIVERY_DONE			/* delivered or given up */
} OeDeliveryState;

typedef struct OeEndpoint OeEndpoint;
typedef struct OeAggregate OeAggregate;
typedef struct OeLane OeLane;
typedef struct OeCursor OeCursor;
typedef struct OeSplit OeSplit;
typedef struct OeReplay OeReplay;

/* One event on its way to one endpoint. */
typedef struct OeDelivery
{
	OeLane	   *lane;
	OeAggregate *aggregate;		/* NULL: no ordering, or done */
	OeLogEvent *event;			/* NULL: read again when it is due */
	OeDeliveryState state;
	bool		in_window;
	bool		exception;		/* has, or is about to have, a row of its own */
	bool		retry;			/* failed before, for its own sake */
	bool		failed;			/* mark is set */
	bool		suspect;		/* failed, and it is open whose fault that is */
	bool		held_back;		/* its predecessor in the aggregate was not read yet */
	bool		place_holder;	/* not for this endpoint; only keeps a place in the aggregate */
	bool		alone;			/* not in a request with others */

	/* where the event is in the log; the snapshots only while in the window */
	OePlace		place;
	uint64		after_txid;
	int64		aggregate_seq;

	int			attempts;		/* that count */
	int			pauses;			/* times that the endpoint asked to wait instead */
	uint64		mark;			/* successes of the endpoint at its last failure */
	TimestampTz first_attempt_at;	/* 0: none yet */
	TimestampTz next_attempt_at;	/* 0: at once */
	TimestampTz ready_at;
	TimestampTz taken_at;		/* of the attempt that is under way */
	char	   *last_error;		/* NULL: none */

	dlist_node	all_node;
	dlist_node	window_node;
	dlist_node	aggregate_node;
	dlist_node	ready_node;
	dlist_node	suspect_node;
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
	OE_NOTE_SETTLED,			/* delivered: delete that row, and a dead letter of it */
	OE_NOTE_DEAD,				/* given up: dead letter, delete that row */
	OE_NOTE_BURIED				/* the dead letter is written, but that row was locked */
} OeNoteKind;

typedef struct OeNote
{
	OeNoteKind	kind;
	int32		endpoint_id;
	char	   *endpoint_name;
	uint64		txid;
	pg_uuid_t	id;
	int64		aggregate_seq;
	int			attempts;
	TimestampTz first_attempt_at;
	TimestampTz next_attempt_at;
	char	   *last_error;
	bool		operational;	/* of a dead letter: nothing is said about that in turn */
} OeNote;

/*
 * A place in the log and the lanes that are there.  With several, all have
 * room; one that has none gets a cursor of its own.
 */
struct OeCursor
{
	OePlace		place;
	uint32		shards;
	OeSplit    *split;			/* that it reads behind, or catches up with; NULL: neither */
	OeReplay   *replay;			/* NULL: the ordinary course */
	bool		at_end;			/* of the replay */
	dlist_head	lanes;
	int			nlanes;
	int			reads_in_pair;	/* since "upto" was set */
	dlist_node	node;
};

typedef enum OeLaneKind
{
	OE_LANE_MAIN,
	OE_LANE_EXPRESS,			/* new aggregates behind a split */
	OE_LANE_REPLAY
} OeLaneKind;

struct OeLane
{
	OeLaneKind	kind;
	OeEndpoint *endpoint;
	uint32		shards;
	OeReplay   *replay;			/* of a replay */
	OeSplit    *split;			/* main: what the express lane beside it took over; express: its own */
	OeLane	   *partner;		/* main and express of each other; NULL: none */
	bool		by_birth;		/* with a split: express takes what begins behind it, else all behind it */
	bool		closing;		/* express: the main lane comes, stop at the next rest */
	OeCursor   *cursor;

	/* done so far, without a gap; only while the window is not empty, else it is the cursor's place */
	OePlace		base;
	dlist_head	window;			/* read and not yet passed by base, in the order of the log */
	int			window_size;
	int			window_done;
	size_t		bytes;			/* of the events that are in memory for it */
	int			held_back;
	TimestampTz hangs_at;		/* an attempt that base waits for hangs from then on; 0: none */
	struct known_hash *known;	/* events beyond base that need no reading again; NULL: none */
	OeSnapshot *known_until;	/* where this is seen nothing is known any more */
	dlist_head	ready;

	bool		dirty;			/* to be recorded with the next flush */
	bool		touched;		/* by the read that is being routed */
	OeSnapshot *recorded_seen;	/* of the last record; only to compare */
	OeSnapshot *recorded_upto;

	dlist_node	node;			/* of the endpoint */
	dlist_node	cursor_node;
	dlist_node	dirty_node;
	dlist_node	touched_node;
	dlist_node	ready_node;		/* of the endpoint's lanes with something ready */
	bool		in_ready;
};

struct OeEndpoint
{
	int32		endpoint_id;
	bool		configured;		/* false: dropped; kept until nothing is in flight */
	bool		active;
	char		disable[128];	/* why it is to be disabled with the next flush; empty: it is not */
	TimestampTz recovered_since;	/* outage to be told of with the next flush; 0: none */

	MemoryContext context;		/* everything of the endpoint but its events */

	/* configuration, in "config_context" */
	MemoryContext config_context;
	char	   *name;
	char	   *url;
	int			nglobs;
	char	  **globs;
	int			nheaders;
	char	  **headers;		/* "name: value" */
	char	   *bad_header;		/* what is wrong with them; NULL: nothing */
	OeFormat	format;
	OeBody		body;
	bool		ordered;
	bool		best_effort;
	bool		block_dead;
	int			max_batch;
	int64		max_batch_delay;
	long		connect_timeout_ms;
	long		timeout_ms;
	int			nsteps;
	int64	   *schedule;
	int64		max_age;
	int64		pause;			/* after a 429 that does not say how long */
	OeHealthPolicy policy;
	int			nsecrets;
	oe_secret	secrets[OE_MAX_SECRETS];
	TimestampTz secret_expires[OE_MAX_SECRETS]; /* 0: never */
	char	   *client_cert;	/* PEM; NULL: none */
	char	   *client_key;

	dlist_head	lanes;
	dlist_head	all;			/* every delivery that is not done or still in a window */
	struct aggregate_hash *aggregates;
	int			exceptions;
	int			retries;		/* those of them that were attempted */
	int			blocked;		/* and those that are dead letters */

	OeHealth   *health;
	uint32		epoch;			/* of the circuit breaker, as far as we know */
	uint64		successes;		/* of this worker */
	dlist_head	suspects;

	/* sending */
	dlist_head	ready_lanes;
	int			nready;
	bool		incomplete;		/* something ready may lack its event, or the body of that */
	int			in_flight;
	bool		sendable;		/* in oe_sendable */
	TimestampTz wait_until;		/* nothing can be sent before; 0: no matter */

	dlist_node	node;
	dlist_node	sendable_node;
};

/* All endpoints, in the order of their ids; those with something ready; all cursors. */
extern dlist_head oe_endpoints;
extern dlist_head oe_sendable;
extern dlist_head oe_cursors;
extern dlist_head oe_dirty_lanes;

/* Results since the last flush, and what is to be written about them. */
extern int	oe_unflushed;
extern List *oe_notes;			/* of OeNote, in oe_notes_context */
extern MemoryContext oe_notes_context;

/* Lanes for which every event that is read matters: something is known or held back. */
extern int	oe_attentive_lanes;

/* ---------- lane.c ---------- */

extern void oe_delivery_init(void);
extern OeEndpoint *oe_endpoint_find(int32 endpoint_id);
extern OeEndpoint *oe_endpoint_new(int32 endpoint_id);
extern void oe_endpoint_free(OeEndpoint *endpoint);

/* A lane at a place (copied), with a cursor of its own. */
extern OeLane *oe_lane_new(OeEndpoint *endpoint, OeLaneKind kind, uint32 shards,
						   const OePlace *place, OeReplay *replay);

/* Ends a lane whose window is empty; what it still has goes on in "heir". */
extern void oe_lane_end(OeLane *lane, OeLane *heir);

/* Its record is void from the next flush on; the lane is not needed for that. */
extern void oe_lane_gone(const OeLane *lane);

/* The main lane of a shard. */
extern OeLane *oe_lane_of(OeEndpoint *endpoint, int shard);

/* May more be read for it? */
extern bool oe_lane_has_room(const OeLane *lane);

/* Gives the lane a cursor of its own, if it shares one. */
extern void oe_lane_detach(OeLane *lane);

/* Puts cursors that are at the same place together. */
extern void oe_cursors_merge(void);

/* Where it is: base, or the cursor's place. */
extern const OePlace *oe_lane_place(const OeLane *lane);

/* Has the lane passed this event, so that nothing of its ordinary course is to come? */
extern bool oe_lane_has_passed(const OeLane *lane, uint64 txid, const pg_uuid_t *id);

/* The event's delivery enters the window, at the place of this read. */
extern void oe_lane_enter(OeDelivery *d, const OePlace *pair, const OeLogEvent *event);

/* To be recorded with the next flush. */
extern void oe_lane_dirty(OeLane *lane);

/* Moves base over what is done, and makes exceptions of what stands in the way. */
extern void oe_lane_advance(OeLane *lane, TimestampTz now);

/* Marks lanes as dirty whose base waits for an attempt that hangs by now; is there one? */
extern bool oe_lanes_hang(TimestampTz now);

/* When is that to be asked?  0: not until a flush has advanced lanes. */
extern TimestampTz oe_lanes_hang_at(void);

/* Ids that are done beyond base; an array in the current context. */
extern pg_uuid_t *oe_lane_done_beyond(OeLane *lane, int *n);

/* An id beyond base that was done before the restart; and whether one is. */
extern void oe_lane_known(OeLane *lane, const pg_uuid_t *id);
extern bool oe_lane_take_known(OeLane *lane, const pg_uuid_t *id);
extern bool oe_lane_knows(const OeLane *lane);

/* Forgets them all when it has passed every one. */
extern void oe_lane_forget_known(OeLane *lane);

/* ---------- delivery.c ---------- */

extern OeDelivery *oe_delivery_new(OeLane *lane);
extern void oe_delivery_free(OeDelivery *d);
extern void oe_delivery_hold(OeDelivery *d, OeLogEvent *event);
extern void oe_delivery_drop(OeDelivery *d);

/* Puts it into the queue of its aggregate. */
extern OeAggregate *oe_aggregate_join(OeDelivery *d, const char *key);

/* The deliveries of an aggregate; NULL: none. */
extern OeAggregate *oe_aggregate_find(OeEndpoint *endpoint, const char *key);

/* Lets the first of an aggregate go if nothing holds it back. */
extern void oe_aggregate_settle(OeEndpoint *endpoint, OeAggregate *aggregate, TimestampTz now);

/* It may be sent, now or when it is due. */
extern void oe_delivery_ready(OeDelivery *d, TimestampTz now);

/* It is in no queue any more: delivered, given up, or not to be sent. */
extern void oe_delivery_finish(OeDelivery *d, TimestampTz now);

/* It gets a row of its own, so that base need not wait for it. */
extern void oe_delivery_except(OeDelivery *d);

/* Puts a retry, or a dead letter that blocks its aggregate, back in its place. */
extern void oe_delivery_restore(OeEndpoint *endpoint, int shard, const char *aggregate,
								const OeNote *stored, uint64 after_txid, bool blocked);

/* Wakes deliveries that are due; returns when the next one is, 0: none. */
extern TimestampTz oe_delivery_wake(TimestampTz now);

/* The next that can be sent, event and all; NULL: none. */
extern OeDelivery *oe_delivery_next(OeEndpoint *endpoint);

/* The one behind it in its aggregate, if it could go in the same request; else NULL. */
extern OeDelivery *oe_delivery_follower(OeDelivery *d);

/* It is under way. */
extern void oe_delivery_taken(OeDelivery *d, TimestampTz now);

/* The ready deliveries that lack their event, at most max of them. */
extern int	oe_delivery_without_event(OeDelivery **deliveries, int max, TimestampTz now);

/* The event of such a one was read again; NULL: it is not in the log any more. */
extern void oe_delivery_set_event(OeDelivery *d, OeLogEvent *event);

/* Has it a note that was not written yet? */
extern bool oe_delivery_is_noted(const OeDelivery *d);

/* It failed before, and the endpoint took others since. */
extern bool oe_delivery_to_blame(const OeDelivery *d);

/* It waits until its predecessor was read, or need not any more. */
extern void oe_delivery_hold_back(OeDelivery *d);
extern void oe_delivery_let_go(OeDelivery *d);

/*
 * What became of an attempt; "error" is for people.  After a failure the next
 * attempt is not before that time; returns whether it was given up.
 */
extern void oe_delivery_succeeded(OeDelivery *d, TimestampTz now);
extern bool oe_delivery_failed(OeDelivery *d, bool permanent, int64 not_before, const char *error,
							   TimestampTz now);

/* The attempt does not count: it is ready again at once. */
extern void oe_delivery_again(OeDelivery *d, TimestampTz now);

/* The circuit breaker opened: what failed because of the endpoint is forgiven. */
extern void oe_endpoint_forgive(OeEndpoint *endpoint, TimestampTz now);

/* ---------- route.c ---------- */

/* Is the event for the endpoint? */
extern bool oe_wants(const OeEndpoint *endpoint, const OeLogEvent *event);

/* Which bodies the lanes of a cursor need of events of a type; an OeBodiesFor. */
extern uint32 oe_route_bodies(const void *cursor, const char *type);

/* Hands to the lanes of a cursor what one read brought that led from "before" to "after". */
extern void oe_route(OeCursor *cursor, OeLogEvent **events, int nevents,
					 const OePlace *before, const OePlace *after);

/* Endpoints or what they want have changed. */
extern void oe_route_reset(void);

/* ---------- express.c ---------- */

/* A read came not to the end: may new aggregates overtake? */
extern void oe_express_consider(OeCursor *cursor, OeSnapshot *newest);

/* Is there something to read for the cursor, and may it? */
extern bool oe_express_may_read(OeCursor *cursor, OeSnapshot *newest);

/* Before a read: sets how far the cursor may read; false: not now. */
extern bool oe_express_prepare(OeCursor *cursor, OeSnapshot *newest);

/* Which of its lanes an event is for. */
extern bool oe_express_takes(const OeLane *lane, const OeLogEvent *event);

/* Notes the new aggregates of a read. */
extern void oe_express_learn(OeCursor *cursor, OeLogEvent **events, int nevents, const OePlace *before);

/* Ends express lanes whose backlog is done. */
extern void oe_express_merge(void);

/* Two lanes that were stored, new and at their places; "from" is interned. */
extern void oe_express_restore(OeLane *main, OeLane *express, OeSnapshot *from, bool by_birth);

extern OeSnapshot *oe_express_from(const OeLane *lane);
extern void oe_split_unref(OeSplit *split);

/* ---------- replay.c ---------- */

/* Brings replays in line with the table, inside a transaction; after the endpoints. */
extern void oe_replay_load(void);

/* One read of a replay; inside a transaction. */
extern void oe_replay_read(OeCursor *cursor);

/* Forgets the replays of an endpoint that is freed. */
extern void oe_replay_forget(OeEndpoint *endpoint);

/* Ends replays that are through, inside the transaction of a flush; some had to be left for the next. */
extern void oe_replay_flush(void);
extern bool oe_replay_deferred;

extern int64 oe_replay_id(const OeReplay *replay);

#endif							/* OE_DELIVERY_H */
