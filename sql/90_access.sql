/*
 * Who may do what: the only page with GRANT and REVOKE.
 *
 * Nothing is granted to PUBLIC.  A DBA gives a role of his choice one of three
 * levels with grant_access(); each level has what the one before has.
 */

CREATE TABLE order_engine.access_rule (
	level		text	NOT NULL CHECK (level IN ('viewer', 'app', 'operator')),
	kind		text	NOT NULL CHECK (kind IN ('function', 'table')),
	object		text	NOT NULL,
	PRIMARY KEY (kind, object)
);
COMMENT ON TABLE order_engine.access_rule IS
'What each access level may use: SELECT for a table or view, EXECUTE for a function. What is not listed is for the owner alone.';
COMMENT ON COLUMN order_engine.access_rule.level IS 'viewer, app (has what viewer has) or operator (has what app has).';
COMMENT ON COLUMN order_engine.access_rule.kind IS 'function or table.';
COMMENT ON COLUMN order_engine.access_rule.object IS 'Name within the schema order_engine; every function of that name is meant.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.access_rule', 'WHERE false');

INSERT INTO order_engine.access_rule (level, kind, object) VALUES
	-- analysts: no personal data, no payloads
	('viewer', 'table', 'machine_state'),
	('viewer', 'table', 'machine_transition'),
	('viewer', 'table', 'order_funnel'),
	('viewer', 'table', 'order_sale'),
	('viewer', 'table', 'order_summary'),
	('viewer', 'table', 'payment_reconciliation'),
	('viewer', 'table', 'reservation_aging'),
	('viewer', 'table', 'returns_by_reason'),
	('viewer', 'table', 'sale_line'),
	('viewer', 'table', 'sales_by_channel'),
	('viewer', 'table', 'sales_by_region'),
	('viewer', 'table', 'sales_by_seller'),
	('viewer', 'table', 'sales_by_sku'),
	('viewer', 'table', 'sales_daily'),
	('viewer', 'table', 'state_durations'),
	('viewer', 'table', 'stock_level'),
	('viewer', 'table', 'stuck_orders'),
	-- applications
	('app', 'function', 'allowed_events'),
	('app', 'function', 'cancel_order'),
	('app', 'function', 'create_fulfillment'),
	('app', 'function', 'create_return'),
	('app', 'function', 'emit'),
	('app', 'function', 'machine_diagram'),
	('app', 'function', 'order_json'),
	('app', 'function', 'place_order'),
	('app', 'function', 'record_chargeback'),
	('app', 'function', 'record_payment'),
	('app', 'function', 'refund'),
	('app', 'function', 'receive_return'),
	('app', 'function', 'release_stock'),
	('app', 'function', 'request_payment'),
	('app', 'function', 'reserve_stock'),
	('app', 'function', 'set_tracking'),
	('app', 'function', 'transition'),
	('app', 'function', 'was_replayed'),
	-- operators
	('operator', 'function', 'adjust_stock'),
	('operator', 'function', 'adopt_database'),
	('operator', 'function', 'alter_endpoint'),
	('operator', 'function', 'attach_machine'),
	('operator', 'function', 'create_endpoint'),
	('operator', 'function', 'define_machine'),
	('operator', 'function', 'database_identity'),	-- behind endpoint_status
	('operator', 'function', 'detach_machine'),
	('operator', 'function', 'discard_dead_letters'),
	('operator', 'function', 'drop_endpoint'),
	('operator', 'function', 'endpoint_health'),	-- behind endpoint_status
	('operator', 'function', 'expire_reservations'),
	('operator', 'function', 'has_worker'),			-- behind endpoint_status
	('operator', 'function', 'pause_endpoint'),
	('operator', 'function', 'force_transition'),
	('operator', 'function', 'migrate_orders'),
	('operator', 'function', 'place_hold'),
	('operator', 'function', 'left_by_express'),	-- behind endpoint_status
	('operator', 'function', 'position_backlog'),	-- behind endpoint_status
	('operator', 'function', 'publish_machine'),
	('operator', 'function', 'redrive'),
	('operator', 'function', 'reencrypt_secrets'),
	('operator', 'function', 'release_hold'),
	('operator', 'function', 'replay'),
	('operator', 'function', 'resume_endpoint'),
	('operator', 'function', 'rotate_secret'),
	('operator', 'function', 'run_maintenance'),
	('operator', 'function', 'send_test_event'),
	('operator', 'function', 'set_backorder_limit'),
	('operator', 'function', 'set_channel_locations'),
	('operator', 'function', 'set_safety_stock'),
	('operator', 'function', 'set_slots'),
	('operator', 'function', 'start_worker'),
	('operator', 'function', 'state_machine'),	-- CREATE TRIGGER asks for it
	('operator', 'function', 'transfer_stock'),
	('operator', 'function', 'undelivered'),
	('operator', 'function', 'upsert_location'),
	('operator', 'function', 'upsert_product'),
	('operator', 'function', 'verify_orders'),
	('operator', 'function', 'uuid_time'),			-- behind endpoint_status
	('operator', 'function', 'verify_stock'),
	('operator', 'table', 'dead_letter'),
	('operator', 'table', 'delivery_gap'),
	('operator', 'table', 'delivery_attempt'),
	('operator', 'table', 'delivery_retry'),
	('operator', 'table', 'endpoint_settings'),
	('operator', 'table', 'endpoint_status'),
	('operator', 'table', 'history'),
	('operator', 'table', 'machine'),
	('operator', 'table', 'order_line'),
	('operator', 'table', 'orders'),
	('operator', 'table', 'outbox'),
	('operator', 'table', 'outbox_ring_status'),
	('operator', 'function', 'outbox_leaf_holders'),	-- behind outbox_ring_status
	('operator', 'table', 'payment'),
	('operator', 'table', 'payment_transaction'),
	('operator', 'table', 'fulfillment'),
	('operator', 'table', 'fulfillment_line'),
	('operator', 'table', 'order_return'),
	('operator', 'table', 'return_line'),
	('operator', 'table', 'order_hold'),
	('operator', 'table', 'product'),
	('operator', 'table', 'replay'),
	('operator', 'table', 'location'),
	('operator', 'table', 'channel_location'),
	('operator', 'table', 'reservation'),
	('operator', 'table', 'stat_worker'),
	('operator', 'function', 'worker_counters'),	-- behind stat_worker
	('operator', 'table', 'stock'),
	('operator', 'table', 'stock_movement');

