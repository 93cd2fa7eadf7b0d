/*
 * stock_release.c
 *	  How long a reservation holds; it is kept without a limit, or given back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "errors.h"
#include "relations.h"
#include "settings.h"
#include "stock.h"
#include "stock_held.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

TimestampTz
oe_hold_until(const Interval *hold_for, const char *argname, TimestampTz at)
{
	TimestampTz until;
	double		seconds;

	if (hold_for == NULL)
		return TimestampTzPlusMilliseconds(at, (int64) oe_hold_time * 1000);

	/* roughly first, for the addition may overflow */
	seconds = (hold_for->month * 30.0 + hold_for->day) * SECS_PER_DAY +
		hold_for->time / (double) USECS_PER_SEC;
	until = at;
	if (seconds > 0 && seconds <= OE_MAX_HOLD_TIME)
		until = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														TimestampTzGetDatum(at),
														IntervalPGetDatum(hold_for)));
	if (until <= at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be longer than 0 and at most %d days",
						argname, OE_MAX_HOLD_TIME / SECS_PER_DAY)));
	return until;
}

char *
oe_hold_text(const Interval *hold_for)
{
	return hold_for == NULL ? NULL :
		psprintf("%d %d " INT64_FORMAT, hold_for->month, hold_for->day, hold_for->time);
}

bool
oe_stock_is_held(int64 reservation_id)
{
	OeRows	   *reservations = oe_held_open(AccessShareLock);
	Datum		key = Int64GetDatum(reservation_id);
	bool		is_held = true;

	oe_rows_begin(reservations, &key);
	while (is_held && oe_rows_next(reservations))
		is_held = oe_held_state_is(reservations, "held") ||
			oe_held_state_is(reservations, "committed");
	oe_rows_close(reservations);
	return is_held;
}

void
oe_stock_keep(int64 reservation_id)
{
	static const AttrNumber attnum = Anum_reservation_expires_at;
	static const Datum value = (Datum) 0;
	static const bool null = true;
	OeRows	   *reservations = oe_held_open(RowExclusiveLock);
	OeHeld	   *held;
	int			n;
	bool		lost;

	held = oe_held_lock(reservations, reservation_id, &n, &lost);
	if (lost)
		oe_held_lost(reservation_id);
	for (int i = 0; i < n; i++)
		oe_rows_update(reservations, &held[i].tid, 1, &attnum, &value, &null);
	oe_rows_close(reservations);
	CommandCounterIncrement();
}

bool
oe_stock_release(int64 reservation_id, const char *kind, const char *reason, TimestampTz at)
{
	static const AttrNumber attnums[] = {Anum_reservation_state, Anum_reservation_quantity};
	OeRows	   *reservations = oe_held_open(RowExclusiveLock);
	bool		expire = strcmp(kind, "expire") == 0;
	OeHeld	   *held;
	int			n;
	bool		lost;

	held = oe_held_lock(reservations, reservation_id, &n, &lost);
	for (int i = 0; i < n; i++)
	{
		bool		commit = !expire && held[i].shipped > 0;
		Datum		values[2];

		values[0] = CStringGetTextDatum(commit ? "committed" : expire ? "expired" : "released");
		values[1] = Int32GetDatum(commit ? 0 : held[i].quantity);
		oe_rows_update(reservations, &held[i].tid, 2, attnums, values, NULL);
	}
	oe_rows_close(reservations);
	if (n > 0)
		oe_held_give_back(held, n, kind, reason, at);
	return n > 0;
}

void
oe_stock_release_part(int64 reservation_id, OeStockNeed *needs, int n,
					  const char *reason, TimestampTz at)
{
	static const AttrNumber attnums[] = {Anum_reservation_quantity, Anum_reservation_state};
	OeRows	   *reservations = oe_held_open(RowExclusiveLock);
	OeHeld	   *held;
	int			nheld;
	bool		lost;

	n = oe_needs_fold(needs, n);
	held = oe_held_lock(reservations, reservation_id, &nheld, &lost);
	(void) oe_held_assign(held, nheld, needs, n, NULL);
	for (int i = 0; i < nheld; i++)
	{
		int32		rest = held[i].quantity - held[i].give;
		Datum		values[2];

		if (held[i].give == 0)
			continue;
		values[0] = Int32GetDatum(rest);
		values[1] = CStringGetTextDatum(rest == 0 ? "committed" : "held");
		/* a row without units would look like one that was lost; the ledger keeps the story */
		if (rest == 0 && held[i].shipped == 0)
			oe_rows_delete(reservations, &held[i].tid);
		else
			oe_rows_update(reservations, &held[i].tid, 2, attnums, values, NULL);
	}
	oe_rows_close(reservations);
	oe_held_give_back(held, nheld, "release", reason, at);
}
