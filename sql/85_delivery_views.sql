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

/*
 * Positions tell what is done, in records for sets of shards that may overlap
 * after the number of workers has changed.  While a backlog is worked off beside
 * newer events an endpoint has two for a shard: its ordinary course up to the
 * split, and an express lane beyond.
 */
CREATE VIEW order_engine.endpoint_position AS
WITH record AS MATERIALIZED (
	SELECT DISTINCT ON (endpoint_id, shards, split IS NULL)
		n, endpoint_id, shards, split, seen, upto, txid, id, done, recorded_at
	FROM (SELECT * FROM order_engine.position_0
		  UNION ALL SELECT * FROM order_engine.position_1) p
	WHERE replay_id IS NULL
	ORDER BY endpoint_id, shards, split IS NULL, n DESC
), course AS (
	SELECT endpoint_id, n, express, bit_or(1 << shard) AS shards
	FROM (SELECT e.endpoint_id, s.shard,
			max(r.n) FILTER (WHERE r.split IS NULL) AS n,
			max(r.n) FILTER (WHERE r.split IS NOT NULL) AS express
		  FROM order_engine.endpoint e CROSS JOIN generate_series(0, 15) AS s (shard)
		  LEFT JOIN record r ON r.endpoint_id = e.endpoint_id AND r.shards >> s.shard & 1 = 1
		  GROUP BY e.endpoint_id, s.shard) AS newest
	GROUP BY endpoint_id, n, express
), lane AS (
	SELECT c.endpoint_id, c.shards, coalesce(r.seen, e.start_snapshot) AS seen, r.upto, r.txid, r.id, r.done,
		r.recorded_at, x.n AS express
	FROM course c JOIN order_engine.endpoint e ON e.endpoint_id = c.endpoint_id
	LEFT JOIN record r ON r.endpoint_id = c.endpoint_id AND r.n = c.n
	-- a record without a place says that the express lane has ended
	LEFT JOIN record x ON x.endpoint_id = c.endpoint_id AND x.n = c.express AND x.seen IS NOT NULL
)
SELECT l.endpoint_id, l.shards, l.seen, l.upto, l.txid, l.id, l.done, x.split AS before, l.recorded_at
FROM lane l LEFT JOIN record x ON x.endpoint_id = l.endpoint_id AND x.n = l.express
UNION ALL
SELECT l.endpoint_id, l.shards, x.seen, x.upto, x.txid, x.id, x.done, NULL, x.recorded_at
FROM lane l JOIN record x ON x.endpoint_id = l.endpoint_id AND x.n = l.express;
COMMENT ON VIEW order_engine.endpoint_position IS
'Internal: how far each endpoint is in the outbox, a row for each set of shards; all its rows together cover all shards; what left_by_express() gives is to be done beside. An event of these shards is yet to be done unless seen sees its transaction, or upto does and it is not beyond (txid, id), or it is in done.';
COMMENT ON COLUMN order_engine.endpoint_position.endpoint_id IS 'The endpoint.';
COMMENT ON COLUMN order_engine.endpoint_position.shards IS 'The shards of the outbox, one bit each.';
COMMENT ON COLUMN order_engine.endpoint_position.seen IS 'Events of transactions that this snapshot sees are done.';
COMMENT ON COLUMN order_engine.endpoint_position.upto IS 'Within the events that this snapshot sees and seen does not, those up to (txid, id) are done; may be null.';
COMMENT ON COLUMN order_engine.endpoint_position.txid IS 'See upto.';
COMMENT ON COLUMN order_engine.endpoint_position.id IS 'See upto.';
COMMENT ON COLUMN order_engine.endpoint_position.done IS 'Events beyond that place that are done as well; may be null.';
COMMENT ON COLUMN order_engine.endpoint_position.before IS 'The row speaks only of events that this snapshot sees, another one of the others; null: of all.';
COMMENT ON COLUMN order_engine.endpoint_position.recorded_at IS 'When the position was written; null: the endpoint is at its start.';

/*
 * seen may be held back by an old transaction, and then sees nearly all that
 * comes after it: so the log is read from its xmax on, and the transactions that
 * were running are looked up one by one, as the worker does it.
 */
