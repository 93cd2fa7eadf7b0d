/*
 * line_units.h
 *	  Units of the lines of an order, or of a return: how many may be taken.
 */
#ifndef OE_LINE_UNITS_H
#define OE_LINE_UNITS_H

#include "items.h"
#include "part.h"
#include "query.h"

typedef struct OeLineUnits
{
	int32		line_no;
	int32		limit;			/* units that may still be taken */
	int32		taken;
} OeLineUnits;

/*
 * Runs a query that selects (line_no, limit) for the id $1 and returns the rows
 * in the current memory context.
 */
extern OeLineUnits *oe_line_units_read(OeQuery *query, int64 id, int *count);

/*
 * Takes the units of an item from its line, and returns the line.  owner is what
 * has the lines ("order"), done what happens to the units ("shipped").
 */
extern OeLineUnits *oe_line_units_take(OeLineUnits *lines, int nlines, const OeItem *item,
									   const char *owner, const char *done);

/* Takes all that may be taken; false when there is none. */
extern bool oe_line_units_take_all(OeLineUnits *lines, int nlines);

/*
 * Runs an UPDATE of lines for a part ($1 is its id) and, where the query asks, its
 * order ($2); returns how many were changed.
 */
extern uint64 oe_units_update(OeQuery *query, const OePart *part);

/*
 * OE002 for an effect that finds nothing to do: a machine may lead to it twice,
 * and stock must not be moved twice.
 */
pg_noreturn extern void oe_units_used_up(const char *entity, int64 id, const char *effect);

/* The two errors of an item: 22023 and OE301. */
pg_noreturn extern void oe_line_missing(const OeItem *item, const char *owner);
pg_noreturn extern void oe_line_exceeded(const OeItem *item, int32 limit, const char *done);

#endif							/* OE_LINE_UNITS_H */
