/*
 * args.c
 *	  Arguments of the SQL functions: presence, size, form.
 */
#include "postgres.h"

#include "args.h"
#include "utils/builtins.h"

#define STRINGIFY(x)	#x
#define AS_STRING(x)	STRINGIFY(x)

void
oe_arg_require(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", argname)));
}

bool
oe_name_is_valid(const char *name, size_t len, const char **why)
{
	if (len == 0 || len > OE_MAX_NAME_BYTES)
	{
		*why = "must have between 1 and " AS_STRING(OE_MAX_NAME_BYTES) " bytes";
		return false;
	}
	for (size_t i = 0; i < len; i++)
	{
		if ((unsigned char) name[i] < 0x20 || name[i] == 0x7f)
		{
			*why = "must not contain control characters";
			return false;
		}
	}
	return true;
}

char *
oe_arg_name(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	text	   *arg;
	const char *why;

	oe_arg_require(fcinfo, argno, argname);
	arg = PG_GETARG_TEXT_PP(argno);
	if (!oe_name_is_valid(VARDATA_ANY(arg), VARSIZE_ANY_EXHDR(arg), &why))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" %s", argname, why)));
	return text_to_cstring(arg);
}

char *
oe_arg_name_or_null(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	return PG_ARGISNULL(argno) ? NULL : oe_arg_name(fcinfo, argno, argname);
}

char *
oe_arg_text_or_null(FunctionCallInfo fcinfo, int argno)
{
	text	   *arg;

	if (PG_ARGISNULL(argno))
		return NULL;
	arg = PG_GETARG_TEXT_PP(argno);
	if (VARSIZE_ANY_EXHDR(arg) > OE_MAX_TEXT_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument number %d is larger than %d bytes", argno + 1, OE_MAX_TEXT_BYTES)));
	return text_to_cstring(arg);
}

Jsonb *
oe_arg_metadata(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	Jsonb	   *value;

	if (PG_ARGISNULL(argno))
		return NULL;
	value = PG_GETARG_JSONB_P(argno);
	if (!JB_ROOT_IS_OBJECT(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON object", argname)));
	if (VARSIZE(value) > OE_MAX_METADATA_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is larger than %d bytes", argname, OE_MAX_METADATA_BYTES),
				 errdetail("It has %u bytes as jsonb.", (unsigned) VARSIZE(value))));
	return value;
}
