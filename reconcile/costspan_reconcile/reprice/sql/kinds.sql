-- One row per kind of call: calls whose price depends on the same things, time set aside. `buckets`
-- tell, for each worker, how many of the thresholds its input is longer than.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), thresholds Array(UInt64)
SELECT
    hex(sipHash128(model, tier, host, project, has_usage, meters, buckets)) AS kind,
    model,
    tier,
    host,
    project,
    has_usage,
    meters,
    arrayMap(
        input -> arrayCount(threshold -> input > threshold, {thresholds:Array(UInt64)}),
        input_by_worker
    ) AS buckets,
    min(started_at) AS first,
    max(started_at) AS last
FROM priceable_calls
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
GROUP BY model, tier, host, project, has_usage, meters, buckets
ORDER BY model, tier, host, project, has_usage, meters, buckets
