/*
 * What one transition of an order is compared with, on tables with the same rows, checks and
 * indexes as order_engine.orders.
 *
 * bare: only the UPDATE of the state: no check, no version, no time, nothing recorded.
 * plpgsql: what a careful shop has: a trigger that looks the transition up in a table, raises the
 * version, keeps the times, and writes the same rows into history and outbox.
 */

CREATE SCHEMA bare;
CREATE TABLE bare.orders (LIKE order_engine.orders INCLUDING ALL) WITH (fillfactor = 80);
INSERT INTO bare.orders SELECT * FROM order_engine.orders;

CREATE SCHEMA plpgsql;
CREATE TABLE plpgsql.orders (LIKE order_engine.orders INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE plpgsql.history (LIKE order_engine.history INCLUDING ALL);
CREATE TABLE plpgsql.outbox (LIKE order_engine.outbox_0 INCLUDING ALL);
CREATE TABLE plpgsql.transition (machine_id integer, from_state text, to_state text, event text NOT NULL,
	PRIMARY KEY (machine_id, from_state, to_state));
INSERT INTO plpgsql.transition
SELECT o.machine_id, t.* FROM (SELECT DISTINCT machine_id FROM order_engine.orders) o,
	(VALUES ('pending', 'waiting', 'wait'), ('waiting', 'pending', 'resume'), ('pending', 'cancelled', 'cancel')) t;
INSERT INTO plpgsql.orders SELECT * FROM order_engine.orders;
ANALYZE plpgsql.transition;

CREATE FUNCTION plpgsql.check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	v_event text;
	v_now timestamptz;
BEGIN
	IF NEW.state = OLD.state THEN
		RETURN NEW;
	END IF;
	SELECT event INTO v_event FROM plpgsql.transition
	WHERE machine_id = OLD.machine_id AND from_state = OLD.state AND to_state = NEW.state;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no transition from % to %', OLD.state, NEW.state;
	END IF;
	v_now := clock_timestamp();
	NEW.version := OLD.version + 1;
	NEW.last_txid := pg_current_xact_id();
	NEW.state_since := v_now;
	NEW.updated_at := v_now;
	INSERT INTO plpgsql.history (order_id, entity, entity_id, seq, event, from_state, to_state, machine_id, actor, created_at)
	VALUES (NEW.order_id, 'order', NEW.order_id, NEW.version, v_event, OLD.state, NEW.state, NEW.machine_id, session_user, v_now);
	INSERT INTO plpgsql.outbox (txid, created_at, aggregate_seq, leaf, shard, id, aggregatetype, aggregateid, type, payload, headers)
	VALUES (NEW.last_txid, v_now, NEW.version, 0, hashint8(NEW.order_id) & 15, gen_random_uuid(), 'order', NEW.order_id, 'order.' || v_event,
		jsonb_build_object('to', NEW.state, 'from', OLD.state, 'event', v_event, 'total', NEW.total, 'channel', NEW.channel,
			'version', NEW.version, 'currency', NEW.currency, 'order_id', NEW.order_id, 'customer_id', NEW.customer_id,
			'order_number', NEW.order_number),
		jsonb_build_object('actor', session_user));
	RETURN NEW;
END
$$;
CREATE TRIGGER check_transition BEFORE UPDATE ON plpgsql.orders FOR EACH ROW EXECUTE FUNCTION plpgsql.check_transition();

VACUUM ANALYZE bare.orders;
VACUUM ANALYZE plpgsql.orders;
