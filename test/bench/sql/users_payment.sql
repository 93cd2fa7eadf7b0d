-- A payment of a part, as its service reports it; in two transactions, as in life.
\if :mine = 0
\set mine :first + :client_id
\endif
\set k random(1, 9000000000000000000)
SELECT order_engine.request_payment(:mine::bigint, 'capture', 0.01, 'card', idempotency_key => 'request-' || :k::text) AS requested \gset
SELECT order_engine.record_payment(:requested::bigint, 'success', 'ref-' || :k::text, idempotency_key => 'report-' || :k::text);
