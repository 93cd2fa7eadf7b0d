/*
 * stock_choose.h
 *	  Which stock rows serve a need: a decision over rows as they were read.
 */
#ifndef OE_STOCK_CHOOSE_H
#define OE_STOCK_CHOOSE_H

#include "stock_row.h"

/* The locations of a channel, in the order in which they are tried. */
typedef struct OePlaces
{
	int			count;			/* 0: all locations, by their own priority */
	const char **names;
} OePlaces;

/* The locations of a channel; none for NULL. */
extern void oe_places_load(OePlaces *places, const char *channel);

/*
 * Drops, of rows in lock order, those that no need can be served from; those
 * with given units stay.  Marks the ones that serve a need without a location.
 */
extern int	oe_stock_eligible(OeStockRow *rows, int nrows, const OeStockNeed *needs, int n,
							  const OePlaces *places);

/* Units that lie there and are not promised, as this call will leave them. */
extern int64 oe_stock_free_units(const OeStockRow *row);

/*
 * Whether every slot has at least the units that it keeps back, so that one of
 * them can be judged without the others.
 */
extern bool oe_stock_settled(const OeStockRow *rows, int nrows);

/* Whether any slot keeps units back. */
extern bool oe_stock_keeps_back(const OeStockRow *rows, int nrows);

/* The rows in the order in which they are drawn from. */
extern OeStockRow **oe_stock_prefer(OeStockRow *rows, int nrows, const OePlaces *places);

/* Whether what the rows are given serves all needs. */
extern bool oe_stock_given_suffices(OeStockRow *rows, int nrows, const OeStockNeed *needs, int n);

/*
 * Distributes the needs over the rows: sets "moved" and "take".  What is given
 * goes first, then what lies there, then what may be promised beyond it.
 * missing[i] is what need i does not get; the result tells whether all get
 * everything.
 */
extern bool oe_stock_distribute(OeStockRow *rows, int nrows, const OeStockNeed *needs, int n,
								const OePlaces *places, int32 *missing);

#endif							/* OE_STOCK_CHOOSE_H */
