/*
 * dispatch.h
 *	  Turn ready deliveries into requests, and results into outcomes.
 */
#ifndef OE_DISPATCH_H
#define OE_DISPATCH_H

#include "delivery.h"
#include "quarantine.h"

/* Requests under way, over all endpoints. */
extern int	oe_in_flight;

/* Once, before anything else here; needs no transaction. */
extern void oe_dispatch_init(void);

/* Starts requests as far as the limits allow; returns how many. */
extern int	oe_dispatch_send(OeHttp *http, int max_in_flight, TimestampTz now);

/* When an endpoint that has to wait may be sent to again; 0: none does. */
extern TimestampTz oe_dispatch_next(TimestampTz now);

/* Has libcurl do what can be done without waiting. */
extern void oe_dispatch_drive(OeHttp *http);

/* The events of the requests under way, at most max; safe in a signal handler. */
extern int	oe_dispatch_in_flight(OeBlame *blamed, int max);

/* Takes the results that are there; returns how many. */
extern int	oe_dispatch_results(OeHttp *http, TimestampTz now);

#endif							/* OE_DISPATCH_H */
