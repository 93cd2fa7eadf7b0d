/*
 * payment_limit.c
 *	  How much may be requested of an order's payments.
 *
 * Undecided requests count as if they had succeeded: two of them that together
 * exceed a limit must not both be sent, whatever comes back first.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "effect.h"
#include "errors.h"
#include "machine_graph.h"
#include "money.h"
#include "payment.h"
#include "utils/builtins.h"

/* New money that is requested, or will be once more, and is not authorized yet. */
static Numeric
new_money(int64 order_id)
{
	static OeQuery query = {
		"SELECT coalesce(sum(CASE WHEN p.next_attempt_at IS NOT NULL THEN p.amount"
		"  ELSE greatest(t.requested - p.authorized, 0) END), 0)"
		" FROM order_engine.payment AS p LEFT JOIN LATERAL ("
		"  SELECT sum(t.requested) AS requested FROM order_engine.payment_transaction AS t"
		"  WHERE t.payment_id = p.payment_id AND t.kind = p.kind AND t.state IN ('initial', 'pending')) AS t ON true"
		" WHERE p.order_id = $1",
		1, {INT8OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;
	Datum		arg = Int64GetDatum(order_id);
	Numeric		sum;
	Datum		value;
	bool		isnull;

	oe_spi_connect();
	(void) oe_query_run(&query, &arg, NULL, false, SPI_OK_SELECT);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	spi = MemoryContextSwitchTo(caller);
	sum = DatumGetNumericCopy(value);
	MemoryContextSwitchTo(spi);
	oe_spi_finish();
	return sum;
}

Numeric
oe_payment_open(const OeOrder *order)
{
	Numeric		open = oe_amount_sub(order->total, order->credited_total);

	open = oe_amount_sub(open, order->captured_total);
	open = oe_amount_add(open, order->refunded_total);
	open = oe_amount_add(open, order->charged_back_total);
	open = oe_amount_sub(open, order->authorized_total);
	return oe_amount_sub(open, new_money(order->order_id));
}

Numeric
oe_payment_rest(const OePart *part)
{
	OeUndecided undecided;
	Numeric		rest;

	/* an authorization whose report is still to come may be captured or voided already */
	oe_payment_undecided(part->id, &undecided);
	rest = oe_amount_max(oe_payment_get(part, Anum_payment_authorized), undecided.authorizations);
	rest = oe_amount_sub(rest, oe_payment_get(part, Anum_payment_captured));
	rest = oe_amount_sub(rest, oe_payment_get(part, Anum_payment_voided));
	if (strcmp(oe_payment_text(part, Anum_payment_kind), OE_AUTHORIZATION) == 0)
		rest = oe_amount_sub(rest, undecided.captures);
	rest = oe_amount_sub(rest, undecided.voids);
	return oe_amount_max(rest, int64_to_numeric(0));
}

Numeric
oe_payment_refundable(const OePart *part)
{
	OeUndecided undecided;
	Numeric		rest;

	oe_payment_undecided(part->id, &undecided);
	rest = oe_amount_sub(oe_payment_get(part, Anum_payment_captured),
						 oe_payment_get(part, Anum_payment_refunded));
	rest = oe_amount_sub(rest, oe_payment_get(part, Anum_payment_charged_back));
	rest = oe_amount_sub(rest, undecided.refunds);
	return oe_amount_max(rest, int64_to_numeric(0));
}

bool
oe_order_is_dead(const OeOrder *order)
{
	const OeMachine *machine = oe_machine_by_id(order->machine_id);
	int			state = oe_machine_state_no(machine, order->state);

	if (state < 0 || !machine->states[state].terminal)
		return false;
	for (int i = 0; i < machine->ntransitions; i++)
	{
		if (machine->transitions[i].to_no == state &&
			(machine->transitions[i].effects & (OE_EFFECT_VOID_PAYMENTS | OE_EFFECT_REQUEST_REFUNDS)))
			return true;
	}
	return false;
}

void
oe_amount_exceeds(const char *what, Numeric limit, Numeric requested)
{
	OeJson		json;

	limit = oe_amount_max(limit, int64_to_numeric(0));
	oe_json_begin(&json);
	oe_json_raw(&json, "limit", oe_amount_text(limit));
	oe_json_raw(&json, "requested", requested == NULL ? "null" : oe_amount_text(requested));
	ereport(ERROR,
			(errcode(ERRCODE_OE_AMOUNT_EXCEEDS_LIMIT),
			 requested == NULL ?
			 errmsg("there is nothing left that can be %s", what) :
			 errmsg("%s can be %s, not %s", oe_amount_text(limit), what, oe_amount_text(requested)),
			 errdetail_internal("%s", oe_json_end(&json))));
}
