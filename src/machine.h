/*
 * machine.h
 *	  State machines: look-up in the backend's cache.
 */
#ifndef OE_MACHINE_H
#define OE_MACHINE_H

#include "datatype/timestamp.h"

/* A function that a user wrote as a guard. */
typedef struct OeSqlGuard
{
	const char *name;			/* as the definition has it */
	const char *schema;
	const char *function;
} OeSqlGuard;

/* One arrow of the graph. */
typedef struct OeTransition
{
	const char *event;
	const char *from;
	const char *to;
	const char *type;			/* of the event in the outbox */
	uint32		guards;			/* bits of the kind's built-in guards */
	const OeSqlGuard *sql_guards;	/* asked when the built-in ones agree */
	int			nsql_guards;
	uint32		effects;		/* bits of the kind's built-in effects */
	int			milestone;		/* number of a column with a time stamp, 0 for none */
	bool		automatic;		/* fired by the engine as soon as its guards agree */
	int			from_no;		/* numbers of the states */
	int			to_no;
} OeTransition;

typedef struct OeMachine OeMachine;

/* How long a row may stay in a state, and what happens then. */
typedef struct OeStateLimit
{
	const char *event;			/* NULL: the state has no limit */
	const Interval *length;		/* NULL: whoever enters the state says it */
} OeStateLimit;

/* the event by which an order leaves the initial state */
#define OE_EVENT_PLACE	"place"

/*
 * A published machine; OE005 when there is none.  The result stays valid until
 * the end of the transaction, also when the machine is invalidated meanwhile.
 */
extern const OeMachine *oe_machine_by_id(int32 machine_id);

/* The highest published version of a name; OE005 when there is none. */
extern const OeMachine *oe_machine_current(const char *kind, const char *name);

extern int32 oe_machine_id(const OeMachine *machine);
extern const char *oe_machine_initial(const OeMachine *machine);

/* The transition that an event makes in a state, NULL when there is none. */
extern const OeTransition *oe_machine_find_event(const OeMachine *machine,
												 const char *state, const char *event);

/* The transition between two states, NULL when there is none. */
extern const OeTransition *oe_machine_find_target(const OeMachine *machine,
												  const char *from, const char *to);

/* Whether some transition of that event enters that state. */
extern bool oe_machine_event_enters(const OeMachine *machine,
									const char *event, const char *state);

/* All transitions of a state, *count of them; NULL and 0 for an unknown state. */
extern const OeTransition *oe_machine_transitions(const OeMachine *machine,
												  const char *state, int *count);

/* The time limit of a state; event is NULL for a state without one, or an unknown one. */
extern OeStateLimit oe_machine_limit(const OeMachine *machine, const char *state);

/*
 * When the limit of a state that is entered at "at" passes, DT_NOEND when it has
 * none or has no length.
 */
extern TimestampTz oe_machine_limit_at(const OeMachine *machine, const char *state, TimestampTz at);

/* Whether some transition of a state is automatic. */
extern bool oe_machine_has_automatic(const OeMachine *machine, const char *state);

/*
 * A JSON array of the events that a state has, for DETAIL.  In the current
 * memory context.
 */
extern char *oe_machine_events_json(const OeMachine *machine, const char *state);

/* All backends load their machines anew, from the commit on. */
extern void oe_machine_invalidate(void);

/* Registers the invalidation callback; once, from _PG_init. */
extern void oe_machine_init(void);

#endif							/* OE_MACHINE_H */
