/*
 * stock.c
 *	  Reserve stock for an order or a cart.
 *
 * Rows of stock are the busiest of the database.  Three rules keep them correct
 * and free of deadlocks:
 *
 *	- They are locked in one order, by (sku, location, slot) as bytes, and last of
 *	  all that a verb touches.
 *	- A row is first locked, then read, then changed: between the decision and
 *	  the write nobody else can have taken the units.
 *	- Whatever would break the order is done only where it cannot wait: a free
 *	  slot is taken with SKIP LOCKED, and only in the version that was seen to
 *	  hold enough, so that no lock is ever held in vain; expired reservations of
 *	  other orders are taken back with SKIP LOCKED.  The rows of a cart that the
 *	  order takes over are locked before any row of stock.
 *
 * That a SKU is sold out is said only after all its rows were locked, its
 * expired reservations were taken back, and a fresh look found no more rows.
 * A row that appears in between is the one that may be locked out of order; in
 * the worst case that is a deadlock (40P01), never a wrong answer.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "miscadmin.h"
#include "query.h"
#include "stock.h"
#include "stock_choose.h"
#include "stock_held.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* how often a slot is looked for that is free, or will be, before all are waited for in order */
#define FREE_SLOT_ATTEMPTS	8

/* how many slots one look finds busy before it waits: each try locks the page that many share */
#define BUSY_SLOTS	2

typedef struct Reserve
{
	const OeReservation *reservation;
	OePlaces	places;
	OeRows	   *stock;
	OeAppender *reservations;
	OeLedger	ledger;
	OeJson		shortages;
	int			nshortages;
} Reserve;

/* Which rows are locked. */
typedef enum LockExtent
{
	LOCK_GIVEN,					/* those that are given something */
	LOCK_ENOUGH,				/* up to one that suffices by itself */
	LOCK_ALL
} LockExtent;

/* Stores the reservation of what a row gives. */
static void
append_reservation(Reserve *r, const char *sku, const OeStockRow *row)
{
	const OeReservation *reservation = r->reservation;
	const char *ref = reservation->ref;
	Datum		values[Natts_reservation];
	bool		nulls[Natts_reservation] = {false};

#define SET(column, datum) values[Anum_reservation_##column - 1] = (datum)
	SET(reservation_id, Int64GetDatum(reservation->reservation_id));
	SET(expires_at, TimestampTzGetDatum(reservation->expires_at));
	nulls[Anum_reservation_expires_at - 1] = TIMESTAMP_IS_NOEND(reservation->expires_at);
	SET(created_at, TimestampTzGetDatum(reservation->at));
	SET(quantity, Int32GetDatum(row->take + row->moved));
	SET(shipped, Int32GetDatum(0));
	SET(slot, Int16GetDatum(row->slot));
	SET(sku, CStringGetTextDatum(sku));
	SET(location, CStringGetTextDatum(row->location));
	SET(state, CStringGetTextDatum("held"));
	SET(ref, ref == NULL ? (Datum) 0 : CStringGetTextDatum(ref));
	nulls[Anum_reservation_ref - 1] = ref == NULL;
#undef SET
	oe_append_row(r->reservations, values, nulls);
}

/*
 * Stores what the rows give, and what reserves it.  When a slot is left with fewer
 * units than it keeps back, the others stand in for it: each becomes a new version,
 * so that whoever has judged one of them by itself looks again.
 */
static void
store(Reserve *r, const char *sku, OeStockRow *rows, int nrows)
{
	const OeReservation *reservation = r->reservation;
	bool		renew = oe_stock_keeps_back(rows, nrows) && !oe_stock_settled(rows, nrows);

	for (int i = 0; i < nrows; i++)
	{
		OeStockRow *row = &rows[i];

		if (row->take == 0 && row->freed == 0 && row->given == 0 && !renew)
			continue;
		oe_stock_store(r->stock, row, sku, row->on_hand,
					   (int64) row->reserved - row->freed - row->given + row->moved + row->take);

#define ADD(id, kind, units) \
		oe_ledger_add(&r->ledger, (id), (kind), NULL, sku, row->location, row->slot, 0, (units))
		if (row->moved > 0)
		{
			ADD(reservation->cart_id, "move", -row->moved);
			ADD(reservation->reservation_id, "move", row->moved);
		}
		if (row->given > row->moved)
			ADD(reservation->cart_id, "release", -(row->given - row->moved));
		if (row->take > 0)
			ADD(reservation->reservation_id, "reserve", row->take);
#undef ADD
		if (row->take + row->moved > 0)
			append_reservation(r, sku, row);
	}
}

/*
 * Takes one need from the slot that was waited for, without a look at the others.
 * Who waits keeps all versions of all slots alive that come meanwhile, and a look at all
 * of them goes through as many as there are who wait.  It may be judged by itself where
 * nothing is kept back, which the first slot tells: it has a share of that before any
 * other.  Where the two may promise more than they have, others may owe units.
 */
