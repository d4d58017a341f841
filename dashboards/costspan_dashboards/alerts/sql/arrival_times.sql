-- A row: when a call arrived at last in each ten seconds of a stretch of time.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT max(received_at) AS at
FROM calls
WHERE started_at >= {since:DateTime('UTC')} - INTERVAL 1 DAY AND started_at < {until:DateTime('UTC')}
    AND received_at >= {since:DateTime('UTC')} AND received_at < {until:DateTime('UTC')}
GROUP BY intDiv(toUnixTimestamp(received_at), 10)
ORDER BY at
