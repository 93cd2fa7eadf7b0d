\set n random(1, 100000)
SELECT order_engine.emit('item', :n::text, 'item.changed', '{"n": 1, "text": "changed"}');
