/*
 * config.h
 *	  The worker's view of the endpoints' settings.
 */
#ifndef OE_CONFIG_H
#define OE_CONFIG_H

/*
 * Brings the endpoints in memory in line with the tables, in a transaction of
 * its own.
 */
extern void oe_config_load(void);

/* Set when an endpoint or a secret was changed. */
extern bool oe_config_changed;

/*
 * Set by oe_config_load: the database became a copy of another one, and this
 * process must end.
 */
extern bool oe_config_outdated;

/* Registers the invalidation callback; once. */
extern void oe_config_init(void);

#endif							/* OE_CONFIG_H */
