/*
 * attach.c
 *	  attach_machine() and detach_machine(): govern a table of the application.
 *
 * Both run as the caller, who must own the table, and make or drop two ordinary
 * triggers, which pg_dump carries along.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "args.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "machine_graph.h"
#include "miscadmin.h"
#include "query.h"
#include "relations.h"
#include "state_machine.h"
#include "table_trigger.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(oe_attach_machine);
PG_FUNCTION_INFO_V1(oe_detach_machine);

static void
check_owner(Form_pg_class form)
{
	if (!has_privs_of_role(GetUserId(), form->relowner))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, NameStr(form->relname));
}

/*
 * Locks the table as CREATE TRIGGER does, and sees whether it may be governed.
 * Who is not the owner does not even get the lock.
 */
static Relation
open_own_table(Oid relid, LOCKMODE lockmode)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Relation	rel = NULL;
	Form_pg_class form;

	if (HeapTupleIsValid(tuple))
	{
		check_owner((Form_pg_class) GETSTRUCT(tuple));
		ReleaseSysCache(tuple);
		rel = try_relation_open(relid, lockmode);
	}
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	form = RelationGetForm(rel);
	check_owner(form);
	if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE &&
		form->relkind != RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(rel))));
	if (form->relnamespace == get_rel_namespace(oe_relid(OE_REL_ORDERS)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("table \"%s\" belongs to order_engine", RelationGetRelationName(rel))));
	return rel;
}

static char *
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

static void
run_utility(const char *command)
{
	int			result = SPI_execute(command, false, 0);

	if (result != SPI_OK_UTILITY)
		elog(ERROR, "SPI_execute returned %s for \"%s\"", SPI_result_code_string(result), command);
}

/* Rows in a state that the machine does not have could never leave it. */
static void
check_rows(Relation rel, const char *state_column, const OeMachine *machine)
{
	char	   *query;
	Datum	   *states = palloc(sizeof(Datum) * machine->nstates);
	Oid			types[1] = {TEXTARRAYOID};
	Datum		values[1];
	int			result;

	for (int i = 0; i < machine->nstates; i++)
		states[i] = CStringGetTextDatum(machine->states[i].name);
	values[0] = PointerGetDatum(construct_array(states, machine->nstates, TEXTOID, -1, false,
												TYPALIGN_INT));

	query = psprintf("SELECT t.%s FROM %s AS t WHERE t.%s::text <> ALL ($1) LIMIT 1",
					 quote_identifier(state_column), qualified_name(rel),
					 quote_identifier(state_column));
	result = SPI_execute_with_args(query, 1, types, values, NULL, true, 1);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args returned %s for \"%s\"",
			 SPI_result_code_string(result), query);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("relation \"%s\" has rows in state \"%s\", which the machine does not have",
						RelationGetRelationName(rel),
						SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
				 errtable(rel)));
}

/*
 * attach_machine(relation, kind, machine, state_column, id_column, version_column)
 */
Datum
oe_attach_machine(PG_FUNCTION_ARGS)
{
	char	   *kind = oe_arg_name(fcinfo, 1, "kind");
	char	   *name = oe_arg_name(fcinfo, 2, "machine");
	const char *state;
	const char *id;
	const char *version;
	Relation	rel;
	OeTableColumns columns;
	const OeMachine *machine;
	StringInfoData args;

	oe_arg_require(fcinfo, 0, "relation");
	oe_arg_require(fcinfo, 3, "state_column");
	oe_arg_require(fcinfo, 4, "id_column");
	state = NameStr(*PG_GETARG_NAME(3));
	id = NameStr(*PG_GETARG_NAME(4));
	version = PG_ARGISNULL(5) ? NULL : NameStr(*PG_GETARG_NAME(5));

	PreventCommandIfReadOnly("attach_machine()");
	oe_table_kind_check(kind);
	rel = open_own_table(PG_GETARG_OID(0), ShareRowExclusiveLock);
	oe_table_columns(rel, state, id, version, &columns);
	machine = oe_machine_current(kind, name);

	initStringInfo(&args);
	appendStringInfo(&args, "%s, %s, %s, %s", quote_literal_cstr(kind), quote_literal_cstr(name),
					 quote_literal_cstr(state), quote_literal_cstr(id));
	if (version != NULL)
		appendStringInfo(&args, ", %s", quote_literal_cstr(version));

	oe_spi_connect();
	check_rows(rel, state, machine);
	run_utility(psprintf("CREATE TRIGGER " OE_TRIGGER_CHECK " BEFORE INSERT OR UPDATE ON %s"
						 " FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine(%s)",
						 qualified_name(rel), args.data));
	/* without a WHEN clause, whose text the server would read anew in each UPDATE */
	run_utility(psprintf("CREATE TRIGGER \"" OE_TRIGGER_RECORD "\" AFTER UPDATE ON %s"
						 " FOR EACH ROW EXECUTE FUNCTION order_engine.state_machine(%s)",
						 qualified_name(rel), args.data));
	oe_spi_finish();
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}

/*
 * detach_machine(relation)
 */
Datum
oe_detach_machine(PG_FUNCTION_ARGS)
{
	Relation	rel;
	char	   *table;

	oe_arg_require(fcinfo, 0, "relation");
	PreventCommandIfReadOnly("detach_machine()");
	rel = open_own_table(PG_GETARG_OID(0), AccessExclusiveLock);
	table = qualified_name(rel);
	relation_close(rel, NoLock);	/* DROP TRIGGER wants it unused */

	oe_spi_connect();
	run_utility(psprintf("DROP TRIGGER " OE_TRIGGER_CHECK " ON %s", table));
	run_utility(psprintf("DROP TRIGGER \"" OE_TRIGGER_RECORD "\" ON %s", table));
	oe_spi_finish();
	PG_RETURN_VOID();
}
