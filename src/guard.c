/*
 * guard.c
 *	  Guards: ask them, and tell what one of them answered.
 *
 * A guard answers with a reason and leaves the error to the caller, for
 * allowed_events() asks the same questions without wanting one.
 */
#include "postgres.h"

#include "errors.h"
#include "guard.h"
#include "hold.h"
#include "machine_graph.h"
#include "part.h"
#include "sql_guard.h"
#include "utils/json.h"

static const OeGuardList *
list_of(const char *kind)
{
	const OePartKind *part_kind;

	if (strcmp(kind, OE_KIND_ORDER) == 0)
		return &oe_order_guards;
	part_kind = oe_part_kind(kind);
	return part_kind == NULL ? NULL : part_kind->guards;
}

uint32
oe_guard_by_name(const char *kind, const char *name)
{
	const OeGuardList *list = list_of(kind);

	for (int i = 0; list != NULL && i < list->count; i++)
	{
		if (strcmp(list->guards[i].name, name) == 0)
			return 1u << i;
	}
	return 0;
}

const char *
oe_guard_name(const char *kind, uint32 bit)
{
	const OeGuardList *list = list_of(kind);

	for (int i = 0; list != NULL && i < list->count; i++)
	{
		if (bit == 1u << i)
			return list->guards[i].name;
	}
	return NULL;
}

/* Asks the functions of users; false and *rejection when one does not agree. */
static bool
functions_pass(const OeTransition *transition, int64 id, const char *id_text, OeRejection *rejection)
{
	rejection->reason = oe_sql_guards_ask(transition, id, id_text, &rejection->guard);
	rejection->sqlstate = ERRCODE_OE_GUARD_REJECTED;
	return rejection->reason == NULL;
}

bool
oe_guards_pass(const OeTransition *transition, const OeOrder *order, const OePart *part,
			   TimestampTz now, OeRejection *rejection)
{
	const OeGuardList *list = part == NULL ? &oe_order_guards : part->kind->guards;

	for (int i = 0; transition->guards >> i != 0; i++)
	{
		const OeGuard *guard = &list->guards[i];
		const char *reason;

		if ((transition->guards & (1u << i)) != 0 &&
			(reason = guard->check(order, part, now)) != NULL)
		{
			rejection->sqlstate = guard->sqlstate;
			rejection->guard = guard->name;
			rejection->reason = reason;
			return false;
		}
	}
	if (transition->nsql_guards == 0)
		return true;
	return functions_pass(transition, part == NULL ? order->order_id : part->id, NULL, rejection);
}

bool
oe_row_guards_pass(const OeTransition *transition, const char *id, OeRejection *rejection)
{
	return transition->nsql_guards == 0 || functions_pass(transition, 0, id, rejection);
}

static void
begin_detail(OeJson *detail, const OeRejection *rejection, const char *entity, const char *id,
			 const char *event)
{
	oe_json_begin(detail);
	oe_json_text(detail, "entity", entity);
	oe_json_raw(detail, "id", id);
	oe_json_text(detail, "event", event);
	oe_json_text(detail, "guard", rejection->guard);
	oe_json_text(detail, "reason", rejection->reason);
}

pg_noreturn static void
raise_rejection(const OeRejection *rejection, const char *event, OeJson *detail)
{
	ereport(ERROR,
			(errcode(rejection->sqlstate),
			 errmsg("event \"%s\" is not possible: %s", event, rejection->reason),
			 errdetail_internal("%s", oe_json_end(detail))));
}

void
oe_row_guard_reject(const OeRejection *rejection, const char *kind, const char *id, const char *event)
{
	StringInfoData quoted;
	OeJson		detail;

	initStringInfo(&quoted);
	escape_json(&quoted, id);
	begin_detail(&detail, rejection, kind, quoted.data, event);
	raise_rejection(rejection, event, &detail);
}

void
oe_guard_reject(const OeRejection *rejection, const OeOrder *order, const OePart *part,
				const char *event)
{
	OeJson		detail;

	begin_detail(&detail, rejection, part == NULL ? OE_KIND_ORDER : part->kind->name,
				 psprintf(INT64_FORMAT, part == NULL ? order->order_id : part->id), event);
	if (rejection->sqlstate == ERRCODE_OE_ORDER_ON_HOLD)
		oe_json_raw(&detail, "holds", oe_holds_json(order->order_id));
	raise_rejection(rejection, event, &detail);
}
