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
 *	  other orders are taken back with SKIP LOCKED.
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
#include "settings.h"
#include "stock.h"
#include "stock_row.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* how often a slot that was snatched away is looked for again, before waiting */
#define FREE_SLOT_ATTEMPTS	3

#define Anum_location_priority		4
#define DEFAULT_PRIORITY			100

typedef struct Reserve
{
	int64		reservation_id;
	const char *ref;
	TimestampTz expires_at;
	TimestampTz at;
	OeRows	   *stock;
	OeAppender *reservations;
	OeLedger	ledger;
	OeJson		shortages;
	int			nshortages;
} Reserve;

static int64
free_units(const OeStockRow *row)
{
	return (int64) row->on_hand - row->reserved + row->freed - row->take;
}

/* priority, then most stock; within a location the fullest slot */
static int
compare_preference(const void *a, const void *b)
{
	const OeStockRow *left = *(OeStockRow *const *) a;
	const OeStockRow *right = *(OeStockRow *const *) b;
	int			result;

	if (left->priority != right->priority)
		return left->priority < right->priority ? -1 : 1;
	if (left->at_location != right->at_location)
		return left->at_location > right->at_location ? -1 : 1;
	if ((result = strcmp(left->location, right->location)) != 0)
		return result;
	if (free_units(left) != free_units(right))
		return free_units(left) > free_units(right) ? -1 : 1;
	return (int) left->slot - (int) right->slot;
}

/* The rows in the order in which they are drawn from. */
static OeStockRow **
prefer(OeStockRow *rows, int nrows)
{
	OeStockRow **preferred = palloc(Max(nrows, 1) * sizeof(OeStockRow *));
	OeRows	   *locations = NULL;

	for (int i = 0; i < nrows; i++)
		preferred[i] = &rows[i];
	if (nrows < 2)
		return preferred;

	/* slots of one location are neighbours */
	for (int i = 0, next; i < nrows; i = next)
	{
		int64		at_location = 0;
		int32		priority = DEFAULT_PRIORITY;

		for (next = i; next < nrows && strcmp(rows[i].location, rows[next].location) == 0; next++)
			at_location += Max(free_units(&rows[next]), 0);
		if (next - i < nrows)
		{
			Datum		key = CStringGetTextDatum(rows[i].location);

			if (locations == NULL)
				locations = oe_rows_open(oe_relid(OE_REL_LOCATION), AccessShareLock, 1, NULL);
			if (oe_rows_find(locations, &key))
				priority = DatumGetInt32(oe_rows_get(locations, Anum_location_priority));
		}
		for (int j = i; j < next; j++)
		{
			rows[j].at_location = at_location;
			rows[j].priority = priority;
		}
	}
	if (locations != NULL)
		oe_rows_close(locations);
	qsort(preferred, nrows, sizeof(OeStockRow *), compare_preference);
	return preferred;
}

/*
 * Distributes the needs over the rows.  What lies there goes first, then what
 * may be promised beyond it.  missing[i] is what need i does not get; the result
 * tells whether all get everything.
 */
static bool
distribute(OeStockRow *rows, int nrows, const OeStockNeed *needs, int n, int32 *missing)
{
	OeStockRow **preferred;
	bool		complete = true;

	for (int i = 0; i < nrows; i++)
		rows[i].take = 0;
	preferred = prefer(rows, nrows);

	for (int i = 0; i < n; i++)
	{
		missing[i] = needs[i].quantity;
		for (int beyond = 0; beyond <= 1; beyond++)
		{
			for (int j = 0; j < nrows && missing[i] > 0; j++)
			{
				OeStockRow *row = preferred[j];
				int64		units = free_units(row) + (beyond ? row->backorder_limit : 0);

				if (units <= 0 ||
					(needs[i].location != NULL && strcmp(needs[i].location, row->location) != 0))
					continue;
				units = Min(units, missing[i]);
				row->take += (int32) units;
				missing[i] -= (int32) units;
			}
		}
		if (missing[i] > 0)
			complete = false;
	}
	pfree(preferred);
	return complete;
}

