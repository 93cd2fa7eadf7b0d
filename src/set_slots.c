/*
 * set_slots.c
 *	  SQL function set_slots: split a SKU that many orders want at once, and
 *	  merge it again.
 *
 * Orders go on meanwhile.  Whoever waits for a slot that is gone looks at the
 * others; whoever had seen one slot looks again before he says "sold out".
 *
 * When slots disappear their reservations move to the slots that stay.  Their
 * rows are locked first, as everywhere, and the rows of stock then.  A reservation
 * may be made, or taken by somebody else, in between: that shows when the rows
 * that we have do not add up to what is reserved.  As waiting would now be the
 * wrong way round, everything is let go of (a subtransaction holds the locks),
 * and done again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "args.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "fmgr.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "query.h"
#include "record.h"
#include "relations.h"
#include "stock_held.h"
#include "stock_slots.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_set_slots);

typedef struct Moving
{
	int64		reservation_id;
	int16		slot;
	int32		quantity;
} Moving;

/* Waits for, and locks, what is held of a SKU at a location. */
static void
wait_for_reservations(const char *sku, const char *location)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.reservation WHERE sku = $1 AND location = $2 AND state = 'held'"
		" ORDER BY reservation_id, slot FOR UPDATE",
		2, {TEXTOID, TEXTOID}
	};
	Datum		values[2] = {CStringGetTextDatum(sku), CStringGetTextDatum(location)};

	oe_spi_connect();
	oe_query_run(&query, values, NULL, false, SPI_OK_SELECT);
	oe_spi_finish();
}

/*
 * Locks the same without waiting.  *total counts the units of all that could be
 * locked, *visible those of all that can be seen; the result has those of the
 * slots from "first_gone" on.
 */
static Moving *
lock_reservations(const char *sku, const char *location, int first_gone, int *count,
				  int64 *total, int64 *visible)
{
	static OeQuery lock = {
		"SELECT reservation_id, slot, quantity FROM order_engine.reservation"
		" WHERE sku = $1 AND location = $2 AND state = 'held' FOR UPDATE SKIP LOCKED",
		2, {TEXTOID, TEXTOID}
	};
	static OeQuery look = {
		"SELECT coalesce(pg_catalog.sum(quantity), 0)::bigint FROM order_engine.reservation"
		" WHERE sku = $1 AND location = $2 AND state = 'held'",
		2, {TEXTOID, TEXTOID}
	};
	Datum		values[2] = {CStringGetTextDatum(sku), CStringGetTextDatum(location)};
	MemoryContext caller = CurrentMemoryContext;
	Moving	   *moving;
	uint64		n;
	bool		isnull;

	*count = 0;
	*total = 0;
	oe_spi_connect();
	n = oe_query_run(&lock, values, NULL, false, SPI_OK_SELECT);
	moving = MemoryContextAlloc(caller, Max(n, 1) * sizeof(Moving));
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Moving		m;

		m.reservation_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		m.slot = DatumGetInt16(SPI_getbinval(tuple, desc, 2, &isnull));
		m.quantity = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
		*total += m.quantity;
		if (m.slot >= first_gone)
			moving[(*count)++] = m;
	}
	oe_query_run(&look, values, NULL, false, SPI_OK_SELECT);
	*visible = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	oe_spi_finish();
	return moving;
}

static bool
find_reservation(OeRows *reservations, const char *sku, const char *location, int64 reservation_id, int slot)
{
	Datum		keys[4];

	keys[0] = Int64GetDatum(reservation_id);
	keys[1] = CStringGetTextDatum(sku);
	keys[2] = CStringGetTextDatum(location);
	keys[3] = Int16GetDatum((int16) slot);
	return oe_rows_find(reservations, keys);
}

/*
 * Moves a row of a reservation to one of the slots that stay, and returns which:
 * one where the reservation has no row, else one whose row can take the units.
 * A row that was lost must stay what it is.
 */
