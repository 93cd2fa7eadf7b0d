/*
 * part_kind.c
 *	  The kinds of parts that an order has.
 */
#include "postgres.h"

#include "part.h"

static const OePartKind *const kinds[] = {
	&oe_payment_kind, &oe_fulfillment_kind, &oe_return_kind
};

const OePartKind *
oe_part_kind(const char *name)
{
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	}
	return NULL;
}

const OePartKind *
oe_part_kind_of(Oid relid)
{
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (oe_relid(kinds[i]->rel) == relid)
			return kinds[i];
	}
	return NULL;
}
