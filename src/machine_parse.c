/*
 * machine_parse.c
 *	  Read the definition of a state machine.
 *
 *		{"initial": "new",
 *		 "states": {"new": {"limit": "2 days", "on_limit": "finish"},
 *					"done": {"terminal": true}},
 *		 "transitions": [{"event": "finish", "from": "new", "to": "done",
 *						  "type": "...", "guards": [], "effects": [], "milestone": "...",
 *						  "automatic": false}]}
 *
 * "from" may be an array of states; a guard with a dot in its name is a function
 * that a user wrote ("shop.check_vip").  Reading goes on after a fault, so that
 * the author of a definition sees all of them at once.  A key that is not known
 * is a fault: a misspelt "guards" would silently let everything pass.
 */
#include "postgres.h"

#include "args.h"
#include "effect.h"
#include "guard.h"
#include "machine_json.h"
#include "policy_match.h"
#include "sql_guard.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

typedef struct Parser
{
	const char *kind;
	OeMachine  *machine;
	OeFaults   *faults;
} Parser;

/*
 * An interval, without raising an error: what cannot be read is a fault.  The
 * server's own reader reports by error only, so its two steps are taken here.
 */
static const Interval *
parse_interval(Parser *parser, const char *text, const char *where)
{
	char		buffer[OE_MAX_NAME_BYTES + 1];
	char	   *fields[MAXDATEFIELDS];
	int			types[MAXDATEFIELDS];
	int			nfields;
	int			dtype;
	struct pg_itm_in itm = {0};
	Interval   *interval = palloc(sizeof(Interval));
	double		length_days;

	if (ParseDateTime(text, buffer, sizeof(buffer), fields, types, MAXDATEFIELDS, &nfields) != 0 ||
		DecodeInterval(fields, types, nfields, INTERVAL_FULL_RANGE, &dtype, &itm) != 0 ||
		dtype != DTK_DELTA || itmin2interval(&itm, interval) != 0)
	{
		oe_faults_add(parser->faults, "%s: \"limit\" is not an interval such as \"2 hours\"", where);
		return NULL;
	}
	length_days = interval->month * 30.0 + interval->day + interval->time / (double) USECS_PER_DAY;
	if (length_days <= 0 || interval->month < 0 || interval->day < 0 || interval->time < 0 ||
		length_days > OE_MAX_LIMIT_DAYS)
	{
		oe_faults_add(parser->faults, "%s: \"limit\" must be longer than 0 and at most %d days",
					  where, OE_MAX_LIMIT_DAYS);
		return NULL;
	}
	return interval;
}

static void
parse_limit(Parser *parser, JsonbContainer *object, OeState *state, const char *where)
{
	if (oe_member(object, "on_limit") != NULL)
		state->limit.event = oe_name_member(parser->faults, object, "on_limit", where);
	if (oe_member(object, "limit") != NULL)
	{
		const char *text = oe_name_member(parser->faults, object, "limit", where);

		if (text != NULL)
			state->limit.length = parse_interval(parser, text, where);
		if (oe_member(object, "on_limit") == NULL)
			oe_faults_add(parser->faults, "%s: \"limit\" needs \"on_limit\", the event to fire", where);
	}
}

static void
parse_states(Parser *parser, JsonbContainer *object)
{
	static const char *const known[] = {"terminal", "limit", "on_limit", NULL};
	OeMachine  *machine = parser->machine;
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;
	OeState    *state = NULL;

	machine->states = palloc0(sizeof(OeState) * JsonContainerSize(object));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		const char *why;

		if (token == WJB_KEY)
		{
			if (!oe_name_is_valid(value.val.string.val, value.val.string.len, &why))
				oe_faults_add(parser->faults, "states: the name %s %s", oe_quoted_value(&value), why);
			state = &machine->states[machine->nstates++];
			state->name = pnstrdup(value.val.string.val, value.val.string.len);
		}
		else if (token == WJB_VALUE && state != NULL)
		{
			const char *where = psprintf("state %s", oe_quoted(state->name, strlen(state->name)));

			if (!oe_is_object(&value))
			{
				oe_faults_add(parser->faults, "%s is not an object", where);
				continue;
			}
			oe_check_keys(parser->faults, value.val.binary.data, where, known);
			state->terminal = oe_bool_member(parser->faults, value.val.binary.data, "terminal", where);
			parse_limit(parser, value.val.binary.data, state, where);
		}
	}
}

