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
	$$timeout => '-1 s'$$, $$connect_timeout => '1 hour'$$,
	$$retry_schedule => '{-1s}'$$, $$retry_schedule => '{1 month}'$$, $$max_age => '-1 s'$$,
	$$headers => '[]'$$, $$headers => '{"Host": "x"}'$$, $$headers => '{"webhook-id": "x"}'$$,
	$$headers => '{"x-a": "b\r\nc: d"}'$$, $$headers => '{"x-a": 1}'$$, $$headers => '{"bad name": "x"}'$$,
	$$secret => 'whsec_short'$$, $$secret => 'no prefix'$$, $$start_at => 'yesterday'$$,
	$$format => 'cloudevents'$$, $$rate => 10$$, $$guarantee => 'best_effort'$$, $$after_dead => 'block'$$]) AS setting;
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

-- altering checks what it changes
SELECT attempt('SELECT order_engine.alter_endpoint(''nobody'', timeout => ''1 s'')');
SELECT attempt('SELECT order_engine.alter_endpoint(NULL)');
SELECT attempt('SELECT order_engine.alter_endpoint(''shop'', url => ''gopher://x'')');
SELECT attempt('SELECT order_engine.alter_endpoint(''shop'', max_in_flight => 0)');
SELECT order_engine.alter_endpoint('shop', timeout => '1 s', event_types => '{a.b}', headers => '{}');
SELECT url, timeout, event_types, headers, max_in_flight FROM order_engine.endpoint WHERE name = 'shop';

-- pause, resume
SELECT order_engine.pause_endpoint('shop');
SELECT status FROM order_engine.endpoint WHERE name = 'shop';
SELECT order_engine.resume_endpoint('shop');
SELECT status FROM order_engine.endpoint WHERE name = 'shop';
SELECT attempt('SELECT order_engine.pause_endpoint(''nobody'')');
SELECT attempt('SELECT order_engine.resume_endpoint(''nobody'')');

-- secrets: the old one stays valid for the overlap, four at most
SELECT order_engine.rotate_secret('shop') ~ '^whsec_' AS rotated;
SELECT count(*), count(expires_at) FROM order_engine.endpoint_secret s JOIN order_engine.endpoint e USING (endpoint_id) WHERE name = 'shop';
SELECT order_engine.rotate_secret('shop', '1 hour') ~ '^whsec_' AS rotated;
SELECT order_engine.rotate_secret('shop', '0') ~ '^whsec_' AS rotated;
SELECT order_engine.rotate_secret('shop', '1 hour') ~ '^whsec_' AS rotated;
SELECT attempt('SELECT order_engine.rotate_secret(''shop'')');
SELECT attempt('SELECT order_engine.rotate_secret(''shop'', ''-1 s'')');
SELECT attempt('SELECT order_engine.rotate_secret(''nobody'')');

-- dropping takes everything along
SELECT order_engine.drop_endpoint('shop');
SELECT count(*) FROM order_engine.endpoint_secret;
SELECT attempt('SELECT order_engine.drop_endpoint(''shop'')');
SELECT order_engine.drop_endpoint('vector');

-- the trigger function is one only as a trigger
SELECT attempt('SELECT order_engine.endpoint_changed()');

