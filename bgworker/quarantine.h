/*
 * quarantine.h
 *	  Find the event that crashes the worker, and keep it away from it.
 */
#ifndef OE_QUARANTINE_H
#define OE_QUARANTINE_H

#include "utils/uuid.h"

/* so often may an event crash the worker */
#define OE_CRASHES_ALLOWED	3

/* An event on its way to an endpoint; endpoint_id 0: whoever it is for. */
typedef struct OeBlame
{
	int32		endpoint_id;
	pg_uuid_t	id;
} OeBlame;

/*
 * Counts what the run before this one left behind, and has crashes of this one
 * noted.  Once, when the worker has its shards; no transaction.
 */
extern void oe_quarantine_init(Oid dboid);

/* Reads the counts anew; inside a transaction of oe_worker_begin. */
extern void oe_quarantine_load(void);

/*
 * What the worker is at from now on, until it is at nothing.  A crash meanwhile
 * is blamed on the event.  Both only set a few bytes.
 */
extern void oe_quarantine_at(int32 endpoint_id, const pg_uuid_t *id);
extern void oe_quarantine_at_nothing(void);

/* It is at any of the requests under way, which oe_dispatch_in_flight tells. */
extern void oe_quarantine_at_requests(void);

/* An error ends this process: one of the surroundings has no event to blame. */
extern void oe_quarantine_error(int sqlerrcode);

/* This process is being ended: whatever it is at is not to blame.  Safe in a signal handler. */
extern void oe_quarantine_ending(void);

/* Crashes that the event had a part in; with endpoint_id 0 only those that no endpoint had. */
extern int	oe_quarantine_crashes(int32 endpoint_id, const pg_uuid_t *id);

/* It was delivered, so it is innocent; for the next oe_quarantine_flush. */
extern void oe_quarantine_acquit(int32 endpoint_id, const pg_uuid_t *id);

/* Writes acquittals; inside a transaction of oe_worker_begin. */
extern void oe_quarantine_flush(void);

#endif							/* OE_QUARANTINE_H */
