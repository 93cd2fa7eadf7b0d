/*
 * relations.h
 *	  The extension's own relations, by number.
 */
#ifndef OE_RELATIONS_H
#define OE_RELATIONS_H

typedef enum OeRel
{
	OE_REL_ID_SEQ,
	OE_REL_MACHINE,
	OE_REL_HISTORY,
	OE_REL_CURRENCY,
	OE_REL_PRODUCT,
	OE_REL_LOCATION,
	OE_REL_CHANNEL_LOCATION,
	OE_REL_ORDERS,
	OE_REL_ORDER_LINE,
	OE_REL_PAYMENT,
	OE_REL_PAYMENT_TRANSACTION,
	OE_REL_FULFILLMENT,
	OE_REL_FULFILLMENT_LINE,
	OE_REL_ORDER_RETURN,
	OE_REL_RETURN_LINE,
	OE_REL_ORDER_HOLD,
	OE_REL_STOCK,
	OE_REL_RESERVATION,
	OE_REL_STOCK_MOVEMENT,
	OE_REL_IDEMPOTENCY_KEY,
	OE_REL_IDEMPOTENCY_KEY_PKEY,
	OE_REL_OUTBOX,
	OE_REL_OUTBOX_RING,
	OE_REL_OUTBOX_LEAF,
	OE_REL_ENDPOINT,
	OE_REL_POSITION_0,
	OE_REL_POSITION_1,
	OE_REL_DELIVERY_RETRY,
	OE_REL_DELIVERY_DEAD,
	OE_REL_REPLAY,
	OE_REL_DELIVERY_ATTEMPT_0,
	OE_REL_DELIVERY_ATTEMPT_1,
	OE_REL_DELIVERY_ATTEMPT_2,
	OE_REL_DELIVERY_ATTEMPT_3,
	OE_REL_COUNT
} OeRel;

/*
 * Oid of a relation; raises undefined_object when the extension is not
 * installed in this database.  Cached per backend until an invalidation.
 */
extern Oid	oe_relid(OeRel rel);

/* The same, InvalidOid in place of an error. */
extern Oid	oe_relid_missing_ok(OeRel rel);

/* Registers the invalidation callback; once, from _PG_init. */
extern void oe_relations_init(void);

/* Raised whenever a cached relation, or all of them, became invalid. */
extern uint64 oe_relations_generation;

#endif							/* OE_RELATIONS_H */
