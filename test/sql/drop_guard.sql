-- Orders are not deleted by accident: DROP and TRUNCATE need order_engine.allow_drop.
\set VERBOSITY terse
\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin
SET client_min_messages = warning;
-- (the configuration of the tests has it on)
SET order_engine.allow_drop = off;

-- an extension without orders goes, with all else that it has
SELECT order_engine.upsert_product('A', 'A', 1, 'EUR') \g /dev/null
DROP EXTENSION order_engine;
CREATE EXTENSION order_engine;

SELECT order_engine.upsert_product('A', 'A', 1, 'EUR') \g /dev/null
SELECT order_engine.upsert_location('default', 'Warehouse') \g /dev/null
SELECT order_engine.adjust_stock('A', 'default', 10, 'test') \g /dev/null
SELECT order_engine.place_order('c', '[{"sku": "A", "quantity": 2}]', 'EUR') > 0;

-- one that has some stays
SELECT attempt('DROP EXTENSION order_engine');
SELECT attempt('DROP EXTENSION IF EXISTS order_engine CASCADE');
SELECT attempt('DROP EXTENSION plpgsql CASCADE');
SELECT attempt('DROP SCHEMA order_engine CASCADE');
SELECT attempt('DROP TABLE order_engine.orders CASCADE');
DO $$ BEGIN
	DROP EXTENSION order_engine;
EXCEPTION WHEN object_in_use THEN
	RAISE WARNING 'refused: %', SQLERRM;
END $$;
BEGIN;
SAVEPOINT before;
DROP EXTENSION order_engine;
ROLLBACK TO before;
SELECT count(*) FROM order_engine.orders;
COMMIT;

-- nor do its tables leave it
SELECT attempt('ALTER EXTENSION order_engine DROP TABLE order_engine.orders');
SELECT attempt('ALTER EXTENSION order_engine DROP SCHEMA order_engine');
BEGIN;
ALTER EXTENSION order_engine DROP FUNCTION order_engine.next_id();
ROLLBACK;

-- what its owner owns
CREATE ROLE regress_drop_owner SUPERUSER;
CREATE ROLE regress_drop_stranger;
UPDATE pg_extension SET extowner = 'regress_drop_owner'::regrole WHERE extname = 'order_engine';
SELECT attempt('DROP OWNED BY regress_drop_owner CASCADE');
BEGIN;
INSERT INTO pg_shdepend SELECT d.oid, 'pg_extension'::regclass, e.oid, 0, 'pg_authid'::regclass, 'regress_drop_owner'::regrole, 'o'
FROM pg_database d, pg_extension e WHERE d.datname = current_database() AND e.extname = 'order_engine';
SELECT attempt('DROP OWNED BY regress_drop_owner CASCADE');
ROLLBACK;
UPDATE pg_extension SET extowner = 10 WHERE extname = 'order_engine';

-- an order of this transaction counts, whatever the isolation level
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM order_engine.orders;
SELECT attempt('DROP EXTENSION order_engine');
ROLLBACK;

-- the tables that hang together are not emptied one by one
SELECT c.relname, attempt(format('TRUNCATE order_engine.%I', c.relname))
FROM pg_class c
WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind = 'r'
	AND c.relname IN ('orders', 'order_line', 'reservation', 'stock', 'stock_movement', 'history', 'machine')
ORDER BY c.relname;
-- an empty one may be truncated, and so may what stands alone
TRUNCATE order_engine.payment, order_engine.idempotency_key;
SELECT * FROM order_engine.verify_orders();
SELECT * FROM order_engine.verify_stock();
-- every table that has an order_id, and every table of stock, is guarded
SELECT a.attrelid::regclass
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'order_engine'::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped
	AND a.attname IN ('order_id', 'reservation_id', 'fulfillment_id', 'payment_id', 'return_id', 'on_hand', 'on_hand_delta')
	AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = a.attrelid AND t.tgname = 'order_engine_truncate');

-- the library knows the types of its columns; further columns are welcome
SELECT attempt('ALTER TABLE order_engine.history ALTER metadata TYPE text');
SELECT attempt('ALTER TABLE order_engine.outbox ADD a integer, ALTER aggregate_seq TYPE text');
SELECT attempt('ALTER TABLE order_engine.history ALTER traceparent TYPE varchar(100)');
SELECT attempt('ALTER TABLE order_engine.idempotency_key ALTER key TYPE text COLLATE "POSIX"');
BEGIN;
ALTER TABLE order_engine.orders ADD remark text, ALTER customer_id SET STATISTICS 10,
	ALTER customer_id SET DEFAULT 'nobody';
ALTER TABLE order_engine.history ALTER metadata TYPE jsonb;
ROLLBACK;
CREATE TABLE public.orders (a integer);
ALTER TABLE public.orders ALTER a TYPE text;
ALTER TABLE IF EXISTS public.no_orders ALTER a TYPE text;
DROP TABLE public.orders;

-- the setting is a superuser's
SET ROLE regress_drop_stranger;
SELECT attempt('SET order_engine.allow_drop = on');
-- and others are not told whether there are orders
SELECT attempt('DROP EXTENSION order_engine');
RESET ROLE;
CREATE TABLE public.bystander (a integer);
CREATE TRIGGER misuse BEFORE INSERT ON public.bystander EXECUTE FUNCTION order_engine.truncate_guard();
SELECT attempt('INSERT INTO public.bystander VALUES (1)');
DROP TABLE public.bystander;
CREATE TABLE public.bystander (a integer) PARTITION BY LIST (a);
CREATE TRIGGER misuse BEFORE TRUNCATE ON public.bystander EXECUTE FUNCTION order_engine.truncate_guard();
SELECT attempt('TRUNCATE public.bystander');
DROP TABLE public.bystander;

SET order_engine.allow_drop = on;
BEGIN;
TRUNCATE order_engine.orders, order_engine.order_line, order_engine.reservation, order_engine.history,
	order_engine.stock_movement, order_engine.stock;
SELECT * FROM order_engine.verify_orders();
SELECT * FROM order_engine.verify_stock();
ROLLBACK;
BEGIN;
ALTER EXTENSION order_engine DROP TABLE order_engine.orders;
SET LOCAL order_engine.allow_drop = off;
SELECT attempt('DROP TABLE order_engine.orders CASCADE');
ROLLBACK;
DROP EXTENSION order_engine;

-- without the extension, a table of that name is like any other
SET order_engine.allow_drop = off;
CREATE SCHEMA order_engine;
CREATE TABLE order_engine.orders AS SELECT 1 AS a;
DROP SCHEMA order_engine CASCADE;
CREATE EXTENSION order_engine;

DROP ROLE regress_drop_owner, regress_drop_stranger;
DROP FUNCTION attempt;
