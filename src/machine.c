/*
 * machine.c
 *	  State machines: the backend's cache and look-ups in it.
 *
 * A published definition never changes, so one that was read once serves until
 * the relation order_engine.machine is invalidated: by publish_machine, or by
 * DROP EXTENSION.  Then each machine is read anew at its next use.  What was
 * read before is handed to the running transaction's memory context, so that a
 * caller who holds it (a trigger below which other triggers run) is never left
 * with a dangling pointer.
 *
 * Machines are read under a fresh snapshot, not the transaction's: what one
 * transaction caches the next ones use.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "errors.h"
#include "machine_graph.h"
#include "relations.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* columns of order_engine.machine, as sql/10_machine.sql defines them */
enum
{
	Anum_machine_machine_id = 1,
	Anum_machine_kind,
	Anum_machine_name,
	Anum_machine_version,
	Anum_machine_status,
	Anum_machine_definition
};

typedef struct CachedMachine
{
	int32		machine_id;		/* hash key */
	uint64		generation;		/* when it was read */
	MemoryContext context;		/* holds machine; NULL before the first load */
	OeMachine  *machine;
} CachedMachine;

/* Which machine a name stands for. */
typedef struct CachedName
{
	struct CachedName *next;
	uint64		generation;
	int32		machine_id;
	char	   *kind;
	char	   *name;
} CachedName;

static HTAB *machines = NULL;
static CachedName *names = NULL;
static CachedMachine *last_used = NULL;
static uint64 generation = 1;
static Oid	watched_relid = InvalidOid;

static void
invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == watched_relid)
		generation++;
}

void
oe_machine_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

void
oe_machine_invalidate(void)
{
	CacheInvalidateRelcacheByRelid(oe_relid(OE_REL_MACHINE));
}

/*
 * Opens order_engine.machine.  *as_of is what the cache may say about data that
 * is read from now on: an invalidation that comes while we read outdates it.
 */
static Relation
open_machines(uint64 *as_of)
{
	Oid			relid = oe_relid(OE_REL_MACHINE);
	Relation	rel = table_open(relid, AccessShareLock);

	watched_relid = relid;
	*as_of = generation;
	return rel;
}

static Datum
column(HeapTuple tuple, Relation rel, int attnum)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(rel), &isnull);

	if (isnull)
		elog(ERROR, "column %d of order_engine.machine is null", attnum);
	return value;
}

static bool
is_published(HeapTuple tuple, Relation rel)
{
	return strcmp(TextDatumGetCString(column(tuple, rel, Anum_machine_status)), "published") == 0;
}

static void
raise_not_found(OeJson *detail, const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_OE_NOT_FOUND),
			 errmsg("%s", message),
			 errdetail_internal("%s", oe_json_end(detail))));
}

static void
load_machine(CachedMachine *entry, int32 machine_id)
{
	uint64		as_of;
	Relation	rel = open_machines(&as_of);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	MemoryContext context;
	MemoryContext caller;
	OeMachine  *machine;
	OeFaults	faults;
	Jsonb	   *definition;
	const char *kind;
	const char *name;

	/* without the index: there are few machines, and each is read once */
	ScanKeyInit(&key, Anum_machine_machine_id, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(machine_id));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple) || !is_published(tuple, rel))
	{
		OeJson		detail;

		oe_json_begin(&detail);
		oe_json_text(&detail, "entity", "machine");
		oe_json_int64(&detail, "id", machine_id);
		raise_not_found(&detail, psprintf("there is no published machine %d", machine_id));
	}

	kind = TextDatumGetCString(column(tuple, rel, Anum_machine_kind));
	name = TextDatumGetCString(column(tuple, rel, Anum_machine_name));
	definition = DatumGetJsonbPCopy(column(tuple, rel, Anum_machine_definition));
	systable_endscan(scan);

	context = AllocSetContextCreate(CurrentMemoryContext, "order_engine machine",
									ALLOCSET_SMALL_SIZES);
	oe_faults_begin(&faults);
	caller = MemoryContextSwitchTo(context);
	machine = oe_machine_parse(kind, definition, &faults);
	machine->machine_id = machine_id;
	MemoryContextSwitchTo(caller);
	oe_faults_raise(&faults, kind, name);
	table_close(rel, AccessShareLock);

	/* nothing below can fail */
	if (entry->context != NULL)
		MemoryContextSetParent(entry->context, TopTransactionContext);
	MemoryContextSetParent(context, TopMemoryContext);
	entry->context = context;
	entry->machine = machine;
	entry->generation = as_of;
}

const OeMachine *
oe_machine_by_id(int32 machine_id)
{
	CachedMachine *entry = last_used;
	bool		found;

	if (likely(entry != NULL && entry->machine_id == machine_id &&
			   entry->generation == generation))
		return entry->machine;

	if (machines == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int32), .entrysize = sizeof(CachedMachine)};

		machines = hash_create("order_engine machines", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(machines, &machine_id, HASH_ENTER, &found);
	if (!found)
	{
		entry->generation = 0;
		entry->context = NULL;
		entry->machine = NULL;
	}
	if (entry->generation != generation)
		load_machine(entry, machine_id);
	last_used = entry;
	return entry->machine;
}

