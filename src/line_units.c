/*
 * line_units.c
 *	  Units of the lines of an order, or of a return: how many may be taken.
 *
 * The caller has locked the order, so what he reads is true until he commits.
 * Items of one line add up: a line that is named twice is one claim.
 */
#include "postgres.h"

#include "errors.h"
#include "line_units.h"
#include "miscadmin.h"

OeLineUnits *
oe_line_units_read(OeQuery *query, int64 id, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(id);
	OeLineUnits *lines;

	oe_spi_connect();
	*count = (int) oe_query_run(query, &arg, NULL, false, SPI_OK_SELECT);
	lines = MemoryContextAllocZero(caller, Max(*count, 1) * sizeof(OeLineUnits));
	for (int i = 0; i < *count; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		lines[i].line_no = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		lines[i].limit = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	}
	oe_spi_finish();
	return lines;
}

static void
begin_detail(OeJson *json, const OeItem *item)
{
	oe_json_begin(json);
	oe_json_int64(json, "position", item->position);
	oe_json_int64(json, "line_no", item->line_no);
}

void
oe_line_missing(const OeItem *item, const char *owner)
{
	OeJson		json;

	begin_detail(&json, item);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("item %d: the %s has no line %d", item->position, owner, item->line_no),
			 errdetail_internal("%s", oe_json_end(&json))));
}

void
oe_line_exceeded(const OeItem *item, int32 limit, const char *done)
{
	OeJson		json;

	begin_detail(&json, item);
	oe_json_int64(&json, "limit", limit);
	oe_json_int64(&json, "requested", item->quantity);
	ereport(ERROR,
			(errcode(ERRCODE_OE_AMOUNT_EXCEEDS_LIMIT),
			 errmsg("item %d: line %d has %d units that can be %s, not %d",
					item->position, item->line_no, limit, done, item->quantity),
			 errdetail_internal("%s", oe_json_end(&json))));
}

OeLineUnits *
oe_line_units_take(OeLineUnits *lines, int nlines, const OeItem *item,
				   const char *owner, const char *done)
{
	OeLineUnits *line = NULL;

	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < nlines && line == NULL; i++)
	{
		if (lines[i].line_no == item->line_no)
			line = &lines[i];
	}
	if (line == NULL)
		oe_line_missing(item, owner);
	if (item->quantity > line->limit)
		oe_line_exceeded(item, Max(line->limit, 0), done);
	line->limit -= item->quantity;
	line->taken += item->quantity;
	return line;
}

bool
oe_line_units_take_all(OeLineUnits *lines, int nlines)
{
	bool		some = false;

	for (int i = 0; i < nlines; i++)
	{
		lines[i].taken += Max(lines[i].limit, 0);
		lines[i].limit = Min(lines[i].limit, 0);
		some |= lines[i].taken > 0;
	}
	return some;
}

uint64
oe_units_update(OeQuery *query, const OePart *part)
{
	Datum		values[2] = {Int64GetDatum(part->id), Int64GetDatum(part->order_id)};
	uint64		changed;

	oe_spi_connect();
	changed = oe_query_run(query, values, NULL, false, SPI_OK_UPDATE);
	oe_spi_finish();
	return changed;
}

void
oe_units_used_up(const char *entity, int64 id, const char *effect)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_text(&json, "entity", entity);
	oe_json_int64(&json, "id", id);
	oe_json_text(&json, "guard", effect);
	oe_json_text(&json, "reason", "no units of it are left for this");
	ereport(ERROR,
			(errcode(ERRCODE_OE_GUARD_REJECTED),
			 errmsg("effect \"%s\" is not possible: no units of %s " INT64_FORMAT " are left for it",
					effect, entity, id),
			 errdetail_internal("%s", oe_json_end(&json))));
}
