/*
 * log_scan.h
 *	  Rows of the outbox in the order of (txid, id), below the SQL level.
 */
#ifndef OE_LOG_SCAN_H
#define OE_LOG_SCAN_H

#include "executor/tuptable.h"
#include "utils/uuid.h"

typedef struct OeLogScan OeLogScan;

/*
 * Opens the outbox for the active snapshot, in the current memory context.  It is
 * closed before the transaction ends; after an error that does it.
 */
extern OeLogScan *oe_log_scan_begin(void);

/* Begins, or begins anew: rows behind (after_txid, after_id) with a txid below before_txid. */
extern void oe_log_scan_range(OeLogScan *scan, uint64 after_txid, const pg_uuid_t *after_id,
							  uint64 before_txid);

/* The next row, with the columns of the table, valid until the next call; NULL: no more. */
extern TupleTableSlot *oe_log_scan_next(OeLogScan *scan);

extern void oe_log_scan_end(OeLogScan *scan);

#endif							/* OE_LOG_SCAN_H */
