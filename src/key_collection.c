/*
 * key_collection.c
 *	  Deletes idempotency keys that are older than is promised.
 *
 * Nothing is waited for: a key that somebody has locked is left.  A key that is
 * being deleted while its call is repeated makes that call the first one.
 *
 * Keys that were deleted stay in the index until no snapshot can see them, so
 * behind a long transaction a search from the start would pass more and more of
 * them.  Each search therefore begins where the last one of this process ended;
 * now and then one begins at the start, for keys that were passed over.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "query.h"
#include "settings.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_delete_expired_keys);

#define FROM_START_EVERY_MS		60000

/* delete_expired_keys(batch) */
Datum
oe_delete_expired_keys(PG_FUNCTION_ARGS)
{
	static OeQuery query = {
		"DELETE FROM order_engine.idempotency_key WHERE ctid = ANY (ARRAY("
		" SELECT k.ctid FROM order_engine.idempotency_key k"
		" WHERE k.created_at >= $1 AND k.created_at < $2"
		" ORDER BY k.created_at LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING created_at",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	};
	static TimestampTz resume_at = DT_NOBEGIN;
	static TimestampTz next_from_start = DT_NOBEGIN;
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[3];
	uint64		deleted;

	if (oe_idempotency_retention <= 0)
		PG_RETURN_INT32(0);
	if (now >= next_from_start)
	{
		resume_at = DT_NOBEGIN;
		next_from_start = TimestampTzPlusMilliseconds(now, FROM_START_EVERY_MS);
	}

	values[0] = TimestampTzGetDatum(resume_at);
	values[1] = TimestampTzGetDatum(now - (int64) oe_idempotency_retention * USECS_PER_SEC);
	values[2] = PG_GETARG_DATUM(0);
	oe_spi_connect();
	deleted = oe_query_run(&query, values, NULL, false, SPI_OK_DELETE_RETURNING);
	for (uint64 i = 0; i < deleted; i++)
	{
		bool		isnull;
		Datum		created_at = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		resume_at = Max(resume_at, DatumGetTimestampTz(created_at));
	}
	oe_spi_finish();
	PG_RETURN_INT32((int32) deleted);
}
