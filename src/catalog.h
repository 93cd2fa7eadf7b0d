/*
 * catalog.h
 *	  Products, as orders and stock look at them.
 */
#ifndef OE_CATALOG_H
#define OE_CATALOG_H

#include "compat.h"
#include "rows.h"
#include "utils/numeric.h"

typedef struct OeProduct
{
	Numeric		unit_price;		/* NULL: every order says it */
	char	   *currency;		/* of unit_price; NULL without one */
	bool		tracked;
} OeProduct;

/*
 * Products by SKU: open, find as many as needed, oe_rows_close.  Strings and
 * numbers are copies in the current memory context.
 */
extern OeRows *oe_products_open(void);
extern bool oe_product_find(OeRows *products, const char *sku, OeProduct *product);

/* Raises OE203 with the SKUs in DETAIL. */
pg_noreturn extern void oe_unknown_skus(const char *const *skus, int n);

#endif							/* OE_CATALOG_H */
