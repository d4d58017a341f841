-- One row: when the first call started and when the newest came in; none where the store is empty.
-- No FINAL: a second delivery of a call changes neither.
-- parameters: none
SELECT
    min(c.started_at) AS first_started_at,
    max(c.received_at) AS received_at
FROM calls AS c
HAVING count() > 0