CREATE FUNCTION order_engine.position_backlog(place order_engine.endpoint_position, most bigint,
	OUT events bigint, OUT oldest_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e order_engine.endpoint;
	end_txid xid8 := coalesce(pg_snapshot_xmax(place.before), '18446744073709551615');
	place_txid xid8 := coalesce(place.txid, '0');
	place_id uuid := coalesce(place.id, '00000000-0000-0000-0000-000000000000');
	-- one bound, because an index scan would begin at the lower one of two
	first_txid xid8 := greatest(pg_snapshot_xmax(place.seen), place_txid);
	first_id uuid := CASE WHEN first_txid = place_txid THEN place_id ELSE '00000000-0000-0000-0000-000000000000' END;
	running xid8[] := ARRAY(SELECT pg_snapshot_xip(place.seen) UNION SELECT pg_snapshot_xip(place.upto));
BEGIN
	SELECT * INTO e FROM order_engine.endpoint t WHERE t.endpoint_id = place.endpoint_id;
	SELECT count(*), min(created_at) INTO events, oldest_at
	FROM (
		(SELECT o.created_at, o.aggregatetype, o.aggregateid, o.type
		 FROM order_engine.outbox o
		 WHERE (o.txid, o.id) > (first_txid, first_id) AND o.txid < end_txid
			AND place.shards >> o.shard & 1 = 1
			AND (place.before IS NULL OR pg_visible_in_snapshot(o.txid, place.before))
			AND (place.done IS NULL OR o.id <> ALL (place.done))
		 ORDER BY o.txid, o.id LIMIT most)
		UNION ALL
		(SELECT o.created_at, o.aggregatetype, o.aggregateid, o.type
		 FROM order_engine.outbox o
		 WHERE o.txid = ANY (running)
			AND (o.txid, o.id) <= (first_txid, first_id)
			AND (place.upto IS NULL OR NOT pg_visible_in_snapshot(o.txid, place.upto)
				 OR (o.txid, o.id) > (place_txid, place_id))
			AND place.shards >> o.shard & 1 = 1
			AND (place.before IS NULL OR pg_visible_in_snapshot(o.txid, place.before))
			AND (place.done IS NULL OR o.id <> ALL (place.done))
		 LIMIT most)
	) AS o
	WHERE order_engine.endpoint_gets(e.name, e.event_types, o.aggregatetype, o.aggregateid, o.type);
END
$$;
COMMENT ON FUNCTION order_engine.position_backlog(order_engine.endpoint_position, bigint) IS
'Internal: how many events for its endpoint a position has not passed, and the time of the oldest. Looks at so many events of the log at most, of whatever type; null: at all.';

CREATE FUNCTION order_engine.left_by_express(endpoint_id integer) RETURNS TABLE (id uuid, created_at timestamptz)
LANGUAGE sql STABLE STRICT SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, pg_temp
SET enable_nestloop = off SET jit = off
AS $$
	WITH place AS MATERIALIZED (
		SELECT * FROM order_engine.position_current p WHERE p.endpoint_id = left_by_express.endpoint_id
	)
	SELECT o.id, o.created_at
	FROM order_engine.endpoint e
	CROSS JOIN order_engine.outbox o
	JOIN place x ON x.shard = o.shard AND x.split IS NOT NULL AND x.by_birth
	LEFT JOIN place m ON m.shard = o.shard AND m.split IS NULL
	LEFT JOIN order_engine.express_aggregates(left_by_express.endpoint_id) AS b
		ON b.aggregatetype = o.aggregatetype AND b.aggregateid = o.aggregateid
	WHERE e.endpoint_id = left_by_express.endpoint_id
		AND order_engine.endpoint_gets(e.name, e.event_types, o.aggregatetype, o.aggregateid, o.type)
		AND b.aggregateid IS NULL AND NOT pg_visible_in_snapshot(o.txid, x.split)
		AND (pg_visible_in_snapshot(o.txid, x.seen)
			OR x.upto IS NOT NULL AND pg_visible_in_snapshot(o.txid, x.upto) AND (o.txid, o.id) <= (x.txid, x.id))
		AND (pg_visible_in_snapshot(o.txid, m.seen)
			OR m.upto IS NOT NULL AND pg_visible_in_snapshot(o.txid, m.upto) AND (o.txid, o.id) <= (m.txid, m.id)
			OR o.id = ANY (m.done)) IS NOT TRUE
$$;
COMMENT ON FUNCTION order_engine.left_by_express(integer) IS
'Internal: the events for an endpoint that its express lane has passed and left to the main lane, which has not passed them.';

CREATE FUNCTION order_engine.undelivered(name text) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH e AS MATERIALIZED (SELECT order_engine.endpoint_id($1) AS endpoint_id)
	SELECT (SELECT coalesce(sum(b.events), 0)
			FROM order_engine.endpoint_position p JOIN e USING (endpoint_id), order_engine.position_backlog(p, NULL) AS b)::bigint
		+ (SELECT count(*) FROM e, order_engine.left_by_express(e.endpoint_id))
		+ (SELECT count(*) FROM order_engine.delivery_retry r JOIN e USING (endpoint_id))
$$;
COMMENT ON FUNCTION order_engine.undelivered(text) IS
'Exactly how many events an endpoint is yet to get: those that its position has not passed, and those that wait for another attempt or behind such a one. Dead letters and replays are not among them. Reads all that; endpoint_status tells enough at less cost. Error: OE005.';

CREATE FUNCTION order_engine.has_worker() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM pg_stat_activity
				   WHERE backend_type = 'order_engine worker' AND datname = current_database())
