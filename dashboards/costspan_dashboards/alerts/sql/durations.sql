-- A row: the 95th percentile of the durations of one scope's successful calls in one window,
-- today (day 0) or so many days ago.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), days Array(UInt16),
--   window_minutes UInt16, dimension String, value String
SELECT day, toUInt64(quantileExact(0.95)(duration_us)) AS p95_us
FROM
(
    SELECT
        intDiv(toUnixTimestamp({until:DateTime('UTC')}) * 1000000 - toUnixTimestamp64Micro(started_at) - 1, 60000000) AS age_minutes,
        intDiv(age_minutes, 1440) AS day,
        duration_us
    FROM calls FINAL
    WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')}
        AND status = 'ok'
        AND age_minutes % 1440 < {window_minutes:UInt16}
        AND (day = 0 OR has({days:Array(UInt16)}, day))
        AND {value:String} = multiIf(
            {dimension:String} = 'feature', toString(feature),
            {dimension:String} = 'model',
            toString(model),
            {dimension:String} = 'team', toString(team),
            {dimension:String} = 'project', toString(project),
            '')
)
GROUP BY day
ORDER BY day
