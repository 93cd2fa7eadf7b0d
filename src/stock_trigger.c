/*
 * stock_trigger.c
 *	  The triggers on order_engine.reservation and order_engine.stock, which hold
 *	  statements written by hand to the rules that the verbs keep.
 *
 * The verbs write below the SQL level and never come here.  Nothing fires on
 * INSERT, so that a dump can be restored.
 *
 * A reservation that is released, expired or committed by hand gives its units
 * back, or ships them, and the ledger tells so.  What is decided from a row is
 * decided AFTER, with the row that was stored: a BEFORE trigger of somebody else
 * may have changed it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "errors.h"
#include "fmgr.h"
#include "relations.h"
#include "state_machine.h"
#include "stock_row.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_guard_reservation);
PG_FUNCTION_INFO_V1(oe_guard_stock);

#define BY_HAND	"by hand"

static const int reservation_keys[] = {
	Anum_reservation_reservation_id, Anum_reservation_sku, Anum_reservation_location,
	Anum_reservation_slot
};

static const int stock_keys[] = {
	Anum_stock_sku, Anum_stock_location, Anum_stock_slot, Anum_stock_reserved
};

static void
check_trigger(FunctionCallInfo fcinfo, OeRel rel, const char *function)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", function)));
	/* by Oid: anybody may call a table "stock" */
	if (RelationGetRelid(trigdata->tg_relation) != oe_relid(rel) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) ||
		trigdata->tg_trigger->tgnargs != 0 || trigdata->tg_trigger->tgdeferrable)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on relation \"%s\" misuses order_engine.%s()",
						trigdata->tg_trigger->tgname, RelationGetRelationName(trigdata->tg_relation),
						function),
				 errhint("The function is for the triggers that the extension made.")));
}

static void
refuse_changes(const TriggerData *trigdata, const int *columns, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!oe_same_value(trigdata->tg_trigslot, trigdata->tg_newslot, columns[i]))
			oe_kept_column(trigdata->tg_relation, columns[i]);
	}
}

static void
refuse_delete(const TriggerData *trigdata, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_GENERATED_ALWAYS),
			 errmsg("a row of relation \"%s\" %s", RelationGetRelationName(trigdata->tg_relation), why),
			 errhint("%s", hint),
			 errtable(trigdata->tg_relation)));
}

/* The columns that are read are NOT NULL, which BEFORE triggers precede. */
static Datum
get(TupleTableSlot *slot, int attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("null value in column \"%s\" violates not-null constraint",
						NameStr(TupleDescAttr(slot->tts_tupleDescriptor, attnum - 1)->attname))));
	return value;
}

static const char *
state_of(TupleTableSlot *slot)
{
	return TextDatumGetCString(get(slot, Anum_reservation_state));
}

static int32
units_of(TupleTableSlot *slot, int attnum)
{
	return DatumGetInt32(get(slot, attnum));
}

static void
refuse_state(int64 reservation_id, const char *from, const char *to)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_text(&json, "entity", "reservation");
	oe_json_int64(&json, "id", reservation_id);
	oe_json_text(&json, "from", from);
	oe_json_text(&json, "to", to);
	oe_json_raw(&json, "allowed_events",
				strcmp(from, "held") == 0 ? "[\"commit\", \"release\", \"expire\"]" : "[]");
	ereport(ERROR,
			(errcode(ERRCODE_OE_INVALID_TRANSITION),
			 errmsg("state \"%s\" cannot become \"%s\"", from, to),
			 errdetail_internal("%s", oe_json_end(&json))));
}

/* BEFORE UPDATE: what is committed is shipped. */
static HeapTuple
check_reservation(const TriggerData *trigdata)
{
	TupleTableSlot *oldslot = trigdata->tg_trigslot;
	TupleTableSlot *newslot = trigdata->tg_newslot;
	int			columns[] = {Anum_reservation_quantity, Anum_reservation_shipped};
	Datum		values[2];
	bool		nulls[2] = {false};

	refuse_changes(trigdata, columns, lengthof(columns));
	if (strcmp(state_of(oldslot), "held") != 0 || strcmp(state_of(newslot), "committed") != 0)
		return trigdata->tg_newtuple;
	values[0] = Int32GetDatum(0);
	values[1] = Int32GetDatum(units_of(oldslot, Anum_reservation_shipped) +
							  units_of(oldslot, Anum_reservation_quantity));
	return heap_modify_tuple_by_cols(trigdata->tg_newtuple, RelationGetDescr(trigdata->tg_relation),
									 lengthof(columns), columns, values, nulls);
}