$$;
COMMENT ON FUNCTION order_engine.has_worker() IS
'Internal: whether a worker of this database runs, also one that start_worker() started without preloading.';

CREATE VIEW order_engine.endpoint_status AS
WITH course AS MATERIALIZED (
	-- each position gets its part of the 10,000, so that all together look at no more
	SELECT p.endpoint_id, sum(b.events)::bigint AS events, min(b.oldest_at) AS oldest_at, bool_or(p.before IS NOT NULL) AS is_split
	FROM order_engine.endpoint_position p,
		order_engine.position_backlog(p, 10000 * bit_count(p.shards::bit(16)) / 16) AS b
	GROUP BY p.endpoint_id
), lag AS MATERIALIZED (
	-- near the end of a backlog: what waits for that behind the split
	SELECT c.endpoint_id, c.events + count(o.id) AS events, least(c.oldest_at, min(o.created_at)) AS oldest_at
	FROM course c
	LEFT JOIN LATERAL order_engine.left_by_express(CASE WHEN c.is_split AND c.events < 10000 THEN c.endpoint_id END) AS o ON true
	GROUP BY c.endpoint_id, c.events, c.oldest_at
), record AS MATERIALIZED (
	SELECT DISTINCT ON (endpoint_id) *
	FROM (SELECT * FROM order_engine.position_0
		  UNION ALL SELECT * FROM order_engine.position_1) p
	ORDER BY endpoint_id, n DESC
), retry AS MATERIALIZED (
	SELECT endpoint_id, count(next_attempt_at) AS retrying, count(*) - count(next_attempt_at) AS parked,
		min(next_attempt_at) AS next_attempt_at, min(order_engine.uuid_time(id)) AS oldest_at,
		(array_agg(last_error ORDER BY next_attempt_at) FILTER (WHERE next_attempt_at IS NOT NULL))[1] AS last_error
	FROM order_engine.delivery_retry GROUP BY endpoint_id
), fact AS (
	SELECT e.name, e.status, e.status_since, e.status_reason, e.after_dead,
		e.owner <> order_engine.database_identity() AS is_foreign,
		NOT EXISTS (SELECT FROM order_engine.endpoint_secret s
					WHERE s.endpoint_id = e.endpoint_id AND s.kind = 'signing'
						AND (s.expires_at IS NULL OR s.expires_at > now())) AS lacks_secret,
		CASE WHEN h.endpoint_id IS NOT NULL THEN h.breaker
			 WHEN p.open_until > now() THEN 'open'
			 WHEN p.breaker_opens > 0 THEN 'half_open'
			 ELSE 'closed' END AS breaker,
		coalesce(h.in_flight, 0) AS in_flight,
		coalesce(l.events, 0) AS lag_events,
		CASE WHEN l.events > 0 THEN greatest(now() - l.oldest_at, interval '0') END AS lag,
		l.oldest_at,
		least(l.oldest_at, r.oldest_at) AS oldest_undelivered_at,
		coalesce(r.retrying, 0) AS retrying,
		coalesce(r.parked, 0) AS parked,
		coalesce(d.dead, 0) AS dead,
		coalesce(y.replaying, 0) AS replaying,
		r.next_attempt_at AS next_retry_at,
		nullif(greatest(CASE WHEN h.endpoint_id IS NOT NULL THEN h.open_until ELSE p.open_until END, now()), now()) AS open_until,
		nullif(greatest(CASE WHEN h.endpoint_id IS NOT NULL THEN h.paused_until ELSE p.paused_until END, now()), now()) AS paused_until,
		CASE WHEN h.endpoint_id IS NOT NULL THEN h.last_success_at ELSE p.last_success_at END AS last_success_at,
		CASE WHEN h.endpoint_id IS NOT NULL THEN h.last_error_at ELSE p.last_error_at END AS last_error_at,
		coalesce(CASE WHEN h.endpoint_id IS NOT NULL THEN h.last_error ELSE p.last_error END, r.last_error) AS last_error,
		CASE WHEN h.endpoint_id IS NOT NULL THEN h.failing_since ELSE p.failing_since END AS failing_since,
		CASE WHEN h.endpoint_id IS NOT NULL THEN h.failures ELSE coalesce(p.failures, 0) END AS failures,
		h.attempts, h.delivered, h.failed,
		coalesce(g.gaps, 0) AS gaps,
		p.recorded_at
	FROM order_engine.endpoint e
	LEFT JOIN order_engine.endpoint_health() AS h ON h.endpoint_id = e.endpoint_id
	LEFT JOIN record p ON p.endpoint_id = e.endpoint_id
	LEFT JOIN lag l ON l.endpoint_id = e.endpoint_id
	LEFT JOIN retry r ON r.endpoint_id = e.endpoint_id
	LEFT JOIN (SELECT endpoint_id, count(*) AS dead FROM order_engine.delivery_dead GROUP BY 1) AS d ON d.endpoint_id = e.endpoint_id
	LEFT JOIN (SELECT endpoint_id, sum(events)::bigint AS replaying FROM order_engine.replay GROUP BY 1) AS y ON y.endpoint_id = e.endpoint_id
	LEFT JOIN (SELECT endpoint_id, sum(events)::bigint AS gaps FROM order_engine.delivery_gap GROUP BY 1) AS g ON g.endpoint_id = e.endpoint_id
), judged AS (
	SELECT *,
		CASE WHEN pg_is_in_recovery() THEN 'standby'
			 WHEN is_foreign THEN 'foreign'
			 WHEN status <> 'active' THEN status
			 WHEN lacks_secret THEN 'no_secret'
			 WHEN NOT (SELECT order_engine.has_worker()) THEN 'no_worker'
			 WHEN paused_until IS NOT NULL THEN 'paused_by_endpoint'
			 WHEN breaker = 'open' THEN 'waiting'
			 WHEN in_flight > 0 THEN 'delivering'
			 WHEN lag_events > 0 THEN 'behind'
			 ELSE 'idle' END AS state
	FROM fact
)
SELECT name, status, status_since, status_reason, state,
	CASE WHEN state IN ('paused', 'disabled') THEN status_since
		 WHEN state IN ('waiting', 'paused_by_endpoint') THEN coalesce(failing_since, last_error_at)
		 WHEN state = 'idle' THEN last_success_at
		 ELSE oldest_at END AS since,
	breaker, in_flight, lag_events, lag, oldest_undelivered_at, retrying, parked, dead, replaying,
	coalesce(greatest(open_until, paused_until), next_retry_at) AS next_attempt_at,
	last_success_at, last_error_at, last_error, failing_since, failures, attempts, delivered, failed, gaps, recorded_at,
	CASE
		WHEN state = 'standby' THEN
			'This server is a standby: its primary sends. If it is promoted, it goes on from there by itself.'
		WHEN state = 'foreign' THEN
			'It belongs to the database that this one is a copy of, and gets nothing from here. If it shall, call adopt_database().'
		WHEN state = 'disabled' THEN
			format('Disabled since %s%s. Its events wait. When the cause is removed, call resume_endpoint().',
				   status_since, ': ' || status_reason)
		WHEN state = 'paused' THEN
			format('Paused since %s. Its events wait until resume_endpoint().', status_since)
		WHEN state = 'no_secret' THEN
			'It has no signing secret, as after a restore, because a dump has none, and gets nothing. Make one with rotate_secret() and configure the receiver with it.'
		WHEN state = 'no_worker' THEN
			'No worker runs for this database, so nothing is sent. See order_engine.databases, max_worker_processes and the server log.'
		WHEN state = 'waiting' THEN
			format('It has failed since %s%s. The next attempt is made %s; nothing is lost and no attempt is used up. Look at the receiver; to try at once, call resume_endpoint().',
				   coalesce(failing_since, last_error_at), ': ' || last_error, coalesce('at ' || open_until, 'soon'))
		WHEN state = 'paused_by_endpoint' THEN
			format('It asked to be left alone until %s. Nothing is lost. If that happens often, set a rate with alter_endpoint().', paused_until)
		WHEN after_dead = 'block' AND dead > 0 THEN
			format('Dead letters that hold up the events behind them: %s. See dead_letter; then redrive() or discard_dead_letters().', dead)
		WHEN failing_since < now() - interval '1 minute' THEN
			format('It has taken nothing since %s: %s. Look at the receiver.', failing_since, last_error)
		WHEN lag > interval '1 minute' THEN
			format('Its oldest event has waited since %s. The receiver is slow, or max_in_flight, rate or ordering hold it back: see alter_endpoint(); or order_engine.workers and order_engine.max_in_flight are too low.', oldest_at)
		WHEN retrying > 0 THEN
			format('Events that it did not take and that are tried again: %s, next at %s; waiting behind them: %s. See delivery_retry for why.',
				   retrying, next_retry_at, parked)
		WHEN dead > 0 THEN
			format('Events that were given up: %s. See dead_letter; then redrive() or discard_dead_letters().', dead)
	END AS advice
