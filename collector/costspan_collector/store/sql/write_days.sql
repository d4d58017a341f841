-- One row per UTC day and kind of call, recomputed from its five minutes. A kind that the rollup has
-- and they no longer do becomes a deleted row. All of it is one block, hence one part.
-- parameters: hours Array(DateTime('UTC')), version UInt64
INSERT INTO latency_daily
SELECT
    day,
    service_name,
    feature,
    model,
    sum(s.calls) AS calls,
    sum(s.errors) AS errors,
    sum(s.sum_duration_us) AS sum_duration_us,
    quantilesTDigestMergeState(0.5, 0.95, 0.99)(s.duration_us) AS duration_us,
    quantilesTDigestMergeState(0.5, 0.95, 0.99)(s.first_chunk_us) AS first_chunk_us,
    {version:UInt64} AS version,
    sum(s.calls) = 0 AS is_deleted
FROM
(
    SELECT toStartOfDay(slot) AS day, service_name, feature, model, calls, errors, sum_duration_us, duration_us, first_chunk_us
    FROM latency_5m FINAL
    WHERE slot >= toStartOfDay(arrayMin({hours:Array(DateTime('UTC'))}))
        AND slot < toStartOfDay(arrayMax({hours:Array(DateTime('UTC'))})) + INTERVAL 1 DAY
        AND toStartOfDay(slot) IN arrayMap(hour -> toStartOfDay(hour), {hours:Array(DateTime('UTC'))})
    UNION ALL
    SELECT
        day, service_name, feature, model, 0, 0, 0,
        initializeAggregation('quantilesTDigestStateIf(0.5, 0.95, 0.99)', toUInt64(0), false),
        initializeAggregation('quantilesTDigestStateIf(0.5, 0.95, 0.99)', toUInt64(0), false)
    FROM latency_daily FINAL
    WHERE day IN arrayMap(hour -> toStartOfDay(hour), {hours:Array(DateTime('UTC'))})
) AS s
GROUP BY day, service_name, feature, model
SETTINGS
    insert_deduplicate = 0,
    max_insert_threads = 1,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 0
