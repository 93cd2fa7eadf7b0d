/* Views of the delivery. */

CREATE FUNCTION order_engine.worker_counters(
	OUT worker integer, OUT shards integer[], OUT pid integer, OUT started_at timestamptz, OUT in_flight integer, OUT reads bigint,
	OUT attempts bigint, OUT delivered bigint, OUT failed bigint, OUT flushes bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_worker_counters';
COMMENT ON FUNCTION order_engine.worker_counters() IS
'Internal: the counters of this database''s workers in shared memory; no row without preloading.';

CREATE VIEW order_engine.stat_worker AS
SELECT worker, shards, pid, started_at, in_flight, reads, attempts, delivered, failed, flushes
FROM order_engine.worker_counters();
COMMENT ON VIEW order_engine.stat_worker IS
'The workers of this database: one row each, whether it runs or not; none when order_engine is not preloaded.';
COMMENT ON COLUMN order_engine.stat_worker.worker IS 'Number of the worker, from 0 on.';
COMMENT ON COLUMN order_engine.stat_worker.shards IS 'The shards of the outbox that it serves.';
COMMENT ON COLUMN order_engine.stat_worker.pid IS 'Process id; null when it does not run.';
COMMENT ON COLUMN order_engine.stat_worker.started_at IS 'When it was started; the counters begin there.';
COMMENT ON COLUMN order_engine.stat_worker.in_flight IS 'Requests under way.';
COMMENT ON COLUMN order_engine.stat_worker.reads IS 'Transactions that read the outbox.';
COMMENT ON COLUMN order_engine.stat_worker.attempts IS 'Requests finished, well or not.';
COMMENT ON COLUMN order_engine.stat_worker.delivered IS 'Requests answered with 2xx.';
COMMENT ON COLUMN order_engine.stat_worker.failed IS 'Requests that failed.';
COMMENT ON COLUMN order_engine.stat_worker.flushes IS 'Transactions that made results durable.';

CREATE VIEW order_engine.endpoint_status AS
SELECT e.name, e.status, e.event_types,
	coalesce(r.retrying, 0) AS retrying,
	coalesce(r.parked, 0) AS parked,
	(SELECT count(*) FROM order_engine.delivery_dead d WHERE d.endpoint_id = e.endpoint_id) AS dead,
	(SELECT o.created_at
	 FROM order_engine.outbox o
	 WHERE o.txid >= pg_snapshot_xmin(coalesce(p.seen, e.start_snapshot))
		AND NOT pg_visible_in_snapshot(o.txid, coalesce(p.seen, e.start_snapshot))
		AND (p.upto IS NULL OR NOT pg_visible_in_snapshot(o.txid, p.upto) OR (o.txid, o.id) > (p.txid, p.id))
	 ORDER BY o.txid, o.id LIMIT 1) AS behind_since,
	r.next_attempt_at, r.last_error, p.recorded_at
FROM order_engine.endpoint e
LEFT JOIN LATERAL (
	SELECT * FROM (SELECT * FROM order_engine.position_0
				   UNION ALL SELECT * FROM order_engine.position_1) q
	WHERE q.endpoint_id = e.endpoint_id ORDER BY q.n DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (
	SELECT count(next_attempt_at) AS retrying,
		count(*) FILTER (WHERE next_attempt_at IS NULL) AS parked,
		min(next_attempt_at) AS next_attempt_at,
		(array_agg(last_error ORDER BY next_attempt_at) FILTER (WHERE last_error IS NOT NULL))[1] AS last_error
	FROM order_engine.delivery_retry r WHERE r.endpoint_id = e.endpoint_id) r ON true;
COMMENT ON VIEW order_engine.endpoint_status IS 'One row an endpoint: is it up to date, and if not, why.';
COMMENT ON COLUMN order_engine.endpoint_status.name IS 'Name of the endpoint.';
COMMENT ON COLUMN order_engine.endpoint_status.status IS 'active, paused or disabled.';
COMMENT ON COLUMN order_engine.endpoint_status.event_types IS 'Types that it gets.';
COMMENT ON COLUMN order_engine.endpoint_status.retrying IS 'Events that wait for another attempt.';
COMMENT ON COLUMN order_engine.endpoint_status.parked IS 'Events that wait behind one of those.';
COMMENT ON COLUMN order_engine.endpoint_status.dead IS 'Dead letters.';
COMMENT ON COLUMN order_engine.endpoint_status.behind_since IS 'Time of the first event that its position has not passed; null when it has passed all.';
COMMENT ON COLUMN order_engine.endpoint_status.next_attempt_at IS 'When the next retry is due.';
COMMENT ON COLUMN order_engine.endpoint_status.last_error IS 'Error of the retry that is due first.';
COMMENT ON COLUMN order_engine.endpoint_status.recorded_at IS 'When its position was last written; null before the first delivery.';

CREATE VIEW order_engine.dead_letter AS
SELECT e.name AS endpoint, d.id, d.type, d.aggregatetype, d.aggregateid, d.aggregate_seq,
	d.attempts, d.last_error, d.created_at, d.died_at, d.payload, d.headers, d.endpoint_id
FROM order_engine.delivery_dead d JOIN order_engine.endpoint e USING (endpoint_id);
