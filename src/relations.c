/*
 * relations.c
 *	  The extension's own relations: name to Oid, cached.
 *
 * Lifecycle: one cache per backend, filled on demand, emptied when any of the
 * cached relations is invalidated (DROP EXTENSION and CREATE EXTENSION give new
 * Oids; other DDL costs a look-up more, which does not matter).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "relations.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

uint64		oe_relations_generation = 1;

static const char *const names[OE_REL_COUNT] = {
	[OE_REL_ID_SEQ] = "id_seq",
	[OE_REL_MACHINE] = "machine",
	[OE_REL_HISTORY] = "history",
	[OE_REL_CURRENCY] = "currency",
	[OE_REL_PRODUCT] = "product",
	[OE_REL_LOCATION] = "location",
	[OE_REL_CHANNEL_LOCATION] = "channel_location",
	[OE_REL_ORDERS] = "orders",
	[OE_REL_ORDER_LINE] = "order_line",
	[OE_REL_PAYMENT] = "payment",
	[OE_REL_PAYMENT_TRANSACTION] = "payment_transaction",
	[OE_REL_FULFILLMENT] = "fulfillment",
	[OE_REL_FULFILLMENT_LINE] = "fulfillment_line",
	[OE_REL_ORDER_RETURN] = "order_return",
	[OE_REL_RETURN_LINE] = "return_line",
	[OE_REL_ORDER_HOLD] = "order_hold",
	[OE_REL_STOCK] = "stock",
	[OE_REL_RESERVATION] = "reservation",
	[OE_REL_STOCK_MOVEMENT] = "stock_movement",
	[OE_REL_IDEMPOTENCY_KEY] = "idempotency_key",
	[OE_REL_IDEMPOTENCY_KEY_PKEY] = "idempotency_key_pkey",
	[OE_REL_OUTBOX] = "outbox",
	[OE_REL_OUTBOX_RING] = "outbox_ring",
	[OE_REL_OUTBOX_LEAF] = "outbox_leaf",
	[OE_REL_ENDPOINT] = "endpoint",
	[OE_REL_POSITION_0] = "position_0",
	[OE_REL_POSITION_1] = "position_1",
	[OE_REL_DELIVERY_RETRY] = "delivery_retry",
	[OE_REL_DELIVERY_DEAD] = "delivery_dead",
	[OE_REL_REPLAY] = "replay",
	[OE_REL_DELIVERY_ATTEMPT_0] = "delivery_attempt_0",
	[OE_REL_DELIVERY_ATTEMPT_1] = "delivery_attempt_1",
	[OE_REL_DELIVERY_ATTEMPT_2] = "delivery_attempt_2",
	[OE_REL_DELIVERY_ATTEMPT_3] = "delivery_attempt_3",
};

static Oid	cache[OE_REL_COUNT];
static bool cache_filled = false;

static void
invalidate(Datum arg, Oid relid)
{
	if (!cache_filled)
		return;
	for (int i = 0; i < OE_REL_COUNT; i++)
	{
		if (relid == InvalidOid || cache[i] == relid)
		{
			memset(cache, 0, sizeof(cache));
			cache_filled = false;
			oe_relations_generation++;
			return;
		}
	}
}

void
oe_relations_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

Oid
oe_relid_missing_ok(OeRel rel)
{
	Oid			nspid;
	Oid			relid;

	/* checked before the cache, so that a mistake does not depend on its state */
	Assert(IsTransactionState());

	if (OidIsValid(cache[rel]))
		return cache[rel];

	nspid = get_namespace_oid("order_engine", true);
	relid = OidIsValid(nspid) ? get_relname_relid(names[rel], nspid) : InvalidOid;
	if (OidIsValid(relid))
	{
		/* set last: the look-up may itself process invalidations */
		cache[rel] = relid;
		cache_filled = true;
	}
	return relid;
}

Oid
oe_relid(OeRel rel)
{
	Oid			relid = oe_relid_missing_ok(rel);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"order_engine\" is not installed in this database"),
				 errdetail("The relation order_engine.%s does not exist.", names[rel]),
				 errhint("Run CREATE EXTENSION order_engine.")));
	return relid;
}