static bool
take_awaited_slot(Reserve *r, const OeStockNeed *need, OeStockRow *row)
{
	OeStockRow	first = *row;

	first.slot = 0;
	if (!oe_stock_reload(r->stock, row) || row->safety_stock != 0 || row->backorder_limit != 0)
		return false;
	if (row->slot != 0 && (!oe_stock_reload(r->stock, &first) ||
						   first.safety_stock != 0 || first.backorder_limit != 0))
		return false;
	if (oe_stock_free_units(row) < need->quantity ||
		oe_rows_lock(r->stock, &row->tid, LockWaitSkip, false) != OE_ROW_LOCKED)
		return false;
	row->take = need->quantity;
	store(r, need->sku, row, 1);
	return true;
}

/*
 * Takes one need from one slot that has enough.  When all of these are busy it
 * stands in line for one, without a lock on it, and looks again: a lock that turns
 * out to be of no use would have been taken out of order.  False: nothing was taken
 * and nothing is locked.  "rows" is what r->stock shows.
 */
static bool
take_free_slot(Reserve *r, const OeStockNeed *need, OeStockRow *rows, int nrows)
{
	OeStockRow	awaited = {0};	/* in whose line we stand, if it has a location */
	bool		taken = false;

	for (int attempt = 0; attempt < FREE_SLOT_ATTEMPTS; attempt++)
	{
		OeStockRow **preferred;
		OeStockRow *busy = NULL;
		int			first = 0;
		int			nslots = 0;
		int			start = MyProcPid;
		int			nbusy = 0;
		bool		changed = false;

		if (attempt > 0)
		{
			oe_rows_refresh(r->stock);
			if (awaited.location != NULL && !IsolationUsesXactSnapshot() &&
				take_awaited_slot(r, need, &awaited))
			{
				taken = true;
				break;
			}
			rows = oe_stock_load(r->stock, need->sku, need->location, &nrows);
			nrows = oe_stock_eligible(rows, nrows, need, 1, &r->places);
		}
		if (!oe_stock_settled(rows, nrows))
			break;
		preferred = oe_stock_prefer(rows, nrows, &r->places);

		/* only the slots of the location whose turn it is */
		while (first < nrows && preferred[first]->at_location <= 0)
			first++;
		while (first + nslots < nrows &&
			   strcmp(preferred[first + nslots]->location, preferred[first]->location) == 0)
			nslots++;

		/* the one that we waited for is ours to try first */
		for (int i = 0; i < nslots && awaited.location != NULL; i++)
		{
			if (preferred[first + i]->slot == awaited.slot &&
				strcmp(preferred[first + i]->location, awaited.location) == 0)
				start = i;
		}
		for (int i = 0; i < nslots && !taken && nbusy < BUSY_SLOTS; i++)
		{
			OeStockRow *row = preferred[first + (start + i) % nslots];
			OeRowLock	lock;

			if (oe_stock_free_units(row) - row->safety_stock < need->quantity)
				continue;
			lock = oe_rows_lock(r->stock, &row->tid, LockWaitSkip, false);
			if (lock == OE_ROW_LOCKED)
			{
				row->take = need->quantity;
				store(r, need->sku, row, 1);
				taken = true;
			}
			changed |= (lock == OE_ROW_CHANGED);
			if (lock == OE_ROW_BUSY && nbusy++ == 0)
				busy = row;
		}
		if (taken || (busy == NULL && !changed))
			break;
		if (changed)
			continue;

		/* who stands at the head of a line stays there */
		if (awaited.location == NULL || awaited.slot != busy->slot ||
			strcmp(awaited.location, busy->location) != 0)
		{
			if (awaited.location != NULL)
				oe_stock_leave_line(&awaited);
			awaited = *busy;
			oe_stock_enter_line(&awaited);
		}
		oe_rows_end(r->stock);
		oe_stock_wait(&awaited);
	}
	if (awaited.location != NULL)
		oe_stock_leave_line(&awaited);
	return taken;
}

/*
 * Marks expired reservations on these locked rows as expired, except those that
 * somebody else is just changing, and counts their units as freed.
 */
