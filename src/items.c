/*
 * items.c
 *	  Parse the argument "items".
 *
 * A member that is not known is an error: a mistyped "quantitty" must not be
 * read as "one".  Members that may be left out may be null as well.
 */
#include "postgres.h"

#include "args.h"
#include "errors.h"
#include "items.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

/* longest price as text */
#define MAX_NUMBER_BYTES	64

static const struct
{
	const char *key;
	uint32		bit;
	bool		required;
}			members[] =
{
	{"sku", OE_ITEM_SKU, true},
	{"line_no", OE_ITEM_LINE_NO, true},
	{"quantity", OE_ITEM_QUANTITY, true},
	{"unit_price", OE_ITEM_UNIT_PRICE, false},
	{"location", OE_ITEM_LOCATION, false},
	{"seller", OE_ITEM_SELLER, false},
	{"metadata", OE_ITEM_METADATA, false},
	{"reason", OE_ITEM_REASON, false},
	{"disposition", OE_ITEM_DISPOSITION, false},
};

static void
item_error(int sqlstate, int position, const char *key, const char *fault)
{
	OeJson		json;

	oe_json_begin(&json);
	oe_json_int64(&json, "position", position);
	if (key != NULL)
		oe_json_text(&json, "key", key);
	ereport(ERROR,
			(errcode(sqlstate),
			 key != NULL ?
			 errmsg("item %d: \"%s\" %s", position, key, fault) :
			 errmsg("item %d %s", position, fault),
			 errdetail_internal("%s", oe_json_end(&json))));
}

void
oe_item_error(int position, const char *key, const char *fault)
{
	item_error(ERRCODE_INVALID_PARAMETER_VALUE, position, key, fault);
	pg_unreachable();
}

static char *
parse_name(int position, const char *key, const JsonbValue *v)
{
	const char *why;

	if (v->type != jbvString)
		oe_item_error(position, key, "must be a string");
	if (!oe_name_is_valid(v->val.string.val, v->val.string.len, &why))
		oe_item_error(position, key, why);
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static int32
parse_count(int position, const char *key, const JsonbValue *v)
{
	static const char fault[] = "must be an integer from 1 to 1000000000";
	bool		out_of_range;
	int32		n;

	if (v->type != jbvNumeric ||
		DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(v->val.numeric))) > 0)
		oe_item_error(position, key, fault);
	n = numeric_int4_opt_error(v->val.numeric, &out_of_range);
	if (out_of_range || n < 1 || n > OE_MAX_QUANTITY)
		oe_item_error(position, key, fault);
	return n;
}

/* Digits with at most one point among them, which numeric_in cannot refuse. */
static bool
is_plain_number(const char *s, int len)
{
	int			i = 0;
	int			digits = 0;

	if (len > MAX_NUMBER_BYTES)
		return false;
	if (i < len && s[i] == '-')
		i++;
	for (; i < len && isdigit((unsigned char) s[i]); i++)
		digits++;
	if (digits == 0)
		return false;
	if (i < len && s[i] == '.')
	{
		i++;
		for (digits = 0; i < len && isdigit((unsigned char) s[i]); i++)
			digits++;
	}
	return i == len && digits > 0;
}

static Numeric
parse_price(int position, const char *key, const JsonbValue *v)
{
	if (v->type == jbvNumeric)
		return v->val.numeric;
	if (v->type != jbvString || !is_plain_number(v->val.string.val, v->val.string.len))
		oe_item_error(position, key, "must be a number, or a number as text");
	return DatumGetNumeric(DirectFunctionCall3(numeric_in,
											   CStringGetDatum(pnstrdup(v->val.string.val, v->val.string.len)),
											   ObjectIdGetDatum(InvalidOid),
											   Int32GetDatum(-1)));
}

static OeDisposition
parse_disposition(int position, const char *key, const JsonbValue *v)
{
	static const char *const names[] = {
		[OE_RESTOCK] = "restock", [OE_DAMAGED] = "damaged", [OE_DISCARD] = "discard"
	};
	char	   *name = parse_name(position, key, v);

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
			return (OeDisposition) i;
	}
	oe_item_error(position, key, "must be restock, damaged or discard");
}

