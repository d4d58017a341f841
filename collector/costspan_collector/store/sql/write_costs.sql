-- One row per hour and kind of call, recomputed. A kind that the rollup has and the calls no longer
-- do becomes a deleted row. All of it is one block, hence one part: seen together or not at all.
-- parameters: hours Array(DateTime('UTC')), version UInt64
INSERT INTO cost_hourly
SELECT
    toStartOfHour(started_at) AS hour,
    service_name,
    environment,
    project,
    team,
    feature,
    model,
    response_tier,
    sum(c.calls) AS calls,
    sum(c.errors) AS errors,
    sum(c.priced_calls) AS priced_calls,
    sum(c.unpriced_calls) AS unpriced_calls,
    sum(c.input_tokens) AS input_tokens,
    sum(c.cached_tokens) AS cached_tokens,
    sum(c.cache_write_tokens) AS cache_write_tokens,
    sum(c.output_tokens) AS output_tokens,
    sum(c.reasoning_tokens) AS reasoning_tokens,
    sum(c.cost_usd) AS cost_usd,
    sum(c.list_cost_usd) AS list_cost_usd,
    sumMap(c.cost_parts_usd) AS cost_parts_usd,
    sumMap(c.part_calls) AS part_calls,
    {version:UInt64} AS version,
    sum(c.calls) = 0 AS is_deleted
FROM
(
    SELECT * EXCEPT (user, duration_us, time_to_first_chunk_us)
    FROM calls_of_hours(hours = {hours:Array(DateTime('UTC'))})
    UNION ALL
    SELECT
        hour AS started_at,
        service_name,
        environment,
        project,
        team,
        feature,
        model,
        response_tier,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, map(), map()
    FROM cost_hourly FINAL
    WHERE hour IN {hours:Array(DateTime('UTC'))}
) AS c
GROUP BY hour, service_name, environment, project, team, feature, model, response_tier
SETTINGS
    insert_deduplicate = 0,
    max_insert_threads = 1,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 0