static uint32
parse_effects(Parser *parser, JsonbContainer *object, const char *where)
{
	uint32		bits = 0;
	ListCell   *cell;

	foreach(cell, oe_strings_member(parser->faults, object, "effects", where))
	{
		const char *name = lfirst(cell);
		uint32		bit = oe_effect_by_name(parser->kind, name);

		if (bit == 0)
			oe_faults_add(parser->faults, "%s: kind %s has no effect %s", where,
						  oe_quoted(parser->kind, strlen(parser->kind)), oe_quoted(name, strlen(name)));
		bits |= bit;
	}
	return bits;
}

/*
 * The guards: those with a dot in their name are functions, all others are built
 * in.
 */
static void
parse_guards(Parser *parser, JsonbContainer *object, const char *where, OeTransition *transition)
{
	List	   *names = oe_strings_member(parser->faults, object, "guards", where);
	OeSqlGuard *functions = palloc(sizeof(OeSqlGuard) * (list_length(names) + 1));
	ListCell   *cell;

	transition->sql_guards = functions;
	foreach(cell, names)
	{
		const char *name = lfirst(cell);
		const char *why;

		if (strchr(name, '.') == NULL)
		{
			uint32		bit = oe_guard_by_name(parser->kind, name);

			if (bit == 0)
				oe_faults_add(parser->faults, "%s: kind %s has no guard %s", where,
							  oe_quoted(parser->kind, strlen(parser->kind)), oe_quoted(name, strlen(name)));
			transition->guards |= bit;
		}
		else if (oe_name_is_valid(name, strlen(name), &why) &&
				 oe_sql_guard_parse(name, &functions[transition->nsql_guards]))
			transition->nsql_guards++;
		else
			oe_faults_add(parser->faults, "%s: guard %s is not the name of a function with its schema",
						  where, oe_quoted(name, strlen(name)));
	}
}

static int
parse_milestone(Parser *parser, JsonbContainer *object, const char *where)
{
	const char *name;
	int			column;

	if (oe_member(object, "milestone") == NULL ||
		(name = oe_name_member(parser->faults, object, "milestone", where)) == NULL)
		return 0;
	column = oe_milestone_column(parser->kind, name);
	if (column == 0)
		oe_faults_add(parser->faults, "%s: kind %s has no milestone %s", where,
					  oe_quoted(parser->kind, strlen(parser->kind)), oe_quoted(name, strlen(name)));
	return column;
}

static const char *
parse_type(Parser *parser, JsonbContainer *object, const char *event, const char *where)
{
	const char *type;
	char		why[128];

	if (oe_member(object, "type") != NULL)
		type = oe_name_member(parser->faults, object, "type", where);
	else
		type = psprintf("%s.%s", parser->kind, event);
	if (type != NULL && !oe_event_type_check(type, strlen(type), why, sizeof(why)))
		oe_faults_add(parser->faults, "%s: event type %s: %s", where,
					  oe_quoted(type, strlen(type)), why);
	return type;
}

/* Number of a state that a transition names, -1 with a fault. */
static int
parse_state_ref(Parser *parser, const char *name, const char *key, const char *where)
{
	int			state = oe_machine_state_no(parser->machine, name);

	if (state < 0)
		oe_faults_add(parser->faults, "%s: \"%s\" names %s, which is not among the states", where,
					  key, oe_quoted(name, strlen(name)));
	return state;
}

static void
add_transition(Parser *parser, const OeTransition *model, int from, const char *where)
{
	OeMachine  *machine = parser->machine;
	OeTransition *added;

	if (from == model->to_no)
	{
		oe_faults_add(parser->faults, "%s leads from %s to itself", where,
					  oe_quoted(model->to, strlen(model->to)));
		return;
	}
	if (machine->ntransitions == OE_MAX_TRANSITIONS)
	{
		oe_faults_add(parser->faults, "there are more than %d transitions", OE_MAX_TRANSITIONS);
		machine->ntransitions++;	/* say it once */
		return;
	}
	if (machine->ntransitions > OE_MAX_TRANSITIONS)
		return;
	added = &machine->transitions[machine->ntransitions++];
	*added = *model;
	added->from = machine->states[from].name;
	added->from_no = from;
}

