/*
 * stock_release.c
 *	  What becomes of a reservation: kept, shipped, given back.
 *
 * First the rows of the reservation are locked and changed, then the rows of
 * stock, each in their order.  Between the two nothing is undecided: whoever has
 * a reservation row decides about its units.  Another order that is short of
 * stock may take back an expired reservation at any time, without the lock on
 * our order; so a row counts as held only after it was locked.
 */
#include "postgres.h"

#include "access/xact.h"
#include "errors.h"
#include "miscadmin.h"
#include "relations.h"
#include "stock.h"
#include "stock_row.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

typedef struct Held
{
	ItemPointerData tid;
	char	   *sku;
	char	   *location;
	int16		slot;
	int32		quantity;
	int32		give;			/* units to give back or ship */
} Held;

static int
compare_held(const void *a, const void *b)
{
	const Held *left = a;
	const Held *right = b;
	int			result;

	if ((result = strcmp(left->sku, right->sku)) != 0 ||
		(result = strcmp(left->location, right->location)) != 0)
		return result;
	return (int) left->slot - (int) right->slot;
}

static bool
state_is(OeRows *reservations, const char *state)
{
	return strcmp(TextDatumGetCString(oe_rows_get(reservations, Anum_reservation_state)), state) == 0;
}

static OeRows *
open_reservations(LOCKMODE lockmode)
{
	return oe_rows_open(oe_relid(OE_REL_RESERVATION), lockmode, 1, NULL);
}

/*
 * Locks what is still held of a reservation, in lock order.  *lost tells that
 * something of it was released or has expired.
 */
static Held *
lock_held(OeRows *reservations, int64 reservation_id, int *count, bool *lost)
{
	int			allocated = 8;
	Held	   *held = palloc(allocated * sizeof(Held));
	Datum		key = Int64GetDatum(reservation_id);
	int			n = 0;
	int			nlocked = 0;

	*lost = false;
	oe_rows_begin(reservations, &key);
	while (oe_rows_next(reservations))
	{
		if (!state_is(reservations, "held"))
		{
			if (!state_is(reservations, "committed"))
				*lost = true;
			continue;
		}
		if (n == allocated)
		{
			allocated *= 2;
			held = repalloc(held, allocated * sizeof(Held));
		}
		held[n].tid = reservations->slot->tts_tid;
		held[n].sku = TextDatumGetCString(oe_rows_get(reservations, Anum_reservation_sku));
		held[n].location = TextDatumGetCString(oe_rows_get(reservations, Anum_reservation_location));
		held[n].slot = DatumGetInt16(oe_rows_get(reservations, Anum_reservation_slot));
		n++;
	}
	if (n > 1)
		qsort(held, n, sizeof(Held), compare_held);

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (oe_rows_lock(reservations, &held[i].tid, LockWaitBlock, true) == OE_ROW_LOCKED &&
			state_is(reservations, "held"))
		{
			held[nlocked] = held[i];
			held[nlocked].tid = reservations->slot->tts_tid;
			held[nlocked].quantity = DatumGetInt32(oe_rows_get(reservations, Anum_reservation_quantity));
			held[nlocked].give = held[nlocked].quantity;
			nlocked++;
		}
		else
			*lost = true;
	}
	*count = nlocked;
	return held;
}

static void
refuse_lost(int64 reservation_id)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_int64(&json, "reservation_id", reservation_id);
	ereport(ERROR,
			(errcode(ERRCODE_OE_RESERVATION_EXPIRED),
			 errmsg("stock of reservation " INT64_FORMAT " is no longer reserved", reservation_id),
			 errdetail_internal("%s", oe_json_end(&json))));
}

static void
set_state(OeRows *reservations, const Held *held, const char *state)
{
	static const AttrNumber attnum = Anum_reservation_state;
	Datum		value = CStringGetTextDatum(state);

	oe_rows_update(reservations, &held->tid, 1, &attnum, &value, NULL);
}

/*
 * Changes the counters of the stock rows by what "held" gives, and writes the
 * ledger.  The reservation rows have been changed already.
 */