static int
move_reservation(OeRows *reservations, const char *sku, const char *location, const Moving *m, int nslots)
{
	static const AttrNumber slot_attnum = Anum_reservation_slot;
	static const AttrNumber attnums[] = {
		Anum_reservation_quantity, Anum_reservation_shipped, Anum_reservation_expires_at,
		Anum_reservation_state
	};
	Datum		values[lengthof(attnums)];
	bool		nulls[lengthof(attnums)] = {false};
	ItemPointerData tid;
	int			target = -1;
	int			shipped;

	for (int i = 0; i < nslots; i++)
	{
		int			slot = (m->slot + i) % nslots;

		if (!find_reservation(reservations, sku, location, m->reservation_id, slot))
		{
			Datum		value = Int16GetDatum((int16) slot);

			if (!find_reservation(reservations, sku, location, m->reservation_id, m->slot))
				elog(ERROR, "a row of reservation " INT64_FORMAT " vanished", m->reservation_id);
			tid = reservations->slot->tts_tid;
			oe_rows_update(reservations, &tid, 1, &slot_attnum, &value, NULL);
			return slot;
		}
		if (target < 0 && (oe_held_state_is(reservations, "held") || oe_held_state_is(reservations, "committed")))
			target = slot;
	}
	if (target < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("reservation " INT64_FORMAT " is held in a slot that would disappear, and lost in all others",
						m->reservation_id),
				 errhint("Release it, or try again when it has expired.")));

	if (!find_reservation(reservations, sku, location, m->reservation_id, m->slot))
		elog(ERROR, "a row of reservation " INT64_FORMAT " vanished", m->reservation_id);
	shipped = DatumGetInt32(oe_rows_get(reservations, Anum_reservation_shipped));
	values[2] = slot_getattr(reservations->slot, Anum_reservation_expires_at, &nulls[2]);
	tid = reservations->slot->tts_tid;
	oe_rows_delete(reservations, &tid);

	(void) find_reservation(reservations, sku, location, m->reservation_id, target);
	tid = reservations->slot->tts_tid;
	if (oe_rows_lock(reservations, &tid, LockWaitBlock, true) != OE_ROW_LOCKED)
		elog(ERROR, "a row of reservation " INT64_FORMAT " vanished", m->reservation_id);
	tid = reservations->slot->tts_tid;
	values[0] = Int32GetDatum(m->quantity + DatumGetInt32(oe_rows_get(reservations, Anum_reservation_quantity)));
	values[1] = Int32GetDatum(shipped + DatumGetInt32(oe_rows_get(reservations, Anum_reservation_shipped)));
	values[3] = CStringGetTextDatum("held");
	oe_rows_update(reservations, &tid, lengthof(attnums), attnums, values, nulls);
	return target;
}

/* The slots that disappear give what they have to the others. */
static void
remove_slots(OeRows *stock, OeLedger *ledger, const char *sku, const char *location,
			 OeStockRow *slots, int n, int nslots, const Moving *moving, int nmoving)
{
	OeRows	   *reservations;

	for (int i = nslots; i < n; i++)
	{
		if (slots[i].on_hand != 0 || slots[i].reserved != 0)
			oe_ledger_add(ledger, 0, "move", NULL, sku, location, slots[i].slot,
						  -slots[i].on_hand, -slots[i].reserved);
		oe_rows_delete(stock, &slots[i].tid);
	}
	reservations = oe_rows_open(oe_relid(OE_REL_RESERVATION), RowExclusiveLock, 4, NULL);
	for (int i = 0; i < nmoving; i++)
	{
		int			target;

		CHECK_FOR_INTERRUPTS();
		target = move_reservation(reservations, sku, location, &moving[i], nslots);
		slots[target].reserved += moving[i].quantity;
		slots[target].take += moving[i].quantity;
		/* the next one may be of the same reservation */
		CommandCounterIncrement();
		oe_rows_refresh(reservations);
	}
	oe_rows_close(reservations);
	for (int i = 0; i < nslots; i++)
	{
		if (slots[i].take != 0)
			oe_ledger_add(ledger, 0, "move", NULL, sku, location, slots[i].slot, 0, slots[i].take);
	}
}

