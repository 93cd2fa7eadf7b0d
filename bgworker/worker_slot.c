/*
 * worker_slot.c
 *	  Which worker this process is: its place in shared memory and its shards.
 *
 * Lifecycle: a worker takes its slot, connects to the database, locks its shards,
 * and has both until it ends.  The slot tells others where it is (who has events
 * for it, a command that needs the database for itself, the launcher); the locks
 * make it the only one of its shards, also without shared memory.
 *
 * When there shall be more or fewer workers, each of the old set ends on its own,
 * and none of the new one starts before the last of the old has ended: two sets at
 * a time would have two workers for a shard, or none.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "compat.h"
#include "launcher.h"
#include "miscadmin.h"
#include "settings.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/timestamp.h"
#include "wakeup.h"
#include "worker_slot.h"

uint32		oe_my_shards = OE_ALL_SHARDS;
int			oe_my_index = 0;
int			oe_my_count = 1;

OeWorkerSlot *oe_my_slot = NULL;
OeDatabaseSlot *oe_my_database = NULL;

static bool
started_by_launcher(void)
{
	OeWorkerArgs args;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	return strcmp(args.started_by, OE_BY_LAUNCHER) == 0;
}

static void
on_exit_release_slot(int code, Datum arg)
{
	SpinLockAcquire(&oe_shared->lock);
	oe_my_slot->procno = OE_NO_PROC;
	oe_my_slot->pid = 0;
	oe_my_slot->shards = 0;
	pg_atomic_write_u32(&oe_my_slot->in_flight, 0);
	SpinLockRelease(&oe_shared->lock);

	/* it may wait for the last of a set, and not be the launcher that started it */
	oe_set_latch_of(oe_shared->launcher_procno);
}

void
oe_worker_take_slot(Oid dboid, int index, int count)
{
	OeDatabaseSlot *database = oe_shared_claim_slot(dboid);
	OeWorkerSlot *slot;
	TimestampTz hold_until;
	bool		taken = false;

	oe_my_index = index;
	oe_my_count = count;
	oe_my_shards = oe_shards_of(index, count);
	if (database == NULL)
		return;

	slot = &database->workers[index];
	SpinLockAcquire(&oe_shared->lock);
	hold_until = database->hold_until;
	for (int i = 0; i < OE_MAX_WORKERS; i++)
	{
		OeWorkerSlot *other = &database->workers[i];

		if (other->pid != 0 && (i == index || other->count != count))
			taken = true;
	}
	if (!taken)
	{
		slot->pid = MyProcPid;
		slot->procno = oe_compat_my_procno();
		slot->count = count;
		slot->shards = oe_my_shards;
	}
	SpinLockRelease(&oe_shared->lock);

	if (taken)
	{
		ereport(LOG,
				(errmsg("order_engine: another worker serves database %u already", dboid)));
		proc_exit(0);
	}
	oe_my_database = database;
	oe_my_slot = slot;
	before_shmem_exit(on_exit_release_slot, (Datum) 0);

	if (hold_until > GetCurrentTimestamp())
	{
		slot->end = OE_END_HELD;
		proc_exit(0);
	}

	/* the setting changed since the launcher looked; nobody will tell us again */
	if (started_by_launcher() && count != oe_workers)
	{
		slot->end = OE_END_RESHARD;
		proc_exit(0);
	}
}

/*
 * They are advisory locks because the server releases those of a session
 * whichever way the process ends; a session's lock of the other kind would stay
 * behind.  The functions for advisory locks cannot take them: their last field is
 * none of theirs.
 */
void
oe_worker_lock_shards(void)
{
	Oid			extoid;

	StartTransactionCommand();
	extoid = get_extension_oid("order_engine", true);
	CommitTransactionCommand();
	if (!OidIsValid(extoid))
	{
		if (oe_my_slot != NULL)
			oe_my_slot->end = OE_END_NO_EXTENSION;
		proc_exit(0);
	}
	for (int shard = 0; shard < OE_SHARDS; shard++)
	{
		LOCKTAG		tag;

		if ((oe_my_shards & ((uint32) 1 << shard)) == 0)
			continue;
		OE_SET_LOCKTAG_SHARD(tag, extoid, shard);
		if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		{
			ereport(LOG,
					(errmsg("order_engine: another worker serves this database already")));
			proc_exit(0);
		}
	}
}

bool
oe_worker_is_superfluous(void)
{
	MemoryContext caller = CurrentMemoryContext;
	char	   *name;
	bool		listed;

	/* who started one by hand ends it by hand */
	if (!started_by_launcher())
		return false;

	if (oe_workers != oe_my_count)
	{
		if (oe_my_slot != NULL)
			oe_my_slot->end = OE_END_RESHARD;
		return true;
	}
	StartTransactionCommand();
	name = get_database_name(MyDatabaseId);
	listed = name != NULL && oe_database_is_listed(name);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);	/* the end of a transaction may leave another */
	if (!listed && oe_my_slot != NULL)
		oe_my_slot->end = OE_END_RESHARD;
	return !listed;
}

bool
oe_worker_is_held(void)
{
	return oe_my_database != NULL && oe_my_database->hold_until != 0 &&
		oe_my_database->hold_until > GetCurrentTimestamp();
}

void
oe_worker_reset_counters(void)
{
	if (oe_my_slot == NULL)
		return;
	oe_my_slot->started_at = GetCurrentTimestamp();
	pg_atomic_write_u64(&oe_my_slot->reads, 0);
	pg_atomic_write_u64(&oe_my_slot->attempts, 0);
	pg_atomic_write_u64(&oe_my_slot->delivered, 0);
	pg_atomic_write_u64(&oe_my_slot->failed, 0);
	pg_atomic_write_u64(&oe_my_slot->flushes, 0);
}
