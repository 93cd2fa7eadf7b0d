/*
 * allowed_events.c
 *	  allowed_events(): what is possible with an order, or a part of it, now, and
 *	  why the rest is not.
 *
 * Takes no lock and writes nothing, so the answer may be outdated when it
 * arrives; transition() asks the same guards again.
 */
#include "postgres.h"

#include "args.h"
#include "funcapi.h"
#include "guard.h"
#include "machine.h"
#include "part.h"
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
	const OePartKind *kind = oe_entity_kind(entity);
	const OeTransition *transition;
	OeOrder		order;
	OePart		part;
	int			count;

	oe_arg_require(fcinfo, 1, "id");
	InitMaterializedSRF(fcinfo, 0);
	if (kind == NULL)
		oe_order_read(PG_GETARG_INT64(1), &order);
	else
	{
		oe_part_read(kind, PG_GETARG_INT64(1), &part);
		oe_order_read(part.order_id, &order);
	}
	transition = oe_machine_transitions(oe_machine_by_id(kind == NULL ? order.machine_id : part.machine_id),
										kind == NULL ? order.state : part.state, &count);
	for (; count > 0; count--, transition++)
	{
		OeRejection rejection;
		bool		allowed = oe_guards_pass(transition, &order, kind == NULL ? NULL : &part,
											 GetCurrentTimestamp(), &rejection);
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