static Jsonb *
parse_metadata(int position, const char *key, JsonbValue *v)
{
	char	   *fault;

	if (v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
		oe_item_error(position, key, "must be an object");
	fault = oe_jsonb_size_fault(v->val.binary.data, OE_MAX_METADATA_BYTES);
	if (fault != NULL)
		oe_item_error(position, key, fault);
	return JsonbValueToJsonb(v);
}

static void
parse_item(JsonbContainer *object, int position, uint32 allowed, OeItem *item)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	v;
	uint32		seen = 0;

	memset(item, 0, sizeof(OeItem));
	item->position = position;

	(void) JsonbIteratorNext(&it, &v, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *key = pnstrdup(v.val.string.val, v.val.string.len);
		int			m = 0;

		while (m < lengthof(members) && strcmp(key, members[m].key) != 0)
			m++;
		if (m == lengthof(members) || !(members[m].bit & allowed))
			oe_item_error(position, key, "is not a known key");

		(void) JsonbIteratorNext(&it, &v, true);	/* WJB_VALUE */
		if (v.type == jbvNull)
		{
			if (members[m].required)
				item_error(ERRCODE_NULL_VALUE_NOT_ALLOWED, position, key, "must not be null");
			continue;
		}
		seen |= members[m].bit;
		switch (members[m].bit)
		{
			case OE_ITEM_SKU:
				item->sku = parse_name(position, key, &v);
				break;
			case OE_ITEM_LINE_NO:
				item->line_no = parse_count(position, key, &v);
				break;
			case OE_ITEM_QUANTITY:
				item->quantity = parse_count(position, key, &v);
				break;
			case OE_ITEM_UNIT_PRICE:
				item->unit_price = parse_price(position, key, &v);
				break;
			case OE_ITEM_LOCATION:
				item->location = parse_name(position, key, &v);
				break;
			case OE_ITEM_SELLER:
				item->seller = parse_name(position, key, &v);
				break;
			case OE_ITEM_METADATA:
				item->metadata = parse_metadata(position, key, &v);
				break;
			case OE_ITEM_REASON:
				item->reason = parse_name(position, key, &v);
				break;
			case OE_ITEM_DISPOSITION:
				item->disposition = parse_disposition(position, key, &v);
				break;
		}
	}

	for (int m = 0; m < lengthof(members); m++)
	{
		if (members[m].required && (members[m].bit & allowed) && !(members[m].bit & seen))
			oe_item_error(position, members[m].key, "is missing");
	}
}

Jsonb *
oe_arg_items(FunctionCallInfo fcinfo, int argno)
{
	return oe_arg_jsonb(fcinfo, argno, "items", OE_MAX_ITEMS_BYTES);
}

OeItem *
oe_items_parse(Jsonb *items, uint32 allowed, int *count)
{
	JsonbIterator *it;
	JsonbValue	v;
	OeItem	   *result;
	int			n = 0;

	if (!JB_ROOT_IS_ARRAY(items) || JB_ROOT_IS_SCALAR(items))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON array of objects", "items")));
	*count = JB_ROOT_COUNT(items);
	if (*count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", "items")));
	if (*count > OE_MAX_ITEMS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" has %d elements, the limit is %d",
						"items", *count, OE_MAX_ITEMS)));

	result = palloc(*count * sizeof(OeItem));
	it = JsonbIteratorInit(&items->root);
	(void) JsonbIteratorNext(&it, &v, true);	/* WJB_BEGIN_ARRAY */
	while (JsonbIteratorNext(&it, &v, true) == WJB_ELEM)
	{
		CHECK_FOR_INTERRUPTS();
		if (v.type == jbvNull)
			item_error(ERRCODE_NULL_VALUE_NOT_ALLOWED, n + 1, NULL, "must not be null");
		if (v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data))
			oe_item_error(n + 1, NULL, "must be an object");
		parse_item(v.val.binary.data, n + 1, allowed, &result[n]);
		n++;
	}
	return result;
}
