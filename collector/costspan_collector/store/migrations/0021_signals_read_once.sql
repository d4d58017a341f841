-- One row per call of a stretch, in the cell of how it ended, and one per attempt of it that failed
-- and was tried again: no call, one attempt, in the cell of how that attempt ended. Dollars are whole
-- pico-dollars. Latencies are of calls that worked at the first attempt. As in 0016, but a call that
-- took no time has a wrong clock and no latency; its model is the one that was asked for, which a call
-- that fails has too, and not the snapshot that answered; and a call is read once: what its rows are
-- made of is planned, and taken from the disk, once.
CREATE OR REPLACE VIEW call_signals AS
WITH
    retried AS
    (
        SELECT
            trace_id,
            parent_span_id,
            arraySort(groupArray((attempt, multiIf(
                http_status = 429, 'rate_limit',
                http_status >= 500, 'server_error',
                http_status IN (401, 403), 'authentication',
                http_status = 408 OR match(lower(error_type), 'timeout'), 'timeout',
                http_status >= 400, 'invalid_request',
                match(lower(error_type), 'connect|network'), 'connection',
                'other')))).2 AS kinds
        FROM http_attempts FINAL
        WHERE started_at >= {since:DateTime64(6, 'UTC')}
            AND started_at < {until:DateTime64(6, 'UTC')} + INTERVAL 1 HOUR
            AND (http_status >= 400 OR error_type != '')
        GROUP BY trace_id, parent_span_id
    ),
    c.started_at + toIntervalMicrosecond(duration_us) AS ended_at
SELECT
    c.started_at AS started_at,
    toString(c.environment) AS environment,
    toString(service_name) AS service,
    toString(c.team) AS team,
    toString(c.project) AS project,
    toString(key_hint) AS key,
    toString(c.feature) AS feature,
    if(request_model != '', toString(request_model), toString(response_model)) AS model,
    toString(c.prompt) AS prompt,
    c.user AS user,
    ending.2 AS error_kind,
    toInt64(ending.1) AS calls,
    toInt64(1) AS attempts,
    calls * ifNull(c.input_tokens, 0) AS input_tokens,
    calls * ifNull(c.cached_tokens, 0) AS cached_tokens,
    calls * ifNull(c.output_tokens, 0) AS output_tokens,
    calls * toInt64(toDecimal128(ifNull(c.cost_usd, 0), 12) * 1000000000000) AS cost_pico,
    calls * toInt64(toDecimal128(cost_parts_usd['input'], 12) * 1000000000000) AS input_cost_pico,
    calls * toInt64(toDecimal128(cost_parts_usd['cached_input'], 12) * 1000000000000) AS cached_cost_pico,
    calls * toInt64(toDecimal128(cost_parts_usd['output'], 12) * 1000000000000) AS output_cost_pico,
    calls * (c.cost_usd IS NOT NULL) AS priced_calls,
    calls * c.unpriced AS unpriced_calls,
    calls * (c.status = 'ok' AND retries = 0 AND duration_us > 0) AS timed_calls,
    toInt64(timed_calls AND time_to_first_chunk_us IS NOT NULL) AS streamed_calls,
    toInt64(streamed_calls AND ifNull(c.output_tokens, 0) > 0 AND duration_us > ifNull(time_to_first_chunk_us, 0)) AS paced_calls,
    calls * (received_at > ended_at + INTERVAL 90 SECOND) AS late_calls,
    calls * (duration_us = 0 OR ended_at > received_at + INTERVAL 60 SECOND) AS ahead_calls,
    timed_calls * log(greatest(duration_us, 1)) AS log_duration,
    log_duration * log_duration AS log_duration_squared,
    streamed_calls * log(greatest(ifNull(time_to_first_chunk_us, 0), 1)) AS log_first_chunk,
    log_first_chunk * log_first_chunk AS log_first_chunk_squared,
    if(paced_calls = 1, log(greatest((duration_us - ifNull(time_to_first_chunk_us, 0)) / ifNull(c.output_tokens, 1), 1)), 0) AS log_pace,
    log_pace * log_pace AS log_pace_squared,
    calls * pow(toFloat64(ifNull(c.cost_usd, 0)), 2) AS cost_usd_squared
FROM calls AS c FINAL
LEFT JOIN retried AS a ON a.trace_id = c.trace_id AND a.parent_span_id = c.span_id
ARRAY JOIN arrayConcat(
    [(1, toString(c.error_kind))],
    arrayMap(kind -> (0, kind), arrayResize(a.kinds, least(retries, 100), 'other'))
) AS ending
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')};

-- What is there already goes by other names, and is to be rolled up anew.
INSERT INTO rollup_hours (hour, touched_at)
SELECT toStartOfHour(started_at) AS hour, now64(6, 'UTC') AS touched_at
FROM calls
GROUP BY hour;
