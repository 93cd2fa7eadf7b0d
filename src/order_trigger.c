/*
 * order_trigger.c
 *	  The state machine's trigger on order_engine.orders.
 *
 * An UPDATE written by hand is as safe as the verb: the step must be in the
 * machine that the order pins, the guards must agree, the effects happen, and
 * history and outbox get their rows.  The columns that the engine keeps cannot
 * be changed by hand at all.
 *
 * Changes of the order row are made BEFORE, in the row that is about to be
 * stored; everything else is done AFTER, with the row that was stored.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "amend.h"
#include "effect.h"
#include "guard.h"
#include "query.h"
#include "record.h"
#include "state_machine.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

static const int milestone_columns[] = {
	Anum_orders_placed_at, Anum_orders_confirmed_at, Anum_orders_first_shipped_at,
	Anum_orders_delivered_at, Anum_orders_completed_at, Anum_orders_cancelled_at
};

static const int identity_columns[] = {
	Anum_orders_order_id, Anum_orders_machine_id
};

static const int stamp_columns[] = {
	Anum_orders_version, Anum_orders_last_txid, Anum_orders_state_since
};

/* what verbs compute from the parts of the order */
static const int roll_up_columns[] = {
	Anum_orders_on_hold, Anum_orders_authorized_total, Anum_orders_captured_total,
	Anum_orders_refunded_total, Anum_orders_charged_back_total, Anum_orders_credited_total,
	Anum_orders_payment_status, Anum_orders_fulfillment_status, Anum_orders_return_status
};

/* the columns have NOT NULL constraints, which BEFORE triggers precede */
static Datum
value_of(Relation rel, TupleTableSlot *slot, int attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);

	if (isnull)
		oe_null_column(rel, attnum);
	return value;
}

static void
refuse_changes(Relation rel, TupleTableSlot *oldslot, TupleTableSlot *newslot,
			   const int *columns, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!oe_same_value(oldslot, newslot, columns[i]))
			oe_kept_column(rel, columns[i]);
	}
}

/* The transition that an UPDATE makes; OE001 when the machine has none such. */
static const OeTransition *
find_transition(int64 order_id, int32 machine_id, const char *from, const char *to)
{
	const OeMachine *machine = oe_machine_by_id(machine_id);
	const OeTransition *transition = oe_machine_find_target(machine, from, to);

	if (transition == NULL)
	{
		OeInvalidTransition what = {.entity = "order", .id_is_number = true};

		what.entity_id = psprintf(INT64_FORMAT, order_id);
		what.from = from;
		what.to = to;
		oe_invalid_transition(machine, &what);
	}
	return transition;
}

