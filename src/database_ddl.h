/*
 * database_ddl.h
 *	  Keep the worker out of the way of commands on whole databases.
 */
#ifndef OE_DATABASE_DDL_H
#define OE_DATABASE_DDL_H

#include "shared.h"

/* Is anybody connected to it but its workers and who wants them away? */
extern bool oe_database_in_use(OeDatabaseSlot *database);

/* Installs the hook; from _PG_init while preloading. */
extern void oe_database_ddl_init(void);

#endif							/* OE_DATABASE_DDL_H */
