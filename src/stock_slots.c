/*
 * stock_slots.c
 *	  All slots of a SKU at a location together: lock, fill, spread evenly.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "miscadmin.h"
#include "relations.h"
#include "stock_slots.h"

OeStockRow *
oe_slots_lock(OeRows *stock, const char *sku, const char *location, bool make, int *count)
{
	for (;;)
	{
		OeStockRow *slots = oe_stock_load(stock, sku, location, count);
		int			seen = *count;
		int			nlocked = 0;

		if (seen == 0)
		{
			if (!make)
				return slots;
			oe_stock_make_row(sku, location);
			oe_rows_refresh(stock);
			continue;
		}
		for (int i = 0; i < seen; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (oe_stock_lock(stock, &slots[i]))
				nlocked++;
		}

		/* while we waited, set_slots() may have been there */
		oe_rows_refresh(stock);
		(void) oe_stock_load(stock, sku, location, count);
		if (nlocked == seen && *count == seen)
			return slots;
	}
}

OeSlotTotals
oe_slots_sum(const OeStockRow *slots, int n)
{
	OeSlotTotals totals = {0};

	for (int i = 0; i < n; i++)
	{
		totals.on_hand += slots[i].on_hand;
		totals.reserved += slots[i].reserved;
		totals.backorder_limit += slots[i].backorder_limit;
		totals.safety_stock += slots[i].safety_stock;
	}
	return totals;
}

static int64
free_units(const OeStockRow *slot)
{
	return (int64) slot->on_hand - slot->reserved;
}

/* Units that bring every slot to a level. */
static int64
units_to_level(const OeStockRow *slots, int n, int64 level)
{
	int64		units = 0;

	for (int i = 0; i < n; i++)
		units += Max(level - free_units(&slots[i]), 0);
	return units;
}

void
oe_slots_fill(OeStockRow *slots, int n, int32 units)
{
	int64		low = free_units(&slots[0]);
	int64		high;
	int64		rest = units;

	for (int i = 1; i < n; i++)
		low = Min(low, free_units(&slots[i]));

	/* the highest level that the units suffice for */
	high = low + units;
	while (low < high)
	{
		int64		middle = low + (high - low + 1) / 2;

		if (units_to_level(slots, n, middle) <= units)
			low = middle;
		else
			high = middle - 1;
	}
	for (int i = 0; i < n; i++)
	{
		slots[i].take = (int32) Max(low - free_units(&slots[i]), 0);
		rest -= slots[i].take;
	}
	for (int i = 0; i < n && rest > 0; i++)
	{
		if (free_units(&slots[i]) + slots[i].take == low)
		{
			slots[i].take++;
			rest--;
		}
	}
}

/* The part of slot i when "total" is spread over n of them. */
static int32
share(int64 total, int n, int i)
{
	return (int32) (total / n + (i < total % n ? 1 : 0));
}

void
oe_slots_spread(OeRows *stock, OeLedger *ledger, const char *sku, const char *location,
				OeStockRow *slots, int n, OeSlotTotals totals)
{
	static const AttrNumber attnums[] = {
		Anum_stock_on_hand, Anum_stock_reserved, Anum_stock_backorder_limit, Anum_stock_safety_stock
	};
	int32	   *on_hand = palloc(n * sizeof(int32));
	int64		lying = totals.on_hand;
	int64		beyond = totals.backorder_limit;

	if (totals.on_hand + totals.backorder_limit > PG_INT32_MAX)
		oe_stock_too_many(sku, location);

	/* first what is reserved, as far as it lies there */
	for (int i = 0; i < n; i++)
	{
		on_hand[i] = (int32) Min(slots[i].reserved, lying);
		lying -= on_hand[i];
		beyond -= slots[i].reserved - on_hand[i];
	}
	Assert(beyond >= 0);

	for (int i = 0; i < n; i++)
	{
		int32		promised = slots[i].reserved - on_hand[i];
		int32		delta;
		Datum		values[4];

		on_hand[i] += share(lying, n, i);
		delta = on_hand[i] - slots[i].on_hand;
		if (delta != 0)
			oe_ledger_add(ledger, 0, "move", NULL, sku, location, slots[i].slot, delta, 0);
		values[0] = Int32GetDatum(on_hand[i]);
		values[1] = Int32GetDatum(slots[i].reserved);
		values[2] = Int32GetDatum(promised + share(beyond, n, i));
		values[3] = Int32GetDatum(share(totals.safety_stock, n, i));
		oe_rows_update(stock, &slots[i].tid, lengthof(attnums), attnums, values, NULL);
	}
	pfree(on_hand);
}
