/*
 * effect.h
 *	  Built-in effects of orders: what a transition does besides changing the state.
 */
#ifndef OE_EFFECT_H
#define OE_EFFECT_H

#include "order_row.h"

#define OE_EFFECT_KEEP_RESERVATION	(1u << 0)	/* the reservation loses its time limit */
#define OE_EFFECT_RELEASE_STOCK		(1u << 1)	/* held stock is free again */
#define OE_EFFECT_EXPIRE_STOCK		(1u << 2)	/* the same, because time ran out */
#define OE_EFFECT_CANCEL_LINES		(1u << 3)	/* what was not shipped is cancelled */
#define OE_EFFECT_SHIP_ALL			(1u << 4)	/* all that is not cancelled leaves the stock */
#define OE_EFFECT_DELIVER_ALL		(1u << 5)	/* all that was shipped is delivered */
#define OE_EFFECT_MARK_PAID			(1u << 6)	/* payment_status becomes paid */
#define OE_EFFECT_MARK_REFUNDED		(1u << 7)	/* payment_status becomes refunded */
#define OE_EFFECT_VOID_PAYMENTS		(1u << 8)	/* voids of what is authorized are requested */
#define OE_EFFECT_REQUEST_REFUNDS	(1u << 9)	/* refunds of what was captured are requested */
#define OE_EFFECT_CANCEL_FULFILLMENTS	(1u << 10)	/* fulfillments that were not shipped are cancelled */

/* A change of one column of the order row. */
typedef struct OeColumnChange
{
	int			attnum;
	bool		isnull;
	Datum		value;
} OeColumnChange;

#define OE_EFFECT_MAX_CHANGES	3

/* A name with a number: an effect and its bit, or a milestone and its column. */
typedef struct OeNamed
{
	const char *name;
	uint32		number;
} OeNamed;

typedef struct OeNamedList
{
	const OeNamed *entries;
	int			count;
} OeNamedList;

/* The bit of a built-in effect of a kind, 0 for a name that is none. */
extern uint32 oe_effect_by_name(const char *kind, const char *name);

/* The column of a milestone in the kind's table, 0 for a name that is none. */
extern int	oe_milestone_column(const char *kind, const char *name);

/*
 * What effects change in the order row itself, of which fulfillment_status and
 * return_status are given as they were: fills at most OE_EFFECT_MAX_CHANGES
 * entries and returns how many.  Values are palloc'd.  Queries run as "owner",
 * that of the table.
 */
extern int	oe_effects_on_row(uint32 effects, int64 order_id, const char *fulfillment_status,
							  const char *return_status, Oid owner, OeColumnChange *changes);

/*
 * What effects do to other tables.  The order row is locked.  Lines come first,
 * then the parts of the order, whose events follow that of the order and keep
 * *order up to date; then stock, which many orders share and which is therefore
 * locked last.  All use SPI by themselves, as the current user.
 */
extern void oe_effects_on_lines(uint32 effects, int64 order_id);
extern void oe_effects_on_parts(uint32 effects, OeOrder *order, const char *reason, TimestampTz at);
extern void oe_effects_on_stock(uint32 effects, int64 order_id, const char *reason, TimestampTz at);

#endif							/* OE_EFFECT_H */
