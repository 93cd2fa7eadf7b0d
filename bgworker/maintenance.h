/*
 * maintenance.h
 *	  The worker's calls of run_maintenance().
 */
#ifndef OE_MAINTENANCE_H
#define OE_MAINTENANCE_H

#include "datatype/timestamp.h"

/*
 * Runs one batch if one is due.  Raises no error.  "busy" tells that there are
 * requests under way, which then get the larger part of the time.
 */
extern void oe_maintenance_run(TimestampTz now, bool busy);

/* When the next one is due; DT_NOEND when never. */
extern TimestampTz oe_maintenance_next(void);

/* The settings were read again: the next batch is due an interval from now, at most. */
extern void oe_maintenance_reschedule(TimestampTz now);

#endif							/* OE_MAINTENANCE_H */
