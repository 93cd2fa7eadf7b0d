/*
 * wakeup.h
 *	  Wake the workers when a transaction that matters to it commits.
 */
#ifndef OE_WAKEUP_H
#define OE_WAKEUP_H

/* At commit of the current transaction, wake the worker of the shard as well. */
extern void oe_wake_worker_at_commit(int shard);

/* Wake every worker of the database, once the invalidations of the transaction have been sent. */
extern void oe_wake_worker_for_change(void);

/* When the current transaction ends, either way, wake the launcher. */
extern void oe_wake_launcher_at_end(void);

/* Sets the latch of a process, which need not exist any more. */
extern void oe_set_latch_of(int procno);

/* Registers the callbacks; once, from _PG_init. */
extern void oe_wakeup_init(void);

#endif							/* OE_WAKEUP_H */
