/*
 * money.c
 *	  Amounts of money, and currencies.
 *
 * Amounts are numeric throughout; what is stored has exactly the decimals of its
 * currency.  NaN and the infinities are numeric values too, and no amounts.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "money.h"
#include "relations.h"
#include "rows.h"
#include "utils/builtins.h"

#define Anum_currency_minor_units	2

int
oe_currency_minor_units(const char *currency)
{
	OeRows	   *rows = oe_rows_open(oe_relid(OE_REL_CURRENCY), AccessShareLock, 1, NULL);
	Datum		key = CStringGetTextDatum(currency);
	int			minor_units;

	if (!oe_rows_find(rows, &key))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown currency \"%s\"", currency),
				 errhint("Currencies are ISO 4217 codes in capital letters; order_engine.currency lists them.")));
	minor_units = DatumGetInt16(oe_rows_get(rows, Anum_currency_minor_units));
	oe_rows_close(rows);
	return minor_units;
}

int
oe_amount_cmp(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

Numeric
oe_amount_add(Numeric a, Numeric b)
{
	return numeric_add_opt_error(a, b, NULL);
}

Numeric
oe_amount_sub(Numeric a, Numeric b)
{
	return numeric_sub_opt_error(a, b, NULL);
}

Numeric
oe_amount_min(Numeric a, Numeric b)
{
	return oe_amount_cmp(a, b) <= 0 ? a : b;
}

Numeric
oe_amount_max(Numeric a, Numeric b)
{
	return oe_amount_cmp(a, b) >= 0 ? a : b;
}

bool
oe_amount_is_positive(Numeric amount)
{
	return oe_amount_cmp(amount, int64_to_numeric(0)) > 0;
}

Numeric
oe_amount_round(Numeric amount, int minor_units)
{
	return DatumGetNumeric(DirectFunctionCall2(numeric_round, NumericGetDatum(amount),
											   Int32GetDatum(minor_units)));
}

char *
oe_amount_text(Numeric amount)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(amount)));
}

const char *
oe_amount_fault(Numeric amount, const char *currency, int minor_units)
{
	static const int64 limit = INT64CONST(1000000000000000000); /* 10 ^ OE_MAX_AMOUNT_DIGITS */

	if (numeric_is_nan(amount) || numeric_is_inf(amount))
		return "must be a finite number";
	if (oe_amount_cmp(amount, int64_to_numeric(0)) < 0)
		return "must not be negative";
	if (oe_amount_cmp(amount, int64_to_numeric(limit)) >= 0)
		return psprintf("must have at most %d digits before the decimal point",
						OE_MAX_AMOUNT_DIGITS);
	if (DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(amount))) > minor_units)
		return psprintf("must have at most %d decimals in currency %s", minor_units, currency);
	return NULL;
}

Numeric
oe_arg_amount(FunctionCallInfo fcinfo, int argno, const char *argname,
			  const char *currency, int minor_units)
{
	Numeric		amount;
	const char *fault;

	oe_arg_require(fcinfo, argno, argname);
	amount = PG_GETARG_NUMERIC(argno);
	fault = oe_amount_fault(amount, currency, minor_units);
	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" %s", argname, fault)));
	return oe_amount_round(amount, minor_units);
}
