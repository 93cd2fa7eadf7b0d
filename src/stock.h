/*
 * stock.h
 *	  Reservations and the counters that they stand on.
 *
 * Every function takes its locks in one order: the rows of its own reservation
 * sorted, then stock rows sorted by (sku, location, slot) as bytes.  A caller
 * holds its order row already and touches nothing else afterwards.
 */
#ifndef OE_STOCK_H
#define OE_STOCK_H

#include "datatype/timestamp.h"

typedef struct OeStockNeed
{
	const char *sku;
	const char *location;		/* NULL: the engine chooses, and may split */
	int32		quantity;
} OeStockNeed;

/*
 * When a hold that begins at "at" ends; hold_for NULL means order_engine.hold_time.
 * 22023, naming the argument, unless it is positive and at most OE_MAX_HOLD_TIME.
 */
extern TimestampTz oe_hold_until(const Interval *hold_for, const char *argname, TimestampTz at);

/* An interval as text that no setting changes, for idempotency; NULL for NULL. */
extern char *oe_hold_text(const Interval *hold_for);

/* A reservation that is to be made. */
typedef struct OeReservation
{
	int64		reservation_id;
	const char *ref;			/* NULL for none */
	const char *channel;		/* whose locations serve needs without one; NULL: all do */
	int64		cart_id;		/* reservation that is taken over, 0 for none */
	TimestampTz expires_at;		/* DT_NOEND: without a limit */
	TimestampTz at;
} OeReservation;

/*
 * Reserves all of it or raises OE201 with every short need.  The array is
 * sorted, and needs of the same SKU and location become one.
 *
 * What the reservation cart_id still holds goes over, as far as it is needed and
 * lies where the need may be served from; nobody can take it in between.  The
 * rest of it is given back.  Its rows are released then, with the quantities
 * that they had; the ledger says "move" for what went over.
 */
extern void oe_stock_reserve(const OeReservation *reservation, OeStockNeed *needs, int n);

/* OE005 unless the reservation exists, 22023 when it is an order's. */
extern void oe_stock_require_cart(int64 reservation_id);

/* Takes the time limit away; OE202 when something is no longer held. */
extern void oe_stock_keep(int64 reservation_id);

/* Whether nothing of it was released or has expired; without a lock. */
extern bool oe_stock_is_held(int64 reservation_id);

/*
 * Gives back whatever is still held; true when something was.  kind is
 * "release" or "expire" and names the final state and the entry in the ledger.
 *
 * Of a row that was shipped in part only the held rest is given back.  With
 * "release" it is committed then, with quantity 0: nothing of it was lost, so
 * oe_stock_is_held() stays true and a later call does not raise OE202.  With
 * "expire" it is expired: units were lost that somebody may still count on.
 */
extern bool oe_stock_release(int64 reservation_id, const char *kind,
							 const char *reason, TimestampTz at);

/*
 * Gives back a part, the quantities of the needs, as far as it is still held.
 * The array is sorted and used up.
 */
extern void oe_stock_release_part(int64 reservation_id, OeStockNeed *needs, int n,
								  const char *reason, TimestampTz at);

/* All that is held leaves the house, from where it is held; OE202 when something is no longer held. */
extern void oe_stock_ship(int64 reservation_id, TimestampTz at);

/*
 * A part leaves the house: on_hand and reserved go down, units go from
 * reservation.quantity to reservation.shipped, and a row without a rest is
 * committed.  The array is sorted and used up.
 *
 * location NULL: units go from where they are held, those at the location of
 * the need first.  Else all go from that location; for what is held elsewhere
 * the reservation moves there first, as far as units are free there (neither
 * promised nor kept back as safety stock).
 *
 * OE202 when fewer units are held than are to leave.  OE201 with every (sku,
 * location) where less lies than must leave: promised beyond what lay there, or
 * not free for what is held elsewhere.  reference_id goes into the ledger (the
 * order or its fulfillment).
 */
extern void oe_stock_ship_units(int64 order_id, const char *location,
								OeStockNeed *needs, int n,
								int64 reference_id, TimestampTz at);

typedef struct OeRestock
{
	const char *sku;
	const char *location;
	int32		quantity;
} OeRestock;

/*
 * Units come (back) into the house: on_hand goes up, in the emptiest slot; a
 * stock row that is missing is made.  OE005 for a location that does not exist
 * ("default" is made), 22003 for more than 2147483647 units at a location.
 */
extern void oe_stock_restock(const OeRestock *items, int n, int64 reference_id,
							 const char *reason, TimestampTz at);

#endif							/* OE_STOCK_H */
