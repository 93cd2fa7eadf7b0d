/*
 * table_trigger.c
 *	  The state machine's trigger on tables of the application.
 *
 * Trigger arguments: kind, machine, state column, id column and, where there
 * is one, version column.  The kind is the aggregate type of the events, the id
 * as text the aggregate id.  New rows start in the initial state and at version
 * 0; an INSERT writes no event.  The highest published version of the machine
 * counts.
 *
 * A foreign table is governed by the server through which it is changed.  What
 * that server cannot see is another row version: events of one row that come from
 * several transactions are in the order of their versions, and are delivered in
 * the order of their commits.
 *
 * To the server, a row that moves to another partition is deleted and inserted:
 * AFTER UPDATE does not see it.  So a transition must leave the row where it is.
 *
 * Column numbers are cached for each trigger until its relation is invalidated.
 * Nothing here runs a query but the guards, which run as their owners, so the
 * role and search_path of whoever updates the table do not matter.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "guard.h"
#include "machine_graph.h"
#include "record.h"
#include "state_machine.h"
#include "table_trigger.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* trigger arguments */
enum
{
	ARG_KIND, ARG_MACHINE, ARG_STATE, ARG_ID, ARG_VERSION
};

typedef struct CachedTrigger
{
	Oid			tgoid;			/* hash key */
	Oid			relid;
	OeTableColumns columns;
} CachedTrigger;

static HTAB *cache = NULL;

static void
invalidate(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	CachedTrigger *entry;

	if (cache == NULL || hash_get_num_entries(cache) == 0)
		return;
	hash_seq_init(&status, cache);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (relid == InvalidOid || entry->relid == relid)
			(void) hash_search(cache, &entry->tgoid, HASH_REMOVE, NULL);
	}
}

void
oe_table_trigger_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

void
oe_table_kind_check(const char *kind)
{
	static const char *const reserved[] =
	{OE_KIND_ORDER, "payment", "fulfillment", "return", "reservation"};

	for (int i = 0; i < lengthof(reserved); i++)
	{
		if (strcmp(reserved[i], kind) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("kind \"%s\" belongs to order_engine", kind),
					 errhint("Choose another kind for tables of the application.")));
	}
}

static int
find_column(Relation rel, const char *name)
{
	int			attnum = SPI_fnumber(RelationGetDescr(rel), name);

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist",
						name, RelationGetRelationName(rel))));
	/* the check comes before the server computes it */
	if (TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" of relation \"%s\" must not be a generated column",
						name, RelationGetRelationName(rel)),
				 errtablecol(rel, attnum)));
	return attnum;
}

static void
wrong_type(Relation rel, int attnum, const char *must_be)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("column \"%s\" of relation \"%s\" must be of type %s",
					NameStr(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attname),
					RelationGetRelationName(rel), must_be),
			 errtablecol(rel, attnum)));
}

/* As text they name the same row in every session, whatever its settings. */
static bool
type_may_be_id(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID ||
		type == TEXTOID || type == VARCHAROID || type == UUIDOID;
}

void
oe_table_columns(Relation rel, const char *state, const char *id, const char *version,
				 OeTableColumns *columns)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Oid			type;
	bool		is_varlena;

	columns->state = find_column(rel, state);
	type = getBaseType(TupleDescAttr(desc, columns->state - 1)->atttypid);
	if (type != TEXTOID && type != VARCHAROID && !type_is_enum(type))
		wrong_type(rel, columns->state, "text, varchar or an enum");
	getTypeOutputInfo(type, &columns->state_output, &is_varlena);

	columns->id = find_column(rel, id);
	type = getBaseType(TupleDescAttr(desc, columns->id - 1)->atttypid);
	if (!type_may_be_id(type))
		wrong_type(rel, columns->id, "smallint, integer, bigint, numeric, text, varchar or uuid");
	getTypeOutputInfo(type, &columns->id_output, &is_varlena);

	columns->version = 0;
	columns->version_is_int4 = false;
	if (version != NULL)
	{
		columns->version = find_column(rel, version);
		type = getBaseType(TupleDescAttr(desc, columns->version - 1)->atttypid);
		if (type != INT4OID && type != INT8OID)
			wrong_type(rel, columns->version, "integer or bigint");
		columns->version_is_int4 = type == INT4OID;
	}
}

/* A copy, because the cache may be emptied by whatever is called next. */
static OeTableColumns
columns_of(const TriggerData *trigdata)
{
	const Trigger *trigger = trigdata->tg_trigger;
	Oid			relid = RelationGetRelid(trigdata->tg_relation);
	CachedTrigger *entry;
	OeTableColumns columns;

	if (cache == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(CachedTrigger)};

		cache = hash_create("order_engine triggers", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(cache, &trigger->tgoid, HASH_FIND, NULL);
	if (entry != NULL && entry->relid == relid)
		return entry->columns;

	oe_table_kind_check(trigger->tgargs[ARG_KIND]);
	oe_table_columns(trigdata->tg_relation, trigger->tgargs[ARG_STATE], trigger->tgargs[ARG_ID],
					 trigger->tgnargs > ARG_VERSION ? trigger->tgargs[ARG_VERSION] : NULL, &columns);
	entry = hash_search(cache, &trigger->tgoid, HASH_ENTER, NULL);
	entry->relid = relid;
	entry->columns = columns;
	return columns;
}

/* A column as text, NULL for null. */
static char *
text_of(TupleTableSlot *slot, int attnum, Oid output)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);

	return isnull ? NULL : OidOutputFunctionCall(output, value);
}

