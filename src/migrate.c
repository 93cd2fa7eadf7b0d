/*
 * migrate.c
 *	  migrate_orders(): orders in flight change to another machine.
 *
 * An order pins the machine that it was placed under; a new version counts for
 * new orders only.  Migration takes the others along, each to the state that
 * stands for its own: no guards are asked and no effects happen, because nothing
 * happens to the order.  So it neither places nor ends one: the states that
 * orders are in must have counterparts that are neither initial nor terminal.
 *
 * Orders are locked one by one in the order of their ids and looked at again
 * under the lock.  What the new machine does by itself comes when all are locked,
 * because it may take stock, which is taken last.  Called again it finds nothing
 * left to do, so it needs no idempotency key.
 */
#include "postgres.h"

#include "amend.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "machine_graph.h"
#include "miscadmin.h"
#include "query.h"
#include "record.h"
#include "tcop/utility.h"
#include "transition.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_migrate_orders);

typedef struct Migration
{
	const OeMachine *from;
	const OeMachine *to;
	int		   *target;			/* by number of a state of "from"; -1: none */
	char	   *reason;			/* may be NULL */
} Migration;

static const OeMachine *
machine_of_orders(int32 machine_id)
{
	const OeMachine *machine = oe_machine_by_id(machine_id);

	if (strcmp(machine->kind, OE_KIND_ORDER) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("machine %d is of kind \"%s\", not \"%s\"", machine_id, machine->kind,
						OE_KIND_ORDER)));
	return machine;
}

/* 22023 with all faults; returns when there are none. */
static void
raise_faults(OeFaults *faults)
{
	OeJson		detail;

	if (faults->count == 0)
		return;
	oe_json_begin(&detail);
	oe_json_raw(&detail, "faults", oe_json_end(&faults->list));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg_plural("the migration has %d fault", "the migration has %d faults",
						   faults->count, faults->count),
			 errdetail_internal("%s", oe_json_end(&detail))));
}

/* One member of the state map. */
static void
map_state(Migration *migration, const JsonbValue *key, const JsonbValue *value, OeFaults *faults)
{
	char	   *name = pnstrdup(key->val.string.val, key->val.string.len);
	int			state = oe_machine_state_no(migration->from, name);
	int			target;

	if (state < 0)
		oe_faults_add(faults, "machine %d has no state \"%s\"", migration->from->machine_id, name);
	else if (migration->from->states[state].terminal)
		oe_faults_add(faults, "state \"%s\" is terminal, its orders stay where they are", name);
	if (value->type != jbvString)
	{
		oe_faults_add(faults, "what state \"%s\" becomes is not a string", name);
		return;
	}
	name = pnstrdup(value->val.string.val, value->val.string.len);
	target = oe_machine_state_no(migration->to, name);
	if (target < 0)
		oe_faults_add(faults, "machine %d has no state \"%s\"", migration->to->machine_id, name);
	else if (target == migration->to->initial)
		oe_faults_add(faults, "state \"%s\" is the initial state of machine %d", name,
					  migration->to->machine_id);
	else if (migration->to->states[target].terminal)
		oe_faults_add(faults, "state \"%s\" of machine %d is terminal", name,
					  migration->to->machine_id);
	else if (state >= 0)
		migration->target[state] = target;
}

/* What each state becomes: what the map says, else the state of the same name. */
static void
map_states(Migration *migration, Jsonb *map, OeFaults *faults)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	migration->target = palloc(sizeof(int) * migration->from->nstates);
	for (int s = 0; s < migration->from->nstates; s++)
	{
		int			same = oe_machine_state_no(migration->to, migration->from->states[s].name);

		if (same >= 0 && (same == migration->to->initial || migration->to->states[same].terminal))
			same = -1;
		migration->target[s] = same;
	}
	if (map == NULL)
		return;

	it = JsonbIteratorInit(&map->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		map_state(migration, &key, &value, faults);
	}
}

static void
add_unmapped(const Migration *migration, const char *state, OeFaults *faults)
{
	oe_faults_add(faults, "there are orders in state \"%s\", which stands for no state of machine %d that is neither initial nor terminal",
				  state, migration->to->machine_id);
}

