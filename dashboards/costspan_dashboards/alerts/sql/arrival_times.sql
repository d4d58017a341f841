-- A row: when a call arrived at last in each ten seconds of a stretch of time. One that came later
-- than the watermark is taken to have been in time.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT max(arrived_at) AS at
FROM
(
    SELECT least(received_at, started_at + toIntervalMicrosecond(duration_us) + INTERVAL 90 SECOND) AS arrived_at
    FROM calls
    WHERE started_at >= {since:DateTime('UTC')} - INTERVAL 1 DAY AND started_at < {until:DateTime('UTC')}
)
WHERE arrived_at >= {since:DateTime('UTC')} AND arrived_at < {until:DateTime('UTC')}
GROUP BY intDiv(toUnixTimestamp(arrived_at), 10)
ORDER BY at
