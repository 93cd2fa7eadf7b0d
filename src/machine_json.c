/*
 * machine_json.c
 *	  Read members of the JSON objects that make up the definition of a machine.
 *
 * What is missing or of another type is a fault in a list, not an error, and
 * "where" tells its place.  Everything is palloc'd in the current context.
 */
#include "postgres.h"

#include "args.h"
#include "machine_json.h"
#include "mb/pg_wchar.h"

/* bytes of a name of the definition that a fault repeats */
#define MAX_QUOTED	100

const char *
oe_quoted(const char *s, int len)
{
	if (len > MAX_QUOTED)
		return psprintf("\"%.*s...\"", pg_mbcliplen(s, len, MAX_QUOTED), s);
	return psprintf("\"%.*s\"", len, s);
}

const char *
oe_quoted_value(const JsonbValue *string)
{
	return oe_quoted(string->val.string.val, string->val.string.len);
}

JsonbValue *
oe_member(JsonbContainer *object, const char *key)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), NULL);
}

bool
oe_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

bool
oe_is_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) &&
		!JsonContainerIsScalar(value->val.binary.data);
}

void
oe_check_keys(OeFaults *faults, JsonbContainer *object, const char *where, const char *const *known)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	key;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const char *const *name = known;

		if (token != WJB_KEY)
			continue;
		while (*name != NULL &&
			   !(strlen(*name) == key.val.string.len &&
				 memcmp(*name, key.val.string.val, key.val.string.len) == 0))
			name++;
		if (*name == NULL)
			oe_faults_add(faults, "%s: unknown key %s", where, oe_quoted_value(&key));
	}
}

const char *
oe_name_member(OeFaults *faults, JsonbContainer *object, const char *key, const char *where)
{
	JsonbValue *value = oe_member(object, key);
	const char *why;

	if (value == NULL)
	{
		oe_faults_add(faults, "%s: \"%s\" is missing", where, key);
		return NULL;
	}
	if (value->type != jbvString)
	{
		oe_faults_add(faults, "%s: \"%s\" is not a string", where, key);
		return NULL;
	}
	if (!oe_name_is_valid(value->val.string.val, value->val.string.len, &why))
	{
		oe_faults_add(faults, "%s: \"%s\" %s", where, key, why);
		return NULL;
	}
	return pnstrdup(value->val.string.val, value->val.string.len);
}

bool
oe_bool_member(OeFaults *faults, JsonbContainer *object, const char *key, const char *where)
{
	JsonbValue *value = oe_member(object, key);

	if (value == NULL)
		return false;
	if (value->type != jbvBool)
	{
		oe_faults_add(faults, "%s: \"%s\" is not true or false", where, key);
		return false;
	}
	return value->val.boolean;
}

List *
oe_strings_member(OeFaults *faults, JsonbContainer *object, const char *key, const char *where)
{
	JsonbValue *array = oe_member(object, key);
	List	   *strings = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (array == NULL)
		return NIL;
	if (!oe_is_array(array))
	{
		oe_faults_add(faults, "%s: \"%s\" is not an array", where, key);
		return NIL;
	}
	it = JsonbIteratorInit(array->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (value.type == jbvString)
			strings = lappend(strings, pnstrdup(value.val.string.val, value.val.string.len));
		else
			oe_faults_add(faults, "%s: \"%s\" has an element that is not a string", where, key);
	}
	return strings;
}
