/* How the endpoints fare, as the workers know it. */

CREATE FUNCTION order_engine.endpoint_health(
	OUT endpoint_id integer, OUT in_flight integer, OUT breaker text, OUT open_until timestamptz,
	OUT paused_until timestamptz, OUT last_success_at timestamptz, OUT last_error_at timestamptz,
	OUT last_error text, OUT failing_since timestamptz, OUT failures integer,
	OUT attempts bigint, OUT delivered bigint, OUT failed bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'oe_endpoint_health';
COMMENT ON FUNCTION order_engine.endpoint_health() IS
'Internal: how the endpoints of this database fare, from shared memory; one row for each that a worker serves, none without preloading. breaker is closed, open or half_open; the last three columns count since the workers started.';