static bool
take_back_expired(Reserve *r, const char *sku, OeStockRow *rows, int nrows)
{
	static OeQuery query = {
		"SELECT c.reservation_id, c.sku, c.location, c.slot, c.quantity"
		" FROM order_engine.reservation c"
		" JOIN ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4)) AS stock (location, slot)"
		"   ON c.location = stock.location AND c.slot = stock.slot"
		" WHERE c.state = 'held' AND c.expires_at <= $2 AND c.sku = $1"
		" ORDER BY c.reservation_id"
		" FOR UPDATE OF c SKIP LOCKED",
		4, {TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID, INT2ARRAYOID}
	};
	Datum	   *locations = palloc(nrows * sizeof(Datum));
	Datum	   *slots = palloc(nrows * sizeof(Datum));
	Datum		values[4];
	OeHeld	   *expired;
	int			nexpired;

	for (int i = 0; i < nrows; i++)
	{
		locations[i] = CStringGetTextDatum(rows[i].location);
		slots[i] = Int16GetDatum(rows[i].slot);
	}
	values[0] = CStringGetTextDatum(sku);
	values[1] = TimestampTzGetDatum(r->reservation->at);
	values[2] = PointerGetDatum(construct_array(locations, nrows, TEXTOID, -1, false, TYPALIGN_INT));
	values[3] = PointerGetDatum(construct_array(slots, nrows, INT2OID, 2, true, TYPALIGN_SHORT));

	expired = oe_held_query(&query, values, &nexpired);
	oe_held_expire(expired, nexpired);
	for (int i = 0; i < nexpired; i++)
	{
		const OeHeld *held = &expired[i];

		for (int j = 0; j < nrows; j++)
		{
			if (rows[j].slot == held->slot && strcmp(rows[j].location, held->location) == 0)
			{
				rows[j].freed += held->quantity;
				oe_ledger_add(&r->ledger, held->reservation_id, "expire", NULL, sku,
							  held->location, held->slot, 0, -held->quantity);
			}
		}
	}
	return nexpired > 0;
}

static void
report_shortages(Reserve *r, const OeStockNeed *needs, int n, const int32 *missing)
{
	for (int i = 0; i < n; i++)
	{
		OeJson		json;

		if (missing[i] == 0)
			continue;
		oe_json_begin(&json);
		oe_json_text(&json, "sku", needs[i].sku);
		oe_json_text(&json, "location", needs[i].location);
		oe_json_int64(&json, "requested", needs[i].quantity);
		oe_json_int64(&json, "available", needs[i].quantity - missing[i]);
		oe_json_raw(&r->shortages, NULL, oe_json_end(&json));
		r->nshortages++;
	}
}

/*
 * Locks rows of one SKU, leaves those of them in rows[] that are still there, and
 * distributes the needs over them.  True when all get everything.
 */
static bool
lock_and_distribute(Reserve *r, const char *sku, const OeStockNeed *needs, int n,
					OeStockRow *rows, int *nrows, LockExtent extent, int32 *missing)
{
	bool		one_location = *nrows > 0 && strcmp(rows[0].location, rows[*nrows - 1].location) == 0;
	bool		one_suffices = extent == LOCK_ENOUGH && n == 1 && one_location && oe_stock_settled(rows, *nrows);
	int			nlocked = 0;

	for (int i = 0; i < *nrows; i++)
	{
		const OeStockRow *row = &rows[nlocked];

		CHECK_FOR_INTERRUPTS();
		if (extent == LOCK_GIVEN && rows[i].given == 0)
			continue;
		if (oe_stock_lock(r->stock, &rows[i]))
			rows[nlocked++] = rows[i];
		else if (rows[i].given > 0)
			oe_stock_row_missing(sku, rows[i].location);
		else
			continue;

		/*
		 * Whoever leaves a slot without what it keeps back has them all; now that we
		 * have the first one this cannot happen any more, but it may have happened
		 * while we waited.
		 */
		if (nlocked == 1 && one_suffices && *nrows > 1 && !IsolationUsesXactSnapshot())
		{
			int			nslots;
			OeStockRow *slots;

			oe_rows_refresh(r->stock);
			slots = oe_stock_load(r->stock, sku, row->location, &nslots);
			one_suffices = oe_stock_settled(slots, nslots);
		}

		/* a slot that has enough makes it needless to wait for the others */
		if (one_suffices && oe_stock_free_units(row) - row->safety_stock >= needs[0].quantity)
			break;
	}
	*nrows = nlocked;

	return oe_stock_distribute(rows, nlocked, needs, n, &r->places, missing) ||
		(nlocked > 0 && take_back_expired(r, sku, rows, nlocked) &&
		 oe_stock_distribute(rows, nlocked, needs, n, &r->places, missing));
}

/* The rows of a SKU that matter, with what each is given. */
static OeStockRow *
load_rows(Reserve *r, const char *sku, const OeStockNeed *needs, int n,
		  const OeHeld *given, int ngiven, int *nrows)
{
	/* one need may name the only location that matters; of several, "any" is the last */
	const char *location = n == 1 && ngiven == 0 ? needs[0].location : NULL;
	OeStockRow *rows = oe_stock_load(r->stock, sku, location, nrows);
	int			next = 0;

	/* both are sorted */
	for (int i = 0; i < *nrows && next < ngiven; i++)
	{
		if (rows[i].slot == given[next].slot && strcmp(rows[i].location, given[next].location) == 0)
			rows[i].given = given[next++].quantity;
	}
	if (next < ngiven)
		oe_stock_row_missing(sku, given[next].location);
	*nrows = oe_stock_eligible(rows, *nrows, needs, n, &r->places);
	return rows;
}