static char *
id_of(Relation rel, TupleTableSlot *slot, const OeTableColumns *columns)
{
	char	   *id = text_of(slot, columns->id, columns->id_output);
	const char *why = "must not be null";

	if (id == NULL || !oe_name_is_valid(id, strlen(id), &why))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the id of a row of relation \"%s\" %s", RelationGetRelationName(rel), why),
				 errtablecol(rel, columns->id)));
	return id;
}

static int64
version_of(TupleTableSlot *slot, const OeTableColumns *columns)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, columns->version, &isnull);

	if (isnull)
		return 0;
	return columns->version_is_int4 ? DatumGetInt32(value) : DatumGetInt64(value);
}

static HeapTuple
with_version(Relation rel, HeapTuple tuple, const OeTableColumns *columns, int64 version)
{
	int			attnum = columns->version;
	bool		isnull = false;
	Datum		value;

	if (columns->version_is_int4 ? version > PG_INT32_MAX : version < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("version of a row of relation \"%s\" is out of range",
						RelationGetRelationName(rel)),
				 errtablecol(rel, attnum)));
	value = columns->version_is_int4 ? Int32GetDatum((int32) version) : Int64GetDatum(version);
	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), 1, &attnum, &value, &isnull);
}

/* A row enters the machine: a new one, or an old one that had no state yet. */
static void
check_entry(Relation rel, const Trigger *trigger, TupleTableSlot *slot,
			const OeTableColumns *columns, const char *state)
{
	const OeMachine *machine = oe_machine_current(trigger->tgargs[ARG_KIND],
												  trigger->tgargs[ARG_MACHINE]);
	OeInvalidTransition what = {0};

	if (strcmp(state, oe_machine_initial(machine)) == 0)
		return;
	what.entity = trigger->tgargs[ARG_KIND];
	what.entity_id = id_of(rel, slot, columns);
	what.to = state;
	oe_invalid_transition(machine, &what);
}

static const OeTransition *
find_transition(Relation rel, const Trigger *trigger, TupleTableSlot *slot,
				const OeTableColumns *columns, const char *from, const char *to, int32 *machine_id)
{
	const OeMachine *machine = oe_machine_current(trigger->tgargs[ARG_KIND],
												  trigger->tgargs[ARG_MACHINE]);
	const OeTransition *transition = oe_machine_find_target(machine, from, to);

	if (transition == NULL)
	{
		OeInvalidTransition what = {0};

		what.entity = trigger->tgargs[ARG_KIND];
		what.entity_id = id_of(rel, slot, columns);
		what.from = from;
		what.to = to;
		oe_invalid_transition(machine, &what);
	}
	*machine_id = oe_machine_id(machine);
	return transition;
}

/* The first event of a row is number 1. */
static void
check_first_version(Relation rel, TupleTableSlot *slot, const OeTableColumns *columns)
{
	if (version_of(slot, columns) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("a new row of relation \"%s\" must have version 0, not " INT64_FORMAT,
						RelationGetRelationName(rel), version_of(slot, columns)),
				 errhint("Leave column \"%s\" alone; the engine counts the events in it.",
						 NameStr(TupleDescAttr(RelationGetDescr(rel), columns->version - 1)->attname)),
				 errtablecol(rel, columns->version)));
}

/* The row as it is to be must still belong to the partition that it is in. */
static void
check_stays_here(Relation rel, TupleTableSlot *slot)
{
	EState	   *estate;
	MemoryContext oldcontext;
	ResultRelInfo *rri;
	bool		stays;

	if (!rel->rd_rel->relispartition)
		return;
	estate = CreateExecutorState();
	oldcontext = MemoryContextSwitchTo(estate->es_query_cxt);
	rri = makeNode(ResultRelInfo);
	InitResultRelInfo(rri, rel, 0, NULL, 0);
	stays = ExecPartitionCheck(rri, slot, estate, false);
	MemoryContextSwitchTo(oldcontext);
	FreeExecutorState(estate);
	if (!stays)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a row of relation \"%s\" cannot change its state and move to another partition at once",
						RelationGetRelationName(rel)),
				 errhint("The state must not decide about the partition; change other columns of the partition key by an UPDATE of its own."),
				 errtable(rel)));
}

