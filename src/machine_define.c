/*
 * machine_define.c
 *	  define_machine() and publish_machine().
 *
 * Both take a lock on order_engine.machine that lets readers pass: versions of a
 * name are numbered one after the other, and what is published is what was
 * checked.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "machine_graph.h"
#include "miscadmin.h"
#include "part.h"
#include "query.h"
#include "relations.h"
#include "sql_guard.h"
#include "storage/lmgr.h"
#include "table_trigger.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(oe_define_machine);
PG_FUNCTION_INFO_V1(oe_publish_machine);

static void
lock_machines(const char *verb)
{
	/* a standby would speak of a lock mode */
	PreventCommandIfReadOnly(verb);
	LockRelationOid(oe_relid(OE_REL_MACHINE), ShareRowExclusiveLock);
}

/*
 * define_machine(kind, name, definition)
 *		Replaces the draft of that name, or makes one with the next version.
 *		What is wrong with the graph is told by publish_machine, so that a draft
 *		may be kept while it is being worked on.
 */
Datum
oe_define_machine(PG_FUNCTION_ARGS)
{
	static OeQuery replace = {
		"UPDATE order_engine.machine SET definition = $3"
		" WHERE kind = $1 AND name = $2 AND status = 'draft' RETURNING machine_id",
		3, {TEXTOID, TEXTOID, JSONBOID}
	};
	static OeQuery insert = {
		"INSERT INTO order_engine.machine (kind, name, version, status, definition)"
		" SELECT $1, $2, coalesce(max(version), 0) + 1, 'draft', $3"
		" FROM order_engine.machine WHERE kind = $1 AND name = $2 RETURNING machine_id",
		3, {TEXTOID, TEXTOID, JSONBOID}
	};
	char	   *kind = oe_arg_name(fcinfo, 0, "kind");
	char	   *name = oe_arg_name(fcinfo, 1, "name");
	Jsonb	   *definition;
	Datum		values[3];
	Datum		machine_id;
	bool		isnull;

	oe_arg_require(fcinfo, 2, "definition");
	definition = oe_arg_jsonb(fcinfo, 2, "definition", OE_MAX_DOCUMENT_BYTES);
	if (!JB_ROOT_IS_OBJECT(definition))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a JSON object", "definition")));
	if (strcmp(kind, OE_KIND_ORDER) != 0 && oe_part_kind(kind) == NULL)
		oe_table_kind_check(kind);

	lock_machines("define_machine()");
	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(name);
	values[2] = JsonbPGetDatum(definition);
	oe_spi_connect();
	if (oe_query_run(&replace, values, NULL, false, SPI_OK_UPDATE_RETURNING) == 0)
		(void) oe_query_run(&insert, values, NULL, false, SPI_OK_INSERT_RETURNING);
	machine_id = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	oe_spi_finish();
	PG_RETURN_DATUM(machine_id);	/* an integer, passed by value */
}

/*
 * publish_machine(machine_id)
 *		Checks a draft and freezes it.  Nothing to do when it is published.
 */
Datum
oe_publish_machine(PG_FUNCTION_ARGS)
{
	static OeQuery find = {
		"SELECT kind, name, status, definition FROM order_engine.machine WHERE machine_id = $1",
		1, {INT4OID}
	};
	static OeQuery publish = {
		"UPDATE order_engine.machine SET status = 'published', published_at = now()"
		" WHERE machine_id = $1",
		1, {INT4OID}
	};
	Datum		values[1];
	HeapTuple	tuple;
	TupleDesc	desc;
	char	   *kind;
	char	   *name;
	Jsonb	   *definition;
	OeMachine  *machine;
	OeFaults	faults;
	bool		isnull;

	oe_arg_require(fcinfo, 0, "machine_id");
	values[0] = PG_GETARG_DATUM(0);

	lock_machines("publish_machine()");
	oe_spi_connect();
	if (oe_query_run(&find, values, NULL, false, SPI_OK_SELECT) == 0)
	{
		OeJson		detail;

		oe_json_begin(&detail);
		oe_json_text(&detail, "entity", "machine");
		oe_json_int64(&detail, "id", PG_GETARG_INT32(0));
		ereport(ERROR,
				(errcode(ERRCODE_OE_NOT_FOUND),
				 errmsg("there is no machine %d", PG_GETARG_INT32(0)),
				 errdetail_internal("%s", oe_json_end(&detail))));
	}
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	if (strcmp(SPI_getvalue(tuple, desc, 3), "draft") == 0)
	{
		kind = SPI_getvalue(tuple, desc, 1);
		name = SPI_getvalue(tuple, desc, 2);
		definition = DatumGetJsonbP(SPI_getbinval(tuple, desc, 4, &isnull));

		oe_faults_begin(&faults);
		machine = oe_machine_parse(kind, definition, &faults);
		oe_machine_check(kind, machine, &faults);
		oe_sql_guards_check(kind, machine, &faults);
		oe_faults_raise(&faults, kind, name);

		(void) oe_query_run(&publish, values, NULL, false, SPI_OK_UPDATE);
		oe_machine_invalidate();
	}
	oe_spi_finish();
	PG_RETURN_VOID();
}