/* Stores what the rows give, and what reserves it. */
static void
store(Reserve *r, const char *sku, OeStockRow *rows, int nrows)
{
	for (int i = 0; i < nrows; i++)
	{
		OeStockRow *row = &rows[i];
		Datum		values[Natts_reservation];
		bool		nulls[Natts_reservation] = {false};

		if (row->take == 0 && row->freed == 0)
			continue;
		oe_stock_store(r->stock, row, sku, row->on_hand,
					   (int64) row->reserved - row->freed + row->take);
		if (row->take == 0)
			continue;

#define SET(column, datum) values[Anum_reservation_##column - 1] = (datum)
		SET(reservation_id, Int64GetDatum(r->reservation_id));
		SET(expires_at, TimestampTzGetDatum(r->expires_at));
		nulls[Anum_reservation_expires_at - 1] = TIMESTAMP_IS_NOEND(r->expires_at);
		SET(created_at, TimestampTzGetDatum(r->at));
		SET(quantity, Int32GetDatum(row->take));
		SET(shipped, Int32GetDatum(0));
		SET(slot, Int16GetDatum(row->slot));
		SET(sku, CStringGetTextDatum(sku));
		SET(location, CStringGetTextDatum(row->location));
		SET(state, CStringGetTextDatum("held"));
		SET(ref, r->ref == NULL ? (Datum) 0 : CStringGetTextDatum(r->ref));
		nulls[Anum_reservation_ref - 1] = r->ref == NULL;
#undef SET
		oe_append_row(r->reservations, values, nulls);
		oe_ledger_add(&r->ledger, r->reservation_id, "reserve", NULL, sku, row->location, row->slot,
					  0, row->take);
	}
}

/*
 * Takes one need from one slot that is free at this moment, without waiting.
 * False: nothing was taken and nothing is locked.
 */
static bool
take_free_slot(Reserve *r, const OeStockNeed *need)
{
	for (int attempt = 0; attempt < FREE_SLOT_ATTEMPTS; attempt++)
	{
		OeStockRow *rows;
		OeStockRow **preferred;
		int			nrows;
		int			first = 0;
		int			nslots = 0;
		bool		changed = false;

		if (attempt > 0)
			oe_rows_refresh(r->stock);
		rows = oe_stock_load(r->stock, need->sku, need->location, &nrows);
		preferred = prefer(rows, nrows);

		/* only the slots of the location whose turn it is */
		while (first < nrows && preferred[first]->at_location <= 0)
			first++;
		while (first + nslots < nrows &&
			   strcmp(preferred[first + nslots]->location, preferred[first]->location) == 0)
			nslots++;

		for (int i = 0; i < nslots; i++)
		{
			OeStockRow *row = preferred[first + (i + MyProcPid) % nslots];
			OeRowLock	lock;

			if (free_units(row) < need->quantity)
				continue;
			lock = oe_rows_lock(r->stock, &row->tid, LockWaitSkip, false);
			if (lock == OE_ROW_LOCKED)
			{
				row->take = need->quantity;
				store(r, need->sku, row, 1);
				return true;
			}
			changed |= (lock == OE_ROW_CHANGED);
		}
		if (!changed)
			return false;
	}
	return false;
}

/*
 * Marks expired reservations on these locked rows as expired, except those that
 * somebody else is just changing, and counts their units as freed.
 */
static bool
take_back_expired(Reserve *r, const char *sku, OeStockRow *rows, int nrows)
{
	static OeQuery query = {
		"WITH candidate AS ("
		"  SELECT c.reservation_id, c.sku, c.location, c.slot"
		"  FROM order_engine.reservation c"
		"  JOIN ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4)) AS stock (location, slot)"
		"    ON c.location = stock.location AND c.slot = stock.slot"
		"  WHERE c.state = 'held' AND c.expires_at <= $2 AND c.sku = $1"
		"  ORDER BY c.reservation_id"
		"  FOR UPDATE OF c SKIP LOCKED)"
		" UPDATE order_engine.reservation r SET state = 'expired'"
		" FROM candidate c"
		" WHERE r.reservation_id = c.reservation_id AND r.sku = c.sku"
		"   AND r.location = c.location AND r.slot = c.slot"
		" RETURNING r.reservation_id, r.location, r.slot, r.quantity",
		4, {TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID, INT2ARRAYOID}
	};
	Datum	   *locations = palloc(nrows * sizeof(Datum));
	Datum	   *slots = palloc(nrows * sizeof(Datum));
	Datum		values[4];
	uint64		nexpired;

	for (int i = 0; i < nrows; i++)
	{
		locations[i] = CStringGetTextDatum(rows[i].location);
		slots[i] = Int16GetDatum(rows[i].slot);
	}
	values[0] = CStringGetTextDatum(sku);
	values[1] = TimestampTzGetDatum(r->at);
	values[2] = PointerGetDatum(construct_array(locations, nrows, TEXTOID, -1, false, TYPALIGN_INT));
	values[3] = PointerGetDatum(construct_array(slots, nrows, INT2OID, 2, true, TYPALIGN_SHORT));

	oe_spi_connect();
	nexpired = oe_query_run(&query, values, NULL, false, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < nexpired; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		char	   *location = SPI_getvalue(tuple, desc, 2);
		int16		slot = DatumGetInt16(SPI_getbinval(tuple, desc, 3, &isnull));
		int32		quantity = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));

		for (int j = 0; j < nrows; j++)
		{
			if (rows[j].slot == slot && strcmp(rows[j].location, location) == 0)
			{
				rows[j].freed += quantity;
				oe_ledger_add(&r->ledger, id, "expire", NULL, sku, location, slot, 0, -quantity);
			}
		}
	}
	oe_spi_finish();
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
 * Locks the rows of one SKU, leaves those of them in rows[] that are still there,
 * and distributes the needs over them.  True when all get everything.
 */
