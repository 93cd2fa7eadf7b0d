--
-- Endpoints: what is refused, and what is kept.
--
\set SHOW_CONTEXT never

\getenv srcdir PG_ABS_SRCDIR
\set begin :srcdir '/lib/begin.sql'
\i :begin

-- URLs; a reason with a capital letter is libcurl's, and its versions differ
SELECT regexp_replace(attempt(format('SELECT order_engine.create_endpoint(%L, %L)', 'bad', url)),
	'used: [A-Z][^|]*', 'used: CURL ') AS outcome
FROM unnest(ARRAY[
	'not a url', '', 'ftp://example.com/x', 'https://', 'https://user:secret@example.com/',
	'http://example.com/plain', E'https://example.com/a\nb', 'https://example.com/#fragment',
	'file:///etc/passwd', '//example.com/x', 'https://exa mple.com/']) AS url;
SELECT attempt(format('SELECT order_engine.create_endpoint(%L, %L)', 'bad', 'https://example.com/' || repeat('x', 3000)));
SELECT attempt('SELECT order_engine.create_endpoint(NULL, ''https://example.com/'')');
SELECT attempt('SELECT order_engine.create_endpoint(''bad'', NULL)');

-- the other settings
SELECT attempt(format('SELECT order_engine.create_endpoint(''bad'', ''https://example.com/'', %s)', setting)) AS outcome
FROM unnest(ARRAY[
	$$event_types => '{}'$$, $$event_types => '{order placed}'$$, $$event_types => '{NULL}'$$,
	$$ordering => 'random'$$, $$max_in_flight => 0$$, $$max_in_flight => 100000$$,
	$$timeout => '-1 s'$$, $$connect_timeout => '1 hour'$$, $$timeout => '1 year -360 days 1 s'$$,
	$$retry_schedule => '{-1s}'$$, $$retry_schedule => '{1 month}'$$, $$max_age => '-1 s'$$,
	$$headers => '[]'$$, $$headers => '{"Host": "x"}'$$, $$headers => '{"webhook-id": "x"}'$$,
	$$headers => '{"x-a": "b\r\nc: d"}'$$, $$headers => '{"x-a": 1}'$$, $$headers => '{"bad name": "x"}'$$,
	$$secret => 'whsec_short'$$, $$secret => 'no prefix'$$, $$start_at => 'yesterday'$$,
	$$format => 'xml'$$, $$guarantee => 'exactly_once'$$, $$after_dead => 'stop'$$, $$format => NULL$$, $$policy => NULL$$,
	$$rate => -1$$, $$rate => 'NaN'$$, $$rate => 'Infinity'$$, $$burst => 5$$, $$rate => 1, burst => -5$$,
	$$max_batch => 0$$, $$max_batch => 257$$, $$max_batch => 2, format => 'cloudevents'$$,
	$$max_batch_delay => '-1 s'$$, $$max_batch_delay => '1 hour'$$,
	$$after_dead => 'block', ordering => 'none'$$, $$after_dead => 'block', guarantee => 'best_effort'$$,
	$$guarantee => 'best_effort', ordering => 'random'$$]) AS setting;
SELECT attempt(format('SELECT order_engine.create_endpoint(''bad'', ''https://example.com/'', policy => %L)', policy)) AS outcome
FROM unnest(ARRAY[
	'[]', '{"breaker": 1}', '{"breaker_failures": "5"}', '{"breaker_failures": 0}', '{"breaker_failures": 2.5}',
	'{"breaker_ratio": 0}', '{"breaker_ratio": 1.5}', '{"breaker_min_attempts": null}', '{"breaker_window": 60}',
	'{"breaker_window": "soon"}', '{"breaker_window": "1 month"}', '{"breaker_open": "-1 s"}', '{"breaker_open_max": "1 year"}',
	'{"breaker_open": "2 h"}', '{"breaker_open": "5 s", "breaker_open_max": "1 s"}', '{"breaker_successes": 1e9}',
	'{"disable_after": "99999999999999 days"}', '{"disable_attempts": [1]}', '{"pause": "1 ms"}']) AS policy;
\set certificate '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'
\set key '-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n'
SELECT attempt(format('SELECT order_engine.create_endpoint(''bad'', ''https://example.com/'', client_certificate => %L, client_key => %L)', certificate, key)) AS outcome
FROM (VALUES (:'certificate', NULL), (NULL, :'key'), ('', :'key'), ('MIIB', :'key'), (:'key', :'certificate'), (:'certificate', 'secret words'),
	(:'certificate', replace(:'key', 'PRIVATE', 'ENCRYPTED PRIVATE')), (:'certificate', repeat(:'key', 2)), (repeat(:'certificate', 2000), :'key')) AS given (certificate, key);
SELECT attempt('SELECT order_engine.create_endpoint(''bad name!'', ''https://example.com/'')');

-- nothing was left behind
SELECT count(*) FROM order_engine.endpoint;
SELECT count(*) FROM order_engine.endpoint_secret;

