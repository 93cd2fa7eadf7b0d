/* The machines that come with the extension. */

/*
 * default: payment, fulfillment and the order itself are separate; the order is
 * confirmed when money and stock are certain, completed when all is settled.
 */
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition)
VALUES (1, 'order', 'default', 1, 'published', pg_catalog.now(), '{
	"initial": "draft",
	"states": {
		"draft": {},
		"pending": {},
		"confirmed": {},
		"completed": {"terminal": true},
		"cancelled": {"terminal": true},
		"expired": {"terminal": true}
	},
	"transitions": [
		{"event": "place", "from": "draft", "to": "pending", "type": "order.placed",
		 "milestone": "placed_at"},
		{"event": "confirm", "from": "pending", "to": "confirmed", "type": "order.confirmed",
		 "guards": ["no_hold", "payment_covered", "reservation_held"],
		 "effects": ["keep_reservation"], "milestone": "confirmed_at"},
		{"event": "complete", "from": "confirmed", "to": "completed", "type": "order.completed",
		 "guards": ["lines_settled"], "milestone": "completed_at"},
		{"event": "cancel", "from": ["draft", "pending", "confirmed"], "to": "cancelled", "type": "order.cancelled",
		 "guards": ["nothing_shipped"],
		 "effects": ["release_stock", "cancel_lines"], "milestone": "cancelled_at"},
		{"event": "expire", "from": "pending", "to": "expired", "type": "order.expired",
		 "guards": ["past_limit"],
		 "effects": ["expire_stock", "cancel_lines"], "milestone": "cancelled_at"}
	]}');

/* simple: one ladder for shops that pay, ship and deliver an order as a whole. */
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition)
VALUES (2, 'order', 'simple', 1, 'published', pg_catalog.now(), '{
	"initial": "draft",
	"states": {
		"draft": {},
		"pending": {},
		"paid": {},
		"shipped": {},
		"delivered": {"terminal": true},
		"refunded": {"terminal": true},
		"cancelled": {"terminal": true},
		"expired": {"terminal": true}
	},
	"transitions": [
		{"event": "place", "from": "draft", "to": "pending", "type": "order.placed",
		 "milestone": "placed_at"},
		{"event": "pay", "from": "pending", "to": "paid", "type": "order.paid",
		 "guards": ["no_hold", "reservation_held"],
		 "effects": ["keep_reservation", "mark_paid"], "milestone": "confirmed_at"},
		{"event": "ship", "from": "paid", "to": "shipped", "type": "order.shipped",
		 "guards": ["no_hold", "reservation_held"],
		 "effects": ["ship_all"], "milestone": "first_shipped_at"},
		{"event": "deliver", "from": "shipped", "to": "delivered", "type": "order.delivered",
		 "effects": ["deliver_all"], "milestone": "delivered_at"},
		{"event": "refund", "from": ["paid", "shipped"], "to": "refunded", "type": "order.refunded",
		 "effects": ["release_stock", "cancel_lines", "mark_refunded"]},
		{"event": "cancel", "from": ["draft", "pending", "paid"], "to": "cancelled", "type": "order.cancelled",
		 "guards": ["nothing_shipped"],
		 "effects": ["release_stock", "cancel_lines"], "milestone": "cancelled_at"},
		{"event": "expire", "from": "pending", "to": "expired", "type": "order.expired",
		 "guards": ["past_limit"],
		 "effects": ["expire_stock", "cancel_lines"], "milestone": "cancelled_at"}
	]}');
