/*
 * stock_restock.c
 *	  Units come into the house; locations and stock rows that they come to.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "errors.h"
#include "miscadmin.h"
#include "query.h"
#include "relations.h"
#include "stock.h"
#include "stock_row.h"
#include "utils/builtins.h"

/* where stock lies as long as nobody thinks of locations */
#define DEFAULT_LOCATION	"default"

static void
make_default_location(void)
{
	static OeQuery query = {
		"INSERT INTO order_engine.location (location, name)"
		" VALUES ('" DEFAULT_LOCATION "', 'Default location') ON CONFLICT DO NOTHING",
		0, {0}
	};

	oe_spi_connect();
	oe_query_run(&query, NULL, NULL, false, SPI_OK_INSERT);
	oe_spi_finish();
}

/* Only the default location is made here: a name that is mistyped must not become one. */
void
oe_stock_require_location(const char *location)
{
	OeRows	   *rows = oe_rows_open(oe_relid(OE_REL_LOCATION), AccessShareLock, 1, NULL);
	Datum		key = CStringGetTextDatum(location);
	bool		found = oe_rows_find(rows, &key);
	OeJson		json;

	oe_rows_close(rows);
	if (found)
		return;
	if (strcmp(location, DEFAULT_LOCATION) == 0)
		make_default_location();
	else
	{
		oe_json_begin(&json);
		oe_json_text(&json, "entity", "location");
		oe_json_text(&json, "id", location);
		ereport(ERROR,
				(errcode(ERRCODE_OE_NOT_FOUND),
				 errmsg("location \"%s\" does not exist", location),
				 errdetail_internal("%s", oe_json_end(&json)),
				 errhint("Locations are made by order_engine.upsert_location().")));
	}
}

void
oe_stock_make_row(const char *sku, const char *location)
{
	static OeQuery query = {
		"INSERT INTO order_engine.stock (sku, location) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		2, {TEXTOID, TEXTOID}
	};
	Datum		values[2] = {CStringGetTextDatum(sku), CStringGetTextDatum(location)};

	oe_spi_connect();
	oe_query_run(&query, values, NULL, false, SPI_OK_INSERT);
	oe_spi_finish();
}


static int
compare_restocks(const void *a, const void *b)
{
	const OeRestock *left = a;
	const OeRestock *right = b;
	int			result = strcmp(left->sku, right->sku);

	return result != 0 ? result : strcmp(left->location, right->location);
}

void
oe_stock_too_many(const char *sku, const char *location)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("stock of \"%s\" at \"%s\" would exceed %d units", sku, location, PG_INT32_MAX)));
}

/* Locks the slot that has the fewest free units, as far as can be seen without a lock on each. */
static OeStockRow *
lock_emptiest(OeRows *stock, const char *sku, const char *location, int64 *on_hand)
{
	for (;;)
	{
		int			n;
		OeStockRow *slots;
		OeStockRow *emptiest;

		CHECK_FOR_INTERRUPTS();
		oe_rows_refresh(stock);
		slots = oe_stock_load(stock, sku, location, &n);
		if (n == 0)
		{
			oe_stock_make_row(sku, location);
			continue;
		}
		emptiest = &slots[0];
		*on_hand = 0;
		for (int i = 0; i < n; i++)
		{
			*on_hand += slots[i].on_hand;
			if ((int64) slots[i].on_hand - slots[i].reserved <
				(int64) emptiest->on_hand - emptiest->reserved)
				emptiest = &slots[i];
		}
		*on_hand -= emptiest->on_hand;
		/* gone: set_slots() took the slot away */
		if (oe_stock_lock(stock, emptiest))
		{
			*on_hand += emptiest->on_hand;
			return emptiest;
		}
	}
}

void
oe_stock_restock(const OeRestock *items, int n, int64 reference_id, const char *reason, TimestampTz at)
{
	OeRestock  *sorted = palloc(Max(n, 1) * sizeof(OeRestock));
	OeRows	   *stock;
	OeLedger	ledger;

	for (int i = 0; i < n; i++)
	{
		sorted[i] = items[i];
		oe_stock_require_location(items[i].location);
	}
	if (n > 1)
		qsort(sorted, n, sizeof(OeRestock), compare_restocks);

	stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 1, NULL);
	oe_ledger_begin(&ledger, at);
	for (int i = 0, next; i < n; i = next)
	{
		const char *sku = sorted[i].sku;
		const char *location = sorted[i].location;
		int32		units = 0;
		int64		on_hand;
		OeStockRow *slot;

		for (next = i; next < n && compare_restocks(&sorted[i], &sorted[next]) == 0; next++)
		{
			if (pg_add_s32_overflow(units, sorted[next].quantity, &units))
				oe_stock_too_many(sku, location);
		}
		if (units == 0)
			continue;
		slot = lock_emptiest(stock, sku, location, &on_hand);
		if (on_hand + units > PG_INT32_MAX ||
			(int64) slot->on_hand + slot->backorder_limit + units > PG_INT32_MAX)
			oe_stock_too_many(sku, location);
		oe_stock_store(stock, slot, sku, (int64) slot->on_hand + units, slot->reserved);
		oe_ledger_add(&ledger, reference_id, "restock", reason, sku, location, slot->slot, units, 0);
	}
	oe_ledger_end(&ledger);
	oe_rows_close(stock);
	CommandCounterIncrement();
}
