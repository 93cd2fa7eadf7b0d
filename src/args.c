/*
 * args.c
 *	  Arguments of the SQL functions: presence, size, form.
 */
#include "postgres.h"

#include "args.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

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

/* Whether neither side of the decimal point has too many digits. */
static bool
number_is_short(const char *digits, size_t len)
{
	size_t		integer;

	if (len <= OE_MAX_NUMBER_DIGITS)
		return true;
	if (*digits == '-')
	{
		digits++;
		len--;
	}
	integer = strcspn(digits, ".");
	return integer <= OE_MAX_NUMBER_DIGITS && len - integer <= OE_MAX_NUMBER_DIGITS + 1;
}

/* Bytes of a string as JSON, quotes included. */
static size_t
string_text_size(const JsonbValue *string)
{
	size_t		size = 2;

	for (int i = 0; i < string->val.string.len; i++)
	{
		unsigned char c = string->val.string.val[i];

		size += c < 0x20 ? strlen("\\u0000") : (c == '"' || c == '\\') ? 2 : 1;
	}
	return size;
}

/*
 * The size that jsonb has when stored says little about its text: 1e131071
 * takes 16 bytes, and 131072 digits.  Hence the text is measured, number by
 * number, and the first one that is too long ends it.
 */
char *
oe_jsonb_size_fault(JsonbContainer *value, size_t limit)
{
	JsonbIterator *it = JsonbIteratorInit(value);
	JsonbIteratorToken token;
	JsonbValue	v;
	size_t		size = 0;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if (token != WJB_KEY && token != WJB_VALUE && token != WJB_ELEM)
			size++;				/* a bracket */
		else if (v.type == jbvNumeric)
		{
			char	   *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
			size_t		len = strlen(digits);

			if (!number_is_short(digits, len))
				return pstrdup("must not contain a number of more than "
							   AS_STRING(OE_MAX_NUMBER_DIGITS) " digits");
			size += len + 2;
			pfree(digits);
		}
		else if (v.type == jbvString)
			size += string_text_size(&v) + 2;	/* and a colon or comma, and a space */
		else
			size += strlen("false") + 2;

		if (size > limit)
			return psprintf("must have at most %zu bytes as text", limit);
	}
	return NULL;
}

Jsonb *
oe_arg_jsonb(FunctionCallInfo fcinfo, int argno, const char *argname, size_t limit)
{
	Jsonb	   *value;
	char	   *fault;

	if (PG_ARGISNULL(argno))
		return NULL;
	value = PG_GETARG_JSONB_P(argno);
	fault = oe_jsonb_size_fault(&value->root, limit);
	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" %s", argname, fault)));
	return value;
}

Jsonb *
oe_arg_metadata(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	Jsonb	   *value = oe_arg_jsonb(fcinfo, argno, argname, OE_MAX_METADATA_BYTES);

	if (value != NULL && !JB_ROOT_IS_OBJECT(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON object", argname)));
	return value;
}
