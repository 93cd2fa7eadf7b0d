/*
 * id.c
 *	  Ids of orders and reservations: unique over servers, exact in a double.
 *
 * The sequence ends at 44 bits (its MAXVALUE says so), so the two parts cannot
 * overlap; with at most 512 shards an id stays below 2^53.
 */
#include "postgres.h"

#include "commands/sequence.h"
#include "fmgr.h"
#include "id.h"
#include "relations.h"
#include "settings.h"

#define SEQUENCE_BITS	44

PG_FUNCTION_INFO_V1(oe_next_id);

int64
oe_new_id(void)
{
	int64		n = nextval_internal(oe_relid(OE_REL_ID_SEQ), false);

	return ((int64) oe_shard_id << SEQUENCE_BITS) | n;
}

Datum
oe_next_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(oe_new_id());
}