CREATE FUNCTION order_engine.grant_access(role regrole, level text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	levels constant text[] := '{viewer,app,operator}';
	rule record;
BEGIN
	IF level IS NULL OR level <> ALL (levels) THEN
		RAISE EXCEPTION 'invalid access level "%"', level USING
			ERRCODE = 'invalid_parameter_value',
			HINT = 'It is "viewer", "app" or "operator".';
	END IF;
	IF role IS NULL OR NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = role) THEN
		RAISE EXCEPTION 'there is no such role' USING ERRCODE = 'undefined_object';
	END IF;
	-- one after the other: two sessions cannot change the privileges of an object at once
	LOCK TABLE order_engine.access_rule IN SHARE ROW EXCLUSIVE MODE;
	EXECUTE format('GRANT USAGE ON SCHEMA order_engine TO %s', role);
	FOR rule IN
		SELECT CASE r.kind
				WHEN 'table' THEN format('SELECT ON order_engine.%I', r.object)
				ELSE format('EXECUTE ON FUNCTION %s', p.oid::regprocedure) END AS privilege,
			array_position(levels, r.level) <= array_position(levels, grant_access.level) AS given
		FROM order_engine.access_rule r
		LEFT JOIN pg_proc p ON r.kind = 'function' AND p.proname = r.object
			AND p.pronamespace = 'order_engine'::regnamespace
	LOOP
		IF rule.given THEN
			EXECUTE format('GRANT %s TO %s', rule.privilege, role);
		ELSE
			EXECUTE format('REVOKE %s FROM %s', rule.privilege, role);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION order_engine.grant_access(regrole, text) IS
'Sets the level of a role: viewer (views without personal data), app (the verbs) or operator (stock, machines, endpoints, all tables). What a higher level has is taken away, should the role have it. For the owner of the extension or a superuser. Errors: 22023 for the level, 42704 for the role.';

CREATE FUNCTION order_engine.revoke_access(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF role IS NULL OR NOT EXISTS (SELECT FROM pg_roles a WHERE a.oid = role) THEN
		RAISE EXCEPTION 'there is no such role' USING ERRCODE = 'undefined_object';
	END IF;
	LOCK TABLE order_engine.access_rule IN SHARE ROW EXCLUSIVE MODE;
	EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA order_engine FROM %s', role);
	EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA order_engine FROM %s', role);
	EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA order_engine FROM %s', role);
	EXECUTE format('REVOKE ALL ON SCHEMA order_engine FROM %s', role);
END
$$;
COMMENT ON FUNCTION order_engine.revoke_access(regrole) IS
'Takes from a role what grant_access() gave it, and every other privilege in the schema that it was given by name. For the owner of the extension or a superuser. Error: 42704.';

REVOKE ALL ON SCHEMA order_engine FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA order_engine FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA order_engine FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA order_engine FROM PUBLIC;
