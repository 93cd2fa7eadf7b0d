/*
 * errors.h
 *	  SQLSTATEs of order_engine, and JSON for DETAIL.
 */
#ifndef OE_ERRORS_H
#define OE_ERRORS_H

#include "compat.h"
#include "lib/stringinfo.h"
#include "utils/errcodes.h"

/*
 * The comments before the codes are the reference of errors: doc/generate makes
 * doc/reference/errors.md of them.  Each tells the meaning, the members of
 * DETAIL, which is JSON, and what a caller does about it.
 */

/*
 * The machine has no such transition from the state that the row is in.
 * Detail: entity, id, from, event (or to, for an UPDATE by hand),
 *		allowed_events
 * Action: Read the row again; allowed_events() tells what is possible now.
 */
#define ERRCODE_OE_INVALID_TRANSITION		MAKE_SQLSTATE('O', 'E', '0', '0', '1')

/*
 * A guard of the transition says no.
 * Detail: entity, id, event, guard, reason
 * Action: Do what the reason asks for, then repeat the call.
 */
#define ERRCODE_OE_GUARD_REJECTED			MAKE_SQLSTATE('O', 'E', '0', '0', '2')

/*
 * The order does not have the version that expected_version names: somebody
 * changed it meanwhile.
 * Detail: entity, id, expected, actual
 * Action: Read the order again and decide anew.
 */
#define ERRCODE_OE_VERSION_CONFLICT			MAKE_SQLSTATE('O', 'E', '0', '0', '3')

/*
 * The definition of a machine has faults.
 * Detail: faults: all of them, as sentences
 * Action: Correct the definition and define the machine again.
 */
#define ERRCODE_OE_INVALID_MACHINE			MAKE_SQLSTATE('O', 'E', '0', '0', '4')

/*
 * There is no row of that kind with that id.
 * Detail: entity and id, or for a machine by name: entity, kind, name
 * Action: Check the id.
 */
#define ERRCODE_OE_NOT_FOUND				MAKE_SQLSTATE('O', 'E', '0', '0', '5')

/*
 * The call brings no idempotency key, and order_engine.idempotency_required
 * demands one.
 * Detail: operation
 * Action: Choose a key for the request, keep it over retries, and call again.
 */
#define ERRCODE_OE_KEY_REQUIRED				MAKE_SQLSTATE('O', 'E', '1', '0', '1')

/*
 * The idempotency key belongs to another request, or was used by a call
 * inside this one.
 * Detail: operation; created_at unless it was a call inside this one
 * Action: Use a key of its own for each request; a retry repeats the
 *		arguments too.
 */
#define ERRCODE_OE_KEY_REUSED				MAKE_SQLSTATE('O', 'E', '1', '0', '2')

/*
 * There is not enough stock.
 * Detail: an array with every line that is short: sku, location, requested,
 *		available
 * Action: Offer what is available, or restock.
 */
#define ERRCODE_OE_INSUFFICIENT_STOCK		MAKE_SQLSTATE('O', 'E', '2', '0', '1')

/*
 * The stock of the order or reservation is no longer reserved.
 * Detail: reservation_id, or as OE002
 * Action: Cancel the order and place it anew.
 */
#define ERRCODE_OE_RESERVATION_EXPIRED		MAKE_SQLSTATE('O', 'E', '2', '0', '2')

/*
 * There is no product with that SKU.
 * Detail: skus: every unknown one
 * Action: Check the SKU, or make the product with upsert_product().
 */
#define ERRCODE_OE_UNKNOWN_SKU				MAKE_SQLSTATE('O', 'E', '2', '0', '3')

/*
 * The stock is not what expected_on_hand says.
 * Detail: sku, location, expected, actual
 * Action: Count again and adjust by the new difference.
 */
#define ERRCODE_OE_STOCK_CHANGED			MAKE_SQLSTATE('O', 'E', '2', '0', '4')

/*
 * More is asked for than there is left: money to capture or refund, units to
 * cancel, ship or take back.
 * Detail: limit, requested; for units also position and line_no
 * Action: Ask for at most the limit.
 */
