/*
 * stat_health.c
 *	  How the endpoints of this database fare, as the workers have it in shared
 *	  memory, for views.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "health.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define NUM_COLS	13

PG_FUNCTION_INFO_V1(oe_endpoint_health);

static const char *
phase_name(oe_breaker_phase phase)
{
	switch (phase)
	{
		case OE_BREAKER_CLOSED:
			return "closed";
		case OE_BREAKER_OPEN:
			return "open";
		case OE_BREAKER_HALF_OPEN:
			return "half_open";
	}
	return NULL;				/* keep the compiler quiet */
}

static void
put_time(Datum *values, bool *nulls, int column, TimestampTz time)
{
	values[column] = TimestampTzGetDatum(time);
	nulls[column] = (time == 0);
}

Datum
oe_endpoint_health(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	OeHealthState state;
	int32		endpoint_id;
	int			i = 0;

	InitMaterializedSRF(fcinfo, 0);
	while (oe_health_next(&i, &endpoint_id, &state))
	{
		Datum		values[NUM_COLS];
		bool		nulls[NUM_COLS] = {false};

		values[0] = Int32GetDatum(endpoint_id);
		values[1] = Int32GetDatum(state.in_flight);
		values[2] = CStringGetTextDatum(phase_name(state.phase));
		put_time(values, nulls, 3, state.open_until);
		put_time(values, nulls, 4, state.paused_until);
		put_time(values, nulls, 5, state.last_success_at);
		put_time(values, nulls, 6, state.last_error_at);
		nulls[7] = state.last_error_at == 0;
		values[7] = nulls[7] ? (Datum) 0 : CStringGetTextDatum(state.last_error);
		put_time(values, nulls, 8, state.failing_since);
		values[9] = Int32GetDatum(state.failures);
		values[10] = Int64GetDatum((int64) state.attempts);
		values[11] = Int64GetDatum((int64) state.delivered);
		values[12] = Int64GetDatum((int64) state.failed);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
