/*
 * idempotency.c
 *	  A call that is repeated with its key gets the stored result.
 *
 * The row of a key is written in the transaction of the work, so it exists
 * exactly when the work committed: there is no "in progress" to clean up, and a
 * call that failed, or was rolled back to a savepoint, leaves nothing.  While
 * the first call runs, its uncommitted row is what a duplicate waits for; if the
 * first one rolls back, the duplicate takes the key and becomes the first.
 *
 * Requests are compared by a 128-bit hash.  jsonb_hash() does not fit: it skips
 * the ends of arrays and objects, so that {"a":{"b":1,"c":2}} and
 * {"a":{"b":1},"c":2} hash alike.  Here a request is written out in a form that
 * is the same exactly for equal jsonb (1.0 and 1.00 are equal), and that is
 * hashed with two seeds.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "append.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "compat.h"
#include "context.h"
#include "errors.h"
#include "fmgr.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "rows.h"
#include "settings.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oe_was_replayed);

enum
{
	Anum_key_created_at = 1,
	Anum_key_request_hash,
	Anum_key_scope,
	Anum_key_key,
	Anum_key_operation,
	Anum_key_result,
	Natts_key = Anum_key_result
};

/* what was_replayed() tells, and in which transaction it holds */
static bool replayed = false;
static LocalTransactionId replayed_in = InvalidLocalTransactionId;

static void
set_replayed(bool value)
{
	replayed = value;
	replayed_in = oe_compat_my_lxid();
}

Datum
oe_was_replayed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(replayed && replayed_in == oe_compat_my_lxid());
}

static void
append_string(StringInfo buf, char tag, const char *s, int len)
{
	appendStringInfoChar(buf, tag);
	appendBinaryStringInfo(buf, (const char *) &len, sizeof(len));
	appendBinaryStringInfo(buf, s, len);
}

static void
append_numeric(StringInfo buf, Numeric value)
{
	char	   *digits = numeric_normalize(value);

	append_string(buf, '0', digits, strlen(digits));
	pfree(digits);
}

static void
append_jsonb(StringInfo buf, JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if (token != WJB_KEY && token != WJB_VALUE && token != WJB_ELEM)
		{
			/* jsonb that is a scalar looks like an array of one */
			if (!JsonContainerIsScalar(container))
				appendStringInfoChar(buf, token == WJB_BEGIN_ARRAY ? '[' :
									 token == WJB_END_ARRAY ? ']' :
									 token == WJB_BEGIN_OBJECT ? '{' : '}');
			continue;
		}
		switch (v.type)
		{
			case jbvNull:
				appendStringInfoChar(buf, 'n');
				break;
			case jbvBool:
				appendStringInfoChar(buf, v.val.boolean ? 't' : 'f');
				break;
			case jbvNumeric:
				append_numeric(buf, v.val.numeric);
				break;
			case jbvString:
				append_string(buf, 's', v.val.string.val, v.val.string.len);
				break;
			default:
				elog(ERROR, "unexpected jsonb value of type %d", (int) v.type);
		}
	}
}

static void
append_key(OeRequest *request, const char *key)
{
	Assert(request->last_key == NULL || strlen(request->last_key) < strlen(key) ||
		   (strlen(request->last_key) == strlen(key) && strcmp(request->last_key, key) < 0));
	request->last_key = key;
	append_string(&request->buf, 's', key, strlen(key));
}

void
oe_request_begin(OeRequest *request)
{
	request->last_key = NULL;
	initStringInfo(&request->buf);
	appendStringInfoChar(&request->buf, '{');
}

void
oe_request_text(OeRequest *request, const char *key, const char *value)
{
	if (value == NULL)
		return;
	append_key(request, key);
	append_string(&request->buf, 's', value, strlen(value));
}

void
oe_request_numeric(OeRequest *request, const char *key, Numeric value)
{
	append_key(request, key);
	append_numeric(&request->buf, value);
}

void
oe_request_jsonb(OeRequest *request, const char *key, Jsonb *value)
{
	if (value == NULL)
		return;
	append_key(request, key);
	append_jsonb(&request->buf, &value->root);
}