HeapTuple
oe_order_check(TriggerData *trigdata)
{
	Relation	rel = trigdata->tg_relation;
	TupleTableSlot *oldslot = trigdata->tg_trigslot;
	TupleTableSlot *newslot = trigdata->tg_newslot;
	OeColumnChange changes[6 + OE_EFFECT_MAX_CHANGES];
	int			columns[lengthof(changes)];
	Datum		values[lengthof(changes)];
	bool		nulls[lengthof(changes)];
	int			n = 0;
	TimestampTz at = GetCurrentTimestamp();
	int64		order_id;
	int64		version;
	const OeVerbCall *call;
	bool		amends;
	bool		migrates;
	bool		same_state;

	slot_getallattrs(oldslot);
	slot_getallattrs(newslot);
	order_id = DatumGetInt64(value_of(rel, newslot, Anum_orders_order_id));
	version = DatumGetInt64(value_of(rel, oldslot, Anum_orders_version)) + 1;
	call = oe_verb_find(order_id, version);
	amends = call != NULL && call->amends;
	migrates = call != NULL && call->migrates;
	same_state = oe_same_value(oldslot, newslot, Anum_orders_state);

	if (!migrates)
		refuse_changes(rel, oldslot, newslot, identity_columns, lengthof(identity_columns));
	refuse_changes(rel, oldslot, newslot, stamp_columns, lengthof(stamp_columns));
	if (!amends)
	{
		refuse_changes(rel, oldslot, newslot, milestone_columns, lengthof(milestone_columns));
		refuse_changes(rel, oldslot, newslot, roll_up_columns, lengthof(roll_up_columns));
	}

	if (migrates)
	{
		if (!same_state)
			changes[n++] = (OeColumnChange) {Anum_orders_state_since, false, TimestampTzGetDatum(at)};
	}
	else if (!same_state)
	{
		const char *to = TextDatumGetCString(value_of(rel, newslot, Anum_orders_state));
		int32		machine_id = DatumGetInt32(value_of(rel, newslot, Anum_orders_machine_id));
		const OeTransition *transition =
			find_transition(order_id, machine_id,
							TextDatumGetCString(value_of(rel, oldslot, Anum_orders_state)), to);
		TimestampTz limit = oe_machine_limit_at(oe_machine_by_id(machine_id), to, at);

		n = oe_effects_on_row(transition->effects, order_id,
							  TextDatumGetCString(value_of(rel, oldslot, Anum_orders_fulfillment_status)),
							  TextDatumGetCString(value_of(rel, oldslot, Anum_orders_return_status)),
							  rel->rd_rel->relowner, changes);
		changes[n++] = (OeColumnChange) {Anum_orders_state_since, false, TimestampTzGetDatum(at)};
		changes[n++] = (OeColumnChange) {Anum_orders_expires_at, TIMESTAMP_IS_NOEND(limit),
			TimestampTzGetDatum(limit)};
		/* a milestone is the first time, also where a machine has a circle */
		if (transition->milestone != 0 && slot_attisnull(oldslot, transition->milestone))
			changes[n++] = (OeColumnChange) {transition->milestone, false, TimestampTzGetDatum(at)};
	}
	if (!same_state || amends)
	{
		changes[n++] = (OeColumnChange) {Anum_orders_version, false, Int64GetDatum(version)};
		changes[n++] = (OeColumnChange) {Anum_orders_last_txid, false,
			FullTransactionIdGetDatum(GetTopFullTransactionId())};
	}
	changes[n++] = (OeColumnChange) {Anum_orders_updated_at, false, TimestampTzGetDatum(at)};

	for (int i = 0; i < n; i++)
	{
		columns[i] = changes[i].attnum;
		values[i] = changes[i].value;
		nulls[i] = changes[i].isnull;
	}
	return heap_modify_tuple_by_cols(trigdata->tg_newtuple, RelationGetDescr(rel),
									 n, columns, values, nulls);
}

/*
 * Does the stored row carry the stamps that the check gives to this transition,
 * or without one to an amendment?
 */
static bool
stamps_are_ours(TupleTableSlot *oldslot, TupleTableSlot *newslot, const OeTransition *transition,
				bool migrates)
{
	const Datum *old = oldslot->tts_values;
	const Datum *new = newslot->tts_values;

#define INDEX(column) (Anum_orders_##column - 1)
	if (DatumGetInt64(new[INDEX(version)]) != DatumGetInt64(old[INDEX(version)]) + 1 ||
		!FullTransactionIdEquals(DatumGetFullTransactionId(new[INDEX(last_txid)]),
								 GetTopFullTransactionId()))
		return false;
	for (int i = 0; i < lengthof(identity_columns) && !migrates; i++)
	{
		if (!oe_same_value(oldslot, newslot, identity_columns[i]))
			return false;
	}
	for (int i = 0; i < lengthof(milestone_columns); i++)
	{
		int			column = milestone_columns[i];

		if (transition != NULL && column == transition->milestone && oldslot->tts_isnull[column - 1])
		{
			if (newslot->tts_isnull[column - 1] ||
				DatumGetTimestampTz(new[column - 1]) != DatumGetTimestampTz(new[INDEX(state_since)]))
				return false;
		}
		else if (!oe_same_value(oldslot, newslot, column) &&
				 !(transition == NULL && oldslot->tts_isnull[column - 1]))
			return false;		/* only an amendment may reach one by itself */
	}
	return true;
#undef INDEX
}