HeapTuple
oe_table_check(TriggerData *trigdata)
{
	Relation	rel = trigdata->tg_relation;
	const Trigger *trigger = trigdata->tg_trigger;
	bool		is_insert = TRIGGER_FIRED_BY_INSERT(trigdata->tg_event);
	TupleTableSlot *oldslot = is_insert ? NULL : trigdata->tg_trigslot;
	TupleTableSlot *newslot = is_insert ? trigdata->tg_trigslot : trigdata->tg_newslot;
	HeapTuple	tuple = is_insert ? trigdata->tg_trigtuple : trigdata->tg_newtuple;
	OeTableColumns columns = columns_of(trigdata);
	char	   *from;
	char	   *to;
	int32		machine_id;

	if (!is_insert)
	{
		/* the id names the row in events that have gone out already */
		if (!oe_same_value(oldslot, newslot, columns.id))
			oe_kept_column(rel, columns.id);
		if (columns.version != 0 && !oe_same_value(oldslot, newslot, columns.version))
			oe_kept_column(rel, columns.version);
		if (oe_same_value(oldslot, newslot, columns.state))
			return tuple;
	}

	to = text_of(newslot, columns.state, columns.state_output);
	if (to == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("column \"%s\" of relation \"%s\" must not be null",
						trigger->tgargs[ARG_STATE], RelationGetRelationName(rel)),
				 errtablecol(rel, columns.state)));
	from = is_insert ? NULL : text_of(oldslot, columns.state, columns.state_output);
	if (from == NULL)
	{
		check_entry(rel, trigger, newslot, &columns, to);
		if (is_insert && columns.version != 0)
			check_first_version(rel, newslot, &columns);
		if (columns.version != 0 && slot_attisnull(newslot, columns.version))
			return with_version(rel, tuple, &columns, 0);
		return tuple;
	}

	(void) find_transition(rel, trigger, newslot, &columns, from, to, &machine_id);
	check_stays_here(rel, newslot);
	if (columns.version != 0)
		return with_version(rel, tuple, &columns, version_of(oldslot, &columns) + 1);
	return tuple;
}

/*
 * The transaction that wrote the row before us, where it is another one and
 * known.  Without a column for it the row's xmin has to do: at worst it names a
 * later change of the row that was no event, and delivery waits for that.
 */
static FullTransactionId
previous_writer(HeapTuple tuple)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);
	FullTransactionId next;
	uint32		epoch;

	if (!TransactionIdIsNormal(xmin) || TransactionIdIsCurrentTransactionId(xmin))
		return InvalidFullTransactionId;
	next = ReadNextFullTransactionId();
	epoch = EpochFromFullTransactionId(next);
	if (xmin > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xmin);
}

void
oe_table_record(TriggerData *trigdata)
{
	Relation	rel = trigdata->tg_relation;
	const Trigger *trigger = trigdata->tg_trigger;
	TupleTableSlot *oldslot = trigdata->tg_trigslot;
	TupleTableSlot *newslot = trigdata->tg_newslot;
	OeTableColumns columns = columns_of(trigdata);
	char	   *from;
	char	   *to;
	const OeTransition *transition;
	OeRecord	record = {0};
	OeRejection rejection;
	JsonbParseState *payload = NULL;

	if (oe_same_value(oldslot, newslot, columns.state))
	{
		if (columns.version != 0 && !oe_same_value(oldslot, newslot, columns.version))
			oe_changed_behind(rel);
		return;
	}
	from = text_of(oldslot, columns.state, columns.state_output);
	to = text_of(newslot, columns.state, columns.state_output);
	if (to != NULL && from == NULL)
	{
		check_entry(rel, trigger, newslot, &columns, to);
		return;
	}
	if (to == NULL || !oe_same_value(oldslot, newslot, columns.id))
		oe_changed_behind(rel);

	transition = find_transition(rel, trigger, newslot, &columns, from, to, &record.machine_id);
	if (columns.version != 0)
	{
		record.seq = version_of(newslot, &columns);
		if (record.seq != version_of(oldslot, &columns) + 1)
			oe_changed_behind(rel);
		oe_require_current(rel, newslot, columns.version);
	}
	record.entity = record.aggregatetype = trigger->tgargs[ARG_KIND];
	record.entity_id = record.aggregateid = id_of(rel, newslot, &columns);
	if (!oe_row_guards_pass(transition, record.entity_id, &rejection))
		oe_row_guard_reject(&rejection, record.entity, record.entity_id, transition->event);
	record.last_txid = previous_writer(trigdata->tg_trigtuple);
	record.event = transition->event;
	record.from = from;
	record.to = to;
	record.type = transition->type;
	record.at = GetCurrentTimestamp();

	(void) pushJsonbValue(&payload, WJB_BEGIN_OBJECT, NULL);
	oe_jsonb_push_text(&payload, "id", record.entity_id);
	oe_jsonb_push_text(&payload, "event", record.event);
	oe_jsonb_push_text(&payload, "from", from);
	oe_jsonb_push_text(&payload, "to", to);
	if (columns.version != 0)
		oe_jsonb_push_int64(&payload, "version", record.seq);
	record.payload = JsonbValueToJsonb(pushJsonbValue(&payload, WJB_END_OBJECT, NULL));
	oe_record_event(&record);
}
