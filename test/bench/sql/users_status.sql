-- The page on which a customer looks at an order.
\if :mine = 0
\set mine :first + :client_id
\endif
SELECT order_engine.order_json(:mine::bigint);
