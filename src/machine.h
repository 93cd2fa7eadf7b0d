/*
 * machine.h
 *	  State machines: look-up in the backend's cache.
 */
#ifndef OE_MACHINE_H
#define OE_MACHINE_H

/* One arrow of the graph. */
typedef struct OeTransition
{
	const char *event;
	const char *from;
	const char *to;
	const char *type;			/* of the event in the outbox */
	uint32		guards;			/* OE_GUARD_* */
	uint32		effects;		/* OE_EFFECT_* */
	int			milestone;		/* Anum_orders_* of a time stamp, 0 for none */
	int			from_no;		/* numbers of the states */
	int			to_no;
} OeTransition;

typedef struct OeMachine OeMachine;

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