static void
add_slots(const char *sku, const char *location, int first, int nslots)
{
	static OeQuery query = {
		"INSERT INTO order_engine.stock (sku, location, slot)"
		" SELECT $1, $2, n FROM pg_catalog.generate_series($3, $4 - 1) AS n",
		4, {TEXTOID, TEXTOID, INT4OID, INT4OID}
	};
	Datum		values[4];

	values[0] = CStringGetTextDatum(sku);
	values[1] = CStringGetTextDatum(location);
	values[2] = Int32GetDatum(first);
	values[3] = Int32GetDatum(nslots);
	oe_spi_connect();
	oe_query_run(&query, values, NULL, false, SPI_OK_INSERT);
	oe_spi_finish();
}

/* False when it must be tried again. */
static bool
try_set_slots(const char *sku, const char *location, int nslots)
{
	OeRows	   *stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	Moving	   *moving = NULL;
	int			nmoving = 0;
	OeStockRow *slots;
	int			n;
	OeSlotTotals totals;
	OeLedger	ledger;

	(void) oe_stock_load(stock, sku, location, &n);
	if (n > nslots)
		wait_for_reservations(sku, location);
	slots = oe_slots_lock(stock, sku, location, true, &n);

	/* slots made by hand may have any numbers */
	if (slots[n - 1].slot != n - 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("slots of \"%s\" at \"%s\" are not numbered from 0 without a gap", sku, location)));
	totals = oe_slots_sum(slots, n);
	if (n > nslots)
	{
		int64		locked;
		int64		visible;

		moving = lock_reservations(sku, location, nslots, &nmoving, &locked, &visible);
		if (visible != totals.reserved)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("counters of stock \"%s\" at \"%s\" do not fit its reservations", sku, location),
					 errhint("order_engine.verify_stock() lists what differs.")));
		if (locked != totals.reserved)
		{
			oe_rows_close(stock);
			return false;
		}
	}

	oe_ledger_begin(&ledger, GetCurrentTimestamp());
	if (n > nslots)
		remove_slots(stock, &ledger, sku, location, slots, n, nslots, moving, nmoving);
	else if (n < nslots)
	{
		add_slots(sku, location, n, nslots);
		oe_rows_refresh(stock);
		slots = oe_slots_lock(stock, sku, location, true, &n);
	}
	oe_slots_spread(stock, &ledger, sku, location, slots, nslots, totals);
	oe_ledger_end(&ledger);
	oe_rows_close(stock);
	CommandCounterIncrement();
	return true;
}

/* One attempt, in a subtransaction of its own; all locks are gone when it fails. */
static bool
attempt_set_slots(const char *sku, const char *location, int nslots)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		done = try_set_slots(sku, location, nslots);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* whoever catches the error further up knows nothing of this subtransaction */
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();

	if (done)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

Datum
oe_set_slots(PG_FUNCTION_ARGS)
{
	const char *sku = oe_arg_name(fcinfo, 0, "sku");
	const char *location = oe_arg_name(fcinfo, 1, "location");
	JsonbParseState *state = NULL;
	OeIdempotency call;
	OeRows	   *products;
	OeProduct	product;
	char	   *stored;
	int32		nslots;

	oe_arg_require(fcinfo, 2, "slots");
	nslots = PG_GETARG_INT32(2);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_text(&state, "sku", sku);
	oe_jsonb_push_text(&state, "location", location);
	oe_jsonb_push_int64(&state, "slots", nslots);
	if (oe_idempotency_begin(&call, "set_slots", oe_arg_text_or_null(fcinfo, 3),
							 JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), &stored))
		PG_RETURN_INT32(pg_strtoint32(stored));
	PreventCommandIfReadOnly("set_slots()");

	if (nslots < 1 || nslots > OE_MAX_SLOTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be between 1 and %d", "slots", OE_MAX_SLOTS)));
	products = oe_products_open();
	if (!oe_product_find(products, sku, &product))
		oe_unknown_skus(&sku, 1);
	oe_rows_close(products);
	oe_stock_require_location(location);
	if (oe_idempotency_claim(&call, psprintf("%d", nslots), &stored))
		PG_RETURN_INT32(pg_strtoint32(stored));

	while (!attempt_set_slots(sku, location, nslots))
		CHECK_FOR_INTERRUPTS();
	PG_RETURN_INT32(nslots);
}