FROM judged;
COMMENT ON VIEW order_engine.endpoint_status IS 'One row an endpoint: is it up to date, and if not, why, since when and what to do.';
COMMENT ON COLUMN order_engine.endpoint_status.name IS 'Name of the endpoint.';
COMMENT ON COLUMN order_engine.endpoint_status.status IS 'active, paused (by an operator) or disabled (by the worker).';
COMMENT ON COLUMN order_engine.endpoint_status.status_since IS 'When the status last changed, or the endpoint was resumed.';
COMMENT ON COLUMN order_engine.endpoint_status.status_reason IS 'Why the worker disabled it; else null.';
COMMENT ON COLUMN order_engine.endpoint_status.state IS 'What it is doing now: delivering (requests are under way), idle (nothing to send now), behind (there is something, but nothing is under way), waiting (the circuit breaker is open), paused_by_endpoint (it asked for a pause), paused, disabled, no_secret, no_worker (none runs for this database), foreign (this database is a copy and was not adopted), standby (this server is one; its primary sends).';
COMMENT ON COLUMN order_engine.endpoint_status.since IS 'Since when, as far as it is known: of paused and disabled the change of the status, of waiting and paused_by_endpoint the first failure, of idle the last success, else the time of the oldest event that its position has not passed.';
COMMENT ON COLUMN order_engine.endpoint_status.breaker IS 'Circuit breaker: closed, open (nothing is sent) or half_open (one probe at a time).';
COMMENT ON COLUMN order_engine.endpoint_status.in_flight IS 'Requests under way.';
COMMENT ON COLUMN order_engine.endpoint_status.lag_events IS 'Events that it is to get among the first 10,000 in the log, of whatever type, that its position has not passed: exact below that, see undelivered(). Those in flight are counted.';
COMMENT ON COLUMN order_engine.endpoint_status.lag IS 'Age of the oldest of these; null: none.';
COMMENT ON COLUMN order_engine.endpoint_status.oldest_undelivered_at IS 'Time of the oldest event that it did not take: of these, or of those that are retried or parked; null: none.';
COMMENT ON COLUMN order_engine.endpoint_status.retrying IS 'Events that wait for another attempt.';
COMMENT ON COLUMN order_engine.endpoint_status.parked IS 'Events that wait behind one of those.';
COMMENT ON COLUMN order_engine.endpoint_status.dead IS 'Dead letters.';
COMMENT ON COLUMN order_engine.endpoint_status.replaying IS 'Events of replays and redrives that are not finished; a replay counts in full until it is.';
COMMENT ON COLUMN order_engine.endpoint_status.next_attempt_at IS 'When an open circuit breaker or a pause lets the next request through; with neither, when the next retry is due; null: nothing is waited for.';
COMMENT ON COLUMN order_engine.endpoint_status.last_success_at IS 'When it last took an event.';
COMMENT ON COLUMN order_engine.endpoint_status.last_error_at IS 'When an attempt last failed.';
COMMENT ON COLUMN order_engine.endpoint_status.last_error IS 'Why; when nothing is recorded, why the event failed whose retry is due first.';
COMMENT ON COLUMN order_engine.endpoint_status.failing_since IS 'The first failure since the last success; null: none.';
COMMENT ON COLUMN order_engine.endpoint_status.failures IS 'Failed attempts since the last success.';
COMMENT ON COLUMN order_engine.endpoint_status.attempts IS 'Requests finished since the workers started; null when none runs.';
COMMENT ON COLUMN order_engine.endpoint_status.delivered IS 'Of these, those that were answered with 2xx.';
COMMENT ON COLUMN order_engine.endpoint_status.failed IS 'Of these, those that failed.';
COMMENT ON COLUMN order_engine.endpoint_status.gaps IS 'Events that it missed because it held the outbox longer than order_engine.max_retention, see delivery_gap.';
COMMENT ON COLUMN order_engine.endpoint_status.recorded_at IS 'When a position of it was last written; null before the first delivery.';
COMMENT ON COLUMN order_engine.endpoint_status.advice IS 'What is stuck, since when, why, and what to do; null when all is well.';

