/*
 * drop_guard.h
 *	  Orders are not deleted by accident.
 */
#ifndef OE_DROP_GUARD_H
#define OE_DROP_GUARD_H

/* Installs the guard; from _PG_init. */
extern void oe_drop_guard_init(void);

#endif							/* OE_DROP_GUARD_H */
