/*
 * state_machine.h
 *	  The trigger that holds every UPDATE to its state machine.
 */
#ifndef OE_STATE_MACHINE_H
#define OE_STATE_MACHINE_H

#include "commands/trigger.h"
#include "compat.h"
#include "machine.h"
#include "utils/jsonb.h"

/*
 * Triggers fire in the order of their names: the check comes after all other
 * BEFORE triggers and so sees what they made of the row; the record comes
 * before all other AFTER triggers, so that an event which one of those causes is
 * recorded second.  The function refuses to work under any other name.  (Digits
 * sort before letters, and before the server's own RI_ConstraintTrigger_...)
 */
#define OE_TRIGGER_CHECK	"zz_order_engine_check"
#define OE_TRIGGER_RECORD	"00_order_engine_record"

/*
 * What a verb tells the trigger about its own UPDATE of one order, or of a part
 * of one.  It lives on the verb's stack:
 *
 *		oe_verb_begin(&call);
 *		PG_TRY();
 *		{
 *			... UPDATE order_engine.orders ...
 *		}
 *		PG_FINALLY();
 *		{
 *			oe_verb_end(&call);
 *		}
 *		PG_END_TRY();
 *
 * The trigger believes it only for the update that takes this order to this
 * version, or this part to this state, so an UPDATE that some other trigger runs
 * below is not mistaken for it.
 */
typedef struct OeVerbCall
{
	const char *kind;			/* "order", or that of the part */
	int64		id;
	int64		version;		/* that the order has after the update */
	const char *to;				/* state that the part has after the update */
	const char *reason;			/* may be NULL */
	Jsonb	   *metadata;		/* may be NULL */
	Jsonb	   *details;		/* more members of the payload of a part's event; may be NULL */
	bool		forced;			/* guards are not asked */

	/*
	 * The state stays and yet it is an event: the trigger raises version and
	 * last_txid, and the verb itself records the event.
	 */
	bool		amends;

	/*
	 * With amends: the order changes to another machine, and maybe to the state
	 * that stands for its own there.
	 */
	bool		migrates;

	const struct OeVerbCall *outer; /* set by oe_verb_begin() */
} OeVerbCall;

extern void oe_verb_begin(OeVerbCall *call);
extern void oe_verb_end(const OeVerbCall *call);

/* The call that takes an order to a version; NULL for an UPDATE written by hand. */
extern const OeVerbCall *oe_verb_find(int64 order_id, int64 version);

/* The call that takes a part to a state; NULL for an UPDATE written by hand. */
extern const OeVerbCall *oe_verb_find_part(const char *kind, int64 id, const char *to);

/* What OE001 tells. */
typedef struct OeInvalidTransition
{
	const char *entity;
	const char *entity_id;
	bool		id_is_number;
	const char *from;			/* NULL for a new row */
	const char *event;			/* what was asked for: an event ... */
	const char *to;				/* ... or a state */
} OeInvalidTransition;

pg_noreturn extern void oe_invalid_transition(const OeMachine *machine,
											  const OeInvalidTransition *what);

/* order_trigger.c: the trigger on order_engine.orders */
extern HeapTuple oe_order_check(TriggerData *trigdata);
extern void oe_order_record(TriggerData *trigdata);

/* table_trigger.c: the trigger on tables of the application */
extern HeapTuple oe_table_check(TriggerData *trigdata);
extern void oe_table_record(TriggerData *trigdata);

/* Registers the invalidation callback of table_trigger.c; once, from _PG_init. */
extern void oe_table_trigger_init(void);

/* Whether two values of a column are the same, byte for byte. */
extern bool oe_same_value(TupleTableSlot *a, TupleTableSlot *b, int attnum);

/* The error for a null in a column that must not have one. */
pg_noreturn extern void oe_null_column(Relation rel, int attnum);

/* The error for a column that only the engine may change. */
pg_noreturn extern void oe_kept_column(Relation rel, int attnum);

/* The error for a row that another trigger changed behind the check. */
pg_noreturn extern void oe_changed_behind(Relation rel);

/*
 * 27000 when the row that an AFTER trigger was given has another value in this
 * column by now, or is gone: its later event would be recorded before this one.
 * The slot holds the row as the trigger manager fetched it.
 */
extern void oe_require_current(Relation rel, TupleTableSlot *slot, int attnum);

#endif							/* OE_STATE_MACHINE_H */
