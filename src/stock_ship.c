/*
 * stock_ship.c
 *	  Units leave the house: all that a reservation holds, or a part.
 *
 * The rows of the reservation are locked first, then the rows of stock in their
 * order, and only then it is decided which row gives how much: what a row has
 * promised may lie in another slot (a backorder that was delivered there), or
 * shall leave from another location.  Then the reservation moves, within the
 * same call, to where the units lie; the ledger tells both.
 */
#include "postgres.h"

#include "access/xact.h"
#include "errors.h"
#include "miscadmin.h"
#include "relations.h"
#include "stock.h"
#include "stock_held.h"
#include "utils/builtins.h"

typedef struct Ship
{
	int64		reservation_id;
	int64		reference_id;
	const char *location;		/* all leaves from there; NULL: from where it is held */
	TimestampTz at;
	OeRows	   *stock;			/* by SKU */
	OeRows	   *reservations;	/* by whole key */
	OeLedger	ledger;
	OeJson		shortages;
	int			nshortages;
} Ship;

/* A stock row, and what this call does to it. */
typedef struct Source
{
	OeStockRow	row;
	OeHeld	   *held;			/* what the reservation holds of it, or NULL */
	int32		give;			/* units that are no longer reserved here */
	int32		leave;			/* units that leave from here */
	bool		locked;
} Source;

/* What is to leave from one location. */
static int64
wanted_at(const Ship *s, const OeHeld *held, int n, const char *location)
{
	int64		wanted = 0;

	for (int i = 0; i < n; i++)
	{
		if (strcmp(s->location != NULL ? s->location : held[i].location, location) == 0)
			wanted += held[i].give;
	}
	return wanted;
}

static void
short_of(Ship *s, const char *sku, const char *location, int64 requested, int64 available)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_text(&json, "sku", sku);
	oe_json_text(&json, "location", location);
	oe_json_int64(&json, "requested", requested);
	oe_json_int64(&json, "available", available);
	oe_json_raw(&s->shortages, NULL, oe_json_end(&json));
	s->nshortages++;
}

/* The stock rows of a SKU, with what the reservation holds of each. */
static Source *
load_sources(Ship *s, OeHeld *held, int n, int *count)
{
	OeStockRow *rows = oe_stock_load(s->stock, held[0].sku, NULL, count);
	Source	   *sources = palloc0(Max(*count, 1) * sizeof(Source));
	int			next = 0;

	/* both are sorted */
	for (int i = 0; i < *count; i++)
	{
		sources[i].row = rows[i];
		if (next < n && held[next].slot == rows[i].slot &&
			strcmp(held[next].location, rows[i].location) == 0)
		{
			sources[i].held = &held[next++];
			sources[i].give = sources[i].held->give;
		}
	}
	if (next < n)
		oe_stock_row_missing(held[next].sku, held[next].location);
	return sources;
}

/* Locks, of the sources at one location, those that can matter. */
static void
lock_sources(Ship *s, Source *sources, int n, int64 wanted)
{
	int64		given = 0;
	bool		all;

	for (int i = 0; i < n; i++)
		given += sources[i].give;
	all = wanted > given;
	/* without backorders whatever a slot has promised lies in it */
	for (int i = 0; i < n; i++)
		all |= wanted > 0 && sources[i].row.backorder_limit > 0;

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (all || sources[i].give > 0)
			sources[i].locked = oe_stock_lock(s->stock, &sources[i].row);
		if (sources[i].give > 0 && !sources[i].locked)
			oe_stock_row_missing(sources[i].held->sku, sources[i].held->location);
	}
}

/* Units that lie there, and are neither leaving yet nor promised to others. */
static int64
spare_units(const Source *source)
{
	int64		promised = Max(source->row.reserved - source->give, 0);

	if (!source->locked)
		return 0;
	return Max((int64) source->row.on_hand - source->leave - promised, 0);
}

