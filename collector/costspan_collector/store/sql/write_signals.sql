-- One row per five minutes and kind of call, as alerts see it, recomputed. A kind that the rollup has
-- and the calls no longer do becomes a deleted row. All of it is one block, hence one part.
-- parameters: hours Array(DateTime('UTC')), version UInt64
INSERT INTO signals_5m
SELECT
    toStartOfFiveMinutes(started_at) AS slot,
    environment,
    service,
    team,
    project,
    key,
    feature,
    model,
    prompt,
    error_kind,
    sum(s.calls) AS calls,
    sum(s.attempts) AS attempts,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.output_tokens) AS output_tokens,
    sum(s.cost_pico) AS cost_pico,
    sum(s.input_cost_pico) AS input_cost_pico,
    sum(s.cached_cost_pico) AS cached_cost_pico,
    sum(s.output_cost_pico) AS output_cost_pico,
    sum(s.priced_calls) AS priced_calls,
    sum(s.unpriced_calls) AS unpriced_calls,
    sum(s.timed_calls) AS timed_calls,
    sum(s.streamed_calls) AS streamed_calls,
    sum(s.paced_calls) AS paced_calls,
    sum(s.late_calls) AS late_calls,
    sum(s.ahead_calls) AS ahead_calls,
    sum(s.log_duration) AS log_duration,
    sum(s.log_duration_squared) AS log_duration_squared,
    sum(s.log_first_chunk) AS log_first_chunk,
    sum(s.log_first_chunk_squared) AS log_first_chunk_squared,
    sum(s.log_pace) AS log_pace,
    sum(s.log_pace_squared) AS log_pace_squared,
    sum(s.cost_usd_squared) AS cost_usd_squared,
    {version:UInt64} AS version,
    sum(s.attempts) = 0 AS is_deleted
FROM
(
    SELECT * EXCEPT (user)
    FROM call_signals(
        since = toDateTime64(arrayMin({hours:Array(DateTime('UTC'))}), 6, 'UTC'),
        until = toDateTime64(arrayMax({hours:Array(DateTime('UTC'))}), 6, 'UTC') + INTERVAL 1 HOUR)
    WHERE toStartOfHour(started_at) IN {hours:Array(DateTime('UTC'))}
    UNION ALL
    SELECT
        slot AS started_at,
        environment,
        service,
        team,
        project,
        key,
        feature,
        model,
        prompt,
        error_kind,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM signals_5m FINAL
    WHERE toStartOfHour(slot) IN {hours:Array(DateTime('UTC'))}
) AS s
GROUP BY slot, environment, service, team, project, key, feature, model, prompt, error_kind
SETTINGS
    insert_deduplicate = 0,
    max_insert_threads = 1,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 0
