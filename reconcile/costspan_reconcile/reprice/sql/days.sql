-- One row per UTC day on which a run gives a call another price.
-- parameters: run_id UUID
SELECT DISTINCT toDate(started_at, 'UTC') AS day
FROM reprice_calls
WHERE run_id = {run_id:UUID}
ORDER BY day
