/*
 * launcher.h
 *	  The process that keeps one worker running for each listed database.
 */
#ifndef OE_LAUNCHER_H
#define OE_LAUNCHER_H

/* Why a worker ended, as it leaves it in its slot for the launcher. */
typedef enum OeWorkerEnd
{
	OE_END_UNKNOWN = 0,			/* an error or a crash: start it again, throttled */
	OE_END_HELD,				/* asked to by a command on the database */
	OE_END_NO_EXTENSION			/* nothing to do there until CREATE EXTENSION */
} OeWorkerEnd;

/* bgw_extra of a worker that the launcher started, not a user. */
#define OE_BY_LAUNCHER	"by launcher"

/* Registers the launcher; from _PG_init while preloading. */
extern void oe_launcher_register(void);

/* Is the database named in order_engine.databases? */
extern bool oe_database_is_listed(const char *dbname);

/*
 * The lock that a database's worker holds as long as it lives.  The functions
 * for advisory locks use 1 and 2 in the last field.
 */
#define OE_SET_LOCKTAG_WORKER(tag, extoid) \
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, ExtensionRelationId, extoid, 3)

#endif							/* OE_LAUNCHER_H */
