/*
 * payment_kind.c
 *	  What is particular to payments as parts of an order.
 *
 * The guards ask the amounts that record_payment() has recorded, so an UPDATE
 * written by hand can neither claim money nor give it up.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "errors.h"
#include "money.h"
#include "payment.h"
#include "utils/timestamp.h"

#define AMOUNT(column) oe_payment_get(part, Anum_payment_##column)

static const char *
check_past_limit(const OeOrder *order, const OePart *part, TimestampTz now)
{
	if (part->expires_at == DT_NOEND)
		return "the payment has no time limit";
	return part->expires_at > now ? "the time limit of the payment has not passed" : NULL;
}

static const char *
check_authorization_recorded(const OeOrder *order, const OePart *part, TimestampTz now)
{
	return oe_amount_is_positive(AMOUNT(authorized)) ? NULL : "no authorization is recorded";
}

static const char *
check_capture_recorded(const OeOrder *order, const OePart *part, TimestampTz now)
{
	return oe_amount_is_positive(AMOUNT(captured)) ? NULL : "no capture is recorded";
}

static const char *
check_nothing_captured(const OeOrder *order, const OePart *part, TimestampTz now)
{
	return oe_amount_is_positive(AMOUNT(captured)) ? "some of the payment was captured" : NULL;
}

static bool
money_is_coming(const OePart *part)
{
	OeUndecided undecided;

	oe_payment_undecided(part->id, &undecided);
	return oe_amount_is_positive(undecided.authorizations) || oe_amount_is_positive(undecided.captures);
}

/*
 * Why the payment may still be captured, NULL when it cannot.  Who has voided an
 * authorization need not wait for the report that it was made.
 */
static const char *
may_be_captured(const OePart *part)
{
	Numeric		used = oe_amount_add(AMOUNT(captured), AMOUNT(voided));
	OeUndecided undecided;

	if (oe_amount_cmp(AMOUNT(authorized), used) > 0)
		return "some of the payment is still authorized";
	oe_payment_undecided(part->id, &undecided);
	if (oe_amount_is_positive(undecided.captures) || oe_amount_cmp(undecided.authorizations, used) > 0)
		return "a request of the payment is not decided yet";
	return NULL;
}

static const char *
check_authorization_released(const OeOrder *order, const OePart *part, TimestampTz now)
{
	return may_be_captured(part);
}

/* The end of the payment, so nothing may be left that could still be captured. */
static const char *
check_refund_complete(const OeOrder *order, const OePart *part, TimestampTz now)
{
	if (!oe_amount_is_positive(AMOUNT(captured)))
		return "no capture is recorded";
	if (oe_amount_cmp(AMOUNT(refunded), AMOUNT(captured)) < 0)
		return "the recorded refunds are less than what was captured";
	return may_be_captured(part);
}

static const char *
check_nothing_undecided(const OeOrder *order, const OePart *part, TimestampTz now)
{
	return money_is_coming(part) ? "a request of the payment is not decided yet" : NULL;
}

static const OeGuard guard_entries[] = {
	{"past_limit", ERRCODE_OE_GUARD_REJECTED, check_past_limit},
	{"authorization_recorded", ERRCODE_OE_GUARD_REJECTED, check_authorization_recorded},
	{"capture_recorded", ERRCODE_OE_GUARD_REJECTED, check_capture_recorded},
	{"refund_complete", ERRCODE_OE_GUARD_REJECTED, check_refund_complete},
	{"nothing_captured", ERRCODE_OE_GUARD_REJECTED, check_nothing_captured},
	{"authorization_released", ERRCODE_OE_GUARD_REJECTED, check_authorization_released},
	{"nothing_undecided", ERRCODE_OE_GUARD_REJECTED, check_nothing_undecided},
};

static const OeGuardList guards = {guard_entries, lengthof(guard_entries)};

#define EFFECT_RELEASE_AUTHORIZATION	(1u << 0)	/* what was not captured counts as voided */

static const OeNamed effects[] = {
	{"release_authorization", EFFECT_RELEASE_AUTHORIZATION},
};

/* Amounts are sums of transactions, so what expires is one too. */
static void
apply_effects(uint32 bits, const OeOrder *order, const OePart *part, const char *reason, TimestampTz at)
{
	static OeQuery query = {
		/* an operator may have forced it before the authorization was reported */
		"UPDATE order_engine.payment SET voided = voided + $2,"
		" authorized = greatest(authorized, captured + voided + $2) WHERE payment_id = $1",
		2, {INT8OID, NUMERICOID}
	};
	OePaymentTransaction transaction = {.kind = OE_VOID, .state = OE_SUCCESS, .reason = "expired"};
	OePartUpdate update = {.to_state = part->state};
	Numeric		rest;
	Datum		values[2] = {Int64GetDatum(part->id)};

	if ((bits & EFFECT_RELEASE_AUTHORIZATION) == 0)
		return;
	/* captures that are under way may still succeed */
	rest = oe_payment_rest(part);
	if (!oe_amount_is_positive(rest))
		return;
	values[1] = NumericGetDatum(rest);
	oe_transaction_add(part, &transaction, rest, at);
	oe_part_update(part, &query, values, NULL, &update);
}

static const int kept_columns[] = {
	Anum_payment_amount, Anum_payment_authorized, Anum_payment_captured, Anum_payment_voided,
	Anum_payment_refunded, Anum_payment_charged_back, Anum_payment_attempts,
	Anum_payment_next_attempt_at, Anum_payment_kind, Anum_payment_currency, Anum_payment_provider, 0
};

OE_PART_QUERIES("payment", "payment_id");
static OeQuery roll_up_query = {
	"UPDATE order_engine.orders AS o SET authorized_total = s.authorized, captured_total = s.captured,"
	" refunded_total = s.refunded, charged_back_total = s.charged_back, payment_status = "
	OE_PAYMENT_STATUS("s.authorized", "s.captured", "s.refunded", "s.charged_back",
					  "o.total", "o.credited_total")
	/* what is left of an authorization behind the end of a payment pays nothing, unless it is being captured */
	" FROM (SELECT coalesce(sum(CASE WHEN p.state NOT IN ('refunded', 'failed', 'voided', 'expired')"
	"   THEN p.authorized - p.captured - p.voided"
	"   ELSE least(p.authorized - p.captured - p.voided,"
	"    (SELECT coalesce(sum(t.requested), p.voided - p.voided) FROM order_engine.payment_transaction AS t"
	"     WHERE t.payment_id = p.payment_id AND t.kind = 'capture' AND t.state IN ('initial', 'pending')))"
	"   END), 0) AS authorized,"
	"  coalesce(sum(p.captured), 0) AS captured, coalesce(sum(p.refunded), 0) AS refunded,"
	"  coalesce(sum(p.charged_back), 0) AS charged_back"
	"  FROM order_engine.payment AS p WHERE p.order_id = $1) AS s"
	" WHERE o.order_id = $1 RETURNING o.*",
	1, {INT8OID}
};

const OePartKind oe_payment_kind = {
	.name = "payment",
	.id_key = "payment_id",
	.rel = OE_REL_PAYMENT,
	.natts = Natts_payment,
	.guards = &guards,
	.effects = {effects, lengthof(effects)},
	.kept = kept_columns,
	.plan = Anum_payment_next_attempt_at,
	.read = &read_query,
	.lock = &lock_query,
	.lock_nowait = &lock_nowait_query,
	.set_state = &set_state_query,
	.roll_up = &roll_up_query,
	.apply = apply_effects,
	.describe = oe_payment_describe,
};
