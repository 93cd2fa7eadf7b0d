/*
 * amend.c
 *	  Events of an order that leave its state as it is, and what follows an event.
 *
 * Every event of an order or of a part of it raises the order's version, under
 * the lock on the order's row: that is what makes one gapless sequence of all.
 */
#include "postgres.h"

#include "access/xact.h"
#include "amend.h"
#include "catalog/pg_type.h"
#include "guard.h"
#include "machine_graph.h"
#include "state_machine.h"
#include "transition.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

static void
run_update(OeOrder *order, OeQuery *update, Datum *values, const char *nulls)
{
	static OeQuery touch = {
		"UPDATE order_engine.orders SET updated_at = updated_at WHERE order_id = $1 RETURNING *",
		1, {INT8OID}
	};
	Datum		order_id = Int64GetDatum(order->order_id);
	MemoryContext caller = CurrentMemoryContext;
	uint64		changed;

	oe_spi_connect();
	if (update == NULL)
		changed = oe_query_run(&touch, &order_id, NULL, false, SPI_OK_UPDATE_RETURNING);
	else
		changed = oe_query_run(update, values, nulls, false, SPI_OK_UPDATE_RETURNING);
	if (changed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("another trigger suppressed the change of order " INT64_FORMAT,
						order->order_id)));
	oe_order_from_result(order, caller);
	oe_spi_finish();
}

static FullTransactionId
amend(OeOrder *order, OeQuery *update, Datum *values, const char *nulls, bool migrates)
{
	FullTransactionId last_txid = order->last_txid;
	OeVerbCall	call = {.kind = OE_KIND_ORDER, .id = order->order_id,
	.version = order->version + 1, .amends = true, .migrates = migrates};

	oe_verb_begin(&call);
	PG_TRY();
	{
		run_update(order, update, values, nulls);
	}
	PG_FINALLY();
	{
		oe_verb_end(&call);
	}
	PG_END_TRY();

	/* else the trigger took it for somebody else's, and the event would get the number of another */
	if (order->version != call.version)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("another trigger changed order " INT64_FORMAT " meanwhile", order->order_id)));
	return last_txid;
}

FullTransactionId
oe_order_amend(OeOrder *order, OeQuery *update, Datum *values, const char *nulls)
{
	return amend(order, update, values, nulls, false);
}

FullTransactionId
oe_order_amend_machine(OeOrder *order, OeQuery *update, Datum *values, const char *nulls)
{
	return amend(order, update, values, nulls, true);
}

void
oe_order_amend_event(OeOrder *order, OeQuery *update, Datum *values, const char *nulls,
					 OeRecord *record, Jsonb *lines)
{
	record->last_txid = oe_order_amend(order, update, values, nulls);
	record->machine_id = order->machine_id;
	record->from = record->to = order->state;
	oe_record_order_event(order, record, lines);
}

/*
 * Whether the guards of an automatic transition agree.  One that a user wrote
 * may fail, or be gone; nobody has asked for the transition, so that must not
 * fail the verb which it follows: a payment has to be recorded in any case.
 */
static bool
guards_agree(const OeTransition *transition, const OeOrder *order)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	TimestampTz now = GetCurrentTimestamp();
	OeRejection rejection;
	volatile bool agree = false;

	if (transition->nsql_guards == 0)
		return oe_guards_pass(transition, order, NULL, now, &rejection);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		agree = oe_guards_pass(transition, order, NULL, now, &rejection);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		agree = false;

		/* what ends the transaction, or has it repeated, is for the caller */
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
			ReThrowError(error);
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("a guard of the automatic event \"%s\" of order " INT64_FORMAT " failed: %s",
						transition->event, order->order_id, error->message)));
		FreeErrorData(error);
	}
	PG_END_TRY();
	return agree;
}

void
oe_order_follow(OeOrder *order)
{
	const OeMachine *machine = oe_machine_by_id(order->machine_id);
	const OeTransition *transition;
	int			count;

	if (!oe_machine_has_automatic(machine, order->state))
		return;
	transition = oe_machine_transitions(machine, order->state, &count);
	for (; count > 0; count--, transition++)
	{
		if (!transition->automatic || !guards_agree(transition, order))
			continue;
		/* what follows the transition is done within it */
		(void) oe_order_apply(order, transition->event, NULL, NULL, false);
		return;
	}
}
