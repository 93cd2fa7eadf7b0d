/*
 * stock_choose.c
 *	  Which stock rows serve a need.
 *
 * The rows of a SKU come in lock order, so the slots of one location are
 * neighbours.  What is kept back (safety_stock) counts for a location as a
 * whole: one slot may lack what another has too much of.
 */
#include "postgres.h"

#include "access/table.h"
#include "relations.h"
#include "stock_choose.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"

#define Anum_location_priority		4
#define DEFAULT_PRIORITY			100

enum
{
	Anum_channel_location_priority = 1,
	Anum_channel_location_channel,
	Anum_channel_location_location
};

typedef struct Place
{
	int32		priority;
	const char *name;
} Place;

/* What all slots of a location can still give. */
typedef struct Site
{
	int64		lying;			/* of what lies there */
	int64		total;			/* with what may be promised beyond it */
} Site;

static int
compare_places(const void *a, const void *b)
{
	const Place *left = a;
	const Place *right = b;

	if (left->priority != right->priority)
		return left->priority < right->priority ? -1 : 1;
	return strcmp(left->name, right->name);
}

void
oe_places_load(OePlaces *places, const char *channel)
{
	Relation	rel;
	bool		empty;
	OeRows	   *rows;
	Datum		key;
	Place	   *found;
	int			allocated = 8;
	int			n = 0;

	places->count = 0;
	places->names = NULL;
	if (channel == NULL)
		return;

	/* most shops have no rows here at all, and the size of the file is cheaper than an index */
	rel = table_open(oe_relid(OE_REL_CHANNEL_LOCATION), AccessShareLock);
	empty = RelationGetNumberOfBlocks(rel) == 0;
	table_close(rel, NoLock);
	if (empty)
		return;

	key = CStringGetTextDatum(channel);
	found = palloc(allocated * sizeof(Place));
	rows = oe_rows_open(oe_relid(OE_REL_CHANNEL_LOCATION), AccessShareLock, 1, NULL);
	oe_rows_begin(rows, &key);
	while (oe_rows_next(rows))
	{
		if (n == allocated)
		{
			allocated *= 2;
			found = repalloc(found, allocated * sizeof(Place));
		}
		found[n].priority = DatumGetInt32(oe_rows_get(rows, Anum_channel_location_priority));
		found[n++].name = TextDatumGetCString(oe_rows_get(rows, Anum_channel_location_location));
	}
	oe_rows_close(rows);
	if (n == 0)
		return;

	qsort(found, n, sizeof(Place), compare_places);
	places->count = n;
	places->names = palloc(n * sizeof(char *));
	for (int i = 0; i < n; i++)
		places->names[i] = found[i].name;
}

/* The position of a location among the places, -1 when it is not one of them. */
static int
find_place(const OePlaces *places, const char *location)
{
	for (int i = 0; i < places->count; i++)
	{
		if (strcmp(places->names[i], location) == 0)
			return i;
	}
	return -1;
}

static bool
may_serve(const OeStockRow *row, const OeStockNeed *need)
{
	return need->location == NULL ? row->any : strcmp(need->location, row->location) == 0;
}

int
oe_stock_eligible(OeStockRow *rows, int nrows, const OeStockNeed *needs, int n, const OePlaces *places)
{
	int			kept = 0;

	for (int i = 0; i < nrows; i++)
	{
		bool		useful = rows[i].given > 0;

		rows[i].any = places->count == 0 || find_place(places, rows[i].location) >= 0;
		for (int j = 0; j < n && !useful; j++)
			useful = may_serve(&rows[i], &needs[j]);
		if (useful)
			rows[kept++] = rows[i];
	}
	return kept;
}

int64
oe_stock_free_units(const OeStockRow *row)
{
	return (int64) row->on_hand - row->reserved + row->freed + row->given - row->moved - row->take;
}

bool
oe_stock_settled(const OeStockRow *rows, int nrows)
{
	for (int i = 0; i < nrows; i++)
	{
		if (oe_stock_free_units(&rows[i]) < rows[i].safety_stock)
			return false;
	}
	return true;
}

bool
oe_stock_keeps_back(const OeStockRow *rows, int nrows)
{
	for (int i = 0; i < nrows; i++)
	{
		if (rows[i].safety_stock > 0)
			return true;
	}
	return false;
}

