-- One row per call of a trace, with everything kept of it, in order of start. A call that a span
-- inside it describes too is 'superseded' and without a cost. No FINAL, which leaves those out.
-- The trace is found by its index first, so that only the days it lies in are read.
-- parameters: trace_id String (32 hex digits)
WITH
    (SELECT min(started_at) FROM calls WHERE trace_id = unhex({trace_id:String})) AS first_start,
    (SELECT max(started_at) FROM calls WHERE trace_id = unhex({trace_id:String})) AS last_start
SELECT
    c.started_at AS started_at,
    lower(hex(c.trace_id)) AS trace_id,
    lower(hex(c.span_id)) AS span_id,
    lower(hex(c.parent_span_id)) AS parent_span_id,
    c.service_name AS service_name,
    c.environment AS environment,
    c.operation AS operation,
    c.api_type AS api_type,
    c.provider AS provider,
    c.server_address AS server_address,
    c.request_model AS request_model,
    c.response_model AS response_model,
    c.request_tier AS request_tier,
    c.response_tier AS response_tier,
    c.response_id AS response_id,
    c.request_id AS request_id,
    c.organization AS organization,
    c.project AS project,
    c.key_fingerprint AS key_fingerprint,
    c.key_hint AS key_hint,
    c.team AS team,
    c.feature AS feature,
    c.user AS user,
    c.customer AS customer,
    c.prompt AS prompt,
    c.streamed AS streamed,
    c.stream_outcome AS stream_outcome,
    c.finish_reasons AS finish_reasons,
    c.duration_us AS duration_us,
    c.time_to_first_chunk_us AS time_to_first_chunk_us,
    c.retries AS retries,
    c.status AS status,
    c.error_type AS error_type,
    c.error_code AS error_code,
    c.input_tokens AS input_tokens,
    c.cached_tokens AS cached_tokens,
    c.cache_write_tokens AS cache_write_tokens,
    c.output_tokens AS output_tokens,
    c.reasoning_tokens AS reasoning_tokens,
    if(c.superseded, NULL, c.cost_usd) AS cost_usd,
    if(c.superseded, NULL, c.list_cost_usd) AS list_cost_usd,
    c.unpriced AND NOT c.superseded AS unpriced,
    if(c.superseded, map(), c.cost_parts_usd) AS cost_parts_usd,
    if(c.superseded, 'superseded', c.price_status) AS price_status,
    c.price_book AS price_book,
    c.price_path AS price_path,
    c.price_overrides AS price_overrides,
    c.estimate AS estimate,
    c.received_at AS received_at
FROM
(
    SELECT *, unpriced, superseded
    FROM calls
    WHERE started_at >= first_start AND started_at <= last_start
        AND trace_id = unhex({trace_id:String})
    ORDER BY ingest_id DESC
    LIMIT 1 BY span_id
) AS c
ORDER BY c.started_at, c.span_id
LIMIT 1000
