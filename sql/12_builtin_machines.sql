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
		"pending": {"on_limit": "expire"},
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
		 "guards": ["lines_settled"], "milestone": "completed_at", "automatic": true},
		{"event": "cancel", "from": ["draft", "pending", "confirmed"], "to": "cancelled", "type": "order.cancelled",
		 "guards": ["nothing_shipped"],
		 "effects": ["release_stock", "cancel_lines", "cancel_fulfillments", "void_payments", "request_refunds"], "milestone": "cancelled_at"},
		{"event": "expire", "from": "pending", "to": "expired", "type": "order.expired",
		 "guards": ["past_limit"],
		 "effects": ["expire_stock", "cancel_lines", "cancel_fulfillments", "void_payments", "request_refunds"], "milestone": "cancelled_at"}
	]}');

/* simple: one ladder for shops that pay, ship and deliver an order as a whole. */
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition)
VALUES (2, 'order', 'simple', 1, 'published', pg_catalog.now(), '{
	"initial": "draft",
	"states": {
		"draft": {},
		"pending": {"on_limit": "expire"},
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
		 "effects": ["release_stock", "cancel_lines", "cancel_fulfillments", "mark_refunded", "void_payments", "request_refunds"]},
		{"event": "cancel", "from": ["draft", "pending", "paid"], "to": "cancelled", "type": "order.cancelled",
		 "guards": ["nothing_shipped"],
		 "effects": ["release_stock", "cancel_lines", "cancel_fulfillments", "void_payments", "request_refunds"], "milestone": "cancelled_at"},
		{"event": "expire", "from": "pending", "to": "expired", "type": "order.expired",
		 "guards": ["past_limit"],
		 "effects": ["expire_stock", "cancel_lines", "cancel_fulfillments", "void_payments", "request_refunds"], "milestone": "cancelled_at"}
	]}');

/*
 * payment: an intent, from the request to the money.  The guards ask the recorded
 * amounts, so no state says more than a payment service has reported.
 */
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition)
VALUES (3, 'payment', 'default', 1, 'published', pg_catalog.now(), '{
	"initial": "pending",
	"states": {
		"pending": {},
		"authorized": {"on_limit": "expire"},
		"captured": {},
		"refunded": {"terminal": true},
		"failed": {"terminal": true},
		"voided": {"terminal": true},
		"expired": {"terminal": true}
	},
	"transitions": [
		{"event": "authorize", "from": "pending", "to": "authorized", "type": "payment.authorized",
		 "guards": ["authorization_recorded"]},
		{"event": "capture", "from": ["pending", "authorized"], "to": "captured", "type": "payment.captured",
		 "guards": ["capture_recorded"]},
		{"event": "refund", "from": "captured", "to": "refunded", "type": "payment.refunded",
		 "guards": ["refund_complete"]},
		{"event": "fail", "from": "pending", "to": "failed", "type": "payment.failed",
		 "guards": ["nothing_captured", "authorization_released", "nothing_undecided"]},
		{"event": "void", "from": ["pending", "authorized"], "to": "voided", "type": "payment.voided",
		 "guards": ["nothing_captured", "authorization_released"]},
		{"event": "expire", "from": "authorized", "to": "expired", "type": "payment.expired",
		 "guards": ["past_limit"], "effects": ["release_authorization"]}
	]}');

/* fulfillment: units of an order that leave one location together. */
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition)
VALUES (4, 'fulfillment', 'default', 1, 'published', pg_catalog.now(), '{
	"initial": "pending",
	"states": {
		"pending": {},
		"ready": {},
		"shipped": {},
		"delivered": {"terminal": true},
		"cancelled": {"terminal": true},
		"undeliverable": {},
		"returned": {"terminal": true}
	},
	"transitions": [
		{"event": "ready", "from": "pending", "to": "ready", "type": "fulfillment.ready"},
		{"event": "ship", "from": "ready", "to": "shipped", "type": "fulfillment.shipped",
		 "guards": ["order_confirmed", "no_hold", "units_open"],
		 "effects": ["ship_units"], "milestone": "shipped_at"},
		{"event": "deliver", "from": "shipped", "to": "delivered", "type": "fulfillment.delivered",
		 "guards": ["units_underway"],
		 "effects": ["deliver_units"], "milestone": "delivered_at"},
		{"event": "cancel", "from": ["pending", "ready"], "to": "cancelled", "type": "fulfillment.cancelled",
		 "effects": ["release_units"]},
		{"event": "fail", "from": "shipped", "to": "undeliverable", "type": "fulfillment.undeliverable"},
		{"event": "restock", "from": "undeliverable", "to": "returned", "type": "fulfillment.returned",
		 "guards": ["units_underway", "units_not_returned"],
		 "effects": ["restock_units"]}
	]}');

/* return: what the customer sends back. */
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition)
VALUES (5, 'return', 'default', 1, 'published', pg_catalog.now(), '{
	"initial": "requested",
	"states": {
		"requested": {},
		"approved": {},
		"received": {},
		"closed": {"terminal": true},
		"declined": {"terminal": true},
		"cancelled": {"terminal": true}
	},
	"transitions": [
		{"event": "approve", "from": "requested", "to": "approved", "type": "return.approved"},
		{"event": "receive", "from": "approved", "to": "received", "type": "return.received",
		 "guards": ["units_returnable"],
		 "effects": ["receive_units"], "milestone": "received_at"},
		{"event": "close", "from": "received", "to": "closed", "type": "return.closed",
		 "effects": ["request_refund"]},
		{"event": "decline", "from": "requested", "to": "declined", "type": "return.declined",
		 "effects": ["release_units"]},
		{"event": "cancel", "from": ["requested", "approved"], "to": "cancelled", "type": "return.cancelled",
		 "effects": ["release_units"]}
	]}');

/* reservation: the code in stock_release.c is this machine; it cannot be replaced. */
INSERT INTO order_engine.machine (machine_id, kind, name, version, status, published_at, definition)
VALUES (6, 'reservation', 'default', 1, 'published', pg_catalog.now(), '{
	"initial": "held",
	"states": {
		"held": {"on_limit": "expire"},
		"committed": {"terminal": true},
		"released": {"terminal": true},
		"expired": {"terminal": true}
	},
	"transitions": [
		{"event": "commit", "from": "held", "to": "committed"},
		{"event": "release", "from": "held", "to": "released"},
		{"event": "expire", "from": "held", "to": "expired"}
	]}');
