/*
 * machine_check.c
 *	  Whether the graph of a state machine is sound, and the list of faults.
 *
 * A row must never be stuck: each state can be reached from the initial one,
 * and a terminal state can be reached from each.  An event must mean one thing
 * in a state, and so must a pair of states, because an UPDATE written by hand
 * names no event.
 *
 * place_order() makes the row of a new order in one stroke, with the transition
 * "place" already done.  So a machine for orders must have it, and it can have
 * neither guards nor effects: nobody would ask or apply them.
 */
#include "postgres.h"

#include "machine_graph.h"
#include "part.h"

void
oe_faults_begin(OeFaults *faults)
{
	faults->count = 0;
	oe_json_begin_array(&faults->list);
}

void
oe_faults_add(OeFaults *faults, const char *format,...)
{
	StringInfoData text;
	int			needed;

	initStringInfo(&text);
	do
	{
		va_list		args;

		va_start(args, format);
		needed = appendStringInfoVA(&text, format, args);
		va_end(args);
		if (needed > 0)
			enlargeStringInfo(&text, needed);
	} while (needed > 0);

	oe_json_text(&faults->list, NULL, text.data);
	faults->count++;
	pfree(text.data);
}

void
oe_faults_raise(OeFaults *faults, const char *kind, const char *name)
{
	OeJson		detail;

	if (faults->count == 0)
		return;
	oe_json_begin(&detail);
	oe_json_raw(&detail, "faults", oe_json_end(&faults->list));
	ereport(ERROR,
			(errcode(ERRCODE_OE_INVALID_MACHINE),
			 errmsg_plural("machine \"%s\" of kind \"%s\" has %d fault",
						   "machine \"%s\" of kind \"%s\" has %d faults",
						   faults->count, name, kind, faults->count),
			 errdetail_internal("%s", oe_json_end(&detail))));
}

/* What leaves one state: no event twice, no target twice, nothing if terminal. */
static void
check_ways_out(const OeMachine *machine, const OeState *state, OeFaults *faults)
{
	const OeTransition *ways = &machine->transitions[state->first];

	if (state->terminal && state->count > 0)
		oe_faults_add(faults, "state \"%s\" is terminal but event \"%s\" leaves it",
					  state->name, ways[0].event);

	for (int i = 0; i < state->count; i++)
	{
		for (int j = 0; j < i; j++)
		{
			bool		same_event = strcmp(ways[i].event, ways[j].event) == 0;

			if (same_event)
				oe_faults_add(faults, "state \"%s\" has event \"%s\" more than once",
							  state->name, ways[i].event);
			if (ways[i].to_no == ways[j].to_no && !same_event)
				oe_faults_add(faults, "events \"%s\" and \"%s\" both lead from \"%s\" to \"%s\"",
							  ways[j].event, ways[i].event, state->name, ways[i].to);
		}
	}
}

/* The event of a time limit must be one that the state has. */
static void
check_limit(const OeMachine *machine, const OeState *state, OeFaults *faults)
{
	if (state->limit.event == NULL)
		return;
	for (int i = 0; i < state->count; i++)
	{
		if (strcmp(machine->transitions[state->first + i].event, state->limit.event) == 0)
			return;
	}
	oe_faults_add(faults, "state \"%s\" has no event \"%s\", which its time limit fires",
				  state->name, state->limit.event);
}

/*
 * Automatic transitions must not form a circle: it could turn for ever.  Follows
 * them for as many steps as there are states; who is still going then goes round.
 */
static void
check_automatic(const OeMachine *machine, OeFaults *faults)
{
	int		   *depth = palloc0(sizeof(int) * (machine->nstates + 1));

	for (int round = 0; round <= machine->nstates; round++)
	{
		bool		changed = false;

		for (int i = 0; i < machine->ntransitions; i++)
		{
			const OeTransition *t = &machine->transitions[i];

			if (!t->automatic || depth[t->to_no] > depth[t->from_no])
				continue;
			if (depth[t->from_no] >= machine->nstates)
			{
				oe_faults_add(faults, "automatic transitions form a circle through state \"%s\"",
							  t->from);
				pfree(depth);
				return;
			}
			depth[t->to_no] = depth[t->from_no] + 1;
			changed = true;
		}
		if (!changed)
			break;
	}
	pfree(depth);
}

