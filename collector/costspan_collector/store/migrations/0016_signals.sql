-- What went wrong, in the words of alerts: one for each remedy. Empty for what worked.
ALTER TABLE calls ADD COLUMN IF NOT EXISTS
    error_kind LowCardinality(String) ALIAS multiIf(
        status = 'ok', '',
        error_code IN ('rate_limit_exceeded', 'insufficient_quota') OR match(lower(error_type), 'rate_?limit|429'), 'rate_limit',
        match(lower(error_type), 'timeout|timed_out|408'), 'timeout',
        match(lower(error_type), 'connect|network'), 'connection',
        match(lower(error_type), 'server_?error|overloaded|unavailable|^5\\d\\d$'), 'server_error',
        match(lower(error_type), 'authentication|permission|401|403'), 'authentication',
        match(lower(error_type), 'bad_?request|invalid|not_?found|unprocessable|conflict|^4\\d\\d$'), 'invalid_request',
        'other');

-- One row per call of a stretch, in the cell of how it ended, and one per attempt of it that failed
-- and was tried again: no call, one attempt, in the cell of how that attempt ended. Dollars are whole
-- pico-dollars. Latencies are of calls that worked at the first attempt.
CREATE VIEW IF NOT EXISTS call_signals AS
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
    )
SELECT
    started_at,
    toString(c.environment) AS environment,
    toString(service_name) AS service,
    toString(c.team) AS team,
    toString(c.project) AS project,
    toString(key_hint) AS key,
    toString(c.feature) AS feature,
    toString(c.model) AS model,
    toString(c.prompt) AS prompt,
    c.user AS user,
    toString(c.error_kind) AS error_kind,
    toInt64(1) AS calls,
    toInt64(1) AS attempts,
    toInt64(ifNull(c.input_tokens, 0)) AS input_tokens,
    toInt64(ifNull(c.cached_tokens, 0)) AS cached_tokens,
    toInt64(ifNull(c.output_tokens, 0)) AS output_tokens,
    toInt64(toDecimal128(ifNull(c.cost_usd, 0), 12) * 1000000000000) AS cost_pico,
    toInt64(toDecimal128(cost_parts_usd['input'], 12) * 1000000000000) AS input_cost_pico,
    toInt64(toDecimal128(cost_parts_usd['cached_input'], 12) * 1000000000000) AS cached_cost_pico,
    toInt64(toDecimal128(cost_parts_usd['output'], 12) * 1000000000000) AS output_cost_pico,
    toInt64(c.cost_usd IS NOT NULL) AS priced_calls,
    toInt64(c.unpriced) AS unpriced_calls,
    toInt64(c.status = 'ok' AND retries = 0) AS timed_calls,
    toInt64(timed_calls AND time_to_first_chunk_us IS NOT NULL) AS streamed_calls,
    toInt64(streamed_calls AND ifNull(c.output_tokens, 0) > 0 AND duration_us > ifNull(time_to_first_chunk_us, 0)) AS paced_calls,
    toInt64(received_at > ended_at + INTERVAL 90 SECOND) AS late_calls,
    toInt64(ended_at > received_at + INTERVAL 60 SECOND) AS ahead_calls,
    timed_calls * log(greatest(duration_us, 1)) AS log_duration,
    log_duration * log_duration AS log_duration_squared,
    streamed_calls * log(greatest(ifNull(time_to_first_chunk_us, 0), 1)) AS log_first_chunk,
    log_first_chunk * log_first_chunk AS log_first_chunk_squared,
    if(paced_calls = 1, log(greatest((duration_us - ifNull(time_to_first_chunk_us, 0)) / ifNull(c.output_tokens, 1), 1)), 0) AS log_pace,
    log_pace * log_pace AS log_pace_squared,
    pow(toFloat64(ifNull(c.cost_usd, 0)), 2) AS cost_usd_squared
