/*
 * ring.c
 *	  The ring of the outbox's leaves: turn it, and truncate what is no longer
 *	  needed.
 *
 * A leaf is current, then closing, then kept, then free:
 *
 * 1. The ring is turned: the next leaf, if free, becomes the current one, and
 *	  the relation outbox_ring is invalidated, so that writers read it again.
 * 2. In a later transaction the old leaf is closed: as soon as nobody holds a
 *	  writer's lock on it, a snapshot is noted that sees all who wrote to it.
 * 3. It is truncated when it is older than order_engine.retention and nobody
 *	  needs it (order_engine.outbox_leaf_holders).
 *
 * Why nobody writes to a leaf that is closed.  A writer locks the leaf
 * (RowExclusiveLock, kept to the end of the transaction), takes in invalidations
 * with that, and uses the leaf only if what it knows of the ring is still valid
 * then (outbox.c).  ShareLock conflicts with that lock, also with a prepared
 * transaction's, which the server keeps over restarts.  So at the moment when we
 * have it, every transaction that wrote to the leaf has ended: the snapshot that
 * we take then sees it.  And whoever locks the leaf later finds the invalidation
 * of step 1, which was sent before our transaction began, and goes elsewhere.
 * That does not rest on our lock, which is given back at once.
 *
 * Why nothing is lost that somebody needs.  The leaf is locked against everybody
 * (AccessExclusiveLock) and only then, with a new snapshot, it is asked who needs
 * it.  Whoever read the leaf and has noted what he needs, such as a retry, has
 * committed that before; who has not, has not passed the leaf in a committed
 * position.  Position tables are truncated in their turn, which a snapshot does
 * not protect from, so they are locked before.
 *
 * No lock is ever waited for: a writer would have to wait behind us.  What cannot
 * be had at once is tried again a second later.
 *
 * Accidents survived: kill at any point (each step is one transaction); a leaf
 * that is held for days by a paused endpoint, a dump or a prepared transaction
 * (the ring turns on past it, and stays where it is when it comes round to it); a
 * restored dump (what the other server's transaction ids said is noted anew).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "housekeeping.h"
#include "miscadmin.h"
#include "outbox.h"
#include "pgstat.h"
#include "query.h"
#include "relations.h"
#include "ring.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker_sql.h"

#define LEAVES			OE_OUTBOX_LEAVES
#define TURNS			6		/* of the ring in the time of retention */
#define RETRY_LOCK_MS	1000
#define MAX_RETRY_MS	60000
#define MAX_PATIENCE_MS	60000	/* with what is in the way of a turn, before the log has it */

typedef struct Leaf
{
	Oid			relid;
	bool		used;			/* has a file with something in it */
	bool		closed;
	TimestampTz closed_at;
} Leaf;

typedef struct Ring
{
	int			current;
	TimestampTz switched_at;	/* 0: it was never turned */
	Leaf		leaves[LEAVES];
} Ring;

/* Of each leaf: what was in the way at the last try, and when to try again. */
static struct
{
	char		held_by[NAMEDATALEN + 32];
	TimestampTz retry_at;
}			tries[LEAVES];

static char reported_holder[NAMEDATALEN + 32];	/* why the ring stands still, as the log has it */
static bool announced = false;

static int64
turn_interval_ms(void)
{
	return Max(INT64CONST(1000), oe_retention * INT64CONST(1000) / TURNS);
}

static TimestampTz
plus_seconds(TimestampTz time, int seconds)
{
	return time + seconds * USECS_PER_SEC;
}

static void
load_ring(Ring *ring)
{
	static OeQuery ring_query = {
		"SELECT current_leaf, switched_at FROM order_engine.outbox_ring"
	};

	/* a snapshot that is ahead of ours is one of another server, from a dump */
	static OeQuery leaf_query = {
		"SELECT leaf, closed_at FROM order_engine.outbox_leaf"
		" WHERE pg_catalog.pg_snapshot_xmax(writers)"
		" OPERATOR(pg_catalog.<=) pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())"
	};
	Oid			nspid = get_rel_namespace(oe_relid(OE_REL_OUTBOX));
	uint64		nrows;
	bool		isnull;

	memset(ring, 0, sizeof(*ring));
	if (oe_query_run(&ring_query, NULL, NULL, false, SPI_OK_SELECT) > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		ring->current = DatumGetInt16(SPI_getbinval(tuple, desc, 1, &isnull)) % LEAVES;
		ring->switched_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);

	nrows = oe_query_run(&leaf_query, NULL, NULL, false, SPI_OK_SELECT);
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		int			n = DatumGetInt16(SPI_getbinval(tuple, desc, 1, &isnull));

		if (n < 0 || n >= LEAVES)
			continue;
		ring->leaves[n].closed = true;
		ring->leaves[n].closed_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);

	for (int n = 0; n < LEAVES; n++)
	{
		char		name[NAMEDATALEN];

		snprintf(name, sizeof(name), "outbox_%d", n);
		ring->leaves[n].relid = get_relname_relid(name, nspid);
		if (!OidIsValid(ring->leaves[n].relid))
			elog(ERROR, "leaf %d of the outbox does not exist", n);
		ring->leaves[n].used = oe_table_is_used(ring->leaves[n].relid);
	}
}