static void
hash_request(const StringInfoData *buf, pg_uuid_t *hash)
{
	uint64		half;

	/* the seeds are stored data: to change them forgets every key */
	half = hash_bytes_extended((unsigned char *) buf->data, buf->len, UINT64CONST(0x6f726465725f656e));
	memcpy(hash->data, &half, sizeof(half));
	half = hash_bytes_extended((unsigned char *) buf->data, buf->len, UINT64CONST(0x67696e655f6b6579));
	memcpy(hash->data + sizeof(half), &half, sizeof(half));
}

/* The row in "rows" is that of the key: it must be of the same request. */
static char *
stored_result(OeIdempotency *call, OeRows *rows)
{
	char	   *operation = TextDatumGetCString(oe_rows_get(rows, Anum_key_operation));
	pg_uuid_t  *hash = DatumGetUUIDP(oe_rows_get(rows, Anum_key_request_hash));

	if (strcmp(operation, call->operation) != 0 ||
		memcmp(hash->data, call->request_hash.data, UUID_LEN) != 0)
	{
		Datum		created_at = oe_rows_get(rows, Anum_key_created_at);
		char		iso[MAXDATELEN + 1];
		OeJson		json;

		/* what the first call was about is not told: the key may have been guessed */
		oe_json_begin(&json);
		oe_json_text(&json, "operation", operation);
		oe_json_text(&json, "created_at",
					 JsonEncodeDateTime(iso, created_at, TIMESTAMPTZOID, NULL));
		ereport(ERROR,
				(errcode(ERRCODE_OE_KEY_REUSED),
				 errmsg("idempotency key was already used for another request"),
				 errdetail_internal("%s", oe_json_end(&json)),
				 errhint("Use a new key for a new request, and the same arguments for a repeated one.")));
	}
	return TextDatumGetCString(oe_rows_get(rows, Anum_key_result));
}

static void
make_keys(const OeIdempotency *call, Datum *keys)
{
	keys[0] = CStringGetTextDatum(call->scope);
	keys[1] = CStringGetTextDatum(call->key);
}

/* Whether a committed call, or an earlier one of this transaction, has the key. */
static bool
look_up(OeIdempotency *call, char **result)
{
	OeRows	   *rows = oe_rows_open(oe_relid(OE_REL_IDEMPOTENCY_KEY), AccessShareLock, 2, NULL);
	Datum		keys[2];
	bool		found;

	make_keys(call, keys);
	found = oe_rows_find(rows, keys);
	if (found)
	{
		bool		isnull;
		Datum		xmin = slot_getsysattr(rows->slot, MinTransactionIdAttributeNumber, &isnull);

		call->nested = TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
		*result = stored_result(call, rows);
		set_replayed(true);
	}
	oe_rows_close(rows);
	return found;
}

/* What holds of the key before it is looked for; false when there is none. */
static bool
begin(OeIdempotency *call, const char *operation, const char *key)
{
	const char *why;

	set_replayed(false);
	call->operation = operation;
	call->key = key;
	if (key == NULL)
	{
		if (oe_idempotency_required)
		{
			OeJson		json;

			oe_json_begin(&json);
			oe_json_text(&json, "operation", operation);
			ereport(ERROR,
					(errcode(ERRCODE_OE_KEY_REQUIRED),
					 errmsg("%s() needs an idempotency key", operation),
					 errdetail_internal("%s", oe_json_end(&json)),
					 errhint("Pass idempotency_key, the same one for every repetition of the call.")));
		}
		return false;
	}

	if (!oe_name_is_valid(key, strlen(key), &why))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" %s", "idempotency_key", why)));
	call->scope = oe_context_scope();
	return true;
}

bool
oe_idempotency_begin(OeIdempotency *call, const char *operation, const char *key,
					 Jsonb *request, char **result)
{
	StringInfoData buf;

	if (!begin(call, operation, key))
		return false;
	initStringInfo(&buf);
	append_jsonb(&buf, &request->root);
	hash_request(&buf, &call->request_hash);
	pfree(buf.data);
	return look_up(call, result);
}

bool
oe_idempotency_begin_request(OeIdempotency *call, const char *operation, const char *key,
							 OeRequest *request, char **result)
{
	if (!begin(call, operation, key))
		return false;
	appendStringInfoChar(&request->buf, '}');
	hash_request(&request->buf, &call->request_hash);
	return look_up(call, result);
}

bool
oe_idempotency_recheck(OeIdempotency *call, char **result)
{
	return call->key != NULL && look_up(call, result);
}

