\set n random(1, 100000)
INSERT INTO same (txid, created_at, leaf, shard, id, aggregatetype, aggregateid, type, payload) VALUES (pg_current_xact_id(), now(), 0, :n % 16, gen_random_uuid(), 'item', :n::text, 'item.changed', '{"n": 1, "text": "changed"}');
