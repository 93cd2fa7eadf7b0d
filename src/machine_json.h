/*
 * machine_json.h
 *	  Read members of the JSON objects that make up the definition of a machine.
 */
#ifndef OE_MACHINE_JSON_H
#define OE_MACHINE_JSON_H

#include "machine_graph.h"
#include "nodes/pg_list.h"

/* A word of the definition for a fault: in quotes, and not too long. */
extern const char *oe_quoted(const char *s, int len);
extern const char *oe_quoted_value(const JsonbValue *string);

extern bool oe_is_object(const JsonbValue *value);
extern bool oe_is_array(const JsonbValue *value);

/* NULL when the object has no such member. */
extern JsonbValue *oe_member(JsonbContainer *object, const char *key);

/* A fault for each member that is not among the known ones, which end with NULL. */
extern void oe_check_keys(OeFaults *faults, JsonbContainer *object, const char *where,
						  const char *const *known);

/*
 * A member that is a name, as a string of its own; NULL, with a fault, when it
 * is missing or no name.
 */
extern const char *oe_name_member(OeFaults *faults, JsonbContainer *object, const char *key,
								  const char *where);

/* false when it is missing. */
extern bool oe_bool_member(OeFaults *faults, JsonbContainer *object, const char *key,
						   const char *where);

/* A member that is an array of strings, of any length and content; NIL when it is missing. */
extern List *oe_strings_member(OeFaults *faults, JsonbContainer *object, const char *key,
							   const char *where);

#endif							/* OE_MACHINE_JSON_H */
