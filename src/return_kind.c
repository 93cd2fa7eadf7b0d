/*
 * return_kind.c
 *	  What is particular to returns as parts of an order.
 *
 * As for fulfillments, nothing here knows a state: units of a return are open
 * until it is received or will not come.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "errors.h"
#include "line_status.h"
#include "return.h"
#include "utils/builtins.h"

/* A return that nobody counted comes back as a whole. */
static const char *
check_units_returnable(const OeOrder *order, const OePart *part, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM (SELECT line_no, quantity, restocked + damaged + discarded AS came,"
		"   sum(restocked + damaged + discarded) OVER () AS counted"
		"  FROM order_engine.return_line WHERE return_id = $1) r"
		" JOIN order_engine.order_line l ON l.order_id = $2 AND l.line_no = r.line_no"
		" WHERE CASE WHEN r.counted > 0 THEN r.came ELSE r.quantity END"
		"  > l.shipped - l.undelivered - l.returned LIMIT 1",
		2, {INT8OID, INT8OID}
	};
	Datum		values[2] = {Int64GetDatum(part->id), Int64GetDatum(part->order_id)};
	bool		found;

	oe_spi_connect();
	found = oe_query_run(&query, values, NULL, false, SPI_OK_SELECT) > 0;
	oe_spi_finish();
	return found ? "units of it came back already" : NULL;
}

static const OeGuard guards[] = {
	{"units_returnable", ERRCODE_OE_GUARD_REJECTED, check_units_returnable},
};
static const OeGuardList guard_list = {guards, lengthof(guards)};

static const OeNamed effects[] = {
	{"receive_units", OE_RETURN_RECEIVE_UNITS},
	{"release_units", OE_RETURN_RELEASE_UNITS},
	{"request_refund", OE_RETURN_REQUEST_REFUND},
};

static const OeNamed milestones[] = {
	{"received_at", Anum_return_received_at},
};

static const int kept[] = {
	Anum_return_received_at, Anum_return_refund_amount, 0
};

/* lines, with what became of them, and money; "reason" is that of the event */
static void
describe(const OePart *part, JsonbParseState **payload)
{
	static OeQuery query = {
		"SELECT r.reason, r.refund_amount, (SELECT pg_catalog.jsonb_agg("
		"   pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("
		"    'line_no', v.line_no, 'sku', l.sku, 'quantity', v.quantity, 'reason', v.reason,"
		"    'restocked', v.restocked, 'damaged', v.damaged, 'discarded', v.discarded,"
		"    'location', v.location)) ORDER BY v.line_no)"
		"  FROM order_engine.return_line v"
		"  JOIN order_engine.order_line l ON l.order_id = r.order_id AND l.line_no = v.line_no"
		"  WHERE v.return_id = r.return_id)"
		" FROM order_engine.order_return r WHERE r.return_id = $1",
		1, {INT8OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;
	Datum		id = Int64GetDatum(part->id);
	Datum		values[3];
	bool		nulls[3];
	char	   *reason;
	Numeric		amount = NULL;
	Jsonb	   *lines = NULL;

	oe_spi_connect();
	if (oe_query_run(&query, &id, NULL, false, SPI_OK_SELECT) != 1)
		oe_not_found(part->kind->name, part->id);
	for (int i = 0; i < lengthof(values); i++)
		values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &nulls[i]);
	spi = MemoryContextSwitchTo(caller);
	reason = TextDatumGetCString(values[0]);
	if (!nulls[1])
		amount = DatumGetNumericCopy(values[1]);
	if (!nulls[2])
		lines = DatumGetJsonbPCopy(values[2]);
	MemoryContextSwitchTo(spi);
	oe_spi_finish();

	oe_jsonb_push_jsonb(payload, "lines", lines);
	oe_jsonb_push_text(payload, "return_reason", reason);
	if (amount != NULL)
		oe_jsonb_push_numeric(payload, "refund_amount", amount);
}

OE_PART_QUERIES("order_return", "return_id");
static OeQuery roll_up_query = {
	"UPDATE order_engine.orders o SET " OE_LINE_STATUS_SET " FROM " OE_LINE_STATUS_FROM
	" WHERE o.order_id = $1 RETURNING o.*",
	1, {INT8OID}
};

const OePartKind oe_return_kind = {
	.name = "return",
	.id_key = "return_id",
	.rel = OE_REL_ORDER_RETURN,
	.natts = Natts_return,
	.guards = &guard_list,
	.effects = {effects, lengthof(effects)},
	.milestones = {milestones, lengthof(milestones)},
	.kept = kept,
	.read = &read_query,
	.lock = &lock_query,
	.lock_nowait = &lock_nowait_query,
	.set_state = &set_state_query,
	.roll_up = &roll_up_query,
	.apply = oe_return_apply,
	.describe = describe,
	.follow = oe_return_follow,
};
