/*
 * sql_guard.c
 *	  Guards that users write in SQL: functions that get the id of a row and
 *	  return NULL, or the reason why not.
 *
 * A function is named in the definition of a machine and looked up at each call,
 * so it may be replaced at any time.  It is asked on behalf of whoever moves the
 * row, below verbs that run as the owner of the extension, mostly a superuser.
 * So it runs as its own owner, with a search_path of its own, in a
 * security-restricted operation, and may only read: it can neither act with our
 * rights, nor leave anything behind in the session, nor move the row about which
 * it is asked.
 *
 * To be run as its owner is what a function that is not SECURITY DEFINER never
 * asked for.  So who publishes a machine must have the rights of the owner.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "args.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "guard.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "part.h"
#include "query.h"
#include "sql_guard.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

bool
oe_sql_guard_parse(const char *name, OeSqlGuard *guard)
{
	List	   *parts;

	if (!SplitIdentifierString(pstrdup(name), '.', &parts) || list_length(parts) != 2)
		return false;
	guard->name = pstrdup(name);
	guard->schema = pstrdup(linitial(parts));
	guard->function = pstrdup(lsecond(parts));
	list_free(parts);
	return true;
}

/* The type of the id by which rows of a kind are named. */
static Oid
id_type(const char *kind)
{
	return strcmp(kind, OE_KIND_ORDER) == 0 || oe_part_kind(kind) != NULL ? INT8OID : TEXTOID;
}

/* The row of pg_proc, NULL when there is no such function.  Grants are not consulted. */
static HeapTuple
find_function(const OeSqlGuard *guard, Oid argtype)
{
	Oid			schema = get_namespace_oid(guard->schema, true);

	if (!OidIsValid(schema))
		return NULL;
	return SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(guard->function),
						   PointerGetDatum(buildoidvector(&argtype, 1)), ObjectIdGetDatum(schema));
}

/* Is it a function, of one result, of the right type? */
static bool
is_fit(Form_pg_proc proc)
{
	return proc->prokind == PROKIND_FUNCTION && !proc->proretset && proc->prorettype == TEXTOID;
}

static bool
may_execute(Oid role, Form_pg_proc proc)
{
	Datum		function = ObjectIdGetDatum(proc->oid);
	Datum		schema = ObjectIdGetDatum(proc->pronamespace);

	return DatumGetBool(DirectFunctionCall3(has_function_privilege_id_id, ObjectIdGetDatum(role),
											function, CStringGetTextDatum("EXECUTE"))) &&
		DatumGetBool(DirectFunctionCall3(has_schema_privilege_id_id, ObjectIdGetDatum(role),
										 schema, CStringGetTextDatum("USAGE")));
}

static void
check_function(const char *kind, const OeTransition *transition, const OeSqlGuard *guard,
			   OeFaults *faults)
{
	Oid			role = GetOuterUserId();	/* we ourselves run as the owner */
	Oid			argtype = id_type(kind);
	HeapTuple	tuple = find_function(guard, argtype);
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
	{
		oe_faults_add(faults, "event \"%s\" from \"%s\": guard \"%s\" is not there as a function of one %s",
					  transition->event, transition->from, guard->name, format_type_be(argtype));
		return;
	}
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (!is_fit(proc))
		oe_faults_add(faults, "event \"%s\" from \"%s\": guard \"%s\" is not a function that returns one text",
					  transition->event, transition->from, guard->name);
	else if (!may_execute(role, proc))
		oe_faults_add(faults, "event \"%s\" from \"%s\": role \"%s\" may not execute guard \"%s\"",
					  transition->event, transition->from, GetUserNameFromId(role, false), guard->name);
	else if (!proc->prosecdef && !has_privs_of_role(role, proc->proowner))
		oe_faults_add(faults, "event \"%s\" from \"%s\": guard \"%s\" would run as \"%s\", whose rights role \"%s\" does not have, and is not SECURITY DEFINER",
					  transition->event, transition->from, guard->name,
					  GetUserNameFromId(proc->proowner, false), GetUserNameFromId(role, false));
	ReleaseSysCache(tuple);
}

void
oe_sql_guards_check(const char *kind, const OeMachine *machine, OeFaults *faults)
{
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const OeTransition *transition = &machine->transitions[i];

		for (int j = 0; j < transition->nsql_guards; j++)
			check_function(kind, transition, &transition->sql_guards[j], faults);
	}
}

/* Calls the function; NULL for null, else its text, clipped, in the current memory context. */
static char *
call_function(Oid function, Datum id)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	flinfo;
	Datum		result;
	text	   *reason;
	int			len;

	fmgr_info(function, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, DEFAULT_COLLATION_OID, NULL, NULL);
	fcinfo->args[0].value = id;
	fcinfo->args[0].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		return NULL;
	reason = DatumGetTextPP(result);
	len = pg_mbcliplen(VARDATA_ANY(reason), VARSIZE_ANY_EXHDR(reason), OE_MAX_TEXT_BYTES);
	return pnstrdup(VARDATA_ANY(reason), len);
}

static char *
ask(const OeSqlGuard *guard, Oid argtype, Datum id)
{
	HeapTuple	tuple = find_function(guard, argtype);
	Form_pg_proc proc;
	Oid			function;
	Oid			owner;
	Oid			userid;
	int			sec_context;
	int			guc_level;
	bool		was_read_only = XactReadOnly;
	char	   *reason;

	if (!HeapTupleIsValid(tuple) || !is_fit((Form_pg_proc) GETSTRUCT(tuple)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("guard \"%s\" is not there as a function of one %s that returns one text",
						guard->name, format_type_be(argtype)),
				 errhint("Make it again, or publish a version of the machine that does without.")));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	function = proc->oid;
	owner = proc->proowner;
	ReleaseSysCache(tuple);

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(owner, (sec_context & ~SECURITY_NOFORCE_RLS) |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", OE_SAFE_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);

	/* what this statement changed is to be seen, by a STABLE function, too */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	XactReadOnly = true;
	PG_TRY();
	{
		reason = call_function(function, id);
	}
	PG_FINALLY();
	{
		XactReadOnly = was_read_only;
	}
	PG_END_TRY();
	PopActiveSnapshot();

	/* an error needs no more cleaning up: the end of the (sub)transaction does it */
	AtEOXact_GUC(false, guc_level);
	XactReadOnly = was_read_only;	/* the guard may have set it, and found it on */
	SetUserIdAndSecContext(userid, sec_context);
	return reason;
}

const char *
oe_sql_guards_ask(const OeTransition *transition, int64 id, const char *id_text, const char **name)
{
	for (int i = 0; i < transition->nsql_guards; i++)
	{
		const OeSqlGuard *guard = &transition->sql_guards[i];
		const char *reason;

		if (id_text == NULL)
			reason = ask(guard, INT8OID, Int64GetDatum(id));
		else
			reason = ask(guard, TEXTOID, CStringGetTextDatum(id_text));
		if (reason != NULL)
		{
			*name = guard->name;
			return reason;
		}
	}
	return NULL;
}
