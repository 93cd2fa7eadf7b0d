-- Stock: statements written by hand keep the rules of the verbs.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

CREATE TEMP VIEW held AS SELECT ref, sku, quantity, shipped, state FROM order_engine.reservation ORDER BY ref, sku;
CREATE TEMP VIEW level AS SELECT sku, on_hand, reserved, backorder_limit FROM order_engine.stock ORDER BY sku;
CREATE TEMP VIEW by_hand AS SELECT sku, kind, on_hand_delta, reserved_delta, reference_id IS NOT NULL AS reference FROM order_engine.stock_movement WHERE reason = 'by hand' ORDER BY created_at, sku, kind;

SELECT order_engine.upsert_product(sku, sku, 1, 'EUR') FROM unnest('{A,B}'::text[]) AS sku;
SELECT order_engine.adjust_stock('A', 'default', 10, 'r'), order_engine.adjust_stock('B', 'default', 10, 'r');
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}]', ref) IS NOT NULL AS reserved FROM unnest('{a,b,c}'::text[]) AS ref;

-- the units of a reservation go where the state says; two rows on one stock row in one statement
UPDATE order_engine.reservation SET state = 'released' WHERE ref = 'a';
UPDATE order_engine.reservation SET state = 'expired' WHERE ref = 'b' AND sku = 'A';
UPDATE order_engine.reservation SET state = 'committed' WHERE ref IN ('b', 'c') AND state = 'held';
SELECT * FROM held;
SELECT * FROM level;
SELECT * FROM by_hand;
SELECT * FROM order_engine.verify_stock();

-- each of these states is final
SELECT attempt($$UPDATE order_engine.reservation SET state = 'held' WHERE ref = 'a'$$);
SELECT attempt($$UPDATE order_engine.reservation SET state = 'released' WHERE ref = 'c'$$);
UPDATE order_engine.reservation SET state = 'released' WHERE ref = 'a';
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 4}]', 'd') AS d \gset
SELECT left(line, 5) AS line FROM attempt($$UPDATE order_engine.reservation SET state = 'draft' WHERE ref = 'd'$$) AS line LIMIT 1;
-- what the engine keeps
SELECT attempt($$UPDATE order_engine.reservation SET quantity = 3 WHERE ref = 'd'$$);
SELECT attempt($$UPDATE order_engine.reservation SET shipped = 1 WHERE ref = 'd'$$);
SELECT attempt($$UPDATE order_engine.reservation SET quantity = 3, state = 'committed' WHERE ref = 'd'$$);
SELECT attempt($$UPDATE order_engine.reservation SET slot = 3 WHERE ref = 'd'$$);
SELECT attempt($$UPDATE order_engine.reservation SET sku = 'B' WHERE ref = 'd'$$);
SELECT attempt($$DELETE FROM order_engine.reservation WHERE ref = 'd'$$);
-- and what it does not
UPDATE order_engine.reservation SET ref = 'e', expires_at = now() + interval '1 day' WHERE ref = 'd';
DELETE FROM order_engine.reservation WHERE ref = 'a';
-- what does not lie there cannot be shipped
SELECT order_engine.set_backorder_limit('A', 'default', 10);
SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 10}]', 'f') AS f \gset
SELECT attempt($$UPDATE order_engine.reservation SET state = 'committed' WHERE ref = 'f'$$);

-- stock: what lies there may be corrected, the ledger knows
UPDATE order_engine.stock SET on_hand = on_hand + 5 WHERE sku = 'A';
UPDATE order_engine.stock SET backorder_limit = 7 WHERE sku = 'B';
UPDATE order_engine.stock SET safety_stock = 2 WHERE sku = 'B';
SELECT * FROM level;
SELECT * FROM by_hand OFFSET 6;
SELECT attempt($$UPDATE order_engine.stock SET on_hand = 3 WHERE sku = 'A'$$);
SELECT attempt($$UPDATE order_engine.stock SET reserved = 0 WHERE sku = 'A'$$);
SELECT attempt($$UPDATE order_engine.stock SET sku = 'C' WHERE sku = 'A'$$);
SELECT attempt($$UPDATE order_engine.stock SET slot = 1 WHERE sku = 'A'$$);
SELECT attempt($$DELETE FROM order_engine.stock WHERE sku = 'B'$$);
UPDATE order_engine.stock SET on_hand = 0 WHERE sku = 'B';
DELETE FROM order_engine.stock WHERE sku = 'B';
SELECT * FROM order_engine.verify_stock();

-- a BEFORE trigger that comes later cannot get around it
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.quantity := 1; RETURN NEW; END$$;
CREATE TRIGGER zzz BEFORE UPDATE ON order_engine.reservation FOR EACH ROW EXECUTE FUNCTION meddle();
SELECT attempt($$UPDATE order_engine.reservation SET state = 'released' WHERE ref = 'e'$$);
SELECT attempt($$UPDATE order_engine.reservation SET state = 'committed' WHERE ref = 'e'$$);
-- while the verbs do not come across triggers
SELECT order_engine.release_stock(:d), order_engine.release_stock(:f);
DROP TRIGGER zzz ON order_engine.reservation;
DROP FUNCTION meddle();
SELECT * FROM order_engine.verify_stock();

-- the functions are for these triggers only
CREATE TABLE stock (LIKE order_engine.stock INCLUDING DEFAULTS);
CREATE TRIGGER t BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION order_engine.guard_stock();
CREATE TRIGGER t AFTER INSERT ON order_engine.reservation FOR EACH STATEMENT EXECUTE FUNCTION order_engine.guard_reservation();
INSERT INTO stock (sku, location) VALUES ('A', 'default');
SELECT attempt($$UPDATE stock SET on_hand = 1$$);
SELECT attempt($$SELECT order_engine.reserve_stock('[{"sku": "A", "quantity": 1}]')$$);
SELECT attempt($$INSERT INTO order_engine.reservation SELECT * FROM order_engine.reservation LIMIT 0$$);
DROP TABLE stock;
