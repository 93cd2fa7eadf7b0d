/*
 * worker_slot.h
 *	  Which worker this process is: its place in shared memory and its shards.
 */
#ifndef OE_WORKER_SLOT_H
#define OE_WORKER_SLOT_H

#include "shared.h"

/* The shards that this worker serves, one bit each; its number, and how many there are. */
extern uint32 oe_my_shards;
extern int	oe_my_index;
extern int	oe_my_count;

/* NULL without shared memory; then there is one worker. */
extern OeWorkerSlot *oe_my_slot;
extern OeDatabaseSlot *oe_my_database;

/*
 * Takes the place of worker "index" of "count" before the process connects to
 * the database, so that a command that needs the database for itself finds it.
 * Ends the process when it is taken, or workers of another count still run, or
 * the database is held.
 */
extern void oe_worker_take_slot(Oid dboid, int index, int count);

/*
 * Takes the locks that make this the only worker of its shards; ends the
 * process when one is taken, or the extension is not there.  Connected.
 */
extern void oe_worker_lock_shards(void);

/*
 * After a reload of the settings: shall this worker end, because its database
 * left the list or order_engine.workers changed?  In no transaction.
 */
extern bool oe_worker_is_superfluous(void);

/* Does a command want the database for itself?  The worker ends when it waits for nobody else. */
extern bool oe_worker_is_held(void);

/* Zeroes the counters of the slot. */
extern void oe_worker_reset_counters(void);

#endif							/* OE_WORKER_SLOT_H */
