/*
 * database_ddl.c
 *	  Keep the workers out of the way of commands on whole databases.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME or SET TABLESPACE and CREATE DATABASE
 * ... TEMPLATE refuse a database that anybody is connected to.  Its workers are
 * connected all the time, so before such a command they are asked to end, and the
 * launcher not to start them until the command is over.  Should the command's
 * session be terminated in the middle, the launcher's patience ends by itself.
 *
 * Only for who may do the command: for anybody else the workers go on and the
 * command fails as it would have.  It also fails when others are connected and do
 * not leave within the seconds that the server waits for them: so then the workers
 * are not told but look themselves, and end when nobody else is there any more.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "database_ddl.h"
#include "launcher.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "shared.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "wakeup.h"

#define HOLD_MS			60000	/* the launcher waits at most so long */
#define WAIT_MS			5000	/* so long we wait for the workers to end */
#define WAIT_STEP_MS	5
#define TELL_AGAIN_MS	1000	/* a worker that still runs then is told again */

static ProcessUtility_hook_type prev_process_utility = NULL;

/* The database that nobody may be connected to, NULL: any other command. */
static const char *
database_to_be_left(Node *statement)
{
	ListCell   *lc;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			foreach(lc, ((AlterDatabaseStmt *) statement)->options)
			{
				if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
					return ((AlterDatabaseStmt *) statement)->dbname;
			}
			return NULL;
		case T_CreatedbStmt:
			foreach(lc, ((CreatedbStmt *) statement)->options)
			{
				DefElem    *option = lfirst(lc);

				if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
					return defGetString(option);
			}
			return NULL;
		default:
			return NULL;
	}
}

/* May the user do such a command?  Its own check is the one that counts. */
static bool
may_do(Oid dboid)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dboid));
	bool		may;

	if (!HeapTupleIsValid(tuple))
		return false;
	may = superuser() ||
		has_privs_of_role(GetUserId(), ((Form_pg_database) GETSTRUCT(tuple))->datdba);
	ReleaseSysCache(tuple);
	return may;
}

/* Does it end the sessions of others, too? */
static bool
is_forced(Node *statement)
{
	ListCell   *lc;

	if (!IsA(statement, DropdbStmt))
		return false;
	foreach(lc, ((DropdbStmt *) statement)->options)
	{
		if (strcmp(((DefElem *) lfirst(lc))->defname, "force") == 0)
			return true;
	}
	return false;
}

/*
 * Reads without a lock: who comes or goes meanwhile is seen the next time, and the
 * server's own look is the one that counts.  What a process leaves behind stays in
 * its place until another one takes it.
 */
bool
oe_database_in_use(OeDatabaseSlot *database)
{
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		int			pid = proc->pid;
		bool		ours = pid == 0 || pid == database->held_by;

		for (int j = 0; j < OE_MAX_WORKERS && !ours; j++)
			ours = database->workers[j].pid == pid;
		if (!ours && proc->databaseId == database->dboid && BackendPidGetProc(pid) == proc)
			return true;
	}
	return false;
}

/* Asks the workers of a database to end if "tell"; how many are there? */
static int
end_workers(OeDatabaseSlot *database, bool tell)
{
	int			n = 0;

	for (int i = 0; i < OE_MAX_WORKERS; i++)
	{
		OeWorkerSlot *slot = &database->workers[i];
		int			pid;

		SpinLockAcquire(&oe_shared->lock);
		pid = slot->pid;
		if (pid != 0)
			slot->end = OE_END_HELD;
		SpinLockRelease(&oe_shared->lock);
		if (pid == 0)
			continue;
		if (tell)
			(void) kill(pid, SIGTERM);
		n++;
	}
	return n;
}

/*
 * Has the workers of a database end, and waits for that.  They are not told all
 * the time: a signal inside a transaction ends that, too, and the last one of a
 * worker says what was delivered.
 */
static void
hold_workers(OeDatabaseSlot *database, bool forced)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz deadline = TimestampTzPlusMilliseconds(now, WAIT_MS);
	TimestampTz next_tell = now;

	SpinLockAcquire(&oe_shared->lock);
	database->held_by = MyProcPid;
	database->hold_until = TimestampTzPlusMilliseconds(now, HOLD_MS);
	SpinLockRelease(&oe_shared->lock);
	if (!forced && oe_database_in_use(database))
	{
		for (int i = 0; i < OE_MAX_WORKERS; i++)
			oe_set_latch_of(database->workers[i].procno);
		return;
	}
	for (; now < deadline; now = GetCurrentTimestamp())
	{
		bool		tell = now >= next_tell;

		if (end_workers(database, tell) == 0)
			return;
		if (tell)
			next_tell = TimestampTzPlusMilliseconds(now, TELL_AGAIN_MS);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 WAIT_STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
release_workers(OeDatabaseSlot *database)
{
	database->hold_until = 0;
	oe_wake_launcher_at_end();
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	const char *name = database_to_be_left(pstmt->utilityStmt);
	Oid			dboid = name != NULL ? get_database_oid(name, true) : InvalidOid;
	OeDatabaseSlot *database = OidIsValid(dboid) ? oe_shared_slot(dboid) : NULL;

	if (database != NULL && !may_do(dboid))
		database = NULL;

	PG_TRY();
	{
		if (database != NULL)
			hold_workers(database, is_forced(pstmt->utilityStmt));
		if (prev_process_utility)
			prev_process_utility(pstmt, query, read_only_tree, context, params, environment,
								 dest, completion);
		else
			standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment,
									dest, completion);
	}
	PG_FINALLY();
	{
		if (database != NULL)
			release_workers(database);
	}
	PG_END_TRY();
}

void
oe_database_ddl_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
