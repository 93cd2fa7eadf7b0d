/*
 * table_trigger.h
 *	  Columns of an application's table that a state machine governs.
 */
#ifndef OE_TABLE_TRIGGER_H
#define OE_TABLE_TRIGGER_H

#include "utils/relcache.h"

typedef struct OeTableColumns
{
	int			state;
	int			id;
	int			version;		/* 0: none */
	Oid			state_output;	/* output functions */
	Oid			id_output;
	bool		version_is_int4;
} OeTableColumns;

/*
 * Finds the columns by name; version may be NULL.  22023 for a table or type
 * that cannot be governed, 42703 for a column that does not exist.
 */
extern void oe_table_columns(Relation rel, const char *state, const char *id,
							 const char *version, OeTableColumns *columns);

/* 22023 for a kind whose events only the engine itself may write. */
extern void oe_table_kind_check(const char *kind);

#endif							/* OE_TABLE_TRIGGER_H */
