-- One row per other run that gave a price to calls of this one: how many of them.
-- parameters: run_id UUID, others Array(UUID)
SELECT run_id, count() AS calls
FROM reprice_calls
WHERE run_id IN {others:Array(UUID)}
    AND (started_at, trace_id, span_id) IN (
        SELECT started_at, trace_id, span_id FROM reprice_calls WHERE run_id = {run_id:UUID}
    )
GROUP BY run_id
ORDER BY run_id
