/*
 * stock_held.h
 *	  What a reservation still holds: its rows, locked.
 */
#ifndef OE_STOCK_HELD_H
#define OE_STOCK_HELD_H

#include "compat.h"
#include "query.h"
#include "stock_row.h"

/* A row of a reservation in state held. */
typedef struct OeHeld
{
	ItemPointerData tid;
	int64		reservation_id;
	char	   *sku;
	char	   *location;
	int16		slot;
	int32		quantity;
	int32		shipped;
	int32		give;			/* units that are to leave it */
} OeHeld;

extern OeRows *oe_held_open(LOCKMODE lockmode);

/* Whether the current row is in that state. */
extern bool oe_held_state_is(OeRows *reservations, const char *state);

/* Sorts as stock rows are locked, then by reservation. */
extern void oe_held_sort(OeHeld *held, int n);

/* Whether both come from the same stock row. */
extern bool oe_held_same_row(const OeHeld *a, const OeHeld *b);

/*
 * Locks what is still held of a reservation, in lock order; "give" is all of it.
 * *lost tells that something of it was released or has expired.
 */
extern OeHeld *oe_held_lock(OeRows *reservations, int64 reservation_id, int *count, bool *lost);

/*
 * Sets "give" so that the needs are met: with what is held at the location of a
 * need (or at "location", for all needs, unless that is NULL), then with the
 * rest.  Lowers the quantities of the needs by what they got; true when all got
 * everything.
 */
extern bool oe_held_assign(OeHeld *held, int nheld, OeStockNeed *needs, int n, const char *location);

/*
 * The rows that a query locked: it returns reservation_id, sku, location, slot
 * and quantity of rows in state held.
 */
extern OeHeld *oe_held_query(OeQuery *query, Datum *values, int *count);

/* Marks locked rows as expired; their units are the caller's to give back. */
extern void oe_held_expire(const OeHeld *held, int n);

/* Raises OE202. */
pg_noreturn extern void oe_held_lost(int64 reservation_id);

/*
 * Lowers reserved of the stock rows by what "held", of any reservations, gives,
 * and writes the ledger.  The reservation rows are locked, and changed already.
 */
extern void oe_held_give_back(OeHeld *held, int n, const char *kind, const char *reason, TimestampTz at);

#endif							/* OE_STOCK_HELD_H */
