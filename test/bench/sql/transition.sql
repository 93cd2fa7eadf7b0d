\set id random(:first, :last)
UPDATE orders SET state = CASE state WHEN 'pending' THEN 'waiting' ELSE 'pending' END WHERE order_id = :id;
