/*
 * stock_slots.h
 *	  All slots of a SKU at a location together.
 */
#ifndef OE_STOCK_SLOTS_H
#define OE_STOCK_SLOTS_H

#include "stock_row.h"

#define OE_MAX_SLOTS	1024

typedef struct OeSlotTotals
{
	int64		on_hand;
	int64		reserved;
	int64		backorder_limit;
	int64		safety_stock;
} OeSlotTotals;

/*
 * Locks all slots, and with them their number: whoever adds or removes slots
 * locks the first one before.  With "make" the first one is made when there is
 * none, else *count may be 0.
 */
extern OeStockRow *oe_slots_lock(OeRows *stock, const char *sku, const char *location, bool make,
								 int *count);

extern OeSlotTotals oe_slots_sum(const OeStockRow *slots, int n);

/* Adds units where the fewest are free; what a slot gets goes to "take". */
extern void oe_slots_fill(OeStockRow *slots, int n, int32 units);

/*
 * Spreads the totals evenly over locked slots, each of which keeps what it has
 * reserved; units that change the slot are told to the ledger as moved.  22003
 * when the totals exceed what a counter holds.  The caller has made sure that
 * on_hand and backorder_limit cover what is reserved.
 */
extern void oe_slots_spread(OeRows *stock, OeLedger *ledger, const char *sku, const char *location,
							OeStockRow *slots, int n, OeSlotTotals totals);

#endif							/* OE_STOCK_SLOTS_H */
