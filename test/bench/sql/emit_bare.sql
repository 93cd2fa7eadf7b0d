\set n random(1, 100000)
INSERT INTO bare (aggregatetype, aggregateid, type, payload) VALUES ('item', :n::text, 'item.changed', '{"n": 1, "text": "changed"}');