static bool
lock_and_distribute(Reserve *r, const OeStockNeed *needs, int n,
					OeStockRow *rows, int *nrows, bool lock_all, int32 *missing)
{
	const char *sku = needs[0].sku;
	bool		one_location = *nrows > 0 && strcmp(rows[0].location, rows[*nrows - 1].location) == 0;
	int			nlocked = 0;

	for (int i = 0; i < *nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (oe_stock_lock(r->stock, &rows[i], LockWaitBlock, true))
			rows[nlocked++] = rows[i];

		/* a slot that has enough makes it needless to wait for the others */
		if (!lock_all && n == 1 && one_location && nlocked > 0 &&
			free_units(&rows[nlocked - 1]) >= needs[0].quantity)
			break;
	}
	*nrows = nlocked;

	return distribute(rows, nlocked, needs, n, missing) ||
		(nlocked > 0 && take_back_expired(r, sku, rows, nlocked) &&
		 distribute(rows, nlocked, needs, n, missing));
}

/* Reserves the needs for one SKU. */
static void
reserve_sku(Reserve *r, OeStockNeed *needs, int n)
{
	const char *sku = needs[0].sku;
	/* one need may name the only location that matters; of several, "any" is the last */
	const char *location = n == 1 ? needs[0].location : NULL;
	OeStockRow *rows;
	int			nrows;
	bool		complete;
	int32	   *missing = palloc(n * sizeof(int32));

	rows = oe_stock_load(r->stock, sku, location, &nrows);
	if (n == 1 && nrows > 1 && r->nshortages == 0 && take_free_slot(r, &needs[0]))
		return;

	complete = lock_and_distribute(r, needs, n, rows, &nrows, false, missing);
	if (!complete && !IsolationUsesXactSnapshot())
	{
		/* while we waited, a row at another location may have appeared */
		const OeStockRow *earlier = rows;
		int			nearlier = nrows;

		oe_rows_refresh(r->stock);
		rows = oe_stock_load(r->stock, sku, location, &nrows);
		for (int i = 0; i < nrows; i++)
		{
			for (int j = 0; j < nearlier; j++)
			{
				if (rows[i].slot == earlier[j].slot &&
					strcmp(rows[i].location, earlier[j].location) == 0)
					rows[i].freed = earlier[j].freed;
			}
		}
		complete = lock_and_distribute(r, needs, n, rows, &nrows, true, missing);
	}
	if (!complete)
		report_shortages(r, needs, n, missing);

	/* after a shortage nothing is stored any more, but every SKU is looked at */
	if (r->nshortages == 0)
		store(r, sku, rows, nrows);
}

TimestampTz
oe_hold_until(const Interval *hold_for, const char *argname, TimestampTz at)
{
	TimestampTz until;

	double		seconds;

	if (hold_for == NULL)
		return TimestampTzPlusMilliseconds(at, (int64) oe_hold_time * 1000);

	/* roughly first, for the addition may overflow */
	seconds = (hold_for->month * 30.0 + hold_for->day) * SECS_PER_DAY +
		hold_for->time / (double) USECS_PER_SEC;
	until = at;
	if (seconds > 0 && seconds <= OE_MAX_HOLD_TIME)
		until = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														TimestampTzGetDatum(at),
														IntervalPGetDatum(hold_for)));
	if (until <= at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be longer than 0 and at most %d days",
						argname, OE_MAX_HOLD_TIME / SECS_PER_DAY)));
	return until;
}

char *
oe_hold_text(const Interval *hold_for)
{
	return hold_for == NULL ? NULL :
		psprintf("%d %d " INT64_FORMAT, hold_for->month, hold_for->day, hold_for->time);
}

void
oe_stock_reserve(int64 reservation_id, const char *ref, OeStockNeed *needs, int n,
				 TimestampTz expires_at, TimestampTz at)
{
	Reserve		r = {0};

	n = oe_needs_fold(needs, n);
	if (n == 0)
		return;

	r.reservation_id = reservation_id;
	r.ref = ref;
	r.expires_at = expires_at;
	r.at = at;
	oe_json_begin_array(&r.shortages);
	r.stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	r.reservations = oe_append_begin(oe_relid(OE_REL_RESERVATION), Natts_reservation, OE_CHECKED);
	oe_ledger_begin(&r.ledger, at);

	for (int i = 0, next; i < n; i = next)
	{
		for (next = i + 1; next < n && strcmp(needs[i].sku, needs[next].sku) == 0; next++)
			;
		/* a row may have appeared while we waited for those of the SKU before */
		if (i > 0)
			oe_rows_refresh(r.stock);
		reserve_sku(&r, &needs[i], next - i);
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
