/*
 * order_row.h
 *	  Columns of order_engine.orders by number, and what the code reads of a row.
 */
#ifndef OE_ORDER_ROW_H
#define OE_ORDER_ROW_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "utils/numeric.h"

/* as sql/30_order.sql defines them */
enum
{
	Anum_orders_order_id = 1,
	Anum_orders_version,
	Anum_orders_last_txid,
	Anum_orders_machine_id,
	Anum_orders_on_hold,
	Anum_orders_state,
	Anum_orders_state_since,
	Anum_orders_updated_at,
	Anum_orders_expires_at,
	Anum_orders_tenant,
	Anum_orders_channel,
	Anum_orders_order_number,
	Anum_orders_customer_id,
	Anum_orders_region,
	Anum_orders_seller,
	Anum_orders_location,
	Anum_orders_terms,
	Anum_orders_currency,
	Anum_orders_lines_total,
	Anum_orders_shipping,
	Anum_orders_tax,
	Anum_orders_discount,
	Anum_orders_total,
	Anum_orders_authorized_total,
	Anum_orders_captured_total,
	Anum_orders_refunded_total,
	Anum_orders_charged_back_total,
	Anum_orders_credited_total,
	Anum_orders_payment_status,
	Anum_orders_fulfillment_status,
	Anum_orders_return_status,
	Anum_orders_placed_at,
	Anum_orders_confirmed_at,
	Anum_orders_first_shipped_at,
	Anum_orders_delivered_at,
	Anum_orders_completed_at,
	Anum_orders_cancelled_at,
	Anum_orders_metadata,
	Anum_orders_created_at,
	Natts_orders = Anum_orders_created_at
};

/* What guards, events and verbs look at.  The strings are copies. */
typedef struct OeOrder
{
	int64		order_id;
	int64		version;
	FullTransactionId last_txid;
	int32		machine_id;
	bool		on_hold;
	bool		confirmed;		/* has reached the milestone confirmed_at */
	TimestampTz expires_at;		/* DT_NOEND: no limit */
	const char *state;
	const char *tenant;
	const char *terms;
	const char *order_number;
	const char *channel;
	const char *customer_id;
	const char *currency;
	Numeric		total;
	Numeric		authorized_total;
	Numeric		captured_total;
	Numeric		refunded_total;
	Numeric		charged_back_total;
	Numeric		credited_total;
} OeOrder;

/*
 * Fills "order" from a row of orders: values and nulls of all columns, as
 * heap_deform_tuple gives them.  Strings are palloc'd in the current context,
 * numerics point into the row unless they had to be decompressed.
 */
extern void oe_order_from_row(OeOrder *order, const Datum *values, const bool *nulls);

/* The same from the one row that a query has just returned, into a memory context. */
extern void oe_order_from_result(OeOrder *order, MemoryContext context);

#endif							/* OE_ORDER_ROW_H */
