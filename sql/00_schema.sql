/* order_engine: the install script is made from the numbered parts in sql/ */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION order_engine" to load this file. \quit

CREATE SCHEMA order_engine;
COMMENT ON SCHEMA order_engine IS
'Orders, stock, idempotency keys and the transactional outbox of the extension order_engine. Change its tables only through its functions.';

-- One sequence feeds every bigint id, so that an id names one thing only and a
-- reservation may carry the id of the order that it belongs to.
CREATE SEQUENCE order_engine.id_seq AS bigint MAXVALUE 17592186044415 CACHE 1;
COMMENT ON SEQUENCE order_engine.id_seq IS
'Low 44 bits of every id; the high bits are order_engine.shard_id, so ids are unique over servers.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.id_seq', '');

CREATE FUNCTION order_engine.next_id() RETURNS bigint
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'oe_next_id';
COMMENT ON FUNCTION order_engine.next_id() IS
'The next id: order_engine.shard_id in the bits above 44, the sequence below. Unique over all servers that have different shard ids.';
