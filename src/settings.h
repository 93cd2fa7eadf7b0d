/*
 * settings.h
 *	  The settings order_engine.*; doc/ and README have the same list.
 */
#ifndef OE_SETTINGS_H
#define OE_SETTINGS_H

#define OE_MIN_MAX_IN_FLIGHT		1
#define OE_MAX_MAX_IN_FLIGHT		4096
#define OE_DEFAULT_MAX_IN_FLIGHT	256

#define OE_MIN_WORKERS				1
#define OE_DEFAULT_WORKERS			1		/* at most OE_MAX_WORKERS of shared.h */

#define OE_MIN_RETENTION			6	/* s; a leaf of the ring lasts a sixth */
#define OE_MAX_RETENTION			(366 * 86400)
#define OE_DEFAULT_RETENTION		(3 * 86400)
#define OE_DEFAULT_MAX_RETENTION	(30 * 86400)
#define OE_DEFAULT_ATTEMPT_RETENTION	(7 * 86400)

/* what the attempt log holds */
typedef enum OeAttemptLog
{
	OE_ATTEMPT_LOG_NONE,
	OE_ATTEMPT_LOG_FAILURES,
	OE_ATTEMPT_LOG_ALL
} OeAttemptLog;

#define OE_MIN_POLL_INTERVAL		10	/* ms */
#define OE_MAX_POLL_INTERVAL		600000
#define OE_DEFAULT_POLL_INTERVAL	5000

#define OE_MIN_SHARD_ID				0
#define OE_MAX_SHARD_ID				511		/* ids stay exact in a double */
#define OE_DEFAULT_SHARD_ID			0

#define OE_MIN_HOLD_TIME			1		/* s */
#define OE_MAX_HOLD_TIME			(366 * 86400)
#define OE_DEFAULT_HOLD_TIME		1800

#define OE_MIN_IDEMPOTENCY_RETENTION		(-1)	/* s */
#define OE_MAX_IDEMPOTENCY_RETENTION		(366 * 86400)
#define OE_DEFAULT_IDEMPOTENCY_RETENTION	(72 * 3600)

#define OE_MIN_MAINTENANCE_INTERVAL			0	/* ms */
#define OE_MAX_MAINTENANCE_INTERVAL			(3600 * 1000)
#define OE_DEFAULT_MAINTENANCE_INTERVAL		10000

/* how long an authorization is good for, 0: nobody knows */
#define OE_MAX_AUTHORIZATION_LIFETIME		(366 * 86400)	/* s */
#define OE_DEFAULT_AUTHORIZATION_LIFETIME	(7 * 86400)

#define OE_MIN_PAYMENT_ATTEMPTS		1
#define OE_MAX_PAYMENT_ATTEMPTS		100
#define OE_DEFAULT_PAYMENT_ATTEMPTS	3

#define OE_MAX_PAYMENT_RETRY_DELAY		86400	/* s */
#define OE_DEFAULT_PAYMENT_RETRY_DELAY	60

extern char *oe_actor;
extern char *oe_allow_cidrs;
extern bool oe_allow_drop;
extern bool oe_allow_http;
extern int	oe_attempt_log;
extern int	oe_attempt_retention;
extern int	oe_authorization_lifetime;
extern char *oe_ca_file;
extern char *oe_correlation_id;
extern char *oe_databases;
extern char *oe_event_source;
extern int	oe_hold_time;
extern bool oe_idempotency_required;
extern int	oe_idempotency_retention;
extern bool oe_idempotency_wait;
extern bool oe_lock_wait;
extern int	oe_maintenance_interval;
extern int	oe_max_in_flight;
extern int	oe_max_retention;
extern char *oe_order_machine;
extern int	oe_payment_attempts;
extern int	oe_payment_retry_delay;
extern int	oe_poll_interval;
extern int	oe_retention;
extern char *oe_secret_key_file;
extern int	oe_shard_id;
extern char *oe_tenant;
extern char *oe_traceparent;
extern int	oe_workers;

/* Defines the settings and reserves the prefix; once, from _PG_init. */
extern void oe_settings_init(void);

#endif							/* OE_SETTINGS_H */
