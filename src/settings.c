/*
 * settings.c
 *	  The settings order_engine.*, in the order of the alphabet.
 *
 * What decides where data may be sent (databases, allow_http, allow_cidrs) can
 * be set in the server's configuration only; the caller's context can be set by
 * anybody, for a transaction.
 */
#include "postgres.h"

#include "args.h"
#include "settings.h"
#include "shared.h"
#include "utils/guc.h"

char	   *oe_actor = NULL;
char	   *oe_allow_cidrs = NULL;
bool		oe_allow_drop = false;
bool		oe_allow_http = false;
int			oe_attempt_log = OE_ATTEMPT_LOG_FAILURES;
int			oe_attempt_retention = OE_DEFAULT_ATTEMPT_RETENTION;
int			oe_authorization_lifetime = OE_DEFAULT_AUTHORIZATION_LIFETIME;
char	   *oe_ca_file = NULL;
char	   *oe_correlation_id = NULL;
char	   *oe_databases = NULL;
char	   *oe_event_source = NULL;
int			oe_hold_time = OE_DEFAULT_HOLD_TIME;
bool		oe_idempotency_required = false;
int			oe_idempotency_retention = OE_DEFAULT_IDEMPOTENCY_RETENTION;
bool		oe_idempotency_wait = true;
bool		oe_lock_wait = true;
int			oe_maintenance_interval = OE_DEFAULT_MAINTENANCE_INTERVAL;
int			oe_max_in_flight = OE_DEFAULT_MAX_IN_FLIGHT;
int			oe_max_retention = OE_DEFAULT_MAX_RETENTION;
char	   *oe_order_machine = NULL;
int			oe_payment_attempts = OE_DEFAULT_PAYMENT_ATTEMPTS;
int			oe_payment_retry_delay = OE_DEFAULT_PAYMENT_RETRY_DELAY;
int			oe_poll_interval = OE_DEFAULT_POLL_INTERVAL;
int			oe_retention = OE_DEFAULT_RETENTION;
char	   *oe_secret_key_file = NULL;
int			oe_shard_id = OE_DEFAULT_SHARD_ID;
char	   *oe_tenant = NULL;
char	   *oe_traceparent = NULL;
int			oe_workers = OE_DEFAULT_WORKERS;

static const struct config_enum_entry attempt_log_options[] = {
	{"none", OE_ATTEMPT_LOG_NONE, false},
	{"failures", OE_ATTEMPT_LOG_FAILURES, false},
	{"all", OE_ATTEMPT_LOG_ALL, false},
	{NULL, 0, false}
};

/* These go into every row of history, into events, and into requests. */
static bool
check_label(char **newval, void **extra, GucSource source)
{
	const char *why;

	if (**newval == '\0' || oe_name_is_valid(*newval, strlen(*newval), &why))
		return true;
	GUC_check_errdetail("The value %s, or be empty.", why);
	return false;
}

