/*
 * attempt_log.c
 *	  The log of attempts: what the view delivery_attempt shows.
 *
 * Entries are remembered as they come and written in bulk with the positions.
 * The log is a ring of four tables that is turned by the clock: which one is in
 * use follows from the time alone, so that all workers agree without a word, and
 * each lasts half of order_engine.attempt_retention.  The first worker truncates
 * the next one beforehand; the two before the one in use are kept.  A change of
 * the setting changes which one is in use, and may cost entries.
 *
 * Lifecycle: entries live in a context of their own from oe_attempt_log_add to
 * the flush.  Receivers send any bytes: what is not text in the encoding of the
 * database is replaced when it is remembered.
 *
 * Accidents survived: an endless stream of failures between two flushes, and a
 * table that somebody has locked: memory is bounded, and what is dropped is
 * counted and logged.  A table that cannot be written to, as after an ALTER TABLE
 * by hand: the attempts are dropped, the positions of the same transaction stay.
 * Delivery never waits for the log.
 */
#include "postgres.h"

#include "access/xact.h"
#include "append.h"
#include "attempt_log.h"
#include "housekeeping.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "pgstat.h"
#include "relations.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "worker_slot.h"
#include "worker_sql.h"

#define LEAVES				4
#define LEAVES_PER_RETENTION	2
#define MAX_ERROR_BYTES		256
#define MAX_RESPONSE_BYTES	2048
#define MAX_BYTES			(4 * 1024 * 1024)	/* of entries that are not written */
#define MAX_BYTES_TO_ADD_RESPONSES	(MAX_BYTES / 4 * 3)
#define RETRY_LOCK_MS		1000

enum
{
	COL_ATTEMPTED_AT, COL_ENDPOINT_ID, COL_ATTEMPT, COL_STATUS, COL_DURATION_MS, COL_WORKER,
	COL_EVENTS, COL_OUTCOME, COL_ID, COL_ERROR, COL_RESPONSE, NUM_COLS
};

typedef struct Entry
{
	slist_node	node;
	OeAttemptEntry entry;		/* its texts are ours, and terminated */
} Entry;

static MemoryContext log_context = NULL;
static slist_head entries;
static slist_node *last_entry;
static size_t bytes = 0;
static int64 dropped_responses = 0;
static int64 dropped_entries = 0;

/*
 * Copies text of unknown bytes, at most max of them: bytes that are no character
 * of the database's encoding become question marks, control characters spaces.
 */
static char *
clean_copy(const char *text, size_t len, size_t max)
{
	int			encoding = GetDatabaseEncoding();
	char	   *copy = palloc(Min(len, max) + 1);
	size_t		used = 0;

	while (len > 0)
	{
		unsigned char c = (unsigned char) *text;
		int			l = c == '\0' ? 1 : pg_encoding_verifymbchar(encoding, text, (int) Min(len, MAX_MULTIBYTE_CHAR_LEN));
		bool		valid = l > 0;

		l = Max(l, 1);
		if (used + l > max)
			break;
		if (!valid)
			copy[used++] = '?';
		else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ||
				 (encoding == PG_UTF8 && c == 0xc2 && (unsigned char) text[1] < 0xa0))
			copy[used++] = ' ';
		else
		{
			memcpy(copy + used, text, l);
			used += l;
		}
		text += l;
		len -= l;
	}
	copy[used] = '\0';
	return copy;
}

static bool
is_wanted(const OeAttemptEntry *entry)
{
	switch ((OeAttemptLog) oe_attempt_log)
	{
		case OE_ATTEMPT_LOG_NONE:
			return false;
		case OE_ATTEMPT_LOG_FAILURES:
			return strcmp(entry->outcome, "delivered") != 0;
		case OE_ATTEMPT_LOG_ALL:
			return true;
	}
	return false;
}

