/*
 * launcher.h
 *	  The process that keeps the workers of each listed database running.
 */
#ifndef OE_LAUNCHER_H
#define OE_LAUNCHER_H

#include "postmaster/bgworker.h"

/* Why a worker ended, as it leaves it in its slot for the launcher. */
typedef enum OeWorkerEnd
{
	OE_END_UNKNOWN = 0,			/* an error or a crash: start it again, throttled */
	OE_END_HELD,				/* asked to by a command on the database */
	OE_END_NO_EXTENSION,		/* nothing to do there until CREATE EXTENSION */
	OE_END_RESHARD,				/* another set of workers is wanted, or none: start those at once */
	OE_END_TOLD					/* somebody ended it, and nothing is wrong with it */
} OeWorkerEnd;

/* bgw_extra of a worker */
typedef struct OeWorkerArgs
{
	char		started_by[16]; /* OE_BY_LAUNCHER; empty: a user */
	int			index;			/* it is this one ... */
	int			count;			/* ... of so many */
} OeWorkerArgs;

#define OE_BY_LAUNCHER	"by launcher"

StaticAssertDecl(sizeof(OeWorkerArgs) <= BGW_EXTRALEN, "arguments of a worker do not fit");

/* Registers the launcher; from _PG_init while preloading. */
extern void oe_launcher_register(void);

/* Is the database named in order_engine.databases? */
extern bool oe_database_is_listed(const char *dbname);

/*
 * The lock that the worker of a shard holds as long as it lives.  The functions
 * for advisory locks use 1 and 2 in the last field.
 */
#define OE_SET_LOCKTAG_SHARD(tag, extoid, shard) \
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, ExtensionRelationId, extoid, 3 + (shard))

#endif							/* OE_LAUNCHER_H */