static int32
load_current(const char *kind, const char *name, uint64 *as_of)
{
	Relation	rel = open_machines(as_of);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	int32		found = 0;
	int32		highest = 0;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		int32		version = DatumGetInt32(column(tuple, rel, Anum_machine_version));

		if (version > highest && is_published(tuple, rel) &&
			strcmp(TextDatumGetCString(column(tuple, rel, Anum_machine_kind)), kind) == 0 &&
			strcmp(TextDatumGetCString(column(tuple, rel, Anum_machine_name)), name) == 0)
		{
			highest = version;
			found = DatumGetInt32(column(tuple, rel, Anum_machine_machine_id));
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (highest == 0)
	{
		OeJson		detail;

		oe_json_begin(&detail);
		oe_json_text(&detail, "entity", "machine");
		oe_json_text(&detail, "kind", kind);
		oe_json_text(&detail, "name", name);
		raise_not_found(&detail, psprintf("there is no published machine \"%s\" of kind \"%s\"",
										  name, kind));
	}
	return found;
}

const OeMachine *
oe_machine_current(const char *kind, const char *name)
{
	CachedName *entry;

	for (entry = names; entry != NULL; entry = entry->next)
	{
		if (strcmp(entry->name, name) == 0 && strcmp(entry->kind, kind) == 0)
			break;
	}
	if (entry == NULL || entry->generation != generation)
	{
		uint64		as_of;
		int32		machine_id = load_current(kind, name, &as_of);

		/* only names that exist come this far, so the list stays short */
		if (entry == NULL)
		{
			size_t		kindlen = strlen(kind) + 1;
			size_t		namelen = strlen(name) + 1;

			entry = MemoryContextAlloc(TopMemoryContext, sizeof(CachedName) + kindlen + namelen);
			entry->kind = (char *) (entry + 1);
			entry->name = entry->kind + kindlen;
			memcpy(entry->kind, kind, kindlen);
			memcpy(entry->name, name, namelen);
			entry->next = names;
			names = entry;
		}
		entry->machine_id = machine_id;
		entry->generation = as_of;
	}
	return oe_machine_by_id(entry->machine_id);
}

int32
oe_machine_id(const OeMachine *machine)
{
	return machine->machine_id;
}

const char *
oe_machine_initial(const OeMachine *machine)
{
	return machine->states[machine->initial].name;
}

int
oe_machine_state_no(const OeMachine *machine, const char *name)
{
	for (int s = 0; s < machine->nstates; s++)
	{
		if (strcmp(machine->states[s].name, name) == 0)
			return s;
	}
	return -1;
}

const OeTransition *
oe_machine_transitions(const OeMachine *machine, const char *state, int *count)
{
	int			s = oe_machine_state_no(machine, state);

	*count = s < 0 ? 0 : machine->states[s].count;
	return s < 0 ? NULL : &machine->transitions[machine->states[s].first];
}

OeStateLimit
oe_machine_limit(const OeMachine *machine, const char *state)
{
	int			s = oe_machine_state_no(machine, state);
	OeStateLimit none = {NULL, NULL};

	return s < 0 ? none : machine->states[s].limit;
}

TimestampTz
oe_machine_limit_at(const OeMachine *machine, const char *state, TimestampTz at)
{
	OeStateLimit limit = oe_machine_limit(machine, state);

	if (limit.length == NULL)
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(at),
												   IntervalPGetDatum(limit.length)));
}

bool
oe_machine_has_automatic(const OeMachine *machine, const char *state)
{
	int			s = oe_machine_state_no(machine, state);

	return s >= 0 && machine->states[s].has_automatic;
}

const OeTransition *
oe_machine_find_event(const OeMachine *machine, const char *state, const char *event)
{
	int			count;
	const OeTransition *t = oe_machine_transitions(machine, state, &count);

	for (; count > 0; count--, t++)
	{
		if (strcmp(t->event, event) == 0)
			return t;
	}
	return NULL;
}

const OeTransition *
oe_machine_find_target(const OeMachine *machine, const char *from, const char *to)
{
	int			count;
	const OeTransition *t = oe_machine_transitions(machine, from, &count);

	for (; count > 0; count--, t++)
	{
		if (strcmp(t->to, to) == 0)
			return t;
	}
	return NULL;
}

bool
oe_machine_event_enters(const OeMachine *machine, const char *event, const char *state)
{
	for (int i = 0; i < machine->ntransitions; i++)
	{
		if (strcmp(machine->transitions[i].to, state) == 0 &&
			strcmp(machine->transitions[i].event, event) == 0)
			return true;
	}
	return false;
}

char *
oe_machine_events_json(const OeMachine *machine, const char *state)
{
	OeJson		json;
	int			count;
	const OeTransition *t = oe_machine_transitions(machine, state, &count);

	oe_json_begin_array(&json);
	for (; count > 0; count--, t++)
		oe_json_text(&json, NULL, t->event);
	return oe_json_end(&json);
}
