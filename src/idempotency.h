/*
 * idempotency.h
 *	  A call that is repeated with its key gets the stored result.
 */
#ifndef OE_IDEMPOTENCY_H
#define OE_IDEMPOTENCY_H

#include "lib/stringinfo.h"
#include "nodes/lockoptions.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/*
 * One call of a verb, on the stack of the verb.  A verb may run inside another
 * one (a trigger of the application), so this cannot be a static variable.
 */
typedef struct OeIdempotency
{
	const char *operation;
	const char *key;			/* NULL: called without */
	char	   *scope;
	pg_uuid_t	request_hash;
	bool		nested;			/* the key that was found is of this transaction */
} OeIdempotency;

/*
 * First thing in a verb.  "request" has every argument that matters, the key
 * itself excepted; without a key it may be NULL.  True: a replay; *stored_result is set (current memory
 * context), the verb returns it and does nothing else.  False: the verb goes on,
 * and calls one of claim and finish before it returns.
 *
 * Raises OE101 when there is no key and a setting demands one, OE102 when the
 * key belongs to another request.
 */
extern bool oe_idempotency_begin(OeIdempotency *call, const char *operation, const char *key,
								 Jsonb *request, char **stored_result);

/*
 * The same, without making jsonb of the arguments first.  What is written is what the
 * jsonb object would be hashed as, so the members come in the order in which jsonb
 * keeps keys (length, bytes).  NULL values are left out.
 */
typedef struct OeRequest
{
	StringInfoData buf;
	const char *last_key;
} OeRequest;

extern void oe_request_begin(OeRequest *request);
extern void oe_request_text(OeRequest *request, const char *key, const char *value);
extern void oe_request_numeric(OeRequest *request, const char *key, Numeric value);
extern void oe_request_jsonb(OeRequest *request, const char *key, Jsonb *value);
extern bool oe_idempotency_begin_request(OeIdempotency *call, const char *operation, const char *key,
										 OeRequest *request, char **stored_result);

/*
 * For a verb that waited for a row since it began: looks again, because the
 * call that it waited for may have been the first one with this key.
 */
extern bool oe_idempotency_recheck(OeIdempotency *call, char **stored_result);

/*
 * Takes the key, for a verb that knows its result before it works.  Waits while
 * another transaction holds the same key (55P03 when order_engine.idempotency_wait
 * is off).  True: that one committed, this is a replay, as above.
 */
extern bool oe_idempotency_claim(OeIdempotency *call, const char *result, char **stored_result);

/*
 * Stores the result of a call that took its key before it knew the result.
 */
extern void oe_idempotency_complete(OeIdempotency *call, const char *result);

/*
 * Takes the key at the end of the work.  40001 when another transaction did the
 * same work meanwhile; a retry gets its result.  OE102 when a call inside this
 * one took the key.
 */
extern void oe_idempotency_finish(OeIdempotency *call, const char *result);

/*
 * How a verb that serializes its duplicates on a row takes the lock on it: a
 * call with a key and idempotency_wait off does not wait (55P03).
 */
extern LockWaitPolicy oe_idempotency_lock_policy(const OeIdempotency *call);

#endif							/* OE_IDEMPOTENCY_H */