/* priority, then most stock; within a location the fullest slot */
static int
compare_preference(const void *a, const void *b)
{
	const OeStockRow *left = *(OeStockRow *const *) a;
	const OeStockRow *right = *(OeStockRow *const *) b;
	int64		left_free = oe_stock_free_units(left);
	int64		right_free = oe_stock_free_units(right);
	int			result;

	if (left->priority != right->priority)
		return left->priority < right->priority ? -1 : 1;
	if (left->at_location != right->at_location)
		return left->at_location > right->at_location ? -1 : 1;
	if ((result = strcmp(left->location, right->location)) != 0)
		return result;
	if (left_free != right_free)
		return left_free > right_free ? -1 : 1;
	return (int) left->slot - (int) right->slot;
}

/* The end of the slots of the location that begins at row "first". */
static int
end_of_location(const OeStockRow *rows, int nrows, int first)
{
	int			next = first + 1;

	while (next < nrows && strcmp(rows[first].location, rows[next].location) == 0)
		next++;
	return next;
}

OeStockRow **
oe_stock_prefer(OeStockRow *rows, int nrows, const OePlaces *places)
{
	OeStockRow **preferred = palloc(Max(nrows, 1) * sizeof(OeStockRow *));
	OeRows	   *locations = NULL;

	for (int i = 0; i < nrows; i++)
		preferred[i] = &rows[i];
	if (nrows == 0)
		return preferred;

	for (int i = 0, next; i < nrows; i = next)
	{
		int64		at_location = 0;
		int32		priority = DEFAULT_PRIORITY;

		next = end_of_location(rows, nrows, i);
		for (int j = i; j < next; j++)
			at_location += Max(oe_stock_free_units(&rows[j]), 0) - rows[j].safety_stock;
		if (places->count > 0)
			priority = find_place(places, rows[i].location);
		else if (next - i < nrows)
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
	if (nrows > 1)
		qsort(preferred, nrows, sizeof(OeStockRow *), compare_preference);
	return preferred;
}

/* Serves the needs with what the rows are given. */
static bool
use_given(OeStockRow *rows, int nrows, const OeStockNeed *needs, int n, int32 *missing)
{
	bool		complete = true;

	for (int i = 0; i < nrows; i++)
		rows[i].moved = 0;
	for (int i = 0; i < n; i++)
	{
		missing[i] = needs[i].quantity;
		for (int j = 0; j < nrows && missing[i] > 0; j++)
		{
			int32		units = Min(rows[j].given - rows[j].moved, missing[i]);

			if (units <= 0 || !may_serve(&rows[j], &needs[i]))
				continue;
			rows[j].moved += units;
			missing[i] -= units;
		}
		if (missing[i] > 0)
			complete = false;
	}
	return complete;
}

bool
oe_stock_given_suffices(OeStockRow *rows, int nrows, const OeStockNeed *needs, int n)
{
	int32	   *missing = palloc(Max(n, 1) * sizeof(int32));
	bool		result = use_given(rows, nrows, needs, n, missing);

	pfree(missing);
	return result;
}

bool
oe_stock_distribute(OeStockRow *rows, int nrows, const OeStockNeed *needs, int n,
					const OePlaces *places, int32 *missing)
{
	OeStockRow **preferred;
	Site	   *sites = palloc0(Max(nrows, 1) * sizeof(Site));
	bool		complete = true;

	for (int i = 0; i < nrows; i++)
		rows[i].take = 0;
	if (use_given(rows, nrows, needs, n, missing))
	{
		pfree(sites);
		return true;
	}

	for (int i = 0, next; i < nrows; i = next)
	{
		next = end_of_location(rows, nrows, i);
		for (int j = i; j < next; j++)
		{
			rows[j].site = i;
			sites[i].lying += oe_stock_free_units(&rows[j]) - rows[j].safety_stock;
			sites[i].total += rows[j].backorder_limit;
		}
		sites[i].total += sites[i].lying;
	}
	preferred = oe_stock_prefer(rows, nrows, places);

	for (int i = 0; i < n; i++)
	{
		for (int beyond = 0; beyond <= 1; beyond++)
		{
			for (int j = 0; j < nrows && missing[i] > 0; j++)
			{
				OeStockRow *row = preferred[j];
				Site	   *site = &sites[row->site];
				int64		units = oe_stock_free_units(row) + (beyond ? row->backorder_limit : 0);

				units = Min(units, beyond ? site->total : site->lying);
				if (units <= 0 || !may_serve(row, &needs[i]))
					continue;
				units = Min(units, missing[i]);
				row->take += (int32) units;
				site->lying -= units;
				site->total -= units;
				missing[i] -= (int32) units;
			}
		}
		if (missing[i] > 0)
			complete = false;
	}
	pfree(preferred);
	pfree(sites);
	return complete;
}
