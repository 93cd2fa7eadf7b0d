/*
 * guard.h
 *	  Guards: conditions that a transition needs.
 *
 * A guard hangs on a transition of a machine, by name, and knows nothing of
 * states.  Each kind has built-in ones of its own.
 */
#ifndef OE_GUARD_H
#define OE_GUARD_H

#include "compat.h"
#include "machine.h"
#include "order_row.h"

struct OePart;

/* A built-in guard of a kind.  Its bit is its place in the kind's list. */
typedef struct OeGuard
{
	const char *name;
	int			sqlstate;		/* of the error when it rejects */

	/*
	 * NULL, or the reason.  Reads only.  part is NULL for an order.  Uses SPI by
	 * itself, as the current user.
	 */
	const char *(*check) (const OeOrder *order, const struct OePart *part, TimestampTz now);
} OeGuard;

typedef struct OeGuardList
{
	const OeGuard *guards;		/* cheap ones first: a rejection names the first that fails */
	int			count;
} OeGuardList;

/* order_guard.c: those of orders */
extern const OeGuardList oe_order_guards;

typedef struct OeRejection
{
	int			sqlstate;
	const char *guard;
	const char *reason;			/* for people */
} OeRejection;

/* The bit of a built-in guard of a kind, 0 for a name that is none. */
extern uint32 oe_guard_by_name(const char *kind, const char *name);

/* The name of the built-in guard of a kind that has this bit; NULL for none. */
extern const char *oe_guard_name(const char *kind, uint32 bit);

/*
 * Whether an order, or a part of it, passes all guards of a transition; if not,
 * *rejection tells the first one that it does not.  part is NULL for the order
 * itself.  Uses SPI by itself, as the current user.
 */
extern bool oe_guards_pass(const OeTransition *transition, const OeOrder *order,
						   const struct OePart *part, TimestampTz now, OeRejection *rejection);

/*
 * The same for a row of a table of the application, whose guards are all
 * functions.
 */
extern bool oe_row_guards_pass(const OeTransition *transition, const char *id, OeRejection *rejection);

/* The error of such a rejection: OE002. */
pg_noreturn extern void oe_row_guard_reject(const OeRejection *rejection, const char *kind,
											const char *id, const char *event);

/* The error of a rejection: OE002, or the guard's own code. */
pg_noreturn extern void oe_guard_reject(const OeRejection *rejection, const OeOrder *order,
										const struct OePart *part, const char *event);

#endif							/* OE_GUARD_H */
