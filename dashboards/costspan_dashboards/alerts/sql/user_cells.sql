-- A row: a cell of an hour of some users, on the hours of past days that begin on `starts`: what
-- they used and what it cost.
-- parameters: starts Array(DateTime('UTC')), hours UInt16, users Array(String)
SELECT
    toInt64(intDiv(toUnixTimestamp(toStartOfHour(started_at)), 60)) AS minute,
    environment,
    service_name AS service,
    team,
    project,
    key_hint AS key,
    feature,
    model,
    prompt,
    user,
    count() AS calls,
    countIf(c.cost_usd IS NOT NULL) AS priced_calls,
    toInt64(sum(ifNull(c.input_tokens, 0))) AS input_tokens,
    toInt64(sum(ifNull(c.cached_tokens, 0))) AS cached_tokens,
    toInt64(sum(ifNull(c.output_tokens, 0))) AS output_tokens,
    toInt64(sum(toDecimal128(ifNull(c.cost_usd, 0), 12)) * 1000000000000) AS cost_pico,
    toInt64(sum(toDecimal128(cost_parts_usd['input'], 12)) * 1000000000000) AS input_cost_pico,
    toInt64(sum(toDecimal128(cost_parts_usd['cached_input'], 12)) * 1000000000000) AS cached_cost_pico,
    toInt64(sum(toDecimal128(cost_parts_usd['output'], 12)) * 1000000000000) AS output_cost_pico,
    sum(pow(toFloat64(ifNull(c.cost_usd, 0)), 2)) AS cost_usd_squared
FROM calls AS c FINAL
WHERE toStartOfFiveMinutes(started_at) IN
    (
        SELECT arrayJoin({starts:Array(DateTime('UTC'))}) + arrayJoin(range({hours:UInt16} * 12)) * 300
    )
    AND user IN {users:Array(String)}
GROUP BY minute, environment, service, team, project, key, feature, model, prompt, user
ORDER BY minute