-- a good one; its secret is shown this once, and a given one is kept
SELECT order_engine.create_endpoint('shop', 'https://example.com/hook') ~ '^whsec_[A-Za-z0-9+/]{43}=$' AS secret;
SELECT order_engine.create_endpoint('vector', 'https://example.com/v', '{order.*,payment.captured}',
	headers => '{"authorization": "Bearer x"}', secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', start_at => 'earliest') AS secret;
SELECT attempt('SELECT order_engine.create_endpoint(''shop'', ''https://example.com/again'')');
SELECT name, status, url, event_types, ordering, headers, max_in_flight, connect_timeout, timeout, max_age, retry_schedule
FROM order_engine.endpoint ORDER BY name;
SELECT name, start_snapshot::text = '3:3:' AS from_the_start FROM order_engine.endpoint ORDER BY name;

-- every setting
SELECT order_engine.create_endpoint('all', 'https://example.com/all', '{order.*}', 'cloudevents_batch', 'aggregate', 'at_least_once',
	'{"x-a": "b"}', 32, 12.5, 20, 100, '50 ms', '2 s', '3 s', '{1s,2s}', '1 h', 'block',
	'{"breaker_failures": 3, "breaker_ratio": 0.5, "breaker_open": "1 s", "breaker_open_max": "10 s", "disable_after": "0", "pause": "00:00:05"}',
	:'certificate', :'key', 'earliest') IS NOT NULL AS secret;
CREATE VIEW all_settings AS
SELECT format, ordering, guarantee, rate, burst, max_batch, max_batch_delay AS delay, after_dead, policy, client_certificate IS NOT NULL AS certificate,
	(SELECT count(*) FROM order_engine.endpoint_secret s WHERE s.endpoint_id = e.endpoint_id AND s.kind = 'client_key') AS keys, name
FROM order_engine.endpoint e;
SELECT * FROM all_settings WHERE name = 'all';
-- with best effort there is no order; 0 is no limit
SELECT order_engine.create_endpoint('news', 'https://example.com/', guarantee => 'best_effort', rate => 0, burst => 0) IS NOT NULL AS secret;
SELECT order_engine.create_endpoint('loose', 'https://example.com/', guarantee => 'best_effort', ordering => 'none') IS NOT NULL AS secret;
SELECT name, ordering, guarantee, rate, burst FROM order_engine.endpoint WHERE guarantee = 'best_effort' ORDER BY name;

-- altering checks what it changes
SELECT attempt('SELECT order_engine.alter_endpoint(''news'', ordering => ''aggregate'')');
SELECT attempt('SELECT order_engine.alter_endpoint(''news'', after_dead => ''block'')');
SELECT attempt('SELECT order_engine.alter_endpoint(''all'', ordering => ''none'')');
SELECT attempt('SELECT order_engine.alter_endpoint(''all'', format => ''cloudevents'')');
SELECT attempt('SELECT order_engine.alter_endpoint(''all'', policy => ''{"breaker_ratio": 2}'')');
SELECT attempt('SELECT order_engine.alter_endpoint(''all'', client_key => '''')');
SELECT attempt('SELECT order_engine.alter_endpoint(''all'', client_certificate => ''none'')');
SELECT attempt('SELECT order_engine.alter_endpoint(''news'', burst => 3)');
SELECT attempt(format('SELECT order_engine.alter_endpoint(''news'', client_key => %L)', :'key'));
SELECT attempt(format('SELECT order_engine.alter_endpoint(''news'', client_certificate => %L)', :'certificate'));
SELECT * FROM all_settings WHERE name = 'all';
-- null leaves a setting, 0 and '' take it away; a certificate can be renewed alone
SELECT order_engine.alter_endpoint('all', max_batch => 1, format => 'cloudevents', client_certificate => :'certificate');
SELECT * FROM all_settings WHERE name = 'all';
SELECT order_engine.alter_endpoint('all', rate => 0, after_dead => 'continue', policy => '{}', max_batch_delay => '0', client_certificate => '');
SELECT * FROM all_settings WHERE name = 'all';
SELECT order_engine.alter_endpoint('all', rate => 3, burst => 4, client_certificate => :'certificate', client_key => :'key');
SELECT * FROM all_settings WHERE name = 'all';
SELECT order_engine.alter_endpoint('all', burst => 0, client_key => :'key');
SELECT * FROM all_settings WHERE name = 'all';
DROP VIEW all_settings;
SELECT attempt('SELECT order_engine.alter_endpoint(''nobody'', timeout => ''1 s'')');
SELECT attempt('SELECT order_engine.alter_endpoint(NULL)');
SELECT attempt('SELECT order_engine.alter_endpoint(''shop'', url => ''gopher://x'')');
SELECT attempt('SELECT order_engine.alter_endpoint(''shop'', max_in_flight => 0)');
SELECT order_engine.alter_endpoint('shop', timeout => '1 s', event_types => '{a.b}', headers => '{}');
SELECT url, timeout, event_types, headers, max_in_flight FROM order_engine.endpoint WHERE name = 'shop';

-- pause, resume: each tells since when, and forgets why it was disabled; a repetition changes nothing
SELECT order_engine.pause_endpoint('shop');
SELECT status, status_since AS paused_at, status_since > created_at AS later FROM order_engine.endpoint WHERE name = 'shop' \gset
SELECT :'status' AS status, :'later' AS later;
SELECT order_engine.pause_endpoint('shop');
SELECT status_since = :'paused_at' AS since FROM order_engine.endpoint WHERE name = 'shop';
SELECT order_engine.resume_endpoint('shop');
SELECT status, status_since > :'paused_at' AS later FROM order_engine.endpoint WHERE name = 'shop';
UPDATE order_engine.endpoint SET status = 'disabled', status_reason = 'HTTP status 410' WHERE name = 'shop';
SELECT order_engine.pause_endpoint('shop');
SELECT status, status_reason FROM order_engine.endpoint WHERE name = 'shop';
UPDATE order_engine.endpoint SET status = 'disabled', status_reason = 'HTTP status 410' WHERE name = 'shop';
SELECT order_engine.resume_endpoint('shop');
SELECT status, status_reason FROM order_engine.endpoint WHERE name = 'shop';
SELECT attempt('SELECT order_engine.pause_endpoint(''nobody'')');
SELECT attempt('SELECT order_engine.resume_endpoint(''nobody'')');
-- also when a plan that does not know the name finds nothing to look at
BEGIN;
UPDATE order_engine.endpoint SET status = 'paused';
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT attempt('SELECT order_engine.pause_endpoint(''nobody'')');
ROLLBACK;

-- secrets: the old one stays valid for the overlap, four at most
SELECT order_engine.rotate_secret('shop') ~ '^whsec_' AS rotated;
SELECT count(*), count(expires_at) FROM order_engine.endpoint_secret s JOIN order_engine.endpoint e USING (endpoint_id) WHERE name = 'shop';
SELECT order_engine.rotate_secret('shop', '1 hour') ~ '^whsec_' AS rotated;
SELECT order_engine.rotate_secret('shop', '0') ~ '^whsec_' AS rotated;
SELECT order_engine.rotate_secret('shop', '1 hour') ~ '^whsec_' AS rotated;
SELECT attempt('SELECT order_engine.rotate_secret(''shop'')');
SELECT attempt('SELECT order_engine.rotate_secret(''shop'', ''-1 s'')');
SELECT attempt('SELECT order_engine.rotate_secret(''nobody'')');

-- a client key is none of the four, and is not rotated
SELECT order_engine.rotate_secret('all', '1 hour') ~ '^whsec_' AS rotated FROM generate_series(1, 3);
SELECT kind, count(*), count(expires_at) FROM order_engine.endpoint_secret s JOIN order_engine.endpoint e USING (endpoint_id) WHERE name = 'all' GROUP BY kind ORDER BY kind;

-- a test event goes to the endpoint that it names, whatever its types, and to no other
SELECT order_engine.send_test_event('shop') AS test_event \gset
SELECT aggregatetype, aggregateid, aggregate_seq, type, payload FROM order_engine.outbox WHERE id = :'test_event';
SELECT attempt('SELECT order_engine.send_test_event(''nobody'')');
SELECT attempt('SELECT order_engine.send_test_event(NULL)');
SELECT t.aggregateid, t.type, order_engine.endpoint_gets('shop', t.globs, t.aggregatetype, t.aggregateid, t.type)
FROM (VALUES ('{*}'::text[], 'endpoint', 'shop', 'endpoint.test'), ('{a}', 'endpoint', 'shop', 'endpoint.test'),
	('{*}', 'endpoint', 'other', 'endpoint.test'), ('{*}', 'endpoint', 'shop', 'endpoint.disabled'),
	('{*}', 'endpoint', 'shop2', 'endpoint.disabled'), ('{order.*}', 'endpoint', 'other', 'endpoint.disabled'),
	('{a,order.*}', 'order', '7', 'order.placed'), ('{a,order.*}', 'order', '7', 'payment.captured'),
	('{endpoint.test}', 'x', 'shop', 'endpoint.test')) AS t (globs, aggregatetype, aggregateid, type);

-- dropping takes everything along
SELECT endpoint_id AS shop FROM order_engine.endpoint WHERE name = 'shop' \gset
INSERT INTO order_engine.delivery_gap (endpoint_id, events) VALUES (:shop, 1);
SELECT order_engine.drop_endpoint('all'), order_engine.drop_endpoint('news'), order_engine.drop_endpoint('loose');
SELECT order_engine.drop_endpoint('shop');
SELECT count(*) FROM order_engine.delivery_gap;
SELECT count(*) FROM order_engine.endpoint_secret;
SELECT attempt('SELECT order_engine.drop_endpoint(''shop'')');
SELECT order_engine.drop_endpoint('vector');

-- the trigger function is one only as a trigger
SELECT attempt('SELECT order_engine.endpoint_changed()');