/* The stock row gives up what the reservation held; "leaves" tells that it is shipped. */
static void
settle(TupleTableSlot *reservation, const char *kind, bool leaves)
{
	OeRows	   *stock = oe_rows_open(oe_relid(OE_REL_STOCK), RowExclusiveLock, 3, NULL);
	int64		id = DatumGetInt64(get(reservation, Anum_reservation_reservation_id));
	int32		units = units_of(reservation, Anum_reservation_quantity);
	const char *sku = TextDatumGetCString(get(reservation, Anum_reservation_sku));
	const char *location = TextDatumGetCString(get(reservation, Anum_reservation_location));
	int16		slot = DatumGetInt16(get(reservation, Anum_reservation_slot));
	OeStockRow	row;
	OeLedger	ledger;

	oe_stock_lock_key(stock, sku, location, slot, &row);
	if (leaves && row.on_hand < units)
	{
		OeJson		json;
		OeJson		list;

		oe_json_begin(&json);
		oe_json_text(&json, "sku", sku);
		oe_json_text(&json, "location", location);
		oe_json_int64(&json, "requested", units);
		oe_json_int64(&json, "available", row.on_hand);
		oe_json_begin_array(&list);
		oe_json_raw(&list, NULL, oe_json_end(&json));
		ereport(ERROR,
				(errcode(ERRCODE_OE_INSUFFICIENT_STOCK),
				 errmsg("not enough stock on hand"),
				 errdetail_internal("%s", oe_json_end(&list))));
	}
	oe_stock_store(stock, &row, sku, (int64) row.on_hand - (leaves ? units : 0),
				   (int64) row.reserved - units);
	oe_ledger_begin(&ledger, GetCurrentTimestamp());
	oe_ledger_add(&ledger, id, kind, BY_HAND, sku, location, slot, leaves ? -units : 0, -units);
	oe_ledger_end(&ledger);
	oe_rows_close(stock);
	/* another row of the same statement may stand on the same stock row */
	CommandCounterIncrement();
}

/* AFTER UPDATE */
static void
record_reservation(const TriggerData *trigdata)
{
	TupleTableSlot *oldslot = trigdata->tg_trigslot;
	TupleTableSlot *newslot = trigdata->tg_newslot;
	const char *from = state_of(oldslot);
	const char *to = state_of(newslot);
	bool		same = strcmp(from, to) == 0;
	bool		commits = !same && strcmp(to, "committed") == 0;
	int32		quantity = units_of(oldslot, Anum_reservation_quantity);
	int32		shipped = units_of(oldslot, Anum_reservation_shipped);

	refuse_changes(trigdata, reservation_keys, lengthof(reservation_keys));
	if (!same && strcmp(from, "held") != 0)
		refuse_state(DatumGetInt64(get(oldslot, Anum_reservation_reservation_id)), from, to);
	if (units_of(newslot, Anum_reservation_quantity) != (commits ? 0 : quantity))
		oe_kept_column(trigdata->tg_relation, Anum_reservation_quantity);
	if (units_of(newslot, Anum_reservation_shipped) != shipped + (commits ? quantity : 0))
		oe_kept_column(trigdata->tg_relation, Anum_reservation_shipped);
	if (!same)
		settle(oldslot, commits ? "ship" : strcmp(to, "expired") == 0 ? "expire" : "release", commits);
}

Datum
oe_guard_reservation(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	check_trigger(fcinfo, OE_REL_RESERVATION, "guard_reservation");
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
	{
		if (strcmp(state_of(trigdata->tg_trigslot), "held") == 0)
			refuse_delete(trigdata, "holds stock", "Release it first: set its state to \"released\".");
		return PointerGetDatum(trigdata->tg_trigtuple);
	}
	if (TRIGGER_FIRED_BEFORE(trigdata->tg_event))
		return PointerGetDatum(check_reservation(trigdata));
	record_reservation(trigdata);
	return PointerGetDatum(NULL);
}

Datum
oe_guard_stock(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleTableSlot *oldslot;
	TupleTableSlot *newslot;
	OeLedger	ledger;
	int32		delta;

	check_trigger(fcinfo, OE_REL_STOCK, "guard_stock");
	oldslot = trigdata->tg_trigslot;
	newslot = trigdata->tg_newslot;
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
	{
		if (units_of(oldslot, Anum_stock_on_hand) != 0 || units_of(oldslot, Anum_stock_reserved) != 0)
			refuse_delete(trigdata, "has units", "Take them away with order_engine.adjust_stock(), or set on_hand to 0.");
		return PointerGetDatum(trigdata->tg_trigtuple);
	}
	refuse_changes(trigdata, stock_keys, lengthof(stock_keys));
	if (TRIGGER_FIRED_BEFORE(trigdata->tg_event))
		return PointerGetDatum(trigdata->tg_newtuple);

	delta = units_of(newslot, Anum_stock_on_hand) - units_of(oldslot, Anum_stock_on_hand);
	if (delta == 0 && oe_same_value(oldslot, newslot, Anum_stock_backorder_limit))
		return PointerGetDatum(NULL);
	oe_ledger_begin(&ledger, GetCurrentTimestamp());
	oe_ledger_add(&ledger, 0, "adjust", BY_HAND,
				  TextDatumGetCString(get(newslot, Anum_stock_sku)),
				  TextDatumGetCString(get(newslot, Anum_stock_location)),
				  DatumGetInt16(get(newslot, Anum_stock_slot)), delta, 0);
	oe_ledger_end(&ledger);
	return PointerGetDatum(NULL);
}
