/*
 * stock_held.c
 *	  What a reservation still holds: lock it, share it out, give it back.
 *
 * First the rows of the reservation are locked and changed, then the rows of
 * stock, each in their order.  Between the two nothing is undecided: whoever has
 * a reservation row decides about its units.  Another order that is short of
 * stock may take back an expired reservation at any time, without the lock on
 * our order; so a row counts as held only after it was locked.  And set_slots()
 * may move a row to another slot, or add it to a row that is there: then the
 * reservation is looked at once more.
 */
#include "postgres.h"

#include "access/xact.h"
#include "errors.h"
#include "miscadmin.h"
#include "relations.h"
#include "stock_held.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static int
compare_held(const void *a, const void *b)
{
	const OeHeld *left = a;
	const OeHeld *right = b;
	int			result;

	if ((result = strcmp(left->sku, right->sku)) != 0 ||
		(result = strcmp(left->location, right->location)) != 0)
		return result;
	if (left->slot != right->slot)
		return (int) left->slot - (int) right->slot;
	return left->reservation_id < right->reservation_id ? -1 :
		left->reservation_id > right->reservation_id;
}

void
oe_held_sort(OeHeld *held, int n)
{
	if (n > 1)
		qsort(held, n, sizeof(OeHeld), compare_held);
}

bool
oe_held_same_row(const OeHeld *a, const OeHeld *b)
{
	return a->slot == b->slot && strcmp(a->sku, b->sku) == 0 && strcmp(a->location, b->location) == 0;
}

OeRows *
oe_held_open(LOCKMODE lockmode)
{
	return oe_rows_open(oe_relid(OE_REL_RESERVATION), lockmode, 1, NULL);
}

bool
oe_held_state_is(OeRows *reservations, const char *state)
{
	return strcmp(TextDatumGetCString(oe_rows_get(reservations, Anum_reservation_state)), state) == 0;
}

/* What the snapshot shows as held, sorted. */
static OeHeld *
load_held(OeRows *reservations, int64 reservation_id, int *count, bool *lost)
{
	int			allocated = 8;
	OeHeld	   *held = palloc(allocated * sizeof(OeHeld));
	Datum		key = Int64GetDatum(reservation_id);
	int			n = 0;

	oe_rows_begin(reservations, &key);
	while (oe_rows_next(reservations))
	{
		if (!oe_held_state_is(reservations, "held"))
		{
			if (!oe_held_state_is(reservations, "committed"))
				*lost = true;
			continue;
		}
		if (n == allocated)
		{
			allocated *= 2;
			held = repalloc(held, allocated * sizeof(OeHeld));
		}
		held[n].tid = reservations->slot->tts_tid;
		held[n].reservation_id = reservation_id;
		held[n].sku = TextDatumGetCString(oe_rows_get(reservations, Anum_reservation_sku));
		held[n].location = TextDatumGetCString(oe_rows_get(reservations, Anum_reservation_location));
		held[n].slot = DatumGetInt16(oe_rows_get(reservations, Anum_reservation_slot));
		n++;
	}
	oe_held_sort(held, n);
	*count = n;
	return held;
}

OeHeld *
oe_held_lock(OeRows *reservations, int64 reservation_id, int *count, bool *lost)
{
	OeHeld	   *held;
	int			nlocked;
	bool		moved;

	do
	{
		int			n;

		*lost = false;
		moved = false;
		nlocked = 0;
		held = load_held(reservations, reservation_id, &n, lost);
		for (int i = 0; i < n && !moved; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (oe_rows_lock(reservations, &held[i].tid, LockWaitBlock, true) != OE_ROW_LOCKED ||
				DatumGetInt16(oe_rows_get(reservations, Anum_reservation_slot)) != held[i].slot)
				moved = true;
			else if (!oe_held_state_is(reservations, "held"))
				*lost = true;
			else
			{
				held[nlocked] = held[i];
				held[nlocked].tid = reservations->slot->tts_tid;
				held[nlocked].quantity = DatumGetInt32(oe_rows_get(reservations, Anum_reservation_quantity));
				held[nlocked].shipped = DatumGetInt32(oe_rows_get(reservations, Anum_reservation_shipped));
				held[nlocked].give = held[nlocked].quantity;
				nlocked++;
			}
		}
		if (moved)
			oe_rows_refresh(reservations);
	} while (moved);

	*count = nlocked;
	return held;
}