static void
parse_transition(Parser *parser, const JsonbValue *value, int number)
{
	static const char *const known[] =
	{"event", "from", "to", "type", "guards", "effects", "milestone", "automatic", NULL};
	const char *where = psprintf("transition %d", number);
	JsonbContainer *object;
	OeTransition model = {0};
	const char *to;
	List	   *from;
	ListCell   *cell;

	if (!oe_is_object(value))
	{
		oe_faults_add(parser->faults, "%s is not an object", where);
		return;
	}
	object = value->val.binary.data;
	oe_check_keys(parser->faults, object, where, known);

	model.event = oe_name_member(parser->faults, object, "event", where);
	if (model.event != NULL)
	{
		where = psprintf("transition %d (%s)", number, oe_quoted(model.event, strlen(model.event)));
		model.type = parse_type(parser, object, model.event, where);
	}
	parse_guards(parser, object, where, &model);
	model.effects = parse_effects(parser, object, where);
	model.milestone = parse_milestone(parser, object, where);
	model.automatic = oe_bool_member(parser->faults, object, "automatic", where);

	to = oe_name_member(parser->faults, object, "to", where);
	model.to_no = to == NULL ? -1 : parse_state_ref(parser, to, "to", where);
	if (model.to_no >= 0)
		model.to = parser->machine->states[model.to_no].name;

	value = oe_member(object, "from");
	if (value != NULL && oe_is_array(value))
	{
		if (JsonContainerSize(value->val.binary.data) == 0)
			oe_faults_add(parser->faults, "%s: \"from\" is empty", where);
		from = oe_strings_member(parser->faults, object, "from", where);
	}
	else
	{
		const char *name = oe_name_member(parser->faults, object, "from", where);

		from = name == NULL ? NIL : list_make1(unconstify(char *, name));
	}
	foreach(cell, from)
	{
		int			state = parse_state_ref(parser, lfirst(cell), "from", where);

		if (state >= 0 && model.to_no >= 0 && model.event != NULL)
			add_transition(parser, &model, state, where);
	}
}

static void
parse_transitions(Parser *parser, JsonbContainer *array)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	value;
	int			number = 0;

	parser->machine->transitions = palloc0(sizeof(OeTransition) * OE_MAX_TRANSITIONS);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			parse_transition(parser, &value, ++number);
	}
}

/* Groups the transitions by state, and makes the array as small as it may be. */
static void
group_transitions(OeMachine *machine)
{
	int			total = Min(machine->ntransitions, OE_MAX_TRANSITIONS);
	OeTransition *grouped = palloc(sizeof(OeTransition) * Max(total, 1));
	int			n = 0;

	for (int s = 0; s < machine->nstates; s++)
	{
		machine->states[s].first = n;
		for (int i = 0; i < total; i++)
		{
			if (machine->transitions[i].from_no != s)
				continue;
			machine->states[s].has_automatic |= machine->transitions[i].automatic;
			grouped[n++] = machine->transitions[i];
		}
		machine->states[s].count = n - machine->states[s].first;
	}
	if (machine->transitions != NULL)
		pfree(machine->transitions);
	machine->transitions = grouped;
	machine->ntransitions = n;
}

OeMachine *
oe_machine_parse(const char *kind, Jsonb *definition, OeFaults *faults)
{
	static const char *const known[] = {"initial", "states", "transitions", NULL};
	Parser		parser = {kind, palloc0(sizeof(OeMachine)), faults};
	OeMachine  *machine = parser.machine;
	JsonbContainer *root = &definition->root;
	JsonbValue *states;
	JsonbValue *transitions;
	const char *initial;

	machine->kind = pstrdup(kind);
	machine->initial = -1;
	if (!JB_ROOT_IS_OBJECT(definition))
	{
		oe_faults_add(faults, "the definition is not an object");
		return machine;
	}
	oe_check_keys(faults, root, "definition", known);

	states = oe_member(root, "states");
	if (states == NULL)
		oe_faults_add(faults, "definition: \"states\" is missing");
	else if (!oe_is_object(states))
		oe_faults_add(faults, "definition: \"states\" is not an object");
	else if (JsonContainerSize(states->val.binary.data) == 0)
		oe_faults_add(faults, "definition: \"states\" is empty");
	else if (JsonContainerSize(states->val.binary.data) > OE_MAX_STATES)
		oe_faults_add(faults, "there are more than %d states", OE_MAX_STATES);
	else
		parse_states(&parser, states->val.binary.data);

	initial = oe_name_member(faults, root, "initial", "definition");
	if (initial != NULL && machine->nstates > 0)
		machine->initial = parse_state_ref(&parser, initial, "initial", "definition");

	transitions = oe_member(root, "transitions");
	if (transitions == NULL)
		oe_faults_add(faults, "definition: \"transitions\" is missing");
	else if (!oe_is_array(transitions))
		oe_faults_add(faults, "definition: \"transitions\" is not an array");
	else if (machine->nstates > 0)
		parse_transitions(&parser, transitions->val.binary.data);

	group_transitions(machine);
	return machine;
}
