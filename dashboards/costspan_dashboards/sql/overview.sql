-- One row: what happened in one stretch of time.
-- cost_usd is NULL where calls lack a price and none has one; p95_us is of calls that worked, to a
-- tenth of a per cent. The rollup of latencies knows no teams and projects: with `by_slot` false
-- the calls answer.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String), by_slot Bool
SELECT
    sum(c.calls) AS calls,
    sum(c.errors) AS errors,
    if(sum(c.priced_calls) = 0 AND sum(c.unpriced_calls) > 0, NULL, sum(c.cost_usd)) AS cost_usd,
    sum(c.unpriced_calls) AS unpriced,
    (
        SELECT if(sum(l.calls) = sum(l.errors), NULL, toUInt64(quantilesTDigestMerge(0.5, 0.95, 0.99)(l.duration_us)[2]))
        FROM latencies(
            since = {since:DateTime64(6, 'UTC')},
            until = {until:DateTime64(6, 'UTC')},
            counted = (
                SELECT groupArray(hour)
                FROM counted_hours(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, by_hour = {by_slot:Bool})
            )
        ) AS l
        WHERE (empty({teams:Array(String)}) OR l.team IN {teams:Array(String)})
            AND (empty({features:Array(String)}) OR l.feature IN {features:Array(String)})
            AND (empty({models:Array(String)}) OR l.model IN {models:Array(String)})
            AND (empty({projects:Array(String)}) OR l.project IN {projects:Array(String)})
    ) AS p95_us
FROM costs(
    since = {since:DateTime64(6, 'UTC')},
    until = {until:DateTime64(6, 'UTC')},
    counted = (
        SELECT groupArray(hour)
        FROM counted_hours(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, by_hour = true)
    )
) AS c
WHERE (empty({teams:Array(String)}) OR c.team IN {teams:Array(String)})
    AND (empty({features:Array(String)}) OR c.feature IN {features:Array(String)})
    AND (empty({models:Array(String)}) OR c.model IN {models:Array(String)})
    AND (empty({projects:Array(String)}) OR c.project IN {projects:Array(String)})
