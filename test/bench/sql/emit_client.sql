\set n random(1, 100000)
SELECT order_engine.emit('item', :client_id::text || '-' || :n::text, 'item.changed', '{"n": 1, "text": "changed"}');