/* Decides what leaves from each of the sources at one location. */
static void
share_out(Ship *s, const char *sku, Source *sources, int n, int64 wanted)
{
	int64		rest = wanted;
	int64		given = 0;
	int64		spare = 0;

	for (int i = 0; i < n; i++)
	{
		given += sources[i].give;
		if (sources[i].locked)
			sources[i].leave = (int32) Min(Min(sources[i].give, sources[i].row.on_hand), rest);
		rest -= sources[i].leave;
	}
	for (int i = 0; i < n; i++)
	{
		spare += spare_units(&sources[i]);
		/* what was promised here may leave, whatever is kept back; what comes from elsewhere may not */
		if (wanted > given)
			spare -= sources[i].row.safety_stock;
	}
	for (int i = 0; i < n && rest > 0 && spare > 0; i++)
	{
		int64		units = Min(spare_units(&sources[i]), Min(rest, spare));

		sources[i].leave += (int32) units;
		rest -= units;
		spare -= units;
	}
	if (rest > 0)
		short_of(s, sku, sources[0].row.location, wanted, wanted - rest);
}

/* Stores what became of the reservation at one stock row. */
static void
store_reservation(Ship *s, const char *sku, const Source *source)
{
	static const AttrNumber attnums[] = {
		Anum_reservation_quantity, Anum_reservation_shipped, Anum_reservation_state
	};
	int32		quantity = source->held == NULL ? 0 : source->held->quantity - source->give;
	int32		shipped = source->leave + (source->held == NULL ? 0 : source->held->shipped);
	Datum		values[Natts_reservation] = {0};
	bool		nulls[Natts_reservation] = {false};

	if (source->held == NULL)
	{
		Datum		keys[4];
		ItemPointerData tid;

		/* nothing is held here, but something of the order may have left from here before */
		keys[0] = Int64GetDatum(s->reservation_id);
		keys[1] = CStringGetTextDatum(sku);
		keys[2] = CStringGetTextDatum(source->row.location);
		keys[3] = Int16GetDatum(source->row.slot);
		if (oe_rows_find(s->reservations, keys))
		{
			tid = s->reservations->slot->tts_tid;
			if (oe_rows_lock(s->reservations, &tid, LockWaitBlock, true) != OE_ROW_LOCKED)
				elog(ERROR, "a row of reservation " INT64_FORMAT " vanished", s->reservation_id);
			tid = s->reservations->slot->tts_tid;
			values[0] = Int32GetDatum(DatumGetInt32(oe_rows_get(s->reservations, Anum_reservation_shipped)) + shipped);
			oe_rows_update(s->reservations, &tid, 1, &attnums[1], values, NULL);
			return;
		}
#define SET(column, datum) values[Anum_reservation_##column - 1] = (datum)
		SET(reservation_id, keys[0]);
		nulls[Anum_reservation_expires_at - 1] = true;
		SET(created_at, TimestampTzGetDatum(s->at));
		SET(quantity, Int32GetDatum(0));
		SET(shipped, Int32GetDatum(shipped));
		SET(slot, keys[3]);
		SET(sku, keys[1]);
		SET(location, keys[2]);
		SET(state, CStringGetTextDatum("committed"));
		nulls[Anum_reservation_ref - 1] = true;
#undef SET
		oe_append(oe_relid(OE_REL_RESERVATION), Natts_reservation, OE_CHECKED, values, nulls);
		return;
	}

	/* it has moved away as a whole */
	if (quantity == 0 && shipped == 0)
	{
		oe_rows_delete(s->reservations, &source->held->tid);
		return;
	}
	values[0] = Int32GetDatum(quantity);
	values[1] = Int32GetDatum(shipped);
	values[2] = CStringGetTextDatum(quantity == 0 ? "committed" : "held");
	oe_rows_update(s->reservations, &source->held->tid, 3, attnums, values, NULL);
}