static void
held(int n, const char *by, int64 retry_ms)
{
	strlcpy(tries[n].held_by, by, sizeof(tries[n].held_by));
	tries[n].retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), retry_ms);
}

static void
forget_closing(int n)
{
	static OeQuery query = {
		"DELETE FROM order_engine.outbox_leaf WHERE leaf OPERATOR(pg_catalog.=) $1", 1, {INT2OID}
	};
	Datum		values[1];

	values[0] = Int16GetDatum(n);
	(void) oe_query_run(&query, values, NULL, false, SPI_OK_DELETE);
}

/* ---------- turning ---------- */

static void
set_current(int n, TimestampTz now)
{
	static OeQuery query = {
		"WITH u AS (UPDATE order_engine.outbox_ring SET current_leaf = $1, switched_at = $2 RETURNING 1)"
		" INSERT INTO order_engine.outbox_ring (current_leaf, switched_at)"
		" SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM u)", 2, {INT2OID, TIMESTAMPTZOID}
	};
	Datum		values[2];

	values[0] = Int16GetDatum(n);
	values[1] = TimestampTzGetDatum(now);
	(void) oe_query_run(&query, values, NULL, false, SPI_OK_INSERT);
	CacheInvalidateRelcacheByRelid(oe_relid(OE_REL_OUTBOX_RING));

	/* what a dump of another server may have brought along for it */
	forget_closing(n);
}

/*
 * The ring should have been turned some time ago and cannot be; a matter of
 * course while retention lasts.
 */
static void
report_standstill(const Ring *ring, int next, TimestampTz turn_at, TimestampTz now)
{
	const char *by = tries[next].held_by;

	if (by[0] == '\0' || strcmp(by, reported_holder) == 0 ||
		now < TimestampTzPlusMilliseconds(turn_at, Min(turn_interval_ms(), MAX_PATIENCE_MS)))
		return;
	strlcpy(reported_holder, by, sizeof(reported_holder));
	ereport(LOG,
			(errmsg("order_engine: leaf %d of the outbox is due to be left, but leaf %d is held by %s",
					ring->current, next, by),
			 errhint("See order_engine.outbox_ring_status.")));
}

/* ---------- closing ---------- */

static bool
close_leaf(const Ring *ring, int n)
{
	static OeQuery query = {
		"INSERT INTO order_engine.outbox_leaf (leaf, closed_at, writers) VALUES ($1, $2, $3)"
		" ON CONFLICT (leaf) DO UPDATE SET closed_at = excluded.closed_at, writers = excluded.writers",
		3, {INT2OID, TIMESTAMPTZOID, PG_SNAPSHOTOID}
	};
	Oid			relid = ring->leaves[n].relid;
	Datum		values[3];

	if (!ConditionalLockRelationOid(relid, ShareLock))
	{
		held(n, "a writer", RETRY_LOCK_MS);
		return false;
	}
	PushActiveSnapshot(GetLatestSnapshot());
	values[2] = OidFunctionCall0(F_PG_CURRENT_SNAPSHOT);
	PopActiveSnapshot();
	UnlockRelationOid(relid, ShareLock);

	values[0] = Int16GetDatum(n);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	(void) oe_query_run(&query, values, NULL, false, SPI_OK_INSERT);
	tries[n].held_by[0] = '\0';
	return true;
}

/* ---------- truncating ---------- */

static bool
lock_at_once(const OeRel *rels, int nrels, LOCKMODE mode)
{
	for (int i = 0; i < nrels; i++)
	{
		if (!ConditionalLockRelationOid(oe_relid(rels[i]), mode))
			return false;
	}
	return true;
}

/* Who needs the leaf, as a new snapshot has it?  NULL: nobody. */
static char *
holder_of(int n)
{
	static OeQuery query = {
		"SELECT held_by FROM order_engine.outbox_leaf_holders($1)"
		" ORDER BY held_by COLLATE \"C\" LIMIT 1", 1, {INT2OID}
	};
	Datum		values[1];
	char	   *holder = NULL;

	values[0] = Int16GetDatum(n);
	if (oe_query_run(&query, values, NULL, false, SPI_OK_SELECT) > 0)
		holder = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return holder;
}

static void
give_up(int n)
{
	static OeQuery query = {
		"SELECT order_engine.give_up_outbox_leaf($1)", 1, {INT2OID}
	};
	Datum		values[1];
	bool		isnull;
	int			endpoints;

	values[0] = Int16GetDatum(n);
	(void) oe_query_run(&query, values, NULL, false, SPI_OK_SELECT);
	endpoints = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	ereport(LOG,
			(errmsg("order_engine: leaf %d of the outbox is older than order_engine.max_retention and given up, endpoints that needed it: %d",
					n, endpoints),
			 errhint("See order_engine.delivery_gap.")));
}

/*
 * Is the leaf too old to be kept for endpoints?  An endpoint of another database
 * is not given up: it may be that of a dump from long ago, and has had no chance
 * before adopt_database() is called.  That lets the age begin anew, so both are
 * asked of one snapshot, which is taken now.
 */
