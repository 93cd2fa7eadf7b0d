/*
 * shared.c
 *	  Shared memory of launcher, workers and the backends that wake them.
 *
 * Exists only when the library is in shared_preload_libraries; everything that
 * uses it works without, by polling.  Holds process numbers, not pointers: a
 * pointer to a process that is gone would be a crash after a commit.
 */
#include "postgres.h"

#include "health.h"
#include "miscadmin.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

OeShared   *oe_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(OeShared)));
	oe_health_shmem_request();
}

static void
shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	oe_shared = ShmemInitStruct("order_engine", sizeof(OeShared), &found);
	if (!found)
	{
		memset(oe_shared, 0, sizeof(OeShared));
		SpinLockInit(&oe_shared->lock);
		oe_shared->launcher_procno = OE_NO_PROC;
		pg_atomic_init_u32(&oe_shared->recheck, 0);
		pg_atomic_init_u64(&oe_shared->async_txid, 0);
		pg_atomic_init_u64(&oe_shared->flush_upto, 0);
		for (int i = 0; i < OE_MAX_DATABASES; i++)
		{
			OeDatabaseSlot *database = &oe_shared->slots[i];

			database->dboid = InvalidOid;
			pg_atomic_init_u64(&database->position_n, 0);
			pg_atomic_init_u32(&database->position_table, 0);
			for (int j = 0; j < OE_MAX_WORKERS; j++)
			{
				OeWorkerSlot *slot = &database->workers[j];

				slot->procno = OE_NO_PROC;
				pg_atomic_init_u32(&slot->pending, 0);
				pg_atomic_init_u32(&slot->prepared, 0);
				pg_atomic_init_u64(&slot->reads, 0);
				pg_atomic_init_u64(&slot->attempts, 0);
				pg_atomic_init_u64(&slot->delivered, 0);
				pg_atomic_init_u64(&slot->failed, 0);
				pg_atomic_init_u64(&slot->flushes, 0);
				pg_atomic_init_u32(&slot->in_flight, 0);
			}
		}
	}
	oe_health_shmem_startup();
	LWLockRelease(AddinShmemInitLock);
	if (!IsUnderPostmaster)
		oe_identity_startup();
}

void
oe_shared_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

OeDatabaseSlot *
oe_shared_slot(Oid dboid)
{
	static int	last = 0;

	if (oe_shared == NULL)
		return NULL;
	if (oe_shared->slots[last].dboid == dboid)
		return &oe_shared->slots[last];
	for (int i = 0; i < OE_MAX_DATABASES; i++)
	{
		if (oe_shared->slots[i].dboid == dboid)
		{
			last = i;
			return &oe_shared->slots[i];
		}
	}
	return NULL;
}

OeDatabaseSlot *
oe_shared_claim_slot(Oid dboid)
{
	OeDatabaseSlot *found = NULL;

	if (oe_shared == NULL)
		return NULL;

	SpinLockAcquire(&oe_shared->lock);
	for (int i = 0; i < OE_MAX_DATABASES && found == NULL; i++)
	{
		if (oe_shared->slots[i].dboid == dboid)
			found = &oe_shared->slots[i];
	}
	for (int i = 0; i < OE_MAX_DATABASES && found == NULL; i++)
	{
		if (oe_shared->slots[i].dboid == InvalidOid)
		{
			found = &oe_shared->slots[i];
			found->count = 1;
			found->dboid = dboid;
		}
	}
	SpinLockRelease(&oe_shared->lock);
	return found;
}

void
oe_shared_raise(pg_atomic_uint64 *value, uint64 to)
{
	uint64		old = pg_atomic_read_u64(value);

	while (old < to && !pg_atomic_compare_exchange_u64(value, &old, to))
		;
}

uint32
oe_shards_of(int index, int count)
{
	uint32		shards = 0;

	for (int shard = 0; shard < OE_SHARDS; shard++)
	{
		if (OE_SHARD_WORKER(shard, count) == index)
			shards |= (uint32) 1 << shard;
	}
	return shards;
}
