/*
 * drop_guard.c
 *	  Orders are not deleted by accident.
 *
 * While order_engine.orders has rows, nothing may drop that table, however it
 * comes to that: DROP EXTENSION, DROP OWNED BY, or a CASCADE that reaches the
 * extension.  Nor may anybody truncate a table whose rows others hang on.  Both
 * need order_engine.allow_drop.
 *
 * The object access hook sees each change whatever the command, when what is changed
 * is locked already: what others wrote is committed or gone, so a look is enough, and
 * nobody can place an order between the look and the drop.  A command that says
 * outright that it drops the extension is refused before it asks for any lock, so
 * that it neither waits for those who place orders nor holds them up.
 *
 * A session of a server that did not preload the library may drop the extension
 * before it has loaded it, and then there is no hook.  That is what the event
 * trigger is for: it calls load_library(), and gets over it when the file is gone,
 * for then ALTER TABLE must still work in that database.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "drop_guard.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "relations.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(oe_load_library);
PG_FUNCTION_INFO_V1(oe_truncate_guard);

static object_access_hook_type prev_object_access_hook = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

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

/* Scripts of the extension know what they do. */
static bool
in_our_script(void)
{
	return creating_extension && CurrentExtensionObject == get_extension_oid("order_engine", true);
}

/* Of the extension and the table, whichever goes first still finds the other. */
static void
check_drop(Oid classId, Oid objectId)
{
	Oid			orders = oe_relid_missing_ok(OE_REL_ORDERS);
	Oid			extension;

	/* a table of that name without the extension is none of our business */
	if (!OidIsValid(orders) || (classId == RelationRelationId && objectId != orders))
		return;
	extension = get_extension_oid("order_engine", true);
	if (OidIsValid(extension) && (classId == RelationRelationId || objectId == extension) &&
		has_rows(orders))
		refuse("the command would drop the extension order_engine and delete all orders");
}

/* Is it a member now, while the command that changes that is at work? */
static bool
is_member(Oid extension, Oid classId, Oid objectId)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(classId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(objectId));
	scan = systable_beginscan(rel, DependDependerIndexId, true, SnapshotSelf, 2, key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		found = depend->deptype == DEPENDENCY_EXTENSION && depend->refobjid == extension &&
			depend->refclassid == ExtensionRelationId;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* What is no member any more is not protected by being one. */
static void
check_alter_extension(Oid extension)
{
	Oid			orders = oe_relid_missing_ok(OE_REL_ORDERS);

	if (!OidIsValid(orders) || extension != get_extension_oid("order_engine", true) || in_our_script())
		return;
	if ((!is_member(extension, RelationRelationId, orders) ||
		 !is_member(extension, NamespaceRelationId, get_rel_namespace(orders))) &&
		has_rows(orders))
		refuse("ALTER EXTENSION order_engine DROP would leave orders unprotected");
}

/*
 * The library reads and writes its tables below the SQL level, so a column of
 * another type would be a pointer to nowhere: a crash of the server, again and
 * again.  Further columns do no harm, and a missing one is an error.
 */
static void
check_alter_column(Oid relid, AttrNumber attnum)
{
	Oid			namespace = get_namespace_oid("order_engine", true);
	Relation	rel;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		other_type = false;

	/* nearly always somebody else's */
	if (!OidIsValid(namespace) || get_rel_namespace(relid) != namespace || in_our_script())
		return;

	/* the cache has what was, the table what shall be */
	rel = table_open(AttributeRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&key[1], Anum_pg_attribute_attnum, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(attnum));
	scan = systable_beginscan(rel, AttributeRelidNumIndexId, true, SnapshotSelf, 2, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Oid			type;
		int32		typmod;
		Oid			collation;
		Form_pg_attribute att = (Form_pg_attribute) GETSTRUCT(tuple);

		get_atttypetypmodcoll(relid, attnum, &type, &typmod, &collation);
		other_type = att->atttypid != type || att->atttypmod != typmod || att->attcollation != collation;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (other_type &&
		getExtensionOfObject(RelationRelationId, relid) == get_extension_oid("order_engine", true))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("columns of order_engine.%s cannot change their type", get_rel_name(relid)),
				 errhint("The tables of order_engine may get further columns, but must keep their own.")));
}

static void
on_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, classId, objectId, subId, arg);

	if (classId != RelationRelationId && classId != ExtensionRelationId)
		return;
	if (access == OAT_DROP && subId == 0 && !oe_allow_drop)
		check_drop(classId, objectId);
	else if (access == OAT_POST_ALTER && classId == ExtensionRelationId && !oe_allow_drop)
		check_alter_extension(objectId);
	else if (access == OAT_POST_ALTER && classId == RelationRelationId && subId > 0)
		check_alter_column(objectId, subId);
}

/* May the user drop it?  The server's own check is the one that counts. */
static bool
is_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		owner;

	if (!HeapTupleIsValid(tuple))
		return false;
	owner = has_privs_of_role(GetUserId(), ((Form_pg_class) GETSTRUCT(tuple))->relowner);
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Refuses a command that is bound to be refused before it asks for locks.  Others
 * than the owner are not told whether there are orders.
 */
static void
check_drop_extension(DropStmt *stmt)
{
	ListCell   *lc;
	Oid			orders;

	foreach(lc, stmt->objects)
	{
		if (strcmp(strVal(lfirst(lc)), "order_engine") == 0)
			break;
	}
	if (lc == NULL)
		return;
	orders = oe_relid_missing_ok(OE_REL_ORDERS);
	if (OidIsValid(orders) && OidIsValid(get_extension_oid("order_engine", true)) &&
		is_owner(orders) && ConditionalLockRelationOid(orders, AccessShareLock))
	{
		if (has_rows(orders))
			refuse("DROP EXTENSION order_engine would delete all orders");
		UnlockRelationOid(orders, AccessShareLock);
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *statement = pstmt->utilityStmt;

	if (IsA(statement, DropStmt) && ((DropStmt *) statement)->removeType == OBJECT_EXTENSION &&
		!oe_allow_drop)
		check_drop_extension((DropStmt *) statement);

	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only_tree, context, params, environment,
							 dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment,
								dest, completion);
}

/*
 * load_library()
 *		Whoever has called it has loaded the library, hooks and all.
 */
Datum
oe_load_library(PG_FUNCTION_ARGS)
{
	PG_RETURN_VOID();
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

	/* those of others may be foreign or partitioned, and have no rows that could be looked at */
	if (RelationGetNamespace(trigdata->tg_relation) != get_rel_namespace(oe_relid(OE_REL_ORDERS)) ||
		trigdata->tg_relation->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("truncate_guard() is for tables of order_engine")));

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
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
