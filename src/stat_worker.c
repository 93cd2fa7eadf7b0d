/*
 * stat_worker.c
 *	  The counters of this database's worker, for the view stat_worker.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "shared.h"
#include "utils/timestamp.h"

#define NUM_COLS	8

PG_FUNCTION_INFO_V1(oe_worker_counters);

Datum
oe_worker_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	OeDatabaseSlot *database = oe_shared_slot(MyDatabaseId);
	OeWorkerSlot *slot;
	Datum		values[NUM_COLS];
	bool		nulls[NUM_COLS] = {false};

	InitMaterializedSRF(fcinfo, 0);
	if (database == NULL)
		return (Datum) 0;
	slot = &database->workers[0];

	nulls[0] = slot->pid == 0;
	values[0] = Int32GetDatum(slot->pid);
	nulls[1] = slot->started_at == 0;
	values[1] = TimestampTzGetDatum(slot->started_at);
	values[2] = Int32GetDatum((int32) pg_atomic_read_u32(&slot->in_flight));
	values[3] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->reads));
	values[4] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->attempts));
	values[5] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->delivered));
	values[6] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->failed));
	values[7] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->flushes));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}
