/*
 * drop_guard.c
 *	  Orders are not deleted by accident.
 *
 * While order_engine.orders has rows, nothing may drop that table, however it
 * comes to that: DROP EXTENSION, DROP OWNED BY, or a CASCADE that reaches the
 * extension.  Nor may anybody truncate a table whose rows others hang on.  Both
 * need order_engine.allow_drop.
 *
 * The object access hook sees each drop whatever the command, when the table is
 * locked already: what others wrote is committed or gone, so a look is enough, and
 * nobody can place an order between the look and the drop.
 *
 * A session of a server that did not preload the library may drop the extension
 * before it has loaded it, and then there is no hook.  That is what the event
 * trigger is for: to call its function is to load the library.  It also looks
 * before the command asks for locks, so that one that is bound to be refused
 * neither waits for those who place orders nor holds them up.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "drop_guard.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "relations.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(oe_drop_guard);
PG_FUNCTION_INFO_V1(oe_truncate_guard);

static object_access_hook_type prev_object_access_hook = NULL;

/* Has it a row that is there now, whatever the snapshot of the transaction? */
static bool
has_rows(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return found;
}

static void
refuse(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg_internal("%s", why),
			 errdetail("The table order_engine.orders has rows."),
			 errhint("Save them with pg_dump; then a superuser may set order_engine.allow_drop to on in his session and repeat the command.")));
}

static void
on_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	Oid			orders;
	Oid			extension;

	if (prev_object_access_hook)
		prev_object_access_hook(access, classId, objectId, subId, arg);

	if (access != OAT_DROP || subId != 0 || oe_allow_drop ||
		(classId != RelationRelationId && classId != ExtensionRelationId))
		return;

	/*
	 * Of the extension and the table, whichever goes first still finds the other.
	 * A table of that name without the extension is none of our business.
	 */
	orders = oe_relid_missing_ok(OE_REL_ORDERS);
	if (!OidIsValid(orders) || (classId == RelationRelationId && objectId != orders))
		return;
	extension = get_extension_oid("order_engine", true);
	if (OidIsValid(extension) && (classId == RelationRelationId || objectId == extension) &&
		has_rows(orders))
		refuse("the command would drop the extension order_engine and delete all orders");
}

/* What is wrong with a command that says outright that the extension, or a table of it, shall go? */
static const char *
what_is_wrong(Node *statement)
{
	ListCell   *lc;

	if (IsA(statement, DropStmt) && ((DropStmt *) statement)->removeType == OBJECT_EXTENSION)
	{
		foreach(lc, ((DropStmt *) statement)->objects)
		{
			if (strcmp(strVal(lfirst(lc)), "order_engine") == 0)
				return "DROP EXTENSION order_engine would delete all orders";
		}
	}

	/* what is no member any more is not protected by being one; upgrade scripts know what they do */
	if (IsA(statement, AlterExtensionContentsStmt) && !creating_extension)
	{
		AlterExtensionContentsStmt *alter = (AlterExtensionContentsStmt *) statement;

		if (alter->action < 0 && strcmp(alter->extname, "order_engine") == 0 &&
			(alter->objtype == OBJECT_TABLE || alter->objtype == OBJECT_SCHEMA))
			return "ALTER EXTENSION order_engine DROP would leave orders unprotected";
	}
	return NULL;
}

/*
 * The library reads and writes its tables below the SQL level, so a column of
 * another type would be a pointer to nowhere: a crash of the server, again and
 * again.  Further columns do no harm, and a missing one is an error.
 */
static void
check_alter_table(AlterTableStmt *stmt)
{
	ListCell   *lc;
	Oid			relid;

	foreach(lc, stmt->cmds)
	{
		if (((AlterTableCmd *) lfirst(lc))->subtype == AT_AlterColumnType)
			break;
	}
	if (lc == NULL || creating_extension)
		return;
	relid = RangeVarGetRelid(stmt->relation, NoLock, true);
	if (OidIsValid(relid) &&
		getExtensionOfObject(RelationRelationId, relid) == get_extension_oid("order_engine", false))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("columns of order_engine.%s cannot change their type", get_rel_name(relid)),
				 errhint("The tables of order_engine may get further columns, but must keep their own.")));
}

/*
 * drop_guard()
 *		Event trigger: loads this library before a command that may drop the
 *		extension, and refuses one that says so, or that changes its columns.
 */
Datum
oe_drop_guard(PG_FUNCTION_ARGS)
{
	Node	   *statement;
	const char *wrong;
	Oid			orders;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("drop_guard() is the function of an event trigger")));

	statement = ((EventTriggerData *) fcinfo->context)->parsetree;
	if (IsA(statement, AlterTableStmt))
		check_alter_table((AlterTableStmt *) statement);

	wrong = what_is_wrong(statement);
	orders = oe_relid_missing_ok(OE_REL_ORDERS);
	if (wrong != NULL && !oe_allow_drop && OidIsValid(orders) &&
		ConditionalLockRelationOid(orders, AccessShareLock))
	{
		if (has_rows(orders))
			refuse(wrong);
		UnlockRelationOid(orders, AccessShareLock);
	}
	PG_RETURN_NULL();
}

/*
 * truncate_guard()
 *		Trigger BEFORE TRUNCATE of a table that must stay in step with others.
 */
Datum
oe_truncate_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("truncate_guard() is the function of a trigger BEFORE TRUNCATE")));

	if (!oe_allow_drop && has_rows(RelationGetRelid(trigdata->tg_relation)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("TRUNCATE would leave orders, stock and history contradicting each other"),
				 errdetail("The table order_engine.%s has rows that others refer to.",
						   RelationGetRelationName(trigdata->tg_relation)),
				 errhint("To delete all orders, a superuser may set order_engine.allow_drop to on in his session and truncate all of these tables together.")));
	return PointerGetDatum(NULL);
}

void
oe_drop_guard_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = on_object_access;
}
