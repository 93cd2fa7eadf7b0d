-- Ends the demo unless the statement before failed with the SQLSTATE :expected.
\set ECHO none
\set got :SQLSTATE
SELECT :'got' = :'expected' AS as_told \gset
\if :as_told
\echo '   >> refused, SQLSTATE' :got
\else
DO $$ BEGIN RAISE EXCEPTION 'the demo expected this to be refused in another way'; END $$;
\endif
\set ECHO queries