bool
oe_held_assign(OeHeld *held, int nheld, OeStockNeed *needs, int n, const char *location)
{
	bool		complete = true;

	for (int i = 0; i < nheld; i++)
		held[i].give = 0;

	for (int any = 0; any <= 1; any++)
	{
		for (int i = 0; i < n; i++)
		{
			const char *where = location != NULL ? location : needs[i].location;

			CHECK_FOR_INTERRUPTS();
			if (!any && where == NULL)
				continue;
			for (int j = 0; j < nheld && needs[i].quantity > 0; j++)
			{
				int32		units = Min(needs[i].quantity, held[j].quantity - held[j].give);

				if (strcmp(needs[i].sku, held[j].sku) != 0 ||
					(!any && strcmp(where, held[j].location) != 0))
					continue;
				held[j].give += units;
				needs[i].quantity -= units;
			}
			if (any && needs[i].quantity > 0)
				complete = false;
		}
	}
	return complete;
}

OeHeld *
oe_held_query(OeQuery *query, Datum *values, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;
	OeHeld	   *held;

	oe_spi_connect();
	*count = (int) oe_query_run(query, values, NULL, false, SPI_OK_SELECT);
	spi = MemoryContextSwitchTo(caller);
	held = palloc0(Max(*count, 1) * sizeof(OeHeld));
	for (int i = 0; i < *count; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		held[i].reservation_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		held[i].sku = TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &isnull));
		held[i].location = TextDatumGetCString(SPI_getbinval(tuple, desc, 3, &isnull));
		held[i].slot = DatumGetInt16(SPI_getbinval(tuple, desc, 4, &isnull));
		held[i].quantity = DatumGetInt32(SPI_getbinval(tuple, desc, 5, &isnull));
		held[i].give = held[i].quantity;
	}
	MemoryContextSwitchTo(spi);
	oe_spi_finish();
	return held;
}

void
oe_held_expire(const OeHeld *held, int n)
{
	static const AttrNumber attnum = Anum_reservation_state;
	Datum		value = CStringGetTextDatum("expired");
	OeRows	   *reservations;

	if (n == 0)
		return;
	reservations = oe_rows_open(oe_relid(OE_REL_RESERVATION), RowExclusiveLock, 4, NULL);
	for (int i = 0; i < n; i++)
	{
		Datum		keys[4];
		ItemPointerData tid;

		keys[0] = Int64GetDatum(held[i].reservation_id);
		keys[1] = CStringGetTextDatum(held[i].sku);
		keys[2] = CStringGetTextDatum(held[i].location);
		keys[3] = Int16GetDatum(held[i].slot);
		if (!oe_rows_find(reservations, keys))
			elog(ERROR, "a row of reservation " INT64_FORMAT " vanished", held[i].reservation_id);
		tid = reservations->slot->tts_tid;
		oe_rows_update(reservations, &tid, 1, &attnum, &value, NULL);
	}
	oe_rows_close(reservations);
	CommandCounterIncrement();
}

void
oe_held_lost(int64 reservation_id)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_int64(&json, "reservation_id", reservation_id);
	ereport(ERROR,
			(errcode(ERRCODE_OE_RESERVATION_EXPIRED),
			 errmsg("stock of reservation " INT64_FORMAT " is no longer reserved", reservation_id),
			 errdetail_internal("%s", oe_json_end(&json))));
}

void
oe_held_give_back(OeHeld *held, int n, const char *kind, const char *reason, TimestampTz at)
{
	OeRows	   *stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 3, NULL);
	OeLedger	ledger;

	oe_held_sort(held, n);
	oe_ledger_begin(&ledger, at);
	for (int i = 0, next; i < n; i = next)
	{
		OeStockRow	row;
		int64		units = 0;

		/* of several reservations, the same stock row once */
		for (next = i; next < n && oe_held_same_row(&held[next], &held[i]); next++)
			units += held[next].give;
		if (units == 0)
			continue;
		CHECK_FOR_INTERRUPTS();
		oe_stock_lock_key(stock, held[i].sku, held[i].location, held[i].slot, &row);
		oe_stock_store(stock, &row, held[i].sku, row.on_hand, row.reserved - units);
		for (int j = i; j < next; j++)
		{
			if (held[j].give > 0)
				oe_ledger_add(&ledger, held[j].reservation_id, kind, reason, held[j].sku,
							  held[j].location, held[j].slot, 0, -held[j].give);
		}
	}
	oe_ledger_end(&ledger);
	oe_rows_close(stock);
	CommandCounterIncrement();
}
