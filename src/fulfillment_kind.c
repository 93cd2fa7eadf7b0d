/*
 * fulfillment_kind.c
 *	  What is particular to fulfillments as parts of an order.
 *
 * Nothing here knows a state: units of a fulfillment are open, shipped, delivered
 * or undelivered by the counters of its lines, which effects move.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "errors.h"
#include "fulfillment.h"
#include "line_status.h"
#include "machine_graph.h"
#include "utils/builtins.h"

static const char *
check_order_confirmed(const OeOrder *order, const OePart *part, TimestampTz now)
{
	const OeMachine *machine = oe_machine_by_id(order->machine_id);
	int			state = oe_machine_state_no(machine, order->state);

	if (!order->confirmed)
		return "the order was not confirmed";
	if (state < 0 || machine->states[state].terminal)
		return psprintf("the order is %s", order->state);
	return NULL;
}

static const char *
check_no_hold(const OeOrder *order, const OePart *part, TimestampTz now)
{
	return order->on_hold ? "the order is on hold" : NULL;
}

/* Whether a query of a fulfillment ($1) and its order ($2) finds something. */
static bool
some_line(OeQuery *query, const OePart *part)
{
	Datum		values[2] = {Int64GetDatum(part->id), Int64GetDatum(part->order_id)};
	bool		found;

	oe_spi_connect();
	found = oe_query_run(query, values, NULL, false, SPI_OK_SELECT) > 0;
	oe_spi_finish();
	return found;
}

static const char *
check_units_open(const OeOrder *order, const OePart *part, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.fulfillment_line f"
		" JOIN order_engine.order_line l ON l.order_id = $2 AND l.line_no = f.line_no"
		" WHERE f.fulfillment_id = $1 AND f.open > l.quantity - l.cancelled - l.shipped LIMIT 1",
		2, {INT8OID, INT8OID}
	};

	return some_line(&query, part) ? "units of it were shipped or cancelled already" : NULL;
}

static const char *
check_units_underway(const OeOrder *order, const OePart *part, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.fulfillment_line f"
		" JOIN order_engine.order_line l ON l.order_id = $2 AND l.line_no = f.line_no"
		" WHERE f.fulfillment_id = $1 AND f.shipped - f.delivered - f.undelivered"
		"  > l.shipped - l.delivered - l.undelivered LIMIT 1",
		2, {INT8OID, INT8OID}
	};

	return some_line(&query, part) ? "units of it were delivered already" : NULL;
}

static const char *
check_units_not_returned(const OeOrder *order, const OePart *part, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.fulfillment_line f"
		" JOIN order_engine.order_line l ON l.order_id = $2 AND l.line_no = f.line_no"
		" WHERE f.fulfillment_id = $1 AND f.shipped - f.delivered - f.undelivered"
		"  > l.shipped - l.undelivered - l.returned LIMIT 1",
		2, {INT8OID, INT8OID}
	};

	return some_line(&query, part) ? "units of it were returned already" : NULL;
}

static const OeGuard guards[] = {
	{"order_confirmed", ERRCODE_OE_GUARD_REJECTED, check_order_confirmed},
	{"no_hold", ERRCODE_OE_ORDER_ON_HOLD, check_no_hold},
	{"units_open", ERRCODE_OE_GUARD_REJECTED, check_units_open},
	{"units_underway", ERRCODE_OE_GUARD_REJECTED, check_units_underway},
	{"units_not_returned", ERRCODE_OE_GUARD_REJECTED, check_units_not_returned},
};
static const OeGuardList guard_list = {guards, lengthof(guards)};

void
oe_fulfillment_require_confirmed(const OeOrder *order)
{
	OeRejection rejection = {.sqlstate = guards[0].sqlstate, .guard = guards[0].name};

	rejection.reason = check_order_confirmed(order, NULL, 0);
	if (rejection.reason != NULL)
		oe_guard_reject(&rejection, order, NULL, "create_fulfillment");
}

static const OeNamed effects[] = {
	{"ship_units", OE_FULFILLMENT_SHIP_UNITS},
	{"deliver_units", OE_FULFILLMENT_DELIVER_UNITS},
	{"restock_units", OE_FULFILLMENT_RESTOCK_UNITS},
	{"release_units", OE_FULFILLMENT_RELEASE_UNITS},
};

static const OeNamed milestones[] = {
	{"shipped_at", Anum_fulfillment_shipped_at},
	{"delivered_at", Anum_fulfillment_delivered_at},
};

static const int kept[] = {
	Anum_fulfillment_shipped_at, Anum_fulfillment_delivered_at, Anum_fulfillment_location,
	Anum_fulfillment_tracking, 0
};

/* lines, location and parcels: what a warehouse or a mail to the customer needs */
static void
describe(const OePart *part, JsonbParseState **payload)
{
	static OeQuery query = {
		"SELECT f.location, f.tracking, (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("
		"   'line_no', v.line_no, 'sku', l.sku, 'quantity', v.quantity) ORDER BY v.line_no)"
		"  FROM order_engine.fulfillment_line v"
		"  JOIN order_engine.order_line l ON l.order_id = f.order_id AND l.line_no = v.line_no"
		"  WHERE v.fulfillment_id = f.fulfillment_id)"
		" FROM order_engine.fulfillment f WHERE f.fulfillment_id = $1",
		1, {INT8OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		id = Int64GetDatum(part->id);
	char	   *location;
	Jsonb	   *documents[2] = {NULL, NULL};

	oe_spi_connect();
	if (oe_query_run(&query, &id, NULL, false, SPI_OK_SELECT) != 1)
		oe_not_found(part->kind->name, part->id);
	location = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (location != NULL)
		location = MemoryContextStrdup(caller, location);
	for (int i = 0; i < lengthof(documents); i++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 2, &isnull);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		if (!isnull)
			documents[i] = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(spi);
	}
	oe_spi_finish();

	oe_jsonb_push_jsonb(payload, "lines", documents[1]);
	oe_jsonb_push_text(payload, "location", location);
	oe_jsonb_push_jsonb(payload, "tracking", documents[0]);
}

OE_PART_QUERIES("fulfillment", "fulfillment_id");
static OeQuery roll_up_query = {
	"UPDATE order_engine.orders o SET " OE_LINE_STATUS_SET " FROM " OE_LINE_STATUS_FROM
	" WHERE o.order_id = $1 RETURNING o.*",
	1, {INT8OID}
};

const OePartKind oe_fulfillment_kind = {
	.name = "fulfillment",
	.id_key = "fulfillment_id",
	.rel = OE_REL_FULFILLMENT,
	.natts = Natts_fulfillment,
	.guards = &guard_list,
	.effects = {effects, lengthof(effects)},
	.milestones = {milestones, lengthof(milestones)},
	.kept = kept,
	.read = &read_query,
	.lock = &lock_query,
	.lock_nowait = &lock_nowait_query,
	.set_state = &set_state_query,
	.roll_up = &roll_up_query,
	.apply = oe_fulfillment_apply,
	.describe = describe,
	.follow = oe_fulfillment_follow,
};
