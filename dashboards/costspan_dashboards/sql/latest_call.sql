-- One row: the newest call in the store; none where the store is empty.
-- No FINAL: a call delivered twice is received no later than its last delivery.
-- parameters: none
SELECT max(received_at) AS received_at
FROM calls
HAVING count() > 0
