/*
 * fulfillment_tracking.c
 *	  The argument "tracking" of fulfillments: its parcels.
 */
#include "postgres.h"

#include "args.h"
#include "errors.h"
#include "fulfillment.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define MAX_PARCELS			100
#define MAX_URL_BYTES		2048

static void
parcel_error(int position, const char *key, const char *fault)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_int64(&json, "position", position);
	if (key != NULL)
		oe_json_text(&json, "key", key);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 key != NULL ?
			 errmsg("parcel %d: \"%s\" %s", position, key, fault) :
			 errmsg("parcel %d %s", position, fault),
			 errdetail_internal("%s", oe_json_end(&json))));
}

/* It ends as a link in a mail or a page, so only what a browser asks the web for. */
static bool
url_is_valid(const char *url, int len)
{
	if (len > MAX_URL_BYTES ||
		!((len > 8 && pg_strncasecmp(url, "https://", 8) == 0) ||
		  (len > 7 && pg_strncasecmp(url, "http://", 7) == 0)))
		return false;
	for (int i = 0; i < len; i++)
	{
		if ((unsigned char) url[i] <= ' ' || url[i] == 0x7f || strchr("\"<>\\^`{|}", url[i]) != NULL)
			return false;
	}
	return true;
}

static void
check_parcel(JsonbContainer *object, int position)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	v;

	(void) JsonbIteratorNext(&it, &v, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *key = pnstrdup(v.val.string.val, v.val.string.len);
		bool		is_url = strcmp(key, "url") == 0;
		const char *why;

		if (!is_url && strcmp(key, "carrier") != 0 && strcmp(key, "number") != 0)
			parcel_error(position, key, "is not a known key");
		(void) JsonbIteratorNext(&it, &v, true);	/* WJB_VALUE */
		if (v.type == jbvNull)
			continue;
		if (v.type != jbvString)
			parcel_error(position, key, "must be a string");
		if (is_url && !url_is_valid(v.val.string.val, v.val.string.len))
			parcel_error(position, key, "must be a URL with http or https, of at most 2048 bytes");
		if (!is_url && !oe_name_is_valid(v.val.string.val, v.val.string.len, &why))
			parcel_error(position, key, why);
	}
}

Jsonb *
oe_arg_tracking(FunctionCallInfo fcinfo, int argno)
{
	Jsonb	   *tracking = oe_arg_jsonb(fcinfo, argno, "tracking", OE_MAX_METADATA_BYTES);
	JsonbIterator *it;
	JsonbValue	v;
	int			position = 0;

	if (tracking == NULL)
		return NULL;
	if (!JB_ROOT_IS_ARRAY(tracking) || JB_ROOT_IS_SCALAR(tracking))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON array of objects", "tracking")));
	if (JB_ROOT_COUNT(tracking) > MAX_PARCELS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" has %d elements, the limit is %d",
						"tracking", (int) JB_ROOT_COUNT(tracking), MAX_PARCELS)));

	it = JsonbIteratorInit(&tracking->root);
	(void) JsonbIteratorNext(&it, &v, true);	/* WJB_BEGIN_ARRAY */
	while (JsonbIteratorNext(&it, &v, true) == WJB_ELEM)
	{
		position++;
		if (v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data))
			parcel_error(position, NULL, "must be an object");
		check_parcel(v.val.binary.data, position);
	}
	return tracking;
}
