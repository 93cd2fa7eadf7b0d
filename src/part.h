/*
 * part.h
 *	  Parts of an order (payments, fulfillments, returns): rows that run on a
 *	  machine of their own and whose events belong to the order.
 *
 * Tables of parts begin with the same eight columns.  What differs from kind to
 * kind is in an OePartKind; everything else is done once, for all of them.
 */
#ifndef OE_PART_H
#define OE_PART_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "commands/trigger.h"
#include "effect.h"
#include "guard.h"
#include "nodes/lockoptions.h"
#include "order_row.h"
#include "query.h"
#include "record.h"
#include "relations.h"
#include "utils/jsonb.h"

/* the columns that all parts have, as sql/32 to sql/36 define them */
enum
{
	Anum_part_id = 1,
	Anum_part_order_id,
	Anum_part_machine_id,
	Anum_part_state,
	Anum_part_state_since,
	Anum_part_expires_at,
	Anum_part_created_at,
	Anum_part_updated_at,
	Natts_part = Anum_part_updated_at
};

/* A row of a part, in the memory context of whoever read it. */
typedef struct OePart
{
	const struct OePartKind *kind;
	int64		id;
	int64		order_id;
	int32		machine_id;
	const char *state;
	TimestampTz expires_at;		/* DT_NOEND: no limit */
	Datum	   *values;			/* of all columns */
	bool	   *nulls;
} OePart;

/* What a kind knows how to do.  Any of the functions may be NULL. */
typedef struct OePartKind
{
	const char *name;			/* "payment": kind of its machines, entity of its events */
	const char *id_key;			/* "payment_id": member of its events */
	OeRel		rel;
	int			natts;			/* columns that the code knows */
	const OeGuardList *guards;
	OeNamedList effects;
	OeNamedList milestones;
	const int  *kept;			/* columns that only the engine changes, 0 ends the list */
	int			plan;			/* column that becomes null in a terminal state, 0: none */

	/* by id, see OE_PART_QUERIES */
	OeQuery    *read;
	OeQuery    *lock;
	OeQuery    *lock_nowait;
	OeQuery    *set_state;

	/*
	 * Computes the order's roll-ups of this kind: an UPDATE of the orders row $1
	 * that returns the row.
	 */
	OeQuery    *roll_up;

	/*
	 * What effects do to other tables, before the roll-up.  The order and the
	 * part are locked; "part" is as it is after the transition.
	 */
	void		(*apply) (uint32 effects, const OeOrder *order, const OePart *part,
						  const char *reason, TimestampTz at);

	/* Adds the kind's members to the payload of an event. */
	void		(*describe) (const OePart *part, JsonbParseState **payload);

	/*
	 * What effects do after the event was recorded: further events of the order,
	 * and stock, which comes last.  Keeps "order" as it is stored.
	 */
	void		(*follow) (uint32 effects, OeOrder *order, const OePart *part,
						   const char *reason, TimestampTz at);
} OePartKind;

/* Defines the four queries of a kind, as read_query, lock_query, lock_nowait_query and set_state_query. */
#define OE_PART_QUERIES(table, id) \
	static OeQuery read_query = { \
		"SELECT * FROM order_engine." table " WHERE " id " = $1", 1, {INT8OID} \
	}; \
	static OeQuery lock_query = { \
		"SELECT * FROM order_engine." table " WHERE " id " = $1 FOR NO KEY UPDATE", 1, {INT8OID} \
	}; \
	static OeQuery lock_nowait_query = { \
		"SELECT * FROM order_engine." table " WHERE " id " = $1 FOR NO KEY UPDATE NOWAIT", 1, {INT8OID} \
	}; \
	static OeQuery set_state_query = { \
		"UPDATE order_engine." table " SET state = $2 WHERE " id " = $1", 2, {INT8OID, TEXTOID} \
	}

extern const OePartKind oe_payment_kind;
extern const OePartKind oe_fulfillment_kind;
extern const OePartKind oe_return_kind;

/* The kind of that name, NULL when there is none. */
extern const OePartKind *oe_part_kind(const char *name);

/* The kind whose table that is, NULL when it is none of ours. */
extern const OePartKind *oe_part_kind_of(Oid relid);

/*
 * Reads a part, without a lock or locked for a change, into the current memory
 * context.  OE005 when there is none; 55P03 with LockWaitError.  The order is
 * locked before its parts.
 */
extern void oe_part_read(const OePartKind *kind, int64 id, OePart *part);
extern void oe_part_lock(const OePartKind *kind, int64 id, LockWaitPolicy policy, OePart *part);

/* Whether the state is the end of the part. */
extern bool oe_part_is_terminal(const OePart *part);

/* Fills "part" from a row; the arrays stay the caller's. */
extern void oe_part_from_row(const OePartKind *kind, OePart *part, Datum *values, bool *nulls);

/*
 * The first columns of a new part that starts on the current machine "default"
 * of its kind: fills entries 0 to Natts_part - 1 of values and nulls, and "part"
 * (without values).  The caller fills in the rest, appends the row and records
 * the event that it began with.
 */
extern void oe_part_begin(const OePartKind *kind, int64 order_id, TimestampTz at,
						  OePart *part, Datum *values, bool *nulls);

/*
 * Applies an event to a part that is locked, as is its order.  Returns the new
 * state (current context); *order is brought up to date.  A part that is in the
 * state already which the event leads to is left alone.  OE001, or the code of a
 * guard, which "forced" leaves out.
 */
extern char *oe_part_apply(OeOrder *order, const OePart *part, const char *event,
						   const char *reason, Jsonb *metadata, bool forced);

/*
 * An event of a part that leaves its state as it is: rolls up, raises the
 * order's version, writes history and outbox.  Of "record" the caller sets
 * event, type, reason, metadata and at; *order is brought up to date.  The part
 * is as it is stored.
 */
extern void oe_part_event(OeOrder *order, const OePart *part, OeRecord *record);

/*
 * Runs an UPDATE of one part ($1 is its id) on behalf of the engine, which may
 * change kept columns with it.  to_state is the state that it sets, or the
 * present one.  Exactly one row must be changed.  For a state that changes the
 * trigger does the rest, so the caller reads the order again (oe_order_refresh).
 */
typedef struct OePartUpdate
{
	const char *to_state;
	const char *reason;			/* may be NULL */
	Jsonb	   *metadata;		/* may be NULL */
	Jsonb	   *details;		/* more members of the event's payload; may be NULL */
	bool		forced;
} OePartUpdate;

extern void oe_part_update(const OePart *part, OeQuery *query, Datum *values, const char *nulls,
						   const OePartUpdate *update);

/* part_trigger.c: the trigger on tables of parts */
extern HeapTuple oe_part_check(TriggerData *trigdata, const OePartKind *kind);
extern void oe_part_record(TriggerData *trigdata, const OePartKind *kind);

#endif							/* OE_PART_H */
