/*
 * state_machine.c
 *	  The trigger that holds every UPDATE to its state machine: entry point.
 *
 * One function serves order_engine.orders (order_trigger.c), the parts of orders
 * (part_trigger.c) and any table of the application (table_trigger.c).  It is called for each row twice: BEFORE
 * checks the step and stamps the row, AFTER sees what was stored, asks the
 * guards, applies the effects and records the event.
 *
 * Accidents survived: a trigger made by hand on the wrong event, level or table
 * or with wrong arguments is refused, not obeyed; a verb that fails midway
 * leaves no word about its UPDATE behind.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "errors.h"
#include "fmgr.h"
#include "machine_graph.h"
#include "part.h"
#include "relations.h"
#include "state_machine.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(oe_state_machine);

static const OeVerbCall *current_call = NULL;

void
oe_verb_begin(OeVerbCall *call)
{
	/* our triggers do not fire then: the state would change, and nothing be recorded */
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no event can be recorded while session_replication_role is \"replica\""),
				 errhint("Set it to \"origin\" or \"local\".")));
	call->outer = current_call;
	current_call = call;
}

void
oe_verb_end(const OeVerbCall *call)
{
	current_call = call->outer;
}

const OeVerbCall *
oe_verb_find(int64 order_id, int64 version)
{
	if (current_call != NULL && strcmp(current_call->kind, OE_KIND_ORDER) == 0 &&
		current_call->id == order_id && current_call->version == version)
		return current_call;
	return NULL;
}

const OeVerbCall *
oe_verb_find_part(const char *kind, int64 id, const char *to)
{
	if (current_call != NULL && strcmp(current_call->kind, kind) == 0 &&
		current_call->id == id && strcmp(current_call->to, to) == 0)
		return current_call;
	return NULL;
}

void
oe_invalid_transition(const OeMachine *machine, const OeInvalidTransition *what)
{
	OeJson		detail;

	oe_json_begin(&detail);
	oe_json_text(&detail, "entity", what->entity);
	if (what->id_is_number)
		oe_json_raw(&detail, "id", what->entity_id);
	else
		oe_json_text(&detail, "id", what->entity_id);
	oe_json_text(&detail, "from", what->from);
	if (what->event != NULL)
		oe_json_text(&detail, "event", what->event);
	else
		oe_json_text(&detail, "to", what->to);
	oe_json_raw(&detail, "allowed_events",
				what->from != NULL ? oe_machine_events_json(machine, what->from) : "[]");

	if (what->from == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OE_INVALID_TRANSITION),
				 errmsg("a new %s must not be in state \"%s\"", what->entity, what->to),
				 errdetail_internal("%s", oe_json_end(&detail)),
				 errhint("It starts in state \"%s\".", oe_machine_initial(machine))));
	if (what->event != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OE_INVALID_TRANSITION),
				 errmsg("event \"%s\" is not possible in state \"%s\"", what->event, what->from),
				 errdetail_internal("%s", oe_json_end(&detail))));
	ereport(ERROR,
			(errcode(ERRCODE_OE_INVALID_TRANSITION),
			 errmsg("state \"%s\" cannot become \"%s\"", what->from, what->to),
			 errdetail_internal("%s", oe_json_end(&detail))));
}

bool
oe_same_value(TupleTableSlot *a, TupleTableSlot *b, int attnum)
{
	Form_pg_attribute att = TupleDescAttr(a->tts_tupleDescriptor, attnum - 1);
	bool		anull;
	bool		bnull;
	Datum		avalue = slot_getattr(a, attnum, &anull);
	Datum		bvalue = slot_getattr(b, attnum, &bnull);

	if (anull || bnull)
		return anull && bnull;
	return datum_image_eq(avalue, bvalue, att->attbyval, att->attlen);
}

void
oe_null_column(Relation rel, int attnum)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("null value in column \"%s\" of relation \"%s\" violates not-null constraint",
					NameStr(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attname),
					RelationGetRelationName(rel)),
			 errtablecol(rel, attnum)));
}

void
oe_kept_column(Relation rel, int attnum)
{
	ereport(ERROR,
			(errcode(ERRCODE_GENERATED_ALWAYS),
			 errmsg("column \"%s\" of relation \"%s\" is kept by order_engine",
					NameStr(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attname),
					RelationGetRelationName(rel)),
			 errhint("Leave the column alone; the engine sets it."),
			 errtablecol(rel, attnum)));
}