static bool
insert(OeIdempotency *call, const char *result)
{
	Datum		values[Natts_key];
	bool		nulls[Natts_key] = {false};
	bool		inserted;

	values[Anum_key_created_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_key_request_hash - 1] = UUIDPGetDatum(&call->request_hash);
	values[Anum_key_scope - 1] = CStringGetTextDatum(call->scope);
	values[Anum_key_key - 1] = CStringGetTextDatum(call->key);
	values[Anum_key_operation - 1] = CStringGetTextDatum(call->operation);
	values[Anum_key_result - 1] = CStringGetTextDatum(result);

	inserted = oe_append_unless_exists(oe_relid(OE_REL_IDEMPOTENCY_KEY), Natts_key, values, nulls);

	/* a second call in the same query must see it */
	CommandCounterIncrement();
	return inserted;
}

bool
oe_idempotency_claim(OeIdempotency *call, const char *result, char **stored)
{
	SnapshotData dirty;
	OeRows	   *rows;
	Datum		keys[2];
	bool		replay = false;

	/* nobody had the key when the call began, and hardly ever has anybody now */
	if (call->key == NULL || insert(call, result))
		return false;

	make_keys(call, keys);
	rows = oe_rows_open(oe_relid(OE_REL_IDEMPOTENCY_KEY), RowExclusiveLock, 2, &dirty);
	for (;;)
	{
		TransactionId xwait;
		ItemPointerData tid;

		CHECK_FOR_INTERRUPTS();

		/* a dirty snapshot sees uncommitted rows, and tells whose they are */
		InitDirtySnapshot(dirty);
		if (!oe_rows_find(rows, keys))
		{
			if (insert(call, result))
				break;
			continue;			/* somebody was faster by a microsecond */
		}

		xwait = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
		tid = rows->slot->tts_tid;
		oe_rows_end(rows);

		if (!TransactionIdIsValid(xwait))
		{
			if (look_up(call, stored))
			{
				replay = true;
				break;
			}
			if (IsolationUsesXactSnapshot())
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("could not serialize access: another transaction used the idempotency key meanwhile"),
						 errhint("Retry the transaction.")));
		}
		else if (dirty.speculativeToken != 0)
			SpeculativeInsertionWait(xwait, dirty.speculativeToken);
		else if (!oe_idempotency_wait)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("another call with the same idempotency key is running"),
					 errhint("Retry later, or set order_engine.idempotency_wait to wait for it.")));
		else
			XactLockTableWait(xwait, rows->rel, &tid, XLTW_InsertIndex);
	}
	oe_rows_close(rows);
	return replay;
}

void
oe_idempotency_complete(OeIdempotency *call, const char *result)
{
	static const AttrNumber attnum = Anum_key_result;
	Datum		value = CStringGetTextDatum(result);
	Datum		keys[2];
	ItemPointerData tid;
	OeRows	   *rows;

	if (call->key == NULL)
		return;
	make_keys(call, keys);
	rows = oe_rows_open(oe_relid(OE_REL_IDEMPOTENCY_KEY), RowExclusiveLock, 2, NULL);
	if (!oe_rows_find(rows, keys))
		elog(ERROR, "the row of an idempotency key vanished");
	tid = rows->slot->tts_tid;
	oe_rows_update(rows, &tid, 1, &attnum, &value, NULL);
	oe_rows_close(rows);
	CommandCounterIncrement();
}

void
oe_idempotency_finish(OeIdempotency *call, const char *result)
{
	char	   *stored;

	if (!oe_idempotency_claim(call, result, &stored))
		return;
	/* a trigger of the application made the same call: that would happen again and again */
	if (call->nested)
	{
		OeJson		json;

		oe_json_begin(&json);
		oe_json_text(&json, "operation", call->operation);
		ereport(ERROR,
				(errcode(ERRCODE_OE_KEY_REUSED),
				 errmsg("idempotency key was used by a call inside this one"),
				 errdetail_internal("%s", oe_json_end(&json)),
				 errhint("Give a call that a trigger makes a key of its own.")));
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access: the same call was made by another transaction meanwhile"),
			 errhint("Retry the transaction.")));
}

LockWaitPolicy
oe_idempotency_lock_policy(const OeIdempotency *call)
{
	return (call->key != NULL && !oe_idempotency_wait) ? LockWaitError : LockWaitBlock;
}