static bool
may_be_given_up(int n, TimestampTz now)
{
	static OeQuery query = {
		"SELECT 1 FROM order_engine.outbox_leaf"
		" WHERE leaf OPERATOR(pg_catalog.=) $1 AND closed_at OPERATOR(pg_catalog.<=) $2"
		" AND NOT EXISTS (SELECT FROM order_engine.endpoint"
		"  WHERE owner OPERATOR(pg_catalog.<>) order_engine.database_identity())",
		2, {INT2OID, TIMESTAMPTZOID}
	};
	Datum		values[2];
	uint64		nrows;

	values[0] = Int16GetDatum(n);
	values[1] = TimestampTzGetDatum(now - (int64) Max(oe_max_retention, oe_retention) * USECS_PER_SEC);
	nrows = oe_query_run(&query, values, NULL, false, SPI_OK_SELECT);
	SPI_freetuptable(SPI_tuptable);
	return nrows > 0;
}

static bool
truncate_leaf(const Ring *ring, int n, TimestampTz now)
{
	static const OeRel positions[] = {OE_REL_POSITION_0, OE_REL_POSITION_1};
	static const OeRel written[] = {
		OE_REL_ENDPOINT, OE_REL_REPLAY, OE_REL_DELIVERY_RETRY, OE_REL_DELIVERY_DEAD
	};
	const Leaf *leaf = &ring->leaves[n];
	char	   *holder;

	if (!lock_at_once(positions, lengthof(positions), AccessShareLock))
	{
		held(n, "lock", RETRY_LOCK_MS);
		return false;
	}

	/* asked first without the lock on the leaf: mostly that is the end of it */
	holder = holder_of(n);
	if (holder != NULL && !may_be_given_up(n, now))
	{
		held(n, holder, Min(Max(turn_interval_ms() / 10, RETRY_LOCK_MS), MAX_RETRY_MS));
		return false;
	}

	/* what giving up writes must not wait for rows that others have locked */
	if ((holder != NULL && !lock_at_once(written, lengthof(written), ExclusiveLock)) ||
		!oe_table_lock_to_truncate(leaf->relid))
	{
		held(n, "lock", RETRY_LOCK_MS);
		return false;
	}
	if (holder != NULL)
		give_up(n);
	else
	{
		holder = holder_of(n);
		if (holder != NULL)
		{
			held(n, holder, RETRY_LOCK_MS);
			return false;
		}
	}

	oe_table_truncate(leaf->relid);
	forget_closing(n);
	tries[n].held_by[0] = '\0';
	return true;
}

/* ---------- steps ---------- */

/*
 * Does one thing that is due and returns at once when the next is; or nothing,
 * and returns when it will be.
 */
static TimestampTz
do_what_is_due(Ring *ring, TimestampTz now)
{
	int			next = (ring->current + 1) % LEAVES;
	const Leaf *current = &ring->leaves[ring->current];
	TimestampTz due = TimestampTzPlusMilliseconds(now, turn_interval_ms());
	TimestampTz turn_at;

	/* the oldest first: it is the next that the ring needs */
	for (int i = 1; i < LEAVES; i++)
	{
		int			n = (ring->current + i) % LEAVES;
		const Leaf *leaf = &ring->leaves[n];
		TimestampTz leaf_due;

		if (!leaf->closed && !leaf->used)
			continue;
		leaf_due = leaf->closed ? plus_seconds(leaf->closed_at, oe_retention) : now;
		leaf_due = Max(leaf_due, tries[n].retry_at);
		if (leaf_due > now)
		{
			due = Min(due, leaf_due);
			continue;
		}
		tries[n].retry_at = 0;
		(void) (leaf->closed ? truncate_leaf(ring, n, now) : close_leaf(ring, n));
		return now;
	}

	/* an empty leaf need not be left */
	if (!current->used)
		return due;
	if (ring->switched_at == 0)
	{
		set_current(ring->current, now);
		return due;
	}
	turn_at = TimestampTzPlusMilliseconds(ring->switched_at, turn_interval_ms());
	if (turn_at > now)
		return Min(due, turn_at);
	if (ring->leaves[next].closed || ring->leaves[next].used)
	{
		report_standstill(ring, next, turn_at, now);
		return due;
	}
	set_current(next, now);
	reported_holder[0] = '\0';
	return now;
}

static TimestampTz
step(TimestampTz now)
{
	Ring		ring;
	TimestampTz due;

	oe_worker_begin("looking after the outbox");
	oe_housekeeping_limit_waits();
	if (!announced)
		/* whatever a restore or a DBA wrote into outbox_ring, and told nobody */
		CacheInvalidateRelcacheByRelid(oe_relid(OE_REL_OUTBOX_RING));
	load_ring(&ring);
	due = announced ? do_what_is_due(&ring, now) : now;
	oe_worker_commit();
	announced = true;
	pgstat_report_stat(false);
	return due;
}

TimestampTz
oe_ring_step(TimestampTz now)
{
	static int	reported = 0;

	return oe_housekeeping_run(step, now, "turning the outbox", &reported);
}
