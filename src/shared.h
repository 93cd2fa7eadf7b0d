/*
 * shared.h
 *	  Shared memory: the launcher, and one slot for each database with a worker.
 */
#ifndef OE_SHARED_H
#define OE_SHARED_H

#include "port/atomics.h"
#include "storage/spin.h"

#define OE_MAX_DATABASES	64
#define OE_NO_PROC			(-1)

/*
 * A slot belongs to a database from the first start of its worker on.  Writers
 * read dboid and procno without a lock: both may be stale, and the worst that a
 * stale value does is to set a latch for nothing, which every latch allows for.
 */
typedef struct OeWorkerSlot
{
	Oid			dboid;			/* InvalidOid: the slot is free */
	int			procno;			/* of the worker, OE_NO_PROC when it is not running */
	int			pid;
	int			end;			/* OeWorkerEnd of the last run */
	TimestampTz hold_until;		/* the launcher starts no worker before */
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

typedef struct OeShared
{
	slock_t		lock;			/* for changes of dboid, procno and pid */
	int			launcher_procno;
	pg_atomic_uint32 recheck;	/* a database may have got its extension */
	OeWorkerSlot slots[OE_MAX_DATABASES];
} OeShared;

/* NULL when the library was not preloaded */
extern OeShared *oe_shared;

/* Installs the shared memory hooks; from _PG_init while preloading. */
extern void oe_shared_init(void);

/* The slot of a database, NULL when there is none.  Takes no lock. */
extern OeWorkerSlot *oe_shared_slot(Oid dboid);

/* The same, but makes one; NULL when all are taken. */
extern OeWorkerSlot *oe_shared_claim_slot(Oid dboid);

#endif							/* OE_SHARED_H */