static void
store_source(Ship *s, const char *sku, Source *source)
{
	OeStockRow *row = &source->row;
	int32		moved = source->leave - source->give;	/* to here, or away from here */

	if (source->give == 0 && source->leave == 0)
	{
		/* it may stand in for a slot that has lost what it keeps back: see store() in stock.c */
		if (source->locked && row->safety_stock > 0)
			oe_stock_store(s->stock, row, sku, row->on_hand, row->reserved);
		return;
	}
	oe_stock_store(s->stock, row, sku, (int64) row->on_hand - source->leave,
				   (int64) row->reserved - source->give);
	if (moved != 0)
		oe_ledger_add(&s->ledger, s->reference_id, "move", NULL, sku, row->location, row->slot, 0, moved);
	if (source->leave > 0)
		oe_ledger_add(&s->ledger, s->reference_id, "ship", NULL, sku, row->location, row->slot,
					  -source->leave, -source->leave);
	store_reservation(s, sku, source);
}

/* Ships what the rows held of one SKU give. */
static void
ship_sku(Ship *s, OeHeld *held, int n)
{
	const char *sku = held[0].sku;
	Source	   *sources;
	int			nsources;
	bool		seen = false;

	sources = load_sources(s, held, n, &nsources);
	for (int pass = 0; pass <= 1; pass++)
	{
		for (int i = 0, next; i < nsources; i = next)
		{
			const char *location = sources[i].row.location;
			int64		wanted = wanted_at(s, held, n, location);

			for (next = i; next < nsources && strcmp(sources[next].row.location, location) == 0; next++)
				;
			if (pass == 0)
				lock_sources(s, &sources[i], next - i, wanted);
			else
				share_out(s, sku, &sources[i], next - i, wanted);
			seen |= s->location != NULL && strcmp(s->location, location) == 0;
		}
	}
	if (s->location != NULL && !seen)
	{
		int64		wanted = wanted_at(s, held, n, s->location);

		if (wanted > 0)
			short_of(s, sku, s->location, wanted, 0);
	}
	for (int i = 0; i < nsources && s->nshortages == 0; i++)
		store_source(s, sku, &sources[i]);
}

static void
ship_held(Ship *s, OeHeld *held, int n)
{
	s->stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	s->reservations = oe_rows_open(oe_relid(OE_REL_RESERVATION), RowExclusiveLock, 4, NULL);
	oe_ledger_begin(&s->ledger, s->at);
	oe_json_begin_array(&s->shortages);

	for (int i = 0, next; i < n; i = next)
	{
		int64		units = 0;

		for (next = i; next < n && strcmp(held[next].sku, held[i].sku) == 0; next++)
			units += held[next].give;
		if (units > 0)
			ship_sku(s, &held[i], next - i);
	}
	if (s->nshortages > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OE_INSUFFICIENT_STOCK),
				 errmsg("not enough stock on hand"),
				 errdetail_internal("%s", oe_json_end(&s->shortages))));

	oe_ledger_end(&s->ledger);
	oe_rows_close(s->reservations);
	oe_rows_close(s->stock);
	CommandCounterIncrement();
}

void
oe_stock_ship(int64 reservation_id, TimestampTz at)
{
	Ship		s = {.reservation_id = reservation_id, .reference_id = reservation_id, .at = at};
	OeRows	   *reservations = oe_held_open(RowExclusiveLock);
	OeHeld	   *held;
	int			n;
	bool		lost;

	held = oe_held_lock(reservations, reservation_id, &n, &lost);
	oe_rows_close(reservations);
	if (lost)
		oe_held_lost(reservation_id);
	ship_held(&s, held, n);
}

void
oe_stock_ship_units(int64 order_id, const char *location, OeStockNeed *needs, int n,
					int64 reference_id, TimestampTz at)
{
	Ship		s = {.reservation_id = order_id, .reference_id = reference_id,
	.location = location,.at = at};
	OeRows	   *reservations = oe_held_open(RowExclusiveLock);
	OeHeld	   *held;
	int			nheld;
	bool		lost;

	n = oe_needs_fold(needs, n);
	held = oe_held_lock(reservations, order_id, &nheld, &lost);
	oe_rows_close(reservations);
	if (!oe_held_assign(held, nheld, needs, n, location))
		oe_held_lost(order_id);
	ship_held(&s, held, nheld);
}