void
oe_order_record(TriggerData *trigdata)
{
	Relation	rel = trigdata->tg_relation;
	TupleTableSlot *oldslot = trigdata->tg_trigslot;
	TupleTableSlot *newslot = trigdata->tg_newslot;
	const OeVerbCall *call;
	const OeTransition *transition;
	const char *from;
	bool		migrates;
	OeOrder		order;
	OeRecord	record = {0};
	OeOwner		saved;

	slot_getallattrs(oldslot);
	slot_getallattrs(newslot);
	if (oe_same_value(oldslot, newslot, Anum_orders_state) &&
		oe_same_value(oldslot, newslot, Anum_orders_version))
		return;
	oe_order_from_row(&order, newslot->tts_values, newslot->tts_isnull);
	call = oe_verb_find(order.order_id, order.version);

	migrates = call != NULL && call->migrates;
	if (migrates || oe_same_value(oldslot, newslot, Anum_orders_state))
	{
		/* nothing happened, or a verb amends the order and records it by itself */
		if (!oe_same_value(oldslot, newslot, Anum_orders_version) &&
			!(call != NULL && call->amends && stamps_are_ours(oldslot, newslot, NULL, migrates)))
			oe_changed_behind(rel);
		return;
	}

	from = TextDatumGetCString(oldslot->tts_values[Anum_orders_state - 1]);
	transition = find_transition(order.order_id, order.machine_id, from, order.state);
	if (!stamps_are_ours(oldslot, newslot, transition, false))
		oe_changed_behind(rel);
	/* a verb changes one order, and this trigger is the first to hear of it */
	if (call == NULL)
		oe_require_current(rel, newslot, Anum_orders_version);

	record.last_txid = DatumGetFullTransactionId(oldslot->tts_values[Anum_orders_last_txid - 1]);
	record.machine_id = order.machine_id;
	record.event = transition->event;
	record.from = from;
	record.to = order.state;
	record.type = transition->type;
	record.at = DatumGetTimestampTz(newslot->tts_values[Anum_orders_state_since - 1]);
	if (call != NULL)
	{
		record.reason = call->reason;
		record.metadata = call->metadata;
		record.forced = call->forced;
	}

	/* guards see the order as it is to be, but its time limit as it was */
	order.expires_at = oldslot->tts_isnull[Anum_orders_expires_at - 1] ?
		DT_NOEND : DatumGetTimestampTz(oldslot->tts_values[Anum_orders_expires_at - 1]);

	if (transition->guards == 0 && transition->nsql_guards == 0 && transition->effects == 0 &&
		!oe_machine_has_automatic(oe_machine_by_id(order.machine_id), order.state))
	{
		oe_record_order_event(&order, &record, NULL);
		return;
	}

	oe_owner_begin(&saved, rel->rd_rel->relowner);
	if (!record.forced)
	{
		OeRejection rejection;

		if (!oe_guards_pass(transition, &order, NULL, record.at, &rejection))
			oe_guard_reject(&rejection, &order, NULL, transition->event);
	}
	oe_effects_on_lines(transition->effects, order.order_id);
	oe_record_order_event(&order, &record, NULL);
	order.expires_at = newslot->tts_isnull[Anum_orders_expires_at - 1] ?
		DT_NOEND : DatumGetTimestampTz(newslot->tts_values[Anum_orders_expires_at - 1]);
	oe_effects_on_parts(transition->effects, &order, record.reason, record.at);
	oe_effects_on_stock(transition->effects, order.order_id, record.reason, record.at);
	oe_order_follow(&order);
	oe_owner_end(&saved);
}
