/*
 * stat_worker.c
 *	  The counters of this database's workers, for the view stat_worker.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "shared.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#define NUM_COLS	10

PG_FUNCTION_INFO_V1(oe_worker_counters);

/* The shards of a mask, as an array of their numbers. */
static Datum
shard_array(uint32 shards)
{
	Datum		elements[OE_SHARDS];
	int			n = 0;

	for (int shard = 0; shard < OE_SHARDS; shard++)
	{
		if ((shards & ((uint32) 1 << shard)) != 0)
			elements[n++] = Int32GetDatum(shard);
	}
	return PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

static void
put_worker(ReturnSetInfo *rsinfo, OeDatabaseSlot *database, int index)
{
	OeWorkerSlot *slot = &database->workers[index];
	Datum		values[NUM_COLS];
	bool		nulls[NUM_COLS] = {false};
	int			pid;
	uint32		shards;

	SpinLockAcquire(&oe_shared->lock);
	pid = slot->pid;
	shards = slot->shards;
	SpinLockRelease(&oe_shared->lock);

	/* one that is not running: what it will serve; one that has just become too many: no row */
	if (pid == 0 && index >= database->count)
		return;
	if (pid == 0)
		shards = oe_shards_of(index, database->count);

	values[0] = Int32GetDatum(index);
	values[1] = shard_array(shards);
	nulls[2] = pid == 0;
	values[2] = Int32GetDatum(pid);
	nulls[3] = slot->started_at == 0;
	values[3] = TimestampTzGetDatum(slot->started_at);
	values[4] = Int32GetDatum((int32) pg_atomic_read_u32(&slot->in_flight));
	values[5] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->reads));
	values[6] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->attempts));
	values[7] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->delivered));
	values[8] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->failed));
	values[9] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->flushes));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
oe_worker_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	OeDatabaseSlot *database = oe_shared_slot(MyDatabaseId);

	InitMaterializedSRF(fcinfo, 0);
	if (database == NULL)
		return (Datum) 0;
	for (int i = 0; i < OE_MAX_WORKERS; i++)
		put_worker(rsinfo, database, i);
	return (Datum) 0;
}
