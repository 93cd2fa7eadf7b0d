/*
 * stock_row.c
 *	  Read, lock and store rows of stock, and write the ledger.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "common/int.h"
#include "context.h"
#include "miscadmin.h"
#include "relations.h"
#include "settings.h"
#include "stock_row.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* how often the holder of a row is waited for, in the hope that nobody snatches it then */
#define MAX_WAITS	8

/* by SKU, then location, with "any location" last */
static int
compare_needs(const void *a, const void *b)
{
	const OeStockNeed *left = a;
	const OeStockNeed *right = b;
	int			result = strcmp(left->sku, right->sku);

	if (result != 0)
		return result;
	if (left->location == NULL || right->location == NULL)
		return (left->location == NULL) - (right->location == NULL);
	return strcmp(left->location, right->location);
}

int
oe_needs_fold(OeStockNeed *needs, int n)
{
	int			last = 0;

	qsort(needs, n, sizeof(OeStockNeed), compare_needs);
	for (int i = 1; i < n; i++)
	{
		if (compare_needs(&needs[last], &needs[i]) != 0)
			needs[++last] = needs[i];
		else if (pg_add_s32_overflow(needs[last].quantity, needs[i].quantity, &needs[last].quantity))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("quantities of \"%s\" add up to more than %d", needs[last].sku, PG_INT32_MAX)));
	}
	return n == 0 ? 0 : last + 1;
}

static int
compare_rows(const void *a, const void *b)
{
	const OeStockRow *left = a;
	const OeStockRow *right = b;
	int			result = strcmp(left->location, right->location);

	return result != 0 ? result : (int) left->slot - (int) right->slot;
}

static void
read_counters(OeRows *stock, OeStockRow *row)
{
	row->tid = stock->slot->tts_tid;
	row->on_hand = DatumGetInt32(oe_rows_get(stock, Anum_stock_on_hand));
	row->reserved = DatumGetInt32(oe_rows_get(stock, Anum_stock_reserved));
	row->backorder_limit = DatumGetInt32(oe_rows_get(stock, Anum_stock_backorder_limit));
	row->safety_stock = DatumGetInt32(oe_rows_get(stock, Anum_stock_safety_stock));
}

OeStockRow *
oe_stock_load(OeRows *stock, const char *sku, const char *location, int *count)
{
	int			allocated = 4;
	OeStockRow *rows = palloc(allocated * sizeof(OeStockRow));
	Datum		key = CStringGetTextDatum(sku);
	int			n = 0;

	oe_rows_begin(stock, &key);
	while (oe_rows_next(stock))
	{
		char	   *where = TextDatumGetCString(oe_rows_get(stock, Anum_stock_location));

		if (location != NULL && strcmp(where, location) != 0)
			continue;
		if (n == allocated)
		{
			allocated *= 2;
			rows = repalloc(rows, allocated * sizeof(OeStockRow));
		}
		memset(&rows[n], 0, sizeof(OeStockRow));
		rows[n].sku = sku;
		rows[n].location = where;
		rows[n].slot = DatumGetInt16(oe_rows_get(stock, Anum_stock_slot));
		read_counters(stock, &rows[n]);
		n++;
	}
	if (n > 1)
		qsort(rows, n, sizeof(OeStockRow), compare_rows);
	*count = n;
	return rows;
}

/* Finds a row by its whole key; "stock" is opened with three keys. */
static bool
find_row(OeRows *stock, const char *sku, const char *location, int16 slot)
{
	Datum		keys[3];

	Assert(stock->nkeys == lengthof(keys));
	keys[0] = CStringGetTextDatum(sku);
	keys[1] = CStringGetTextDatum(location);
	keys[2] = Int16GetDatum(slot);
	return oe_rows_find(stock, keys);
}

bool
oe_stock_reload(OeRows *stock, OeStockRow *row)
{
	int			nkeys = stock->nkeys;
	bool		found;

	stock->nkeys = 3;
	found = find_row(stock, row->sku, row->location, row->slot);
	stock->nkeys = nkeys;
	if (found)
		read_counters(stock, row);
	return found;
}

/*
 * Waits for the transaction that has a row, without a lock or a pin on it: while
 * somebody has a pin the page cannot be pruned, and the versions of a hot row
 * pile up.
 */
void
oe_stock_wait(const OeStockRow *row)
{
	SnapshotData dirty;
	OeRows	   *rows;
	ItemPointerData tid;
	TransactionId holder = InvalidTransactionId;

	InitDirtySnapshot(dirty);
	rows = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 3, &dirty);
	if (find_row(rows, row->sku, row->location, row->slot))
	{
		HeapTupleHeader header = ExecFetchSlotHeapTuple(rows->slot, false, NULL)->t_data;

		/* who has changed it, else who has locked it; of several lockers there is only a MultiXactId */
		holder = dirty.xmax;
		if (!TransactionIdIsValid(holder) && (header->t_infomask & HEAP_XMAX_IS_MULTI) == 0)
			holder = HeapTupleHeaderGetRawXmax(header);
		tid = rows->slot->tts_tid;
	}
	oe_rows_end(rows);
	if (TransactionIdIsNormal(holder) && !TransactionIdIsCurrentTransactionId(holder))
		XactLockTableWait(holder, rows->rel, &tid, XLTW_Lock);
	oe_rows_close(rows);
}

/*
 * Who has to wait for a row stands in line at its gate, a lock of the lock manager,
 * and only the first one waits for the row itself.  Were all of them to wait for
 * the row, each change of it would wake every one, to wait anew for the version
 * that came into being.  The gate is let go of as soon as the row is ours.
 */
