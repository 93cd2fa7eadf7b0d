/*
 * id.h
 *	  Ids of orders and reservations.
 */
#ifndef OE_ID_H
#define OE_ID_H

/* order_engine.shard_id in the bits above 44, the next value of id_seq below. */
extern int64 oe_new_id(void);

#endif							/* OE_ID_H */
