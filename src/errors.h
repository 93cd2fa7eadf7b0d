/*
 * errors.h
 *	  SQLSTATEs of order_engine, and JSON for DETAIL.
 */
#ifndef OE_ERRORS_H
#define OE_ERRORS_H

#include "compat.h"
#include "lib/stringinfo.h"
#include "utils/errcodes.h"

#define ERRCODE_OE_INVALID_TRANSITION		MAKE_SQLSTATE('O', 'E', '0', '0', '1')
#define ERRCODE_OE_GUARD_REJECTED			MAKE_SQLSTATE('O', 'E', '0', '0', '2')
#define ERRCODE_OE_VERSION_CONFLICT			MAKE_SQLSTATE('O', 'E', '0', '0', '3')
#define ERRCODE_OE_INVALID_MACHINE			MAKE_SQLSTATE('O', 'E', '0', '0', '4')
#define ERRCODE_OE_NOT_FOUND				MAKE_SQLSTATE('O', 'E', '0', '0', '5')
#define ERRCODE_OE_KEY_REQUIRED				MAKE_SQLSTATE('O', 'E', '1', '0', '1')
#define ERRCODE_OE_KEY_REUSED				MAKE_SQLSTATE('O', 'E', '1', '0', '2')
#define ERRCODE_OE_INSUFFICIENT_STOCK		MAKE_SQLSTATE('O', 'E', '2', '0', '1')
#define ERRCODE_OE_RESERVATION_EXPIRED		MAKE_SQLSTATE('O', 'E', '2', '0', '2')
#define ERRCODE_OE_UNKNOWN_SKU				MAKE_SQLSTATE('O', 'E', '2', '0', '3')
#define ERRCODE_OE_STOCK_CHANGED			MAKE_SQLSTATE('O', 'E', '2', '0', '4')
#define ERRCODE_OE_AMOUNT_EXCEEDS_LIMIT		MAKE_SQLSTATE('O', 'E', '3', '0', '1')
#define ERRCODE_OE_PAYMENT_CONFLICT			MAKE_SQLSTATE('O', 'E', '3', '0', '2')
#define ERRCODE_OE_CURRENCY_MISMATCH		MAKE_SQLSTATE('O', 'E', '3', '0', '3')
#define ERRCODE_OE_TOTAL_MISMATCH			MAKE_SQLSTATE('O', 'E', '3', '0', '4')
#define ERRCODE_OE_ORDER_ON_HOLD			MAKE_SQLSTATE('O', 'E', '4', '0', '1')

/* OE005: there is no row of that kind with that id. */
pg_noreturn extern void oe_not_found(const char *entity, int64 id);

/*
 * Builds one JSON object or array as text.  Everything is palloc'd in the
 * current context.  Inside an array give NULL as the key.
 *
 *		OeJson	json;
 *
 *		oe_json_begin(&json);
 *		oe_json_text(&json, "entity", "order");
 *		oe_json_int64(&json, "id", 4711);
 *		errdetail_internal("%s", oe_json_end(&json));
 */
typedef struct OeJson
{
	StringInfoData buf;
	bool		need_comma;
	char		closer;
} OeJson;

extern void oe_json_begin(OeJson *json);
extern void oe_json_begin_array(OeJson *json);
extern void oe_json_text(OeJson *json, const char *key, const char *value);	/* NULL value gives null */
extern void oe_json_int64(OeJson *json, const char *key, int64 value);
extern void oe_json_raw(OeJson *json, const char *key, const char *raw);	/* raw is JSON already */
extern char *oe_json_end(OeJson *json);

#endif							/* OE_ERRORS_H */
