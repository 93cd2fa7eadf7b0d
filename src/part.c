/*
 * part.c
 *	  Parts of an order: read, lock, begin and change them.
 *
 * The verbs lock the order, then the part, and change the part with one UPDATE;
 * the trigger (part_trigger.c) does the rest, as it does for an UPDATE written by
 * hand.  Only that one locks the part before its order, so it may end in a
 * deadlock (40P01) where the verbs never do.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "amend.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "id.h"
#include "machine_graph.h"
#include "part.h"
#include "state_machine.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

void
oe_part_from_row(const OePartKind *kind, OePart *part, Datum *values, bool *nulls)
{
	part->kind = kind;
	part->id = DatumGetInt64(values[Anum_part_id - 1]);
	part->order_id = DatumGetInt64(values[Anum_part_order_id - 1]);
	part->machine_id = DatumGetInt32(values[Anum_part_machine_id - 1]);
	part->state = TextDatumGetCString(values[Anum_part_state - 1]);
	part->expires_at = nulls[Anum_part_expires_at - 1] ?
		DT_NOEND : DatumGetTimestampTz(values[Anum_part_expires_at - 1]);
	part->values = values;
	part->nulls = nulls;
}

static void
read_part(OeQuery *query, const OePartKind *kind, int64 id, bool read_only, OePart *part)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(id);
	TupleDesc	desc;
	HeapTuple	tuple;
	Datum	   *values;
	bool	   *nulls;

	oe_spi_connect();
	if (oe_query_run(query, &arg, NULL, read_only, SPI_OK_SELECT) != 1)
		oe_not_found(kind->name, id);
	desc = SPI_tuptable->tupdesc;
	if (desc->natts < kind->natts)
		elog(ERROR, "the table of kind \"%s\" has %d columns, not %d",
			 kind->name, desc->natts, kind->natts);
	MemoryContextSwitchTo(caller);
	tuple = heap_copytuple(SPI_tuptable->vals[0]);
	values = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(tuple, desc, values, nulls);
	oe_part_from_row(kind, part, values, nulls);
	oe_spi_finish();
}

void
oe_part_read(const OePartKind *kind, int64 id, OePart *part)
{
	read_part(kind->read, kind, id, true, part);
}

void
oe_part_lock(const OePartKind *kind, int64 id, LockWaitPolicy policy, OePart *part)
{
	Assert(policy != LockWaitSkip);
	read_part(policy == LockWaitError ? kind->lock_nowait : kind->lock, kind, id, false, part);
}

bool
oe_part_is_terminal(const OePart *part)
{
	const OeMachine *machine = oe_machine_by_id(part->machine_id);
	int			state = oe_machine_state_no(machine, part->state);

	return state >= 0 && machine->states[state].terminal;
}

void
oe_part_begin(const OePartKind *kind, int64 order_id, TimestampTz at,
			  OePart *part, Datum *values, bool *nulls)
{
	const OeMachine *machine = oe_machine_current(kind->name, "default");

	memset(part, 0, sizeof(OePart));
	part->kind = kind;
	part->id = oe_new_id();
	part->order_id = order_id;
	part->machine_id = oe_machine_id(machine);
	part->state = oe_machine_initial(machine);
	part->expires_at = oe_machine_limit_at(machine, part->state, at);

	values[Anum_part_id - 1] = Int64GetDatum(part->id);
	values[Anum_part_order_id - 1] = Int64GetDatum(order_id);
	values[Anum_part_machine_id - 1] = Int32GetDatum(part->machine_id);
	values[Anum_part_state - 1] = CStringGetTextDatum(part->state);
	values[Anum_part_state_since - 1] = TimestampTzGetDatum(at);
	values[Anum_part_expires_at - 1] = TimestampTzGetDatum(part->expires_at);
	values[Anum_part_created_at - 1] = TimestampTzGetDatum(at);
	values[Anum_part_updated_at - 1] = TimestampTzGetDatum(at);
	memset(nulls, 0, sizeof(bool) * Natts_part);
	nulls[Anum_part_expires_at - 1] = TIMESTAMP_IS_NOEND(part->expires_at);
}

void
oe_part_update(const OePart *part, OeQuery *query, Datum *values, const char *nulls,
			   const OePartUpdate *update)
{
	OeVerbCall	call = {.kind = part->kind->name, .id = part->id, .to = update->to_state,
		.reason = update->reason, .metadata = update->metadata, .details = update->details, .forced = update->forced,
	.amends = strcmp(update->to_state, part->state) == 0};

	oe_verb_begin(&call);
	PG_TRY();
	{
		oe_spi_connect();
		if (oe_query_run(query, values, nulls, false, SPI_OK_UPDATE) != 1)
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					 errmsg("another trigger suppressed the change of %s " INT64_FORMAT,
							part->kind->name, part->id)));
		oe_spi_finish();
	}
	PG_FINALLY();
	{
		oe_verb_end(&call);
	}
	PG_END_TRY();
}

char *
oe_part_apply(OeOrder *order, const OePart *part, const char *event,
			  const char *reason, Jsonb *metadata, bool forced)
{
	const OeMachine *machine = oe_machine_by_id(part->machine_id);
	const OeTransition *transition = oe_machine_find_event(machine, part->state, event);
	OePartUpdate update = {.reason = reason, .metadata = metadata, .forced = forced};
	Datum		values[2];

	if (transition == NULL)
	{
		OeInvalidTransition what = {.entity = part->kind->name, .id_is_number = true};

		if (oe_machine_event_enters(machine, event, part->state))
			return pstrdup(part->state);
		what.entity_id = psprintf(INT64_FORMAT, part->id);
		what.from = part->state;
		what.event = event;
		oe_invalid_transition(machine, &what);
	}

	update.to_state = transition->to;
	values[0] = Int64GetDatum(part->id);
	values[1] = CStringGetTextDatum(transition->to);
	oe_part_update(part, part->kind->set_state, values, NULL, &update);
	oe_order_refresh(order);
	return pstrdup(transition->to);
}

void
oe_part_event(OeOrder *order, const OePart *part, OeRecord *record)
{
	Datum		order_id = Int64GetDatum(order->order_id);

	record->last_txid = oe_order_amend(order, part->kind->roll_up, &order_id, NULL);
	record->machine_id = part->machine_id;
	if (record->from == NULL)
		record->from = record->to = part->state;
	oe_record_part_event(order, part, record);
}
