/*
 * order_json.c
 *	  SQL function order_json: an order with everything that belongs to it.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "query.h"

PG_FUNCTION_INFO_V1(oe_order_json);

Datum
oe_order_json(PG_FUNCTION_ARGS)
{
	static OeQuery query = {
		"SELECT pg_catalog.jsonb_build_object("
		"  'order', pg_catalog.to_jsonb(o) - 'last_txid',"
		"  'lines', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(l) - 'order_id'"
		"       ORDER BY l.line_no), '[]')"
		"     FROM order_engine.order_line l WHERE l.order_id = o.order_id),"
		"  'reservations', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(r)"
		"       - 'reservation_id' - 'ref' ORDER BY r.sku, r.location, r.slot), '[]')"
		"     FROM order_engine.reservation r WHERE r.reservation_id = o.order_id),"
		"  'payments', (SELECT coalesce(pg_catalog.jsonb_agg("
		"       (pg_catalog.to_jsonb(p) - 'order_id') || pg_catalog.jsonb_build_object("
		"         'transactions', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t)"
		"             - 'payment_id' - 'order_id' ORDER BY t.transaction_id), '[]')"
		"           FROM order_engine.payment_transaction t WHERE t.payment_id = p.payment_id))"
		"       ORDER BY p.payment_id), '[]')"
		"     FROM order_engine.payment p WHERE p.order_id = o.order_id),"
		"  'fulfillments', (SELECT coalesce(pg_catalog.jsonb_agg("
		"       (pg_catalog.to_jsonb(f) - 'order_id') || pg_catalog.jsonb_build_object("
		"         'lines', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(l)"
		"             - 'fulfillment_id' ORDER BY l.line_no), '[]')"
		"           FROM order_engine.fulfillment_line l WHERE l.fulfillment_id = f.fulfillment_id))"
		"       ORDER BY f.fulfillment_id), '[]')"
		"     FROM order_engine.fulfillment f WHERE f.order_id = o.order_id),"
		"  'returns', (SELECT coalesce(pg_catalog.jsonb_agg("
		"       (pg_catalog.to_jsonb(r) - 'order_id') || pg_catalog.jsonb_build_object("
		"         'lines', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(l)"
		"             - 'return_id' ORDER BY l.line_no), '[]')"
		"           FROM order_engine.return_line l WHERE l.return_id = r.return_id))"
		"       ORDER BY r.return_id), '[]')"
		"     FROM order_engine.order_return r WHERE r.order_id = o.order_id),"
		"  'holds', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(h) - 'order_id'"
		"       ORDER BY h.hold_id), '[]')"
		"     FROM order_engine.order_hold h WHERE h.order_id = o.order_id),"
		"  'history', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(h) - 'order_id'"
		"       ORDER BY h.seq, h.created_at), '[]')"
		"     FROM order_engine.history h WHERE h.order_id = o.order_id))"
		" FROM order_engine.orders o WHERE o.order_id = $1",
		1, {INT8OID}
	};
	int64		order_id;
	Datum		arg;
	Datum		result;
	bool		isnull;

	oe_arg_require(fcinfo, 0, "order_id");
	order_id = PG_GETARG_INT64(0);
	arg = Int64GetDatum(order_id);

	oe_spi_connect();
	if (oe_query_run(&query, &arg, NULL, true, SPI_OK_SELECT) != 1)
		oe_not_found("order", order_id);
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	result = SPI_datumTransfer(result, false, -1);
	oe_spi_finish();
	PG_RETURN_DATUM(result);
}
