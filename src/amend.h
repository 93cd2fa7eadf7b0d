/*
 * amend.h
 *	  Events of an order that leave its state as it is, and what follows an event.
 */
#ifndef OE_AMEND_H
#define OE_AMEND_H

#include "order_row.h"
#include "query.h"
#include "record.h"

/*
 * Changes the row of an order that is locked, as an event of which the caller
 * writes the record: the trigger raises version and last_txid.  "update" is an
 * UPDATE of the orders row $1 that returns the row; NULL changes nothing else.
 * *order becomes what is stored.  Returns the transaction of the event before,
 * which the record wants to know.
 */
extern FullTransactionId oe_order_amend(OeOrder *order, OeQuery *update, Datum *values,
										const char *nulls);

/*
 * The same for an order that changes to another machine: "update" may set
 * machine_id and state, and what it sets is not checked.
 */
extern FullTransactionId oe_order_amend_machine(OeOrder *order, OeQuery *update, Datum *values,
												const char *nulls);

/*
 * The whole of an amendment of the order itself: the UPDATE and its record.  Of
 * "record" the caller sets event, type, reason, metadata and at; "lines" as for
 * oe_record_order_event().
 */
extern void oe_order_amend_event(OeOrder *order, OeQuery *update, Datum *values,
								 const char *nulls, OeRecord *record, Jsonb *lines);

/*
 * Fires the automatic transition, if there is one, that the state of an order
 * has and whose guards agree.  Called after each event of an order or its parts.
 * *order is brought up to date.
 */
extern void oe_order_follow(OeOrder *order);

#endif							/* OE_AMEND_H */
