/*
 * line_status.h
 *	  The roll-ups of an order that come from the counters of its lines.
 */
#ifndef OE_LINE_STATUS_H
#define OE_LINE_STATUS_H

/*
 * Parts of an UPDATE of order_engine.orders o with the order_id as $1, and of the
 * query of effect.c that foresees what its effects will make of them.  q, s, d,
 * u and r are units that remain, were shipped, delivered, came back undelivered
 * and were returned.  What nobody received is not delivered: an order that came
 * back as a whole stays "shipped".
 */
#define OE_FULFILLMENT_STATUS \
	" CASE WHEN l.s = 0 THEN 'unfulfilled'" \
	"   WHEN l.d > 0 AND l.d + l.u = l.q THEN 'delivered'" \
	"   WHEN l.d > 0 THEN 'partially_delivered'" \
	"   WHEN l.s = l.q THEN 'shipped'" \
	"   ELSE 'partially_shipped' END"

#define OE_ALL_RETURNED " (l.r > 0 AND l.r >= l.s - l.u)"

#define OE_LINE_STATUS_SET \
	" fulfillment_status = " OE_FULFILLMENT_STATUS "," \
	" return_status = CASE WHEN" OE_ALL_RETURNED " THEN 'returned'" \
	"   WHEN l.r > 0 THEN 'partially_returned'" \
	"   WHEN EXISTS (SELECT 1 FROM order_engine.order_return e" \
	"       JOIN order_engine.return_line v USING (return_id)" \
	"       WHERE e.order_id = o.order_id AND v.open > 0) THEN 'requested'" \
	"   ELSE 'none' END," \
	" first_shipped_at = CASE WHEN o.first_shipped_at IS NULL AND l.s > 0" \
	"   THEN pg_catalog.clock_timestamp() ELSE o.first_shipped_at END," \
	" delivered_at = CASE WHEN o.delivered_at IS NULL AND l.d > 0 AND l.d + l.u = l.q" \
	"   THEN pg_catalog.clock_timestamp() ELSE o.delivered_at END"

#define OE_LINE_STATUS_FROM \
	" (SELECT coalesce(sum(quantity - cancelled), 0) AS q, coalesce(sum(shipped), 0) AS s," \
	"   coalesce(sum(delivered), 0) AS d, coalesce(sum(undelivered), 0) AS u," \
	"   coalesce(sum(returned), 0) AS r" \
	"  FROM order_engine.order_line WHERE order_id = $1) l"

#endif							/* OE_LINE_STATUS_H */
