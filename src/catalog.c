/*
 * catalog.c
 *	  Products and locations: the verbs that write them, and the look-up of
 *	  products.
 *
 * The verbs say what the row shall be, so a repeated call changes nothing and
 * needs no idempotency key.
 */
#include "postgres.h"

#include "args.h"
#include "catalog.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "fmgr.h"
#include "money.h"
#include "query.h"
#include "relations.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(oe_upsert_product);
PG_FUNCTION_INFO_V1(oe_upsert_location);

/* columns of product, as sql/20_catalog.sql defines them */
#define Anum_product_unit_price	3
#define Anum_product_currency	4
#define Anum_product_tracked	5

OeRows *
oe_products_open(void)
{
	return oe_rows_open(oe_relid(OE_REL_PRODUCT), AccessShareLock, 1, NULL);
}

bool
oe_product_find(OeRows *products, const char *sku, OeProduct *product)
{
	Datum		key = CStringGetTextDatum(sku);
	Datum		value;
	bool		isnull;

	if (!oe_rows_find(products, &key))
		return false;

	memset(product, 0, sizeof(OeProduct));
	value = slot_getattr(products->slot, Anum_product_unit_price, &isnull);
	if (!isnull)
		product->unit_price = DatumGetNumericCopy(value);
	value = slot_getattr(products->slot, Anum_product_currency, &isnull);
	if (!isnull)
		product->currency = TextDatumGetCString(value);
	product->tracked = DatumGetBool(oe_rows_get(products, Anum_product_tracked));
	return true;
}

void
oe_unknown_skus(const char *const *skus, int n)
{
	OeJson		list;
	OeJson		json;

	oe_json_begin_array(&list);
	for (int i = 0; i < n; i++)
		oe_json_text(&list, NULL, skus[i]);
	oe_json_begin(&json);
	oe_json_raw(&json, "skus", oe_json_end(&list));
	ereport(ERROR,
			(errcode(ERRCODE_OE_UNKNOWN_SKU),
			 errmsg("unknown SKU \"%s\"", skus[0]),
			 errdetail_internal("%s", oe_json_end(&json)),
			 errhint("Products are made by order_engine.upsert_product().")));
}

Datum
oe_upsert_product(PG_FUNCTION_ARGS)
{
	static OeQuery query = {
		"INSERT INTO order_engine.product (sku, name, unit_price, currency, tracked, metadata)"
		" VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (sku) DO UPDATE SET name = excluded.name, unit_price = excluded.unit_price,"
		" currency = excluded.currency, tracked = excluded.tracked, metadata = excluded.metadata,"
		" updated_at = pg_catalog.now()",
		6, {TEXTOID, TEXTOID, NUMERICOID, TEXTOID, BOOLOID, JSONBOID}
	};
	char	   *sku = oe_arg_name(fcinfo, 0, "sku");
	char	   *name = oe_arg_name(fcinfo, 1, "name");
	char	   *currency = oe_arg_name_or_null(fcinfo, 3, "currency");
	Jsonb	   *metadata = oe_arg_metadata(fcinfo, 5, "metadata");
	Datum		values[6] = {0};
	char		nulls[] = "      ";

	oe_arg_require(fcinfo, 4, "tracked");
	values[0] = CStringGetTextDatum(sku);
	values[1] = CStringGetTextDatum(name);
	if (currency != NULL)
	{
		int			minor_units = oe_currency_minor_units(currency);

		values[3] = CStringGetTextDatum(currency);
		if (!PG_ARGISNULL(2))
			values[2] = NumericGetDatum(oe_arg_amount(fcinfo, 2, "unit_price", currency, minor_units));
	}
	else if (!PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" needs a currency", "unit_price")));
	values[4] = PG_GETARG_DATUM(4);
	values[5] = JsonbPGetDatum(metadata);

	nulls[2] = PG_ARGISNULL(2) ? 'n' : ' ';
	nulls[3] = currency == NULL ? 'n' : ' ';
	nulls[5] = metadata == NULL ? 'n' : ' ';

	oe_spi_connect();
	oe_query_run(&query, values, nulls, false, SPI_OK_INSERT);
	oe_spi_finish();
	PG_RETURN_TEXT_P(cstring_to_text(sku));
}

Datum
oe_upsert_location(PG_FUNCTION_ARGS)
{
	static OeQuery query = {
		"INSERT INTO order_engine.location (location, name, region, priority)"
		" VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (location) DO UPDATE SET name = excluded.name, region = excluded.region,"
		" priority = excluded.priority",
		4, {TEXTOID, TEXTOID, TEXTOID, INT4OID}
	};
	char	   *location = oe_arg_name(fcinfo, 0, "location");
	char	   *name = oe_arg_name(fcinfo, 1, "name");
	char	   *region = oe_arg_name_or_null(fcinfo, 2, "region");
	Datum		values[4] = {0};
	char		nulls[] = "    ";

	oe_arg_require(fcinfo, 3, "priority");
	values[0] = CStringGetTextDatum(location);
	values[1] = CStringGetTextDatum(name);
	if (region != NULL)
		values[2] = CStringGetTextDatum(region);
	else
		nulls[2] = 'n';
	values[3] = PG_GETARG_DATUM(3);

	oe_spi_connect();
	oe_query_run(&query, values, nulls, false, SPI_OK_INSERT);
	oe_spi_finish();
	PG_RETURN_TEXT_P(cstring_to_text(location));
}
