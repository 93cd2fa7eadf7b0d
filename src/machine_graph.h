/*
 * machine_graph.h
 *	  A machine in memory, from its definition as jsonb.
 */
#ifndef OE_MACHINE_GRAPH_H
#define OE_MACHINE_GRAPH_H

#include "errors.h"
#include "machine.h"
#include "utils/jsonb.h"

#define OE_MAX_STATES			200
#define OE_MAX_TRANSITIONS		2000

/* the kind of the machines that orders run on */
#define OE_KIND_ORDER			"order"

/*
 * longest time limit of a state, in days: an interval may be longer than time
 * stamps are
 */
#define OE_MAX_LIMIT_DAYS		3650

typedef struct OeState
{
	const char *name;
	bool		terminal;
	bool		has_automatic;	/* one of its transitions is automatic */
	OeStateLimit limit;
	int			first;			/* its transitions in OeMachine.transitions */
	int			count;
} OeState;

struct OeMachine
{
	int32		machine_id;		/* 0 before it is stored */
	const char *kind;
	int			initial;		/* number of a state, -1 when the definition has none */
	int			nstates;
	int			ntransitions;
	OeState    *states;
	OeTransition *transitions;	/* grouped by state, within one as defined */
};

/* What is wrong with a definition: a JSON array of sentences. */
typedef struct OeFaults
{
	int			count;
	OeJson		list;
} OeFaults;

extern void oe_faults_begin(OeFaults *faults);
extern void oe_faults_add(OeFaults *faults, const char *format,...) pg_attribute_printf(2, 3);

/* OE004 with all faults; returns when there are none. */
extern void oe_faults_raise(OeFaults *faults, const char *kind, const char *name);

/*
 * Reads a definition into memory that is palloc'd in the current context.
 * What cannot be read is left out and is a fault.
 */
extern OeMachine *oe_machine_parse(const char *kind, Jsonb *definition, OeFaults *faults);

/* Adds what is wrong with the graph of a machine of that kind as a whole. */
extern void oe_machine_check(const char *kind, const OeMachine *machine, OeFaults *faults);

/* Number of the state of that name, -1 when there is none. */
extern int	oe_machine_state_no(const OeMachine *machine, const char *name);

#endif							/* OE_MACHINE_GRAPH_H */
