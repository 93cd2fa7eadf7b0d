/*
 * database_ddl.h
 *	  Keep the worker out of the way of commands on whole databases.
 */
#ifndef OE_DATABASE_DDL_H
#define OE_DATABASE_DDL_H

/* Installs the hook; from _PG_init while preloading. */
extern void oe_database_ddl_init(void);

#endif							/* OE_DATABASE_DDL_H */
