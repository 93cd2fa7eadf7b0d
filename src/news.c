/*
 * news.c
 *	  Operational events: what happened to an endpoint, as an event in the outbox.
 *
 * They are of the aggregate type "endpoint", which emit() refuses, so nobody
 * else makes them.  Whoever reads the outbox for an endpoint leaves out those
 * about it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "outbox.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_emit_news);

/*
 * emit_news(endpoint, type, payload)
 */
Datum
oe_emit_news(PG_FUNCTION_ARGS)
{
	OeEvent		event = {0};
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	event.aggregatetype = OE_AGGREGATE_ENDPOINT;
	event.aggregateid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	event.type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	event.payload = PG_GETARG_JSONB_P(2);
	event.last_txid = InvalidFullTransactionId;
	event.created_at = GetCurrentTimestamp();
	oe_outbox_new_id(event.created_at, id);
	event.id = id;
	oe_outbox_append(&event);
	PG_RETURN_UUID_P(id);
}
