/*
 * endpoint.c
 *	  What the SQL functions for endpoints need from C.
 *
 * The functions themselves are in sql/70_endpoint.sql.  Here is what checks the
 * settings of an endpoint by the very code that the worker uses, what makes and
 * shows secrets, and what tells the worker of a change.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "http.h"
#include "miscadmin.h"
#include "policy_header.h"
#include "policy_match.h"
#include "policy_retry.h"
#include "relations.h"
#include "settings.h"
#include "sign.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "wakeup.h"

#define MAX_URL		2048
#define MAX_GLOBS	64

PG_FUNCTION_INFO_V1(oe_check_url);
PG_FUNCTION_INFO_V1(oe_check_event_types);
PG_FUNCTION_INFO_V1(oe_check_headers);
PG_FUNCTION_INFO_V1(oe_check_retry);
PG_FUNCTION_INFO_V1(oe_make_secret);
PG_FUNCTION_INFO_V1(oe_show_secret);
PG_FUNCTION_INFO_V1(oe_endpoint_changed);

/* The URL itself stays out of the message: it may hold a token. */
Datum
oe_check_url(PG_FUNCTION_ARGS)
{
	char	   *url = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char		why[256];

	if (strlen(url) > MAX_URL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the URL of an endpoint must have at most %d bytes", MAX_URL)));
	for (const char *p = url; *p; p++)
	{
		if ((unsigned char) *p <= 0x20 || *p == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the URL of an endpoint must not contain spaces or control characters")));
	}
	if (!oe_http_url_check(url, oe_allow_http, why, sizeof(why)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the URL of the endpoint cannot be used: %s", why),
				 errhint("Give an absolute https URL.")));
	PG_RETURN_VOID();
}

Datum
oe_check_event_types(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (ARR_NDIM(array) > 1 || n < 1 || n > MAX_GLOBS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event_types must be a list of 1 to %d patterns", MAX_GLOBS)));
	for (int i = 0; i < n; i++)
	{
		char		why[256];
		text	   *glob;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("event_types must not contain nulls")));
		glob = DatumGetTextPP(elements[i]);
		if (!oe_glob_check(VARDATA_ANY(glob), VARSIZE_ANY_EXHDR(glob), why, sizeof(why)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid event type \"%s\"", text_to_cstring(glob)),
					 errdetail("%s", why)));
	}
	PG_RETURN_VOID();
}

/* A header's value stays out of the message: it may be a credential. */
Datum
oe_check_headers(PG_FUNCTION_ARGS)
{
	Jsonb	   *headers = PG_GETARG_JSONB_P(0);
	oe_header_budget budget = {0};
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	JsonbValue	name = {0};

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object of names and values")));
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char		why[256];

		if (token == WJB_KEY)
			name = value;
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of header \"%s\" must be a string",
							pnstrdup(name.val.string.val, name.val.string.len))));
		if (!oe_header_add(&budget, name.val.string.val, name.val.string.len,
						   value.val.string.val, value.val.string.len, why, sizeof(why)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid header \"%s\"",
							pnstrdup(name.val.string.val, name.val.string.len)),
					 errdetail("%s", why)));
	}
	PG_RETURN_VOID();
}

static int64
interval_usecs(Interval *span)
{
	if (span->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an interval of an endpoint must not contain months"),
				 errhint("Months have no fixed length; give days or hours.")));
	return span->time + (int64) span->day * USECS_PER_DAY;
}

Datum
oe_check_retry(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	int64		max_age = interval_usecs(PG_GETARG_INTERVAL_P(1));
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int64	   *schedule;
	char		why[256];

	deconstruct_array(array, INTERVALOID, sizeof(Interval), false, TYPALIGN_DOUBLE,
					  &elements, &nulls, &n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retry_schedule must be a list")));
	schedule = palloc(Max(n, 1) * sizeof(int64));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("retry_schedule must not contain nulls")));
		schedule[i] = interval_usecs(DatumGetIntervalP(elements[i]));
	}
	if (!oe_retry_schedule_check(schedule, n, max_age, why, sizeof(why)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid retry schedule: %s", why)));
	PG_RETURN_VOID();
}

/*
 * make_secret(text)
 *		The key bytes of a secret in its text form, or of a new one for null.
 */
Datum
oe_make_secret(PG_FUNCTION_ARGS)
{
	uint8		bytes[OE_SECRET_MAX];
	size_t		len = 32;
	bytea	   *result;
	char		why[256];

	if (PG_ARGISNULL(0))
	{
		if (!pg_strong_random(bytes, len))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random secret")));
	}
	else if (!oe_secret_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), bytes, &len,
							  why, sizeof(why)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid secret: %s", why)));
	result = palloc(VARHDRSZ + len);
	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), bytes, len);
	explicit_bzero(bytes, sizeof(bytes));
	PG_RETURN_BYTEA_P(result);
}

/* show_secret(bytea): the text form that receivers are configured with. */
Datum
oe_show_secret(PG_FUNCTION_ARGS)
{
	bytea	   *secret = PG_GETARG_BYTEA_PP(0);
	char		shown[OE_SECRET_TEXT_SIZE];
	char		why[256];

	if (!oe_secret_format((uint8 *) VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret),
						  shown, sizeof(shown), why, sizeof(why)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid secret: %s", why)));
	PG_RETURN_TEXT_P(cstring_to_text(shown));
}

/*
 * Statement trigger on endpoint and endpoint_secret: has the worker read them
 * again.  The invalidation reaches it with its next transaction, which the
 * wake-up brings about.
 */
Datum
oe_endpoint_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by a trigger", "endpoint_changed")));

	CacheInvalidateRelcacheByRelid(oe_relid(OE_REL_ENDPOINT));
	oe_wake_worker_for_change();
	PG_RETURN_POINTER(NULL);
}