void
oe_changed_behind(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			 errmsg("a row of relation \"%s\" was changed after its state had been checked",
					RelationGetRelationName(rel)),
			 errhint("Look for a BEFORE UPDATE trigger whose name sorts behind \"%s\".",
					 OE_TRIGGER_CHECK),
			 errtable(rel)));
}

/*
 * The row is locked by this transaction, so only another trigger of it can have
 * gone on.  Mostly none has, and then the tuple at hand tells.
 */
void
oe_require_current(Relation rel, TupleTableSlot *slot, int attnum)
{
	TupleTableSlot *latest;
	TableScanDesc scan;
	ItemPointerData tid = slot->tts_tid;
	bool		same;

	/* of a foreign table, which may be a partition, nobody here can tell the versions */
	if (rel->rd_tableam == NULL || table_tuple_satisfies_snapshot(rel, slot, SnapshotSelf))
		return;

	scan = table_beginscan_tid(rel, SnapshotSelf);
	table_tuple_get_latest_tid(scan, &tid);
	table_endscan(scan);
	latest = table_slot_create(rel, NULL);
	same = table_tuple_fetch_row_version(rel, &tid, SnapshotSelf, latest) &&
		oe_same_value(slot, latest, attnum);
	ExecDropSingleTupleTableSlot(latest);
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("a row of relation \"%s\" was changed again before its event was recorded",
						RelationGetRelationName(rel)),
				 errhint("Look for an AFTER trigger that changes other rows of the same UPDATE."),
				 errtable(rel)));
}

static void
wrong_trigger(const TriggerData *trigdata, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("trigger \"%s\" on relation \"%s\" misuses order_engine.state_machine()",
					trigdata->tg_trigger->tgname, RelationGetRelationName(trigdata->tg_relation)),
			 errdetail("%s", why),
			 errhint("Use order_engine.attach_machine().")));
}

/* Is it one of the triggers that the install script or attach_machine makes? */
static void
check_trigger(const TriggerData *trigdata, bool is_own)
{
	const Trigger *trigger = trigdata->tg_trigger;
	TriggerEvent event = trigdata->tg_event;
	bool		before = TRIGGER_FIRED_BEFORE(event);

	if (!TRIGGER_FIRED_FOR_ROW(event))
		wrong_trigger(trigdata, "It must be a trigger FOR EACH ROW.");
	if (!before && !TRIGGER_FIRED_AFTER(event))
		wrong_trigger(trigdata, "It must be a BEFORE or an AFTER trigger.");
	if (!TRIGGER_FIRED_BY_UPDATE(event) &&
		!(TRIGGER_FIRED_BY_INSERT(event) && before && !is_own))
		wrong_trigger(trigdata, "It does not serve this event.");
	if (strcmp(trigger->tgname, before ? OE_TRIGGER_CHECK : OE_TRIGGER_RECORD) != 0)
		wrong_trigger(trigdata, before ?
					  "A BEFORE trigger must have the name \"" OE_TRIGGER_CHECK "\"." :
					  "An AFTER trigger must have the name \"" OE_TRIGGER_RECORD "\".");
	if (trigger->tgdeferrable)
		wrong_trigger(trigdata, "It must not be deferrable.");
	if (is_own ? trigger->tgnargs != 0 : trigger->tgnargs != 4 && trigger->tgnargs != 5)
		wrong_trigger(trigdata, is_own ? "It takes no arguments here." :
					  "It takes the arguments kind, machine, state column, id column and, where there is one, version column.");
}

/*
 * state_machine()
 *		See the file header.
 */
Datum
oe_state_machine(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Oid			relid;
	bool		before;
	bool		is_orders;
	const OePartKind *kind = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "state_machine")));

	/* by Oid: anybody may call a table "orders" */
	relid = RelationGetRelid(trigdata->tg_relation);
	is_orders = relid == oe_relid(OE_REL_ORDERS);
	if (!is_orders)
		kind = oe_part_kind_of(relid);
	check_trigger(trigdata, is_orders || kind != NULL);

	before = TRIGGER_FIRED_BEFORE(trigdata->tg_event);
	if (is_orders)
	{
		if (before)
			return PointerGetDatum(oe_order_check(trigdata));
		oe_order_record(trigdata);
	}
	else if (kind != NULL)
	{
		if (before)
			return PointerGetDatum(oe_part_check(trigdata, kind));
		oe_part_record(trigdata, kind);
	}
	else
	{
		if (before)
			return PointerGetDatum(oe_table_check(trigdata));
		oe_table_record(trigdata);
	}
	return PointerGetDatum(NULL);
}