/* Reserves the needs for one SKU, with what is given of it. */
static void
reserve_sku(Reserve *r, const char *sku, OeStockNeed *needs, int n, const OeHeld *given, int ngiven)
{
	OeStockRow *rows;
	int			nrows;
	bool		complete;
	LockExtent	extent = LOCK_ENOUGH;
	int32	   *missing = palloc(Max(n, 1) * sizeof(int32));

	rows = load_rows(r, sku, needs, n, given, ngiven, &nrows);
	if (n == 1 && ngiven == 0 && nrows > 1 && r->nshortages == 0 && take_free_slot(r, &needs[0], rows, nrows))
		return;

	if (ngiven > 0)
		extent = oe_stock_given_suffices(rows, nrows, needs, n) ? LOCK_GIVEN : LOCK_ALL;
	complete = lock_and_distribute(r, sku, needs, n, rows, &nrows, extent, missing);
	if (!complete && !IsolationUsesXactSnapshot())
	{
		/* while we waited, a row may have appeared, at another location or of a SKU that was split */
		const OeStockRow *earlier = rows;
		int			nearlier = nrows;

		oe_rows_refresh(r->stock);
		rows = load_rows(r, sku, needs, n, given, ngiven, &nrows);
		for (int i = 0; i < nrows; i++)
		{
			for (int j = 0; j < nearlier; j++)
			{
				if (rows[i].slot == earlier[j].slot &&
					strcmp(rows[i].location, earlier[j].location) == 0)
					rows[i].freed = earlier[j].freed;
			}
		}
		complete = lock_and_distribute(r, sku, needs, n, rows, &nrows, LOCK_ALL, missing);
	}
	if (!complete)
		report_shortages(r, needs, n, missing);

	/* after a shortage nothing is stored any more, but every SKU is looked at */
	if (r->nshortages == 0)
		store(r, sku, rows, nrows);
}

/* Locks what a cart holds, in lock order, and marks it as released. */
static OeHeld *
take_cart(int64 cart_id, int *count)
{
	static const AttrNumber attnum = Anum_reservation_state;
	OeRows	   *reservations = oe_held_open(RowExclusiveLock);
	Datum		value = CStringGetTextDatum("released");
	OeHeld	   *held;
	bool		lost;

	held = oe_held_lock(reservations, cart_id, count, &lost);
	for (int i = 0; i < *count; i++)
		oe_rows_update(reservations, &held[i].tid, 1, &attnum, &value, NULL);
	oe_rows_close(reservations);
	CommandCounterIncrement();
	return held;
}

void
oe_stock_reserve(const OeReservation *reservation, OeStockNeed *needs, int n)
{
	Reserve		r = {.reservation = reservation};
	OeHeld	   *given = NULL;
	int			ngiven = 0;

	n = oe_needs_fold(needs, n);
	if (reservation->cart_id != 0)
		given = take_cart(reservation->cart_id, &ngiven);
	if (n == 0 && ngiven == 0)
		return;

	for (int i = 0; i < n; i++)
	{
		if (needs[i].location == NULL)
		{
			oe_places_load(&r.places, reservation->channel);
			break;
		}
	}
	oe_json_begin_array(&r.shortages);
	r.stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	r.reservations = oe_append_begin(oe_relid(OE_REL_RESERVATION), Natts_reservation, OE_CHECKED);
	oe_ledger_begin(&r.ledger, reservation->at);

	/* every SKU of the needs and of the cart, in one sorted pass */
	for (int i = 0, g = 0, next = 0, gnext = 0; i < n || g < ngiven; i = next, g = gnext)
	{
		const char *sku = i == n || (g < ngiven && strcmp(given[g].sku, needs[i].sku) < 0) ?
			given[g].sku : needs[i].sku;

		while (next < n && strcmp(needs[next].sku, sku) == 0)
			next++;
		while (gnext < ngiven && strcmp(given[gnext].sku, sku) == 0)
			gnext++;
		/* a row may have appeared while we waited for those of the SKU before */
		if (i > 0 || g > 0)
			oe_rows_refresh(r.stock);
		reserve_sku(&r, sku, &needs[i], next - i, &given[g], gnext - g);
	}

	if (r.nshortages > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OE_INSUFFICIENT_STOCK),
				 errmsg("not enough stock"),
				 errdetail_internal("%s", oe_json_end(&r.shortages))));

	oe_ledger_end(&r.ledger);
	oe_append_end(r.reservations);
	oe_rows_close(r.stock);
	CommandCounterIncrement();
}