static void
change_stock(int64 reservation_id, const Held *held, int n, const char *kind,
			 const char *reason, bool leaves, TimestampTz at)
{
	OeRows	   *stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 3, NULL);
	OeLedger	ledger;
	OeJson		shortages;
	int			nshortages = 0;

	oe_ledger_begin(&ledger, at);
	oe_json_begin_array(&shortages);
	for (int i = 0; i < n; i++)
	{
		Datum		keys[3];
		OeStockRow	row = {0};

		if (held[i].give == 0)
			continue;
		CHECK_FOR_INTERRUPTS();
		keys[0] = CStringGetTextDatum(held[i].sku);
		keys[1] = CStringGetTextDatum(held[i].location);
		keys[2] = Int16GetDatum(held[i].slot);
		if (oe_rows_find(stock, keys))
		{
			row.tid = stock->slot->tts_tid;
			row.location = held[i].location;
			row.slot = held[i].slot;
		}
		if (row.location == NULL || !oe_stock_lock(stock, &row, LockWaitBlock, true))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("stock row of \"%s\" at \"%s\" is missing", held[i].sku, held[i].location),
					 errhint("order_engine.verify_stock() lists what differs.")));

		if (leaves && row.on_hand < held[i].give)
		{
			OeJson		json;

			/* it was promised beyond what lies there, and has not arrived yet */
			oe_json_begin(&json);
			oe_json_text(&json, "sku", held[i].sku);
			oe_json_text(&json, "location", held[i].location);
			oe_json_int64(&json, "requested", held[i].give);
			oe_json_int64(&json, "available", row.on_hand);
			oe_json_raw(&shortages, NULL, oe_json_end(&json));
			nshortages++;
			continue;
		}
		oe_stock_store(stock, &row, held[i].sku,
					   (int64) row.on_hand - (leaves ? held[i].give : 0),
					   (int64) row.reserved - held[i].give);
		oe_ledger_add(&ledger, reservation_id, kind, reason, held[i].sku, held[i].location,
					  held[i].slot, leaves ? -held[i].give : 0, -held[i].give);
	}
	if (nshortages > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OE_INSUFFICIENT_STOCK),
				 errmsg("not enough stock on hand"),
				 errdetail_internal("%s", oe_json_end(&shortages))));

	oe_ledger_end(&ledger);
	oe_rows_close(stock);
	CommandCounterIncrement();
}

bool
oe_stock_is_held(int64 reservation_id)
{
	OeRows	   *reservations = open_reservations(AccessShareLock);
	Datum		key = Int64GetDatum(reservation_id);
	bool		is_held = true;

	oe_rows_begin(reservations, &key);
	while (is_held && oe_rows_next(reservations))
		is_held = state_is(reservations, "held") || state_is(reservations, "committed");
	oe_rows_close(reservations);
	return is_held;
}

void
oe_stock_keep(int64 reservation_id)
{
	static const AttrNumber attnum = Anum_reservation_expires_at;
	static const Datum value = (Datum) 0;
	static const bool null = true;
	OeRows	   *reservations = open_reservations(RowExclusiveLock);
	Held	   *held;
	int			n;
	bool		lost;

	held = lock_held(reservations, reservation_id, &n, &lost);
	if (lost)
		refuse_lost(reservation_id);
	for (int i = 0; i < n; i++)
		oe_rows_update(reservations, &held[i].tid, 1, &attnum, &value, &null);
	oe_rows_close(reservations);
	CommandCounterIncrement();
}

bool
oe_stock_release(int64 reservation_id, const char *kind, const char *reason, TimestampTz at)
{
	OeRows	   *reservations = open_reservations(RowExclusiveLock);
	const char *state = strcmp(kind, "expire") == 0 ? "expired" : "released";
	Held	   *held;
	int			n;
	bool		lost;

	held = lock_held(reservations, reservation_id, &n, &lost);
	for (int i = 0; i < n; i++)
		set_state(reservations, &held[i], state);
	oe_rows_close(reservations);
	if (n > 0)
		change_stock(reservation_id, held, n, kind, reason, false, at);
	return n > 0;
}

void
oe_stock_release_part(int64 reservation_id, OeStockNeed *needs, int n,
					  const char *reason, TimestampTz at)
{
	static const AttrNumber attnum = Anum_reservation_quantity;
	OeRows	   *reservations = open_reservations(RowExclusiveLock);
	Held	   *held;
	int			nheld;
	bool		lost;

	held = lock_held(reservations, reservation_id, &nheld, &lost);
	for (int i = 0; i < nheld; i++)
		held[i].give = 0;

	/* what was asked for at a location is given back there, the rest wherever something is left */
	for (int any = 0; any <= 1; any++)
	{
		for (int i = 0; i < n; i++)
		{
			int32		rest = needs[i].quantity;

			CHECK_FOR_INTERRUPTS();
			if (any != (needs[i].location == NULL))
				continue;
			for (int j = 0; j < nheld && rest > 0; j++)
			{
				int32		units = Min(rest, held[j].quantity - held[j].give);

				if (strcmp(needs[i].sku, held[j].sku) != 0 ||
					(!any && strcmp(needs[i].location, held[j].location) != 0))
					continue;
				held[j].give += units;
				rest -= units;
			}
		}
	}

	for (int i = 0; i < nheld; i++)
	{
		Datum		value = Int32GetDatum(held[i].quantity - held[i].give);

		/* a row without units would look like one that was lost; the ledger keeps the story */
		if (held[i].give == held[i].quantity)
			oe_rows_delete(reservations, &held[i].tid);
		else if (held[i].give > 0)
			oe_rows_update(reservations, &held[i].tid, 1, &attnum, &value, NULL);
	}
	oe_rows_close(reservations);
	change_stock(reservation_id, held, nheld, "release", reason, false, at);
}

void
oe_stock_ship(int64 reservation_id, TimestampTz at)
{
	OeRows	   *reservations = open_reservations(RowExclusiveLock);
	Held	   *held;
	int			n;
	bool		lost;

	held = lock_held(reservations, reservation_id, &n, &lost);
	if (lost)
		refuse_lost(reservation_id);
	for (int i = 0; i < n; i++)
		set_state(reservations, &held[i], "committed");
	oe_rows_close(reservations);
	if (n > 0)
		change_stock(reservation_id, held, n, "ship", NULL, true, at);
}
