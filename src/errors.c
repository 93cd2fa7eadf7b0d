/*
 * errors.c
 *	  JSON text for the DETAIL of errors.
 *
 * DETAIL is JSON so that an application can act on it.  The text is built with
 * the server's escape_json; there is no other way in for a caller's bytes.
 */
#include "postgres.h"

#include "errors.h"
#include "utils/json.h"

static void
begin(OeJson *json, char opener, char closer)
{
	initStringInfo(&json->buf);
	appendStringInfoChar(&json->buf, opener);
	json->need_comma = false;
	json->closer = closer;
}

void
oe_json_begin(OeJson *json)
{
	begin(json, '{', '}');
}

void
oe_json_begin_array(OeJson *json)
{
	begin(json, '[', ']');
}

static void
add_key(OeJson *json, const char *key)
{
	if (json->need_comma)
		appendStringInfoString(&json->buf, ", ");
	json->need_comma = true;
	if (key != NULL)
	{
		escape_json(&json->buf, key);
		appendStringInfoString(&json->buf, ": ");
	}
}

void
oe_json_text(OeJson *json, const char *key, const char *value)
{
	add_key(json, key);
	if (value == NULL)
		appendStringInfoString(&json->buf, "null");
	else
		escape_json(&json->buf, value);
}

void
oe_json_int64(OeJson *json, const char *key, int64 value)
{
	add_key(json, key);
	appendStringInfo(&json->buf, INT64_FORMAT, value);
}

void
oe_json_raw(OeJson *json, const char *key, const char *raw)
{
	add_key(json, key);
	appendStringInfoString(&json->buf, raw);
}

char *
oe_json_end(OeJson *json)
{
	appendStringInfoChar(&json->buf, json->closer);
	return json->buf.data;
}

void
oe_not_found(const char *entity, int64 id)
{
	OeJson		detail;

	oe_json_begin(&detail);
	oe_json_text(&detail, "entity", entity);
	oe_json_int64(&detail, "id", id);
	ereport(ERROR,
			(errcode(ERRCODE_OE_NOT_FOUND),
			 errmsg("there is no %s " INT64_FORMAT, entity, id),
			 errdetail_internal("%s", oe_json_end(&detail))));
}
