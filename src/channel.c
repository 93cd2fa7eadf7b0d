/*
 * channel.c
 *	  SQL function set_channel_locations.
 *
 * It says what the rows of a channel shall be, so a repeated call changes nothing
 * and needs no idempotency key.  Orders read the rows without waiting for it.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "query.h"
#include "relations.h"
#include "stock_row.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(oe_set_channel_locations);

/* every order of the channel reads them all */
#define MAX_LOCATIONS	100

/* The locations that the argument names, checked. */
static Datum *
parse_locations(FunctionCallInfo fcinfo, int *count)
{
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;

	*count = 0;
	if (PG_ARGISNULL(1))
		return NULL;
	array = PG_GETARG_ARRAYTYPE_P(1);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must have one dimension", "locations")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
	if (*count > MAX_LOCATIONS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" has %d elements, the limit is %d", "locations", *count, MAX_LOCATIONS)));
	for (int i = 0; i < *count; i++)
	{
		char	   *location;
		const char *why;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not contain nulls", "locations")));
		location = TextDatumGetCString(elements[i]);
		if (!oe_name_is_valid(location, strlen(location), &why))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a location of argument \"%s\" %s", "locations", why)));
		for (int j = 0; j < i; j++)
		{
			if (strcmp(location, TextDatumGetCString(elements[j])) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("argument \"%s\" names \"%s\" twice", "locations", location)));
		}
		oe_stock_require_location(location);
	}
	return elements;
}

Datum
oe_set_channel_locations(PG_FUNCTION_ARGS)
{
	static OeQuery delete = {
		"DELETE FROM order_engine.channel_location WHERE channel = $1",
		1, {TEXTOID}
	};
	static OeQuery insert = {
		"INSERT INTO order_engine.channel_location (channel, location, priority) VALUES ($1, $2, $3)",
		3, {TEXTOID, TEXTOID, INT4OID}
	};
	char	   *channel = oe_arg_name(fcinfo, 0, "channel");
	Datum	   *locations;
	Datum		values[3];
	int			n;

	PreventCommandIfReadOnly("set_channel_locations()");
	/* two calls for one channel must not mix; readers do not mind */
	LockRelationOid(oe_relid(OE_REL_CHANNEL_LOCATION), ShareRowExclusiveLock);
	locations = parse_locations(fcinfo, &n);

	oe_spi_connect();
	values[0] = CStringGetTextDatum(channel);
	oe_query_run(&delete, values, NULL, false, SPI_OK_DELETE);
	for (int i = 0; i < n; i++)
	{
		values[1] = locations[i];
		values[2] = Int32GetDatum(i + 1);
		oe_query_run(&insert, values, NULL, false, SPI_OK_INSERT);
	}
	oe_spi_finish();
	PG_RETURN_INT32(n);
}