static void
set_gate(LOCKTAG *gate, const OeStockRow *row)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) row->sku, strlen(row->sku), row->slot);

	hash = hash_bytes_extended((const unsigned char *) row->location, strlen(row->location), hash);
	/* the last field keeps it apart from the advisory locks of SQL, which have 1 and 2 there */
	SET_LOCKTAG_ADVISORY(*gate, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, 0x0e);
}

void
oe_stock_enter_line(const OeStockRow *row)
{
	LOCKTAG		gate;

	set_gate(&gate, row);
	(void) LockAcquire(&gate, ExclusiveLock, false, false);
}

void
oe_stock_leave_line(const OeStockRow *row)
{
	LOCKTAG		gate;

	set_gate(&gate, row);
	(void) LockRelease(&gate, ExclusiveLock, false);
}

bool
oe_stock_lock(OeRows *stock, OeStockRow *row)
{
	OeRowLock	result = oe_rows_lock(stock, &row->tid, LockWaitSkip, true);

	if (result == OE_ROW_BUSY && !oe_lock_wait)
		result = oe_rows_lock(stock, &row->tid, LockWaitBlock, true);	/* 55P03 */
	else if (result == OE_ROW_BUSY)
	{
		oe_stock_enter_line(row);
		for (int attempt = 0; attempt < MAX_WAITS && result == OE_ROW_BUSY; attempt++)
		{
			oe_stock_wait(row);
			result = oe_rows_lock(stock, &row->tid, LockWaitSkip, true);
		}
		if (result == OE_ROW_BUSY)
			result = oe_rows_lock(stock, &row->tid, LockWaitBlock, true);
		oe_stock_leave_line(row);
	}
	if (result != OE_ROW_LOCKED)
		return false;
	read_counters(stock, row);
	return true;
}

void
oe_stock_lock_key(OeRows *stock, const char *sku, const char *location, int16 slot, OeStockRow *row)
{
	memset(row, 0, sizeof(OeStockRow));
	if (find_row(stock, sku, location, slot))
	{
		row->tid = stock->slot->tts_tid;
		row->sku = sku;
		row->location = location;
		row->slot = slot;
	}
	if (row->location == NULL || !oe_stock_lock(stock, row))
		oe_stock_row_missing(sku, location);
}

bool
oe_stock_try_key(OeRows *stock, const char *sku, const char *location, int16 slot)
{
	ItemPointerData tid;

	if (!find_row(stock, sku, location, slot))
		oe_stock_row_missing(sku, location);
	tid = stock->slot->tts_tid;
	return oe_rows_lock(stock, &tid, LockWaitSkip, true) == OE_ROW_LOCKED;
}

void
oe_stock_row_missing(const char *sku, const char *location)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("stock row of \"%s\" at \"%s\" is missing", sku, location),
			 errhint("order_engine.verify_stock() lists what differs.")));
}

void
oe_stock_store(OeRows *stock, OeStockRow *row, const char *sku, int64 on_hand, int64 reserved)
{
	static const AttrNumber attnums[] = {Anum_stock_on_hand, Anum_stock_reserved};
	Datum		values[2];

	/* reservations and counters disagree: somebody wrote to the tables by hand */
	if (on_hand < 0 || on_hand > PG_INT32_MAX ||
		reserved < 0 || reserved > on_hand + row->backorder_limit)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("counters of stock \"%s\" at \"%s\" do not fit its reservations", sku, row->location),
				 errhint("order_engine.verify_stock() lists what differs.")));

	values[0] = Int32GetDatum((int32) on_hand);
	values[1] = Int32GetDatum((int32) reserved);
	oe_rows_update(stock, &row->tid, 2, attnums, values, NULL);
	row->on_hand = (int32) on_hand;
	row->reserved = (int32) reserved;
}

void
oe_ledger_begin(OeLedger *ledger, TimestampTz at)
{
	ledger->appender = oe_append_begin(oe_relid(OE_REL_STOCK_MOVEMENT), Natts_stock_movement, OE_CHECKED);
	ledger->actor = CStringGetTextDatum(oe_context_actor());
	ledger->at = at;
}

void
oe_ledger_add(OeLedger *ledger, int64 reference_id, const char *kind, const char *reason,
			  const char *sku, const char *location, int16 slot,
			  int32 on_hand_delta, int32 reserved_delta)
{
	Datum		values[Natts_stock_movement];
	bool		nulls[Natts_stock_movement] = {false};

#define SET(column, datum) values[Anum_stock_movement_##column - 1] = (datum)
	SET(reference_id, Int64GetDatum(reference_id));
	nulls[Anum_stock_movement_reference_id - 1] = reference_id == 0;
	SET(created_at, TimestampTzGetDatum(ledger->at));
	SET(on_hand_delta, Int32GetDatum(on_hand_delta));
	SET(reserved_delta, Int32GetDatum(reserved_delta));
	SET(slot, Int16GetDatum(slot));
	SET(sku, CStringGetTextDatum(sku));
	SET(location, CStringGetTextDatum(location));
	SET(kind, CStringGetTextDatum(kind));
	SET(reason, reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason));
	nulls[Anum_stock_movement_reason - 1] = reason == NULL;
	SET(actor, ledger->actor);
#undef SET
	oe_append_row(ledger->appender, values, nulls);
}

void
oe_ledger_end(OeLedger *ledger)
{
	oe_append_end(ledger->appender);
}
