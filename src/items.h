/*
 * items.h
 *	  The argument "items" of the verbs: a JSON array of objects.
 */
#ifndef OE_ITEMS_H
#define OE_ITEMS_H

#include "compat.h"
#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/*
 * An order is one event, and its lines are part of that event's payload: these
 * two keep it below 1 MiB (a line adds some 100 bytes to the text of its item).
 */
#define OE_MAX_ITEMS		1000
#define OE_MAX_ITEMS_BYTES	(768 * 1024)

#define OE_MAX_QUANTITY		1000000000

/* members of an item */
#define OE_ITEM_SKU			0x01
#define OE_ITEM_LINE_NO		0x02
#define OE_ITEM_QUANTITY	0x04
#define OE_ITEM_UNIT_PRICE	0x08
#define OE_ITEM_LOCATION	0x10
#define OE_ITEM_SELLER		0x20
#define OE_ITEM_METADATA	0x40
#define OE_ITEM_REASON		0x80
#define OE_ITEM_DISPOSITION	0x100

/* what becomes of units that come back */
typedef enum OeDisposition
{
	OE_RESTOCK,
	OE_DAMAGED,
	OE_DISCARD
} OeDisposition;

typedef struct OeItem
{
	int			position;		/* in the array, from 1 */
	char	   *sku;
	int32		line_no;
	int32		quantity;
	Numeric		unit_price;		/* NULL when not given; may be any number */
	char	   *location;		/* NULL when not given */
	char	   *seller;			/* NULL when not given */
	Jsonb	   *metadata;		/* NULL when not given */
	char	   *reason;			/* NULL when not given */
	OeDisposition disposition;	/* OE_RESTOCK when not given */
} OeItem;

/* The argument, at most OE_MAX_ITEMS_BYTES as text (22023); NULL for null. */
extern Jsonb *oe_arg_items(FunctionCallInfo fcinfo, int argno);

/*
 * Parses items, *count of them, in the current memory context; strings are
 * copies, numbers may point into the jsonb.  "allowed" are the members that the
 * verb knows; sku, line_no and quantity are required where they are allowed.
 * Raises 22023 (22004 for null) with {"position": n, "key": member} as DETAIL.
 */
extern OeItem *oe_items_parse(Jsonb *items, uint32 allowed, int *count);

/* Raises 22023 about one member of an item. */
pg_noreturn extern void oe_item_error(int position, const char *key, const char *fault);

#endif							/* OE_ITEMS_H */