/* The states that are not terminal: all, or those that have no counterpart. */
static Datum
states_array(const Migration *migration, bool all)
{
	const OeMachine *from = migration->from;
	Datum	   *names = palloc(sizeof(Datum) * from->nstates);
	int			n = 0;

	for (int s = 0; s < from->nstates; s++)
	{
		if (!from->states[s].terminal && (all || migration->target[s] < 0))
			names[n++] = CStringGetTextDatum(from->states[s].name);
	}
	return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
check_occupied(const Migration *migration, OeFaults *faults)
{
	static OeQuery query = {
		"SELECT DISTINCT state FROM order_engine.orders WHERE machine_id = $1 AND state = ANY ($2)"
		" ORDER BY state",
		2, {INT4OID, TEXTARRAYOID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		values[2] = {Int32GetDatum(migration->from->machine_id), states_array(migration, false)};
	uint64		n;

	oe_spi_connect();
	n = oe_query_run(&query, values, NULL, false, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);

		add_unmapped(migration, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1), faults);
		MemoryContextSwitchTo(spi);
	}
	oe_spi_finish();
}

/*
 * The orders in flight, by id, in the current memory context.  Also those in a
 * state without counterpart: they may have gone there since check_occupied().
 */
static int64 *
find_orders(const Migration *migration, int *count)
{
	static OeQuery query = {
		"SELECT coalesce(pg_catalog.array_agg(order_id ORDER BY order_id), '{}')"
		" FROM order_engine.orders WHERE machine_id = $1 AND state = ANY ($2)",
		2, {INT4OID, TEXTARRAYOID}
	};
	Datum		values[2] = {Int32GetDatum(migration->from->machine_id), states_array(migration, true)};
	Datum		result;
	ArrayType  *array;
	bool		isnull;

	oe_spi_connect();
	(void) oe_query_run(&query, values, NULL, false, SPI_OK_SELECT);
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	result = SPI_datumTransfer(PointerGetDatum(PG_DETOAST_DATUM(result)), false, -1);
	oe_spi_finish();
	array = DatumGetArrayTypeP(result);
	*count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return (int64 *) ARR_DATA_PTR(array);	/* it has no nulls */
}

/*
 * When the limit of the new state passes: not before the old one, which may be
 * that of the reservation.
 */
static TimestampTz
limit_after(const Migration *migration, const OeOrder *order, const OeState *target, TimestampTz at)
{
	if (target->limit.event == NULL)
		return DT_NOEND;
	if (!TIMESTAMP_IS_NOEND(order->expires_at))
		return order->expires_at;
	return oe_machine_limit_at(migration->to, target->name, at);
}

/* Moves one order; false when it is none of those that are to move any more. */
static bool
migrate_order(const Migration *migration, int64 order_id)
{
	static OeQuery update = {
		"UPDATE order_engine.orders SET machine_id = $2, state = $3, expires_at = $4"
		" WHERE order_id = $1 RETURNING *",
		4, {INT8OID, INT4OID, TEXTOID, TIMESTAMPTZOID}
	};
	OeOrder		order;
	OeRecord	record = {.event = "migrate", .type = "order.migrated", .reason = migration->reason,
	.at = GetCurrentTimestamp(), .machine_id = migration->to->machine_id};
	JsonbParseState *details = NULL;
	const OeState *target;
	TimestampTz limit;
	Datum		values[4];
	int			state;

	oe_order_lock(order_id, LockWaitBlock, &order);
	state = oe_machine_state_no(migration->from, order.state);
	if (order.machine_id != migration->from->machine_id || state < 0 ||
		migration->from->states[state].terminal)
		return false;
	if (migration->target[state] < 0)
	{
		OeFaults	faults;

		/* it went there after we had looked */
		oe_faults_begin(&faults);
		add_unmapped(migration, order.state, &faults);
		raise_faults(&faults);
	}
	target = &migration->to->states[migration->target[state]];
	limit = limit_after(migration, &order, target, record.at);

	(void) pushJsonbValue(&details, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_int64(&details, "machine_id", migration->to->machine_id);
	oe_jsonb_push_int64(&details, "from_machine_id", migration->from->machine_id);
	record.details = record.metadata =
		JsonbValueToJsonb(pushJsonbValue(&details, WJB_END_OBJECT, NULL));

	values[0] = Int64GetDatum(order_id);
	values[1] = Int32GetDatum(migration->to->machine_id);
	values[2] = CStringGetTextDatum(target->name);
	values[3] = TimestampTzGetDatum(limit);
	record.from = order.state;
	record.to = target->name;
	record.last_txid = oe_order_amend_machine(&order, &update, values,
											  TIMESTAMP_IS_NOEND(limit) ? "   n" : NULL);
	oe_record_order_event(&order, &record, NULL);
	return true;
}

/*
 * migrate_orders(from_machine, to_machine, state_map, reason)
 */
Datum
oe_migrate_orders(PG_FUNCTION_ARGS)
{
	Migration	migration;
	Jsonb	   *map = oe_arg_metadata(fcinfo, 2, "state_map");
	OeFaults	faults;
	MemoryContext context;
	MemoryContext caller;
	int64	   *orders;
	int			count;
	int			moved = 0;

	oe_arg_require(fcinfo, 0, "from_machine");
	oe_arg_require(fcinfo, 1, "to_machine");
	migration.reason = oe_arg_text_or_null(fcinfo, 3);
	if (PG_GETARG_INT32(0) == PG_GETARG_INT32(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the two machines of a migration must be different")));
	migration.from = machine_of_orders(PG_GETARG_INT32(0));
	migration.to = machine_of_orders(PG_GETARG_INT32(1));
	PreventCommandIfReadOnly("migrate_orders()");

	oe_faults_begin(&faults);
	map_states(&migration, map, &faults);
	check_occupied(&migration, &faults);
	raise_faults(&faults);

	orders = find_orders(&migration, &count);
	context = AllocSetContextCreate(CurrentMemoryContext, "order_engine migration",
									ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (migrate_order(&migration, orders[i]))
			orders[moved++] = orders[i];
		MemoryContextReset(context);
	}
	for (int i = 0; i < moved; i++)
	{
		OeOrder		order = {.order_id = orders[i]};

		CHECK_FOR_INTERRUPTS();
		oe_order_refresh(&order);
		oe_order_follow(&order);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	PG_RETURN_INT64(moved);
}
