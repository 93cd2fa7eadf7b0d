/*
 * takeover.h
 *	  Endpoints whose owner is this database on another server.
 */
#ifndef OE_TAKEOVER_H
#define OE_TAKEOVER_H

/*
 * Takes them over if this server was promoted.  Once, when the worker starts;
 * in transactions of its own.
 */
extern void oe_take_over(void);

#endif							/* OE_TAKEOVER_H */
