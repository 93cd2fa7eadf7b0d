/*
 * fulfillment_kind.c
 *	  What is particular to fulfillments as parts of an order.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "part.h"

static const OeGuardList guards = {NULL, 0};

static OeQuery read_query = {
	"SELECT * FROM order_engine.fulfillment WHERE fulfillment_id = $1",
	1, {INT8OID}
};
static OeQuery lock_query = {
	"SELECT * FROM order_engine.fulfillment WHERE fulfillment_id = $1 FOR NO KEY UPDATE",
	1, {INT8OID}
};
static OeQuery lock_nowait_query = {
	"SELECT * FROM order_engine.fulfillment WHERE fulfillment_id = $1 FOR NO KEY UPDATE NOWAIT",
	1, {INT8OID}
};
static OeQuery set_state_query = {
	"UPDATE order_engine.fulfillment SET state = $2 WHERE fulfillment_id = $1",
	2, {INT8OID, TEXTOID}
};

const OePartKind oe_fulfillment_kind = {
	.name = "fulfillment",
	.id_key = "fulfillment_id",
	.rel = OE_REL_FULFILLMENT,
	.natts = 13,
	.guards = &guards,
	.read = &read_query,
	.lock = &lock_query,
	.lock_nowait = &lock_nowait_query,
	.set_state = &set_state_query,
};
