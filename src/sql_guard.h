/*
 * sql_guard.h
 *	  Guards that users write in SQL.
 */
#ifndef OE_SQL_GUARD_H
#define OE_SQL_GUARD_H

#include "machine.h"
#include "machine_graph.h"

/*
 * Splits the name of a guard, "schema.function" as SQL writes it, into "guard".
 * False for a name that is no such thing.
 */
extern bool oe_sql_guard_parse(const char *name, OeSqlGuard *guard);

/*
 * Adds what is wrong with the functions that a machine of that kind names: they
 * must exist, be fit, and be the caller's to hand out.
 */
extern void oe_sql_guards_check(const char *kind, const OeMachine *machine, OeFaults *faults);

/*
 * Asks the functions of a transition, one after the other.  The row is named by
 * its id: a bigint, or with id_text not NULL a text.  NULL when all agree, else
 * the reason of the first that does not, in the current memory context, and
 * *name tells which one it was.
 */
extern const char *oe_sql_guards_ask(const OeTransition *transition, int64 id, const char *id_text,
									 const char **name);

#endif							/* OE_SQL_GUARD_H */
