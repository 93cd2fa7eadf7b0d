/*
 * machine_diagram.c
 *	  machine_diagram(): a machine as the text of a diagram, for Mermaid or Graphviz.
 *
 * States are called s0, s1, ... in the text and carry their names as labels, so
 * that no name can be taken for a keyword; what has a meaning in a label is
 * written as an entity.
 */
#include "postgres.h"

#include <ctype.h>

#include "args.h"
#include "catalog/pg_type.h"
#include "guard.h"
#include "machine_graph.h"
#include "query.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(oe_machine_diagram);

typedef struct Diagram
{
	const OeMachine *machine;
	Jsonb	   *definition;
	StringInfoData text;
} Diagram;

/* Letters, digits and what is beyond ASCII stand for themselves everywhere. */
static bool
is_plain(unsigned char c)
{
	return IS_HIGHBIT_SET(c) || isalnum(c) || strchr(" _.,-[]()/", c) != NULL;
}

static void
append_mermaid(StringInfo text, const char *label)
{
	for (; *label != '\0'; label++)
	{
		if (is_plain(*label))
			appendStringInfoChar(text, *label);
		else
			appendStringInfo(text, "#%d;", (unsigned char) *label);
	}
}

static void
append_graphviz(StringInfo text, const char *label)
{
	for (; *label != '\0'; label++)
	{
		if (*label == '&')
			appendStringInfoString(text, "&amp;");
		else
		{
			if (*label == '"' || *label == '\\')
				appendStringInfoChar(text, '\\');
			appendStringInfoChar(text, *label);
		}
	}
}

/* The time limit of a state as its author wrote it, NULL when he gave none. */
static const char *
limit_text(const Diagram *diagram, const OeState *state)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&diagram->definition->root, "states", 6, NULL);

	value = getKeyJsonValueFromContainer(value->val.binary.data, state->name, strlen(state->name), NULL);
	value = getKeyJsonValueFromContainer(value->val.binary.data, "limit", 5, NULL);
	return value == NULL ? NULL : pnstrdup(value->val.string.val, value->val.string.len);
}

static bool
fires_on_limit(const OeState *state, const OeTransition *transition)
{
	return state->limit.event != NULL && strcmp(state->limit.event, transition->event) == 0;
}

/* "confirm [no_hold, shop.check_vip] (automatic, after 2 hours)" */
static char *
transition_label(const Diagram *diagram, const OeTransition *transition)
{
	const OeState *state = &diagram->machine->states[transition->from_no];
	StringInfoData label;
	const char *separator = " [";

	initStringInfo(&label);
	appendStringInfoString(&label, transition->event);
	for (int i = 0; i < 32; i++)
	{
		if ((transition->guards & (1u << i)) == 0)
			continue;
		appendStringInfo(&label, "%s%s", separator, oe_guard_name(diagram->machine->kind, 1u << i));
		separator = ", ";
	}
	for (int i = 0; i < transition->nsql_guards; i++)
	{
		appendStringInfo(&label, "%s%s", separator, transition->sql_guards[i].name);
		separator = ", ";
	}
	if (separator[0] == ',')
		appendStringInfoChar(&label, ']');

	separator = " (";
	if (transition->automatic)
	{
		appendStringInfo(&label, "%sautomatic", separator);
		separator = ", ";
	}
	if (fires_on_limit(state, transition))
	{
		const char *limit = limit_text(diagram, state);

		if (limit != NULL)
			appendStringInfo(&label, "%safter %s", separator, limit);
		else
			appendStringInfo(&label, "%son time limit", separator);
		separator = ", ";
	}
	if (separator[0] == ',')
		appendStringInfoChar(&label, ')');
	return label.data;
}

