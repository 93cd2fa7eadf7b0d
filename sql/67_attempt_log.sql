/* The attempt log, see the tables delivery_attempt_0 to 3. */

CREATE VIEW order_engine.delivery_attempt AS
SELECT a.attempted_at, e.name AS endpoint, a.id, a.attempt, a.outcome, a.status, a.duration_ms, a.error, a.response,
	a.events, a.worker, a.endpoint_id
FROM (
	SELECT * FROM order_engine.delivery_attempt_0
	UNION ALL SELECT * FROM order_engine.delivery_attempt_1
	UNION ALL SELECT * FROM order_engine.delivery_attempt_2
	UNION ALL SELECT * FROM order_engine.delivery_attempt_3) a
LEFT JOIN order_engine.endpoint e USING (endpoint_id);
COMMENT ON VIEW order_engine.delivery_attempt IS
'Attempts to deliver events, as order_engine.attempt_log asks for, kept for order_engine.attempt_retention; ORDER BY attempted_at.';
COMMENT ON COLUMN order_engine.delivery_attempt.attempted_at IS 'When the answer, or its absence, was noted.';
COMMENT ON COLUMN order_engine.delivery_attempt.endpoint IS 'Name of the endpoint; null when it was dropped since.';
COMMENT ON COLUMN order_engine.delivery_attempt.id IS 'The event.';
COMMENT ON COLUMN order_engine.delivery_attempt.attempt IS 'Number of the attempt of this event at this endpoint, from 1.';
COMMENT ON COLUMN order_engine.delivery_attempt.outcome IS 'delivered, failed, paused or gave_up.';
COMMENT ON COLUMN order_engine.delivery_attempt.status IS 'HTTP status; null when none came.';
COMMENT ON COLUMN order_engine.delivery_attempt.duration_ms IS 'How long the request took.';
COMMENT ON COLUMN order_engine.delivery_attempt.error IS 'What went wrong; null for a delivery.';
COMMENT ON COLUMN order_engine.delivery_attempt.response IS 'The first 2 KiB of the answer''s body, unprintable bytes replaced; null for a delivery.';
COMMENT ON COLUMN order_engine.delivery_attempt.events IS 'Events in the same request.';
COMMENT ON COLUMN order_engine.delivery_attempt.worker IS 'Number of the worker, from 0.';
COMMENT ON COLUMN order_engine.delivery_attempt.endpoint_id IS 'Internal id of the endpoint.';