CREATE VIEW order_engine.endpoint_settings AS
SELECT e.name,
	regexp_replace(e.url, '[?].*', '?...') AS url,
	e.event_types,
	e.format,
	e.ordering,
	e.guarantee,
	ARRAY(SELECT jsonb_object_keys(e.headers)) AS header_names,
	e.max_in_flight,
	e.rate,
	e.burst,
	e.max_batch,
	e.max_batch_delay,
	e.connect_timeout,
	e.timeout,
	e.retry_schedule,
	e.max_age,
	e.after_dead,
	e.policy,
	e.client_certificate IS NOT NULL AS client_certificate,
	(SELECT count(*) FROM order_engine.endpoint_secret s WHERE s.endpoint_id = e.endpoint_id AND s.kind = 'signing'
		AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())) AS secrets,
	e.created_at,
	e.updated_at
FROM order_engine.endpoint e;
COMMENT ON VIEW order_engine.endpoint_settings IS 'The settings of each endpoint, without what may be a credential.';
COMMENT ON COLUMN order_engine.endpoint_settings.name IS 'Name of the endpoint.';
COMMENT ON COLUMN order_engine.endpoint_settings.url IS 'Where events are posted to, without what follows a question mark, which may be a token.';
COMMENT ON COLUMN order_engine.endpoint_settings.event_types IS 'Types that it gets; * stands for any run of characters.';
COMMENT ON COLUMN order_engine.endpoint_settings.format IS 'Form of the request: webhook, cloudevents, cloudevents_binary or cloudevents_batch.';
COMMENT ON COLUMN order_engine.endpoint_settings.ordering IS 'aggregate or none.';
COMMENT ON COLUMN order_engine.endpoint_settings.guarantee IS 'at_least_once or best_effort.';
COMMENT ON COLUMN order_engine.endpoint_settings.header_names IS 'Names of the extra HTTP headers; their values may be credentials.';
COMMENT ON COLUMN order_engine.endpoint_settings.max_in_flight IS 'How many requests may be under way at once.';
COMMENT ON COLUMN order_engine.endpoint_settings.rate IS 'Requests a second at most; null: no limit.';
COMMENT ON COLUMN order_engine.endpoint_settings.burst IS 'Requests that may follow each other at once; null: what a second of the rate allows.';
COMMENT ON COLUMN order_engine.endpoint_settings.max_batch IS 'Events in one request at most.';
COMMENT ON COLUMN order_engine.endpoint_settings.max_batch_delay IS 'How long an event may wait for others to fill a request.';
COMMENT ON COLUMN order_engine.endpoint_settings.connect_timeout IS 'Limit for a connection to be made.';
COMMENT ON COLUMN order_engine.endpoint_settings.timeout IS 'Limit for a whole attempt.';
COMMENT ON COLUMN order_engine.endpoint_settings.retry_schedule IS 'Waits between attempts.';
COMMENT ON COLUMN order_engine.endpoint_settings.max_age IS 'No attempt is made later than this after the first one.';
COMMENT ON COLUMN order_engine.endpoint_settings.after_dead IS 'continue or block.';
COMMENT ON COLUMN order_engine.endpoint_settings.policy IS 'Settings of pause, circuit breaker and auto-disable that differ from the defaults.';
COMMENT ON COLUMN order_engine.endpoint_settings.client_certificate IS 'Whether the worker shows it a certificate.';
COMMENT ON COLUMN order_engine.endpoint_settings.secrets IS 'Signing secrets that are valid now: more than one while a secret is being replaced.';
COMMENT ON COLUMN order_engine.endpoint_settings.created_at IS 'When it was created.';
COMMENT ON COLUMN order_engine.endpoint_settings.updated_at IS 'When it was last altered.';

