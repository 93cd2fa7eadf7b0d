/*
 * event_type.c
 *	  Types of events in SQL: does an endpoint want them?
 *
 * The same matching as the worker's, so that what SQL counts is what is sent.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "policy_match.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(oe_event_type_matches);

/*
 * event_type_matches(event_types, type)
 */
Datum
oe_event_type_matches(PG_FUNCTION_ARGS)
{
	ArrayType  *globs = PG_GETARG_ARRAYTYPE_P(0);
	text	   *type = PG_GETARG_TEXT_PP(1);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(globs, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		text	   *glob;

		if (nulls[i])
			continue;
		glob = DatumGetTextPP(elements[i]);
		if (oe_glob_match(VARDATA_ANY(glob), VARSIZE_ANY_EXHDR(glob),
						  VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)))
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}
