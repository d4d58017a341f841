-- A row: successful calls of one kind in one window, today (day 0) or so many days ago. Slow
-- calls are above the 95th percentile that calls of their feature and model had on past days.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), days Array(UInt16),
--   windows_minutes Array(UInt16)
WITH slots AS
(
    SELECT
        intDiv(toUnixTimestamp({until:DateTime('UTC')}) * 1000000 - toUnixTimestamp64Micro(started_at) - 1, 60000000) AS age_minutes,
        intDiv(age_minutes, 1440) AS day,
        toString(feature) AS feature,
        toString(model) AS model,
        toString(team) AS team,
        toString(project) AS project,
        greatest(duration_us, 1) AS duration_us
    FROM calls FINAL
    WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')}
        AND status = 'ok'
        AND age_minutes % 1440 < 60
        AND (day = 0 OR has({days:Array(UInt16)}, day))
),
usual AS
(
    SELECT feature, model, quantileExact(0.95)(duration_us) AS p95_us
    FROM slots
    WHERE day > 0
    GROUP BY feature, model
    HAVING count() >= 20
)
SELECT
    window_minutes,
    day,
    slots.feature AS feature,
    slots.model AS model,
    team,
    project,
    count() AS calls,
    countIf(duration_us > p95_us) AS slow_calls,
    sum(log(duration_us)) AS sum_log,
    sum(log(duration_us) * log(duration_us)) AS sum_log_squared
FROM slots
INNER JOIN usual ON slots.feature = usual.feature AND slots.model = usual.model
ARRAY JOIN {windows_minutes:Array(UInt16)} AS window_minutes
WHERE age_minutes % 1440 < window_minutes
GROUP BY window_minutes, day, feature, model, team, project
ORDER BY window_minutes, day, feature, model, team, project
