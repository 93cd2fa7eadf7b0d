/*
 * identity.h
 *	  Which database this is: that of this server, or a copy.
 */
#ifndef OE_IDENTITY_H
#define OE_IDENTITY_H

/* hex digits of the token that tells this data directory from its copies */
#define OE_INSTANCE_LEN		32

/*
 * Readies the files when the server starts.  In the postmaster, before recovery;
 * never raises an error.
 */
extern void oe_identity_startup(void);

/*
 * Was this server a standby, and has this database not been taken over since?
 * Says no when that cannot be told, for then a person decides.
 */
extern bool oe_identity_was_standby(void);

/* Notes that this database was taken over, after that has been committed. */
extern void oe_identity_taken_over(void);

/* The identity up to the token, palloc'd: the same in a clone and a standby. */
extern char *oe_identity_prefix(void);

/* Do transaction ids in a copy of the database with this identity mean the same here? */
extern bool oe_identity_shares_transactions(const char *identity);

#endif							/* OE_IDENTITY_H */