static void
draw_mermaid(Diagram *diagram)
{
	const OeMachine *machine = diagram->machine;
	StringInfo	text = &diagram->text;

	appendStringInfoString(text, "stateDiagram-v2\n");
	for (int s = 0; s < machine->nstates; s++)
	{
		appendStringInfoString(text, "    state \"");
		append_mermaid(text, machine->states[s].name);
		appendStringInfo(text, "\" as s%d\n", s);
	}
	appendStringInfo(text, "    [*] --> s%d\n", machine->initial);
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const OeTransition *transition = &machine->transitions[i];

		appendStringInfo(text, "    s%d --> s%d: ", transition->from_no, transition->to_no);
		append_mermaid(text, transition_label(diagram, transition));
		appendStringInfoChar(text, '\n');
	}
	for (int s = 0; s < machine->nstates; s++)
	{
		if (machine->states[s].terminal)
			appendStringInfo(text, "    s%d --> [*]\n", s);
	}
}

static void
draw_graphviz(Diagram *diagram, const char *name)
{
	const OeMachine *machine = diagram->machine;
	StringInfo	text = &diagram->text;

	appendStringInfoString(text, "digraph \"");
	append_graphviz(text, name);
	appendStringInfoString(text, "\" {\n\trankdir=LR;\n\tnode [shape=box, style=rounded];\n"
						   "\tstart [shape=point];\n");
	for (int s = 0; s < machine->nstates; s++)
	{
		appendStringInfo(text, "\ts%d [label=\"", s);
		append_graphviz(text, machine->states[s].name);
		appendStringInfo(text, "\"%s];\n", machine->states[s].terminal ? ", peripheries=2" : "");
	}
	appendStringInfo(text, "\tstart -> s%d;\n", machine->initial);
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const OeTransition *transition = &machine->transitions[i];

		appendStringInfo(text, "\ts%d -> s%d [label=\"", transition->from_no, transition->to_no);
		append_graphviz(text, transition_label(diagram, transition));
		appendStringInfoChar(text, '"');
		if (transition->automatic)
			appendStringInfoString(text, ", style=bold");
		else if (fires_on_limit(&machine->states[transition->from_no], transition))
			appendStringInfoString(text, ", style=dashed");
		appendStringInfoString(text, "];\n");
	}
	appendStringInfoString(text, "}\n");
}

/* Reads the definition of a machine, published or not; OE004 when it cannot be read. */
static void
read_machine(int32 machine_id, Diagram *diagram, char **name)
{
	static OeQuery query = {
		"SELECT kind, name, version, definition FROM order_engine.machine WHERE machine_id = $1",
		1, {INT4OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int32GetDatum(machine_id);
	MemoryContext spi;
	HeapTuple	tuple;
	TupleDesc	desc;
	char	   *kind;
	OeFaults	faults;
	bool		isnull;

	oe_spi_connect();
	if (oe_query_run(&query, &arg, NULL, true, SPI_OK_SELECT) != 1)
		oe_not_found("machine", machine_id);
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	spi = MemoryContextSwitchTo(caller);
	kind = SPI_getvalue(tuple, desc, 1);
	*name = psprintf("%s/%s/%s", kind, SPI_getvalue(tuple, desc, 2), SPI_getvalue(tuple, desc, 3));
	diagram->definition = DatumGetJsonbPCopy(SPI_getbinval(tuple, desc, 4, &isnull));
	oe_faults_begin(&faults);
	diagram->machine = oe_machine_parse(kind, diagram->definition, &faults);
	oe_faults_raise(&faults, kind, SPI_getvalue(tuple, desc, 2));
	MemoryContextSwitchTo(spi);
	oe_spi_finish();
}

/*
 * machine_diagram(machine_id, format)
 */
Datum
oe_machine_diagram(PG_FUNCTION_ARGS)
{
	char	   *format = oe_arg_name(fcinfo, 1, "format");
	bool		mermaid = strcmp(format, "mermaid") == 0;
	Diagram		diagram;
	char	   *name;

	oe_arg_require(fcinfo, 0, "machine_id");
	if (!mermaid && strcmp(format, "graphviz") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown format \"%s\"", format),
				 errhint("The format is mermaid or graphviz.")));
	read_machine(PG_GETARG_INT32(0), &diagram, &name);
	initStringInfo(&diagram.text);
	if (mermaid)
		draw_mermaid(&diagram);
	else
		draw_graphviz(&diagram, name);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(diagram.text.data, diagram.text.len));
}
