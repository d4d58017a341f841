-- One row per five minutes and kind of call, recomputed. A kind that the rollup has and the calls
-- no longer do becomes a deleted row. All of it is one block, hence one part.
-- parameters: hours Array(DateTime('UTC')), version UInt64
INSERT INTO latency_5m
SELECT
    toStartOfFiveMinutes(started_at) AS slot,
    service_name,
    feature,
    model,
    sum(c.calls) AS calls,
    sum(c.errors) AS errors,
    sumIf(c.duration_us, c.calls > c.errors) AS sum_duration_us,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(c.duration_us, c.calls > c.errors) AS duration_us,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(ifNull(time_to_first_chunk_us, 0), c.calls > c.errors AND time_to_first_chunk_us IS NOT NULL) AS first_chunk_us,
    {version:UInt64} AS version,
    sum(c.calls) = 0 AS is_deleted
FROM
(
    SELECT started_at, service_name, feature, model, calls, errors, duration_us, time_to_first_chunk_us
    FROM calls_of_hours(hours = {hours:Array(DateTime('UTC'))})
    UNION ALL
    SELECT slot, service_name, feature, model, 0, 0, 0, NULL
    FROM latency_5m FINAL
    WHERE toStartOfHour(slot) IN {hours:Array(DateTime('UTC'))}
) AS c
GROUP BY slot, service_name, feature, model
SETTINGS
    insert_deduplicate = 0,
    max_insert_threads = 1,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 0
