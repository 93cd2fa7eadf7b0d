/*
 * part_trigger.c
 *	  The state machine's trigger on payment, fulfillment and order_return.
 *
 * As for the order itself (order_trigger.c), an UPDATE written by hand is as
 * safe as the verb: BEFORE checks the step and stamps the row; AFTER locks the
 * order, asks the guards, applies the effects, rolls up into the order's row and
 * records the event in the order's sequence.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "amend.h"
#include "machine.h"
#include "part.h"
#include "state_machine.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

static const int identity_columns[] = {
	Anum_part_id, Anum_part_order_id, Anum_part_machine_id, Anum_part_state_since,
	Anum_part_created_at, 0
};

static void
refuse_changes(Relation rel, TupleTableSlot *oldslot, TupleTableSlot *newslot, const int *columns)
{
	for (; columns != NULL && *columns != 0; columns++)
	{
		if (!oe_same_value(oldslot, newslot, *columns))
			oe_kept_column(rel, *columns);
	}
}

static const OeTransition *
find_transition(const OePart *part, const char *from)
{
	const OeMachine *machine = oe_machine_by_id(part->machine_id);
	const OeTransition *transition = oe_machine_find_target(machine, from, part->state);

	if (transition == NULL)
	{
		OeInvalidTransition what = {.entity = part->kind->name, .id_is_number = true};

		what.entity_id = psprintf(INT64_FORMAT, part->id);
		what.from = from;
		what.to = part->state;
		oe_invalid_transition(machine, &what);
	}
	return transition;
}

HeapTuple
oe_part_check(TriggerData *trigdata, const OePartKind *kind)
{
	Relation	rel = trigdata->tg_relation;
	TupleTableSlot *oldslot = trigdata->tg_trigslot;
	TupleTableSlot *newslot = trigdata->tg_newslot;
	TimestampTz at = GetCurrentTimestamp();
	OePart		part;
	int			columns[5];
	Datum		values[5];
	bool		nulls[5] = {false};
	int			n = 0;

	slot_getallattrs(oldslot);
	slot_getallattrs(newslot);
	refuse_changes(rel, oldslot, newslot, identity_columns);
	/* the columns have NOT NULL constraints, which BEFORE triggers precede */
	if (newslot->tts_isnull[Anum_part_state - 1])
		oe_null_column(rel, Anum_part_state);
	oe_part_from_row(kind, &part, newslot->tts_values, newslot->tts_isnull);
	if (oe_verb_find_part(kind->name, part.id, part.state) == NULL)
		refuse_changes(rel, oldslot, newslot, kind->kept);

	if (!oe_same_value(oldslot, newslot, Anum_part_state))
	{
		const char *from = TextDatumGetCString(oldslot->tts_values[Anum_part_state - 1]);
		const OeTransition *transition = find_transition(&part, from);

		columns[n] = Anum_part_state_since;
		values[n++] = TimestampTzGetDatum(at);
		/* whoever changes the state may say the limit; else the machine does */
		if (oe_same_value(oldslot, newslot, Anum_part_expires_at))
		{
			TimestampTz limit = oe_machine_limit_at(oe_machine_by_id(part.machine_id), part.state, at);

			columns[n] = Anum_part_expires_at;
			nulls[n] = TIMESTAMP_IS_NOEND(limit);
			values[n++] = TimestampTzGetDatum(limit);
		}
		/* a milestone is the first time, also where a machine has a circle */
		if (transition->milestone != 0 && slot_attisnull(oldslot, transition->milestone))
		{
			columns[n] = transition->milestone;
			values[n++] = TimestampTzGetDatum(at);
		}
		/* what is over has no plans */
		if (kind->plan != 0 && oe_part_is_terminal(&part))
		{
			columns[n] = kind->plan;
			nulls[n] = true;
			values[n++] = (Datum) 0;
		}
	}
	columns[n] = Anum_part_updated_at;
	values[n++] = TimestampTzGetDatum(at);
	return heap_modify_tuple_by_cols(trigdata->tg_newtuple, RelationGetDescr(rel),
									 n, columns, values, nulls);
}

void
oe_part_record(TriggerData *trigdata, const OePartKind *kind)
{
	Relation	rel = trigdata->tg_relation;
	TupleTableSlot *oldslot = trigdata->tg_trigslot;
	TupleTableSlot *newslot = trigdata->tg_newslot;
	const OeVerbCall *call;
	const OeTransition *transition;
	OePart		part;
	OePart		before;
	OeOrder		order;
	OeRecord	record = {0};
	OeOwner		saved;

	slot_getallattrs(oldslot);
	slot_getallattrs(newslot);
	if (oe_same_value(oldslot, newslot, Anum_part_state))
		return;
	oe_part_from_row(kind, &part, newslot->tts_values, newslot->tts_isnull);
	oe_part_from_row(kind, &before, oldslot->tts_values, oldslot->tts_isnull);
	transition = find_transition(&part, before.state);
	if (part.id != before.id || part.order_id != before.order_id ||
		part.machine_id != before.machine_id)
		oe_changed_behind(rel);
	call = oe_verb_find_part(kind->name, part.id, part.state);
	if (call == NULL)
		oe_require_current(rel, newslot, Anum_part_state_since);

	record.event = transition->event;
	record.from = transition->from;
	record.to = transition->to;
	record.type = transition->type;
	record.at = DatumGetTimestampTz(part.values[Anum_part_state_since - 1]);
	if (call != NULL)
	{
		record.reason = call->reason;
		record.metadata = call->metadata;
		record.details = call->details;
		record.forced = call->forced;
	}

	oe_owner_begin(&saved, rel->rd_rel->relowner);
	oe_order_lock(part.order_id, LockWaitBlock, &order);
	if (!record.forced)
	{
		OePart		asked = part;
		OeRejection rejection;

		/* guards see the part as it is to be, but its time limit as it was */
		asked.expires_at = before.expires_at;
		if (!oe_guards_pass(transition, &order, &asked, record.at, &rejection))
			oe_guard_reject(&rejection, &order, &part, transition->event);
	}
	if (kind->apply != NULL)
		kind->apply(transition->effects, &order, &part, record.reason, record.at);
	oe_part_event(&order, &part, &record);
	if (kind->follow != NULL)
		kind->follow(transition->effects, &order, &part, record.reason, record.at);
	oe_order_follow(&order);
	oe_owner_end(&saved);
}
