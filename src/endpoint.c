/*
 * endpoint.c
 *	  What the SQL functions for endpoints need from C.
 *
 * The functions themselves are in sql/70_endpoint.sql.  Here is what checks the
 * settings of an endpoint by the very code that the worker uses, what makes and
 * shows secrets, what appends the events that are news of an endpoint, and what
 * tells the workers of a change.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "http.h"
#include "miscadmin.h"
#include "outbox.h"
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

/* a UUID of version 7 begins with milliseconds since 1970 */
#define UUID_MS_BYTES	6
#define UUID_MAX_MS		((INT64CONST(1) << (8 * UUID_MS_BYTES)) - 1)
#define UNIX_EPOCH_MS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

PG_FUNCTION_INFO_V1(oe_check_url);
PG_FUNCTION_INFO_V1(oe_check_event_types);
PG_FUNCTION_INFO_V1(oe_check_headers);
PG_FUNCTION_INFO_V1(oe_check_retry);
PG_FUNCTION_INFO_V1(oe_make_secret);
PG_FUNCTION_INFO_V1(oe_show_secret);
PG_FUNCTION_INFO_V1(oe_endpoint_gets);
PG_FUNCTION_INFO_V1(oe_append_event);
PG_FUNCTION_INFO_V1(oe_uuid_at);
PG_FUNCTION_INFO_V1(oe_uuid_time);
PG_FUNCTION_INFO_V1(oe_endpoint_changed);
PG_FUNCTION_INFO_V1(oe_wake_workers);

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

static bool
text_is(const text *value, const char *word)
{
	return VARSIZE_ANY_EXHDR(value) == strlen(word) &&
		memcmp(VARDATA_ANY(value), word, strlen(word)) == 0;
}

/*
 * endpoint_gets(name, event_types, aggregatetype, aggregateid, type)
 *		Is an event meant for the endpoint?  News of an endpoint are not sent to
 *		the endpoint itself; its test event is sent to nobody else.
 */
Datum
oe_endpoint_gets(PG_FUNCTION_ARGS)
{
	text	   *name = PG_GETARG_TEXT_PP(0);
	ArrayType  *globs = PG_GETARG_ARRAYTYPE_P(1);
	text	   *aggregatetype = PG_GETARG_TEXT_PP(2);
	text	   *aggregateid = PG_GETARG_TEXT_PP(3);
	text	   *type = PG_GETARG_TEXT_PP(4);
	ArrayIterator it;
	Datum		glob;
	bool		isnull;

	if (text_is(aggregatetype, OE_AGGREGATE_ENDPOINT))
	{
		bool		own = VARSIZE_ANY_EXHDR(aggregateid) == VARSIZE_ANY_EXHDR(name) &&
			memcmp(VARDATA_ANY(aggregateid), VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == 0;

		if (text_is(type, OE_TYPE_ENDPOINT_TEST))
			PG_RETURN_BOOL(own);
		if (own)
			PG_RETURN_BOOL(false);
	}

	it = array_create_iterator(globs, 0, NULL);
	while (array_iterate(it, &glob, &isnull))
	{
		text	   *pattern;

		if (isnull)
			continue;
		pattern = DatumGetTextPP(glob);
		if (oe_glob_match(VARDATA_ANY(pattern), VARSIZE_ANY_EXHDR(pattern),
						  VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)))
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}

/*
 * append_event(aggregatetype, aggregateid, type, payload)
 *		An event that emit() leaves to us: news of an endpoint.
 */
Datum
oe_append_event(PG_FUNCTION_ARGS)
{
	OeEvent		event = {0};
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	event.aggregatetype = text_to_cstring(PG_GETARG_TEXT_PP(0));
	event.aggregateid = text_to_cstring(PG_GETARG_TEXT_PP(1));
	event.type = text_to_cstring(PG_GETARG_TEXT_PP(2));
	event.payload = PG_GETARG_JSONB_P(3);
	event.last_txid = InvalidFullTransactionId;
	event.created_at = GetCurrentTimestamp();
	oe_outbox_new_id(event.created_at, id);
	event.id = id;
	oe_outbox_append(&event);
	PG_RETURN_UUID_P(id);
}

/*
 * uuid_at(at, last)
 *		The first or last id that an event of that millisecond can have.
 */
Datum
oe_uuid_at(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(0);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	int64		ms;

	if (TIMESTAMP_IS_NOBEGIN(at))
		ms = 0;
	else if (TIMESTAMP_IS_NOEND(at))
		ms = UUID_MAX_MS;
	else
	{
		/* rounded down, also before 2000, where times are negative */
		ms = at / 1000 - (at % 1000 < 0 ? 1 : 0) + UNIX_EPOCH_MS;
		ms = Max(0, Min(ms, UUID_MAX_MS));
	}
	memset(id->data, PG_GETARG_BOOL(1) ? 0xff : 0, UUID_LEN);
	for (int i = 0; i < UUID_MS_BYTES; i++)
		id->data[i] = (unsigned char) (ms >> (8 * (UUID_MS_BYTES - 1 - i)));
	PG_RETURN_UUID_P(id);
}

/* uuid_time(id): the millisecond that an id of an event was made in. */
Datum
oe_uuid_time(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = PG_GETARG_UUID_P(0);
	int64		ms = 0;

	for (int i = 0; i < UUID_MS_BYTES; i++)
		ms = ms << 8 | id->data[i];
	PG_RETURN_TIMESTAMPTZ((ms - UNIX_EPOCH_MS) * 1000);
}

/*
 * Has the workers read the tables of the endpoints again.  The invalidation
 * reaches them with their next transaction, which the wake-up brings about.
 */
static void
announce_change(void)
{
	CacheInvalidateRelcacheByRelid(oe_relid(OE_REL_ENDPOINT));
	oe_wake_worker_for_change();
}

/* Statement trigger on the tables that only clients write. */
Datum
oe_endpoint_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by a trigger", "endpoint_changed")));

	announce_change();
	PG_RETURN_POINTER(NULL);
}

/* The same for a change of a table that the workers write as well. */
Datum
oe_wake_workers(PG_FUNCTION_ARGS)
{
	announce_change();
	PG_RETURN_VOID();
}
