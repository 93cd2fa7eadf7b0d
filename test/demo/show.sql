-- Prints the events that arrived since it was last called, once the receiver has
-- as many as the outbox holds.
\set ECHO none
SELECT pg_catalog.count(*) AS events FROM order_engine.outbox \gset
\setenv OE_EVENTS :events
\! $OE_SHOW "$OE_EVENTS" </dev/null
\set ECHO queries
