-- A row: a day in which calls began, so many whole days before `until`.
-- Only minimum and maximum are read, which a second delivery cannot change: no FINAL.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT
    intDiv(toUnixTimestamp({until:DateTime('UTC')}) * 1000000 - toUnixTimestamp64Micro(started_at) - 1, 86400000000) AS day,
    min(started_at) AS first_at,
    max(started_at) AS latest_at
FROM calls
WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')}
GROUP BY day
ORDER BY day