void
oe_settings_init(void)
{
	DefineCustomStringVariable("order_engine.actor",
							   "Who acts, as history and events record it.",
							   "Empty: the session user.",
							   &oe_actor, "",
							   PGC_USERSET, 0, check_label, NULL, NULL);
	DefineCustomStringVariable("order_engine.allow_cidrs",
							   "Address ranges that the worker may connect to although they are not public.",
							   "A comma-separated list such as 10.1.2.0/24, ::1/128.",
							   &oe_allow_cidrs, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomBoolVariable("order_engine.allow_drop",
							 "Whether DROP EXTENSION and TRUNCATE may delete orders.",
							 NULL,
							 &oe_allow_drop, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("order_engine.allow_http",
							 "Whether endpoints may have http URLs beside https ones.",
							 NULL,
							 &oe_allow_http, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("order_engine.attempt_log",
							 "Which attempts delivery_attempt holds: none, failures or all.",
							 NULL,
							 &oe_attempt_log, OE_ATTEMPT_LOG_FAILURES, attempt_log_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.attempt_retention",
							"How long the log of attempts is kept at least.",
							"Up to half as long again.",
							&oe_attempt_retention, OE_DEFAULT_ATTEMPT_RETENTION,
							OE_MIN_RETENTION, OE_MAX_RETENTION,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.authorization_lifetime",
							"How long a payment stays authorized when the payment service does not say.",
							"0: without a limit.",
							&oe_authorization_lifetime, OE_DEFAULT_AUTHORIZATION_LIFETIME,
							0, OE_MAX_AUTHORIZATION_LIFETIME,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("order_engine.ca_file",
							   "File with the certificate authorities that endpoints are verified by.",
							   "Empty: those of the system.",
							   &oe_ca_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("order_engine.correlation_id",
							   "Correlation id that history and events record.",
							   NULL,
							   &oe_correlation_id, "",
							   PGC_USERSET, 0, check_label, NULL, NULL);
	DefineCustomStringVariable("order_engine.databases",
							   "Databases whose outbox is delivered by a background worker.",
							   "A comma-separated list of names.",
							   &oe_databases, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomStringVariable("order_engine.event_source",
							   "The attribute source of CloudEvents, a URI reference.",
							   "Empty: /order_engine/ and the name of the database.",
							   &oe_event_source, "",
							   PGC_SIGHUP, 0, check_label, NULL, NULL);
	DefineCustomIntVariable("order_engine.hold_time",
							"How long a pending order holds its stock when the caller does not say.",
							NULL,
							&oe_hold_time, OE_DEFAULT_HOLD_TIME, OE_MIN_HOLD_TIME, OE_MAX_HOLD_TIME,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("order_engine.idempotency_required",
							 "Whether verbs refuse a call that brings no idempotency key.",
							 NULL,
							 &oe_idempotency_required, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.idempotency_retention",
							"How long an idempotency key is kept before maintenance deletes it.",
							"0 and -1 keep keys for ever.",
							&oe_idempotency_retention, OE_DEFAULT_IDEMPOTENCY_RETENTION,
							OE_MIN_IDEMPOTENCY_RETENTION, OE_MAX_IDEMPOTENCY_RETENTION,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("order_engine.idempotency_wait",
							 "Whether a duplicate waits for a first call that is still running.",
							 "When off it fails at once with 55P03.",
							 &oe_idempotency_wait, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	/* for run_maintenance() alone, which sets it for the rest of a call: so it is shown to nobody */
	DefineCustomBoolVariable("order_engine.lock_wait",
							 "Whether to wait for rows of stock and reservations that another transaction has.",
							 "When off that fails at once with 55P03.",
							 &oe_lock_wait, true,
							 PGC_SUSET,
							 GUC_NO_SHOW_ALL | GUC_NO_RESET_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.maintenance_interval",
							"How often a worker does what is due at a time: limits of states, old keys.",
							"0 leaves it to those who call run_maintenance().",
							&oe_maintenance_interval, OE_DEFAULT_MAINTENANCE_INTERVAL,
							OE_MIN_MAINTENANCE_INTERVAL, OE_MAX_MAINTENANCE_INTERVAL,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.max_in_flight",
							"Requests that one worker may have under way at once, over all endpoints.",
							NULL,
							&oe_max_in_flight, OE_DEFAULT_MAX_IN_FLIGHT, OE_MIN_MAX_IN_FLIGHT, OE_MAX_MAX_IN_FLIGHT,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.max_retention",
							"How long an endpoint may keep events from being removed.",
							"An endpoint that needs older ones is disabled, and delivery_gap tells what it missed.",
							&oe_max_retention, OE_DEFAULT_MAX_RETENTION,
							OE_MIN_RETENTION, OE_MAX_RETENTION,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("order_engine.order_machine",
							   "Name of the machine that new orders run on.",
							   NULL,
							   &oe_order_machine, "default",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.payment_attempts",
							"How often a payment is requested before it has failed for good.",
							NULL,
							&oe_payment_attempts, OE_DEFAULT_PAYMENT_ATTEMPTS,
							OE_MIN_PAYMENT_ATTEMPTS, OE_MAX_PAYMENT_ATTEMPTS,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.payment_retry_delay",
							"How long after its first failure a payment is requested again.",
							"Each further failure doubles it, up to a day.",
							&oe_payment_retry_delay, OE_DEFAULT_PAYMENT_RETRY_DELAY,
							0, OE_MAX_PAYMENT_RETRY_DELAY,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.poll_interval",
							"How often a worker looks for events that no commit announced.",
							NULL,
							&oe_poll_interval, OE_DEFAULT_POLL_INTERVAL, OE_MIN_POLL_INTERVAL, OE_MAX_POLL_INTERVAL,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.retention",
							"How long events are kept at least, delivered or not.",
							NULL,
							&oe_retention, OE_DEFAULT_RETENTION, OE_MIN_RETENTION, OE_MAX_RETENTION,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("order_engine.secret_key_file",
							   "File with the keys that encrypt secrets in the database.",
							   "Empty: secrets are stored in clear.",
							   &oe_secret_key_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("order_engine.shard_id",
							"Number of this server, in the high bits of every id.",
							NULL,
							&oe_shard_id, OE_DEFAULT_SHARD_ID, OE_MIN_SHARD_ID, OE_MAX_SHARD_ID,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("order_engine.tenant",
							   "Tenant on whose behalf the transaction acts.",
							   NULL,
							   &oe_tenant, "",
							   PGC_USERSET, 0, check_label, NULL, NULL);
	DefineCustomStringVariable("order_engine.traceparent",
							   "W3C trace context that events carry on.",
							   NULL,
							   &oe_traceparent, "",
							   PGC_USERSET, 0, check_label, NULL, NULL);
	DefineCustomIntVariable("order_engine.workers",
							"Processes that deliver the events of one database.",
							"More than one needs order_engine in shared_preload_libraries.",
							&oe_workers, OE_DEFAULT_WORKERS, OE_MIN_WORKERS, OE_MAX_WORKERS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	MarkGUCPrefixReserved("order_engine");
}
