-- run_maintenance(): what becomes due at a time. The calls get more time than the slowest machine takes.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

SELECT order_engine.upsert_product('A', 'A', 10, 'EUR');
SELECT order_engine.adjust_stock('A', 'default', 100, 'delivery');
-- places an order whose time limit passed as many seconds ago as it says
CREATE FUNCTION place(number text, ago integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	id bigint := order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', order_number => number, terms => 'invoice');
BEGIN
	UPDATE order_engine.orders SET expires_at = NULL WHERE state IN ('expired', 'closed');
	UPDATE order_engine.orders SET expires_at = now() - make_interval(secs => ago) WHERE order_id = id;
END $$;
CREATE TEMP VIEW shown AS
SELECT order_number, state, version, CASE WHEN expires_at IS NULL OR state IN ('expired', 'closed') THEN 'none' WHEN expires_at <= now() THEN 'due' ELSE round(extract(epoch FROM expires_at - now()) / 60) || ' min' END AS due_in
FROM order_engine.orders;

-- nothing to do, and nothing is written for it
BEGIN;
SELECT order_engine.run_maintenance();
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;

-- an order whose time has passed, and one whose has not
SELECT place('late', 10);
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR', order_number => 'in time') IS NOT NULL AS placed;
SELECT reserved FROM order_engine.stock;
SELECT order_engine.run_maintenance(time_limit => '1 hour');
SELECT * FROM shown ORDER BY 1;
SELECT reserved FROM order_engine.stock;
SELECT event, from_state, to_state, reason, actor, tenant FROM order_engine.history WHERE event = 'expire';
SELECT type, payload ->> 'reason' AS reason, headers FROM order_engine.outbox ORDER BY id DESC LIMIT 1;
SELECT count(*) FROM order_engine.verify_stock();
-- done is done
SELECT order_engine.run_maintenance(time_limit => '1 hour');
SELECT * FROM shown ORDER BY 1;

-- history and events keep the tenant; the caller's own context stays out of them, and stays
SET order_engine.tenant = 'acme';
SELECT place('acme', 20);
SET order_engine.tenant = 'globex';
SELECT place('globex', 10);
SET order_engine.actor = 'cron';
SET order_engine.tenant = 'cron''s own';
SET order_engine.correlation_id = 'c-1';
SET order_engine.idempotency_required = on;
SELECT order_engine.run_maintenance(time_limit => '1 hour');
SHOW order_engine.actor;
SHOW order_engine.tenant;
SHOW order_engine.correlation_id;
SHOW order_engine.idempotency_required;
SHOW lock_timeout;
RESET order_engine.actor;
RESET order_engine.tenant;
RESET order_engine.correlation_id;
RESET order_engine.idempotency_required;
SELECT h.tenant, h.actor, o.headers FROM order_engine.history h JOIN order_engine.outbox o ON o.aggregateid = h.order_id::text AND o.aggregate_seq = h.seq
WHERE h.event = 'expire' AND h.tenant <> '' ORDER BY h.seq, o.id;

-- the oldest come first, a batch at a time
SELECT place('n' || n, n) FROM generate_series(1, 5) n;
SELECT order_engine.run_maintenance(2, '1 hour');
SELECT * FROM shown WHERE order_number LIKE 'n%' ORDER BY 1;
UPDATE order_engine.orders SET expires_at = NULL WHERE state = 'expired';
SELECT order_engine.run_maintenance(2, '1 hour');
UPDATE order_engine.orders SET expires_at = NULL WHERE state = 'expired';
SELECT order_engine.run_maintenance(2, '1 hour');
SELECT order_number FROM order_engine.history JOIN order_engine.orders USING (order_id) WHERE event = 'expire' AND order_number LIKE 'n%' ORDER BY history.created_at;

-- the other built-in machine
SET order_engine.order_machine = 'simple';
SELECT place('simple', 1);
RESET order_engine.order_machine;
SELECT order_engine.run_maintenance(time_limit => '1 hour') ->> 'limits_fired' AS fired;
SELECT * FROM shown WHERE order_number = 'simple';

-- a machine of one's own: an event that is not "expire", and states that have none
SELECT order_engine.publish_machine(order_engine.define_machine('order', 'own', '{"initial": "new",
	"states": {"new": {}, "open": {"on_limit": "remind"}, "reminded": {"on_limit": "close"}, "checked": {"on_limit": "pass"}, "closed": {"terminal": true}},
	"transitions": [{"event": "place", "from": "new", "to": "open"}, {"event": "remind", "from": "open", "to": "reminded"},
		{"event": "check", "from": "open", "to": "checked"}, {"event": "pass", "from": "checked", "to": "closed", "guards": ["no_hold"]},
		{"event": "close", "from": "reminded", "to": "closed"}]}'));
SET order_engine.order_machine = 'own';
SELECT place('remind', 1);
SELECT place('held', 2);
SELECT place('hangs', 3);
SELECT place('closed', 4);
RESET order_engine.order_machine;
UPDATE order_engine.orders SET state = 'reminded' WHERE order_number = 'closed';
UPDATE order_engine.orders SET state = 'closed' WHERE order_number = 'closed';
UPDATE order_engine.orders SET state = 'checked' WHERE order_number = 'held';
-- as a hold would
SET session_replication_role = replica;
UPDATE order_engine.orders SET on_hold = true WHERE order_number = 'held';
RESET session_replication_role;
UPDATE order_engine.orders SET state = 'checked' WHERE order_number = 'hangs';
UPDATE order_engine.orders SET expires_at = now() WHERE order_number IN ('remind', 'held', 'hangs', 'closed');
SELECT order_number, version FROM order_engine.orders WHERE order_number = 'held';
-- one moves, one is refused and tried again later, a limit without an event is taken away
SELECT order_engine.run_maintenance(time_limit => '1 hour');
SELECT order_number, state, version FROM shown WHERE order_number IN ('remind', 'held', 'hangs', 'closed') ORDER BY 1;
SELECT due_in FROM shown WHERE order_number = 'held';
SELECT expires_at IS NULL AS taken_away FROM order_engine.orders WHERE order_number = 'closed';
SELECT event, from_state, to_state FROM order_engine.history JOIN order_engine.orders USING (order_id) WHERE order_number = 'held' ORDER BY seq;
-- once the reason is gone and the time has come
SET session_replication_role = replica;
UPDATE order_engine.orders SET on_hold = false, expires_at = now() WHERE order_number = 'held';
RESET session_replication_role;
SELECT order_engine.run_maintenance(time_limit => '1 hour') ->> 'limits_fired' >= '1' AS fired;
SELECT state FROM order_engine.orders WHERE order_number = 'held';

-- one that cannot even be postponed keeps the others from nothing
UPDATE order_engine.orders SET expires_at = NULL;
SELECT place('stubborn', 5);
SELECT place('other', 1);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON order_engine.orders FOR EACH ROW WHEN (OLD.order_number = 'stubborn') EXECUTE FUNCTION refuse();
SELECT order_engine.run_maintenance(time_limit => '1 hour');
SELECT * FROM shown WHERE order_number IN ('stubborn', 'other') ORDER BY 1;
DROP TRIGGER refuse ON order_engine.orders;
DROP FUNCTION refuse();
SELECT order_engine.run_maintenance(time_limit => '1 hour') ->> 'limits_fired' AS fired;

-- guards that no OTHERS catches keep the others from nothing, too
CREATE SCHEMA regress_guard;
CREATE FUNCTION regress_guard.asserts(bigint) RETURNS text LANGUAGE plpgsql AS $$BEGIN ASSERT false, 'never'; END$$;
CREATE FUNCTION regress_guard.cancels(bigint) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE query_canceled; END$$;
SELECT order_engine.publish_machine(order_engine.define_machine('order', 'own', '{"initial": "new",
	"states": {"new": {}, "open": {"limit": "1 hour", "on_limit": "remind"}, "reminded": {}, "asserts": {"on_limit": "close"}, "cancels": {"on_limit": "close"}, "closed": {"terminal": true}},
	"transitions": [{"event": "place", "from": "new", "to": "open"},
		{"event": "remind", "from": "open", "to": "reminded"}, {"event": "resume", "from": "reminded", "to": "open", "automatic": true},
		{"event": "assert", "from": "open", "to": "asserts"}, {"event": "cancel", "from": "open", "to": "cancels"},
		{"event": "close", "from": "asserts", "to": "closed", "guards": ["regress_guard.asserts"]},
		{"event": "close", "from": "cancels", "to": "closed", "guards": ["regress_guard.cancels"]}]}'));
SET order_engine.order_machine = 'own';
SELECT place('asserts', 3), place('cancels', 2), place('behind', 1);
RESET order_engine.order_machine;
UPDATE order_engine.orders SET state = order_number WHERE order_number IN ('asserts', 'cancels');
UPDATE order_engine.orders SET expires_at = now() - make_interval(secs => CASE order_number WHEN 'asserts' THEN 3 ELSE 2 END)
WHERE order_number IN ('asserts', 'cancels');
-- a cancelled call keeps what it has done, and the next one gets further
SELECT order_engine.run_maintenance(time_limit => '1 hour');
SELECT * FROM shown WHERE order_number IN ('asserts', 'cancels', 'behind') ORDER BY 1;
-- the reminder led back to where the order was, and its limit began anew
SELECT order_engine.run_maintenance(time_limit => '1 hour');
SELECT * FROM shown WHERE order_number IN ('asserts', 'cancels', 'behind') ORDER BY 1;

-- a payment that cannot be retried is not in the way of another one
SELECT order_engine.record_payment(order_engine.request_payment(
	order_engine.place_order('c', '[{"sku": "A", "quantity": 1}]', 'EUR', order_number => n), 'authorization'), 'failure', n)
FROM unnest('{stuck,free}'::text[]) n;
SET session_replication_role = replica;
UPDATE order_engine.payment SET next_attempt_at = now() - CASE order_number WHEN 'stuck' THEN interval '2 s' ELSE '1 s' END
FROM order_engine.orders WHERE orders.order_id = payment.order_id;
RESET session_replication_role;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON order_engine.orders FOR EACH ROW WHEN (OLD.order_number = 'stuck') EXECUTE FUNCTION refuse();
SELECT order_engine.run_maintenance(time_limit => '1 hour') ->> 'payments_retried' AS retried;
SELECT order_number, round(extract(epoch FROM next_attempt_at - now()) / 60) || ' min' AS next_attempt,
	(SELECT count(*) FROM order_engine.payment_transaction t WHERE t.payment_id = p.payment_id) AS attempts
FROM order_engine.payment p JOIN order_engine.orders USING (order_id) ORDER BY p.payment_id;
DROP TRIGGER refuse ON order_engine.orders;
DROP FUNCTION refuse();

-- a cart whose time has passed
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 3}]', 'cart', '1 hour') IS NOT NULL AS reserved;
UPDATE order_engine.reservation SET expires_at = now() WHERE ref = 'cart';
SELECT order_engine.run_maintenance(time_limit => '1 hour') ->> 'reservations_expired' AS expired;
SELECT order_engine.run_maintenance(time_limit => '1 hour') ->> 'reservations_expired' AS expired;
SELECT DISTINCT state FROM order_engine.reservation WHERE ref = 'cart';

-- old keys
SHOW order_engine.idempotency_retention;
SELECT count(order_engine.emit('cart', n::text, 'cart.created', '{}', idempotency_key => 'k' || n)) FROM generate_series(1, 10) n;
UPDATE order_engine.idempotency_key SET created_at = now() - interval '72 h' - make_interval(secs => substr(key, 2)::integer) WHERE key > 'k1' AND key <> 'k10';
UPDATE order_engine.idempotency_key SET created_at = now() - interval '71 h' WHERE key = 'k10';
SELECT order_engine.run_maintenance(5, '1 hour');
SELECT key FROM order_engine.idempotency_key ORDER BY 1;
SELECT order_engine.run_maintenance(5, '1 hour');
SELECT key FROM order_engine.idempotency_key ORDER BY 1;
-- a key that is gone is free
SELECT order_engine.emit('basket', '1', 'basket.made', '{}', idempotency_key => 'k9') IS NOT NULL AS emitted, order_engine.was_replayed();
SELECT order_engine.emit('cart', '10', 'cart.created', '{}', idempotency_key => 'k10') IS NOT NULL AS emitted, order_engine.was_replayed();

-- arguments
SELECT attempt('SELECT order_engine.run_maintenance(NULL)');
SELECT attempt('SELECT order_engine.run_maintenance(1, NULL)');
SELECT attempt('SELECT order_engine.run_maintenance(0)');
SELECT attempt('SELECT order_engine.run_maintenance(100001)');
SELECT attempt($$SELECT order_engine.run_maintenance(1, '0 s')$$);
-- for operators
CREATE ROLE regress_maintainer;
SELECT order_engine.grant_access('regress_maintainer', 'app');
SET ROLE regress_maintainer;
SELECT order_engine.run_maintenance(time_limit => '1 hour');
RESET ROLE;
SELECT order_engine.grant_access('regress_maintainer', 'operator');
SET ROLE regress_maintainer;
SELECT order_engine.run_maintenance(time_limit => '1 hour') ->> 'limits_fired' AS fired;
SELECT order_engine.delete_expired_keys(1);
SELECT order_engine.set_limit('order', 1, NULL);
RESET ROLE;
SELECT order_engine.revoke_access('regress_maintainer');
DROP ROLE regress_maintainer;
SELECT count(*) FROM order_engine.verify_stock();
