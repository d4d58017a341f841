-- A row: one call as it is kept, with what the proof compares with the ledger.
-- parameters: none
SELECT
    request_id,
    started_at,
    status = 'error' AS failed,
    ifNull(input_tokens, 0) AS input_tokens,
    ifNull(cached_tokens, 0) AS cached_tokens,
    ifNull(output_tokens, 0) AS output_tokens,
    ifNull(reasoning_tokens, 0) AS reasoning_tokens,
    cost_usd
FROM calls FINAL
ORDER BY started_at, request_id