FROM
(
    SELECT *, model, error_kind, unpriced, started_at + toIntervalMicrosecond(duration_us) AS ended_at
    FROM calls FINAL
    WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
) AS c
UNION ALL
SELECT
    c.started_at,
    toString(environment), toString(service_name), toString(team), toString(project), toString(key_hint),
    toString(feature), toString(c.model), toString(prompt), user,
    arrayJoin(arrayResize(a.kinds, least(retries, 100), 'other')) AS error_kind,
    0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
FROM
(
    SELECT started_at, trace_id, span_id, environment, service_name, team, project, key_hint, feature, model, prompt, user, retries
    FROM calls FINAL
    WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')} AND retries > 0
) AS c
LEFT JOIN retried AS a ON a.trace_id = c.trace_id AND a.parent_span_id = c.span_id;

-- One row per five minutes and kind of call, without the user: sums of call_signals. Recomputed from
-- the calls with the other rollups. Read with FINAL.
CREATE TABLE IF NOT EXISTS signals_5m
(
    slot                    DateTime('UTC')        CODEC(Delta, ZSTD(1)),
    environment             LowCardinality(String) CODEC(ZSTD(1)),
    service                 LowCardinality(String) CODEC(ZSTD(1)),
    team                    LowCardinality(String) CODEC(ZSTD(1)),
    project                 LowCardinality(String) CODEC(ZSTD(1)),
    key                     LowCardinality(String) CODEC(ZSTD(1)),
    feature                 LowCardinality(String) CODEC(ZSTD(1)),
    model                   LowCardinality(String) CODEC(ZSTD(1)),
    prompt                  LowCardinality(String) CODEC(ZSTD(1)),
    error_kind              LowCardinality(String) CODEC(ZSTD(1)),
    calls                   Int64                  CODEC(T64, ZSTD(1)),
    attempts                Int64                  CODEC(T64, ZSTD(1)),
    input_tokens            Int64                  CODEC(T64, ZSTD(1)),
    cached_tokens           Int64                  CODEC(T64, ZSTD(1)),
    output_tokens           Int64                  CODEC(T64, ZSTD(1)),
    cost_pico               Int64                  CODEC(T64, ZSTD(1)),
    input_cost_pico         Int64                  CODEC(T64, ZSTD(1)),
    cached_cost_pico        Int64                  CODEC(T64, ZSTD(1)),
    output_cost_pico        Int64                  CODEC(T64, ZSTD(1)),
    priced_calls            Int64                  CODEC(T64, ZSTD(1)),
    unpriced_calls          Int64                  CODEC(T64, ZSTD(1)),
    timed_calls             Int64                  CODEC(T64, ZSTD(1)),
    streamed_calls          Int64                  CODEC(T64, ZSTD(1)),
    paced_calls             Int64                  CODEC(T64, ZSTD(1)),
    late_calls              Int64                  CODEC(T64, ZSTD(1)),
    ahead_calls             Int64                  CODEC(T64, ZSTD(1)),
    log_duration            Float64                CODEC(ZSTD(1)),
    log_duration_squared    Float64                CODEC(ZSTD(1)),
    log_first_chunk         Float64                CODEC(ZSTD(1)),
    log_first_chunk_squared Float64                CODEC(ZSTD(1)),
    log_pace                Float64                CODEC(ZSTD(1)),
    log_pace_squared        Float64                CODEC(ZSTD(1)),
    cost_usd_squared        Float64                CODEC(ZSTD(1)),
    version                 UInt64                 CODEC(ZSTD(1)),
    is_deleted              UInt8                  CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(slot)
ORDER BY (slot, environment, service, team, project, key, feature, model, prompt, error_kind)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What is there already is to be rolled up.
INSERT INTO rollup_hours (hour, touched_at)
SELECT toStartOfHour(started_at) AS hour, now64(6, 'UTC') AS touched_at
FROM calls
GROUP BY hour;
