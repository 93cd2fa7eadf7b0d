/*
 * log_scan.c
 *	  Rows of the outbox in the order of (txid, id), below the SQL level.
 *
 * The worker looks for new events after every commit, so what a look costs is
 * latency.  Of a statement over all leaves most is to set up a plan node for each
 * of them and to take it down.  Here the index of each leaf is asked directly, and
 * the rows of those that have some in the range are merged.
 *
 * Accidents survived: a leaf that is truncated meanwhile (its lock is taken first),
 * an index that REINDEX CONCURRENTLY replaced, the extension dropped and created
 * again (Oids are looked up anew).
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "compat.h"
#include "log_scan.h"
#include "miscadmin.h"
#include "outbox.h"
#include "relations.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

typedef struct Leaf
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	bool		has_row;
} Leaf;

struct OeLogScan
{
	int			nleaves;		/* that have rows */
	Leaf		leaves[OE_OUTBOX_LEAVES];
	Leaf	   *last;			/* whose row the caller has; NULL: none */
	pg_uuid_t	after_id;
	ScanKeyData row[2];			/* (txid, id) > ... */
	ScanKeyData keys[2];		/* that, and txid < ... */
};

/* of each leaf; valid for that generation */
static Oid	relids[OE_OUTBOX_LEAVES];
static Oid	indexes[OE_OUTBOX_LEAVES];
static uint64 generation = 0;

static Oid
leaf_relid(int n)
{
	Oid			outbox = oe_relid(OE_REL_OUTBOX);

	if (generation != oe_relations_generation)
	{
		memset(relids, 0, sizeof(relids));
		memset(indexes, 0, sizeof(indexes));
		generation = oe_relations_generation;
	}
	if (!OidIsValid(relids[n]))
	{
		char		name[NAMEDATALEN];

		snprintf(name, sizeof(name), "outbox_%d", n);
		relids[n] = get_relname_relid(name, get_rel_namespace(outbox));
		if (!OidIsValid(relids[n]))
			elog(ERROR, "leaf %d of the outbox does not exist", n);
	}
	return relids[n];
}

static bool
serves(Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisvalid && form->indnkeyatts >= 2 &&
		form->indkey.values[0] == OE_OUTBOX_TXID + 1 && form->indkey.values[1] == OE_OUTBOX_ID + 1;
}

/* Opens the index on (txid, id). */
static Relation
open_index(Relation rel, int n)
{
	List	   *all = RelationGetIndexList(rel);
	Relation	found = NULL;
	ListCell   *lc;

	if (list_member_oid(all, indexes[n]))
		found = index_open(indexes[n], AccessShareLock);
	else
	{
		foreach(lc, all)
		{
			Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

			if (found == NULL && serves(index))
				found = index;
			else
				index_close(index, AccessShareLock);
		}
		if (found == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("relation \"%s\" has no valid index on (txid, id)", RelationGetRelationName(rel)),
					 errhint("REINDEX it.")));
		indexes[n] = RelationGetRelid(found);
	}
	list_free(all);
	return found;
}

OeLogScan *
oe_log_scan_begin(void)
{
	OeLogScan  *scan = palloc0(sizeof(OeLogScan));

	for (int n = 0; n < OE_OUTBOX_LEAVES; n++)
	{
		Leaf	   *leaf = &scan->leaves[scan->nleaves];

		leaf->rel = table_open(leaf_relid(n), AccessShareLock);

		/* what the snapshot sees was there when it was taken */
		if (RelationGetNumberOfBlocks(leaf->rel) == 0)
		{
			table_close(leaf->rel, AccessShareLock);
			continue;
		}
		leaf->index = open_index(leaf->rel, n);
		leaf->slot = table_slot_create(leaf->rel, NULL);
		leaf->scan = oe_compat_index_beginscan(leaf->rel, leaf->index, GetActiveSnapshot(), 2);
		scan->nleaves++;
	}
	return scan;
}

void
oe_log_scan_range(OeLogScan *scan, uint64 after_txid, const pg_uuid_t *after_id, uint64 before_txid)
{
	Datum		after = FullTransactionIdGetDatum(FullTransactionIdFromU64(after_txid));
	Datum		before = FullTransactionIdGetDatum(FullTransactionIdFromU64(before_txid));

	scan->last = NULL;
	scan->after_id = *after_id;
	ScanKeyEntryInitialize(&scan->row[0], SK_ROW_MEMBER, 1, BTGreaterStrategyNumber,
						   InvalidOid, InvalidOid, F_XID8CMP, after);
	ScanKeyEntryInitialize(&scan->row[1], SK_ROW_MEMBER | SK_ROW_END, 2, BTGreaterStrategyNumber,
						   InvalidOid, InvalidOid, F_UUID_CMP, UUIDPGetDatum(&scan->after_id));

	/*
	 * One lower bound that serves both for the beginning and for going on.  With a
	 * second one, on txid alone, a btree scan would start at this and might read the
	 * whole index.
	 */
	MemSet(&scan->keys[0], 0, sizeof(ScanKeyData));
	scan->keys[0].sk_flags = SK_ROW_HEADER;
	scan->keys[0].sk_attno = 1;
	scan->keys[0].sk_strategy = BTGreaterStrategyNumber;
	scan->keys[0].sk_argument = PointerGetDatum(scan->row);
	ScanKeyInit(&scan->keys[1], 1, BTLessStrategyNumber, F_XID8LT, before);

	for (int i = 0; i < scan->nleaves; i++)
	{
		Leaf	   *leaf = &scan->leaves[i];

		index_rescan(leaf->scan, scan->keys, 2, NULL, 0);
		leaf->has_row = index_getnext_slot(leaf->scan, ForwardScanDirection, leaf->slot);
	}
}

static uint64
txid_of(TupleTableSlot *slot)
{
	bool		isnull;
	Datum		datum = slot_getattr(slot, OE_OUTBOX_TXID + 1, &isnull);

	return U64FromFullTransactionId(DatumGetFullTransactionId(datum));
}

static int
compare(TupleTableSlot *a, TupleTableSlot *b)
{
	bool		isnull;
	uint64		txid_a = txid_of(a);
	uint64		txid_b = txid_of(b);

	if (txid_a != txid_b)
		return txid_a < txid_b ? -1 : 1;
	return memcmp(DatumGetUUIDP(slot_getattr(a, OE_OUTBOX_ID + 1, &isnull)),
				  DatumGetUUIDP(slot_getattr(b, OE_OUTBOX_ID + 1, &isnull)), sizeof(pg_uuid_t));
}

TupleTableSlot *
oe_log_scan_next(OeLogScan *scan)
{
	Leaf	   *first = NULL;

	CHECK_FOR_INTERRUPTS();
	if (scan->last != NULL)
		scan->last->has_row = index_getnext_slot(scan->last->scan, ForwardScanDirection,
												 scan->last->slot);
	for (int i = 0; i < scan->nleaves; i++)
	{
		Leaf	   *leaf = &scan->leaves[i];

		if (leaf->has_row && (first == NULL || compare(leaf->slot, first->slot) < 0))
			first = leaf;
	}
	scan->last = first;
	return first != NULL ? first->slot : NULL;
}

void
oe_log_scan_end(OeLogScan *scan)
{
	for (int i = 0; i < scan->nleaves; i++)
	{
		Leaf	   *leaf = &scan->leaves[i];

		index_endscan(leaf->scan);
		ExecDropSingleTupleTableSlot(leaf->slot);
		index_close(leaf->index, AccessShareLock);
		table_close(leaf->rel, AccessShareLock);
	}
	pfree(scan);
}
