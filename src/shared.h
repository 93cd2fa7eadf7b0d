/*
 * shared.h
 *	  Shared memory: the launcher, and one slot for each database with workers.
 */
#ifndef OE_SHARED_H
#define OE_SHARED_H

#include "datatype/timestamp.h"
#include "identity.h"
#include "port/atomics.h"
#include "storage/spin.h"

#define OE_MAX_DATABASES	64
#define OE_MAX_WORKERS		8	/* of one database */
#define OE_NO_PROC			(-1)

/*
 * What of one aggregate belongs to one worker, by a hash that is stored with
 * each event.  Fixed for ever: positions speak of shards.
 */
#define OE_SHARDS			16
#define OE_ALL_SHARDS		((uint32) ((1 << OE_SHARDS) - 1))

/* The shards of worker "index" of "count". */
#define OE_SHARD_WORKER(shard, count)	((shard) % (count))

/*
 * One worker.  Writers read procno and shards without a lock: both may be
 * stale, and the worst that a stale value does is to set a latch for nothing,
 * or not to set one, and then the worker that comes next looks by itself.
 */
typedef struct OeWorkerSlot
{
	int			procno;			/* OE_NO_PROC when it is not running */
	int			pid;
	int			end;			/* OeWorkerEnd of the last run */
	int			count;			/* of the workers of which it is one */
	uint32		shards;			/* that it serves, one bit each */
	pg_atomic_uint32 pending;	/* events were committed since the worker last looked */
	pg_atomic_uint32 prepared;	/* events were prepared (two-phase commit) */

	/* counters since the start of the worker; written by it alone */
	TimestampTz started_at;
	pg_atomic_uint64 reads;
	pg_atomic_uint64 attempts;
	pg_atomic_uint64 delivered;
	pg_atomic_uint64 failed;
	pg_atomic_uint64 flushes;
	pg_atomic_uint32 in_flight;
} OeWorkerSlot;

/*
 * A slot belongs to a database from the first start of a worker on.  Writers
 * read dboid without a lock, too.
 */
typedef struct OeDatabaseSlot
{
	Oid			dboid;			/* InvalidOid: the slot is free */
	int			count;			/* of workers that serve it, or shall */
	TimestampTz hold_until;		/* the launcher starts no worker before */
	int			held_by;		/* the process with the command that wants them away */

	/* of the position tables, which the workers share */
	pg_atomic_uint64 position_n;	/* number of the last record, or less before a worker looked */
	pg_atomic_uint32 position_table;	/* in use: 0 or 1 */

	OeWorkerSlot workers[OE_MAX_WORKERS];
} OeDatabaseSlot;

typedef struct OeShared
{
	slock_t		lock;			/* for changes of dboid, counts, procno, pid and shards */
	int			launcher_procno;
	char		instance[OE_INSTANCE_LEN + 1];	/* see identity.c; empty: there is none */
	bool		old_instance;	/* the file has one that is not ours */
	pg_atomic_uint32 recheck;	/* a database may have got its extension */
	pg_atomic_uint64 async_txid;	/* the highest that wrote events with synchronous_commit = off */
	pg_atomic_uint64 flush_upto;	/* WAL position up to which the launcher shall flush */
	OeDatabaseSlot slots[OE_MAX_DATABASES];
} OeShared;

/* NULL when the library was not preloaded */
extern OeShared *oe_shared;

/* Installs the shared memory hooks; from _PG_init while preloading. */
extern void oe_shared_init(void);

/* The slot of a database, NULL when there is none.  Takes no lock. */
extern OeDatabaseSlot *oe_shared_slot(Oid dboid);

/* The same, but makes one; NULL when all are taken. */
extern OeDatabaseSlot *oe_shared_claim_slot(Oid dboid);

/* Sets *value to at least "to". */
extern void oe_shared_raise(pg_atomic_uint64 *value, uint64 to);

/* The shards of worker "index" of "count", one bit each. */
extern uint32 oe_shards_of(int index, int count);

#endif							/* OE_SHARED_H */