void
oe_attempt_log_add(const OeAttemptEntry *entry)
{
	size_t		errorlen = entry->error == NULL ? 0 : Min(strlen(entry->error), MAX_ERROR_BYTES);
	size_t		responselen = entry->response == NULL ? 0 : Min(entry->responselen, MAX_RESPONSE_BYTES);
	bool		with_response = responselen > 0;
	size_t		size = sizeof(Entry) + errorlen + strlen(entry->outcome);
	MemoryContext old;
	Entry	   *e;

	if (!is_wanted(entry))
		return;
	if (bytes + size > MAX_BYTES)
	{
		dropped_entries++;
		return;
	}
	if (with_response && bytes + size + responselen > MAX_BYTES_TO_ADD_RESPONSES)
	{
		dropped_responses++;
		with_response = false;
	}

	if (log_context == NULL)
		log_context = AllocSetContextCreate(TopMemoryContext, "order_engine attempt log",
											ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(log_context);
	e = palloc(sizeof(Entry));
	e->entry = *entry;
	e->entry.outcome = pstrdup(entry->outcome);
	if (entry->error != NULL)
		e->entry.error = clean_copy(entry->error, strlen(entry->error), MAX_ERROR_BYTES);
	e->entry.response = with_response ?
		clean_copy(entry->response, entry->responselen, MAX_RESPONSE_BYTES) : NULL;
	MemoryContextSwitchTo(old);

	if (bytes == 0)
		slist_push_head(&entries, &e->node);
	else
		slist_insert_after(last_entry, &e->node);
	last_entry = &e->node;
	bytes += size + (with_response ? responselen : 0);
}

/* The period of a time, counted from the epoch of the server; its leaf is that modulo LEAVES. */
static int64
period_length(void)
{
	return (int64) oe_attempt_retention * USECS_PER_SEC / LEAVES_PER_RETENTION;
}

static int64
period_of(TimestampTz time)
{
	return time / period_length();
}

static Oid
leaf_relid(int64 period)
{
	return oe_relid((OeRel) (OE_REL_DELIVERY_ATTEMPT_0 + period % LEAVES));
}

static void
append_entry(OeAppender *appender, const OeAttemptEntry *entry)
{
	Datum		values[NUM_COLS] = {0};
	bool		nulls[NUM_COLS] = {false};

	values[COL_ATTEMPTED_AT] = TimestampTzGetDatum(entry->attempted_at);
	values[COL_ENDPOINT_ID] = Int32GetDatum(entry->endpoint_id);
	values[COL_ATTEMPT] = Int32GetDatum(entry->attempt);
	values[COL_STATUS] = Int32GetDatum(entry->status);
	nulls[COL_STATUS] = (entry->status == 0);
	values[COL_DURATION_MS] = Float4GetDatum((float4) (entry->duration / 1000.0));
	values[COL_WORKER] = Int16GetDatum((int16) oe_my_index);
	values[COL_EVENTS] = Int16GetDatum((int16) Min(entry->events, PG_INT16_MAX));
	values[COL_OUTCOME] = CStringGetTextDatum(entry->outcome);
	values[COL_ID] = UUIDPGetDatum(&entry->id);
	nulls[COL_ERROR] = (entry->error == NULL);
	if (entry->error != NULL)
		values[COL_ERROR] = CStringGetTextDatum(entry->error);
	nulls[COL_RESPONSE] = (entry->response == NULL);
	if (entry->response != NULL)
		values[COL_RESPONSE] = CStringGetTextDatum(entry->response);
	oe_append_row(appender, values, nulls);
}

static void
write_entries(Oid relid)
{
	OeAppender *appender = oe_append_begin(relid, NUM_COLS, false);
	slist_iter	iter;

	slist_foreach(iter, &entries)
		append_entry(appender, &slist_container(Entry, node, iter.cur)->entry);
	oe_append_end(appender);
}

/* In a subtransaction, as PL/pgSQL has it, for what else the transaction wrote. */
static void
try_to_write_entries(Oid relid)
{
	static int	reported = 0;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *error;
	slist_iter	iter;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		write_entries(relid);
		ReleaseCurrentSubTransaction();
		reported = 0;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		slist_foreach(iter, &entries)
			dropped_entries++;
		if (reported != error->sqlerrcode)
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("order_engine: the log of attempts cannot be written: %s", error->message),
					 errdetail_log("SQLSTATE %s.", unpack_sql_state(error->sqlerrcode))));
		reported = error->sqlerrcode;
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

void
oe_attempt_log_flush(void)
{
	Oid			relid;

	if (bytes == 0)
		return;
	relid = leaf_relid(period_of(GetCurrentTimestamp()));
	if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
		return;					/* kept for the next flush */
	try_to_write_entries(relid);

	slist_init(&entries);
	bytes = 0;
	MemoryContextReset(log_context);
	if (dropped_responses > 0 || dropped_entries > 0)
		ereport(LOG,
				(errmsg("order_engine: the log of attempts could not keep up and lacks " INT64_FORMAT
						" attempts and the responses of " INT64_FORMAT " others",
						dropped_entries, dropped_responses)));
	dropped_responses = 0;
	dropped_entries = 0;
}

/* ---------- turning ---------- */

static TimestampTz
step(TimestampTz now)
{
	int64		period = period_of(now);
	TimestampTz next = (period + 1) * period_length();
	Oid			relid;

	oe_worker_begin("truncating old attempts");
	oe_housekeeping_limit_waits();
	relid = leaf_relid(period + 1);
	if (oe_table_is_used(relid))
	{
		if (oe_table_lock_to_truncate(relid))
			oe_table_truncate(relid);
		else
			next = Min(next, TimestampTzPlusMilliseconds(now, RETRY_LOCK_MS));
	}
	oe_worker_commit();
	pgstat_report_stat(false);
	return next;
}

TimestampTz
oe_attempt_log_turn(TimestampTz now)
{
	static int	reported = 0;

	return oe_housekeeping_run(step, now, "truncating the log of attempts", &reported);
}
