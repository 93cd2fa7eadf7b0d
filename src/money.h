/*
 * money.h
 *	  Amounts: numeric, never negative, with no more decimals than the currency has.
 */
#ifndef OE_MONEY_H
#define OE_MONEY_H

#include "fmgr.h"
#include "utils/numeric.h"

/* digits before the decimal point of the largest amount */
#define OE_MAX_AMOUNT_DIGITS	18

/* Decimals of a currency; 22023 when it is not known. */
extern int	oe_currency_minor_units(const char *currency);

/*
 * What is wrong with an amount, in words that fit behind its name; NULL when
 * nothing is.
 */
extern const char *oe_amount_fault(Numeric amount, const char *currency, int minor_units);

/*
 * An amount that must be given (22004) and be right (22023), with exactly the
 * decimals of the currency.
 */
extern Numeric oe_arg_amount(FunctionCallInfo fcinfo, int argno, const char *argname,
							 const char *currency, int minor_units);

/* Rounds to the decimals of a currency; also gives 1 the form 1.00. */
extern Numeric oe_amount_round(Numeric amount, int minor_units);

/* As DETAIL shows it: a JSON number. */
extern char *oe_amount_text(Numeric amount);

extern int	oe_amount_cmp(Numeric a, Numeric b);
extern Numeric oe_amount_add(Numeric a, Numeric b);
extern Numeric oe_amount_sub(Numeric a, Numeric b);
extern Numeric oe_amount_min(Numeric a, Numeric b);
extern Numeric oe_amount_max(Numeric a, Numeric b);
extern bool oe_amount_is_positive(Numeric amount);

#endif							/* OE_MONEY_H */
