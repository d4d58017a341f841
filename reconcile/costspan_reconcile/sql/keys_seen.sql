-- One row per UTC day, project and key hint that a span carries. A call that came twice is the same
-- key twice, so no duplicate is taken out.
-- parameters: since Date, until Date
SELECT
    toDate(started_at + toIntervalMicrosecond(duration_us), 'UTC') AS day,
    project,
    key_hint
FROM calls
WHERE
    started_at >= {since:Date} - INTERVAL 1 DAY
    AND started_at < {until:Date}
    AND provider IN ('', 'openai')
GROUP BY day, project, key_hint
HAVING day >= {since:Date} AND day < {until:Date}
ORDER BY day, project, key_hint
