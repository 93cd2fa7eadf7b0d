/*
 * allowed_events.c
 *	  allowed_events(): what is possible with an order now, and why the rest is not.
 *
 * Takes no lock and writes nothing, so the answer may be outdated when it
 * arrives; transition() asks the same guards again.
 */
#include "postgres.h"

#include "args.h"
#include "funcapi.h"
#include "guard.h"
#include "machine.h"
#include "transition.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_allowed_events);

/*
 * allowed_events(entity, id)
 */
Datum
oe_allowed_events(PG_FUNCTION_ARGS)
{
	char	   *entity = oe_arg_name(fcinfo, 0, "entity");
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const OeTransition *transition;
	OeOrder		order;
	int			count;

	oe_arg_require(fcinfo, 1, "id");
	if (strcmp(entity, "order") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown entity \"%s\"", entity),
				 errhint("The entity is \"order\".")));

	InitMaterializedSRF(fcinfo, 0);
	oe_order_read(PG_GETARG_INT64(1), &order);
	transition = oe_machine_transitions(oe_machine_by_id(order.machine_id), order.state, &count);
	for (; count > 0; count--, transition++)
	{
		OeRejection rejection;
		bool		allowed = oe_guards_pass(transition->guards, &order, GetCurrentTimestamp(),
											 &rejection);
		Datum		values[4] = {
			CStringGetTextDatum(transition->event),
			CStringGetTextDatum(transition->to),
			BoolGetDatum(allowed),
			allowed ? (Datum) 0 : CStringGetTextDatum(rejection.reason)
		};
		bool		nulls[4] = {false, false, false, allowed};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
