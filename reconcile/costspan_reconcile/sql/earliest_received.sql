-- One row: the first UTC day of the calls that came in since a moment; NULL where none did.
-- parameters: since Date, received_since DateTime64(6)
SELECT toDate(minOrNull(started_at), 'UTC') AS day
FROM calls
WHERE started_at >= {since:Date} AND received_at >= {received_since:DateTime64(6)}
