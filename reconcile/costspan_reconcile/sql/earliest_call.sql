-- One row: the first UTC day of any call; NULL where there is none.
-- parameters: none
SELECT toDate(minOrNull(started_at), 'UTC') AS day FROM calls