CREATE VIEW order_engine.dead_letter AS
SELECT e.name AS endpoint, d.id, d.type, d.aggregatetype, d.aggregateid, d.aggregate_seq,
	d.attempts, d.last_error, d.created_at, d.died_at, d.payload, d.headers, d.endpoint_id
FROM order_engine.delivery_dead d JOIN order_engine.endpoint e USING (endpoint_id);
COMMENT ON VIEW order_engine.dead_letter IS
'Events that an endpoint did not take within its retry schedule. They stay until they are delivered by redrive() or replay(), or deleted by discard_dead_letters().';
COMMENT ON COLUMN order_engine.dead_letter.endpoint IS 'Name of the endpoint.';
COMMENT ON COLUMN order_engine.dead_letter.id IS 'The event.';
COMMENT ON COLUMN order_engine.dead_letter.type IS 'Type of the event.';
COMMENT ON COLUMN order_engine.dead_letter.aggregatetype IS 'Kind of its aggregate.';
COMMENT ON COLUMN order_engine.dead_letter.aggregateid IS 'Id of its aggregate.';
COMMENT ON COLUMN order_engine.dead_letter.aggregate_seq IS 'Its place in the sequence of the aggregate; null for events of emit().';
COMMENT ON COLUMN order_engine.dead_letter.attempts IS 'Attempts made.';
COMMENT ON COLUMN order_engine.dead_letter.last_error IS 'What went wrong last.';
COMMENT ON COLUMN order_engine.dead_letter.created_at IS 'Time of the event.';
COMMENT ON COLUMN order_engine.dead_letter.died_at IS 'When it was given up.';
COMMENT ON COLUMN order_engine.dead_letter.payload IS 'Data of the event.';
COMMENT ON COLUMN order_engine.dead_letter.headers IS 'Context of the event.';
COMMENT ON COLUMN order_engine.dead_letter.endpoint_id IS 'Internal id of the endpoint.';
