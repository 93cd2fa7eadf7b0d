/*
 * The outbox: an append-only log in a fixed ring of leaves.  Column names
 * follow Debezium's outbox router.
 */

CREATE TABLE order_engine.outbox (
	txid			xid8		NOT NULL,
	after_txid		xid8,
	created_at		timestamptz	NOT NULL,
	aggregate_seq	bigint,
	leaf			smallint	NOT NULL,
	shard			smallint	NOT NULL,
	id				uuid		NOT NULL,
	aggregatetype	text		NOT NULL,
	aggregateid		text		NOT NULL,
	type			text		NOT NULL,
	payload			jsonb		NOT NULL,
	headers			jsonb
) PARTITION BY LIST (leaf);
COMMENT ON TABLE order_engine.outbox IS
'Every event, written in the transaction that caused it. Rows are never updated or deleted one by one.';
COMMENT ON COLUMN order_engine.outbox.txid IS 'Top-level transaction of the writer, as pg_current_xact_id() gives it.';
COMMENT ON COLUMN order_engine.outbox.after_txid IS 'Transaction of the aggregate''s previous event, only where that is higher than txid (it began later and committed earlier); else null. The same as txid: written in a copy before adopt_database().';
COMMENT ON COLUMN order_engine.outbox.created_at IS 'Time of the event.';
COMMENT ON COLUMN order_engine.outbox.aggregate_seq IS 'Place in the sequence of the aggregate, gapless from 1; null for events of emit().';
COMMENT ON COLUMN order_engine.outbox.leaf IS 'Slot of the ring that holds the row.';
COMMENT ON COLUMN order_engine.outbox.shard IS 'Hash of the aggregate, 0 to 15: what of one aggregate is delivered by one worker.';
COMMENT ON COLUMN order_engine.outbox.id IS 'Id of the event (UUID version 7); receivers see it as webhook-id: evt_ and the 32 hex digits.';
COMMENT ON COLUMN order_engine.outbox.aggregatetype IS 'Kind of the aggregate: order, or what the application chose.';
COMMENT ON COLUMN order_engine.outbox.aggregateid IS 'Id of the aggregate within its kind.';
COMMENT ON COLUMN order_engine.outbox.type IS 'Type of the event, such as order.placed.';
COMMENT ON COLUMN order_engine.outbox.payload IS 'Data of the event.';
COMMENT ON COLUMN order_engine.outbox.headers IS 'Context: actor, tenant, correlation_id, traceparent, and what emit() was given.';

CREATE TABLE order_engine.outbox_0 PARTITION OF order_engine.outbox FOR VALUES IN (0);
CREATE TABLE order_engine.outbox_1 PARTITION OF order_engine.outbox FOR VALUES IN (1);
CREATE TABLE order_engine.outbox_2 PARTITION OF order_engine.outbox FOR VALUES IN (2);
CREATE TABLE order_engine.outbox_3 PARTITION OF order_engine.outbox FOR VALUES IN (3);
CREATE TABLE order_engine.outbox_4 PARTITION OF order_engine.outbox FOR VALUES IN (4);
CREATE TABLE order_engine.outbox_5 PARTITION OF order_engine.outbox FOR VALUES IN (5);
CREATE TABLE order_engine.outbox_6 PARTITION OF order_engine.outbox FOR VALUES IN (6);
CREATE TABLE order_engine.outbox_7 PARTITION OF order_engine.outbox FOR VALUES IN (7);
CREATE INDEX outbox_txid_idx ON order_engine.outbox (txid, id);
CREATE INDEX outbox_id_idx ON order_engine.outbox (id);
COMMENT ON TABLE order_engine.outbox_0 IS 'Leaf 0 of the outbox.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_0', '');
COMMENT ON TABLE order_engine.outbox_1 IS 'Leaf 1 of the outbox.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_1', '');
COMMENT ON TABLE order_engine.outbox_2 IS 'Leaf 2 of the outbox.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_2', '');
COMMENT ON TABLE order_engine.outbox_3 IS 'Leaf 3 of the outbox.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_3', '');
COMMENT ON TABLE order_engine.outbox_4 IS 'Leaf 4 of the outbox.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_4', '');
COMMENT ON TABLE order_engine.outbox_5 IS 'Leaf 5 of the outbox.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_5', '');
COMMENT ON TABLE order_engine.outbox_6 IS 'Leaf 6 of the outbox.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_6', '');
COMMENT ON TABLE order_engine.outbox_7 IS 'Leaf 7 of the outbox.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_7', '');

/*
 * The leaf that writers append to.  Backends cache it until the relation is
 * invalidated.  Neither this nor outbox_leaf is part of a dump: a worker may be at
 * work where the dump is restored, write rows of its own, and COPY would fail or
 * bring a second one.  Leaves that a restore fills are closed anew.
 */
CREATE TABLE order_engine.outbox_ring (
	current_leaf	smallint	NOT NULL,
	switched_at		timestamptz	NOT NULL
);
COMMENT ON TABLE order_engine.outbox_ring IS 'Where the ring of the outbox stands; empty until it is first turned, which means leaf 0.';
COMMENT ON COLUMN order_engine.outbox_ring.current_leaf IS 'The leaf that new events go to.';
COMMENT ON COLUMN order_engine.outbox_ring.switched_at IS 'Since when.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_ring', 'WHERE false');

-- The leaves that nobody writes to any more.  One that is neither here nor current and has rows is being closed.
CREATE TABLE order_engine.outbox_leaf (
	leaf			smallint	PRIMARY KEY,
	closed_at		timestamptz	NOT NULL,
	writers			pg_snapshot	NOT NULL
);
COMMENT ON TABLE order_engine.outbox_leaf IS 'Leaves of the outbox that are closed and not truncated yet. See the view outbox_ring_status.';
COMMENT ON COLUMN order_engine.outbox_leaf.leaf IS 'Number of the leaf.';
COMMENT ON COLUMN order_engine.outbox_leaf.closed_at IS 'When the last transaction that wrote to it was seen to have ended.';
COMMENT ON COLUMN order_engine.outbox_leaf.writers IS 'A snapshot of that moment: it sees every transaction that wrote to the leaf.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.outbox_leaf', 'WHERE false');

-- Runs as the caller: it asks nothing of the catalog by name, runs no query and looks at no
-- grant, and to change the role and search_path would be a tenth of its cost.
CREATE FUNCTION order_engine.emit(
	aggregatetype text,
	aggregateid text,
	type text,
	payload jsonb,
	headers jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'oe_emit';
COMMENT ON FUNCTION order_engine.emit(text, text, text, jsonb, jsonb, text) IS
'Appends an event of the application to the outbox, in the caller''s transaction; returns its id. Works without an order. A repeated call with the same idempotency_key returns the first one''s id and appends nothing. Errors: 22004 for a null, 22023 for a name that is empty, too long or not printable, for a payload of more than 1 MiB or headers of more than 64 KiB as text, and for a number of more than 1,000 digits; OE101 and OE102 for the key, 40001 and 55P03 for concurrent calls with the same key.';