/* The transition that place_order() makes. */
static void
check_placing(const OeMachine *machine, OeFaults *faults)
{
	const OeState *initial = &machine->states[machine->initial];

	for (int i = 0; i < initial->count; i++)
	{
		const OeTransition *t = &machine->transitions[initial->first + i];

		if (strcmp(t->event, OE_EVENT_PLACE) != 0)
			continue;
		if (machine->states[t->to_no].terminal)
			oe_faults_add(faults, "event \"%s\" leads to the terminal state \"%s\"",
						  t->event, t->to);
		if (t->automatic)
			oe_faults_add(faults, "event \"%s\" must not be automatic", t->event);
		if (t->guards != 0 || t->nsql_guards != 0 || t->effects != 0)
			oe_faults_add(faults, "event \"%s\" must not have guards or effects in the initial state \"%s\"",
						  t->event, initial->name);
		return;
	}
	oe_faults_add(faults, "the initial state \"%s\" has no event \"%s\"",
				  initial->name, OE_EVENT_PLACE);
}

/* What the engine does by itself: time limits of orders and their parts, all else of orders only. */
static void
check_by_itself(const char *kind, const OeMachine *machine, OeFaults *faults)
{
	for (int s = 0; oe_part_kind(kind) == NULL && s < machine->nstates; s++)
	{
		if (machine->states[s].limit.event != NULL || machine->states[s].limit.length != NULL)
			oe_faults_add(faults, "state \"%s\": kind \"%s\" has no time limits",
						  machine->states[s].name, kind);
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		if (machine->transitions[i].automatic)
			oe_faults_add(faults, "event \"%s\" from \"%s\": kind \"%s\" has no automatic transitions",
						  machine->transitions[i].event, machine->transitions[i].from, kind);
	}
}

void
oe_machine_check(const char *kind, const OeMachine *machine, OeFaults *faults)
{
	bool	   *reached;
	bool	   *can_end;
	bool		changed;

	for (int s = 0; s < machine->nstates; s++)
	{
		check_ways_out(machine, &machine->states[s], faults);
		check_limit(machine, &machine->states[s], faults);
	}
	check_automatic(machine, faults);
	if (strcmp(kind, OE_KIND_ORDER) == 0)
	{
		if (machine->initial >= 0)
			check_placing(machine, faults);
	}
	else
		check_by_itself(kind, machine, faults);

	reached = palloc0(sizeof(bool) * (machine->nstates + 1));
	can_end = palloc0(sizeof(bool) * (machine->nstates + 1));
	if (machine->initial >= 0)
		reached[machine->initial] = true;
	for (int s = 0; s < machine->nstates; s++)
		can_end[s] = machine->states[s].terminal;
	do
	{
		changed = false;
		for (int i = 0; i < machine->ntransitions; i++)
		{
			const OeTransition *t = &machine->transitions[i];

			if (reached[t->from_no] && !reached[t->to_no])
				changed = reached[t->to_no] = true;
			if (can_end[t->to_no] && !can_end[t->from_no])
				changed = can_end[t->from_no] = true;
		}
	} while (changed);

	for (int s = 0; s < machine->nstates; s++)
	{
		if (machine->initial >= 0 && !reached[s])
			oe_faults_add(faults, "state \"%s\" cannot be reached from the initial state \"%s\"",
						  machine->states[s].name, machine->states[machine->initial].name);
		if (!can_end[s])
			oe_faults_add(faults, "state \"%s\" has no way to a terminal state",
						  machine->states[s].name);
	}
	pfree(reached);
	pfree(can_end);
}