#define ERRCODE_OE_AMOUNT_EXCEEDS_LIMIT		MAKE_SQLSTATE('O', 'E', '3', '0', '1')

/*
 * What is said about a payment contradicts what is recorded.
 * Detail: stored, given
 * Action: Compare with the payment service; what is stored stays.
 */
#define ERRCODE_OE_PAYMENT_CONFLICT			MAKE_SQLSTATE('O', 'E', '3', '0', '2')

/*
 * A product is priced in another currency than the order.
 * Detail: position, sku, expected, given
 * Action: Give a unit_price in the currency of the order.
 */
#define ERRCODE_OE_CURRENCY_MISMATCH		MAKE_SQLSTATE('O', 'E', '3', '0', '3')

/*
 * expected_total is not the total that was computed.
 * Detail: expected, computed
 * Action: Show the customer the computed total and ask again.
 */
#define ERRCODE_OE_TOTAL_MISMATCH			MAKE_SQLSTATE('O', 'E', '3', '0', '4')

/*
 * A hold on the order is open.
 * Detail: as OE002, and holds: hold_id and reason of each
 * Action: Release the hold, or wait until somebody does.
 */
#define ERRCODE_OE_ORDER_ON_HOLD			MAKE_SQLSTATE('O', 'E', '4', '0', '1')

/*
 * Codes of PostgreSQL that callers meet as well.  DETAIL is text where nothing
 * else is said.
 *
 * 22003 numeric_value_out_of_range: A number of units, or a version, would
 *		leave the range of its type.
 * 22004 null_value_not_allowed: An argument, or a member of an item, must
 *		not be null.
 * 22007 invalid_datetime_format: A time in details cannot be read.
 * 22023 invalid_parameter_value: An argument cannot be used; for an item
 *		DETAIL has position and key, for a line position and line_no.
 * 23502 not_null_violation: A column that the engine needs is null.
 * 23505 unique_violation: The order_number is taken.
 * 23514 check_violation: A change by hand breaks a rule of the table.
 * 25000 invalid_transaction_state: The call needs a transaction of isolation
 *		level READ COMMITTED.
 * 27000 triggered_data_change_violation: Another trigger suppressed or
 *		changed a row that the engine was writing.
 * 39P01 trigger_protocol_violated: A trigger function was called otherwise
 *		than the engine made its trigger.
 * 40001 serialization_failure: Another transaction was faster; retry the
 *		transaction.
 * 40P01 deadlock_detected: Retry the transaction; calls of the engine alone
 *		do not deadlock.
 * 42501 insufficient_privilege: The role lacks the access level, or does not
 *		own the table.
 * 42703 undefined_column: The table has no such column.
 * 42704 undefined_object: The table has no machine, or the extension is not
 *		installed in this database.
 * 42710 duplicate_object: There is one already: a machine on the table, an
 *		endpoint of that name.
 * 42883 undefined_function: A function that a machine names as a guard is
 *		gone; create it again, or use a version that does not name it.
 * 428C9 generated_always: A column that the engine keeps was changed by
 *		hand.
 * 0A000 feature_not_supported: This is not possible in this version.
 * 53000 insufficient_resources: There is no free background worker, see
 *		max_worker_processes.
 * 55000 object_not_in_prerequisite_state: The object is not in a condition
 *		for this, such as an endpoint with four valid secrets.
 * 55006 object_in_use: A worker is running already; or a DROP or TRUNCATE
 *		would delete orders and order_engine.allow_drop is off.
 * F0000 config_file_error: The file of order_engine.secret_key_file cannot
 *		be used; the message tells why.
 * 55P03 lock_not_available: A first call with the same idempotency key is
 *		running and order_engine.idempotency_wait is off, or lock_timeout passed;
 *		or a copy cannot be adopted before others have ended, see HINT.
 */

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
extern void oe_json_text(OeJson *json, const char *key, const char *value); /* NULL value gives null */
extern void oe_json_int64(OeJson *json, const char *key, int64 value);
extern void oe_json_raw(OeJson *json, const char *key, const char *raw);	/* raw is JSON already */
extern char *oe_json_end(OeJson *json);

#endif							/* OE_ERRORS_H */
