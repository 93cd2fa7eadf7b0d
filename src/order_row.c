/*
 * order_row.c
 *	  What the code reads of a row of order_engine.orders.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/spi.h"
#include "order_row.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

void
oe_order_from_row(OeOrder *order, const Datum *values, const bool *nulls)
{
#define VALUE(column) (values[Anum_orders_##column - 1])
#define TEXT(column) TextDatumGetCString(VALUE(column))

	order->order_id = DatumGetInt64(VALUE(order_id));
	order->version = DatumGetInt64(VALUE(version));
	order->last_txid = DatumGetFullTransactionId(VALUE(last_txid));
	order->machine_id = DatumGetInt32(VALUE(machine_id));
	order->on_hold = DatumGetBool(VALUE(on_hold));
	order->confirmed = !nulls[Anum_orders_confirmed_at - 1];
	order->expires_at = nulls[Anum_orders_expires_at - 1] ?
		DT_NOEND : DatumGetTimestampTz(VALUE(expires_at));
	order->state = TEXT(state);
	order->tenant = TEXT(tenant);
	order->terms = TEXT(terms);
	order->order_number = TEXT(order_number);
	order->channel = TEXT(channel);
	order->customer_id = TEXT(customer_id);
	order->currency = TEXT(currency);
	order->total = DatumGetNumeric(VALUE(total));
	order->authorized_total = DatumGetNumeric(VALUE(authorized_total));
	order->captured_total = DatumGetNumeric(VALUE(captured_total));
	order->refunded_total = DatumGetNumeric(VALUE(refunded_total));
	order->charged_back_total = DatumGetNumeric(VALUE(charged_back_total));
	order->credited_total = DatumGetNumeric(VALUE(credited_total));

#undef TEXT
#undef VALUE
}

void
oe_order_from_result(OeOrder *order, MemoryContext context)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	MemoryContext caller = MemoryContextSwitchTo(context);
	HeapTuple	tuple = heap_copytuple(SPI_tuptable->vals[0]);
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);

	if (desc->natts < Natts_orders)
		elog(ERROR, "order_engine.orders has %d columns, not %d", desc->natts, Natts_orders);
	heap_deform_tuple(tuple, desc, values, nulls);
	oe_order_from_row(order, values, nulls);
	MemoryContextSwitchTo(caller);
}
