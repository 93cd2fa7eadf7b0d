/*
 * stock_row.h
 *	  Rows of stock, reservation and stock_movement, for the stock files.
 */
#ifndef OE_STOCK_ROW_H
#define OE_STOCK_ROW_H

#include "append.h"
#include "compat.h"
#include "datatype/timestamp.h"
#include "rows.h"
#include "stock.h"

/* columns, as sql/40_stock.sql defines them */
enum
{
	Anum_stock_on_hand = 1,
	Anum_stock_reserved,
	Anum_stock_backorder_limit,
	Anum_stock_safety_stock,
	Anum_stock_slot,
	Anum_stock_sku,
	Anum_stock_location
};

enum
{
	Anum_reservation_reservation_id = 1,
	Anum_reservation_expires_at,
	Anum_reservation_created_at,
	Anum_reservation_quantity,
	Anum_reservation_shipped,
	Anum_reservation_slot,
	Anum_reservation_sku,
	Anum_reservation_location,
	Anum_reservation_state,
	Anum_reservation_ref,
	Natts_reservation = Anum_reservation_ref
};

enum
{
	Anum_stock_movement_reference_id = 1,
	Anum_stock_movement_created_at,
	Anum_stock_movement_on_hand_delta,
	Anum_stock_movement_reserved_delta,
	Anum_stock_movement_slot,
	Anum_stock_movement_sku,
	Anum_stock_movement_location,
	Anum_stock_movement_kind,
	Anum_stock_movement_reason,
	Anum_stock_movement_actor,
	Natts_stock_movement = Anum_stock_movement_actor
};

/* Sorts needs by SKU, then location with "any" last, and makes one need of equals. */
extern int	oe_needs_fold(OeStockNeed *needs, int n);

/* A stock row as it was read, or locked. */
typedef struct OeStockRow
{
	ItemPointerData tid;
	const char *sku;
	const char *location;
	int16		slot;
	int32		on_hand;
	int32		reserved;
	int32		backorder_limit;
	int32		safety_stock;
	int32		priority;		/* of the location */
	int64		at_location;	/* free units of all its slots, less what is kept back */
	int			site;			/* index of the first slot of its location */
	bool		any;			/* may serve a need that names no location */
	int32		take;			/* units to be reserved */
	int32		freed;			/* units of expired reservations */
	int32		given;			/* units of the reservation that is taken over */
	int32		moved;			/* of these, units that go to the new one */
} OeStockRow;

/*
 * All stock rows of a SKU (at one location unless that is NULL), sorted in lock
 * order, as the snapshot of "stock" (opened with one key) sees them.
 */
extern OeStockRow *oe_stock_load(OeRows *stock, const char *sku, const char *location, int *count);

/* Reads a stock row anew, as the snapshot of "stock" sees it; false when it is not there. */
extern bool oe_stock_reload(OeRows *stock, OeStockRow *row);

/*
 * Locks the latest version of a stock row that was loaded, and reads its counters
 * again; waits for whoever has it.  False when it is gone.
 */
extern bool oe_stock_lock(OeRows *stock, OeStockRow *row);

/*
 * Stands in line for a row, and leaves the line; at its head, waits until the
 * holder of the row is done.  None of them takes a lock on the row.
 */
extern void oe_stock_enter_line(const OeStockRow *row);
extern void oe_stock_leave_line(const OeStockRow *row);
extern void oe_stock_wait(const OeStockRow *row);

/*
 * Finds a stock row by its whole key and locks it; "stock" is opened with three
 * keys.  XX001 when it is missing, for some reservation says that it is there.
 */
extern void oe_stock_lock_key(OeRows *stock, const char *sku, const char *location, int16 slot,
							  OeStockRow *row);

/* The same, but false when another transaction has the row. */
extern bool oe_stock_try_key(OeRows *stock, const char *sku, const char *location, int16 slot);

/* Raises that error. */
pg_noreturn extern void oe_stock_row_missing(const char *sku, const char *location);

/* Stores new counters in a locked row; elog(ERROR) when they break its rules. */
extern void oe_stock_store(OeRows *stock, OeStockRow *row, const char *sku,
						   int64 on_hand, int64 reserved);

/* OE005 unless the location exists; "default" is made when it does not. */
extern void oe_stock_require_location(const char *location);

/* Makes slot 0 of a SKU at a location unless it is there. */
extern void oe_stock_make_row(const char *sku, const char *location);

/* Raises 22003. */
pg_noreturn extern void oe_stock_too_many(const char *sku, const char *location);

/* Appends to the ledger; reference_id 0 and reason NULL for none. */
typedef struct OeLedger
{
	OeAppender *appender;
	Datum		actor;
	TimestampTz at;
} OeLedger;

extern void oe_ledger_begin(OeLedger *ledger, TimestampTz at);
extern void oe_ledger_add(OeLedger *ledger, int64 reference_id, const char *kind, const char *reason,
						  const char *sku, const char *location, int16 slot,
						  int32 on_hand_delta, int32 reserved_delta);
extern void oe_ledger_end(OeLedger *ledger);

#endif							/* OE_STOCK_ROW_H */
