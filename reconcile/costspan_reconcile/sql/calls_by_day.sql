-- One row per UTC day: how many calls there were, and how many lack a price.
-- parameters: since Date, until Date
SELECT
    toDate(started_at + toIntervalMicrosecond(duration_us), 'UTC') AS day,
    count() AS calls,
    countIf(unpriced) AS unpriced_calls
FROM calls FINAL
WHERE
    started_at >= {since:Date} - INTERVAL 1 DAY
    AND started_at < {until:Date}
    AND provider IN ('', 'openai')
GROUP BY day
HAVING day >= {since:Date} AND day < {until:Date}
ORDER BY day
